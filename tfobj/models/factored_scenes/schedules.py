"""Temperatures and the standard deviation of the likelihood, as functions of the update."""

import tensorflow as tf

from tfobj.inference.graph_schedules import step_function


def position_temperature(config, step):
    """Returns tau of the Gumbel-Softmax after `step` updates, a scalar tensor."""
    step = tf.cast(step, tf.float32)
    tau = config.position_temperature * tf.pow(
        2.0, step / config.position_temperature_doubling_steps
    )
    if config.first_position_temperature is not None:
        left = tf.maximum(0.0, 1.0 - step / config.position_anneal_steps)
        tau *= tf.pow(config.first_position_temperature / config.position_temperature, left)
    return tau


def depth_temperature(config, step):
    """Returns gamma of the soft depth order after `step` updates, a scalar tensor."""
    if config.final_depth_temperature is None:
        return tf.constant(config.depth_temperature)
    share = tf.minimum(1.0, tf.cast(step, tf.float32) / config.depth_anneal_steps)
    return config.depth_temperature * tf.pow(
        config.final_depth_temperature / config.depth_temperature, share
    )


def likelihood_scale(config, step):
    """Returns sigma after `step` updates, a scalar tensor; `step` is a tensor."""
    return step_function(
        step, config.likelihood_scale, config.later_scale, config.later_scale_from_step
    )
