"""Posterior Gaussians: KL against the closed form and Monte Carlo, gradients against autodiff."""

import numpy as np
import pytest
import tensorflow as tf

from tfobj.distributions import gaussian
from tfobj.distributions.gaussian import (
    MINIMUM_VARIANCE,
    diagonal_gaussian,
    isotropic_prior,
    negative_elbo_gradient,
)


def make_parameters(shape=(2, 3), size=4, seed=0):
    return np.random.default_rng(seed).normal(size=(*shape, 2 * size)).astype(np.float32)


def softplus(x):
    return np.logaddexp(0, x)


def test_parameters():
    parameters = make_parameters()
    q = diagonal_gaussian(parameters)
    assert q.batch_shape == (2, 3) and q.event_shape == (4,)
    np.testing.assert_allclose(q.mean(), parameters[..., :4])
    np.testing.assert_allclose(q.variance(), softplus(parameters[..., 4:]) + 1e-5, rtol=1e-5)


@pytest.mark.parametrize("prior_variance", [1.0, np.log(2.0)])
def test_kl_equals_the_closed_form(prior_variance):
    parameters = make_parameters().astype(np.float64)
    loc = parameters[..., :4]
    variance = softplus(parameters[..., 4:]) + MINIMUM_VARIANCE
    expected = 0.5 * (
        (variance + loc**2) / prior_variance - 1 - np.log(variance / prior_variance)
    ).sum(-1)
    got = diagonal_gaussian(parameters).kl_divergence(isotropic_prior([2, 3, 4], prior_variance))
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_kl_of_the_initial_posterior():
    """Greff 2019's prior N(0, 1) and lambda = 0, and the prior of its released code.

    The first gives half of (ln 2 - 1 - ln ln 2) = 0.0298 per dimension, the second 0.
    """
    q = diagonal_gaussian(np.zeros([1, 2], np.float32))
    np.testing.assert_allclose(q.kl_divergence(isotropic_prior([1, 1])), [0.0298], atol=1e-4)
    np.testing.assert_allclose(
        q.kl_divergence(isotropic_prior([1, 1], np.log(2.0))), [0.0], atol=1e-6
    )


def test_kl_equals_monte_carlo():
    q = diagonal_gaussian(make_parameters(()))
    p = isotropic_prior([4])
    z = q.sample(100_000, seed=(1, 2))
    draws = (q.log_prob(z) - p.log_prob(z)).numpy().astype(np.float64)
    np.testing.assert_allclose(
        draws.mean(), q.kl_divergence(p), atol=5 * draws.std() / len(draws) ** 0.5
    )


@pytest.mark.parametrize("prior_variance", [1.0, 0.7])
def test_gradient_equals_autodiff_of_the_whole_path(prior_variance):
    """lambda -> z = loc + std * noise -> an arbitrary nll(z), plus lambda -> KL."""
    parameters = tf.constant(make_parameters())
    noise = tf.constant(np.random.default_rng(1).normal(size=(2, 3, 4)), tf.float32)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(parameters)
        q = diagonal_gaussian(parameters)
        z = q.mean() + q.stddev() * noise
        nll = tf.reduce_sum(tf.sin(3 * z) + z**2 * tf.cast(tf.range(4), tf.float32))
        loss = nll + tf.reduce_sum(q.kl_divergence(isotropic_prior([2, 3, 4], prior_variance)))
    got = negative_elbo_gradient(parameters, noise, tape.gradient(nll, z), prior_variance)
    np.testing.assert_allclose(got, tape.gradient(loss, parameters), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("raw", [-1e4, -100.0, 0.0, 100.0])
def test_extremes_are_finite(raw):
    parameters = tf.constant([[0.5, raw]])
    q = diagonal_gaussian(parameters)
    prior = isotropic_prior([1, 1])
    with tf.GradientTape() as tape:
        tape.watch(parameters)
        kl = diagonal_gaussian(parameters).kl_divergence(prior)
    gradient = negative_elbo_gradient(parameters, tf.constant([[2.0]]), tf.constant([[1e5]]))
    for value in (q.stddev(), kl, tape.gradient(kl, parameters), gradient):
        assert np.isfinite(value).all()
    assert float(q.variance()[0, 0]) >= MINIMUM_VARIANCE * 0.999


def test_float32_under_bfloat16_parameters():
    assert diagonal_gaussian(tf.zeros([2, 4], tf.bfloat16)).dtype == tf.float32
    assert gaussian.isotropic_prior([3]).dtype == tf.float32
