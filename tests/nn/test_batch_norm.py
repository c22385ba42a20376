"""`BatchNorm`: moments by hand, engines, precisions, parts of a batch, moving averages."""

import numpy as np
import pytest
import tensorflow as tf

from tfobj.nn.batch_norm import BatchNorm


def layer(channels=3, **arguments):
    norm = BatchNorm(**arguments)
    norm.build((None, None, None, channels))
    norm.gain.assign(np.linspace(0.5, 2.0, channels))
    norm.bias.assign(np.linspace(-1.0, 1.0, channels))
    return norm


def maps(batch=4, channels=3, seed=0):
    rng = np.random.default_rng(seed)
    return (
        rng.normal(size=(batch, 5, 6, channels)) * np.linspace(0.3, 3, channels)
        + np.linspace(-2, 4, channels)
    ).astype(np.float32)


def by_hand(x, norm):
    mean = x.mean((0, 1, 2), dtype=np.float64)
    variance = x.var((0, 1, 2), dtype=np.float64)
    return (x - mean) / np.sqrt(
        variance + norm.epsilon
    ) * norm.gain.numpy() + norm.bias.numpy(), np.stack([mean, variance + mean**2])


@pytest.mark.parametrize("compiled", [None, False, True], ids=["eager", "graph", "xla"])
def test_training_normalises_by_the_batch_and_returns_its_moments(compiled):
    norm = layer()
    x = maps()
    call = norm if compiled is None else tf.function(norm, jit_compile=compiled, autograph=False)
    y, statistics = call(tf.constant(x), training=True)
    expected, moments = by_hand(x, norm)
    np.testing.assert_allclose(y, expected, atol=1e-4)  # XLA takes E[x**2] - E[x]**2
    np.testing.assert_allclose(statistics[norm.key], moments, rtol=1e-5)
    np.testing.assert_array_equal(norm.moving_mean.numpy(), 0.0)


def test_moments_are_float32_under_bfloat16():
    norm = layer(dtype="mixed_bfloat16")
    x = maps(batch=64)
    rounded = tf.cast(tf.cast(x, tf.bfloat16), tf.float32).numpy()
    expected, moments = by_hand(rounded, norm)
    for training in (True, False):
        y, statistics = norm(tf.constant(x), training=training)
        assert y.dtype == tf.bfloat16
        if training:
            np.testing.assert_allclose(tf.cast(y, tf.float32), expected, atol=0.03)
            np.testing.assert_allclose(statistics[norm.key], moments, rtol=1e-5)


def test_gradient_is_that_of_the_written_out_form():
    norm = layer()
    x = tf.constant(maps())
    weights = tf.constant(np.random.default_rng(1).normal(size=x.shape), tf.float32)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        value = tf.reduce_sum(norm(x, training=True)[0] * weights)
        mean, variance = tf.nn.moments(x, [0, 1, 2])
        written_out = tf.reduce_sum(
            ((x - mean) * tf.math.rsqrt(variance + norm.epsilon) * norm.gain + norm.bias) * weights
        )

    for source in (x, norm.gain.value, norm.bias.value):
        np.testing.assert_allclose(
            tape.gradient(value, source), tape.gradient(written_out, source), atol=2e-4
        )


def test_moments_of_parts_average_to_those_of_the_whole():
    norm = layer()
    x = maps()
    moments = [norm(tf.constant(part), training=True)[1][norm.key] for part in (x, x[:2], x[2:])]
    np.testing.assert_allclose((moments[1] + moments[2]) / 2, moments[0], rtol=1e-5)


def test_averages_move_by_the_momentum_and_serve_evaluation():
    norm = layer(momentum=0.75)
    x = maps()
    _, statistics = norm(tf.constant(x), training=True)
    norm.update(statistics)
    mean = x.mean((0, 1, 2))
    variance = x.var((0, 1, 2))

    np.testing.assert_allclose(norm.moving_mean, 0.25 * mean, rtol=1e-4)
    np.testing.assert_allclose(norm.moving_variance, 0.75 + 0.25 * variance, rtol=1e-4)

    for _ in range(60):
        norm.update(statistics)

    y, nothing = norm(tf.constant(x), training=False)
    np.testing.assert_allclose(y, by_hand(x, norm)[0], atol=1e-4)
    assert nothing == {}
    np.testing.assert_allclose(norm(tf.constant(x[:1]))[0], y[:1], atol=1e-6)


def test_moments_that_are_not_finite_change_nothing():
    norm = layer()
    norm.update({norm.key: tf.constant([[1.0, np.nan, 1.0], [2.0, 2.0, np.inf]])})
    np.testing.assert_allclose(norm.moving_mean, [0.1, 0.0, 0.0])
    np.testing.assert_allclose(norm.moving_variance, [1.0, 1.0, 1.0])


@pytest.mark.parametrize("training", [True, False])
def test_offset_is_added_before_the_norm(training):
    """Outputs, statistics and gradients are those of x + offset."""
    norm = layer()
    norm.moving_mean.assign([0.3, -0.2, 1.0])
    x = tf.constant(maps())
    offset = tf.constant([0.5, -2.0, 3.0])
    weights = tf.constant(np.random.default_rng(1).normal(size=x.shape), tf.float32)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([x, offset])
        y, statistics = norm(x, offset, training=training)
        expected, expected_statistics = norm(x + offset, training=training)
        value = tf.reduce_sum(y * weights)
        expected_value = tf.reduce_sum(expected * weights)

    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)
    for key, moments in expected_statistics.items():
        np.testing.assert_allclose(statistics[key], moments, rtol=1e-4)
    for source in (x, offset):
        np.testing.assert_allclose(
            tape.gradient(value, source, unconnected_gradients="zero"),
            tape.gradient(expected_value, source),
            rtol=1e-3,
            atol=2e-3,
        )
