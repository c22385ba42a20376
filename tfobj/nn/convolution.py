"""Stacks of convolutions described by tuples, and the initial values of the released IODINE."""

import math

import keras


@keras.saving.register_keras_serializable("tfobj")
class FanInTruncatedNormal(keras.initializers.Initializer):
    """Normal cut at two standard deviations, stddev 1 / sqrt(fan_in), not corrected for the cut (Sonnet 1).

    fan_in is k * k * C_in for convolutions and the input size for dense layers, unless given.
    """

    def __init__(self, fan_in=None):
        self.fan_in = fan_in

    def __call__(self, shape, dtype=None):
        fan_in = self.fan_in or math.prod(shape[:-1])
        return keras.initializers.TruncatedNormal(stddev=fan_in**-0.5)(shape, dtype)

    def get_config(self):
        return {"fan_in": self.fan_in}


@keras.saving.register_keras_serializable("tfobj")
class ConvStack(keras.layers.Layer):
    """Convolutions with SAME padding: [B, H, W, C] -> [B, H / prod(strides), W / prod(strides), channels[-1]].

    Args:
      channels: output channels of every layer.
      kernel_sizes: odd kernel size of every layer, or one number for all.
      strides: stride of every layer, or one number for all; a stride above 1 with `transposed=True` enlarges.
      activation: Keras name, applied after every layer but the last if `linear_output`.
      transposed: use transposed convolutions where the stride is above 1.
      initializer: kernel initializer.
    """

    def __init__(self, channels, kernel_sizes, strides=1, *, activation="relu", linear_output=False, transposed=False,
                 initializer="glorot_uniform", **kwargs):
        super().__init__(**kwargs)
        count = len(channels)
        kernel_sizes, strides = as_tuple(kernel_sizes, count), as_tuple(strides, count)
        self.stages = []
        for i, (width, kernel, stride) in enumerate(zip(channels, kernel_sizes, strides, strict=True)):
            layer_class = keras.layers.Conv2DTranspose if transposed and stride > 1 else keras.layers.Conv2D
            self.stages.append(layer_class(
                width, kernel, strides=stride, padding="same", kernel_initializer=initializer, dtype=self.dtype_policy,
                activation=None if linear_output and i == count - 1 else activation, name=f"conv_{i}"))

    def build(self, input_shape):
        for stage in self.stages:
            stage.build(input_shape)
            input_shape = stage.compute_output_shape(input_shape)
        self.built = True

    def compute_output_shape(self, input_shape):
        for stage in self.stages:
            input_shape = stage.compute_output_shape(input_shape)
        return input_shape

    def call(self, x):
        for stage in self.stages:
            x = stage(x)
        return x


def as_tuple(value, count):
    """Returns `value` as a tuple of length `count`: one number is repeated, a tuple must have that length."""
    values = (value,) * count if isinstance(value, int) else tuple(value)
    if len(values) == 1:
        values = values * count
    if len(values) != count:
        raise ValueError(f"Expected one number or {count} numbers, one per layer. Received: {value}.")
    return values
