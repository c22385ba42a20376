"""Encoder and decoder of the convolutional VAE (Anciukevicius et al. 2020, Table 6).

    encoder   c32e-c64k1s1e-crk1s1e-g-c64e-c128k1s1e-crk1s1e-g-c256e-c256k1s1e-crk1s1e-g-c256e-g-d
    decoder   d(32 h w)e-c128s1e-crs1e-up2-c96s1e-crs1e-crs1e-up2-c48s1e-crs1e-crs1e-up2-crs1e-crs1e-c4k1s1

cN: convolution with N channels, 3 x 3 and stride 2 unless k and s say otherwise; cr: residual convolution; g: group norm; d: dense;
up2: bilinear, two times; a trailing e: ELU. The paper leaves open (ours): zeros around all images ("same"), residuals as
x + ELU(conv(x)), 8 groups, and an output of as many channels as the image has: its fourth has no use here.
"""

import keras
import tensorflow as tf

from tfobj.nn.layers import Conv2D, Dense

SIDE_MULTIPLE = 16
"""Four halvings of the encoder; the decoder begins at an eighth."""
GROUPS = 8


@keras.saving.register_keras_serializable("tfobj")
class ResidualConv2D(keras.layers.Layer):
    """x + ELU(conv(x)), as many channels as before."""

    def __init__(self, kernel_size, **kwargs):
        super().__init__(**kwargs)
        self.kernel_size = kernel_size

    def build(self, input_shape):
        self.convolution = Conv2D(input_shape[-1], self.kernel_size, padding="same", activation="elu", dtype=self.dtype_policy, name="conv")
        self.convolution.build(input_shape)
        self.built = True

    def compute_output_shape(self, input_shape):
        return input_shape

    def call(self, x):
        return x + self.convolution(x)


@keras.saving.register_keras_serializable("tfobj")
class Doubling(keras.layers.Layer):
    """Bilinear enlargement by two with half-pixel centres: [B, H, W, C] -> [B, 2 H, 2 W, C].

    Output pixels 2 i and 2 i + 1 lie a quarter pixel before and after pixel i, so they are 3/4 of it and 1/4 of the neighbour on
    that side; the outermost pixels are their own neighbours.
    """

    def compute_output_shape(self, input_shape):
        batch, height, width, channels = input_shape
        return (batch, 2 * height, 2 * width, channels)

    def call(self, x):
        return self._along(self._along(x, 1), 2)

    def _along(self, x, axis):
        size, shape = x.shape[axis], [-1, *x.shape[1:]]
        first, before, after, last = (tf.gather(x, i, axis=axis) for i in ([0], range(size - 1), range(1, size), [size - 1]))
        sides = tf.concat([first, before], axis), tf.concat([after, last], axis)
        shape[axis] = 2 * size
        return tf.reshape(tf.stack([0.75 * x + 0.25 * side for side in sides], axis=axis + 1), shape)


class Chain(keras.layers.Layer):
    """Layers one after the other, float32 layers among others of the compute dtype."""

    def __init__(self, stages, **kwargs):
        super().__init__(**kwargs)
        self.stages = stages

    def build(self, input_shape):
        for stage in self.stages:
            stage.build(input_shape)
            input_shape = stage.compute_output_shape(input_shape)
        self.built = True

    def call(self, x):
        for stage in self.stages:
            x = stage(x)
        return tf.cast(x, tf.float32)


def make_encoder(filters, latent_size, name):
    """Returns the `Chain` from images [B, H, W, C] to [B, 2 D]; `filters` is 32 in the paper."""
    stages = []
    for i, (width, following) in enumerate(((1, 2), (2, 4), (8, 8))):
        stages += [_convolution(width * filters, 3, 2, f"conv_{i}"), _convolution(following * filters, 1, 1, f"point_{i}"),
                   ResidualConv2D(1, name=f"residual_{i}"), _group_norm(f"norm_{i}")]
    stages += [_convolution(8 * filters, 3, 2, "conv_3"), _group_norm("norm_3"), keras.layers.Flatten(name="flatten"),
               Dense(2 * latent_size, name="latents")]
    return Chain(stages, name=name)


def make_decoder(image_size, channels, filters, name):
    """Returns the `Chain` from latents [B, D] to the pixels' logits [B, H, W, channels]."""
    height, width = (side // 8 for side in image_size)
    stages = [Dense(height * width * filters, activation="elu", name="dense"), keras.layers.Reshape((height, width, filters), name="reshape"),
              _convolution(4 * filters, 3, 1, "conv_0"), ResidualConv2D(3, name="residual_0")]
    for i, out in ((1, 3 * filters), (2, 3 * filters // 2)):
        stages += [Doubling(name=f"double_{i}"), _convolution(out, 3, 1, f"conv_{i}"),
                   ResidualConv2D(3, name=f"residual_{i}a"), ResidualConv2D(3, name=f"residual_{i}b")]
    stages += [Doubling(name="double_3"), ResidualConv2D(3, name="residual_3a"), ResidualConv2D(3, name="residual_3b"),
               Conv2D(channels, 1, name="output")]
    return Chain(stages, name=name)


def _convolution(filters, kernel_size, stride, name):
    return Conv2D(filters, kernel_size, strides=stride, padding="same", activation="elu", name=name)


def _group_norm(name):
    return keras.layers.GroupNormalization(GROUPS, epsilon=1e-5, dtype="float32", name=name)
