"""Variational autoencoders with one latent vector per scene, in two architectures: baselines that know no objects.

    q(z | x) = N(loc, scale^2) = encoder(x),   p(z) = N(0, I),   p(x | z) = prod_pixels,channels N(x; decoder(z), sigma^2)
    loss = -log p(x | z) + beta KL(q(z | x) || p(z))

"broadcast" is the VAE of Greff et al. 2019, Figures 5 and 6, whose single vector entangles the objects of a scene. The paper fixes no
more than the Gaussian, sigma = 0.1 and the spatial broadcast decoder; layers and latent size are ours, with the kernels and widths
of its IODINE decoders, so its numbers are not those of "the VAE of the IODINE paper".

"conv" is the convolutional VAE of Anciukevicius et al. 2020 (Table 6), the baseline of its FID and KID scores. Its sigma shrinks during training.

In the common interface a scene has one slot that owns every pixel.
"""

import dataclasses
import math
from typing import Literal

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfobj import random
from tfobj.config import require
from tfobj.distributions.gaussian import isotropic_nll, log_variance_gaussian
from tfobj.errors import UserError
from tfobj.inference.schedules import stepped
from tfobj.models.base import DecodedScene, SceneConfig, SceneModel
from tfobj.models.vae import convolutional
from tfobj.nn.broadcast_decoder import BroadcastDecoder
from tfobj.nn.convolution import ConvStack
from tfobj.nn.mlp import MLP
from tfobj.nn.slots import batch_and_slots, batch_size, compose, fold_slots, unfold_slots
from tfobj.structs import SceneOutputs

tfd = tfp.distributions


@dataclasses.dataclass(frozen=True, kw_only=True)
class VAEConfig(SceneConfig):
    """VAE. Defaults: "broadcast" on Tetris, 271,011 parameters."""

    image_size: tuple[int, int] = (35, 35)
    channels: int = 3
    num_slots: int = 1
    """Always 1."""
    num_steps: int = 1
    """No refinement: always 1."""
    architecture: Literal["broadcast", "conv"] = "broadcast"
    latent_size: int = 32
    latent_multiplier: int = 1
    """D = latent_size * latent_multiplier: K of an object-centric model gives the VAE as many latents as that has in all."""
    likelihood_scale: float = 0.1
    """sigma: standard deviation of the pixels, image in [0, 1]."""
    later_scale: float | None = None
    """sigma from `later_scale_from_step` on; none: it stays. Scores outside training are always under the last one."""
    later_scale_from_step: int = 0
    beta: float = 1.0
    """Weight of the KL."""
    encoder_channels: tuple[int, ...] = (32, 32, 32)
    """"broadcast": strided convolutions, then `encoder_mlp`."""
    encoder_mlp: tuple[int, ...] = (128,)
    decoder_channels: tuple[int, ...] = (32, 32, 32, 32)
    """"broadcast": hidden layers; the output layer is added."""
    kernel_size: int = 5
    """"broadcast": of all convolutions."""
    decoder_pixel_shuffle: int = 1
    """"broadcast": above 1, the decoder runs at 1 / r of the resolution and its last layer yields r x r pixels per position."""
    conv_filters: int = 32
    """"conv": channels of the first layer (Table 6: 32), of which all others are multiples."""

    minimum_slots = 1

    @property
    def slot_size(self):
        """D."""
        return self.latent_size * self.latent_multiplier

    def __post_init__(self):
        super().__post_init__()
        require(
            self.num_slots == 1,
            "model.num_slots",
            "1: a VAE has one latent vector for the scene",
            self.num_slots,
        )
        require(
            self.num_steps == 1, "model.num_steps", "1: a VAE has no refinement", self.num_steps
        )
        require(
            self.later_scale is None or self.later_scale > 0,
            "model.later_scale",
            "positive, or none",
            self.later_scale,
        )
        for name in ("likelihood_scale", "latent_size", "latent_multiplier"):
            require(getattr(self, name) > 0, f"model.{name}", "positive", getattr(self, name))
        for name in ("beta", "later_scale_from_step"):
            require(getattr(self, name) >= 0, f"model.{name}", "at least 0", getattr(self, name))
        require(
            self.conv_filters % 4 == 0 and self.conv_filters > 0,
            "model.conv_filters",
            "a multiple of 4",
            self.conv_filters,
        )
        multiple = convolutional.SIDE_MULTIPLE
        if self.architecture == "conv" and any(side % multiple for side in self.image_size):
            height, width = (multiple * -(-side // multiple) for side in self.image_size)
            raise UserError(
                f'`model.image_size` must have sides that are multiples of {multiple} for model.architecture="conv"; '
                f"{height}x{width} would do. Received: model.image_size={self.image_size}."
            )


class BroadcastEncoder(keras.layers.Layer):
    """Image [B, H, W, C] -> [B, 2 D] float32: strided convolutions, flattened (an average would lose positions), MLP; all ELU."""

    def __init__(self, channels, kernel_size, mlp, latent_size, **kwargs):
        super().__init__(**kwargs)
        self.cnn = ConvStack(
            channels, kernel_size, 2, activation="elu", dtype=self.dtype_policy, name="cnn"
        )
        self.mlp = MLP(
            (*mlp, 2 * latent_size), activation="elu", dtype=self.dtype_policy, name="mlp"
        )

    def build(self, input_shape):
        self.cnn.build(input_shape)
        self.num_features = math.prod(self.cnn.compute_output_shape(input_shape)[1:])
        self.mlp.build((None, self.num_features))
        self.built = True

    def call(self, image):
        return tf.cast(self.mlp(tf.reshape(self.cnn(image), [-1, self.num_features])), tf.float32)


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
            self.encoder = BroadcastEncoder(
                config.encoder_channels,
                config.kernel_size,
                config.encoder_mlp,
                self.latent_size,
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
        kl = tfd.kl_divergence(posterior, tfd.Normal(0.0, 1.0))  # [B, 1, D]
        squared_error = tf.reduce_sum(tf.square(image - scene.recon), axis=[1, 2, 3])
        last_scale = (
            self.config.likelihood_scale
            if self.config.later_scale is None
            else self.config.later_scale
        )
        terms = {
            "squared_error": squared_error,
            "nll": isotropic_nll(squared_error, self.num_values(), last_scale),
            "kl": tf.reduce_sum(kl, axis=[1, 2]),
        }
        terms |= {"elbo": -(terms["nll"] + terms["kl"]), "mse": squared_error / self.num_values()}
        return SceneOutputs(
            *scene,
            slots=posterior.loc,
            posterior={"loc": posterior.loc, "scale": posterior.scale, "kl": kl},
            loss_terms=terms,
        )

    def encode(self, image):
        """Returns q(z | x), a `tfd.Normal` of batch shape [B, 1, D], from the image [B, H, W, C]."""
        return log_variance_gaussian(self.encoder(image)[:, None])

    def num_values(self):
        """Returns H W C."""
        return math.prod(self.config.image_size) * self.config.channels

    def total_loss(self, terms, step):
        """mean over scenes of nll + beta kl, in nats, under the sigma of the step; so are `nll` and `elbo` here."""
        scale = stepped(
            step,
            self.config.likelihood_scale,
            self.config.later_scale,
            self.config.later_scale_from_step,
        )
        nll = isotropic_nll(terms.pop("squared_error"), self.num_values(), scale)
        terms |= {"nll": nll, "elbo": -(nll + terms["kl"])}
        return nll + self.config.beta * terms["kl"], terms

    def decode(self, slots):
        """Renders latents [B, K, D] as a `DecodedScene` with equal masks, 1 everywhere for the one slot of a scene."""
        batch, num_slots = batch_and_slots(slots)
        pixels = self.decoder(fold_slots(slots))
        if self.config.architecture == "conv":
            pixels = tf.sigmoid(pixels)
        slot_recons = unfold_slots(pixels, batch, num_slots)
        masks = tf.ones_like(slot_recons[..., :1]) / tf.cast(num_slots, tf.float32)
        return DecodedScene(compose(masks, slot_recons), masks, slot_recons)

    def sample(self, num, seed, num_slots=None):
        """Draws `num` scenes from the prior: z ~ N(0, I), decoded."""
        return self.decode(random.normal(seed, "vae/prior", [num, 1, self.latent_size]))
