"""Settings of relational neural expectation maximisation and of the models it is compared with."""

import dataclasses
from typing import Annotated, Literal

from tfobj.config import Bounds, NonNegative, Positive, PositiveInt, require
from tfobj.models.settings import VideoConfig

Variant = Literal["rnem", "rnn_em", "rnn", "lstm", "nem"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RNemConfig(VideoConfig):
    """R-NEM, 4,951,978 parameters; by default that of van Steenkiste 2018 on bouncing balls."""

    image_size: tuple[PositiveInt, PositiveInt] = (64, 64)
    channels: int = 1
    num_slots: int = 5
    num_steps: int = 1
    """Always 1, for the interface shared by all models: every frame is processed once."""
    num_frames: int = 31
    """T; 30 frames are predicted."""
    curriculum: tuple[tuple[int, int], ...] = ()
    variant: Variant = "rnem"
    """The recurrent core.

    "rnem": slots that interact; "rnn_em": independent slots; "rnn", "lstm": one slot for the
    whole frame; "nem": gradient ascent without encoder and decoder (Greff 2017), for clips that
    repeat one image.
    """
    state_size: PositiveInt = 250
    relation_size: PositiveInt = 250
    """Units of the embedding of a pair of slots, and of its effect."""
    attention: bool = True
    """Whether every effect is multiplied by a weight of its own."""
    attention_size: PositiveInt = 100
    encoder_channels: tuple[PositiveInt, ...] = (16, 32, 64)
    """Convolutions of stride 2."""
    encoder_hidden: tuple[PositiveInt, ...] = (512,)
    """Dense layers after the convolutions.

    Without both, the core reads the pixels themselves (static shapes of Greff 2017).
    """
    decoder_hidden: tuple[PositiveInt, ...] = (512,)
    decoder_channels: tuple[PositiveInt, ...] = (64, 32, 16)
    """Channels of the first, smallest map, and of the maps after each doubling.

    The last doubling yields the image. Without any maps, a dense layer does.
    """
    kernel_size: PositiveInt = 4
    layer_norm_epsilon: Positive | None = 1e-12
    """Added to variances; none for no layer norms (static shapes of Greff 2017)."""
    likelihood: Literal["bernoulli", "gaussian"] = "bernoulli"
    """Distribution of a pixel given a slot's prediction; in the loss, the Gaussian has variance
    1."""
    e_step_scale: Positive = 0.25
    """Standard deviation of the Gaussian in the E-step, where it acts as a temperature."""
    inter_weight: NonNegative = 1.0
    """Weight of the loss where a slot explains nothing (0.2 for flying digits)."""
    initial_mean: Annotated[float, Bounds(above=0, below=1)] = 0.5
    """psi before training, for Bernoulli pixels and a convolutional or dense decoder.

    0.5 is that of zero biases. While the psi of all slots add up to more than one at a pixel of an
    object, the gradient takes most from the slot with the largest psi, and slots become alike. From
    an initial value below 1 / K, it gives most to that slot.
    """
    stop_responsibilities: bool = True
    """Whether gradients stop at the E-step; False in Greff 2017 on static shapes."""
    loss_reduction: Literal["mean", "sum", "last"] = "mean"
    """Reduction over the predicted frames of a clip.

    Mean in the released code of R-NEM; sum (moving shapes) and last (static shapes) in that of
    N-EM.
    """
    noise: Annotated[float, Bounds(low=0, below=1)] = 0.2
    """Fraction of the input pixels that are flipped, or replaced by uniform noise with the
    Gaussian.

    Targets have no noise.
    """
    noise_everywhere: bool = False
    """Whether inputs have noise in evaluation, streams, and forecasts too (released code)."""
    rollout_threshold: Annotated[float, Bounds(low=0, below=1)] = 0.1
    """A pixel of a predicted frame counts as white where some slot's psi is above this."""

    early_names = ("num_slots",)
    minimum_frames = 2

    def __post_init__(self):
        super().__post_init__()
        require(
            self.num_steps == 1,
            "model.num_steps",
            "1: every frame is processed once",
            self.num_steps,
        )

        require(
            self.variant not in ("rnn", "lstm") or self.num_slots == 1,
            "model.num_slots",
            f"1 where model.variant={self.variant}: one slot for the whole frame",
            self.num_slots,
        )

    @property
    def minimum_slots(self):
        """The smallest number of slots; a relation takes two."""
        if self.variant == "rnem":
            return 2
        return 1

    @property
    def slot_size(self):
        """D, the size of the state that the decoder renders."""
        return self.state_size

    def warnings(self):
        if self.noise:
            return []
        return [
            "`model.noise` is 0: a model that sees clean frames learns to copy them instead of "
            "decomposing them."
        ]
