"""Relaxed one-hot draws from given noise, against TFP's own distribution."""

import numpy as np
import tensorflow_probability as tfp

from tfobj import random
from tfobj.distributions.relaxed import gumbel, relaxed_sample

tfd = tfp.distributions
PROBABILITIES = [0.1, 0.2, 0.3, 0.4]


def draws(temperature, num=20_000):
    distribution = tfd.RelaxedOneHotCategorical(
        temperature, logits=np.log(PROBABILITIES).astype(np.float32)
    )
    return distribution, relaxed_sample(
        distribution, random.uniform(random.make_seed(3), "test", [num, 4])
    ).numpy()


def test_draws_have_the_density_of_tfp():
    """Mean log density of our draws and of TFP's own agree within the error of either mean."""
    distribution, samples = draws(0.7)
    np.testing.assert_allclose(samples.sum(-1), 1.0, atol=1e-5)
    theirs = distribution.sample(20_000, seed=(1, 2))
    ours = distribution.log_prob(samples).numpy()
    expected = distribution.log_prob(theirs).numpy()
    assert (
        abs(ours.mean() - expected.mean()) < 4 * np.hypot(ours.std(), expected.std()) / 20_000**0.5
    )
    np.testing.assert_allclose(samples.mean(0), np.mean(theirs, 0), atol=0.01)


def test_cold_draws_are_one_hot_choices():
    _, samples = draws(1e-3)
    assert np.mean(samples.max(-1) > 0.999) > 0.99
    np.testing.assert_allclose(
        np.bincount(samples.argmax(-1), minlength=4) / len(samples), PROBABILITIES, atol=0.015
    )


def test_gumbel_noise():
    noise = gumbel(random.uniform(random.make_seed(4), "test", [1, 100_000])).numpy()
    assert np.isfinite(noise).all()
    np.testing.assert_allclose([noise.mean(), noise.var()], [0.5772, np.pi**2 / 6], rtol=0.02)
