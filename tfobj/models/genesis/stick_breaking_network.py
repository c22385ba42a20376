"""Inference and generation of GENESIS and GENESIS-S: ordered slots, masks by stick breaking."""

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfobj import random
from tfobj.distributions.autoregressive import bounded_gaussian
from tfobj.distributions.stick_breaking import stick_breaking
from tfobj.models.genesis import components as parts
from tfobj.models.genesis.components import Inference, posterior_gaussian, sample_with_noise
from tfobj.nn.broadcast_decoder import BroadcastDecoder
from tfobj.nn.image_encoder import ImageEncoder
from tfobj.nn.mlp import MLP
from tfobj.nn.slots import batch_and_slots, batch_size, fold_slots, unfold_slots

tfd = tfp.distributions

LEAST_LOG_MASK = -14.0
"""Bound (8e-7) on log masks as inputs of a network, which would otherwise see values of -100 and
less; the likelihood has none."""


class StickBreakingNetwork(keras.layers.Layer):
    """Networks of q(z | x), p(z) and of the decoders.

    In two stages ("genesis"), a slot has a mask latent, and a component latent that is inferred
    from its mask and the whole image. In one stage ("genesis_s"), the appearance is decoded from
    the mask latent itself.
    """

    def __init__(self, config, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.config = config
        self.two_stages = config.variant == "genesis"
        common = {"dtype": self.dtype_policy}

        # Masks.
        self.mask_encoder = parts.MaskEncoder(config, name="mask_encoder", **common)
        self.mask_posterior = parts.RecurrentPosterior(
            config.mask_latent_size, config.posterior_units, name="mask_posterior"
        )
        self.mask_prior = None
        if config.autoregressive_prior:
            self.mask_prior = parts.RecurrentPrior(
                config.mask_latent_size, config.prior_units, name="mask_prior"
            )
        self.mask_decoder = parts.MaskDecoder(config, name="mask_decoder", **common)

        # Components.
        self.component_encoder = None
        self.component_prior = None
        if self.two_stages:
            self.component_encoder = ImageEncoder(
                config.component_encoder_channels,
                (config.component_encoder_hidden,),
                2 * config.component_latent_size,
                padding=1,
                activation="elu",
                name="component_encoder",
                **common,
            )
            if config.component_prior:
                self.component_prior = MLP(
                    (*config.component_prior_hidden, 2 * config.component_latent_size),
                    activation="elu",
                    dtype="float32",
                    name="component_prior",
                )
        # Each layer but the last shrinks the grid by a pixel on each side; the grid starts larger
        # by as much.
        self.component_decoder = BroadcastDecoder(
            config.image_size,
            (*config.component_decoder_channels, config.channels),
            (*[3] * len(config.component_decoder_channels), 1),
            padding="valid",
            pixel_shuffle=config.component_pixel_shuffle,
            positions="append",
            activation="elu",
            name="component_decoder",
            **common,
        )

    def build(self, input_shape):
        config = self.config
        self.mask_encoder.build(input_shape)
        self.mask_posterior.build((None, config.mask_features))
        if self.mask_prior is not None:
            self.mask_prior.build()
        self.mask_decoder.build((None, config.mask_latent_size))

        if self.component_encoder is not None:
            *shape, channels = input_shape
            self.component_encoder.build((*shape, channels + 1))
        if self.component_prior is not None:
            self.component_prior.build((None, config.mask_latent_size))
        self.component_decoder.build((None, self.latent_sizes()[-1]))
        self.built = True

    def batch_norms(self):
        """Returns the layers whose moving averages the model updates."""
        return self.mask_encoder.stack.batch_norms() + self.mask_decoder.stack.batch_norms()

    def latent_sizes(self):
        """Returns the sizes of a slot's latents: [mask, component], or [both in one]."""
        config = self.config
        if self.two_stages:
            return [config.mask_latent_size, config.component_latent_size]
        return [config.mask_latent_size]

    def infer(self, image, num_slots, seed, training=False):
        """Infers the latents of all slots and decodes them.

        Args:
          image: [B, H, W, C].
          num_slots: K, a Python or tensor integer.
          seed: int32 [3] of `random.make_seed`.
          training: whether batch norms use the moments of the batch.

        Returns:
          `Inference`.
        """
        config = self.config
        batch = batch_size(image)

        # First stage: q(zm_k | zm_<k, x) and the masks.
        features, statistics = self.mask_encoder(image, training=training)
        shape = [batch, num_slots, config.mask_latent_size]
        noise = random.normal(seed, "genesis/mask_latents", shape)
        q, latents = self.mask_posterior(features, noise, num_slots=num_slots)
        log_masks, log_scopes, more = self.masks(latents, training)

        # Second stage: q(zc_k | m, x).
        if self.two_stages:
            shape = [batch, num_slots, config.component_latent_size]
            noise = random.normal(seed, "genesis/component_latents", shape)
            q_component = self.component_posterior(log_masks, image, num_slots)
            latents = tf.concat([latents, sample_with_noise(q_component, noise)], axis=-1)
            q = _joint([q, q_component])

        history = {"scopes": tf.exp(log_scopes), "stick_masks": tf.exp(log_masks)}
        return Inference(q, latents, log_masks, self.means(latents), history, statistics | more)

    def component_posterior(self, log_masks, image, num_slots):
        """Returns q(zc_k | m, x), a `tfd.Normal` [B, K, D].

        Args:
          log_masks: [B, K, H, W, 1].
          image: [B, H, W, C].
          num_slots: K, a Python or tensor integer.
        """
        # Cast first: in mixed precision, K copies of the image are then in the smaller type.
        log_masks = tf.cast(log_masks, self.compute_dtype)
        image = tf.cast(image, self.compute_dtype)

        log_masks = tf.maximum(log_masks, tf.cast(LEAST_LOG_MASK, log_masks.dtype))
        shape = tf.concat([tf.shape(log_masks)[:-1], image.shape[-1:]], axis=0)
        images = tf.broadcast_to(image[:, None], shape)
        inputs = tf.concat([log_masks, images], axis=-1)

        inputs = tf.reshape(inputs, [-1, *image.shape[1:3], image.shape[3] + 1])
        parameters = self.component_encoder(inputs)
        return posterior_gaussian(unfold_slots(parameters, batch_size(image), num_slots))

    def masks(self, mask_latents, training=False):
        """Decodes mask latents [B, K, D] and breaks the stick.

        The last slot takes what the others leave, so its logit is never used. Batch norms see it in
        training nevertheless, as in the released code.

        Returns:
          (log masks [B, K, H, W, 1], log scopes [B, K, H, W, 1], statistics of batch norms).
        """
        batch, num_slots = batch_and_slots(mask_latents)

        # One slot rendered by itself owns everything.
        if isinstance(num_slots, int) and num_slots == 1:
            everything = tf.zeros([batch, 1, *self.config.image_size, 1])
            return everything, everything, {}

        decode_last = training and self.config.norm == "batch"
        if not decode_last:
            mask_latents = mask_latents[:, :-1]
            num_slots = num_slots - 1
        logits, statistics = self.mask_decoder(fold_slots(mask_latents), training=training)
        logits = unfold_slots(logits, batch, num_slots)
        if decode_last:
            logits = logits[:, :-1]

        log_masks, log_scopes = stick_breaking(logits)
        return log_masks, log_scopes, statistics

    def means(self, latents):
        """Decodes latents [B, K, D] to appearances [B, K, H, W, C] in (0, 1)."""
        batch, num_slots = batch_and_slots(latents)
        appearance = tf.split(latents, self.latent_sizes(), axis=-1)[-1]
        decoded = self.component_decoder(fold_slots(appearance))
        return tf.sigmoid(unfold_slots(decoded, batch, num_slots))

    def decode(self, latents):
        """Latents [B, K, D] -> (log masks [B, K, H, W, 1], means [B, K, H, W, C])."""
        log_masks, _, _ = self.masks(tf.split(latents, self.latent_sizes(), axis=-1)[0])
        return log_masks, self.means(latents)

    def prior(self, latents):
        """Returns the prior of every latent given those that it depends on.

        Args:
          latents: [B, K, D], mask latent and component latent of every slot.

        Returns:
          `tfd.Normal` [B, K, D].
        """
        mask_latents, *others = tf.split(latents, self.latent_sizes(), axis=-1)

        # p(zm_k | zm_<k).
        if self.mask_prior is None:
            priors = [_standard_normal(mask_latents)]
        else:
            _, num_slots = batch_and_slots(latents)
            priors = [self.mask_prior.distribution(num_slots).conditionals(mask_latents)]

        # p(zc_k | zm_k).
        if self.two_stages and self.component_prior is None:
            priors.append(_standard_normal(others[0]))
        elif self.two_stages:
            priors.append(bounded_gaussian(self.component_prior(mask_latents)))
        return _joint(priors)

    def sample_prior(self, num, num_slots, seed):
        """Samples latents [num, K, D]: mask latents slot after slot, then component latents."""
        config = self.config
        shape = [num, num_slots, config.mask_latent_size]
        latents = random.normal(seed, "genesis/prior_mask_latents", shape)
        if self.mask_prior is not None:
            latents = self.mask_prior.distribution(num_slots).from_noise(latents)
        if not self.two_stages:
            return latents

        shape = [num, num_slots, config.component_latent_size]
        components = random.normal(seed, "genesis/prior_component_latents", shape)
        if self.component_prior is not None:
            prior = bounded_gaussian(self.component_prior(latents))
            components = sample_with_noise(prior, components)
        return tf.concat([latents, components], axis=-1)


def _standard_normal(like):
    return tfd.Normal(tf.zeros_like(like), tf.ones_like(like))


def _joint(normals):
    """Returns the normal of independent `normals` [..., D_i], side by side on the last axis."""
    loc = tf.concat([normal.loc for normal in normals], axis=-1)
    scale = tf.concat([normal.scale for normal in normals], axis=-1)
    return tfd.Normal(loc, scale)
