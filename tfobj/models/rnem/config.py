"""Settings of relational neural expectation maximisation and of the models that it is compared with."""

import dataclasses
import math
from typing import Literal

from tfobj.config import require
from tfobj.models.video import VideoConfig

Variant = Literal["rnem", "rnn_em", "rnn", "lstm", "nem"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RNemConfig(VideoConfig):
    """R-NEM. Defaults: bouncing balls (van Steenkiste 2018 and its released code), 4,951,978 parameters."""

    image_size: tuple[int, int] = (64, 64)
    channels: int = 1
    num_slots: int = 5
    num_steps: int = 1
    """For the common interface; one look at every frame."""
    num_frames: int = 31
    """30 predictions of a next frame."""
    curriculum: tuple[tuple[int, int], ...] = ()
    variant: Variant = "rnem"
    """What follows the objects: slots that act on each other; slots by themselves ("rnn_em"); one slot for the whole frame ("rnn", "lstm");
    gradient ascent without encoder and decoder ("nem", Greff 2017, which is for clips that repeat one picture)."""
    state_size: int = 250
    relation_size: int = 250
    """Units of a pair of slots and of its effect."""
    attention: bool = True
    """Effects are weighed, each by itself."""
    attention_size: int = 100
    encoder_channels: tuple[int, ...] = (16, 32, 64)
    """Convolutions of stride 2."""
    encoder_hidden: tuple[int, ...] = (512,)
    """Dense layers after them. Without either the pixels go into the recurrent layer (static shapes of Greff 2017)."""
    decoder_hidden: tuple[int, ...] = (512,)
    decoder_channels: tuple[int, ...] = (64, 32, 16)
    """Channels of the first, smallest map and of those after a doubling; the last doubling leads to the image. Without any a dense layer draws it."""
    kernel_size: int = 4
    layer_norm_epsilon: float | None = 1e-12
    """Added to variances; none: no layer norms (static shapes of Greff 2017)."""
    likelihood: Literal["bernoulli", "gaussian"] = "bernoulli"
    """Of a pixel, around a slot's prediction; the Gaussian has variance 1 in the loss."""
    e_step_scale: float = 0.25
    """Standard deviation of the Gaussian in the E-step, where it acts as a temperature."""
    inter_weight: float = 1.0
    """Price of what a slot draws where it explains nothing (0.2 for flying digits)."""
    initial_mean: float = 0.5
    """psi before training, of Bernoulli means that a decoder draws; 0.5 is that of zero biases. While at a pixel of an object the psi of all slots add
    up to more than one, the gradient takes most from the slot that draws most, and slots become alike; begun below 1 / K it gives most to it."""
    stop_responsibilities: bool = True
    """No gradient flows through the E-step. False in Greff 2017 on static shapes."""
    loss_reduction: Literal["mean", "sum", "last"] = "mean"
    """Over the predicted frames of a clip: mean in the released code of R-NEM, sum (moving) and last (static shapes) in that of N-EM."""
    noise: float = 0.2
    """Share of the pixels that come in that are flipped, or with the Gaussian replaced by uniform noise. Targets stay clean."""
    noise_everywhere: bool = False
    """Also where nothing is learned: evaluation, streams, forecasts (released code). False: in training only."""
    rollout_threshold: float = 0.1
    """A pixel of a frame that nobody has seen is taken for white where some slot draws more than this."""

    minimum_frames = 2

    def __post_init__(self):
        super().__post_init__()
        require(
            self.num_steps == 1,
            "model.num_steps",
            "1: every frame is looked at once",
            self.num_steps,
        )
        require(
            self.variant not in ("rnn", "lstm") or self.num_slots == 1,
            "model.num_slots",
            f"1 where model.variant={self.variant}: one slot for the whole frame",
            self.num_slots,
        )
        sizes = ("state_size", "relation_size", "attention_size", "kernel_size")
        for name in (
            *sizes,
            "encoder_channels",
            "encoder_hidden",
            "decoder_hidden",
            "decoder_channels",
        ):
            value = getattr(self, name)
            require(
                all(v >= 1 for v in (value if isinstance(value, tuple) else (value,))),
                f"model.{name}",
                "at least 1",
                value,
            )
        require(
            self.layer_norm_epsilon is None or 0 < self.layer_norm_epsilon < math.inf,
            "model.layer_norm_epsilon",
            "positive, or none",
            self.layer_norm_epsilon,
        )
        require(
            0 < self.e_step_scale < math.inf, "model.e_step_scale", "positive", self.e_step_scale
        )
        require(
            0 <= self.inter_weight < math.inf, "model.inter_weight", "at least 0", self.inter_weight
        )
        require(0 < self.initial_mean < 1, "model.initial_mean", "in (0, 1)", self.initial_mean)
        for name in ("noise", "rollout_threshold"):
            require(0 <= getattr(self, name) < 1, f"model.{name}", "in [0, 1)", getattr(self, name))

    @property
    def minimum_slots(self):
        """Relations take two."""
        return 2 if self.variant == "rnem" else 1

    @property
    def slot_size(self):
        """Length of a slot's vector, which the decoder draws."""
        return self.state_size

    def warnings(self):
        if self.noise:
            return []
        return [
            "`model.noise` is 0: a model that sees clean frames learns to copy them instead of taking them apart."
        ]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RnnEMConfig(RNemConfig):
    """RNN-EM: R-NEM without relations (Greff 2017), 4,611,827 parameters."""

    variant: Variant = "rnn_em"
