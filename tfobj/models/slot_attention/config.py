"""Settings of Slot Attention, and those that it shares with Slot MLP (Locatello et al. 2020)."""

import dataclasses

from tfobj.config import NonNegative, NonNegativeInt, PositiveInt, require
from tfobj.models.settings import SceneConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class SlotAutoencoderConfig(SceneConfig):
    """Encoder and decoder of Slot Attention and Slot MLP.

    Defaults: Tetrominoes and Multi-dSprites, 35x35 to 64x64. Slot size 64 on Tetrominoes is not
    settled in the literature (Emami 2021 uses 32).
    """

    image_size: tuple[PositiveInt, PositiveInt] = (35, 35)
    channels: int = 3
    num_slots: int = 4
    num_steps: int = 3
    """Rounds of attention."""
    slot_size: PositiveInt = 64
    encoder_channels: tuple[PositiveInt, ...] = (32, 32, 32, 32)
    encoder_kernels: tuple[PositiveInt, ...] = (5,)
    """One entry per layer, or one for all; likewise for strides and the decoder's settings."""
    encoder_strides: tuple[PositiveInt, ...] = (1,)
    token_hidden: NonNegativeInt | None = None
    """Hidden units of the per-token MLP; none or 0: as many as the encoder's last layer has."""
    decoder_channels: tuple[PositiveInt, ...] = (32, 32, 32)
    """Channels of the hidden layers; the output layer (RGB and mask logit) is added."""
    decoder_kernels: tuple[PositiveInt, ...] = (5, 5, 5, 3)
    decoder_strides: tuple[PositiveInt, ...] = (1,)
    """Above 1: transposed convolutions, which enlarge `decoder_grid`."""
    decoder_grid: tuple[PositiveInt, ...] = ()
    """Grid (h, w) that slots are broadcast to; empty: the image's own size."""
    decoder_pixel_shuffle: PositiveInt = 1
    """Above 1: the output layer yields r x r pixels per position, the rest of the decoder runs at
    1 / r of the resolution."""
    decoder_coarse_masks: bool = False
    """With a pixel shuffle: one mask logit per position, enlarged bilinearly, so that masks cannot
    follow single pixels."""

    def __post_init__(self):
        super().__post_init__()
        require(
            len(self.decoder_grid) in (0, 2),
            "model.decoder_grid",
            "empty or two numbers",
            self.decoder_grid,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class SlotAttentionConfig(SlotAutoencoderConfig):
    """Slot Attention (Locatello 2020): K exchangeable slots, `num_steps` attention iterations."""

    mlp_hidden: PositiveInt = 128
    """Hidden units of the residual MLP."""
    epsilon: NonNegative = 1e-8
    """Added to the attention before it is normalised over tokens."""
    initial_log_sigma: float = 0.0
    """Centre of the initial values of the initial slots' log standard deviation."""
