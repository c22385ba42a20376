"""Coordinates, convolution stacks, MLPs, loops, initial values."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfobj.errors import UserError
from tfobj.nn import coordinates, layers
from tfobj.nn.convolution import ConvStack, FanInTruncatedNormal, as_tuple, output_size
from tfobj.nn.coordinates import PositionEmbedding
from tfobj.nn.iteration import iterate
from tfobj.nn.mlp import MLP
from tfobj.nn.slots import log_softmax_over_slots, softmax_over_slots


def test_linear_grid():
    grid = coordinates.linear_grid(3, 5)
    assert grid.shape == (3, 5, 2) and grid.dtype == np.float32
    np.testing.assert_allclose(grid[:, 0, 0], [-1, 0, 1])
    np.testing.assert_allclose(grid[0, :, 1], [-1, -0.5, 0, 0.5, 1])


def test_border_grid():
    grid = coordinates.border_grid(3, 5)
    assert grid.shape == (3, 5, 4)
    np.testing.assert_allclose(grid[:, 0, 0], [0, 0.5, 1])
    np.testing.assert_allclose(grid[0, :, 1], [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(grid[..., :2] + grid[..., 2:], 1)


def test_cosine_grid():
    grid = coordinates.cosine_grid(4, 6)
    assert grid.shape == (4, 6, 8)

    u = np.linspace(0, 1, 6)
    v = np.linspace(0, 1, 4)
    expected = np.stack(
        [
            np.cos(i * np.pi * u)[None] * np.cos(j * np.pi * v)[:, None]
            for i in range(3)
            for j in range(3)
        ][1:],
        -1,
    )

    np.testing.assert_allclose(grid, expected, atol=1e-6)


def test_position_embedding_adds_a_projection():
    layer = PositionEmbedding()
    features = np.random.default_rng(0).normal(size=(2, 3, 5, 4)).astype(np.float32)
    got = layer(features) - features
    kernel = layer.projection.kernel.numpy()
    bias = layer.projection.bias.numpy()
    np.testing.assert_allclose(
        got, np.broadcast_to(coordinates.border_grid(3, 5) @ kernel + bias, got.shape), atol=1e-6
    )
    assert len(layer.trainable_weights) == 2 and len(layer.non_trainable_weights) == 1


@pytest.mark.parametrize("side, expected", [(35, 5), (64, 8), (128, 16)])
def test_strided_stack_sizes(side, expected):
    """35 -> 18 -> 9 -> 5, as in the refinement network of Greff 2019 on Tetris."""
    stack = ConvStack((2, 2, 2), 5, 2, activation="elu")
    x = tf.zeros([1, side, side, 3])
    assert (
        stack(x).shape
        == (1, expected, expected, 2)
        == (1, *stack.compute_output_shape(x.shape)[1:])
    )


@pytest.mark.parametrize(
    "padding, strides, explicit",
    [
        ("same", (1, 1), "SAME"),
        ("valid", (1, 2), "VALID"),
        (2, (1, 1), [[0, 0], [2, 2], [2, 2], [0, 0]]),
        (1, (2, 1), [[0, 0], [1, 1], [1, 1], [0, 0]]),
    ],
    ids=str,
)
def test_stack_is_its_layers_in_order(padding, strides, explicit):
    stack = ConvStack(
        (4, 3), (5, 3), strides, padding=padding, activation="relu", linear_output=True
    )
    x = np.random.default_rng(0).normal(size=(2, 10, 11, 3)).astype(np.float32)
    y = stack(x)
    assert stack.compute_output_shape((None, *x.shape[1:]))[1:] == y.shape[1:]
    for i, stage in enumerate(stack.stages):
        x = tf.nn.conv2d(x, stage.kernel.value, strides[i], explicit) + stage.bias.value
        x = tf.nn.relu(x) if i == 0 else x
    np.testing.assert_allclose(y, x, atol=1e-5)
    assert y.numpy().min() < 0


def test_stack_enlarges_with_transposed_convolutions():
    stack = ConvStack((4, 4, 2), 5, (2, 2, 1), transposed=True)
    assert stack(tf.zeros([1, 3, 4, 2])).shape == (1, 12, 16, 2)
    assert [type(stage) for stage in stack.stages] == [
        layers.Conv2DTranspose,
        layers.Conv2DTranspose,
        layers.Conv2D,
    ]


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("padding", ["same", "valid", 0, 1])
@pytest.mark.parametrize("kernel_size", [1, 3, 5])
def test_output_size_is_that_of_the_stack(kernel_size, padding, transposed):
    for stride, side in [(1, 5), (2, 5), (2, 6), (3, 7)]:
        if (transposed and stride > 1 and padding in (0, 1)) or (padding == 1 and kernel_size == 1):
            with pytest.raises(UserError, match="^`padding` must be"):
                ConvStack((1,), kernel_size, stride, padding=padding, transposed=transposed)
            continue
        stack = ConvStack((1,), kernel_size, stride, padding=padding, transposed=transposed)
        assert stack(tf.zeros([1, side, 9, 1])).shape[1] == output_size(
            side, kernel_size, stride, padding, transposed
        )


def test_activation_after_the_last_layer_unless_linear():
    x = np.random.default_rng(0).normal(size=(4, 5, 5, 2)).astype(np.float32)
    assert ConvStack((3,), 3, linear_output=False)(x).numpy().min() == 0
    assert ConvStack((3,), 3, linear_output=True)(x).numpy().min() < 0


@pytest.mark.parametrize(
    "make, shape",
    [
        (lambda **kwargs: layers.Dense(3, **kwargs), (5000, 4)),
        (lambda **kwargs: layers.Dense(3, **kwargs), (2, 40, 50, 4)),
        (
            lambda **kwargs: layers.Conv2D(3, 3, strides=2, padding="valid", **kwargs),
            (4, 81, 63, 4),
        ),
        (
            lambda **kwargs: layers.Conv2DTranspose(3, 5, strides=2, padding="same", **kwargs),
            (4, 20, 24, 4),
        ),
    ],
    ids=["dense", "dense of maps", "convolution", "transposed"],
)
def test_bias_gradient_in_bfloat16(make, shape):
    """Keras' own layers lose a third or more of the gradient of a bias shared by many pixels."""
    rng = np.random.default_rng(0)
    x = tf.constant(rng.normal(size=shape), tf.float32)
    layer = make(activation="elu")
    low = make(activation="elu", dtype="mixed_bfloat16")
    for built in (layer, low):
        built.build(shape)
        for i, weight in enumerate(built.weights):
            weight.assign(np.random.default_rng(i).normal(0, 0.3, weight.shape))

    @tf.function
    def gradient(built):
        with tf.GradientTape() as tape:
            y = built(x)
            loss = tf.reduce_sum(tf.cast(y, tf.float32))
        return y, tape.gradient(loss, built.bias.value)

    y, expected = gradient(layer)
    low_y, got = gradient(low)
    assert low_y.dtype == tf.bfloat16 and got.dtype == tf.float32
    np.testing.assert_allclose(tf.cast(low_y, tf.float32), y, atol=0.03 * np.abs(y).max())
    np.testing.assert_allclose(got, expected, rtol=0.01)


def test_layers_of_stacks_that_share_an_initializer_differ():
    """Keras gives layers of one shape the same values if they share an instance."""
    shared = keras.initializers.VarianceScaling(4e-4, "fan_avg", "untruncated_normal")
    for stack, shape in [
        (ConvStack((3, 3), 3, initializer=shared), (None, 4, 4, 3)),
        (MLP((3, 3), initializer=shared), (None, 3)),
    ]:
        stack.build(shape)
        first, second = (np.asarray(stage.kernel) for stage in stack.stages)
        assert (
            not np.array_equal(first, second)
            and max(np.abs(first).max(), np.abs(second).max()) < 0.1
        )


def test_as_tuple():
    assert as_tuple(3, 2) == (3, 3) == as_tuple((3,), 2) and as_tuple([3, 5], 2) == (3, 5)
    with pytest.raises(
        ValueError, match=r"Expected one number or 3 numbers, one per layer. Received: \(1, 2\)."
    ):
        as_tuple((1, 2), 3)


@pytest.mark.parametrize("linear_output", [True, False])
def test_mlp(linear_output):
    mlp = MLP((5, 3), activation="elu", linear_output=linear_output)
    x = np.random.default_rng(0).normal(size=(2, 7, 4)).astype(np.float32)
    got = mlp(x)
    first, second = mlp.stages
    hidden = tf.nn.elu(x @ first.kernel.numpy() + first.bias.numpy())
    expected = hidden @ second.kernel.numpy() + second.bias.numpy()
    np.testing.assert_allclose(got, expected if linear_output else tf.nn.elu(expected), atol=1e-6)


def test_iterate_with_a_number_a_tensor_and_xla():
    def run(x, num_steps):
        return iterate(
            lambda t, state, _: (state[0] * 2 + tf.cast(t, tf.float32), state[1] + 1),
            (x, tf.constant(0)),
            num_steps,
        )

    expected = run(tf.constant(1.5), 4)
    assert float(expected[0]) == 1.5 * 16 + 11 and int(expected[1]) == 4
    for jit_compile in (False, True):
        got = tf.function(run, jit_compile=jit_compile)(tf.constant(1.5), tf.constant(4))
        np.testing.assert_allclose(got, expected)
    np.testing.assert_allclose(run(tf.constant(1.5), 0)[0], 1.5)


@pytest.mark.parametrize("shape, fan_in", [((5, 5, 8, 40), 200), ((300, 200), 300)])
def test_fan_in_truncated_normal(shape, fan_in):
    """Sonnet 1: stddev 1 / sqrt(fan_in) before the cut at two, so 0.8796 of that after it."""
    values = np.asarray(FanInTruncatedNormal()(shape)) * fan_in**0.5
    assert np.abs(values).max() <= 2.0 + 1e-6
    assert abs(values.std() - 0.8796) < 0.03 and abs(values.mean()) < 0.05


def test_fan_in_can_be_given_and_is_serialised():
    values = np.asarray(FanInTruncatedNormal(fan_in=4)((1000,)))
    assert abs(values.std() - 0.8796 / 2) < 0.05
    assert FanInTruncatedNormal.from_config(FanInTruncatedNormal(7).get_config()).fan_in == 7


@pytest.mark.parametrize("shape", [(2, 5), (3, 4, 6, 7, 1), (1, 1, 2, 2, 3)])
def test_softmax_over_slots_is_that_of_tensorflow(shape):
    """Values and gradients, also where logits are far apart."""
    logits = tf.constant(np.random.default_rng(0).normal(scale=30.0, size=shape), tf.float32)
    upstream = tf.constant(np.random.default_rng(1).normal(size=shape), tf.float32)
    pairs = (
        (softmax_over_slots, tf.nn.softmax),
        (log_softmax_over_slots, tf.nn.log_softmax),
    )
    for ours, reference in pairs:
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(logits)
            found = ours(logits)
            expected = reference(logits, axis=1)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(
            tape.gradient(found, logits, upstream),
            tape.gradient(expected, logits, upstream),
            rtol=1e-4,
            atol=1e-6,
        )


def test_softmax_over_slots_of_huge_logits_is_finite():
    logits = tf.constant([[1e30, -1e30, 0.0], [-200.0, -201.0, -1e4]])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = tf.reduce_sum(softmax_over_slots(logits)[:, 0])
    np.testing.assert_allclose(value, 1.0 + 1.0 / (1.0 + np.exp(-1.0)), rtol=1e-6)
    assert np.all(np.isfinite(tape.gradient(value, logits)))
