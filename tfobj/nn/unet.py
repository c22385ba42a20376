"""U-Net of MONet's attention network (Burgess 2019, appendix B.2), with an MLP at the bottom.

    down path   block 1 -> half -> block 2 -> half -> ... -> block n
                the output of every block is kept as its skip
    bottom      skip n, flattened -> Dense -> Dense -> Dense(size of skip n), all ReLU -> reshaped
    up path     [x, skip n] -> block -> double -> [x, skip n - 1] -> block -> double -> ...
                -> [x, skip 1] -> block
    output      1 x 1 convolution

A block is a 3 x 3 convolution without bias, an instance norm with learned gain and bias, and a
ReLU. Resizing is nearest-neighbour and works for any size: halving takes every second pixel, the
first one included, so it rounds up (35 -> 18 -> 9 -> 5); doubling repeats pixels and crops to the
size of the next skip.
"""

import keras
import tensorflow as tf

from tfobj.errors import UserError
from tfobj.nn.convolution import crop
from tfobj.nn.layers import Conv2D, own_initializer
from tfobj.nn.mlp import MLP


def default_blocks(size):
    """Returns the blocks per path for an image of `size` (H, W), at least 2.

    4 for 32 to 63 pixels on the shorter side, and one more whenever it doubles. Burgess 2019 gives
    5 for 64 x 64 and 6 for 128 x 128, which leaves 4 x 4 pixels at the bottom.
    """
    return max(2, min(size).bit_length() - 2)


def block_widths(num_blocks, filters):
    """Returns (down, up) channels of the blocks of both paths.

    The lowest three of the down path and the lowest two of the up path have twice `filters`. The
    paper gives no widths; for 4, 5 and 6 blocks these are those of a public re-implementation
    (Engelcke 2020's code). With fewer, the first and the last block stay narrow.
    """
    wide_down = min(3, num_blocks - 1)
    wide_up = min(2, num_blocks - 1)
    down = (filters,) * (num_blocks - wide_down) + (2 * filters,) * wide_down
    up = (2 * filters,) * wide_up + (filters,) * (num_blocks - wide_up)
    return down, up


@keras.saving.register_keras_serializable("tfobj")
class UNetBlock(keras.layers.Layer):
    """3 x 3 convolution without bias, group norm, ReLU: [B, H, W, C] -> [B, H, W, filters].

    Args:
      filters: output channels.
      initializer: of the kernel.
      groups: of the norm, which computes in float32; -1 for a group per channel, an instance norm.
    """

    def __init__(self, filters, initializer="glorot_uniform", groups=-1, **kwargs):
        super().__init__(**kwargs)
        # Without bias there is no bias gradient to lose in bfloat16 (`nn.layers`).
        self.convolution = keras.layers.Conv2D(
            filters,
            3,
            padding="same",
            use_bias=False,
            kernel_initializer=own_initializer(initializer),
            dtype=self.dtype_policy,
            name="conv",
        )
        self.norm = keras.layers.GroupNormalization(
            groups=groups, epsilon=1e-5, dtype="float32", name="norm"
        )

    def build(self, input_shape):
        self.convolution.build(input_shape)
        self.norm.build((*input_shape[:-1], self.convolution.filters))
        self.built = True

    def call(self, x):
        return tf.nn.relu(tf.cast(self.norm(self.convolution(x)), self.compute_dtype))


@keras.saving.register_keras_serializable("tfobj")
class UNet(keras.layers.Layer):
    """Image-shaped inputs [B, H, W, C] -> [B, H, W, channels] float32; see the module's docstring.

    Args:
      num_blocks: blocks per path; the lowest map has H / 2**(num_blocks - 1) pixels, rounded up.
      filters: narrow width; see `block_widths`.
      mlp_hidden: hidden units of the MLP at the bottom (128, 128 in the paper).
      channels: of the output; None for no output layer: the features of the last block.
      initializer: of all kernels.
      groups: of the norms; -1 for instance norms (MONet), 8 in GENESIS-V2.

    Raises:
      UserError: fewer than two blocks, or so many that a single pixel would be left at the bottom,
        which an instance norm makes zero.
    """

    def __init__(
        self,
        num_blocks,
        filters,
        mlp_hidden=(128, 128),
        channels=1,
        *,
        initializer="glorot_uniform",
        groups=-1,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if num_blocks < 2:
            raise UserError(f"`num_blocks` must be at least 2. Received: num_blocks={num_blocks}.")
        self.mlp_hidden = tuple(mlp_hidden)
        self.initializer = initializer

        common = {"initializer": initializer, "groups": groups, "dtype": self.dtype_policy}
        down, up = block_widths(num_blocks, filters)
        self.down = [UNetBlock(width, name=f"down_{i}", **common) for i, width in enumerate(down)]
        self.up = [UNetBlock(width, name=f"up_{i}", **common) for i, width in enumerate(up)]

        self.output_layer = None
        if channels is not None:
            self.output_layer = Conv2D(
                channels,
                1,
                kernel_initializer=own_initializer(initializer),
                dtype=self.dtype_policy,
                name="output",
            )

    def build(self, input_shape):
        _, height, width, channels = input_shape
        shapes = []
        for block in self.down:
            block.build((None, height, width, channels))
            channels = block.convolution.filters
            shapes.append((height, width, channels))
            # Halving rounds up.
            height = (height + 1) // 2
            width = (width + 1) // 2

        self.bottom = shapes[-1]
        height, width, channels = self.bottom
        if min(height, width) < 2:
            raise UserError(
                f"`num_blocks` must leave at least two pixels at the bottom of "
                f"{input_shape[1]}x{input_shape[2]}. Received: num_blocks={len(self.down)}."
            )

        size = height * width * channels
        self.mlp = MLP(
            (*self.mlp_hidden, size),
            linear_output=False,
            initializer=self.initializer,
            dtype=self.dtype_policy,
            name="mlp",
        )
        self.mlp.build((None, size))
        for block, (height, width, skip_channels) in zip(self.up, reversed(shapes), strict=True):
            block.build((None, height, width, channels + skip_channels))
            channels = block.convolution.filters
        if self.output_layer is not None:
            self.output_layer.build((None, height, width, channels))
        self.built = True

    def call(self, x):
        x = tf.cast(x, self.compute_dtype)
        skips = []
        for block in self.down:
            if skips:
                x = halve(x)
            x = block(x)
            skips.append(x)

        x = self.mlp(tf.reshape(x, [-1, self.mlp.stages[-1].units]))
        x = tf.reshape(x, [-1, *self.bottom])

        for block, skip in zip(self.up, reversed(skips), strict=True):
            size = skip.shape[1:3]
            if x.shape[1:3] != size:
                x = double(x, size)
            x = block(tf.concat([x, skip], axis=-1))
        if self.output_layer is not None:
            x = self.output_layer(x)
        return tf.cast(x, tf.float32)


def halve(x):
    """Takes every second pixel: [B, H, W, C] -> [B, ceil(H / 2), ceil(W / 2), C]."""
    # A pooling of single pixels, because the gradient of `x[:, ::2, ::2]` takes six times as long
    # on a CPU (2.1 against 0.35 ms, forward and backward, for [8, 64, 64, 32]).
    return tf.nn.avg_pool2d(x, 1, 2, "VALID")


def double(x, size):
    """Repeats every pixel of [B, h, w, C] along both axes and crops to `size` (H, W)."""
    return crop(_doubled(x), size)


@tf.custom_gradient
def _doubled(x):
    """[B, h, w, C] -> [B, 2 h, 2 w, C]."""
    # The gradient of a pooling of 2 x 2 pixels: 10 to 20 % faster than tf.repeat, forward and
    # backward, whose own gradient XLA does not compile within a loop.
    batch, height, width, channels = x.shape
    if batch is None:
        batch = tf.shape(x)[0]
    y = tf.raw_ops.AvgPoolGrad(
        orig_input_shape=[batch, 2 * height, 2 * width, channels],
        grad=4.0 * x,
        ksize=[1, 2, 2, 1],
        strides=[1, 2, 2, 1],
        padding="VALID",
    )
    return y, lambda upstream: 4.0 * tf.nn.avg_pool2d(upstream, 2, 2, "VALID")
