"""The decoders of Anciukevicius et al. 2020 (Eqs. 3 and 5, Tables 5 and 6), all "same" padding.

    CanvasDecoder                  F_obj of CLEVR and polygons: z_j -> colour and alpha on a canvas
    make_residual_canvas_decoder   F_obj of multi-dSprites
    BackgroundDecoder              F_bg, deliberately tiny, so that it cannot render objects
    UniformBackground              a background of one colour (ours)

The paper's shorthand is ambiguous; its arithmetic shows strides of 1 in F_bg, and canvases of 40,
32 and 24 pixels (the dense layer of F_obj has side**2 / 16 * 30 units).
"""

import math

import keras
import tensorflow as tf

from tfobj.nn.convolution import ConvStack, crop
from tfobj.nn.layers import Conv2D, Dense
from tfobj.nn.residual import Chain, decoder_stages, enlarge


@keras.saving.register_keras_serializable("tfobj")
class CanvasDecoder(keras.layers.Layer):
    """Appearance [n, D] -> colour and alpha in (0, 1) on a canvas, float32 [n, M, M, C + 1].

    Args:
      canvas_size: M, a multiple of 4.
      channels: C.
      hidden: units of the first dense layer.
      filters: channels of the reshaped map and of the three convolutions after it; (30, 128, 64,
        32) in Table 5.
    """

    def __init__(self, canvas_size, channels, hidden, filters, **kwargs):
        super().__init__(**kwargs)
        self.grid = canvas_size // 4
        self.depth = filters[0]
        common = {"activation": "elu", "dtype": self.dtype_policy}

        self.hidden = Dense(hidden, name="hidden", **common)
        self.map = Dense(self.grid**2 * self.depth, name="map", **common)
        self.cnn = ConvStack(
            (*filters[1:], channels + 1),
            (3, 3, 5, 1),
            (2, 2, 1, 1),
            transposed=True,
            linear_output=True,
            name="cnn",
            **common,
        )

    def build(self, input_shape):
        self.hidden.build(input_shape)
        self.map.build((None, self.hidden.units))
        self.cnn.build((None, self.grid, self.grid, self.depth))
        self.built = True

    def call(self, x):
        x = self.map(self.hidden(tf.cast(x, self.compute_dtype)))
        logits = self.cnn(tf.reshape(x, [-1, self.grid, self.grid, self.depth]))
        return tf.sigmoid(tf.cast(logits, tf.float32))


def make_residual_canvas_decoder(canvas_size, channels, filters, name):
    """Returns the `Chain` from appearance [n, D] to logits of colour and alpha [n, M, M, C + 1].

    Args:
      canvas_size: M, a multiple of 8.
      channels: C.
      filters: 32 in the paper.
      name: name of the `Chain`.
    """
    grid = canvas_size // 8
    return Chain(
        [
            Dense(grid**2 * 4 * filters, activation="elu", name="map"),
            keras.layers.Reshape((grid, grid, 4 * filters), name="reshape"),
            *decoder_stages(filters),
            Conv2D(channels + 1, 3, padding="same", name="output"),
        ],
        name=name,
    )


@keras.saving.register_keras_serializable("tfobj")
class BackgroundDecoder(keras.layers.Layer):
    """Latents [B, D] -> background in (0, 1), float32 [B, H, W, C].

    Dense to 16 h w - enlarge 2 - conv - enlarge 4 - conv - enlarge 4 - 1 x 1. The sides 32 h and
    32 w are cropped.
    """

    GRID_CHANNELS = 16
    STRIDE = 32

    def __init__(self, image_size, channels, **kwargs):
        super().__init__(**kwargs)
        self.image_size = tuple(image_size)
        self.grid = [-(-side // self.STRIDE) for side in image_size]
        self.map = Dense(
            math.prod(self.grid) * self.GRID_CHANNELS,
            activation="elu",
            dtype=self.dtype_policy,
            name="map",
        )

        # Three layers after the enlargements; the last one is linear and gives logits of colours.
        self.stages = [
            Conv2D(
                channels,
                kernel,
                padding="same",
                activation="elu" if kernel == 3 else None,
                dtype=self.dtype_policy,
                name=f"conv_{i}",
            )
            for i, kernel in enumerate((3, 3, 1))
        ]
        self.last = self.stages[-1]

    def build(self, input_shape):
        self.map.build(input_shape)
        shape = (None, *self.grid, self.GRID_CHANNELS)
        for stage in self.stages:
            stage.build(shape)
            shape = stage.compute_output_shape(shape)
        self.built = True

    def call(self, x):
        x = self.map(tf.cast(x, self.compute_dtype))
        x = tf.reshape(x, [-1, *self.grid, self.GRID_CHANNELS])
        for factor, stage in zip((2, 4, 4), self.stages, strict=True):
            x = stage(enlarge(x, factor))
        return tf.sigmoid(tf.cast(crop(x, self.image_size), tf.float32))


@keras.saving.register_keras_serializable("tfobj")
class UniformBackground(keras.layers.Layer):
    """Latents [B, D] -> a background of one colour, float32 [B, H, W, C].

    The layers are a dense layer and a sigmoid.
    """

    def __init__(self, image_size, channels, **kwargs):
        super().__init__(**kwargs)
        self.image_size = tuple(image_size)
        self.last = Dense(channels, dtype=self.dtype_policy, name="colour")

    def build(self, input_shape):
        self.last.build(input_shape)
        self.built = True

    def call(self, x):
        colour = tf.sigmoid(tf.cast(self.last(tf.cast(x, self.compute_dtype)), tf.float32))
        return tf.tile(colour[:, None, None], [1, *self.image_size, 1])
