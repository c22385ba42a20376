"""Inference and generation of GENESIS and GENESIS-S: ordered slots, masks that are broken off one after the other."""

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfobj import random
from tfobj.distributions.autoregressive import bounded_gaussian
from tfobj.distributions.stick_breaking import stick_breaking
from tfobj.models.genesis import components as parts
from tfobj.models.genesis.components import Inference, draw, posterior_gaussian
from tfobj.nn.broadcast_decoder import BroadcastDecoder
from tfobj.nn.mlp import MLP
from tfobj.nn.slots import batch_and_slots, batch_size, fold_slots, unfold_slots

tfd = tfp.distributions


class StickBreakingNetwork(keras.layers.Layer):
    """Latents of a slot: a mask latent and, with two stages, a component latent; GENESIS-S has one for both.

    Two stages: masks from the mask latents, then a component latent from every mask and the whole image. One stage: the
    appearance is decoded from the mask latent itself.
    """

    def __init__(self, config, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.config = config
        self.two_stages = config.variant == "genesis"
        self.mask_encoder = parts.MaskEncoder(config, dtype=self.dtype_policy, name="mask_encoder")
        self.mask_posterior = parts.RecurrentPosterior(
            config.mask_latent_size, config.posterior_units, name="mask_posterior"
        )
        self.mask_prior = (
            parts.RecurrentPrior(config.mask_latent_size, config.prior_units, name="mask_prior")
            if config.autoregressive_prior
            else None
        )
        self.mask_decoder = parts.MaskDecoder(config, dtype=self.dtype_policy, name="mask_decoder")
        self.component_encoder, self.component_prior = None, None
        if self.two_stages:
            self.component_encoder = parts.ComponentEncoder(
                config, dtype=self.dtype_policy, name="component_encoder"
            )
            if config.component_prior:
                self.component_prior = MLP(
                    (*config.component_prior_hidden, 2 * config.component_latent_size),
                    activation="elu",
                    dtype="float32",
                    name="component_prior",
                )
        # The layers before the last shrink the grid by a pixel on each side: it starts four pixels wider each way for four of them.
        self.component_decoder = BroadcastDecoder(
            config.image_size,
            (*config.component_decoder_channels, config.channels),
            (*[3] * len(config.component_decoder_channels), 1),
            padding="valid",
            pixel_shuffle=config.component_pixel_shuffle,
            positions="append",
            activation="elu",
            dtype=self.dtype_policy,
            name="component_decoder",
        )

    def build(self, input_shape):
        config = self.config
        self.mask_encoder.build(input_shape)
        self.mask_posterior.build((None, config.mask_features))
        if self.mask_prior is not None:
            self.mask_prior.build()
        self.mask_decoder.build((None, config.mask_latent_size))
        if self.component_encoder is not None:
            self.component_encoder.build(input_shape)
        if self.component_prior is not None:
            self.component_prior.build((None, config.mask_latent_size))
        self.component_decoder.build(
            (None, config.component_latent_size if self.two_stages else config.mask_latent_size)
        )
        self.built = True

    def batch_norms(self):
        """Returns the layers whose moving averages the model updates."""
        return self.mask_encoder.stack.batch_norms() + self.mask_decoder.stack.batch_norms()

    def infer(self, image, num_slots, seed, training=False):
        """Image [B, H, W, C] -> `Inference`."""
        config, batch = self.config, batch_size(image)
        features, statistics = self.mask_encoder(image, training=training)
        noise = random.normal(
            seed, "genesis/mask_latents", [batch, num_slots, config.mask_latent_size]
        )
        q, latents = self.mask_posterior(features, noise, num_slots=num_slots)
        log_masks, log_scopes, more = self.masks(latents, training)
        if self.two_stages:
            noise = random.normal(
                seed, "genesis/component_latents", [batch, num_slots, config.component_latent_size]
            )
            q_component = posterior_gaussian(
                unfold_slots(self.component_encoder(log_masks, image), batch, num_slots)
            )
            q = tfd.Normal(
                *[
                    tf.concat(both, axis=-1)
                    for both in ((q.loc, q_component.loc), (q.scale, q_component.scale))
                ]
            )
            latents = tf.concat([latents, draw(q_component, noise)], axis=-1)
        history = {"scopes": tf.exp(log_scopes), "stick_masks": tf.exp(log_masks)}
        return Inference(q, latents, log_masks, self.means(latents), history, statistics | more)

    def masks(self, mask_latents, training=False):
        """Mask latents [B, K, D] -> (log masks, log scopes, both [B, K, H, W, 1], statistics).

        The last slot takes what the others leave, so its logit is never used. Batch norms see it in training nevertheless, as
        in the released code.
        """
        batch, num_slots = batch_and_slots(mask_latents)
        if (
            isinstance(num_slots, int) and num_slots == 1
        ):  # one slot rendered by itself owns everything
            everything = tf.zeros([batch, 1, *self.config.image_size, 1])
            return everything, everything, {}
        if not (training and self.config.norm == "batch"):
            mask_latents, num_slots = mask_latents[:, :-1], num_slots - 1
        logits, statistics = self.mask_decoder(fold_slots(mask_latents), training=training)
        logits = unfold_slots(logits, batch, num_slots)
        if training and self.config.norm == "batch":
            logits = logits[:, :-1]
        return *stick_breaking(logits), statistics

    def means(self, latents):
        """Latents [B, K, D] -> appearances [B, K, H, W, C] in (0, 1)."""
        appearance = tf.split(latents, self.latent_sizes(), axis=-1)[-1]
        return tf.sigmoid(
            unfold_slots(self.component_decoder(fold_slots(appearance)), *batch_and_slots(latents))
        )

    def decode(self, latents):
        """Latents [B, K, D] -> (log masks [B, K, H, W, 1], means [B, K, H, W, C])."""
        log_masks, _, _ = self.masks(tf.split(latents, self.latent_sizes(), axis=-1)[0])
        return log_masks, self.means(latents)

    def latent_sizes(self):
        """Returns the sizes of a slot's latents: (mask, component) or (both in one,)."""
        config = self.config
        return (
            [config.mask_latent_size, config.component_latent_size]
            if self.two_stages
            else [config.mask_latent_size]
        )

    def prior(self, latents):
        """Returns p of every latent [B, K, D] given those that it depends on, a `tfd.Normal` [B, K, D]."""
        mask_latents, *others = tf.split(latents, self.latent_sizes(), axis=-1)
        if self.mask_prior is None:
            priors = [_standard_normal(mask_latents)]
        else:
            priors = [
                self.mask_prior.distribution(batch_and_slots(latents)[1]).conditionals(mask_latents)
            ]
        if self.two_stages:
            priors.append(
                _standard_normal(others[0])
                if self.component_prior is None
                else bounded_gaussian(self.component_prior(mask_latents))
            )
        return tfd.Normal(
            *[
                tf.concat(values, axis=-1)
                for values in zip(*((p.loc, p.scale) for p in priors), strict=True)
            ]
        )

    def sample_prior(self, num, num_slots, seed):
        """Returns latents [num, K, D] from the prior: mask latents one after the other, then component latents."""
        config = self.config
        latents = random.normal(
            seed, "genesis/prior_mask_latents", [num, num_slots, config.mask_latent_size]
        )
        if self.mask_prior is not None:
            latents = self.mask_prior.distribution(num_slots).from_noise(latents)
        if not self.two_stages:
            return latents
        components = random.normal(
            seed, "genesis/prior_component_latents", [num, num_slots, config.component_latent_size]
        )
        if self.component_prior is not None:
            components = draw(bounded_gaussian(self.component_prior(latents)), components)
        return tf.concat([latents, components], axis=-1)


def _standard_normal(like):
    return tfd.Normal(tf.zeros_like(like), tf.ones_like(like))
