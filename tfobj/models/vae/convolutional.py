"""Encoder and decoder of the convolutional VAE (Anciukevicius et al. 2020, Table 6).

    encoder   c32e-c64k1s1e-crk1s1e-g-c64e-c128k1s1e-crk1s1e-g-c256e-c256k1s1e-crk1s1e-g-c256e-g-d
    decoder   d(32 h w)e-c128s1e-crs1e-up2-c96s1e-crs1e-crs1e-up2-c48s1e-crs1e-crs1e-up2
              -crs1e-crs1e-c4k1s1

cN: convolution with N channels, 3 x 3 and stride 2 unless k and s say otherwise; cr: residual
convolution; g: group norm; d: dense; up2: bilinear, two times; a trailing e: ELU. `nn.residual`
says how we fill most gaps of this notation. One more is ours: the output has as many channels as
the image; the table's fourth channel has no use here.
"""

import keras

from tfobj.nn.layers import Conv2D, Dense
from tfobj.nn.residual import Chain, convolution, decoder_stages, encoder_stages, group_norm


def make_encoder(filters, latent_size, name):
    """Returns the `Chain` from images [B, H, W, C] to [B, 2 D].

    `filters` is the number of channels of the first layer, 32 in the paper.
    """
    return Chain(
        [
            *encoder_stages(filters),
            convolution(8 * filters, 3, 2, "conv_3"),
            group_norm("norm_3"),
            keras.layers.Flatten(name="flatten"),
            Dense(2 * latent_size, name="latents"),
        ],
        name=name,
    )


def make_decoder(image_size, channels, filters, name):
    """Returns the `Chain` from latents [B, D] to logits of pixels [B, H, W, channels]."""
    height, width = (side // 8 for side in image_size)
    return Chain(
        [
            Dense(height * width * filters, activation="elu", name="dense"),
            keras.layers.Reshape((height, width, filters), name="reshape"),
            *decoder_stages(filters),
            Conv2D(channels, 1, name="output"),
        ],
        name=name,
    )
