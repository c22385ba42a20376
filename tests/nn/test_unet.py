"""U-Net of MONet: widths, sizes of maps, resizing, instance norm."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfobj.errors import UserError
from tfobj.nn.unet import UNet, UNetBlock, block_widths, default_blocks, double, halve


@pytest.mark.parametrize(
    "size, expected",
    [
        ((32, 32), 4),
        ((35, 35), 4),
        ((64, 64), 5),
        ((96, 96), 5),
        ((128, 128), 6),
        ((128, 64), 5),
        ((9, 7), 2),
    ],
)
def test_default_blocks(size, expected):
    """floor(log2(shorter side)) - 1, at least 2; Burgess 2019: 5 for 64 x 64, 6 for 128 x 128."""
    assert default_blocks(size) == expected


@pytest.mark.parametrize(
    "num_blocks, down, up",
    [
        (2, (8, 16), (16, 8)),
        (3, (8, 16, 16), (16, 16, 8)),
        (4, (8, 16, 16, 16), (16, 16, 8, 8)),
        (5, (8, 8, 16, 16, 16), (16, 16, 8, 8, 8)),
        (6, (8, 8, 8, 16, 16, 16), (16, 16, 8, 8, 8, 8)),
    ],
)
def test_block_widths(num_blocks, down, up):
    assert block_widths(num_blocks, 8) == (down, up)


@pytest.mark.parametrize(
    "size, num_blocks, filters, expected",
    [((64, 64), 5, 32, 604_513), ((128, 128), 6, 32, 632_289)],
)
def test_parameters(size, num_blocks, filters, expected):
    net = UNet(num_blocks, filters)
    net.build((None, *size, 4))
    assert sum(int(np.prod(w.shape)) for w in net.trainable_weights) == expected and net.bottom == (
        4,
        4,
        2 * filters,
    )


@pytest.mark.parametrize(
    "size, num_blocks, bottom",
    [((35, 35), 4, (5, 5)), ((10, 12), 2, (5, 6)), ((9, 7), 3, (3, 2)), ((64, 48), 5, (4, 3))],
)
def test_any_size(size, num_blocks, bottom):
    """Halving rounds up, 35 -> 18 -> 9 -> 5, and the way up ends where it began."""
    net = UNet(num_blocks, 4, (8,))
    x = np.random.default_rng(0).normal(size=(2, *size, 4)).astype(np.float32)
    assert net(x).shape == (2, *size, 1) and net.bottom[:2] == bottom
    assert np.abs(net(x)).max() > 0


@pytest.mark.parametrize("size", [(8, 12), (35, 35), (7, 10)])
def test_halving_is_nearest_neighbour_resizing(size):
    """PyTorch's nearest at factor 1/2 takes pixel floor(2 i); TensorFlow's agrees on even sides."""
    x = np.random.default_rng(0).normal(size=(2, *size, 3)).astype(np.float32)
    half = halve(tf.constant(x)).numpy()
    assert half.shape[1:3] == tuple((side + 1) // 2 for side in size)
    for i, j in np.ndindex(half.shape[1:3]):
        np.testing.assert_array_equal(half[:, i, j], x[:, 2 * i, 2 * j])
    if not any(side % 2 for side in size):
        reference = tf.compat.v1.image.resize_nearest_neighbor(x, [side // 2 for side in size])
        np.testing.assert_array_equal(half, reference)


@pytest.mark.parametrize("size", [(10, 8), (9, 7)])
def test_doubling_is_nearest_neighbour_resizing_and_a_crop(size):
    x = np.random.default_rng(0).normal(size=(2, 5, 4, 3)).astype(np.float32)
    expected = tf.image.resize(x, (10, 8), method="nearest")[:, : size[0], : size[1]]
    np.testing.assert_array_equal(double(tf.constant(x), size), expected)


def test_norm_of_a_block_under_bfloat16_is_taken_in_float32():
    """At 200 bfloat16 has steps of 1: it holds neither the mean 200.5 nor right statistics."""
    block = UNetBlock(1, dtype="mixed_bfloat16")
    block.build((None, 1, 2, 1))
    block.convolution.kernel.assign(tf.reshape([0.0] * 4 + [1.0] + [0.0] * 4, [3, 3, 1, 1]))
    block.norm.beta.assign([2.0])
    y = block(tf.constant([200.0, 201.0], tf.bfloat16)[None, None, :, None])
    assert y.dtype == tf.bfloat16
    np.testing.assert_allclose(tf.cast(y, tf.float32)[0, 0, :, 0], [1, 3], atol=0.02)


def test_block_is_convolution_norm_and_relu_without_bias():
    block = UNetBlock(3)
    x = np.random.default_rng(0).normal(size=(2, 5, 6, 4)).astype(np.float32)
    y = block(x)
    assert [tuple(w.shape) for w in block.weights] == [(3, 3, 4, 3), (3,), (3,)]
    z = tf.nn.conv2d(x, block.convolution.kernel.value, 1, "SAME").numpy()
    z = (z - z.mean((1, 2), keepdims=True)) / np.sqrt(z.var((1, 2), keepdims=True) + 1e-5)
    np.testing.assert_allclose(y, np.maximum(z, 0), atol=1e-4)


def test_the_bottom_sees_the_whole_image():
    """A changed pixel reaches the opposite corner through the MLP: three blocks do not span it."""
    keras.utils.set_random_seed(0)
    net = UNet(3, 8, (16,))
    x = np.random.default_rng(0).normal(size=(1, 64, 64, 4)).astype(np.float32)
    moved = x.copy()
    moved[0, 0, 0] += 5.0
    assert np.abs(net(moved) - net(x))[0, -1, -1] > 0


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: UNet(1, 4), "`num_blocks` must be at least 2. Received: num_blocks=1."),
        (
            lambda: UNet(5, 4).build((None, 10, 12, 4)),
            "`num_blocks` must leave at least two pixels at the bottom of 10x12. "
            "Received: num_blocks=5.",
        ),
    ],
)
def test_wrong_numbers_of_blocks(make, message):
    with pytest.raises(UserError) as error:
        make()
    assert str(error.value) == message


def test_doubling_is_that_of_repeat_also_in_a_compiled_loop():
    """Values and gradients; XLA does not compile the gradient of tf.repeat within a loop."""
    x = tf.constant(np.random.default_rng(0).normal(size=(2, 3, 4, 5)), tf.float32)
    weights = tf.constant(np.random.default_rng(1).normal(size=(2, 6, 7, 5)), tf.float32)

    def reference(x):
        return tf.repeat(tf.repeat(x, 2, axis=1), 2, axis=2)[:, :6, :7]

    def value_and_gradient(function):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = tf.reduce_sum(tf.square(function(x)) * weights)
        return value, tape.gradient(value, x)

    @tf.function(jit_compile=True, autograph=False)
    def in_loop():
        def total(x):
            # An input of the loop: its gradient is taken within.
            return tf.while_loop(
                lambda i, _: i < 2,
                lambda i, sums: (i + 1, sums + 0.5 * double(x, (6, 7))),
                (0, tf.zeros_like(weights)),
                maximum_iterations=2,
            )[1]

        return value_and_gradient(total)

    expected = value_and_gradient(reference)
    for found in (value_and_gradient(lambda x: double(x, (6, 7))), in_loop()):
        np.testing.assert_array_equal(double(x, (6, 7)), reference(x))
        np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
        np.testing.assert_allclose(found[1], expected[1], rtol=1e-4, atol=1e-5)
