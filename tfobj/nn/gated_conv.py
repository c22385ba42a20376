"""Gated convolutions: h * sigmoid(g), where one convolution makes both h and g.

There is no other activation (Dauphin et al. 2017; van den Berg et al. 2018). Layers here that can
hold batch norms are called with `training` and return (outputs, statistics); see
`tfobj.nn.batch_norm`.
"""

import keras
import tensorflow as tf

from tfobj.errors import unknown_name
from tfobj.nn.batch_norm import BatchNorm
from tfobj.nn.convolution import as_tuple
from tfobj.nn.layers import Conv2D, Conv2DTranspose, own_initializer

NORMS = ("batch", "instance", "none")


def gate(x):
    """Returns h * sigmoid(g) of [h, g] = the halves of `x` along its last axis."""
    h, g = tf.split(x, 2, axis=-1)
    return h * tf.sigmoid(g)


@keras.saving.register_keras_serializable("tfobj")
class GatedConv2D(keras.layers.Layer):
    """One gated convolution: [B, H, W, C] -> [B, H / stride, W / stride, filters].

    The padding is SAME. The norm treats every channel separately, so that one norm before the split
    normalises both halves.

    Args:
      filters: channels of each half.
      kernel_size: as for `keras.layers.Conv2D`.
      strides: the same.
      norm: "batch", "instance" or "none".
      transposed: a transposed convolution, whose stride enlarges.
      initializer: kernel initializer.

    Raises:
      UserError: unknown `norm`.
    """

    def __init__(
        self,
        filters,
        kernel_size,
        strides=1,
        *,
        norm="batch",
        transposed=False,
        initializer="glorot_uniform",
        **kwargs,
    ):
        super().__init__(**kwargs)
        if norm not in NORMS:
            raise unknown_name("`norm`", norm, NORMS)

        layer_class = Conv2DTranspose if transposed else Conv2D
        self.convolution = layer_class(
            2 * filters,
            kernel_size,
            strides=strides,
            padding="same",
            kernel_initializer=own_initializer(initializer),
            name="conv",
            dtype=self.dtype_policy,
        )

        self.norm = None
        if norm == "batch":
            self.norm = BatchNorm(name="norm", dtype=self.dtype_policy)
        elif norm == "instance":
            # A group per channel.
            self.norm = keras.layers.GroupNormalization(
                groups=-1, epsilon=1e-5, dtype="float32", name="norm"
            )

    def build(self, input_shape):
        self.convolution.build(input_shape)
        if self.norm is not None:
            self.norm.build(self.convolution.compute_output_shape(input_shape))
        self.built = True

    def compute_output_shape(self, input_shape):
        *space, channels = self.convolution.compute_output_shape(input_shape)
        return (*space, channels // 2)

    def call(self, x, training=False):
        if isinstance(self.norm, BatchNorm):
            x = self.convolution.linear(x)
            x, statistics = self.norm(x, self.convolution.bias, training=training)
            return gate(x), statistics

        x = self.convolution(x)
        if self.norm is not None:
            x = tf.cast(self.norm(x), self.compute_dtype)
        return gate(x), {}


@keras.saving.register_keras_serializable("tfobj")
class GatedConvStack(keras.layers.Layer):
    """Gated convolutions one after the other.

    Arguments as for `GatedConv2D`: `filters` per layer, `kernel_sizes` and `strides` per layer or
    one for all, the others for all layers.
    """

    def __init__(
        self,
        filters,
        kernel_sizes,
        strides=1,
        *,
        norm="batch",
        transposed=False,
        initializer="glorot_uniform",
        **kwargs,
    ):
        super().__init__(**kwargs)
        kernel_sizes = as_tuple(kernel_sizes, len(filters))
        strides = as_tuple(strides, len(filters))

        self.stages = [
            GatedConv2D(
                filters[i],
                kernel_sizes[i],
                strides[i],
                norm=norm,
                transposed=transposed,
                initializer=initializer,
                dtype=self.dtype_policy,
                name=f"gated_{i}",
            )
            for i in range(len(filters))
        ]

    def build(self, input_shape):
        for stage in self.stages:
            stage.build(input_shape)
            input_shape = stage.compute_output_shape(input_shape)
        self.built = True

    def compute_output_shape(self, input_shape):
        for stage in self.stages:
            input_shape = stage.compute_output_shape(input_shape)
        return input_shape

    def batch_norms(self):
        """Returns the `BatchNorm` layers, whose averages the owner of this stack updates."""
        return [stage.norm for stage in self.stages if isinstance(stage.norm, BatchNorm)]

    def call(self, x, training=False):
        statistics = {}
        for stage in self.stages:
            x, more = stage(x, training=training)
            statistics |= more
        return x, statistics


@keras.saving.register_keras_serializable("tfobj")
class GatedMapToVector(keras.layers.Layer):
    """Gated convolution by a kernel as large as the map: [B, H, W, C] -> [B, filters].

    There is no padding. Computed as one matrix product.
    """

    def __init__(self, filters, *, initializer="glorot_uniform", **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.initializer = own_initializer(initializer)

    def build(self, input_shape):
        self.kernel = self.add_weight(
            name="kernel", shape=(*input_shape[1:], 2 * self.filters), initializer=self.initializer
        )
        self.bias = self.add_weight(name="bias", shape=(2 * self.filters,), initializer="zeros")
        self.built = True

    def call(self, x):
        kernel = tf.reshape(tf.cast(self.kernel, x.dtype), [-1, 2 * self.filters])
        return gate(tf.reshape(x, [-1, kernel.shape[0]]) @ kernel + tf.cast(self.bias, x.dtype))


@keras.saving.register_keras_serializable("tfobj")
class GatedVectorToMap(keras.layers.Layer):
    """Gated transposed convolution of a 1 x 1 map: [B, D] -> [B, H, W, filters].

    The kernel has the `size` (H, W) of the result; there is no padding. Computed as one matrix
    product; the bias is per channel, shared by all positions.
    """

    def __init__(self, filters, size, *, initializer="glorot_uniform", **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.size = tuple(size)
        self.initializer = own_initializer(initializer)

    def build(self, input_shape):
        # The order of axes of a transposed convolution's kernel: [H, W, outputs, inputs].
        self.kernel = self.add_weight(
            name="kernel",
            shape=(*self.size, 2 * self.filters, input_shape[-1]),
            initializer=self.initializer,
        )
        self.bias = self.add_weight(name="bias", shape=(2 * self.filters,), initializer="zeros")
        self.built = True

    def compute_output_shape(self, input_shape):
        return (input_shape[0], *self.size, self.filters)

    def call(self, x):
        kernel = tf.reshape(tf.cast(self.kernel, x.dtype), [-1, x.shape[-1]])
        maps = tf.matmul(x, kernel, transpose_b=True)
        maps = tf.reshape(maps, [-1, *self.size, 2 * self.filters])
        return gate(maps + tf.cast(self.bias, x.dtype))
