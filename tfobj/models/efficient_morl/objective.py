"""Image likelihoods and loss weights of EfficientMORL (Emami 2021, Eqs. 8, 12 and 13).

Everything here starts from decoder outputs [B, K, H, W, C + 1]: colour logits, then the mask logit.
"""

import math

import tensorflow as tf
import tensorflow_probability as tfp

from tfobj.distributions.spatial_mixture import SpatialMixture
from tfobj.inference.gaussian_error import HALF_LOG_2_PI
from tfobj.models.base import DecodedScene
from tfobj.nn.slots import compose, softmax_over_slots, split_decoded

tfd = tfp.distributions


def decoded_scene(decoded):
    """Returns the `DecodedScene` of decoder outputs [B, K, H, W, C + 1]."""
    colours, mask_logits = split_decoded(decoded)
    colours = tf.sigmoid(colours)
    masks = softmax_over_slots(mask_logits)
    return DecodedScene(compose(masks, colours), masks, colours)


def negative_log_likelihood(decoded, image, config):
    """Returns - log p(x | z) [B] in nats, summed over pixels and channels.

    The constant 1/2 ln 2 pi of every pixel and channel is left out: the published GECO targets are
    for likelihoods without it.

    Args:
      decoded: [B, K, H, W, C + 1], decoder outputs.
      image: [B, H, W, C] in [0, 1].
      config: `EfficientMORLConfig`.
    """
    constant = HALF_LOG_2_PI * math.prod(image.shape[1:])

    # Eq. 12: one normal around the mixed mean.
    if config.likelihood == "gaussian":
        density = tfd.Normal(decoded_scene(decoded).recon, config.likelihood_scale)
        log_prob = tf.reduce_sum(density.log_prob(image), axis=[1, 2, 3])
        return -(log_prob + constant)

    # Eq. 13: a mixture over slots.
    colours, mask_logits = split_decoded(decoded)
    mixture = SpatialMixture(
        tf.sigmoid(colours), mask_logits, config.likelihood_scale, reduce=config.mixture_reduce
    )
    return -(mixture.log_prob(image) + constant)


def likelihood_and_gradient(decoded, image, config):
    """Returns (nll [B], (), d sum nll / d decoded), as `decode_and_score` wants it."""
    with tf.GradientTape() as tape:
        tape.watch(decoded)
        nll = negative_log_likelihood(decoded, image, config)
    return nll, (), tape.gradient(nll, decoded)


def refinement_loss_weight(r, num_steps, weighting):
    """Returns the weight of L_r in the loss (Eq. 8); that of L_0 is 1.

    Args:
      r: 0 ... num_steps, a Python or tensor integer; 0 is the loss before refinement.
      num_steps: I, a Python or tensor integer.
      weighting: "eq8": (I - r + 1) / (I + 1); "released": (I + 3 - r) / (I + 1).
    """
    if not isinstance(r, int) or not isinstance(num_steps, int):
        r = tf.cast(r, tf.float32)
        num_steps = tf.cast(num_steps, tf.float32)
    if weighting == "released":
        return (num_steps + 3 - r) / (num_steps + 1)
    return (num_steps + 1 - r) / (num_steps + 1)
