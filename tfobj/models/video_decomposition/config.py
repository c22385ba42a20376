"""Settings of the video decomposition of Zablotskaia et al. 2020."""

import dataclasses
import math
from typing import Literal

from tfobj.config import require
from tfobj.models.video import VideoConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class VideoDecompositionConfig(VideoConfig):
    """Spatio-temporal iterative inference. Defaults: what the data sets of Zablotskaia 2020 have in common, 2,846,212 parameters.

    Where text and released code differ, the code is the default and the text an option ("paper", "graves").
    """

    image_size: tuple[int, int] = (64, 64)
    channels: int = 3
    num_slots: int = 5
    num_steps: int = 6
    """R: the first frame is decoded R times, every later frame once less, and none fewer than twice."""
    num_frames: int = 4
    curriculum: tuple[tuple[int, int], ...] = (
        (20_000, 10),
        (40_000, 20),
        (60_000, 30),
        (80_000, 40),
    )
    """((step, frames), ...): clips become longer; begun with long ones, training collapses. The steps are ours: the paper lengthens clips by hand,
    and gives only the first and the last length."""
    latent_size: int = 64
    lstm_size: int = 128
    lstm_form: Literal["mixed", "graves"] = "mixed"
    """Of the 2-D LSTM: one forget gate and a gate that mixes the axes (released code), or a forget gate per axis (text)."""
    conditional_prior: bool = True
    """p(z_t | history); False: N(0, I)."""
    prior_scale: Literal["release", "paper"] = "release"
    """What the second head of the conditional prior is: see `ConditionalPrior`."""
    conditional_decoder: bool = True
    """The decoder reads the history."""
    decoder_hidden: tuple[int, ...] = (64, 64)
    """Dense layers between latent and history and the broadcast; without a conditional decoder there are none."""
    decoder_channels: tuple[int, ...] = (64, 64, 64, 64)
    decoder_kernel: int = 3
    decoder_pixel_shuffle: int = 1
    """Above 1 (ours): the decoder runs at 1 / r of the resolution and its last layer yields r x r pixels per position."""
    initial_mean: float = 0.5
    """Brightness of slots before training; 0.5 is that of (nearly) zero biases. On a black background that is too bright: at rates of 5e-4 and more
    the first updates, whose gradients are 10^4 times the later ones, drove every sigmoid to where it has no gradient left, for thousands of steps."""
    output_gain: float = 1.0
    """Factor of the decoder's last kernel before training (ours). Small, slots begin alike, and learn what is in a frame before they divide it by place."""
    prior_hidden: int = 128
    refinement_channels: tuple[int, ...] = (64, 64, 64, 64)
    refinement_kernel: int = 3
    refinement_stride: int = 1
    """Of all convolutions. Above 1 is ours."""
    refinement_pool: int = 4
    refinement_features: int = 128
    stop_decoder_inputs: bool = False
    """Ours: no gradient reaches the decoder through the inputs of the refinement; one backward pass of the decoder per cell is then enough."""
    grid: Literal["release", "paper"] = "release"
    """Whether the last decode of every frame but the first is followed by a refinement (released code), or of none (Fig. 2)."""
    cell_weights: Literal["release", "paper"] = "release"
    """Weight of the loss of decode r, counted from 1: r / R, or, counted from 0, r / refinements of the frame."""
    likelihood_variance: float = 0.3
    """v. The text calls 0.3 the standard deviation."""
    likelihood_weight: float = 100.0
    """beta."""
    adapt_likelihood_weight: bool = False
    """beta follows the NLL of the last decode: 300 above 600 nats, 100 from 200 to 600, as it was below (released code, for colour)."""
    kl_weight: float = 10.0
    """psi."""
    entropy_weight: float = 0.0
    """gamma: price of the entropy of masks, which shares the background out among slots where it is black (0.1 for binary balls)."""

    minimum_steps = 2

    def __post_init__(self):
        super().__post_init__()
        for name in (
            "latent_size",
            "lstm_size",
            "prior_hidden",
            "refinement_features",
            "refinement_stride",
            "refinement_pool",
            "decoder_pixel_shuffle",
        ):
            require(getattr(self, name) >= 1, f"model.{name}", "at least 1", getattr(self, name))
        for name in ("decoder_channels", "refinement_channels"):
            require(
                len(getattr(self, name)) > 0,
                f"model.{name}",
                "one number per layer",
                getattr(self, name),
            )
        require(
            not self.conditional_decoder or len(self.decoder_hidden) > 0,
            "model.decoder_hidden",
            "at least one layer, which joins latent and history",
            self.decoder_hidden,
        )
        for name in ("likelihood_variance", "likelihood_weight", "output_gain"):
            require(
                0 < getattr(self, name) < math.inf, f"model.{name}", "positive", getattr(self, name)
            )
        for name in ("kl_weight", "entropy_weight"):
            require(
                0 <= getattr(self, name) < math.inf,
                f"model.{name}",
                "at least 0",
                getattr(self, name),
            )
        require(0 < self.initial_mean < 1, "model.initial_mean", "in (0, 1)", self.initial_mean)
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
