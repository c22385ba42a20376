"""Settings of the video decomposition of Zablotskaia et al. 2020."""

import dataclasses
from typing import Annotated, Literal

from tfobj.config import Bounds, NonNegative, Positive, PositiveInt, require
from tfobj.models.settings import VideoConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class VideoDecompositionConfig(VideoConfig):
    """Spatio-temporal iterative inference (Zablotskaia 2020), 2,846,212 parameters.

    Defaults: the settings that the paper's datasets share. Where text and released code differ, the
    code is the default and the text an option ("paper", "graves").
    """

    image_size: tuple[PositiveInt, PositiveInt] = (64, 64)
    channels: int = 3
    num_slots: int = 5
    num_steps: int = 6
    """R: the first frame is decoded R times, every later frame once less, and none fewer than
    twice."""
    num_frames: int = 4
    curriculum: tuple[tuple[int, int], ...] = (
        (20_000, 10),
        (40_000, 20),
        (60_000, 30),
        (80_000, 40),
    )
    """((step, frames), ...): frames of a training clip from that many updates on.

    Training that begins with long clips collapses. The steps are ours: the paper lengthens clips by
    hand, and gives only the first and the last length.
    """
    latent_size: PositiveInt = 64
    lstm_size: PositiveInt = 128
    lstm_form: Literal["mixed", "graves"] = "mixed"
    """Gates of the 2-D LSTM: one forget gate and a gate that mixes the axes (released code), or one
    forget gate per axis (text)."""
    conditional_prior: bool = True
    """Whether the prior is p(z_t | history) or N(0, I)."""
    prior_scale: Literal["release", "paper"] = "release"
    """Meaning of the second head of the conditional prior; see `ConditionalPrior`."""
    conditional_decoder: bool = True
    """Whether the decoder reads the history."""
    decoder_hidden: tuple[PositiveInt, ...] = (64, 64)
    """Dense layers that join latent and history in a conditional decoder, before the broadcast."""
    decoder_channels: tuple[PositiveInt, ...] = (64, 64, 64, 64)
    decoder_kernel: PositiveInt = 3
    decoder_pixel_shuffle: PositiveInt = 1
    """Above 1 (ours), the decoder runs at 1 / r of the resolution, and its last layer yields r x r
    pixels per position."""
    initial_mean: Annotated[float, Bounds(above=0, below=1)] = 0.5
    """Brightness of the slots before training; 0.5 is that of biases near zero.

    On a black background 0.5 is too bright: at learning rates from 5e-4 on, the first updates,
    whose gradients are 10^4 times the later ones, drove every sigmoid into saturation for
    thousands of steps.
    """
    output_gain: Positive = 1.0
    """Factor of the decoder's last kernel before training (ours).

    With a small factor, slots begin alike, and learn the contents of a frame before they divide
    it by place.
    """
    prior_hidden: PositiveInt = 128
    refinement_channels: tuple[PositiveInt, ...] = (64, 64, 64, 64)
    refinement_kernel: PositiveInt = 3
    refinement_stride: PositiveInt = 1
    """Stride of all convolutions; above 1 is ours."""
    refinement_pool: PositiveInt = 4
    refinement_features: PositiveInt = 128
    stop_decoder_inputs: bool = False
    """Whether gradients through the refinement inputs stop before the decoder (ours); then one
    backward pass of the decoder per cell is enough."""
    grid: Literal["release", "paper"] = "release"
    """Which last decodes are followed by a refinement: those of all frames but the first (released
    code), or none (Fig. 2)."""
    cell_weights: Literal["release", "paper"] = "release"
    """Weight of the loss of decode r: (r + 1) / R, or r / (refinements of the frame)."""
    likelihood_variance: Positive = 0.3
    """v. The text calls 0.3 the standard deviation."""
    likelihood_weight: Positive = 100.0
    """beta."""
    adapt_likelihood_weight: bool = False
    """Whether beta follows the NLL of the last decode (released code, for colour): 300 above 600
    nats, 100 from 200 to 600 nats, unchanged below."""
    kl_weight: NonNegative = 10.0
    """psi."""
    entropy_weight: NonNegative = 0.0
    """gamma, the weight of the entropy of the masks.

    Without it, slots share a black background (0.1 for binary balls).
    """

    early_names = ("num_slots", "num_steps", "likelihood_variance", "kl_weight", "entropy_weight")
    minimum_steps = 2

    def __post_init__(self):
        super().__post_init__()
        for name in ("decoder_channels", "refinement_channels"):
            channels = getattr(self, name)
            require(len(channels) > 0, f"model.{name}", "one number per layer", channels)
        require(
            not self.conditional_decoder or len(self.decoder_hidden) > 0,
            "model.decoder_hidden",
            "at least one layer, which joins latent and history",
            self.decoder_hidden,
        )

        side = min(self.image_size)
        for _ in self.refinement_channels:
            side = -(-side // self.refinement_stride)
        require(
            side >= self.refinement_pool,
            "model.refinement_pool",
            f"at most the shorter side of the maps that it pools, {side}",
            self.refinement_pool,
        )

    @property
    def slot_size(self):
        """Length of a slot's vector: latent and history."""
        return self.latent_size + self.lstm_size
