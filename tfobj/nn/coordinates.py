"""Coordinate channels: the position of every pixel as numbers that a convolution can use."""

import keras
import numpy as np

from tfobj.nn.layers import Dense, own_initializer


def linear_grid(height, width):
    """Returns [H, W, 2] float32: (row, column), each linspace(-1, 1) inclusive.

    Source: Watters 2019; Greff 2019.
    """
    rows = np.linspace(-1, 1, height)
    columns = np.linspace(-1, 1, width)
    return np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).astype(np.float32)


def border_grid(height, width):
    """Returns [H, W, 4] float32: (r, c, 1 - r, 1 - c) with r, c = linspace(0, 1).

    Source: Locatello 2020.
    """
    rows, columns = np.meshgrid(np.linspace(0, 1, height), np.linspace(0, 1, width), indexing="ij")
    return np.stack([rows, columns, 1 - rows, 1 - columns], axis=-1).astype(np.float32)


def cosine_grid(height, width, order=3):
    """Returns [H, W, order**2 - 1] float32: cos(i pi u) cos(j pi v) without the constant i = j = 0.

    u, v = linspace(0, 1) along width and height. The released IODINE takes order 3, eight
    channels, on its sprite sets.
    """
    u = np.cos(np.pi * np.outer(np.linspace(0, 1, width), np.arange(order)))  # [W, order]
    v = np.cos(np.pi * np.outer(np.linspace(0, 1, height), np.arange(order)))  # [H, order]
    waves = np.einsum("hj,wi->hwij", v, u).reshape(height, width, order**2)
    return waves[..., 1:].astype(np.float32)


def grid_weight(layer, grid, name="grid"):
    """Holds `grid` as a non-trainable float32 weight of `layer`.

    A weight is a parameter of an exported step; a constant would be folded into its graph once
    per use.
    """
    return layer.add_weight(
        name=name,
        shape=grid.shape,
        trainable=False,
        autocast=False,
        dtype="float32",
        initializer=keras.initializers.Constant(grid),
    )


@keras.saving.register_keras_serializable("tfobj")
class PositionEmbedding(keras.layers.Layer):
    """Adds a learned projection of `border_grid` to feature maps [B, H, W, C].

    Source: Locatello 2020, soft position embedding.
    """

    def __init__(self, initializer="glorot_uniform", bias_initializer="zeros", **kwargs):
        super().__init__(**kwargs)
        self.initializer = initializer
        self.bias_initializer = bias_initializer

    def build(self, input_shape):
        _, height, width, channels = input_shape
        self.grid = grid_weight(self, border_grid(height, width))
        self.projection = Dense(
            channels,
            kernel_initializer=own_initializer(self.initializer),
            bias_initializer=own_initializer(self.bias_initializer),
            dtype=self.dtype_policy,
            name="projection",
        )
        self.projection.build((None, height, width, 4))
        self.built = True

    def call(self, features):
        return features + self.projection(self.grid.value)
