"""MONet (Burgess et al. 2019): recurrent attention breaks an image into masks, a VAE encodes each.

The paper is "MONet: Unsupervised Scene Decomposition and Representation". A recurrent attention
network breaks one mask after the other off the scope s, the part of the image that is not yet
explained. One VAE, shared by all slots, encodes and renders image and mask of each:

    log s_0 = 0,   a_k = U([x, log s_{k-1}])                         U: a U-Net, k = 1 ... K - 1
    log m_k = log s_{k-1} + log sigmoid(a_k)
    log s_k = log s_{k-1} + log(1 - sigmoid(a_k)),   log m_K = log s_{K-1}
    q(z_k) = N(loc, scale^2) = encoder([x, log m_k]),   p(z_k) = N(0, I)
    mu_k, l_k = decoder(z_k)                         pixel means, logits of the reconstructed masks
    p(x | z) = prod_pixels,channels sum_k m_k N(x; mu_k, sigma_k^2)

    loss = -log p(x | z) + beta sum_k KL(q(z_k) || p(z_k)) + gamma sum_pixels KL(m || softmax_k(l))

Slots are ordered: the first one has the smaller sigma, explains most pixels more cheaply, and so
takes the background. The masks m are not random variables, hence the loss bounds no likelihood;
`elbo` in `loss_terms` is -(nll + kl), for comparison with other models. K may change at call time.

The paper leaves open the widths of the U-Net (here those of Engelcke 2020's code), whether pixel
means are bounded (here by a sigmoid, as in most re-implementations), and the initial weights (here
U(+-1 / sqrt(fan in)), biases zero).
"""

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfobj import random
from tfobj.distributions.spatial_mixture import SpatialMixture
from tfobj.models.base import DecodedScene, SceneModel
from tfobj.models.monet.config import MonetConfig
from tfobj.nn.broadcast_decoder import BroadcastDecoder
from tfobj.nn.image_encoder import ImageEncoder
from tfobj.nn.iteration import scan
from tfobj.nn.slots import (
    batch_and_slots,
    batch_size,
    compose,
    fold_slots,
    log_softmax_over_slots,
    softmax_over_slots,
    split_decoded,
    unfold_slots,
)
from tfobj.nn.unet import UNet, default_blocks
from tfobj.structs import SceneOutputs

tfd = tfp.distributions

LOWEST_LOG_MASK = -14.0
"""Bound on the log masks and log scopes that networks see, ours: scopes fall without bound. The
likelihood has no such bound."""
LOWEST_MASK = 1e-5
"""Floor of the masks within their KL, as in public re-implementations: it keeps 0 log 0 and the
logarithm of a vanished reconstruction finite."""
LOG_SCALE_BOUND = 10.0


@keras.saving.register_keras_serializable("tfobj")
class Monet(SceneModel):
    """MONet; see the module's docstring."""

    config_class = MonetConfig
    has_prior = True
    slots_are_exchangeable = False
    has_steps = False

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        initializer = keras.initializers.VarianceScaling(
            config.initial_gain**2 / 3, "fan_in", "uniform"
        )

        self.attention = UNet(
            config.unet_blocks or default_blocks(config.image_size),
            config.unet_filters,
            config.unet_mlp,
            initializer=initializer,
            name="attention",
        )

        # The component VAE (appendix B.1).
        self.encoder = ImageEncoder(
            config.encoder_channels,
            config.encoder_mlp,
            2 * config.latent_size,
            padding=1,
            initializer=initializer,
            name="encoder",
        )
        self.decoder = BroadcastDecoder(
            config.image_size,
            (*config.decoder_channels, config.channels + 1),
            (*(3,) * len(config.decoder_channels), 1),
            padding="valid",
            pixel_shuffle=config.decoder_pixel_shuffle,
            positions="append",
            initializer=initializer,
            name="decoder",
        )
        self.build()

    def build(self, input_shape=None):
        image_and_mask = (None, *self.config.image_size, self.config.channels + 1)
        self.attention.build(image_and_mask)
        self.encoder.build(image_and_mask)
        self.decoder.build((None, self.config.latent_size))
        self.built = True

    def call(self, image, *, num_slots=None, num_steps=None, seed=None, training=False):
        num_slots, _, seed = self.resolve_call(image, num_slots, num_steps, seed)
        log_masks, log_scopes = self.attend(image, num_slots)

        # One VAE for all components.
        posterior = self.encode(image, log_masks, num_slots)
        shape = [batch_size(image), num_slots, self.config.latent_size]
        noise = random.normal(seed, "monet/posterior", shape)
        slot_recons, mask_logits = self.render(posterior.loc + posterior.scale * noise)
        masks = tf.exp(log_masks)
        recon = compose(masks, slot_recons)

        # The three terms of the loss, Eq. 3.
        mixture = SpatialMixture(
            slot_recons, log_masks, self.pixel_scale(num_slots), reduce=self.config.mixture
        )
        nll = -mixture.log_prob(image)
        kl_per_latent = tfd.kl_divergence(posterior, tfd.Normal(0.0, 1.0))  # [B, K, D]
        kl = tf.reduce_sum(kl_per_latent, axis=[1, 2])
        mask_kl = mask_divergence(log_masks, log_softmax_over_slots(mask_logits))

        return SceneOutputs(
            recon=recon,
            masks=masks,
            slot_recons=slot_recons,
            slots=posterior.loc,
            loss_terms={
                "nll": nll,
                "kl": kl,
                "mask_kl": mask_kl,
                "elbo": -(nll + kl),
                "mse": tf.reduce_mean(tf.square(image - recon), axis=[1, 2, 3]),
            },
            posterior={"loc": posterior.loc, "scale": posterior.scale, "kl": kl_per_latent},
            history={
                "scopes": tf.exp(log_scopes),
                "stick_masks": masks,
                "decoded_masks": softmax_over_slots(mask_logits),
            },
        )

    def attend(self, image, num_slots):
        """Breaks the image into masks, one slot after the other.

        Args:
          image: [B, H, W, C].
          num_slots: K, Python or tensor integer, at least 2.

        Returns:
          (log m_k, log s_{k-1}), each [B, K, H, W, 1]: the masks, and the scopes that they were
          broken off.
        """

        def step(_, state):
            (log_scope,) = state
            seen = tf.maximum(log_scope, LOWEST_LOG_MASK)
            logits = self.attention(tf.concat([image, seen], axis=-1))

            # log(1 - sigmoid(a)) = -softplus(a), and log sigmoid(a) = -softplus(-a).
            next_scope = log_scope - tf.nn.softplus(logits)
            log_mask = log_scope - tf.nn.softplus(-logits)
            return (next_scope,), (log_mask, log_scope)

        # The last slot takes the rest.
        everything = tf.zeros_like(image[..., :1])
        (rest,), (log_masks, log_scopes) = scan(step, (everything,), num_slots - 1)

        def with_rest(x):
            return tf.transpose(tf.concat([x, rest[None]], axis=0), [1, 0, 2, 3, 4])

        return with_rest(log_masks), with_rest(log_scopes)

    def encode(self, image, log_masks, num_slots):
        """Returns q(z_k), a `tfd.Normal` of batch shape [B, K, D].

        Args:
          image: [B, H, W, C].
          log_masks: log m_k [B, K, H, W, 1].
          num_slots: K, a Python or tensor integer.
        """
        tiled = tf.repeat(image[:, None], num_slots, axis=1)
        inputs = tf.concat([tiled, tf.maximum(log_masks, LOWEST_LOG_MASK)], axis=-1)
        parameters = unfold_slots(self.encoder(fold_slots(inputs)), batch_size(image), num_slots)

        loc, log_scale = tf.split(parameters, 2, axis=-1)
        log_scale = tf.clip_by_value(log_scale, -LOG_SCALE_BOUND, LOG_SCALE_BOUND)
        return tfd.Normal(loc, tf.exp(log_scale))

    def render(self, latents):
        """Decodes latents [B, K, D].

        Returns:
          (means in (0, 1) [B, K, H, W, C], mask logits l [B, K, H, W, 1]).
        """
        batch, num_slots = batch_and_slots(latents)
        decoded = unfold_slots(self.decoder(fold_slots(latents)), batch, num_slots)
        colours, mask_logits = split_decoded(decoded)
        return tf.sigmoid(colours), mask_logits

    def pixel_scale(self, num_slots):
        """Returns sigma_k, [K, 1, 1, 1]."""
        first = [self.config.background_scale]
        others = tf.fill([num_slots - 1], self.config.foreground_scale)
        return tf.reshape(tf.concat([first, others], axis=0), [-1, 1, 1, 1])

    def total_loss(self, terms, step):
        """Returns the mean over scenes of nll + beta kl + gamma mask_kl, in nats, and the terms.

        Source: Burgess 2019, Eq. 3.
        """
        beta = self.config.beta
        gamma = self.config.gamma
        loss = terms["nll"] + beta * terms["kl"] + gamma * terms["mask_kl"]
        return loss, terms

    def decode(self, slots):
        """Renders latents [B, K, D] as a `DecodedScene` with the reconstructed masks softmax_k(l).

        Attention masks would need an image.
        """
        slot_recons, mask_logits = self.render(slots)
        masks = softmax_over_slots(mask_logits)
        return DecodedScene(compose(masks, slot_recons), masks, slot_recons)

    def sample(self, num, seed, num_slots=None):
        """Samples `num` scenes: z ~ N(0, I) for every slot, decoded.

        Slots are independent of each other, so they do not make coherent scenes.
        """
        if num_slots is None:
            num_slots = self.config.num_slots
        shape = [num, num_slots, self.config.latent_size]
        return self.decode(random.normal(seed, "monet/prior", shape))


def mask_divergence(log_masks, log_decoded):
    """Returns sum_pixels KL(m || m_hat) in nats, [B], of log masks [B, K, H, W, 1].

    Both are floored at `LOWEST_MASK` and normalised again.
    """

    def floored(log_probs):
        log_probs = tf.maximum(log_probs, tf.math.log(LOWEST_MASK))
        return log_probs - tf.reduce_logsumexp(log_probs, axis=1, keepdims=True)

    log_masks = floored(log_masks)
    log_decoded = floored(log_decoded)
    return tf.reduce_sum(tf.exp(log_masks) * (log_masks - log_decoded), axis=[1, 2, 3, 4])
