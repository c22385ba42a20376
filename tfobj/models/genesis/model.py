"""GENESIS (Engelcke et al. 2020): scenes whose slots depend on each other in a prior.

The paper is "GENESIS: Generative Scene Inference and Sampling with Object-Centric Latent
Representations".

    p(zm_1) = N(0, I),   p(zm_k | zm_<k) = N(.; LSTM(zm_{k-1}))       mask latents, slot after slot
    p(zc_k | zm_k) = N(.; MLP(zm_k))                                  component latents
    log m = stick breaking of decoder(zm),   mu_k = decoder(zc_k)
    p(x | z) = prod_{pixels, channels} sum_k m_k N(x; mu_k, scale^2)

Inference mirrors it: h = CNN(x); q(zm_k | zm_<k, h) from an LSTM that reads the samples; all masks
decoded at once; then q(zc_k | m, x) from every log mask and the whole image. It is one pass,
without refinement. Slots are ordered; K is free at call time. `slots` are posterior means
[zm_k, zc_k], those of later slots given the samples of earlier ones; masks and appearances are
decoded samples.

    loss = NLL + beta KL        summed over pixels, channels, slots and latents, in nats

beta comes from GECO (Rezende & Viola 2018): it falls while the NLL is above a goal. Variants:
GENESIS-S has one latent per slot for mask and appearance; GENESIS-V2 (Engelcke et al. 2021) finds
its slots by clustering pixels (`genesis_v2`).

Sizes and constants are those of the released code; the paper's own tables were not at hand. One
error is corrected: that code samples mask latents without the tanh of the density that it trains.
Images may have any size: gated convolutions with stride 2 pad as TensorFlow does, with one zero
fewer before the first pixel of an even side than PyTorch's two on each side.
"""

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfobj.distributions.spatial_mixture import SpatialMixture
from tfobj.inference.geco import KLMultiplier
from tfobj.models.base import DecodedScene, SceneModel
from tfobj.models.genesis.components import set_pytorch_initial_values
from tfobj.models.genesis.config import GenesisConfig
from tfobj.models.genesis.genesis_v2 import ClusteringNetwork
from tfobj.models.genesis.stick_breaking_network import StickBreakingNetwork
from tfobj.nn.slots import compose
from tfobj.structs import SceneOutputs

tfd = tfp.distributions


@keras.saving.register_keras_serializable("tfobj")
class Genesis(SceneModel):
    """GENESIS; see the module's docstring."""

    config_class = GenesisConfig
    has_prior = True
    has_steps = False
    has_state = True
    slots_are_exchangeable = False

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        network_class = StickBreakingNetwork
        if config.variant == "genesis_v2":
            network_class = ClusteringNetwork
        self.network = network_class(config, name="network")

        self.multiplier = None
        if config.geco_goal is not None:
            height, width = config.image_size
            self.multiplier = KLMultiplier(
                config.geco_goal * config.channels * height * width,
                rate=config.geco_rate * 64**2 / (height * width),
                speed_up=config.geco_speed_up,
                name="multiplier",
            )
        self.build()

    def build(self, input_shape=None):
        self.network.build((None, *self.config.image_size, self.config.channels))
        set_pytorch_initial_values(self.network)
        if self.multiplier is not None:
            self.multiplier.build()
        self.built = True

    def slot_parts(self):
        first = self.config.mask_latent_size
        size = self.config.slot_size
        if self.config.variant == "genesis":
            return {"mask": (0, first), "component": (first, size)}
        return {"latent": (0, size)}

    def call(self, image, *, num_slots=None, num_steps=None, seed=None, training=False):
        num_slots, _, seed = self.resolve_call(image, num_slots, num_steps, seed)
        inference = self.network.infer(image, num_slots, seed, training)
        nll = self.negative_log_likelihood(image, inference.log_masks, inference.means)

        # KL of every slot's posterior given the samples of earlier slots.
        q = inference.posterior
        p = self.network.prior(inference.samples)
        kl_per_latent = tfd.kl_divergence(q, p)  # [B, K, D]
        kl = kl_per_latent
        if self.config.kl == "monte_carlo":
            kl = q.log_prob(inference.samples) - p.log_prob(inference.samples)
        kl = tf.reduce_sum(tf.reduce_sum(kl, axis=-1), axis=1)

        masks = tf.exp(inference.log_masks)
        recon = compose(masks, inference.means)
        terms = {
            "nll": nll,
            "kl": kl,
            "elbo": -(nll + kl),
            "mse": tf.reduce_mean(tf.square(image - recon), axis=[1, 2, 3]),
        }
        return SceneOutputs(
            recon=recon,
            masks=masks,
            slot_recons=inference.means,
            slots=q.loc,
            posterior={"loc": q.loc, "scale": q.scale, "kl": kl_per_latent},
            loss_terms=terms,
            history=inference.history,
            statistics=inference.statistics,
        )

    def negative_log_likelihood(self, image, log_masks, means):
        """Returns - log p(x | z) [B] in nats, summed over pixels and channels.

        The constant 1/2 ln 2 pi is included.

        Args:
          image: [B, H, W, C].
          log_masks: [B, K, H, W, 1].
          means: [B, K, H, W, C].
        """
        scale = self.config.likelihood_scale
        if self.config.likelihood == "mixture":
            density = SpatialMixture(means, log_masks, scale, reduce="channel")
        else:
            mean = compose(tf.exp(log_masks), means)
            density = tfd.Independent(tfd.Normal(mean, scale), 3)
        return -density.log_prob(image)

    def total_loss(self, terms, step):
        """Returns the mean over scenes of NLL + beta KL, in nats, and the terms with beta.

        beta is called `geco_multiplier` under GECO, else `kl_weight`.
        """
        weight = self.kl_weight(step)
        loss = terms["nll"] + weight * terms["kl"]
        if self.multiplier is None:
            terms = {**terms, "kl_weight": weight}
        else:
            constraint = self.multiplier.constraint()
            terms = {**terms, "geco_multiplier": weight, "geco_constraint": constraint}
        return loss, terms

    def kl_weight(self, step):
        """Returns beta after `step` updates: the multiplier of GECO, or the warmed-up constant."""
        if self.multiplier is not None:
            return self.multiplier.multiplier()
        if not self.config.kl_warmup_steps:
            return tf.constant(self.config.kl_weight)
        share = tf.minimum(1.0, tf.cast(step, tf.float32) / self.config.kl_warmup_steps)
        return self.config.kl_weight * share

    def update_state(self, terms, statistics, step):
        """Lets GECO follow the NLL, and batch norms their moments."""
        if self.multiplier is not None:
            self.multiplier.update(terms["nll"], step)
        for norm in self.network.batch_norms():
            norm.update(statistics)

    def decode(self, slots):
        """Renders latents [B, K, D], [zm_k, zc_k] of every slot, as a `DecodedScene`."""
        log_masks, means = self.network.decode(slots)
        masks = tf.exp(log_masks)
        return DecodedScene(compose(masks, means), masks, means)

    def sample(self, num, seed, num_slots=None):
        """Samples `num` scenes from the prior, slot after slot."""
        if num_slots is None:
            num_slots = self.config.num_slots
        return self.decode(self.network.sample_prior(num, num_slots, seed))
