"""The three decoders of EfficientMORL (Emami 2021, appendix F.1).

Each maps [N, D] to [N, H, W, C + 1]: colour logits, then the mask logit.
"""

from tfobj.config import require
from tfobj.models.efficient_morl.bottom_up import xavier_normal
from tfobj.nn.broadcast_decoder import BroadcastDecoder

LAYERS = {
    # On a grid of H + 10.
    "iodine": {
        "channels": (64, 64, 64, 64),
        "kernel_sizes": 3,
        "padding": "valid",
        "activation": "elu",
    },
    # On a grid of H + 6: one zero on each side.
    "small": {
        "channels": (32, 32, 32),
        "kernel_sizes": (5, 5, 5, 3),
        "padding": 1,
        "activation": "relu",
    },
    # From a grid of H / 16, with transposed convolutions: half the memory.
    "big": {
        "channels": (64, 64, 64, 64, 64),
        "kernel_sizes": (5, 5, 5, 5, 5, 3),
        "strides": (2, 2, 2, 2, 1, 1),
        "activation": "relu",
    },
}


def make_decoder(config, name):
    """Returns the decoder that `config` (`EfficientMORLConfig`) asks for.

    Raises:
      UserError: "big" with an image size that is no multiple of 16.
    """
    layers = dict(LAYERS[config.decoder])
    published_channels = layers.pop("channels")
    channels = config.decoder_channels or published_channels

    grid_size = None
    if config.decoder == "big":
        require(
            not any(side % 16 for side in config.image_size),
            "model.image_size",
            'sides of 16, 32, 48, 64, ... pixels for model.decoder="big", which doubles its grid '
            "four times",
            config.image_size,
        )
        grid_size = tuple(side // 16 for side in config.image_size)

    return BroadcastDecoder(
        config.image_size,
        (*channels, config.channels + 1),
        grid_size=grid_size,
        positions="add",
        pixel_shuffle=config.decoder_pixel_shuffle,
        coarse_channels=int(config.decoder_coarse_masks),
        initializer=xavier_normal(config.initial_gain),
        name=name,
        **layers,
    )
