"""Settings of GENESIS, GENESIS-S and GENESIS-V2 (Engelcke et al. 2020, 2021)."""

import dataclasses
import math
from typing import Annotated, Literal

from tfobj.config import Bounds, NonNegative, NonNegativeInt, Positive, PositiveInt, require
from tfobj.inference.gaussian_error import EASY_ERROR, gaussian_floor, mean_squared_error_at
from tfobj.models.settings import SceneConfig

STRIDES = {
    32: (1, 2, 1, 2, 1),
    64: (1, 2, 1, 2, 1),
    96: (2, 2, 2, 1, 1),
    128: (2, 2, 2, 1, 1),
    256: (2, 2, 2, 2, 1),
}
"""Strides of the mask encoder by the side of a square image (released code; 96 is ours)."""


def default_strides(size):
    """Returns the strides of the mask encoder for an image of `size` (H, W)."""
    height, width = size
    if height != width:
        return STRIDES[64]
    return STRIDES.get(height, STRIDES[64])


@dataclasses.dataclass(frozen=True, kw_only=True)
class GenesisConfig(SceneConfig):
    """GENESIS. Defaults: the released code on the authors' Multi-dSprites, 64 x 64.

    That model has 12,619,012 parameters. `num_steps` must be 1.
    """

    image_size: tuple[PositiveInt, PositiveInt] = (64, 64)
    channels: int = 3
    num_slots: int = 5
    num_steps: int = 1
    variant: Literal["genesis", "genesis_s", "genesis_v2"] = "genesis"
    """GENESIS; with one latent per slot for mask and appearance; with slots from clustering."""
    mask_latent_size: PositiveInt = 64
    """Size of the mask latent; of the only latent in "genesis_s" and "genesis_v2"."""
    component_latent_size: PositiveInt = 16
    norm: Literal["batch", "instance", "none"] = "batch"
    """Norm in the mask encoder and decoder. With "batch", scenes of a batch see each other in
    training."""
    mask_strides: tuple[PositiveInt, ...] = ()
    """Strides of the mask encoder, one per layer; the decoder's are these in reverse order. Empty:
    those of the released code for the image size."""
    mask_encoder_channels: tuple[PositiveInt, ...] = (32, 32, 64, 64, 64)
    mask_decoder_channels: tuple[PositiveInt, ...] = (64, 64, 32, 32, 32, 32)
    """One number more than strides: the first layer makes a map of the vector."""
    mask_features: PositiveInt = 256
    posterior_units: PositiveInt = 128
    prior_units: PositiveInt = 256
    autoregressive_prior: bool = True
    """False: mask latents are N(0, I)."""
    component_prior: bool = True
    """False: component latents are N(0, I)."""
    component_prior_hidden: tuple[PositiveInt, ...] = (256, 256)
    component_encoder_channels: tuple[PositiveInt, ...] = (32, 32, 64, 64)
    component_encoder_hidden: PositiveInt = 256
    component_decoder_channels: tuple[PositiveInt, ...] = (32, 32, 32, 32)
    component_pixel_shuffle: PositiveInt = 1
    """Above 1 (ours): the component decoder runs at 1 / r of the resolution, r x r pixels per
    position."""
    v2_features: PositiveInt = 64
    """In "genesis_v2", which has no settings of masks and components: channels of U-Net and
    decoder, a multiple of 8."""
    v2_embedding_size: Annotated[int, Bounds(low=2)] = 8
    v2_embedding_gain: float = 0.0
    """Initial value of the learned factor on the part of an embedding that depends on the image; at
    0, pixels are at first clustered by place alone."""
    likelihood: Literal["mixture", "gaussian"] = "mixture"
    """A mixture over slots in every pixel and channel; or one Gaussian around the composed image
    (Emami 2021, for textured sprites)."""
    likelihood_scale: Positive = 0.7
    """Standard deviation, image in [0, 1]."""
    kl: Literal["monte_carlo", "analytic"] = "monte_carlo"
    """Estimated with the samples of inference (released code), or in closed form given the samples
    of earlier slots; the expectations agree."""
    geco_goal: float | None = 0.5655
    """Bound on the NLL, nats per pixel and channel. None: beta is `kl_weight`."""
    geco_rate: Positive = 1e-5
    """Rate of the multiplier at 64 x 64 pixels; inversely proportional to their number."""
    geco_speed_up: Positive = 10.0
    """Factor on the rate while the goal is met."""
    kl_weight: NonNegative = 0.5
    kl_warmup_steps: NonNegativeInt = 0
    """`kl_weight` rises linearly from zero over these steps."""

    early_names = ("num_slots", "likelihood_scale", "kl_weight")

    @property
    def slot_size(self):
        """D: size of the mask latent and, in "genesis", of the component latent after it."""
        if self.variant == "genesis":
            return self.mask_latent_size + self.component_latent_size
        return self.mask_latent_size

    def __post_init__(self):
        super().__post_init__()
        require(
            self.num_steps == 1, "model.num_steps", "1: genesis has no iterations", self.num_steps
        )
        require(self.v2_features % 8 == 0, "model.v2_features", "a multiple of 8", self.v2_features)

        layers = len(self.mask_encoder_channels)
        require(
            layers >= 1,
            "model.mask_encoder_channels",
            "one number per layer",
            self.mask_encoder_channels,
        )
        require(
            len(self.strides()) == layers,
            "model.mask_strides",
            f"{layers} numbers, one per layer of the mask encoder",
            self.strides(),
        )
        require(
            len(self.mask_decoder_channels) == layers + 1,
            "model.mask_decoder_channels",
            f"{layers + 1} numbers",
            self.mask_decoder_channels,
        )
        self._check_goal()

    def _check_goal(self):
        if self.geco_goal is None:
            return
        scale = self.likelihood_scale
        floor = gaussian_floor(scale)
        error = mean_squared_error_at(self.geco_goal, scale)
        require(
            error > 0 and self.geco_goal < math.inf,
            "model.geco_goal",
            f"above {floor:.5f}, the value of a perfect reconstruction at "
            f"likelihood_scale={scale:g}, and finite, or none (a goal of {floor:.5f} + MSE / "
            f"{2 * scale**2:g} asks for that mean squared error; this one for {error:.2g})",
            self.geco_goal,
        )

    def warnings(self):
        if self.geco_goal is None:
            return []
        scale = self.likelihood_scale
        error = mean_squared_error_at(self.geco_goal, scale)
        if error < EASY_ERROR:
            return []
        return [
            f"`model.geco_goal` = {self.geco_goal:g} at likelihood_scale = {scale:g} asks for a "
            f"mean squared error of {error:.2g} only: an image of one colour may do. "
            f"The floor is {gaussian_floor(scale):.5f}; add MSE / (2 scale^2)."
        ]

    def strides(self):
        """Returns the strides of the mask encoder."""
        return self.mask_strides or default_strides(self.image_size)
