"""Stacks of convolutions described by tuples, and the initial values of the released IODINE."""

import math

import keras
import tensorflow as tf

from tfobj.errors import UserError
from tfobj.nn import layers


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
    """Convolutions: [B, H, W, C] -> [B, h, w, channels[-1]]; h = H / prod(strides) under SAME padding.

    Args:
      channels: output channels of every layer.
      kernel_sizes: odd kernel size of every layer, or one number for all.
      strides: stride of every layer, or one number for all; a stride above 1 with `transposed=True` enlarges.
      padding: "same"; "valid"; or p zeros on each side, as PyTorch pads. For odd kernels and stride 1, p = k // 2 is
        "same"; at stride 2 they differ on even sides, where "same" pads one zero fewer before the first pixel.
      activation: Keras name, applied after every layer but the last if `linear_output`.
      transposed: use transposed convolutions where the stride is above 1.
      initializer: kernel initializer. Every layer draws its own values, also from a shared instance without a seed.

    Raises:
      UserError: `padding` is no such value, or a number where a layer enlarges.
    """

    def __init__(
        self,
        channels,
        kernel_sizes,
        strides=1,
        *,
        padding="same",
        activation="relu",
        linear_output=False,
        transposed=False,
        initializer="glorot_uniform",
        **kwargs,
    ):
        super().__init__(**kwargs)
        count = len(channels)
        kernel_sizes, strides = as_tuple(kernel_sizes, count), as_tuple(strides, count)
        self.border = padding if isinstance(padding, int) else 0
        self.stages = []
        for i, (width, kernel, stride) in enumerate(
            zip(channels, kernel_sizes, strides, strict=True)
        ):
            output_size(1, kernel, stride, padding, transposed)  # complains about the padding
            layer_class = layers.Conv2DTranspose if transposed and stride > 1 else layers.Conv2D
            self.stages.append(
                layer_class(
                    width,
                    kernel,
                    strides=stride,
                    padding="same" if padding == "same" else "valid",
                    kernel_initializer=layers.own_initializer(initializer),
                    dtype=self.dtype_policy,
                    activation=None if linear_output and i == count - 1 else activation,
                    name=f"conv_{i}",
                )
            )

    def build(self, input_shape):
        for stage in self.stages:
            stage.build(self._padded(input_shape))
            input_shape = stage.compute_output_shape(self._padded(input_shape))
        self.built = True

    def compute_output_shape(self, input_shape):
        for stage in self.stages:
            input_shape = stage.compute_output_shape(self._padded(input_shape))
        return input_shape

    def call(self, x):
        for stage in self.stages:
            x = stage(pad_zeros(x, self.border))
        return x

    def _padded(self, shape):
        batch, height, width, channels = shape
        return (
            batch,
            height and height + 2 * self.border,
            width and width + 2 * self.border,
            channels,
        )


def convolve_slots(stack, shared, per_slot, num_slots):
    """Runs a `ConvStack` on the channels [shared, per slot] of B images with K slots each; returns [B * K, h, w, channels].

    Its first layer is linear before the activation, so what it makes of inputs that all slots of an image share is computed once
    per image. The stack was built for the sum of the channels, those that are shared first.

    Args:
      stack: `ConvStack` with "same" padding.
      shared: [B, 1, H, W, .], or None.
      per_slot: [B, K, H, W, .], or None.
      num_slots: K, a Python or tensor integer.
    """
    first, *others = stack.stages
    kernel = tf.cast(first.kernel, stack.compute_dtype)
    x = tf.cast(first.bias, stack.compute_dtype)
    num_shared = 0 if shared is None else shared.shape[-1]
    if shared is not None:
        x += _every_image(shared, kernel[:, :, :num_shared], first.strides)
    if per_slot is not None:
        x += _every_image(per_slot, kernel[:, :, num_shared:], first.strides)
    x = first.activation(x)  # [B, K or 1, h, w, channels]
    x = tf.reshape(
        tf.broadcast_to(x, [tf.shape(x)[0], num_slots, *x.shape[2:]]), [-1, *x.shape[2:]]
    )
    for stage in others:
        x = stage(x)
    return x


def _every_image(x, kernel, strides):
    """Convolution of [B, K, H, W, C] image by image."""
    folded = tf.reshape(tf.cast(x, kernel.dtype), [-1, *x.shape[2:]])
    y = tf.nn.conv2d(folded, kernel, strides, "SAME")
    return tf.reshape(y, [*tf.unstack(tf.shape(x)[:2]), *y.shape[1:]])


def output_size(size, kernel_size, stride=1, padding="same", transposed=False):
    """Returns how many of `size` pixels along one axis one layer of `ConvStack` makes; below 1 if the kernel does not fit."""
    if transposed and stride > 1:
        if padding not in ("same", "valid"):
            raise UserError(
                f'`padding` must be "same" or "valid" where a layer enlarges. Received: padding={padding!r}, stride={stride}.'
            )
        return size * stride + (max(kernel_size - stride, 0) if padding == "valid" else 0)
    if padding == "same":
        return -(-size // stride)
    return (size + 2 * zero_border(padding, kernel_size) - kernel_size) // stride + 1


def zero_border(padding, kernel_size):
    """Returns how many zeros `padding` puts on each side at stride 1: k // 2 for "same", 0 for "valid", a number is itself."""
    if padding == "same":
        if kernel_size % 2 == 0:
            raise UserError(
                f'`kernel_size` must be odd under padding="same". Received: kernel_size={kernel_size}.'
            )
        return kernel_size // 2
    if padding == "valid":
        return 0
    if isinstance(padding, int) and 0 <= padding < kernel_size:
        return padding
    raise UserError(
        f'`padding` must be "same", "valid" or a number from 0 to kernel_size - 1 = {kernel_size - 1}. '
        f"Received: padding={padding!r}."
    )


def pad_zeros(x, border):
    """[B, H, W, C] -> [B, H + 2 border, W + 2 border, C]."""
    return tf.pad(x, [[0, 0], [border, border], [border, border], [0, 0]]) if border else x


def as_tuple(value, count):
    """Returns `value` as a tuple of length `count`: one number is repeated, a tuple must have that length."""
    values = (value,) * count if isinstance(value, int) else tuple(value)
    if len(values) == 1:
        values = values * count
    if len(values) != count:
        raise ValueError(
            f"Expected one number or {count} numbers, one per layer. Received: {value}."
        )
    return values
