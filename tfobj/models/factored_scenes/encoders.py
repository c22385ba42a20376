"""The networks of the posterior (Anciukevicius et al. 2020, Eq. 13, Table 5), all "same" padding.

    PositionNetwork          enc_pos: U-Net, image -> a map of logits per object
    ObjectEncoder            enc_obj: the whole image -> latents of all objects ("global")
    make_crop_encoder        enc_obj: a crop around each object -> its latents ("attentive")
    BackgroundEncoder        enc_bg

The paper's shorthand is ambiguous; its arithmetic shows strides of 1 in the U-Net. The table has
three maps where there must be one per object.
"""

import math

import keras
import tensorflow as tf

from tfobj.nn.batch_norm import BatchNorm
from tfobj.nn.convolution import crop
from tfobj.nn.layers import Conv2D, Dense
from tfobj.nn.residual import Chain, encoder_stages, enlarge


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
        if self.norm is None:
            return x, {}
        if isinstance(self.norm, BatchNorm):
            return self.norm(x, training=training)
        return tf.cast(self.norm(x), self.compute_dtype), {}


@keras.saving.register_keras_serializable("tfobj")
class PositionNetwork(keras.layers.Layer):
    """U-Net: image [B, H, W, C] -> float32 logits of object centres [B, J, H, W].

        down   conv - ReLU - group norm, kept as skip; max-pool 2       for each of `channels`
        bottom conv - ReLU, as wide as the last
        up     bilinear x 2, [x, skip], conv - ReLU - group norm        the last one without norm
        head   1 x 1 convolution to J maps; slot j is map j

    Where sides are no multiple of 2 ** len(channels), pools round up, and enlarged maps are cropped
    to the skip.

    Args:
      channels: channels of the skips.
      num_objects: J.
      stride: r; above 1 (ours), the net runs on r x r pixels as channels, and its logits are
        enlarged r times, bilinearly.
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

        # Numbered like the skips that they read, so `up_0`, without norm, comes last.
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
        x = tf.cast(image, self.compute_dtype)
        height, width = image.shape[1:3]
        r = self.stride
        if r > 1:
            missing = [[0, 0], [0, -height % r], [0, -width % r], [0, 0]]
            x = tf.nn.space_to_depth(tf.pad(x, missing), r)

        skips = []
        for block in self.down:
            x, _ = block(x)
            skips.append(x)
            x = tf.nn.max_pool2d(x, 2, 2, "SAME")
        x, _ = self.bottom(x)

        for block, skip in zip(reversed(self.up), reversed(skips), strict=True):
            x = crop(enlarge(x, 2), skip.shape[1:3])
            x, _ = block(tf.concat([x, skip], axis=-1))

        x = tf.cast(self.head(x), tf.float32)
        if r > 1:
            x = crop(enlarge(x, r), (height, width))
        return tf.transpose(x, [0, 3, 1, 2])


@keras.saving.register_keras_serializable("tfobj")
class _NormedStack(keras.layers.Layer):
    """Image [B, H, W, C] -> features [B, n]: `_NormedConv`s with stride 2, flattened.

    The one numbered `unnormed` has no norm.
    """

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
        x = tf.cast(image, self.compute_dtype)
        statistics = {}
        for stage in self.stages:
            x, moments = stage(x, training=training)
            statistics |= moments
        return tf.reshape(x, [-1, self.num_features]), statistics


@keras.saving.register_keras_serializable("tfobj")
class ObjectEncoder(keras.layers.Layer):
    """The whole image [B, H, W, C] -> parameters [B, J, 2 L], float32.

    Strided convolutions with ELU and norm, flattened, then a dense layer whose output is split by
    slot. The sixth convolution has no norm (Table 5).
    """

    UNNORMED = 5

    def __init__(self, channels, num_objects, num_latents, norm, **kwargs):
        super().__init__(**kwargs)
        self.num_objects = num_objects
        self.num_parameters = 2 * num_latents
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
        parameters = tf.cast(self.head(x), tf.float32)
        return tf.reshape(parameters, [-1, self.num_objects, self.num_parameters]), statistics


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
    """Image [B, H, W, C] -> parameters [B, 2 L], float32.

    Convolutions with stride 2, ReLU and norm (all but the last), flattened; dense with ReLU and
    norm; dense.
    """

    def __init__(self, channels, hidden, num_latents, norm, **kwargs):
        super().__init__(**kwargs)
        self.cnn = _NormedStack(
            channels, "relu", norm, len(channels) - 1, dtype=self.dtype_policy, name="cnn"
        )
        self.hidden = Dense(hidden, activation="relu", dtype=self.dtype_policy, name="hidden")

        # A group norm of a vector would take its mean away; batch norm or nothing.
        self.norm = None
        if norm == "batch":
            self.norm = BatchNorm(dtype=self.dtype_policy, name="norm")
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
            x = x[:, 0, 0]
            statistics = statistics | moments
        return tf.cast(self.head(x), tf.float32), statistics
