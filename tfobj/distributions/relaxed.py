"""Relaxed one-hot choices (Maddison et al. 2017, Jang et al. 2017) drawn from noise that is given.

TFP's `RelaxedOneHotCategorical` draws with its own generator, whose numbers differ between engines; here its sampler takes the
uniform noise of `tfobj.random`, and everything else is TFP's.
"""

import tensorflow as tf
import tensorflow_probability as tfp

tfd = tfp.distributions


def gumbel(uniform):
    """Returns standard Gumbel noise - log(- log u) of uniform noise in (0, 1)."""
    return -tf.math.log(-tf.math.log(uniform))


def relaxed_sample(distribution, uniform):
    """Draws from a `tfd.RelaxedOneHotCategorical`: softmax((logits + gumbel(u)) / temperature) over the last axis.

    Args:
      distribution: with logits [..., P].
      uniform: float32 [..., P] in (0, 1).

    Returns:
      [..., P], sums to one; nearly one-hot at small temperatures.
    """
    return tf.nn.softmax(
        (distribution.logits_parameter() + gumbel(uniform)) / distribution.temperature
    )
