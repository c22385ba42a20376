"""Relaxed one-hot choices (Maddison et al. 2017, Jang et al. 2017) drawn from given noise.

TFP's `RelaxedOneHotCategorical` draws with its own generator, whose numbers differ between engines.
Here the sampler takes the uniform noise of `tfobj.random`; everything else is TFP's.
"""

import tensorflow as tf
import tensorflow_probability as tfp

tfd = tfp.distributions


def gumbel(uniform):
    """Returns standard Gumbel noise - log(- log u) of uniform noise in (0, 1)."""
    return -tf.math.log(-tf.math.log(uniform))


def relaxed_sample(distribution, uniform):
    """Draws softmax((logits + gumbel(u)) / temperature) over the last axis.

    Args:
      distribution: `tfd.RelaxedOneHotCategorical` with logits [..., P].
      uniform: float32 [..., P] in (0, 1).

    Returns:
      [..., P], sums to one; nearly one-hot at small temperatures.
    """
    logits = distribution.logits_parameter() + gumbel(uniform)
    return tf.nn.softmax(logits / distribution.temperature)
