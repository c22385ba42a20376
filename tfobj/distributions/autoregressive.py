"""Autoregressive Gaussian prior over the ordered latents of a scene (GENESIS, Engelcke 2020).

    p(z_1)        = N(0, I)
    p(z_k | z_<k) = N(tanh(a_k), (sigmoid(b_k + 4) + 1e-4)^2),   [a_k, b_k] = step(z_{k-1}, state)

Density and sampling read the same conditionals. (The released code samples mask latents without
the tanh, from another density than the one that it trains; a commit of 2020-04-08 corrected the
scale in that place, but not the mean.)
"""

import tensorflow as tf
import tensorflow_probability as tfp

from tfobj.nn.iteration import scan
from tfobj.nn.slots import batch_size

tfd = tfp.distributions

MINIMUM_SCALE = 1e-4


def bounded_gaussian(parameters):
    """Returns a `tfd.Normal` [..., D] with bounded means and standard deviations.

    Means lie in (-1, 1), standard deviations in (1e-4, 1 + 1e-4); parameters of zero give 0 and
    0.982.

    Args:
      parameters: [..., 2 D], the concatenation [a, b]: mean tanh(a), standard deviation sigmoid(b
        + 4) + 1e-4.

    Source: released code of Engelcke 2020.
    """
    a, b = tf.split(tf.cast(parameters, tf.float32), 2, axis=-1)
    return tfd.Normal(tf.tanh(a), tf.sigmoid(b + 4.0) + MINIMUM_SCALE)


class AutoregressiveGaussian(tfd.Distribution):
    """Distribution over sequences [K, D]; see the module's docstring.

    Args:
      step: function of (z_{k-1} [N, D], state) -> ([N, 2 D], state); the state is a tuple of
        tensors [N, ...].
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
        self._step = step
        self._initial_state = initial_state
        self._num_slots = num_slots
        self._size = size
        super().__init__(
            dtype=tf.float32,
            reparameterization_type=tfd.FULLY_REPARAMETERIZED,
            validate_args=validate_args,
            allow_nan_stats=allow_nan_stats,
            parameters=parameters,
            name=name,
        )

    def conditionals(self, z):
        """Returns all p(z_k | z_<k), a `tfd.Normal` [N, K, D], for given `z` [N, K, D]."""
        by_slot = tf.transpose(z, [1, 0, 2])  # [K, N, D]

        def body(k, state):
            parameters, state = self._step(by_slot[k], state)
            return state, parameters

        state = self._initial_state(batch_size(z))
        _, parameters = scan(body, state, self._num_slots - 1)
        later = bounded_gaussian(tf.transpose(parameters, [1, 0, 2]))  # [N, K - 1, D]

        # N(0, I) before them.
        first = [[0, 0], [1, 0], [0, 0]]
        return tfd.Normal(tf.pad(later.loc, first), tf.pad(later.scale, first, constant_values=1.0))

    def from_noise(self, noise):
        """Turns standard normal `noise` [N, K, D] into samples z [N, K, D], slot by slot."""
        by_slot = tf.transpose(noise, [1, 0, 2])  # [K, N, D]

        def body(k, state):
            z, *state = state
            parameters, state = self._step(z, tuple(state))
            p = bounded_gaussian(parameters)
            z = p.loc + p.scale * by_slot[k + 1]
            return (z, *state), z

        state = self._initial_state(batch_size(noise))
        _, later = scan(body, (by_slot[0], *state), self._num_slots - 1)
        return tf.transpose(tf.concat([by_slot[:1], later], axis=0), [1, 0, 2])

    def _log_prob(self, z):
        flat = tf.reshape(z, tf.concat([[-1], tf.shape(z)[-2:]], axis=0))
        flat = tf.ensure_shape(flat, [None, z.shape[-2], self._size])
        log_prob = tf.reduce_sum(self.conditionals(flat).log_prob(flat), axis=[-2, -1])
        return tf.reshape(log_prob, tf.shape(z)[:-2])

    def _sample_n(self, n, seed=None):
        shape = [n, self._num_slots, self._size]
        noise = tf.random.stateless_normal(shape, tfp.random.sanitize_seed(seed))
        return self.from_noise(tf.ensure_shape(noise, [None, None, self._size]))

    def _batch_shape_tensor(self, **parameters):
        return tf.zeros([0], tf.int32)

    def _batch_shape(self):
        return tf.TensorShape([])

    def _event_shape_tensor(self, **parameters):
        return tf.stack([self._num_slots, self._size])

    def _event_shape(self):
        num_slots = self._num_slots if isinstance(self._num_slots, int) else None
        return tf.TensorShape([num_slots, self._size])

    @classmethod
    def _parameter_properties(cls, dtype, num_classes=None):
        return {}
