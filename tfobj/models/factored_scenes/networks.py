"""The networks of Anciukevicius et al. 2020, Tables 5 and 6, all "same" padding: who looks where, what is there, how it is drawn.

    PositionNetwork          enc_pos: U-Net, image -> a map of logits per object
    ObjectEncoder            enc_obj: the whole image -> latents of all objects ("global")
    make_crop_encoder        enc_obj: a crop around each object -> its latents ("attentive")
    BackgroundEncoder        enc_bg
    CanvasDecoder            F_obj: latents of an object -> colour and alpha on its canvas
    BackgroundDecoder        F_bg, deliberately tiny, so that it cannot draw objects

The shorthand of the paper and what its arithmetic shows: strides of 1 in U-Net and F_bg; canvases of 40, 32 and 24 pixels (the dense
layer of F_obj is side**2 / 16 * 30); one map per object where the table says three.
"""

import math

import keras
import tensorflow as tf

from tfobj.nn.batch_norm import BatchNorm
from tfobj.nn.convolution import ConvStack
from tfobj.nn.layers import Conv2D, Dense
from tfobj.nn.residual import Chain, decoder_stages, encoder_stages, enlarge

CANVAS_CHANNELS = 4
"""Colour and alpha: the paper's images have three channels."""


@keras.saving.register_keras_serializable("tfobj")
class _NormedConv(keras.layers.Layer):
    """Convolution 3 x 3, activation, then norm ("batch", "group" or "none")."""

    def __init__(self, filters, stride, activation, norm, **kwargs):
        super().__init__(**kwargs)
        self.convolution = Conv2D(
            filters,
            3,
            strides=stride,
            padding="same",
            activation=activation,
            dtype=self.dtype_policy,
            name="conv",
        )
        self.norm = None
        if norm == "batch":
            self.norm = BatchNorm(dtype=self.dtype_policy, name="norm")
        elif norm == "group":
            self.norm = keras.layers.GroupNormalization(
                math.gcd(8, filters), epsilon=1e-5, dtype="float32", name="norm"
            )

    def build(self, input_shape):
        self.convolution.build(input_shape)
        if self.norm is not None:
            self.norm.build(self.compute_output_shape(input_shape))
        self.built = True

    def compute_output_shape(self, input_shape):
        return self.convolution.compute_output_shape(input_shape)

    def call(self, x, training=False):
        """Returns (features, statistics of a batch norm)."""
        x = self.convolution(x)
        if isinstance(self.norm, BatchNorm):
            return self.norm(x, training=training)
        return (x if self.norm is None else tf.cast(self.norm(x), self.compute_dtype)), {}


@keras.saving.register_keras_serializable("tfobj")
class PositionNetwork(keras.layers.Layer):
    """U-Net from the image [B, H, W, C] to float32 logits of object centres [B, J, H, W]; slot j is output map j.

        down   conv - ReLU - group norm, kept as skip; max-pool 2               for each of `channels`
        bottom conv - ReLU, as wide as the last
        up     bilinear x 2, [x, skip], conv - ReLU - group norm                the last one without norm
        head   1 x 1 convolution to J maps

    Sides that are no multiple of 2 ** len(channels): pools round up, enlargements are cropped to the skip.

    Args:
      channels: of the skips.
      num_objects: J.
      stride: r; above 1 (ours) the net runs on r x r pixels as channels, and its logits are enlarged r times, bilinearly.
    """

    def __init__(self, channels, num_objects, stride=1, **kwargs):
        super().__init__(**kwargs)
        self.stride = stride
        common = {"stride": 1, "activation": "relu", "dtype": self.dtype_policy}
        self.down = [
            _NormedConv(width, norm="group", name=f"down_{i}", **common)
            for i, width in enumerate(channels)
        ]
        self.bottom = _NormedConv(channels[-1], norm="none", name="bottom", **common)
        self.up = [
            _NormedConv(width, norm="group" if i else "none", name=f"up_{i}", **common)
            for i, width in enumerate(channels)
        ]
        self.head = Conv2D(num_objects, 1, dtype=self.dtype_policy, name="head")

    def build(self, input_shape):
        channels = input_shape[-1] * self.stride**2
        for block in self.down:
            block.build((None, None, None, channels))
            channels = block.convolution.filters
        self.bottom.build((None, None, None, channels))
        for block, skip in zip(reversed(self.up), reversed(self.down), strict=True):
            block.build((None, None, None, channels + skip.convolution.filters))
            channels = block.convolution.filters
        self.head.build((None, None, None, channels))
        self.built = True

    def call(self, image):
        x, skips, r = tf.cast(image, self.compute_dtype), [], self.stride
        height, width = image.shape[1:3]
        if r > 1:
            x = tf.nn.space_to_depth(
                tf.pad(x, [[0, 0], [0, -height % r], [0, -width % r], [0, 0]]), r
            )
        for block in self.down:
            x, _ = block(x)
            skips.append(x)
            x = tf.nn.max_pool2d(x, 2, 2, "SAME")
        x, _ = self.bottom(x)
        for block, skip in zip(reversed(self.up), reversed(skips), strict=True):
            x = enlarge(x, 2)[:, : skip.shape[1], : skip.shape[2]]
            x, _ = block(tf.concat([x, skip], axis=-1))
        x = tf.cast(self.head(x), tf.float32)
        if r > 1:
            x = enlarge(x, r)[:, :height, :width]
        return tf.transpose(x, [0, 3, 1, 2])


@keras.saving.register_keras_serializable("tfobj")
class _NormedStack(keras.layers.Layer):
    """Image [B, H, W, C] -> features [B, n]: `_NormedConv`s with stride 2, flattened; the one numbered `unnormed` has no norm."""

    def __init__(self, channels, activation, norm, unnormed, **kwargs):
        super().__init__(**kwargs)
        self.stages = [
            _NormedConv(
                width,
                2,
                activation,
                "none" if i == unnormed else norm,
                dtype=self.dtype_policy,
                name=f"conv_{i}",
            )
            for i, width in enumerate(channels)
        ]

    def build(self, input_shape):
        for stage in self.stages:
            stage.build(input_shape)
            input_shape = stage.compute_output_shape(input_shape)
        self.num_features = math.prod(input_shape[1:])
        self.built = True

    def call(self, image, training=False):
        """Returns (features, statistics)."""
        x, statistics = tf.cast(image, self.compute_dtype), {}
        for stage in self.stages:
            x, moments = stage(x, training=training)
            statistics |= moments
        return tf.reshape(x, [-1, self.num_features]), statistics


@keras.saving.register_keras_serializable("tfobj")
class ObjectEncoder(keras.layers.Layer):
    """The whole image [B, H, W, C] -> float32 [B, J, 2 L]; strided convolutions with ELU and norm, flattened, dense, split by slot.

    The sixth convolution has no norm (Table 5).
    """

    UNNORMED = 5

    def __init__(self, channels, num_objects, num_latents, norm, **kwargs):
        super().__init__(**kwargs)
        self.num_objects, self.num_parameters = num_objects, 2 * num_latents
        self.cnn = _NormedStack(
            channels, "elu", norm, self.UNNORMED, dtype=self.dtype_policy, name="cnn"
        )
        self.head = Dense(num_objects * self.num_parameters, dtype=self.dtype_policy, name="head")

    def build(self, input_shape):
        self.cnn.build(input_shape)
        self.head.build((None, self.cnn.num_features))
        self.built = True

    def call(self, image, training=False):
        """Returns (parameters, statistics)."""
        x, statistics = self.cnn(image, training=training)
        return tf.reshape(
            tf.cast(self.head(x), tf.float32), [-1, self.num_objects, self.num_parameters]
        ), statistics


def make_crop_encoder(filters, num_latents, name):
    """Returns the `Chain` from crops [n, M, M, C] to [n, 2 L]; `filters` is 32 in the paper."""
    return Chain(
        [
            *encoder_stages(filters),
            keras.layers.Flatten(name="flatten"),
            Dense(2 * num_latents, name="latents"),
        ],
        name=name,
    )


@keras.saving.register_keras_serializable("tfobj")
class BackgroundEncoder(keras.layers.Layer):
    """Image [B, H, W, C] -> float32 [B, 2 L]: convolutions with stride 2, ReLU and norm (but for the last), flattened, dense with ReLU and norm, dense."""

    def __init__(self, channels, hidden, num_latents, norm, **kwargs):
        super().__init__(**kwargs)
        self.cnn = _NormedStack(
            channels, "relu", norm, len(channels) - 1, dtype=self.dtype_policy, name="cnn"
        )
        self.hidden = Dense(hidden, activation="relu", dtype=self.dtype_policy, name="hidden")
        # A group norm of a vector would take its mean away; batch norm or nothing.
        self.norm = BatchNorm(dtype=self.dtype_policy, name="norm") if norm == "batch" else None
        self.head = Dense(2 * num_latents, dtype=self.dtype_policy, name="head")

    def build(self, input_shape):
        self.cnn.build(input_shape)
        self.hidden.build((None, self.cnn.num_features))
        if self.norm is not None:
            self.norm.build((None, 1, 1, self.hidden.units))
        self.head.build((None, self.hidden.units))
        self.built = True

    def call(self, image, training=False):
        """Returns (parameters, statistics)."""
        x, statistics = self.cnn(image, training=training)
        x = self.hidden(x)
        if self.norm is not None:
            x, moments = self.norm(x[:, None, None], training=training)
            x, statistics = x[:, 0, 0], statistics | moments
        return tf.cast(self.head(x), tf.float32), statistics


@keras.saving.register_keras_serializable("tfobj")
class CanvasDecoder(keras.layers.Layer):
    """Appearance [n, D] -> colour and alpha in (0, 1) on a canvas, float32 [n, M, M, C + 1].

    Args:
      canvas_size: M, a multiple of 4.
      channels: C.
      hidden: units of the first dense layer.
      filters: channels of the reshaped map and of the three convolutions after it; (30, 128, 64, 32) in Table 5.
    """

    def __init__(self, canvas_size, channels, hidden, filters, **kwargs):
        super().__init__(**kwargs)
        self.grid, self.depth = canvas_size // 4, filters[0]
        self.hidden = Dense(hidden, activation="elu", dtype=self.dtype_policy, name="hidden")
        self.map = Dense(
            self.grid**2 * self.depth, activation="elu", dtype=self.dtype_policy, name="map"
        )
        self.cnn = ConvStack(
            (*filters[1:], channels + 1),
            (3, 3, 5, 1),
            (2, 2, 1, 1),
            transposed=True,
            activation="elu",
            linear_output=True,
            dtype=self.dtype_policy,
            name="cnn",
        )

    def build(self, input_shape):
        self.hidden.build(input_shape)
        self.map.build((None, self.hidden.units))
        self.cnn.build((None, self.grid, self.grid, self.depth))
        self.built = True

    def call(self, x):
        x = self.map(self.hidden(tf.cast(x, self.compute_dtype)))
        return tf.sigmoid(
            tf.cast(self.cnn(tf.reshape(x, [-1, self.grid, self.grid, self.depth])), tf.float32)
        )


def make_residual_canvas_decoder(canvas_size, channels, filters, name):
    """Returns the `Chain` of multi-dSprites from appearance [n, D] to the logits of colour and alpha [n, M, M, C + 1], M a multiple of 8."""
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
    """Latents [B, D] -> background in (0, 1), float32 [B, H, W, C]: dense 16 h w - x2 - conv - x4 - conv - x4 - 1 x 1; sides 32 h, 32 w are cropped."""

    GRID_CHANNELS = 16
    STRIDE = 32

    def __init__(self, image_size, channels, **kwargs):
        super().__init__(**kwargs)
        self.image_size, self.grid = (
            tuple(image_size),
            [-(-side // self.STRIDE) for side in image_size],
        )
        self.map = Dense(
            math.prod(self.grid) * self.GRID_CHANNELS,
            activation="elu",
            dtype=self.dtype_policy,
            name="map",
        )
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
        x = tf.reshape(
            self.map(tf.cast(x, self.compute_dtype)), [-1, *self.grid, self.GRID_CHANNELS]
        )
        for factor, stage in zip((2, 4, 4), self.stages, strict=True):
            x = stage(enlarge(x, factor))
        height, width = self.image_size
        return tf.sigmoid(tf.cast(x[:, :height, :width], tf.float32))


@keras.saving.register_keras_serializable("tfobj")
class UniformBackground(keras.layers.Layer):
    """Latents [B, D] -> a background of one colour, float32 [B, H, W, C]; a dense layer and a sigmoid."""

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
