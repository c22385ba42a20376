"""Variational autoencoders with one latent vector per scene, baselines without objects.

    q(z | x) = N(loc, scale^2) = encoder(x),   p(z) = N(0, I)
    p(x | z) = prod_pixels,channels N(x; decoder(z), sigma^2)
    loss = -log p(x | z) + beta KL(q(z | x) || p(z))

"broadcast" is the VAE of Greff et al. 2019, Figures 5 and 6, whose single vector entangles the
objects of a scene. The paper fixes only the Gaussian, sigma = 0.1 and the spatial broadcast
decoder. Layers and latent size are ours, with the kernels and widths of its IODINE decoders, so its
numbers are not those of "the VAE of the IODINE paper".

"conv" is the convolutional VAE of Anciukevicius et al. 2020 (Table 6), the baseline of its FID and
KID scores. Its sigma shrinks during training.

In the common interface, a scene has one slot that owns every pixel.
"""

import math

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfobj import random
from tfobj.distributions.gaussian import isotropic_nll, log_variance_gaussian
from tfobj.inference.graph_schedules import step_function
from tfobj.models.base import DecodedScene, SceneModel
from tfobj.models.vae import convolutional
from tfobj.models.vae.config import VAEConfig
from tfobj.nn.broadcast_decoder import BroadcastDecoder
from tfobj.nn.image_encoder import ImageEncoder
from tfobj.nn.slots import batch_and_slots, batch_size, compose, fold_slots, unfold_slots
from tfobj.structs import SceneOutputs

tfd = tfp.distributions


@keras.saving.register_keras_serializable("tfobj")
class VAE(SceneModel):
    """Variational autoencoder; see the module's docstring."""

    config_class = VAEConfig
    has_prior = True
    slots_are_fixed = True
    slots_are_exchangeable = False
    has_steps = False

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.latent_size = config.latent_size * config.latent_multiplier

        if config.architecture == "conv":
            self.encoder = convolutional.make_encoder(
                config.conv_filters, self.latent_size, name="encoder"
            )
            self.decoder = convolutional.make_decoder(
                config.image_size, config.channels, config.conv_filters, name="decoder"
            )
        else:
            self.encoder = ImageEncoder(
                config.encoder_channels,
                config.encoder_mlp,
                2 * self.latent_size,
                kernel_size=config.kernel_size,
                activation="elu",
                name="encoder",
            )
            self.decoder = BroadcastDecoder(
                config.image_size,
                (*config.decoder_channels, config.channels),
                config.kernel_size,
                pixel_shuffle=config.decoder_pixel_shuffle,
                positions="append",
                activation="elu",
                name="decoder",
            )
        self.build()

    def build(self, input_shape=None):
        self.encoder.build((None, *self.config.image_size, self.config.channels))
        self.decoder.build((None, self.latent_size))
        self.built = True

    def call(self, image, *, num_slots=None, num_steps=None, seed=None, training=False):
        *_, seed = self.resolve_call(image, num_slots, num_steps, seed)
        posterior = self.encode(image)
        noise = random.normal(seed, "vae/posterior", [batch_size(image), 1, self.latent_size])
        scene = self.decode(posterior.loc + posterior.scale * noise)

        # Scored under the last sigma; `total_loss` replaces `nll` by that of the step's sigma.
        last_scale = self.config.later_scale or self.config.likelihood_scale
        squared_error = tf.reduce_sum(tf.square(image - scene.recon), axis=[1, 2, 3])
        nll = isotropic_nll(squared_error, self.num_values(), last_scale)
        kl_per_latent = tfd.kl_divergence(posterior, tfd.Normal(0.0, 1.0))  # [B, 1, D]
        kl = tf.reduce_sum(kl_per_latent, axis=[1, 2])

        return SceneOutputs(
            *scene,
            slots=posterior.loc,
            posterior={"loc": posterior.loc, "scale": posterior.scale, "kl": kl_per_latent},
            loss_terms={
                "squared_error": squared_error,
                "nll": nll,
                "kl": kl,
                "elbo": -(nll + kl),
                "mse": squared_error / self.num_values(),
            },
        )

    def encode(self, image):
        """Returns q(z | x), a `tfd.Normal` [B, 1, D], of an image [B, H, W, C]."""
        return log_variance_gaussian(self.encoder(image)[:, None])

    def num_values(self):
        """Returns H W C."""
        return math.prod(self.config.image_size) * self.config.channels

    def total_loss(self, terms, step):
        """Returns the mean over scenes of nll + beta kl, in nats, and the terms.

        The loss, `nll` and `elbo` are those under the sigma of the step.
        """
        scale = step_function(
            step,
            self.config.likelihood_scale,
            self.config.later_scale,
            self.config.later_scale_from_step,
        )
        nll = isotropic_nll(terms.pop("squared_error"), self.num_values(), scale)
        terms |= {"nll": nll, "elbo": -(nll + terms["kl"])}
        return nll + self.config.beta * terms["kl"], terms

    def decode(self, slots):
        """Renders latents [B, K, D] as a `DecodedScene`.

        All masks are equal, 1 everywhere for the one slot of a scene.
        """
        batch, num_slots = batch_and_slots(slots)
        pixels = self.decoder(fold_slots(slots))
        if self.config.architecture == "conv":
            pixels = tf.sigmoid(pixels)

        slot_recons = unfold_slots(pixels, batch, num_slots)
        masks = tf.ones_like(slot_recons[..., :1]) / tf.cast(num_slots, tf.float32)
        return DecodedScene(compose(masks, slot_recons), masks, slot_recons)

    def sample(self, num, seed, num_slots=None):
        """Samples `num` scenes from the prior: z ~ N(0, I), decoded."""
        return self.decode(random.normal(seed, "vae/prior", [num, 1, self.latent_size]))
