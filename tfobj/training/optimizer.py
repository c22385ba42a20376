"""Adam and RMSprop with the schedule and the clipping that these papers share."""

import keras
import tensorflow as tf

from tfobj.training.schedule import WarmupDecaySchedule, schedule_of


@keras.saving.register_keras_serializable("tfobj")
class WarmupDecay(keras.optimizers.schedules.LearningRateSchedule):
    """`schedule.WarmupDecaySchedule` in the graph; the arguments are its fields."""

    def __init__(self, *args, **kwargs):
        self.schedule = WarmupDecaySchedule(*args, **kwargs)

    def __call__(self, step):
        return self.schedule.at(tf.cast(step, tf.float32), tf.minimum, tf.maximum)

    def get_config(self):
        return self.schedule._asdict()


class _Global:
    """Mixin for optimizers whose `global_clipnorm` bounds the gradient of the global batch.

    They are handed gradients already summed over the replicas: call `replicas.sum_over` first.
    Keras sums after clipping: each replica's share is clipped by itself, and two replicas then
    differ from one on the joined batch (5e-3 in the weights after 16 steps of Adam, clipping
    active).
    """

    def _all_reduce_sum_gradients(self, grads_and_vars):
        """Replaces Keras' own reduction, which has been done before."""
        return grads_and_vars


@keras.saving.register_keras_serializable("tfobj")
class GlobalAdam(_Global, keras.optimizers.Adam):
    """Adam on gradients summed over replicas before they are clipped."""


@keras.saving.register_keras_serializable("tfobj")
class GlobalRMSprop(_Global, keras.optimizers.RMSprop):
    """RMSprop on gradients summed over replicas before they are clipped."""


def make_optimizer(config):
    """Returns the optimizer of a `TrainConfig`."""
    schedule = WarmupDecay(*schedule_of(config))
    name = config.optimizer  # One name for every instance, as for models.
    if name == "rmsprop":
        return GlobalRMSprop(
            schedule,
            rho=config.rmsprop_rho,
            epsilon=config.rmsprop_epsilon,
            global_clipnorm=config.clip_norm,
            name=name,
        )

    return GlobalAdam(
        schedule,
        beta_1=config.adam_beta_1,
        beta_2=config.adam_beta_2,
        epsilon=config.adam_epsilon,
        global_clipnorm=config.clip_norm,
        name=name,
    )
