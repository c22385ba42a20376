"""Settings of MONet (Burgess et al. 2019)."""

import dataclasses
from typing import Literal

from tfobj.config import NonNegative, Positive, PositiveInt, require
from tfobj.models.settings import SceneConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class MonetConfig(SceneConfig):
    """MONet. Defaults: 64 x 64 images, the paper's standard deviations and weights.

    That model has 974,085 parameters.
    """

    image_size: tuple[PositiveInt, PositiveInt] = (64, 64)
    channels: int = 3
    num_slots: int = 6
    num_steps: int = 1
    """No refinement: always 1."""
    background_scale: Positive = 0.09
    """Standard deviation of the pixels of the first slot, image in [0, 1]."""
    foreground_scale: Positive = 0.11
    """Standard deviation of the pixels of all other slots. It is larger than the first slot's, so
    that the first slot takes the background."""
    mixture: Literal["channel", "pixel"] = "channel"
    """Unit of the mixture over slots: a colour channel of a pixel, as in all re-implementations, or
    (ours) a pixel with all its channels."""
    beta: NonNegative = 0.5
    """Weight of the KL of the latents."""
    gamma: NonNegative = 0.5
    """Weight of the KL between attention masks and reconstructed masks."""
    latent_size: PositiveInt = 16
    unet_blocks: PositiveInt | None = None
    """Blocks per path of the attention network; none: the number at which the lowest map has 4 to 7
    pixels on the shorter side."""
    unet_filters: PositiveInt = 32
    """Channels of the U-Net's larger maps; the small ones have twice as many."""
    unet_mlp: tuple[PositiveInt, ...] = (128, 128)
    encoder_channels: tuple[PositiveInt, ...] = (32, 32, 64, 64)
    encoder_mlp: tuple[PositiveInt, ...] = (256,)
    decoder_channels: tuple[PositiveInt, ...] = (32, 32, 32, 32)
    """3 x 3 layers without padding; a 1 x 1 layer to colours and mask logit follows."""
    decoder_pixel_shuffle: PositiveInt = 1
    """Above 1 (ours): the decoder runs at 1 / r of the resolution, r x r pixels per position."""
    initial_gain: Positive = 1.0
    """Kernels begin uniform within initial_gain / sqrt(fan in)."""

    early_names = ("num_slots", "background_scale", "foreground_scale", "beta", "gamma")

    @property
    def slot_size(self):
        """D."""
        return self.latent_size

    def __post_init__(self):
        super().__post_init__()
        require(
            self.num_steps == 1, "model.num_steps", "1: MONet has no refinement", self.num_steps
        )
