"""The two decoders of IODINE: spatial broadcast, and the deconvolution of the ablation.

Source: Greff et al. 2019, appendix C.
"""

import keras
import tensorflow as tf

from tfobj.nn.broadcast_decoder import BroadcastDecoder
from tfobj.nn.convolution import ConvStack, FanInTruncatedNormal, crop
from tfobj.nn.mlp import MLP


def make_decoder(config, name):
    """Returns the decoder that `config` (`IodineConfig`) selects: [N, D] -> [N, H, W, C + 1]."""
    if config.decoder == "deconv":
        return DeconvDecoder(config.image_size, config.channels + 1, name=name)

    grid_size = tuple(-(-side // config.decoder_pixel_shuffle) for side in config.image_size)
    return BroadcastDecoder(
        config.image_size,
        (*config.decoder_channels, config.channels + 1),
        (config.decoder_kernel,),
        grid_size=grid_size,
        pixel_shuffle=config.decoder_pixel_shuffle,
        coarse_channels=int(config.decoder_coarse_masks),
        positions="append",
        activation="elu",
        initializer=FanInTruncatedNormal(),
        name=name,
    )


class DeconvDecoder(keras.layers.Layer):
    """Deconvolution decoder without coordinates, [N, D] -> [N, H, W, channels].

        MLP 512, 512 -> 8 x 8 x 8 -> four transposed 5 x 5 of stride 2 -> two 5 x 5

    Four doublings of 8 x 8 give 128 x 128 (Greff 2019). Smaller images use as many doublings as
    they need and crop the rest.

    Args:
      size: (H, W).
      channels: output channels.
    """

    def __init__(self, size, channels, **kwargs):
        super().__init__(**kwargs)
        self.size = tuple(size)
        doublings = 0
        while 8 * 2**doublings < max(size):
            doublings += 1

        common = {
            "initializer": FanInTruncatedNormal(),
            "activation": "elu",
            "dtype": self.dtype_policy,
        }
        self.mlp = MLP((512, 512), linear_output=False, name="mlp", **common)
        self.stack = ConvStack(
            (64,) * (doublings + 1) + (channels,),
            5,
            (2,) * doublings + (1, 1),
            linear_output=True,
            transposed=True,
            name="stack",
            **common,
        )

    def build(self, input_shape):
        self.mlp.build(input_shape)
        self.stack.build((None, 8, 8, 8))
        self.built = True

    def weight_terms(self):
        """Returns (): no tensor of this decoder depends on the weights alone."""
        return ()

    def call(self, latents, weight_terms=None):
        x = self.stack(tf.reshape(self.mlp(latents), [-1, 8, 8, 8]))
        return tf.cast(crop(x, self.size), tf.float32)
