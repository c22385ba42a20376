"""Compositing by depth: worked pixels, the painter's loop, laws, gradients."""

import numpy as np
import pytest
import tensorflow as tf

from tfobj.distributions.compositing import composite, hard_weights, soft_weights
from tfobj.models.factored_scenes.placement import Positions, place_canvases

ORDERINGS = ("soft_over", "softras", "softras_or")


def pixel(values):
    return tf.reshape(tf.constant(values, tf.float32), [1, -1, 1, 1, 1])


def painter(alphas, depths, colours):
    """From far to near: mu <- (1 - alpha) mu + alpha x; the background is the last colour."""
    mean = colours[-1]
    for j in np.argsort(-depths):
        mean = (1 - alphas[j]) * mean + alphas[j] * colours[j]
    return mean


def example(num_objects, seed=0, batch=3, binary=False):
    rng = np.random.default_rng(seed)
    alphas = rng.random((batch, num_objects, 5, 4, 1))
    alphas = (alphas > 0.5).astype(float) if binary else alphas
    depths = np.stack([rng.permutation(np.linspace(0.1, 0.9, num_objects)) for _ in range(batch)])
    return (
        alphas.astype(np.float32),
        depths.astype(np.float32),
        rng.random((batch, num_objects + 1, 5, 4, 3)).astype(np.float32),
    )


@pytest.mark.parametrize(
    "depths, ordering, weights, value",
    [
        ((0.2, 0.6), "hard", (0.8, 0.1, 0.1), 0.85),
        ((0.2, 0.6), "soft_over", (0.792806, 0.107194, 0.1), 0.846403),
        ((0.2, 0.6), "softras_or", None, 0.894907),
        ((0.4, 0.4), "soft_over", (0.6, 0.3, 0.1), 0.75),
        ((0.4, 0.4), "softras_or", None, 0.726923),
    ],
)
def test_worked_pixels(depths, ordering, weights, value):
    alphas = pixel([0.8, 0.5])
    depths = tf.constant([depths])
    found = (
        hard_weights(alphas, depths)
        if ordering == "hard"
        else soft_weights(alphas, depths, 0.1, ordering)
    )
    np.testing.assert_allclose(composite(found, pixel([1, 0.5, 0]))[0, 0, 0, 0], value, atol=2e-6)
    if weights:
        np.testing.assert_allclose(found[0, :, 0, 0, 0], weights, atol=2e-6)


@pytest.mark.parametrize(
    "depths, weights, value",
    [((0.2, 0.6), (0.988273, 0.011313, 0.000414), 0.993929), ((0.4, 0.4), None, 0.806155)],
)
def test_worked_pixels_of_liu(depths, weights, value, monkeypatch):
    monkeypatch.setattr("tfobj.distributions.compositing.BACKGROUND_NEARNESS", 0.0)
    found = soft_weights(pixel([0.8, 0.5]), tf.constant([depths]), 0.1, "softras")
    np.testing.assert_allclose(composite(found, pixel([1, 0.5, 0]))[0, 0, 0, 0], value, atol=2e-6)
    if weights:
        np.testing.assert_allclose(found[0, :, 0, 0, 0], weights, atol=2e-6)


@pytest.mark.parametrize("num_objects", [1, 2, 5])
def test_hard_weights_are_the_painters_loop(num_objects):
    alphas, depths, colours = example(num_objects)
    found = composite(hard_weights(alphas, depths), colours)
    for b in range(3):
        np.testing.assert_allclose(found[b], painter(alphas[b], depths[b], colours[b]), atol=1e-6)


@pytest.mark.parametrize("num_objects", [2, 3, 5])
def test_soft_over_becomes_the_painters_loop(num_objects):
    alphas, depths, colours = example(num_objects)
    hard = composite(hard_weights(alphas, depths), colours)
    error = [
        np.abs(composite(soft_weights(alphas, depths, gamma), colours) - hard).max()
        for gamma in (0.1, 0.01, 1e-3)
    ]
    assert error[0] < 0.3 and error[1] < 1e-3 and error[2] < 1e-5


@pytest.mark.parametrize("ordering, tolerance", [("softras", 0.06), ("softras_or", 1e-3)])
def test_softras_becomes_it_for_binary_alphas_alone(ordering, tolerance):
    """Up to the background.

    softras weighs it with exp(epsilon / gamma), against exp((1 - d) / gamma) of an opaque
    object far away.
    """
    for binary in (True, False):
        alphas, depths, colours = example(3, binary=binary)
        error = np.abs(
            composite(soft_weights(alphas, depths, 0.03, ordering), colours)
            - composite(hard_weights(alphas, depths), colours)
        ).max()
        assert error < tolerance if binary else error > 0.1


@pytest.mark.parametrize("ordering", ["hard", *ORDERINGS])
def test_weights_sum_to_one_and_follow_permutations(ordering):
    alphas, depths, _ = example(4)
    weigh = hard_weights if ordering == "hard" else lambda a, d: soft_weights(a, d, 0.1, ordering)
    weights = weigh(alphas, depths).numpy()
    np.testing.assert_allclose(weights.sum(1), np.ones((3, 5, 4, 1)), atol=1e-6)
    assert weights.min() >= -1e-6
    order = np.array([2, 0, 3, 1])
    permuted = weigh(alphas[:, order], depths[:, order]).numpy()
    np.testing.assert_allclose(permuted, weights[:, [*order, 4]], atol=1e-6)


@pytest.mark.parametrize("ordering", ["soft_over", "softras_or"])
def test_a_lone_object_keeps_its_alpha(ordering):
    alphas, depths, _ = example(1)
    np.testing.assert_allclose(
        soft_weights(alphas, depths, 0.1, ordering)[:, 0], alphas[:, 0], atol=2e-6
    )


def test_softras_makes_a_lone_object_opaque():
    alpha = 0.3
    depth = 0.5
    gamma = 0.1
    expected = alpha / (alpha + np.exp(-(1 - depth - 1e-3) / gamma))
    np.testing.assert_allclose(
        soft_weights(pixel([alpha]), tf.constant([[depth]]), gamma, "softras")[0, 0, 0, 0, 0],
        expected,
        rtol=1e-5,
    )


def test_equal_depths_are_ordered_by_index():
    weights = hard_weights(pixel([1.0, 1.0, 1.0]), tf.constant([[0.5, 0.5, 0.5]]))
    np.testing.assert_array_equal(weights[0, :, 0, 0, 0], [1, 0, 0, 0])


def depth_gradient(alphas, ordering):
    alphas = tf.constant(alphas)
    depths = tf.constant([[0.3, 0.4]])
    colours = pixel([0.2, 0.9, 0.5])
    with tf.GradientTape() as tape:
        tape.watch([alphas, depths])
        value = tf.reduce_sum(composite(soft_weights(alphas, depths, 0.1, ordering), colours))
    return tape.gradient(value, [alphas, depths])


@pytest.mark.parametrize("ordering", ORDERINGS)
@pytest.mark.parametrize("filling", [0.0, 1.0])
def test_gradients_are_finite_where_nothing_or_everything_is(ordering, filling):
    for gradient in depth_gradient(np.full((1, 2, 3, 3, 1), filling, np.float32), ordering):
        assert np.isfinite(gradient).all()


def placed_by_fourier(batch=2, size=64, canvas_size=24):
    """Returns alphas [B, 2, H, W, 1] of opaque squares, and where no object can be [B, H, W]."""
    maps = np.zeros((batch, 2, size, size), np.float32)
    maps[:, 0, 20, 17] = 1.0
    maps[:, 1, 24:28, 30:34] = 1 / 16
    canvas = np.ones((batch, 2, canvas_size, canvas_size, 4), np.float32)
    positions = Positions(None, tf.constant(maps), None)
    layers = place_canvases(tf.constant(canvas), positions, (size, size), premultiplied=False)

    empty = np.ones((batch, size, size), bool)
    empty[:, :48, :56] = False
    return layers.alphas, empty


@pytest.mark.parametrize("ordering", ORDERINGS)
@pytest.mark.parametrize("gamma", [0.1, 0.03, 0.015])
def test_rounding_of_placement_is_not_opaque(ordering, gamma):
    """At depth 0, softras made 1e-8 of coverage 99.99 % of the pixel at a gamma of 0.03."""
    alphas, empty = placed_by_fourier()
    noise = alphas.numpy()[:, :, ..., 0].max(axis=1)[empty]
    assert 1e-9 < noise.max() < 5e-7

    depths = tf.constant([[0.0, 0.5]] * 2)
    weights = soft_weights(alphas, depths, gamma, ordering).numpy()[..., 0]
    assert weights[:, :2].transpose(0, 2, 3, 1)[empty].max() < 1e-6
    assert weights[:, 2][empty].min() > 1 - 1e-6
    assert weights[:, 0, 20, 17].min() > 0.9  # objects are still there


@pytest.mark.parametrize("ordering", ORDERINGS)
@pytest.mark.parametrize("alpha", [0.0, 1e-30, 1e-8, 9e-7])
def test_a_trace_is_transparent_and_has_finite_gradients(ordering, alpha):
    alphas = pixel([alpha, alpha])
    depths = tf.constant([[0.0, 1.0]])
    with tf.GradientTape() as tape:
        tape.watch([alphas, depths])
        weights = soft_weights(alphas, depths, 0.015, ordering)
        value = tf.reduce_sum(composite(weights, pixel([0.2, 0.9, 0.5])))
    np.testing.assert_allclose(weights[0, :, 0, 0, 0], [0, 0, 1], atol=2e-6)
    for gradient in tape.gradient(value, [alphas, depths]):
        assert np.isfinite(gradient).all() and np.abs(gradient).max() <= 1.0


@pytest.mark.parametrize("ordering", ["softras", "softras_or"])
def test_the_least_coverage_leaves_larger_ones_as_they_are(ordering):
    alphas = np.array([2e-6, 0.3, 1.0])
    depths = np.array([0.2, 0.5, 0.7])
    found = soft_weights(pixel(alphas), tf.constant(depths[None], tf.float32), 0.1, ordering)
    weights = np.minimum(alphas, 1 - 1e-6) * np.exp((1 - depths) / 0.1)
    if ordering == "softras":
        expected = np.append(weights, np.exp(0.01)) / (weights.sum() + np.exp(0.01))
    else:
        coverage = 1 - np.prod(1 - np.minimum(alphas, 1 - 1e-6))
        expected = np.append(weights / weights.sum() * coverage, 1 - coverage)
    np.testing.assert_allclose(found[0, :, 0, 0, 0], expected, rtol=1e-4, atol=1e-6)


def test_depths_matter_where_objects_overlap():
    alphas = np.zeros((1, 2, 1, 4, 1), np.float32)
    alphas[0, 0, 0, :2] = alphas[0, 1, 0, 2:] = 1.0
    np.testing.assert_allclose(depth_gradient(alphas, "soft_over")[1], [[0.0, 0.0]], atol=1e-5)
    alphas[0, 1, 0, 1:] = 1.0
    nearer, farther = depth_gradient(alphas, "soft_over")[1][0]
    # The farther object is brighter: more of it means a larger value, and depth counts relatively.
    assert nearer > 0.1 and np.isclose(nearer, -farther)
