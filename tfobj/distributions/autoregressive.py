"""Autoregressive Gaussian prior over the ordered latents of a scene (Engelcke et al. 2020, GENESIS).

    p(z_1) = N(0, I),   p(z_k | z_<k) = N(tanh(a_k), (sigmoid(b_k + 4) + 1e-4)^2),   [a_k, b_k] = step(z_{k-1}, state)

Density and sampling read the same conditionals. (The released code samples mask latents without the tanh, from another
density than the one that it trains; a commit of 2020-04-08 mended the scale in that place, not the mean.)
"""

import tensorflow as tf
import tensorflow_probability as tfp

from tfobj.nn.iteration import scan

tfd = tfp.distributions

MINIMUM_SCALE = 1e-4


def bounded_gaussian(parameters):
    """Returns `tfd.Normal` [..., D] with means in (-1, 1) and standard deviations in (1e-4, 1 + 1e-4), 0.982 for zeros.

    Args:
      parameters: [..., 2 D], the concatenation [a, b]: mean tanh(a), standard deviation sigmoid(b + 4) + 1e-4.

    Source: released code of Engelcke 2020.
    """
    a, b = tf.split(tf.cast(parameters, tf.float32), 2, axis=-1)
    return tfd.Normal(tf.tanh(a), tf.sigmoid(b + 4.0) + MINIMUM_SCALE)


class AutoregressiveGaussian(tfd.Distribution):
    """Distribution over sequences [K, D]; see the module's docstring.

    Args:
      step: function of (z_{k-1} [N, D], state) -> ([N, 2 D], state); the state is a tuple of tensors [N, ...].
      initial_state: function of N -> the state before the first step.
      num_slots: K, a Python integer or an int32 scalar tensor; at least 2.
      size: D.
    """

    def __init__(
        self,
        step,
        initial_state,
        num_slots,
        size,
        validate_args=False,
        allow_nan_stats=True,
        name="AutoregressiveGaussian",
    ):
        parameters = dict(locals())
        self._step, self._initial_state, self._num_slots, self._size = (
            step,
            initial_state,
            num_slots,
            size,
        )
        super().__init__(
            dtype=tf.float32,
            reparameterization_type=tfd.FULLY_REPARAMETERIZED,
            validate_args=validate_args,
            allow_nan_stats=allow_nan_stats,
            parameters=parameters,
            name=name,
        )

    def conditionals(self, z):
        """Returns p(z_k | z_<k) as `tfd.Normal` [N, K, D], the step fed with the given `z` [N, K, D]."""
        steps = tf.transpose(z, [1, 0, 2])

        def body(t, state):
            parameters, state = self._step(steps[t], state)
            return state, parameters

        _, parameters = scan(
            body, self._initial_state(steps.shape[1] or tf.shape(steps)[1]), self._num_slots - 1
        )
        later = bounded_gaussian(tf.transpose(parameters, [1, 0, 2]))  # [N, K - 1, D]
        first = [[0, 0], [1, 0], [0, 0]]  # N(0, I) before them
        return tfd.Normal(tf.pad(later.loc, first), tf.pad(later.scale, first, constant_values=1.0))

    def from_noise(self, noise):
        """Returns the samples z [N, K, D] that standard normal `noise` [N, K, D] makes, one slot after the other."""
        noises = tf.transpose(noise, [1, 0, 2])

        def body(t, state):
            z, state = state[0], state[1:]
            parameters, state = self._step(z, state)
            p = bounded_gaussian(parameters)
            z = p.loc + p.scale * noises[t + 1]
            return (z, *state), z

        state = self._initial_state(noises.shape[1] or tf.shape(noises)[1])
        _, later = scan(body, (noises[0], *state), self._num_slots - 1)
        return tf.transpose(tf.concat([noises[:1], later], axis=0), [1, 0, 2])

    def _log_prob(self, z):
        flat = tf.reshape(z, tf.concat([[-1], tf.shape(z)[-2:]], axis=0))
        flat = tf.ensure_shape(flat, [None, z.shape[-2], self._size])
        return tf.reshape(
            tf.reduce_sum(self.conditionals(flat).log_prob(flat), axis=[-2, -1]), tf.shape(z)[:-2]
        )

    def _sample_n(self, n, seed=None):
        shape = [n, self._num_slots, self._size]
        return self.from_noise(
            tf.ensure_shape(
                tf.random.stateless_normal(shape, tfp.random.sanitize_seed(seed)),
                [None, None, self._size],
            )
        )

    def _batch_shape_tensor(self, **parameters):
        return tf.zeros([0], tf.int32)

    def _batch_shape(self):
        return tf.TensorShape([])

    def _event_shape_tensor(self, **parameters):
        return tf.stack([self._num_slots, self._size])

    def _event_shape(self):
        return tf.TensorShape(
            [self._num_slots if isinstance(self._num_slots, int) else None, self._size]
        )

    @classmethod
    def _parameter_properties(cls, dtype, num_classes=None):
        return {}
