"""Spatial broadcast decoder (Watters 2019): latents [N, D] -> images [N, H, W, C], with an exact, cheap first layer.

A broadcast decoder tiles its latent over the image, adds or appends where each pixel is, and convolves.
The first convolution therefore sees a constant image plus one map shared by all latents, and by linearity

    conv(tile(z) ++ grid) = S[class(y), class(x)] z + M(y, x).

Under SAME padding the taps that fall outside the image are missing near the border, so the matrix that
multiplies z depends on how many rows and columns are missing: k x k border classes, the whole interior
being one of them. Nothing is tiled and nothing convolved but the grid, once for all latents. This is the
only code path; `tests/nn/test_broadcast_decoder.py` holds it equal to the plain convolution.
"""

import keras
import numpy as np
import tensorflow as tf

from tfobj.nn import coordinates
from tfobj.nn.convolution import ConvStack, as_tuple


@keras.saving.register_keras_serializable("tfobj")
class BroadcastConv2D(keras.layers.Layer):
    """First stride-1 SAME convolution of a broadcast decoder: [N, D] -> [N, H, W, filters].

    Args:
      filters, kernel_size, activation: as for `keras.layers.Conv2D`; the kernel size is odd.
      size: (H, W) of the output.
      positions: "append" concatenates `linear_grid` to the latent (Greff 2019: kernel input D + 2);
        "add" adds a learned projection of `border_grid` to it (Locatello 2020: kernel input D).
      initializer: kernel initializer.
    """

    def __init__(self, filters, kernel_size, size, *, positions, activation=None, initializer="glorot_uniform", **kwargs):
        super().__init__(**kwargs)
        self.filters, self.kernel_size, self.size, self.positions = filters, kernel_size, tuple(size), positions
        self.activation = keras.activations.get(activation)
        self.initializer = keras.initializers.get(initializer)
        rows, self.row_repeats = _border_classes(self.size[0], kernel_size)
        columns, self.column_repeats = _border_classes(self.size[1], kernel_size)
        self.row_taps, self.column_taps = rows, columns

    def build(self, input_shape):
        latent_size = input_shape[-1]
        append = self.positions == "append"
        grid = (coordinates.linear_grid if append else coordinates.border_grid)(*self.size)
        self.grid = coordinates.grid_weight(self, grid)
        if not append:
            self.projection = keras.layers.Dense(latent_size, dtype=self.dtype_policy, name="projection")
            self.projection.build(grid.shape)
        k = self.kernel_size
        self.kernel = self.add_weight(name="kernel", shape=(k, k, latent_size + (2 if append else 0), self.filters),
                                      initializer=self.initializer)
        self.bias = self.add_weight(name="bias", shape=(self.filters,), initializer="zeros")
        self.latent_size = latent_size
        self.built = True

    def compute_output_shape(self, input_shape):
        return (input_shape[0], *self.size, self.filters)

    def operators(self):
        """Returns (S [rows, columns, D, filters], M [1, H, W, filters]), functions of the weights alone.

        A model that decodes several times per step computes them once and passes them to every call.
        """
        kernel = tf.cast(self.kernel, self.compute_dtype)
        latent_kernel = kernel[:, :, : self.latent_size]
        taps = [tf.constant(t, kernel.dtype) for t in (self.row_taps, self.column_taps)]
        border_sums = tf.einsum("id,je,dezc->ijzc", *taps, latent_kernel)
        if self.positions == "append":
            position_map, position_kernel = self.grid.value, kernel[:, :, self.latent_size:]
        else:
            position_map, position_kernel = self.projection(self.grid.value), latent_kernel
        position_map = tf.cast(position_map, kernel.dtype)[None]
        return border_sums, tf.nn.conv2d(position_map, position_kernel, 1, "SAME") + tf.cast(self.bias, kernel.dtype)

    def call(self, latents, operators=None):
        border_sums, position_map = operators or self.operators()
        x = tf.einsum("nz,ijzc->nijc", latents, border_sums)         # [N, rows, columns, filters]
        x = _expand(_expand(x, self.row_repeats, 1), self.column_repeats, 2)
        return self.activation(x + position_map)                     # [N, H, W, filters]


@keras.saving.register_keras_serializable("tfobj")
class BroadcastDecoder(keras.layers.Layer):
    """Latents [N, D] -> [N, H, W, channels[-1]] float32, the last layer linear.

    Args:
      size: (H, W) of the output.
      channels, kernel_sizes, strides: per layer; a stride above 1 is a transposed convolution.
      grid_size: (h, w) of the grid that the latent is broadcast to; default `size`. Together with the
        strides and `pixel_shuffle` it must reach `size`; what goes beyond is cropped at the lower and right border.
      pixel_shuffle: r > 1 makes the last layer yield r x r pixels per position (sub-pixel convolution, Shi 2016):
        the other layers then run at 1 / r of the resolution.
      coarse_channels: the last so many channels have one value per position and are enlarged bilinearly instead.
      positions, activation, initializer: see `BroadcastConv2D`.
    """

    def __init__(self, size, channels, kernel_sizes, strides=1, *, grid_size=None, pixel_shuffle=1, coarse_channels=0,
                 positions, activation="relu", initializer="glorot_uniform", **kwargs):
        super().__init__(**kwargs)
        self.fine_channels, self.coarse_channels = channels[-1] - coarse_channels, coarse_channels
        channels = (*channels[:-1], self.fine_channels * pixel_shuffle**2 + coarse_channels)
        self.pixel_shuffle = pixel_shuffle
        count = len(channels)
        kernel_sizes, strides = as_tuple(kernel_sizes, count), as_tuple(strides, count)
        self.size, grid_size = tuple(size), tuple(grid_size or size)
        reached = tuple(g * int(np.prod(strides)) * pixel_shuffle for g in grid_size)
        if reached[0] < size[0] or reached[1] < size[1]:
            raise ValueError(f"The decoder grid {grid_size} with strides {strides} reaches {reached[0]}x{reached[1]} pixels; "
                             f"the image has {size[0]}x{size[1]}.")
        common = {"dtype": self.dtype_policy}
        shared = {"positions": positions, "initializer": initializer, **common}
        if strides[0] == 1:
            first_kernel, first_channels, rest = kernel_sizes[0], channels[0], slice(1, None)
        else:  # An enlarging first layer is no stride-1 convolution: broadcast by the identity kernel instead.
            first_kernel, first_channels, rest = None, None, slice(0, None)
        self.first = (BroadcastConv2D(first_channels, first_kernel, grid_size, activation=activation, name="broadcast_conv", **shared)
                      if first_kernel else BroadcastGrid(grid_size, positions=positions, name="broadcast", **common))
        self.stack = ConvStack(channels[rest], kernel_sizes[rest], strides[rest], activation=activation, linear_output=True,
                               transposed=True, initializer=initializer, name="stack", **common)

    def build(self, input_shape):
        self.first.build(input_shape)
        self.stack.build(self.first.compute_output_shape(input_shape))
        self.built = True

    def operators(self):
        """Returns what depends on the weights alone; see `BroadcastConv2D.operators`."""
        return self.first.operators()

    def call(self, latents, operators=None):
        x = self.stack(self.first(latents, operators=operators))
        if self.pixel_shuffle > 1:
            x = self._enlarge(x)
        return tf.cast(x[:, : self.size[0], : self.size[1]], tf.float32)


    def _enlarge(self, x):
        """[N, h, w, channels] -> [N, r h, r w, fine + coarse channels]."""
        fine, coarse = tf.split(x, [x.shape[-1] - self.coarse_channels, self.coarse_channels], axis=-1)
        fine = tf.nn.depth_to_space(fine, self.pixel_shuffle)
        if not self.coarse_channels:
            return fine
        return tf.concat([fine, tf.cast(tf.image.resize(coarse, fine.shape[1:3]), fine.dtype)], axis=-1)


@keras.saving.register_keras_serializable("tfobj")
class BroadcastGrid(keras.layers.Layer):
    """Tiles latents [N, D] to [N, h, w, D (+ 2)] and adds or appends positions; for decoders that enlarge first."""

    def __init__(self, size, *, positions, **kwargs):
        super().__init__(**kwargs)
        self.size, self.positions = tuple(size), positions

    def build(self, input_shape):
        append = self.positions == "append"
        grid = (coordinates.linear_grid if append else coordinates.border_grid)(*self.size)
        self.grid = coordinates.grid_weight(self, grid)
        if not append:
            self.projection = keras.layers.Dense(input_shape[-1], dtype=self.dtype_policy, name="projection")
            self.projection.build(grid.shape)
        self.built = True

    def compute_output_shape(self, input_shape):
        return (input_shape[0], *self.size, input_shape[-1] + (2 if self.positions == "append" else 0))

    def operators(self):
        """Returns the position map [h, w, 2] or [h, w, D]."""
        return self.grid.value if self.positions == "append" else self.projection(self.grid.value)

    def call(self, latents, operators=None):
        positions = tf.cast(self.operators() if operators is None else operators, latents.dtype)
        if self.positions == "add":
            return latents[:, None, None, :] + positions
        batch = tf.shape(latents)[0]
        tiled = tf.broadcast_to(latents[:, None, None, :], [batch, *self.size, latents.shape[-1]])
        return tf.concat([tiled, tf.broadcast_to(positions, [batch, *positions.shape])], axis=-1)


def _border_classes(size, kernel_size):
    """Returns (taps [classes, k] of 0/1, repeats per class) along one axis of `size` pixels.

    Row i of `taps` says which of the k taps fall inside the image for the pixels of class i. Pixels
    closer to a border than k // 2 are classes of their own; all others share one.
    """
    if kernel_size % 2 == 0:
        raise ValueError(f"`kernel_size` must be odd. Received: kernel_size={kernel_size}.")
    reach = kernel_size // 2
    offsets = np.arange(-reach, reach + 1)
    inside = [((0 <= y + offsets) & (y + offsets < size)).astype(np.float32) for y in range(size)]
    if size < 2 * reach + 1:
        return np.stack(inside), [1] * size
    kept = [*range(reach + 1), *range(size - reach, size)]
    return np.stack([inside[y] for y in kept]), [1] * reach + [size - 2 * reach] + [1] * reach


def _expand(x, repeats, axis):
    """Repeats the slices of `x` along `axis`; slicing and broadcasting beat `tf.repeat` by 10 % of a decoder."""
    wide = max(range(len(repeats)), key=repeats.__getitem__)
    if repeats[wide] == 1:
        return x
    before, middle, after = tf.split(x, [wide, 1, len(repeats) - wide - 1], axis)
    shape = [tf.shape(x)[0], *x.shape[1:]]
    shape[axis] = repeats[wide]
    return tf.concat([before, tf.broadcast_to(middle, shape), after], axis)
