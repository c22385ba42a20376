"""GECO (Rezende & Viola 2018): minimise the KL under the constraint that the reconstruction is good enough.

The constraint is an upper bound on the negative log likelihood, and a multiplier that follows its moving average enforces it.
Two forms are in use. EfficientMORL multiplies the likelihood (`ErrorMultiplier`, at least 1), GENESIS the KL (`KLMultiplier`,
around 1 at first). Both are functions of the mean over the global batch: one state, not one per worker as in the released
code of Emami 2021.

Targets are nats per pixel and channel in settings, and per image here.
"""

import math

import keras
import tensorflow as tf

HALF_LOG_2_PI = 0.5 * math.log(2.0 * math.pi)

EASY_ERROR = 0.05
"""Mean squared error at which a target counts as too easy: pictures of one colour may meet it."""


def gaussian_floor(scale, with_constant=True):
    """Returns the least negative log likelihood of one value under a normal (or a mixture of such), in nats: that of a perfect mean.

    Args:
      scale: standard deviation.
      with_constant: whether the likelihood counts 1/2 ln 2 pi (GENESIS does, EfficientMORL does not).
    """
    return math.log(scale) + (HALF_LOG_2_PI if with_constant else 0.0)


def mean_squared_error_at(target, scale, with_constant=True):
    """Returns the mean squared error at which the negative log likelihood of one value is `target`; negative below the floor."""
    return 2.0 * scale**2 * (target - gaussian_floor(scale, with_constant))


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
        """Returns the moving average of target - value, nats per image; positive where the constraint is met."""
        return tf.stop_gradient(tf.convert_to_tensor(self.average.value))


@keras.saving.register_keras_serializable("tfobj")
class ErrorMultiplier(_Multiplier):
    """Weighs the negative log likelihood: loss = KL + multiplier * NLL (Emami 2021, appendix F.2 and released code).

        average    <- decay average + (1 - decay) (target - NLL)
        beta       <- max(0.55, beta - rate average),     rate times `acceleration` while the constraint is met
        multiplier  = softplus(beta)                      >= 1.0055

    For `warm_steps` updates the multiplier is 1; the update after that sets the average, later ones move it. There is no
    upper bound: below the likelihood's floor, as with the published target on Tetrominoes, it grows for ever, which
    anneals the likelihood's scale.

    Args:
      target: bound on the NLL, nats per image.
      acceleration: of the way back.
    """

    MINIMUM = 0.55

    def __init__(
        self, target, *, acceleration=1.0, rate=1e-6, decay=0.99, warm_steps=1_000, **kwargs
    ):
        super().__init__(**kwargs)
        self.target, self.acceleration, self.rate, self.decay, self.warm_steps = (
            target,
            acceleration,
            rate,
            decay,
            warm_steps,
        )

    def build(self, input_shape=None):
        self.average = self._state("average", 0.0)
        self.beta = self._state("beta", self.MINIMUM)
        self.is_warm = self._state("is_warm", float(self.warm_steps == 0))
        self.built = True

    def multiplier(self):
        """Returns the weight of the negative log likelihood, a scalar without gradient."""
        beta, is_warm = (
            tf.convert_to_tensor(self.beta.value),
            tf.convert_to_tensor(self.is_warm.value),
        )
        return tf.stop_gradient(tf.where(is_warm > 0.0, tf.math.softplus(beta), 1.0))

    def update(self, nll, step):
        """Follows the mean NLL of an update; `step` updates were finished before it. An NLL that is not finite changes nothing."""
        average, beta = (
            tf.convert_to_tensor(self.average.value),
            tf.convert_to_tensor(self.beta.value),
        )
        slack = self.target - nll
        moved = self.decay * average + (1.0 - self.decay) * slack
        new_average = tf.where(
            step > self.warm_steps, moved, tf.where(step == self.warm_steps, slack, average)
        )
        rate = tf.where(new_average > 0.0, self.rate * self.acceleration, self.rate)
        new_beta = tf.where(
            step > self.warm_steps, tf.maximum(self.MINIMUM, beta - rate * new_average), beta
        )
        finite = tf.math.is_finite(nll)
        self.average.assign(tf.where(finite, new_average, average))
        self.beta.assign(tf.where(finite, new_beta, beta))
        self.is_warm.assign(tf.cast(step + 1 >= self.warm_steps, tf.float32))


@keras.saving.register_keras_serializable("tfobj")
class KLMultiplier(_Multiplier):
    """Weighs the KL: loss = NLL + multiplier * KL (released code of Engelcke 2020).

        average        <- decay average + (1 - decay) (target - NLL)           set by the first update
        log multiplier <- log multiplier + rate average                        rate times `speed_up` while the constraint is met

    The multiplier starts at 1 and is kept in `bounds`.

    Args:
      target: bound on the NLL, nats per image.
      rate: 1e-5 at 64 x 64 pixels, inversely proportional to their number.
    """

    def __init__(
        self, target, *, rate=1e-5, speed_up=10.0, decay=0.99, bounds=(1e-10, 1e10), **kwargs
    ):
        super().__init__(**kwargs)
        self.target, self.rate, self.speed_up, self.decay, self.bounds = (
            target,
            rate,
            speed_up,
            decay,
            bounds,
        )

    def build(self, input_shape=None):
        self.average = self._state("average", 0.0)
        self.log_multiplier = self._state("log_multiplier", 0.0)
        self.built = True

    def multiplier(self):
        """Returns the weight of the KL, a scalar without gradient."""
        return tf.stop_gradient(tf.exp(tf.convert_to_tensor(self.log_multiplier.value)))

    def update(self, nll, step):
        """Follows the mean NLL of an update; `step` updates were finished before it. An NLL that is not finite changes nothing."""
        average, log_multiplier = (
            tf.convert_to_tensor(self.average.value),
            tf.convert_to_tensor(self.log_multiplier.value),
        )
        slack = self.target - nll
        new_average = tf.where(step == 0, slack, self.decay * average + (1.0 - self.decay) * slack)
        rate = tf.where(new_average > 0.0, self.rate * self.speed_up, self.rate)
        low, high = (math.log(bound) for bound in self.bounds)
        finite = tf.math.is_finite(nll)
        self.average.assign(tf.where(finite, new_average, average))
        self.log_multiplier.assign(
            tf.where(
                finite,
                tf.clip_by_value(log_multiplier + rate * new_average, low, high),
                log_multiplier,
            )
        )
