"""Settings of the VAE baselines."""

import dataclasses
from typing import Literal

from tfobj.config import NonNegative, NonNegativeInt, Positive, PositiveInt, require
from tfobj.errors import UserError
from tfobj.models.settings import SceneConfig

SIDE_MULTIPLE = 16
"""Divisor of an image's sides in "conv": its encoder halves four times, its decoder begins at an
eighth."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class VAEConfig(SceneConfig):
    """VAE. Defaults: "broadcast" on Tetris, 271,011 parameters."""

    image_size: tuple[PositiveInt, PositiveInt] = (35, 35)
    channels: int = 3
    num_slots: int = 1
    """Always 1."""
    num_steps: int = 1
    """No refinement: always 1."""
    architecture: Literal["broadcast", "conv"] = "broadcast"
    latent_size: PositiveInt = 32
    latent_multiplier: PositiveInt = 1
    """D = latent_size * latent_multiplier: with K of an object-centric model, the VAE has as many
    latents as that model in all."""
    likelihood_scale: Positive = 0.1
    """sigma: standard deviation of the pixels, image in [0, 1]."""
    later_scale: Positive | None = None
    """sigma from `later_scale_from_step` on; none: sigma stays. Scores outside training always use
    the last sigma."""
    later_scale_from_step: NonNegativeInt = 0
    beta: NonNegative = 1.0
    """Weight of the KL."""
    encoder_channels: tuple[PositiveInt, ...] = (32, 32, 32)
    """"broadcast": strided convolutions, before `encoder_mlp`."""
    encoder_mlp: tuple[PositiveInt, ...] = (128,)
    decoder_channels: tuple[PositiveInt, ...] = (32, 32, 32, 32)
    """"broadcast": hidden layers; the output layer is added."""
    kernel_size: PositiveInt = 5
    """"broadcast": side of the kernels of all convolutions."""
    decoder_pixel_shuffle: PositiveInt = 1
    """"broadcast": above 1, the decoder runs at 1 / r of the resolution, r x r pixels per
    position."""
    conv_filters: PositiveInt = 32
    """"conv": channels of the first layer (Table 6: 32); those of all others are multiples."""

    early_names = ("beta",)
    minimum_slots = 1

    @property
    def slot_size(self):
        """D."""
        return self.latent_size * self.latent_multiplier

    def __post_init__(self):
        super().__post_init__()
        require(
            self.num_slots == 1,
            "model.num_slots",
            "1: a VAE has one latent vector for the scene",
            self.num_slots,
        )
        require(
            self.num_steps == 1, "model.num_steps", "1: a VAE has no refinement", self.num_steps
        )
        require(
            self.conv_filters % 4 == 0, "model.conv_filters", "a multiple of 4", self.conv_filters
        )

        if self.architecture == "conv" and any(side % SIDE_MULTIPLE for side in self.image_size):
            height, width = (SIDE_MULTIPLE * -(-side // SIDE_MULTIPLE) for side in self.image_size)
            raise UserError(
                f"`model.image_size` must have sides that are multiples of {SIDE_MULTIPLE} for "
                f'model.architecture="conv"; {height}x{width} would do. '
                f"Received: model.image_size={self.image_size}."
            )
