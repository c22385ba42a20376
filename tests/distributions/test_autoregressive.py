"""The autoregressive prior: density and sampling are the same distribution."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tfobj.distributions.autoregressive import AutoregressiveGaussian, bounded_gaussian

K = 4
D = 3


def prior(num_slots=K):
    """A step with a memory: the running sum of what it read."""
    weights = tf.constant(np.random.default_rng(0).normal(size=(D, 2 * D)), tf.float32)

    def step(z, state):
        total = state[0] + z
        return tf.tanh(total) @ weights * 3.0, (total,)

    return AutoregressiveGaussian(step, lambda rows: (tf.zeros([rows, D]),), num_slots, D)


def noise(rows=5, seed=1):
    return tf.constant(np.random.default_rng(seed).normal(size=(rows, K, D)), tf.float32)


def test_means_and_scales_are_bounded():
    p = bounded_gaussian(tf.constant([[-80.0, 0.0, 80.0, -80.0, 0.0, 80.0]]))
    np.testing.assert_allclose(p.loc, [[-1.0, 0.0, 1.0]])
    np.testing.assert_allclose(p.scale, [[1e-4, 1 / (1 + np.exp(-4)) + 1e-4, 1.0001]], rtol=1e-5)


def test_density_is_the_product_of_its_conditionals():
    p = prior()
    z = noise()
    state = p._initial_state(5)
    expected = -0.5 * np.sum(z[:, 0] ** 2 + np.log(2 * np.pi), -1)
    for k in range(1, K):
        parameters, state = p._step(z[:, k - 1], state)
        loc = np.tanh(parameters[:, :D])
        scale = 1 / (1 + np.exp(-(parameters[:, D:] + 4))) + 1e-4
        expected += np.sum(
            -0.5 * ((z[:, k] - loc) / scale) ** 2 - np.log(scale) - 0.5 * np.log(2 * np.pi), -1
        )

    np.testing.assert_allclose(p.log_prob(z), expected, rtol=1e-5)
    assert p.log_prob(tf.stack([z, z])).shape == (2, 5)
    assert p.batch_shape == ()
    assert p.event_shape == (K, D)


@pytest.mark.parametrize("as_tensor", [False, True], ids=["integer", "tensor"])
def test_sampling_inverts_the_conditionals(as_tensor):
    """Samples made from noise, standardised by the teacher-forced conditionals, are that noise."""

    def both(e, num_slots):
        p = prior(num_slots if as_tensor else K)
        z = p.from_noise(e)
        q = p.conditionals(z)
        return z, (z - q.loc) / q.scale, q.scale

    z, again, scale = tf.function(both, autograph=False)(noise(), tf.constant(K))
    np.testing.assert_allclose(again, noise(), atol=1e-4)
    # So the noise does not come back for free.
    assert np.ptp(scale[:, 1:]) > 0.1
    assert np.abs(z - noise()).max() > 0.1


def test_samples_repeat_and_follow_the_density():
    p = prior()
    z = p.sample(4000, seed=[1, 2])
    np.testing.assert_array_equal(z, p.sample(4000, seed=[1, 2]))
    q = p.conditionals(z)
    standardised = (z - q.loc) / q.scale
    np.testing.assert_allclose(np.mean(standardised, 0), np.zeros((K, D)), atol=0.08)
    np.testing.assert_allclose(np.std(standardised, 0), np.ones((K, D)), atol=0.06)


def test_gradients_reach_samples_and_density():
    e = noise()
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(e)
        z = prior().from_noise(e)
        log_prob = prior().log_prob(e)
    for value in (z, log_prob):
        gradient = tape.gradient(value, e)
        assert np.isfinite(gradient).all() and (np.abs(gradient).max((0, 2)) > 0).all()


def test_monte_carlo_divergence_of_conditionals_is_the_closed_form():
    tfd = tfp.distributions
    p = bounded_gaussian(tf.constant([[0.3, -1.0, 0.5, -3.0]]))
    q = tfd.Normal(tf.constant([[0.1, 0.4]]), tf.constant([[0.5, 1.3]]))
    z = q.sample(40_000, seed=[3, 4])
    estimate = tf.reduce_mean(q.log_prob(z) - p.log_prob(z), axis=0)
    np.testing.assert_allclose(estimate, tfd.kl_divergence(q, p), rtol=0.05)
