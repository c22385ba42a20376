"""Stacks of convolutions described by tuples, and the initial values of the released IODINE."""

import math

import keras
import tensorflow as tf

from tfobj.errors import UserError
from tfobj.nn import layers
from tfobj.nn.slots import batch_and_slots, batch_size, fold_slots, unfold_slots


@keras.saving.register_keras_serializable("tfobj")
class FanInTruncatedNormal(keras.initializers.Initializer):
    """Normal of stddev 1 / sqrt(fan_in) cut at two of them, not corrected for the cut (Sonnet 1).

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
    """Convolutions: [B, H, W, C] -> [B, h, w, channels[-1]].

    Under SAME padding h = H / prod(strides), rounded up.

    Args:
      channels: output channels of every layer.
      kernel_sizes: odd kernel size of every layer, or one number for all.
      strides: stride of every layer, or one number for all; a stride above 1 with `transposed=True`
        enlarges.
      padding: "same"; "valid"; or p zeros on each side, as PyTorch pads. For odd kernels and
        stride 1, p = k // 2 is "same"; at stride 2 they differ on even sides, where "same" pads
        one zero fewer before the first pixel.
      activation: Keras name, applied after every layer but the last if `linear_output`.
      linear_output: see `activation`.
      transposed: use transposed convolutions where the stride is above 1.
      initializer: kernel initializer. Every layer draws its own values, also from a shared instance
        without a seed.

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
        kernel_sizes = as_tuple(kernel_sizes, count)
        strides = as_tuple(strides, count)
        activations = [activation] * count
        if linear_output and activations:
            activations[-1] = None
        # `call` pads zeros by itself if their number is given.
        self.border = padding if isinstance(padding, int) else 0
        keras_padding = "valid" if isinstance(padding, int) else padding

        self.stages = []
        for i in range(count):
            # For the error if this padding does not suit the layer.
            output_size(1, kernel_sizes[i], strides[i], padding, transposed)
            enlarging = transposed and strides[i] > 1
            layer_class = layers.Conv2DTranspose if enlarging else layers.Conv2D
            self.stages.append(
                layer_class(
                    channels[i],
                    kernel_sizes[i],
                    strides=strides[i],
                    padding=keras_padding,
                    kernel_initializer=layers.own_initializer(initializer),
                    dtype=self.dtype_policy,
                    activation=activations[i],
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
        # Unknown sides stay unknown.
        height, width = (side and side + 2 * self.border for side in (height, width))
        return batch, height, width, channels


def convolve_slots(stack, shared, per_slot, num_slots):
    """Runs a `ConvStack` on the channels [shared, per slot] of B images with K slots each.

    The first layer is linear before its activation, so its product with the inputs that all slots
    of an image share is computed once per image. The stack was built for the sum of the channels,
    the shared ones first.

    Args:
      stack: `ConvStack` with "same" padding.
      shared: [B, 1, H, W, channels], or None.
      per_slot: [B, K, H, W, channels], or None.
      num_slots: K, a Python or tensor integer.

    Returns:
      [B * K, h, w, channels].
    """
    first, *others = stack.stages
    kernel = tf.cast(first.kernel, stack.compute_dtype)
    x = tf.cast(first.bias, stack.compute_dtype)

    num_shared = 0
    if shared is not None:
        num_shared = shared.shape[-1]
        x += _convolve_each(shared, kernel[:, :, :num_shared], first.strides)
    if per_slot is not None:
        x += _convolve_each(per_slot, kernel[:, :, num_shared:], first.strides)
    x = first.activation(x)  # [B, K or 1, h, w, channels]

    # Without inputs per slot all slots look alike so far.
    x = tf.broadcast_to(x, [batch_size(x), num_slots, *x.shape[2:]])
    x = fold_slots(x)  # [B * K, h, w, channels]
    for stage in others:
        x = stage(x)
    return x


def _convolve_each(x, kernel, strides):
    """Convolves [B, K, H, W, C] slot by slot."""
    batch, num_slots = batch_and_slots(x)
    y = tf.nn.conv2d(fold_slots(tf.cast(x, kernel.dtype)), kernel, strides, "SAME")
    return unfold_slots(y, batch, num_slots)


def output_size(size, kernel_size, stride=1, padding="same", transposed=False):
    """Returns the output pixels along one axis of a layer of `ConvStack` on `size` pixels.

    Below 1 if the kernel does not fit.
    """
    if transposed and stride > 1:
        if padding not in ("same", "valid"):
            raise UserError(
                '`padding` must be "same" or "valid" where a layer enlarges. '
                f"Received: padding={padding!r}, stride={stride}."
            )
        if padding == "same":
            return size * stride
        return size * stride + max(kernel_size - stride, 0)

    if padding == "same":
        return -(-size // stride)  # rounded up
    return (size + 2 * zero_border(padding, kernel_size) - kernel_size) // stride + 1


def zero_border(padding, kernel_size):
    """Returns the number of zeros that `padding` puts on each side at stride 1.

    k // 2 for "same", 0 for "valid"; a number is returned as it is.
    """
    if padding == "same":
        if kernel_size % 2 == 0:
            raise UserError(
                '`kernel_size` must be odd under padding="same". '
                f"Received: kernel_size={kernel_size}."
            )
        return kernel_size // 2

    if padding == "valid":
        return 0

    if isinstance(padding, int) and 0 <= padding < kernel_size:
        return padding
    raise UserError(
        '`padding` must be "same", "valid" or a number from 0 to kernel_size - 1 = '
        f"{kernel_size - 1}. Received: padding={padding!r}."
    )


def pad_zeros(x, border):
    """[B, H, W, C] -> [B, H + 2 border, W + 2 border, C]."""
    if not border:
        return x
    return tf.pad(x, [[0, 0], [border, border], [border, border], [0, 0]])


def crop(x, size):
    """[B, H, W, C] -> [B, *size, C]: cuts the lower and right border."""
    # A slice of everything is copied, and its gradient padded.
    if x.shape[1:3] == tuple(size):
        return x
    return x[:, : size[0], : size[1]]


def as_tuple(value, count):
    """Returns `value`, one number or `count` numbers, as a tuple of length `count`.

    Raises:
      ValueError: another number of numbers.
    """
    values = (value,) if isinstance(value, int) else tuple(value)
    if len(values) == 1:
        values = values * count
    if len(values) != count:
        raise ValueError(
            f"Expected one number or {count} numbers, one per layer. Received: {value}."
        )
    return values
