"""Encoder and decoder of van Steenkiste et al. 2018 and Greff et al. 2017.

Layers are linear - layer norm - activation, with biases before a norm too. Kernels start as Glorot
uniform, biases at zero. The recurrent cores between encoder and decoder are in `cores`.
"""

import math

import keras
import tensorflow as tf

from tfobj.nn.layers import Conv2D, Dense
from tfobj.nn.unet import double


@keras.saving.register_keras_serializable("tfobj")
class JointNorm(keras.layers.Layer):
    """Layer norm over the last `rank` axes jointly, in float32 (Ba 2016).

    Every channel has one gain and one offset. Layers of Keras compute x s - mean s; with s up to
    1e6, at the published epsilon of 1e-12, that difference is mostly rounding error.

    Args:
      rank: 1 for vectors, 3 for maps [..., H, W, C].
      epsilon: added to the variance.
    """

    def __init__(self, rank, epsilon, **kwargs):
        super().__init__(**{"autocast": False, "dtype": "float32", **kwargs})
        self.rank = rank
        self.epsilon = epsilon

    def build(self, input_shape):
        self.gain = self.add_weight(name="gain", shape=input_shape[-1:], initializer="ones")
        self.offset = self.add_weight(name="offset", shape=input_shape[-1:], initializer="zeros")
        self.built = True

    def call(self, x):
        x = tf.cast(x, tf.float32)
        axes = list(range(len(x.shape) - self.rank, len(x.shape)))
        mean, variance = tf.nn.moments(x, axes, keepdims=True)
        scale = tf.math.rsqrt(variance + self.epsilon) * self.gain.value
        return (x - mean) * scale + self.offset.value


@keras.saving.register_keras_serializable("tfobj")
class Block(keras.layers.Layer):
    """A linear layer, its norm (none if `epsilon` is None), and an activation."""

    def __init__(self, linear, activation, epsilon, **kwargs):
        super().__init__(**kwargs)
        self.linear = linear
        self.activation = keras.activations.get(activation)
        self.norm = None
        if epsilon is not None:
            is_dense = isinstance(linear, keras.layers.Dense)
            self.norm = JointNorm(1 if is_dense else 3, epsilon, name="norm")

    def build(self, input_shape):
        self.linear.build(input_shape)
        if self.norm is not None:
            self.norm.build(self.linear.compute_output_shape(input_shape))
        self.built = True

    def compute_output_shape(self, input_shape):
        return self.linear.compute_output_shape(input_shape)

    def call(self, x):
        return self.finish(self.linear(x))

    def finish(self, x):
        """Applies norm and activation to the outputs of the linear layer."""
        if self.norm is not None:
            x = tf.cast(self.norm(x), self.compute_dtype)
        return self.activation(x)


def dense_block(units, activation, epsilon, dtype, name):
    """Returns a dense `Block`."""
    return Block(
        Dense(units, dtype=dtype, name="linear"), activation, epsilon, dtype=dtype, name=name
    )


def conv_block(channels, kernel_size, stride, activation, epsilon, dtype, name):
    """Returns a convolutional `Block` with zero padding; even kernels pad one more at the end."""
    linear = Conv2D(
        channels, kernel_size, strides=stride, padding="same", dtype=dtype, name="linear"
    )
    return Block(linear, activation, epsilon, dtype=dtype, name=name)


@keras.saving.register_keras_serializable("tfobj")
class Encoder(keras.layers.Layer):
    """Encoder, [N, H, W, C] -> float32 [N, F].

    Convolutions of stride 2, then dense layers, all ELU. Without any layers, it returns the
    pixels themselves.
    """

    def __init__(self, channels, kernel_size, hidden, epsilon, **kwargs):
        super().__init__(**kwargs)
        dtype = self.dtype_policy
        self.convolutions = [
            conv_block(width, kernel_size, 2, "elu", epsilon, dtype, f"conv_{i}")
            for i, width in enumerate(channels)
        ]
        self.hidden = [
            dense_block(width, "elu", epsilon, dtype, f"dense_{i}")
            for i, width in enumerate(hidden)
        ]

    def build(self, input_shape):
        shape = input_shape
        for block in self.convolutions:
            block.build(shape)
            shape = block.compute_output_shape(shape)

        shape = (None, math.prod(shape[1:]))
        for block in self.hidden:
            block.build(shape)
            shape = block.compute_output_shape(shape)
        self.num_features = shape[-1]
        self.built = True

    def call(self, x):
        for block in self.convolutions:
            x = block(x)
        x = tf.reshape(x, [-1, math.prod(x.shape[1:])])
        for block in self.hidden:
            x = block(x)
        return tf.cast(x, tf.float32)


@keras.saving.register_keras_serializable("tfobj")
class Decoder(keras.layers.Layer):
    """Decoder, [N, D] -> float32 [N, H, W, C], the values before a sigmoid.

    Dense layers yield the smallest map, which is doubled and convolved up to the size of the image.
    All layers but the last are ReLU.

    Args:
      image_size: (H, W). Each map has half the side of the next one, rounded up.
      image_channels: C.
      hidden: units of the dense layers before the first map.
      channels: of the maps, the smallest first; without maps, a dense layer yields the image.
      kernel_size, epsilon: of the convolutions and norms.
      initial_bias: of the last layer.
    """

    def __init__(
        self,
        image_size,
        image_channels,
        hidden,
        channels,
        kernel_size,
        epsilon,
        initial_bias=0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        dtype = self.dtype_policy
        self.initial_bias = initial_bias
        self.image_channels = image_channels
        self.sizes = tuple(
            tuple(-(-side // 2**i) for side in image_size) for i in range(len(channels), -1, -1)
        )

        self.map_channels = None
        widths = hidden
        if channels:
            self.map_channels = channels[0]
            widths = (*hidden, math.prod(self.sizes[0]) * channels[0])
        self.hidden = [
            dense_block(width, "relu", epsilon, dtype, f"dense_{i}")
            for i, width in enumerate(widths)
        ]

        self.convolutions = [
            conv_block(width, kernel_size, 1, "relu", epsilon, dtype, f"conv_{i}")
            for i, width in enumerate(channels[1:])
        ]
        if channels:
            self.pixels = Conv2D(
                image_channels, kernel_size, padding="same", dtype=dtype, name="pixels"
            )
        else:
            self.pixels = Dense(math.prod(image_size) * image_channels, dtype=dtype, name="pixels")

    def build(self, input_shape):
        shape = input_shape
        for block in self.hidden:
            block.build(shape)
            shape = block.compute_output_shape(shape)

        if self.map_channels is not None:
            shape = (None, *self.sizes[1], self.map_channels)
            for block, size in zip(self.convolutions, self.sizes[2:], strict=True):
                block.build(shape)
                shape = (None, *size, block.linear.filters)

        # The bias sets the brightness of slots before training.
        self.pixels.build(shape)
        self.pixels.bias.assign(tf.fill(self.pixels.bias.shape, self.initial_bias))
        self.built = True

    def call(self, x):
        for block in self.hidden:
            x = block(x)
        if self.map_channels is not None:
            x = tf.reshape(x, [-1, *self.sizes[0], self.map_channels])
            for layer, size in zip((*self.convolutions, self.pixels), self.sizes[1:], strict=True):
                x = layer(double(x, size))
        else:
            x = tf.reshape(self.pixels(x), [-1, *self.sizes[0], self.image_channels])
        return tf.cast(x, tf.float32)
