"""Diagonal Gaussians of latents and pixels.

Iterative inference updates the parameters of a posterior additively: lambda = [loc, raw], with
variance = softplus(raw).
"""

import math

import tensorflow as tf
import tensorflow_probability as tfp

tfd = tfp.distributions

LOG_VARIANCE_BOUND = 10.0
MINIMUM_VARIANCE = 1e-5
"""Floor of the variance: keeps log and 1 / variance finite when raw runs to -infinity.

Its standard deviation is 0.3 % of that of a standard normal prior.
"""


def diagonal_gaussian(parameters):
    """Returns q(z) = N(loc, diag(softplus(raw) + MINIMUM_VARIANCE)) over the last axis.

    Args:
      parameters: [..., 2 D], the concatenation [loc, raw].

    Returns:
      `tfd.Independent` with batch shape [...] and event shape [D].

    Source: released code of Greff 2019, where the softplus is the variance and not the standard
    deviation; the floor is ours.
    """
    loc, raw = tf.split(tf.cast(parameters, tf.float32), 2, axis=-1)
    scale = tf.sqrt(tf.math.softplus(raw) + MINIMUM_VARIANCE)
    return tfd.Independent(tfd.Normal(loc, scale), 1)


def log_variance_gaussian(parameters):
    """Returns the `tfd.Normal` [..., D] of parameters [..., 2 D] = [loc, log variance].

    The log variance is clipped to +- `LOG_VARIANCE_BOUND`.
    """
    loc, log_variance = tf.split(tf.cast(parameters, tf.float32), 2, axis=-1)
    log_variance = tf.clip_by_value(log_variance, -LOG_VARIANCE_BOUND, LOG_VARIANCE_BOUND)
    return tfd.Normal(loc, tf.exp(0.5 * log_variance))


def isotropic_prior(shape, variance=1.0):
    """Returns N(0, variance I) with batch shape `shape[:-1]` and event shape `shape[-1:]`."""
    return tfd.Independent(tfd.Normal(tf.zeros(shape), tf.sqrt(tf.cast(variance, tf.float32))), 1)


def isotropic_nll(squared_error, num_values, scale):
    """Returns -log N(x; mean, scale^2 I) in nats, [...].

    Args:
      squared_error: [...], sum of squared errors over the values.
      num_values: number of values.
      scale: standard deviation.
    """
    constant = 0.5 * math.log(2.0 * math.pi) + tf.math.log(scale)
    return squared_error / (2.0 * scale**2) + num_values * constant


def negative_elbo_gradient(parameters, noise, latent_gradient, prior_variance=1.0):
    """Differentiates NLL(z) + KL(q || N(0, prior_variance I)), in closed form.

    The gradient is with respect to `parameters`.
    With z = loc + std * noise, v = std**2 = softplus(raw) + floor and g = d NLL / d z:

        d / d loc = g + loc / p                                              p: prior variance
        d / d raw = [g * noise / (2 std) + (1 / p - 1 / v) / 2] * sigmoid(raw)

    Args:
      parameters: [..., 2 D].
      noise: [..., D], the standard normal noise that made z.
      latent_gradient: [..., D], gradient of the negative log likelihood at z.
      prior_variance: p.

    Returns:
      [..., 2 D].
    """
    loc, raw = tf.split(parameters, 2, axis=-1)
    variance = tf.math.softplus(raw) + MINIMUM_VARIANCE
    d_loc = latent_gradient + loc / prior_variance
    d_variance = 0.5 * (
        latent_gradient * noise * tf.math.rsqrt(variance) + 1.0 / prior_variance - 1.0 / variance
    )
    return tf.concat([d_loc, d_variance * tf.sigmoid(raw)], axis=-1)
