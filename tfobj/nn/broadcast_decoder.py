"""Spatial broadcast decoder (Watters 2019): latents [N, D] -> images [N, H, W, C], with an exact, cheap first layer.

A broadcast decoder tiles its latent over the image, adds or appends where each pixel is, and convolves.
The first convolution therefore sees a constant image plus one map shared by all latents, and by linearity

    conv(tile(z) ++ grid) = S[class(y), class(x)] z + M(y, x).

Where zeros are padded, the taps that fall on them are missing near the border, so the matrix that multiplies
z depends on which rows and columns are missing: under SAME padding k x k border classes, the whole interior
being one of them; under VALID padding a single class, one D x filters product. Nothing is tiled and nothing
convolved but the grid, once for all latents. This is the only code path;
`tests/nn/test_broadcast_decoder.py` holds it equal to the plain convolution.

Coordinates always span the grid that the latent is broadcast to: -1 and 1, or 0 and 1, lie on the outermost
pixels of the enlarged grid of MONet, GENESIS and EfficientMORL, not on those of the image.
"""

import itertools

import keras
import numpy as np
import tensorflow as tf

from tfobj.errors import UserError, unknown_name
from tfobj.nn import coordinates
from tfobj.nn.convolution import ConvStack, as_tuple, output_size, pad_zeros, zero_border
from tfobj.nn.layers import Dense, own_initializer

POSITIONS = {"append": coordinates.linear_grid, "add": coordinates.border_grid}


@keras.saving.register_keras_serializable("tfobj")
class BroadcastConv2D(keras.layers.Layer):
    """First stride-1 convolution of a broadcast decoder: [N, D] -> [N, h, w, filters].

    Args:
      filters, kernel_size, activation: as for `keras.layers.Conv2D`.
      size: (H, W) of the grid that the latent is broadcast to.
      positions: "append" concatenates `linear_grid` to the latent (Greff 2019: kernel input D + 2);
        "add" adds a learned projection of `border_grid` to it (Locatello 2020: kernel input D).
      padding: "same" (h = H; odd kernels); "valid" (h = H - k + 1); or p zeros on each side (h = H + 2 p - k + 1).
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
        self.filters, self.kernel_size, self.size = filters, kernel_size, tuple(size)
        self.positions, self.padding = _known(positions), padding
        self.activation = keras.activations.get(activation)
        self.initializer = own_initializer(initializer)
        self.border = zero_border(padding, kernel_size)
        self.output_size = tuple(
            output_size(side, kernel_size, padding=padding) for side in self.size
        )
        if min(self.output_size) < 1:
            raise UserError(
                f"A {kernel_size}x{kernel_size} kernel with padding={padding!r} does not fit into a grid of "
                f"{self.size[0]}x{self.size[1]}."
            )
        self.row_taps, self.row_repeats = _border_classes(self.size[0], kernel_size, self.border)
        self.column_taps, self.column_repeats = _border_classes(
            self.size[1], kernel_size, self.border
        )

    def build(self, input_shape):
        self.latent_size = input_shape[-1]
        self.grid, self.projection = _position_weights(self, self.latent_size)
        k, channels = self.kernel_size, self.latent_size + (2 if self.positions == "append" else 0)
        # Not cast on access: sums over taps are taken in float32 and rounded once.
        self.kernel = self.add_weight(
            name="kernel",
            shape=(k, k, channels, self.filters),
            initializer=self.initializer,
            autocast=False,
        )
        self.bias = self.add_weight(name="bias", shape=(self.filters,), initializer="zeros")
        self.built = True

    def compute_output_shape(self, input_shape):
        return (input_shape[0], *self.output_size, self.filters)

    def weight_terms(self):
        """Returns (S [rows, columns, D, filters], M [1, h, w, filters]), functions of the weights alone.

        A model that decodes several times per step computes them once and passes them to every call.
        """
        kernel = tf.convert_to_tensor(self.kernel)
        latent_kernel = kernel[:, :, : self.latent_size]
        taps = [tf.constant(t, kernel.dtype) for t in (self.row_taps, self.column_taps)]
        border_sums = tf.cast(
            tf.einsum("id,je,dezc->ijzc", *taps, latent_kernel), self.compute_dtype
        )
        position_kernel = (
            kernel[:, :, self.latent_size :] if self.positions == "append" else latent_kernel
        )
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
        x = _expand(_expand(x, self.row_repeats, 1), self.column_repeats, 2)
        return self.activation(x + position_map)  # [N, h, w, filters]


@keras.saving.register_keras_serializable("tfobj")
class BroadcastDecoder(keras.layers.Layer):
    """Latents [N, D] -> [N, H, W, channels[-1]] float32, the last layer linear.

    Args:
      size: (H, W) of the output.
      channels, kernel_sizes, strides: per layer; a stride above 1 is a transposed convolution.
      padding: of all layers: "same", "valid" or a number of zeros on each side; see `ConvStack`. The last two need a grid
        larger than the image: four 3 x 3 and one 1 x 1 VALID layer take H + 8 (MONet, GENESIS), five 3 x 3 take H + 10 and
        three 5 x 5 and one 3 x 3 with one zero H + 6 (EfficientMORL, "iodine" and "small").
      grid_size: (h, w) of the grid that the latent is broadcast to; default: the smallest that reaches `size` through
        kernels, padding, strides and `pixel_shuffle`. What goes beyond is cropped at the lower and right border.
      pixel_shuffle: r > 1 makes the last layer yield r x r pixels per position (sub-pixel convolution, Shi 2016):
        the other layers then run at 1 / r of the resolution.
      coarse_channels: the last so many channels have one value per position and are enlarged bilinearly instead.
      positions, activation, initializer: see `BroadcastConv2D`.

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
        self.fine_channels, self.coarse_channels = channels[-1] - coarse_channels, coarse_channels
        channels = (*channels[:-1], self.fine_channels * pixel_shuffle**2 + coarse_channels)
        self.pixel_shuffle = pixel_shuffle
        count = len(channels)
        kernel_sizes, strides = as_tuple(kernel_sizes, count), as_tuple(strides, count)
        self.size = tuple(size)

        def reached(side):
            for kernel_size, stride in zip(kernel_sizes, strides, strict=True):
                side = (
                    output_size(side, kernel_size, stride, padding, transposed=True)
                    if side > 0
                    else 0
                )
            return side * pixel_shuffle

        smallest = tuple(
            next(side for side in itertools.count(1) if reached(side) >= goal) for goal in self.size
        )
        grid_size = tuple(grid_size or smallest)
        if grid_size[0] < smallest[0] or grid_size[1] < smallest[1]:
            raise UserError(
                f"The decoder grid {grid_size} reaches {reached(grid_size[0])}x{reached(grid_size[1])} pixels "
                f"(kernels {kernel_sizes}, strides {strides}, padding={padding!r}, pixel_shuffle={pixel_shuffle}); "
                f"the image has {self.size[0]}x{self.size[1]}. The smallest grid that does is {smallest}."
            )
        common = {"dtype": self.dtype_policy}
        shared = {"positions": positions, "initializer": initializer, **common}
        if strides[0] == 1:
            rest = slice(1, None)
            self.first = BroadcastConv2D(
                channels[0],
                kernel_sizes[0],
                grid_size,
                padding=padding,
                activation=activation,
                name="broadcast_conv",
                **shared,
            )
        else:  # An enlarging first layer is no stride-1 convolution: it gets the tiled latent.
            rest = slice(0, None)
            self.first = BroadcastGrid(grid_size, name="broadcast", **shared)
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
            **common,
        )

    def build(self, input_shape):
        self.first.build(input_shape)
        self.stack.build(self.first.compute_output_shape(input_shape))
        self.built = True

    def weight_terms(self):
        """Returns what depends on the weights alone; see `BroadcastConv2D.weight_terms`."""
        return self.first.weight_terms()

    def call(self, latents, weight_terms=None):
        x = self.stack(self.first(latents, weight_terms=weight_terms))
        if self.pixel_shuffle > 1:
            x = self._enlarge(x)
        return tf.cast(x[:, : self.size[0], : self.size[1]], tf.float32)

    def _enlarge(self, x):
        """[N, h, w, channels] -> [N, r h, r w, fine + coarse channels]."""
        fine, coarse = tf.split(
            x, [x.shape[-1] - self.coarse_channels, self.coarse_channels], axis=-1
        )
        fine = tf.nn.depth_to_space(fine, self.pixel_shuffle)
        if not self.coarse_channels:
            return fine
        return tf.concat(
            [fine, tf.cast(tf.image.resize(coarse, fine.shape[1:3]), fine.dtype)], axis=-1
        )


@keras.saving.register_keras_serializable("tfobj")
class BroadcastGrid(keras.layers.Layer):
    """Tiles latents [N, D] to [N, h, w, D (+ 2)] and adds or appends positions; for decoders that enlarge first."""

    def __init__(self, size, *, positions, initializer="glorot_uniform", **kwargs):
        super().__init__(**kwargs)
        self.size, self.positions, self.initializer = tuple(size), _known(positions), initializer

    def build(self, input_shape):
        self.grid, self.projection = _position_weights(self, input_shape[-1])
        self.built = True

    def compute_output_shape(self, input_shape):
        return (
            input_shape[0],
            *self.size,
            input_shape[-1] + (2 if self.positions == "append" else 0),
        )

    def weight_terms(self):
        """Returns the position map [h, w, 2] or [h, w, D]."""
        return _position_map(self)

    def call(self, latents, weight_terms=None):
        positions = tf.cast(
            self.weight_terms() if weight_terms is None else weight_terms, latents.dtype
        )
        if self.positions == "add":
            return latents[:, None, None, :] + positions
        batch = tf.shape(latents)[0]
        tiled = tf.broadcast_to(latents[:, None, None, :], [batch, *self.size, latents.shape[-1]])
        return tf.concat([tiled, tf.broadcast_to(positions, [batch, *positions.shape])], axis=-1)


def _known(positions):
    if positions not in POSITIONS:
        raise unknown_name("`positions`", positions, POSITIONS)
    return positions


def _position_weights(layer, latent_size):
    """Returns (grid weight, Dense or None) of a layer with `size`, `positions` and `initializer`."""
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
    return layer.grid.value if layer.projection is None else layer.projection(layer.grid.value)


def _border_classes(size, kernel_size, border):
    """Returns (taps [classes, k] of 0/1, repeats per class) along one axis of `size` pixels between `border` zeros on each side.

    Row i of `taps` says which of the k taps fall on pixels for the outputs of class i. Outputs near a
    border are classes of their own; all those whose taps fall on pixels alone share one.
    """
    outputs = np.arange(output_size(size, kernel_size, padding=border))[:, None]
    sources = outputs - border + np.arange(kernel_size)
    inside = ((0 <= sources) & (sources < size)).astype(np.float32)
    starts = np.flatnonzero([True, *np.any(inside[1:] != inside[:-1], axis=1)])
    return inside[starts], np.diff([*starts, len(inside)]).tolist()


def _expand(x, repeats, axis):
    """Repeats the slices of `x` along `axis`; slicing and broadcasting beat `tf.repeat` by 10 % of a decoder.

    One class alone is left to the sum with the position map, which broadcasts.
    """
    wide = max(range(len(repeats)), key=repeats.__getitem__)
    if len(repeats) == 1 or repeats[wide] == 1:
        return x
    before, middle, after = tf.split(x, [wide, 1, len(repeats) - wide - 1], axis)
    shape = [tf.shape(x)[0], *x.shape[1:]]
    shape[axis] = repeats[wide]
    return tf.concat([before, tf.broadcast_to(middle, shape), after], axis)
