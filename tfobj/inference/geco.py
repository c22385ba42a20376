"""GECO: minimises the KL under the constraint that the reconstruction is good enough.

The constraint is an upper bound on the negative log likelihood (NLL), enforced by a multiplier
that follows its moving average (Rezende & Viola 2018). Two forms are in use. EfficientMORL
multiplies the likelihood (`ErrorMultiplier`, at least 1), GENESIS the KL (`KLMultiplier`,
starting at 1). Both are functions of the mean over the global batch: there is one state, not one
per worker as in the released code of Emami 2021.

Targets are nats per pixel and channel in settings, and nats per image here.
"""

import math

import keras
import tensorflow as tf


class _Multiplier(keras.layers.Layer):
    """State that checkpoints and exported steps carry like weights; assigned by `update` alone."""

    def __init__(self, **kwargs):
        super().__init__(autocast=False, dtype="float32", **kwargs)

    def _state(self, name, value):
        # Every replica computes the same new value from the mean over all of them.
        return self.add_weight(
            name=name,
            shape=(),
            initializer=keras.initializers.Constant(value),
            trainable=False,
            autocast=False,
            dtype="float32",
            aggregation="only_first_replica",
        )

    def constraint(self):
        """Returns the moving average of target - NLL, nats per image; positive while it is met."""
        return tf.stop_gradient(tf.convert_to_tensor(self.average.value))


@keras.saving.register_keras_serializable("tfobj")
class ErrorMultiplier(_Multiplier):
    """Weighs the negative log likelihood: loss = KL + multiplier * NLL.

        average    <- decay average + (1 - decay) (target - NLL)
        beta       <- max(0.55, beta - rate average)
        multiplier  = softplus(beta)                      >= 1.0055

    The rate is multiplied by `acceleration` while the constraint is met. For `warm_steps` updates
    the multiplier is 1; the update after them sets the average, later ones move it. There is no
    upper bound: with a target below the likelihood's floor, such as the published one on
    Tetrominoes, the multiplier grows forever, which anneals the likelihood's scale.

    Source: Emami 2021, appendix F.2 and released code.

    Args:
      target: bound on the NLL, nats per image.
      acceleration: how much faster the multiplier decays while the constraint is met.
      rate: step of beta per nat and update.
      decay: of the moving average.
      warm_steps: updates before the multiplier is in force.
    """

    MINIMUM = 0.55

    def __init__(
        self, target, *, acceleration=1.0, rate=1e-6, decay=0.99, warm_steps=1_000, **kwargs
    ):
        super().__init__(**kwargs)
        self.target = target
        self.acceleration = acceleration
        self.rate = rate
        self.decay = decay
        self.warm_steps = warm_steps

    def build(self, input_shape=None):
        self.average = self._state("average", 0.0)
        self.beta = self._state("beta", self.MINIMUM)
        self.is_warm = self._state("is_warm", float(self.warm_steps == 0))
        self.built = True

    def multiplier(self):
        """Returns the weight of the negative log likelihood, a scalar without gradient."""
        beta = tf.convert_to_tensor(self.beta.value)
        is_warm = tf.convert_to_tensor(self.is_warm.value)
        return tf.stop_gradient(tf.where(is_warm > 0.0, tf.math.softplus(beta), 1.0))

    def update(self, nll, step):
        """Moves the multiplier after an update; an NLL that is not finite changes nothing.

        Args:
          nll: mean NLL of the update, nats per image.
          step: updates finished before it.
        """
        average = tf.convert_to_tensor(self.average.value)
        beta = tf.convert_to_tensor(self.beta.value)

        slack = self.target - nll
        moved = self.decay * average + (1.0 - self.decay) * slack
        first = tf.where(step == self.warm_steps, slack, average)
        new_average = tf.where(step > self.warm_steps, moved, first)

        rate = tf.where(new_average > 0.0, self.rate * self.acceleration, self.rate)
        moved_beta = tf.maximum(self.MINIMUM, beta - rate * new_average)
        new_beta = tf.where(step > self.warm_steps, moved_beta, beta)

        finite = tf.math.is_finite(nll)
        self.average.assign(tf.where(finite, new_average, average))
        self.beta.assign(tf.where(finite, new_beta, beta))
        self.is_warm.assign(tf.cast(step + 1 >= self.warm_steps, tf.float32))


@keras.saving.register_keras_serializable("tfobj")
class KLMultiplier(_Multiplier):
    """Weighs the KL: loss = NLL + multiplier * KL.

        average        <- decay average + (1 - decay) (target - NLL)      set by the first update
        log multiplier <- log multiplier + rate average

    The rate is multiplied by `speed_up` while the constraint is met. The multiplier starts at 1 and
    is kept within `bounds`.

    Source: released code of Engelcke 2020.

    Args:
      target: bound on the NLL, nats per image.
      rate: 1e-5 at 64 x 64 pixels, inversely proportional to their number.
      speed_up: factor of the rate while the constraint is met.
      decay: of the moving average.
      bounds: (least, greatest) multiplier.
    """

    def __init__(
        self, target, *, rate=1e-5, speed_up=10.0, decay=0.99, bounds=(1e-10, 1e10), **kwargs
    ):
        super().__init__(**kwargs)
        self.target = target
        self.rate = rate
        self.speed_up = speed_up
        self.decay = decay
        self.bounds = bounds

    def build(self, input_shape=None):
        self.average = self._state("average", 0.0)
        self.log_multiplier = self._state("log_multiplier", 0.0)
        self.built = True

    def multiplier(self):
        """Returns the weight of the KL, a scalar without gradient."""
        return tf.stop_gradient(tf.exp(tf.convert_to_tensor(self.log_multiplier.value)))

    def update(self, nll, step):
        """Moves the multiplier after an update; an NLL that is not finite changes nothing.

        Args:
          nll: mean NLL of the update, nats per image.
          step: updates finished before it.
        """
        average = tf.convert_to_tensor(self.average.value)
        log_multiplier = tf.convert_to_tensor(self.log_multiplier.value)

        slack = self.target - nll
        moved = self.decay * average + (1.0 - self.decay) * slack
        new_average = tf.where(step == 0, slack, moved)

        rate = tf.where(new_average > 0.0, self.rate * self.speed_up, self.rate)
        low, high = (math.log(bound) for bound in self.bounds)
        new_log = tf.clip_by_value(log_multiplier + rate * new_average, low, high)

        finite = tf.math.is_finite(nll)
        self.average.assign(tf.where(finite, new_average, average))
        self.log_multiplier.assign(tf.where(finite, new_log, log_multiplier))
