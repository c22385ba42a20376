"""Spatial broadcast decoder: latents [N, D] -> images [N, H, W, C], with a cheap first layer.

A broadcast decoder (Watters 2019) tiles its latent over the image, adds or appends the position
of every pixel, and convolves. The first convolution therefore sees a constant image plus one map
shared by all latents, and by linearity

    conv(tile(z) ++ grid) = S[class(y), class(x)] z + M(y, x).

Near the border, taps that fall on padded zeros are missing, so the matrix that multiplies z
depends on which rows and columns are missing: under SAME padding there are k x k border classes,
of which the whole interior is one; under VALID padding there is a single class, one D x filters
product. Nothing is tiled, and only the grid is convolved, once for all latents. This is the only
code path; `tests/nn/test_broadcast_decoder.py` compares it with the plain convolution.

S and M are functions of the weights alone, the `weight_terms` of a decoder. A model that decodes
several times per step computes them once and passes them to every call.

Coordinates always span the grid that the latent is broadcast to: -1 and 1, or 0 and 1, lie on the
outermost pixels of the enlarged grid of MONet, GENESIS and EfficientMORL, not on those of the
image.
"""

import itertools

import keras
import numpy as np
import tensorflow as tf

from tfobj.errors import UserError, unknown_name
from tfobj.nn import coordinates
from tfobj.nn.convolution import (
    ConvStack,
    as_tuple,
    crop,
    output_size,
    pad_zeros,
    zero_border,
)
from tfobj.nn.layers import Dense, own_initializer

POSITIONS = {"append": coordinates.linear_grid, "add": coordinates.border_grid}


@keras.saving.register_keras_serializable("tfobj")
class BroadcastConv2D(keras.layers.Layer):
    """First stride-1 convolution of a broadcast decoder: [N, D] -> [N, h, w, filters].

    Args:
      filters: as for `keras.layers.Conv2D`, like `kernel_size` and `activation`.
      kernel_size: k.
      size: (H, W) of the grid that the latent is broadcast to.
      positions: "append" concatenates `linear_grid` to the latent (Greff 2019: kernel input D + 2);
        "add" adds a learned projection of `border_grid` to it (Locatello 2020: kernel input D).
      padding: "same" (h = H; odd kernels); "valid" (h = H - k + 1); or p zeros on each side
        (h = H + 2 p - k + 1).
      activation: see `filters`.
      initializer: of the kernel, and of the projection of "add".

    Raises:
      UserError: an unknown `positions` or `padding`, or a kernel larger than the padded grid.
    """

    def __init__(
        self,
        filters,
        kernel_size,
        size,
        *,
        positions,
        padding="same",
        activation=None,
        initializer="glorot_uniform",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.filters = filters
        self.kernel_size = kernel_size
        self.size = tuple(size)
        self.positions = _checked_positions(positions)
        self.padding = padding
        self.activation = keras.activations.get(activation)
        self.initializer = own_initializer(initializer)

        self.border = zero_border(padding, kernel_size)
        self.output_size = tuple(
            output_size(side, kernel_size, padding=padding) for side in self.size
        )
        if min(self.output_size) < 1:
            raise UserError(
                f"A {kernel_size}x{kernel_size} kernel with padding={padding!r} does not fit into "
                f"a grid of {self.size[0]}x{self.size[1]}."
            )

        height, width = self.size
        self.row_taps, self.row_repeats = _border_classes(height, kernel_size, self.border)
        self.column_taps, self.column_repeats = _border_classes(width, kernel_size, self.border)

    def build(self, input_shape):
        self.latent_size = input_shape[-1]
        self.grid, self.projection = _position_weights(self, self.latent_size)

        channels = self.latent_size + _num_appended(self.positions)
        # Not cast on access: sums over taps are taken in float32 and rounded once.
        self.kernel = self.add_weight(
            name="kernel",
            shape=(self.kernel_size, self.kernel_size, channels, self.filters),
            initializer=self.initializer,
            autocast=False,
        )
        self.bias = self.add_weight(name="bias", shape=(self.filters,), initializer="zeros")
        self.built = True

    def compute_output_shape(self, input_shape):
        return (input_shape[0], *self.output_size, self.filters)

    def weight_terms(self):
        """Returns (S [rows, columns, D, filters], M [1, h, w, filters]) of the module's docs."""
        kernel = tf.convert_to_tensor(self.kernel)
        latent_kernel = kernel[:, :, : self.latent_size]
        position_kernel = latent_kernel
        if self.positions == "append":
            position_kernel = kernel[:, :, self.latent_size :]

        # S: for every border class the sum over those taps that fall on pixels.
        taps = [tf.constant(t, kernel.dtype) for t in (self.row_taps, self.column_taps)]
        border_sums = tf.einsum("id,je,dezc->ijzc", *taps, latent_kernel)
        border_sums = tf.cast(border_sums, self.compute_dtype)

        # M: the convolution of the positions alone.
        position_map = tf.cast(_position_map(self), self.compute_dtype)[None]
        position_map = tf.nn.conv2d(
            pad_zeros(position_map, self.border),
            tf.cast(position_kernel, self.compute_dtype),
            1,
            "VALID",
        )
        return border_sums, position_map + tf.cast(self.bias, self.compute_dtype)

    def call(self, latents, weight_terms=None):
        border_sums, position_map = weight_terms or self.weight_terms()
        x = tf.einsum("nz,ijzc->nijc", latents, border_sums)  # [N, rows, columns, filters]
        x = _expand(x, self.row_repeats, axis=1)
        x = _expand(x, self.column_repeats, axis=2)
        return self.activation(x + position_map)  # [N, h, w, filters]


class GridTooSmall(UserError):
    """The grid to which latents are broadcast does not reach the size of the image."""


@keras.saving.register_keras_serializable("tfobj")
class BroadcastDecoder(keras.layers.Layer):
    """Latents [N, D] -> [N, H, W, channels[-1]] float32; the last layer is linear.

    `padding` "valid" and a number need a grid larger than the image: four 3 x 3 and one 1 x 1
    VALID layers take H + 8 (MONet, GENESIS), five 3 x 3 take H + 10, and three 5 x 5 and one 3 x
    3 with one zero take H + 6 (EfficientMORL, "iodine" and "small").

    Args:
      size: (H, W) of the output.
      channels: per layer.
      kernel_sizes: per layer, or one number for all.
      strides: the same; a stride above 1 is a transposed convolution.
      padding: of all layers: "same", "valid" or a number of zeros on each side; see `ConvStack`.
      grid_size: (h, w) of the grid that the latent is broadcast to; default: the smallest that
        reaches `size` through kernels, padding, strides and `pixel_shuffle`. Pixels beyond `size`
        are cropped at the lower and right border.
      pixel_shuffle: r > 1 makes the last layer yield r x r pixels per position (sub-pixel
        convolution, Shi 2016): the other layers then run at 1 / r of the resolution.
      coarse_channels: this many of the last channels have one value per position and are enlarged
        bilinearly instead.
      positions: see `BroadcastConv2D`.
      activation: after every layer but the last.
      initializer: see `BroadcastConv2D`.

    Raises:
      UserError: `grid_size` does not reach `size`.
    """

    def __init__(
        self,
        size,
        channels,
        kernel_sizes,
        strides=1,
        *,
        padding="same",
        grid_size=None,
        pixel_shuffle=1,
        coarse_channels=0,
        positions,
        activation="relu",
        initializer="glorot_uniform",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.size = tuple(size)
        self.pixel_shuffle = pixel_shuffle
        self.coarse_channels = coarse_channels
        self.fine_channels = channels[-1] - coarse_channels

        last = self.fine_channels * pixel_shuffle**2 + coarse_channels
        channels = (*channels[:-1], last)
        kernel_sizes = as_tuple(kernel_sizes, len(channels))
        strides = as_tuple(strides, len(channels))
        grid_size = _grid_size(self.size, grid_size, kernel_sizes, strides, padding, pixel_shuffle)

        first = {"positions": positions, "initializer": initializer, "dtype": self.dtype_policy}
        if strides[0] == 1:
            rest = slice(1, None)
            self.first = BroadcastConv2D(
                channels[0],
                kernel_sizes[0],
                grid_size,
                padding=padding,
                activation=activation,
                name="broadcast_conv",
                **first,
            )
        else:
            # An enlarging first layer is no stride-1 convolution: it gets the tiled latent.
            rest = slice(0, None)
            self.first = BroadcastGrid(grid_size, name="broadcast", **first)

        self.stack = ConvStack(
            channels[rest],
            kernel_sizes[rest],
            strides[rest],
            padding=padding,
            activation=activation,
            linear_output=True,
            transposed=True,
            initializer=initializer,
            name="stack",
            dtype=self.dtype_policy,
        )

    def build(self, input_shape):
        self.first.build(input_shape)
        self.stack.build(self.first.compute_output_shape(input_shape))
        self.built = True

    def weight_terms(self):
        """Returns the tensors that depend on the weights alone, for use in several calls."""
        return self.first.weight_terms()

    def call(self, latents, weight_terms=None):
        x = self.stack(self.first(latents, weight_terms=weight_terms))
        if self.pixel_shuffle > 1:
            x = self._enlarge(x)
        return tf.cast(crop(x, self.size), tf.float32)

    def _enlarge(self, x):
        """[N, h, w, channels] -> [N, r h, r w, fine + coarse channels]."""
        num_fine = x.shape[-1] - self.coarse_channels
        fine, coarse = tf.split(x, [num_fine, self.coarse_channels], axis=-1)
        fine = tf.nn.depth_to_space(fine, self.pixel_shuffle)
        if not self.coarse_channels:
            return fine

        coarse = tf.cast(tf.image.resize(coarse, fine.shape[1:3]), fine.dtype)
        return tf.concat([fine, coarse], axis=-1)


@keras.saving.register_keras_serializable("tfobj")
class BroadcastGrid(keras.layers.Layer):
    """Tiles latents [N, D] to [N, h, w, D (+ 2)] and adds or appends positions.

    For decoders whose first layer enlarges. Arguments as for `BroadcastConv2D`.
    """

    def __init__(self, size, *, positions, initializer="glorot_uniform", **kwargs):
        super().__init__(**kwargs)
        self.size = tuple(size)
        self.positions = _checked_positions(positions)
        self.initializer = initializer

    def build(self, input_shape):
        self.grid, self.projection = _position_weights(self, input_shape[-1])
        self.built = True

    def compute_output_shape(self, input_shape):
        batch, latent_size = input_shape
        return (batch, *self.size, latent_size + _num_appended(self.positions))

    def weight_terms(self):
        """Returns the position map [h, w, 2] or [h, w, D]."""
        return _position_map(self)

    def call(self, latents, weight_terms=None):
        if weight_terms is None:
            weight_terms = self.weight_terms()
        positions = tf.cast(weight_terms, latents.dtype)

        if self.positions == "add":
            return latents[:, None, None, :] + positions
        batch = tf.shape(latents)[0]
        tiled = tf.broadcast_to(latents[:, None, None, :], [batch, *self.size, latents.shape[-1]])
        return tf.concat([tiled, tf.broadcast_to(positions, [batch, *positions.shape])], axis=-1)


def _checked_positions(positions):
    if positions not in POSITIONS:
        raise unknown_name("`positions`", positions, POSITIONS)
    return positions


def _num_appended(positions):
    """Returns how many coordinate channels are appended to the latent."""
    return 2 if positions == "append" else 0


def _grid_size(size, grid_size, kernel_sizes, strides, padding, pixel_shuffle):
    """Returns the checked `grid_size` of a decoder, by default the smallest that reaches `size`."""

    def reached(side):
        for kernel_size, stride in zip(kernel_sizes, strides, strict=True):
            if side <= 0:
                return 0
            side = output_size(side, kernel_size, stride, padding, transposed=True)
        return side * pixel_shuffle

    def smallest_side(goal):
        return next(side for side in itertools.count(1) if reached(side) >= goal)

    smallest = tuple(smallest_side(goal) for goal in size)
    grid_size = tuple(grid_size or smallest)
    if grid_size[0] < smallest[0] or grid_size[1] < smallest[1]:
        raise GridTooSmall(
            f"The decoder grid {grid_size} reaches {reached(grid_size[0])}x{reached(grid_size[1])} "
            f"pixels (kernels {kernel_sizes}, strides {strides}, padding={padding!r}, "
            f"pixel_shuffle={pixel_shuffle}); the image has {size[0]}x{size[1]}. "
            f"The smallest grid that does is {smallest}."
        )
    return grid_size


def _position_weights(layer, latent_size):
    """Returns (grid weight, projection or None) of a layer with `size` and `positions`."""
    grid = POSITIONS[layer.positions](*layer.size)
    weight = coordinates.grid_weight(layer, grid)
    if layer.positions == "append":
        return weight, None

    projection = Dense(
        latent_size,
        kernel_initializer=own_initializer(layer.initializer),
        dtype=layer.dtype_policy,
        name="projection",
    )
    projection.build(grid.shape)
    return weight, projection


def _position_map(layer):
    """Returns [H, W, 2], the coordinates to append, or [H, W, D], their projection to add."""
    if layer.projection is None:
        return layer.grid.value
    return layer.projection(layer.grid.value)


def _border_classes(size, kernel_size, border):
    """Groups the outputs along one axis by the taps that fall on pixels.

    Outputs near a border are classes of their own; all those whose taps fall on pixels alone share
    one.

    Args:
      size: pixels along the axis.
      kernel_size: k.
      border: padded zeros on each side.

    Returns:
      (taps float32 [classes, k], 1 where the tap falls on a pixel; outputs per class).
    """
    outputs = np.arange(output_size(size, kernel_size, padding=border))[:, None]
    sources = outputs - border + np.arange(kernel_size)
    inside = ((sources >= 0) & (sources < size)).astype(np.float32)
    starts = np.flatnonzero([True, *np.any(inside[1:] != inside[:-1], axis=1)])
    return inside[starts], np.diff([*starts, len(inside)]).tolist()


def _expand(x, repeats, axis):
    """Repeats the slices of `x` along `axis`, only one of which may have more than one repeat.

    Slicing and broadcasting beat `tf.repeat` by 10 % of a decoder. A single class is left to the
    sum with the position map, which broadcasts.
    """
    wide = max(range(len(repeats)), key=repeats.__getitem__)
    if len(repeats) == 1 or repeats[wide] == 1:
        return x

    before, middle, after = tf.split(x, [wide, 1, len(repeats) - wide - 1], axis)
    shape = [tf.shape(x)[0], *x.shape[1:]]
    shape[axis] = repeats[wide]
    return tf.concat([before, tf.broadcast_to(middle, shape), after], axis)
