"""Spatial mixture: every pixel of an image comes from one of K slots (Greff 2019, Eq. 1).

    log p(x) = sum_pixels logsumexp_k [ log m_k + sum_c log f(x_c; mu_kc, scale) ]
    m        = softmax_k(mask logits)

The colour channels of a pixel are joint within a component ("pixel"). MONet, GENESIS and
EfficientMORL instead take a mixture for every pixel and channel ("channel"), in which the
channels of a pixel may come from different slots:

    log p(x) = sum_pixels sum_c logsumexp_k [ log m_k + log f(x_c; mu_kc, scale) ]

f is Normal(sigma = 0.1) in Greff 2019 and Logistic(scale = 0.03) in its released configurations.
"""

from typing import Any, NamedTuple

import tensorflow as tf
import tensorflow_probability as tfp

from tfobj.nn.slots import compose, log_softmax_over_slots, softmax_over_slots

tfd = tfp.distributions

_HUGE = 1e30
"""Replaces infinity where inf - inf would make NaN."""


class PixelTerms(NamedTuple):
    """Everything that inference needs to know of an image under a mixture, from one pass.

    M is 1, or C where every channel has a mixture of its own.
    """

    log_prob: Any
    """[B, 1, H, W, M], nats."""
    component_log_prob: Any
    """[B, K, H, W, M], l_k = log f(x_c; mu_kc), summed over channels if M = 1."""
    responsibilities: Any
    """[B, K, H, W, M], r_k = p(k | x): sums to one over K."""
    means_gradient: Any
    """[B, K, H, W, C], d NLL / d mu_k."""
    logits_gradient: Any
    """[B, K, H, W, 1], d NLL / d mask logit_k = sum_M (m_k - r_k)."""


class SpatialMixture(tfd.Distribution):
    """Distribution over images [H, W, C] with batch shape [B].

    Args:
      means: [B, K, H, W, C], slot appearances in image units.
      mask_logits: [B, K, H, W, 1], unnormalised log mixing weights (log masks are such).
      scale: scale of the component density, in image units: a number, or a tensor that broadcasts
        to `means`, [K, 1, 1, 1] for one per slot.
      component: "normal" or "logistic".
      reduce: "pixel" or "channel": the unit that comes from one slot.

    Raises:
      ValueError: unknown `component` or `reduce`.
    """

    def __init__(
        self,
        means,
        mask_logits,
        scale=0.1,
        component="normal",
        reduce="pixel",
        validate_args=False,
        allow_nan_stats=True,
        name="SpatialMixture",
    ):
        parameters = dict(locals())
        if component not in ("normal", "logistic"):
            raise ValueError(
                f"`component` must be 'normal' or 'logistic'. Received: component={component!r}."
            )
        if reduce not in ("pixel", "channel"):
            raise ValueError(f"`reduce` must be 'pixel' or 'channel'. Received: reduce={reduce!r}.")

        self.component = component
        self.reduce = reduce
        with tf.name_scope(name):
            self.means = tf.cast(means, tf.float32)
            self.mask_logits = tf.cast(mask_logits, tf.float32)
            density = {"normal": tfd.Normal, "logistic": tfd.Logistic}[component]
            self.density = density(self.means, tf.cast(scale, tf.float32))

        super().__init__(
            dtype=tf.float32,
            reparameterization_type=tfd.NOT_REPARAMETERIZED,
            validate_args=validate_args,
            allow_nan_stats=allow_nan_stats,
            parameters=parameters,
            name=name,
        )

    @property
    def log_masks(self):
        """[B, K, H, W, 1], log softmax of the mask logits over slots."""
        return log_softmax_over_slots(self.mask_logits)

    @property
    def masks(self):
        """[B, K, H, W, 1], sums to one over K."""
        return softmax_over_slots(self.mask_logits)

    def component_log_prob(self, image):
        """Returns l_k = log f(x_c; mu_kc), [(n,) B, K, H, W, M], of `image` [(n,) B, H, W, C].

        Summed over channels if `reduce` is "pixel".
        """
        log_prob = self.density.log_prob(tf.expand_dims(image, -4))
        if self.reduce == "channel":
            return log_prob
        return tf.reduce_sum(log_prob, axis=-1, keepdims=True)

    def pixel_terms(self, image):
        """Returns the `PixelTerms` of `image` [B, H, W, C]; the gradients are closed forms."""
        component_log_prob = self.component_log_prob(image)
        joint = self.log_masks + component_log_prob
        log_prob = tf.reduce_logsumexp(joint, axis=1, keepdims=True)
        responsibilities = tf.exp(joint - log_prob)

        # d log f / d mu_k.
        error = image[:, None] - self.means
        scale = self.density.scale
        if self.component == "normal":
            score = error / scale**2
        else:
            score = tf.tanh(0.5 * error / scale) / scale

        logits_gradient = tf.reduce_sum(self.masks - responsibilities, axis=-1, keepdims=True)
        return PixelTerms(
            log_prob,
            component_log_prob,
            responsibilities,
            -responsibilities * score,
            logits_gradient,
        )

    def leave_one_out_log_prob(self, component_log_prob):
        """Returns log p(x | z without slot k), [B, K, H, W, M].

        The masks are renormalised over the other slots. `component_log_prob` is that of
        `pixel_terms`. Not defined for K = 1 (returns zeros).
        """
        num_slots = tf.shape(self.mask_logits)[1]
        others = (1.0 - tf.eye(num_slots))[None, :, :, None, None, None]  # [1, k, j, 1, 1, 1]
        logits = self.mask_logits[:, None] - (1.0 - others) * _HUGE

        with_others = tf.reduce_logsumexp(logits + component_log_prob[:, None], axis=2)
        result = with_others - tf.reduce_logsumexp(logits, axis=2)
        return tf.where(num_slots > 1, result, tf.zeros_like(result))

    def _log_prob(self, image):
        joint = self.log_masks + self.component_log_prob(image)
        return tf.reduce_sum(tf.reduce_logsumexp(joint, axis=-4), axis=[-3, -2, -1])

    def _mean(self):
        return compose(self.masks, self.means)

    def _sample_n(self, n, seed=None):
        choice_seed, noise_seed = tfp.random.split_seed(seed, salt="spatial_mixture")

        # The slot of every pixel, or of every pixel and channel.
        shape = tf.shape(self.means)
        num_mixtures = 1 if self.reduce == "pixel" else shape[-1]
        shape = tf.concat([shape[:-1], [num_mixtures]], axis=0)
        logits = tf.broadcast_to(self.mask_logits, shape)
        logits = tf.transpose(logits, [0, 2, 3, 4, 1])  # [B, H, W, M, K]
        chosen = tfd.OneHotCategorical(logits, dtype=tf.float32).sample(n, seed=choice_seed)
        chosen = tf.transpose(chosen, [0, 1, 5, 2, 3, 4])  # [n, B, K, H, W, M]

        return tf.reduce_sum(chosen * self.density.sample(n, seed=noise_seed), axis=2)

    def _batch_shape_tensor(self, **parameters):
        return tf.shape(self.means)[:1]

    def _batch_shape(self):
        return self.means.shape[:1]

    def _event_shape_tensor(self, **parameters):
        return tf.shape(self.means)[2:]

    def _event_shape(self):
        return self.means.shape[2:]

    @classmethod
    def _parameter_properties(cls, dtype, num_classes=None):
        properties = tfp.util.ParameterProperties
        return {
            "means": properties(event_ndims=4),
            "mask_logits": properties(event_ndims=4),
            "scale": properties(event_ndims=0),
        }
