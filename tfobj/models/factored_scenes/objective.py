"""Losses of the two phases of training (Anciukevicius et al. 2020, section 4, training objective).

    objects   NLL + beta_z KL(z) + beta_d KL(d~) + beta_bg KL(z_bg)
              + lambda || E[q(theta)] - uniform ||_1
    scene     see `scene_prior`

The two regularisers of alpha are off by default.
"""

import math

import tensorflow as tf

from tfobj.distributions.gaussian import isotropic_nll
from tfobj.models.factored_scenes import schedules


def object_terms(config, penalty, image, recon, alphas, logits, kl_objects, kl_background):
    """Returns the terms of the object phase and of scores, {name: [B]}; `nll` under the last sigma.

    Args:
      config: `FactoredScenesConfig`.
      penalty: `PositionPenalty`.
      image, recon: [B, H, W, C].
      alphas: [B, J, H, W, 1].
      logits: [B, J, H, W], those of positions.
      kl_objects: [B, J, D + 1], nats.
      kl_background: [B, D_bg], nats.
    """
    squared_error = tf.reduce_sum(tf.square(image - recon), axis=[1, 2, 3])
    last_scale = config.later_scale or config.likelihood_scale
    terms = {
        "squared_error": squared_error,
        "mse": squared_error / num_values(config),
        "nll": isotropic_nll(squared_error, num_values(config), last_scale),
        "kl_appearance": tf.reduce_sum(kl_objects[..., :-1], axis=[1, 2]),
        "kl_depth": tf.reduce_sum(kl_objects[..., -1], axis=1),
        "kl_background": tf.reduce_sum(kl_background, axis=1),
        "position_distance": penalty.distance(penalty.probabilities(logits)),
        "alpha_entropy": tf.reduce_mean(binary_entropy(alphas), axis=[1, 2, 3, 4]),
        "alpha_area": tf.reduce_sum(alphas, axis=[1, 2, 3, 4]),
    }
    terms["kl"] = terms["kl_appearance"] + terms["kl_depth"] + terms["kl_background"]
    return terms


def phase_loss(config, terms, step):
    """Returns the loss of the phase that `step` falls into, and the terms, all means over scenes.

    `squared_error` makes way for the `nll` under the sigma of the step.

    Args:
      config: `FactoredScenesConfig`.
      terms: {name: scalar}, with those of the scene phase where there are any; is changed.
      step: int64 scalar, updates finished.
    """
    sigma = schedules.likelihood_scale(config, step)
    terms["nll"] = isotropic_nll(terms.pop("squared_error"), num_values(config), sigma)

    loss = (
        terms["nll"]
        + config.beta_appearance * terms["kl_appearance"]
        + config.beta_depth * terms["kl_depth"]
        + config.beta_background * terms["kl_background"]
        + config.position_penalty_weight * terms["position_distance"]
        + config.alpha_entropy_weight * terms["alpha_entropy"]
        + config.alpha_area_weight * terms["alpha_area"]
    )
    if "scene_kl" not in terms:
        return loss, terms

    # Modes are scored under both levels, so the step decides which of them is trained.
    scene = (
        terms["scene_positions_nll"]
        + terms["scene_appearance_nll"]
        + config.scene_kl_weight * terms["scene_kl"]
    )
    return tf.where(step < config.scene_from_step, loss, scene), terms


def num_values(config):
    """Returns H W C."""
    return math.prod(config.image_size) * config.channels


def binary_entropy(p):
    """Returns the entropy of a Bernoulli variable of probability `p`, in nats.

    Its gradients are finite at 0 and 1.
    """
    p = tf.clip_by_value(p, 1e-6, 1.0 - 1e-6)
    return -p * tf.math.log(p) - (1.0 - p) * tf.math.log(1.0 - p)
