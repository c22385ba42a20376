"""Gaussians and priors over the layers' latents (Emami 2021, section 3.1, Fig. 12, appendix D).

    bottom_up    p(z^1) prod_{l > 1} p(z^l | z^{l-1})                                  (Eq. 2)
    reversed     p(z^L) prod_{l < L} p(z^l | z^{l+1})
    reversed++   the same, and refined posteriors are compared with p(z^1 | z^2)

p(z^1), or p(z^L), is standard normal, and one network serves all transitions.
"""

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfobj import random
from tfobj.distributions.gaussian import MINIMUM_VARIANCE
from tfobj.models.efficient_morl.bottom_up import xavier_normal
from tfobj.nn.layers import Dense

tfd = tfp.distributions

MAXIMUM_RAW = 80.0
"""Cap of the unconstrained variance (Emami 2021, Eq. 10)."""


def gaussian(parameters):
    """Returns the normals [..., D] with parameters [..., 2 D] = [loc, raw].

    variance = softplus(min(raw, 80)) + 1e-5 (Emami 2021, Eqs. 10 and 11).
    """
    loc, raw = tf.split(tf.cast(parameters, tf.float32), 2, axis=-1)
    variance = tf.math.softplus(tf.minimum(raw, MAXIMUM_RAW)) + MINIMUM_VARIANCE
    return tfd.Normal(loc, tf.sqrt(variance))


def sample_gaussian(parameters, seed, place, index=0):
    """Returns one reparameterised sample [B, K, D] of `gaussian(parameters)`.

    `seed`, `place` and `index` name the noise, as in `random.normal`.
    """
    q = gaussian(parameters)
    shape = list(q.loc.shape)
    if None in shape:
        shape = tf.unstack(tf.shape(q.loc))
    noise = tf.ensure_shape(random.normal(seed, place, shape, index), q.loc.shape)
    return q.loc + q.scale * noise


def standard_normal(size):
    """Returns N(0, 1) of shape [D]."""
    return tfd.Normal(tf.zeros([size]), tf.ones([size]))


class LayerPriors(keras.layers.Layer):
    """The prior over z^1 ... z^L; [B, K, D] each, slots independent of each other.

    Args:
      kind: "bottom_up", "reversed" or "reversed++".
      num_layers: L; the transition network exists from two layers on.
      size: D.
      gain: gain of the initial values of the transition network, D -> 128 (ELU) -> loc and raw.
    """

    HIDDEN = 128

    def __init__(self, kind, num_layers, size, gain, **kwargs):
        super().__init__(dtype="float32", **kwargs)
        self.kind = kind
        self.num_layers = num_layers
        self.size = size
        if num_layers > 1:
            initializer = xavier_normal(gain)
            self.hidden = Dense(
                self.HIDDEN,
                activation="elu",
                kernel_initializer=initializer.clone(),
                dtype="float32",
                name="hidden",
            )
            self.heads = [
                Dense(size, kernel_initializer=initializer.clone(), dtype="float32", name=half)
                for half in ("loc", "raw")
            ]

    def build(self, input_shape=None):
        if self.num_layers > 1:
            self.hidden.build((None, self.size))
            for head in self.heads:
                head.build((None, self.HIDDEN))
        self.built = True

    def transition(self, latents):
        """Returns the parameters [B, K, 2 D] of p(z | z of the neighbouring layer)."""
        hidden = self.hidden(latents)
        return tf.concat([head(hidden) for head in self.heads], axis=-1)

    def divergences(self, posteriors, seed):
        """Computes the KL of every layer's posterior from its prior.

        A prior depends on a fresh sample of the neighbouring layer, not on the one that the
        bottom-up pass used: reusing it would correlate the noise of NLL and KL.

        Args:
          posteriors: list of L tensors [B, K, 2 D].
          seed: int32 [3] of `random.make_seed`.

        Returns:
          (kl, prior): list of L tensors [B, K, D] in nats; and the parameters [B, K, 2 D] of the
          prior of refined posteriors, as a tuple of one, or () where that prior is N(0, 1).
        """
        # From the layer whose prior is N(0, 1) to the other end.
        order = list(range(self.num_layers))
        if self.kind != "bottom_up":
            order.reverse()

        kl = {}
        prior = ()
        before = None
        for layer in order:
            if before is not None:
                latents = sample_gaussian(
                    posteriors[before], seed, "efficient_morl/prior_path", before
                )
                prior = (self.transition(latents),)
            kl[layer] = self.divergence(posteriors[layer], *prior)
            before = layer

        if self.kind == "reversed":
            prior = ()
        return [kl[layer] for layer in range(self.num_layers)], prior

    def divergence(self, posterior, prior=None):
        """Returns KL(q || p) [B, K, D] of parameters [B, K, 2 D]; without a prior, from N(0, 1)."""
        if prior is None:
            return tfd.kl_divergence(gaussian(posterior), standard_normal(self.size))
        return tfd.kl_divergence(gaussian(posterior), gaussian(prior))

    def sample(self, num, num_slots, seed):
        """Samples the latents that are decoded, z^L [num, K, D]."""
        latents = random.normal(seed, "efficient_morl/prior", [num, num_slots, self.size])
        if self.kind == "bottom_up":
            for layer in range(1, self.num_layers):
                parameters = self.transition(latents)
                latents = sample_gaussian(parameters, seed, "efficient_morl/prior", layer)
        return latents
