"""GENESIS (Engelcke et al. 2020, "GENESIS: Generative Scene Inference and Sampling with Object-Centric Latent Representations").

    p(zm_1) = N(0, I),   p(zm_k | zm_<k) = N(.; LSTM(zm_{k-1}))       mask latents, one slot after the other
    p(zc_k | zm_k) = N(.; MLP(zm_k))                                  component latents
    log m = stick breaking of decoder(zm),   mu_k = decoder(zc_k)
    p(x | z) = prod_{pixels, channels} sum_k m_k N(x; mu_k, scale^2)

Inference mirrors it: h = CNN(x), q(zm_k | zm_<k, h) from an LSTM that reads the samples, all masks decoded at once, then
q(zc_k | m, x) from every log mask and the whole image. One pass, no refinement. Slots are ordered; K is free at call time.
`slots` are posterior means [zm_k, zc_k], of later slots given the samples of earlier ones; masks and appearances are decoded samples.

    loss = NLL + beta KL        summed over pixels, channels, slots and latents, in nats

with beta from GECO (Rezende & Viola 2018): it falls while the NLL is above a goal. Variants: GENESIS-S has one latent per slot
for mask and appearance; GENESIS-V2 (Engelcke et al. 2021) finds its slots by clustering pixels (`genesis_v2`).

Sizes and constants are those of the released code; the paper's own tables were not at hand. One thing is mended: that code samples
mask latents without the tanh of the density that it trains. Images of any size: gated convolutions with stride 2 pad as
TensorFlow does, one zero fewer before the first pixel of an even side than PyTorch's two on each side.
"""

import dataclasses
import math
from typing import Literal

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfobj.config import require
from tfobj.distributions.spatial_mixture import SpatialMixture
from tfobj.inference.geco import EASY_ERROR, KLMultiplier, gaussian_floor, mean_squared_error_at
from tfobj.models.base import DecodedScene, SceneConfig, SceneModel
from tfobj.models.genesis.components import default_strides, set_pytorch_initial_values
from tfobj.models.genesis.genesis_v2 import ClusteringNetwork
from tfobj.models.genesis.stick_breaking_network import StickBreakingNetwork
from tfobj.nn.slots import compose
from tfobj.structs import SceneOutputs

tfd = tfp.distributions


@dataclasses.dataclass(frozen=True, kw_only=True)
class GenesisConfig(SceneConfig):
    """GENESIS. Defaults: the released code on the authors' Multi-dSprites, 64 x 64 (12,619,012 parameters); `num_steps` must be 1."""

    image_size: tuple[int, int] = (64, 64)
    channels: int = 3
    num_slots: int = 5
    num_steps: int = 1
    variant: Literal["genesis", "genesis_s", "genesis_v2"] = "genesis"
    mask_latent_size: int = 64
    """Size of the only latent in "genesis_s" and "genesis_v2"."""
    component_latent_size: int = 16
    norm: Literal["batch", "instance", "none"] = "batch"
    """In the mask encoder and decoder. With "batch", scenes of a batch see each other in training."""
    mask_strides: tuple[int, ...] = ()
    """Of the mask encoder, one per layer; the decoder's are these in reverse order. Empty: by image size, see `default_strides`."""
    mask_encoder_channels: tuple[int, ...] = (32, 32, 64, 64, 64)
    mask_decoder_channels: tuple[int, ...] = (64, 64, 32, 32, 32, 32)
    """One more than strides: the first layer makes a map of the vector."""
    mask_features: int = 256
    posterior_units: int = 128
    prior_units: int = 256
    autoregressive_prior: bool = True
    """False: mask latents are N(0, I)."""
    component_prior: bool = True
    """False: component latents are N(0, I)."""
    component_prior_hidden: tuple[int, ...] = (256, 256)
    component_encoder_channels: tuple[int, ...] = (32, 32, 64, 64)
    component_encoder_hidden: int = 256
    component_decoder_channels: tuple[int, ...] = (32, 32, 32, 32)
    component_pixel_shuffle: int = 1
    """Above 1 (ours): the component decoder runs at 1 / r of the resolution and its last layer yields r x r pixels per position."""
    v2_features: int = 64
    """In "genesis_v2", which has none of the settings of masks and components: channels of U-Net and decoder, a multiple of 8."""
    v2_embedding_size: int = 8
    v2_embedding_gain: float = 0.0
    """Initial value of the learned factor of what an embedding takes from the picture; at 0, pixels are first clustered by place alone."""
    likelihood: Literal["mixture", "gaussian"] = "mixture"
    """A mixture over slots in every pixel and channel; or one Gaussian around the composed image (Emami 2021, for textured sprites)."""
    likelihood_scale: float = 0.7
    """Standard deviation, image in [0, 1]."""
    kl: Literal["monte_carlo", "analytic"] = "monte_carlo"
    """From the samples of inference (released code), or in closed form given the samples before; the expectations agree."""
    geco_goal: float | None = 0.5655
    """Bound on the NLL, nats per pixel and channel. None: beta is `kl_weight`."""
    geco_rate: float = 1e-5
    """At 64 x 64 pixels; inversely proportional to their number."""
    geco_speed_up: float = 10.0
    """Factor on the rate while the goal is met."""
    kl_weight: float = 0.5
    kl_warmup_steps: int = 0
    """`kl_weight` rises linearly from zero over these steps."""

    @property
    def slot_size(self):
        """D: of the mask latent and, in "genesis", of the component latent after it."""
        return self.mask_latent_size + (
            self.component_latent_size if self.variant == "genesis" else 0
        )

    def __post_init__(self):
        super().__post_init__()
        require(
            self.num_steps == 1, "model.num_steps", "1: genesis has no iterations", self.num_steps
        )
        for name in ("mask_latent_size", "component_latent_size", "component_pixel_shuffle"):
            require(getattr(self, name) >= 1, f"model.{name}", "at least 1", getattr(self, name))
        require(
            self.v2_features >= 8 and self.v2_features % 8 == 0,
            "model.v2_features",
            "a multiple of 8",
            self.v2_features,
        )
        require(
            self.v2_embedding_size >= 2,
            "model.v2_embedding_size",
            "at least 2",
            self.v2_embedding_size,
        )
        layers = len(self.mask_encoder_channels)
        require(
            layers >= 1,
            "model.mask_encoder_channels",
            "one number per layer",
            self.mask_encoder_channels,
        )
        require(
            len(self.strides()) == layers and min(self.strides()) >= 1,
            "model.mask_strides",
            f"{layers} positive numbers",
            self.strides(),
        )
        require(
            len(self.mask_decoder_channels) == layers + 1,
            "model.mask_decoder_channels",
            f"{layers + 1} numbers",
            self.mask_decoder_channels,
        )
        for name in ("likelihood_scale", "geco_rate", "geco_speed_up"):
            require(
                0 < getattr(self, name) < math.inf, f"model.{name}", "positive", getattr(self, name)
            )
        for name in ("kl_weight", "kl_warmup_steps"):
            require(
                0 <= getattr(self, name) < math.inf,
                f"model.{name}",
                "at least 0",
                getattr(self, name),
            )
        if self.geco_goal is not None:
            floor = gaussian_floor(self.likelihood_scale)
            error = mean_squared_error_at(self.geco_goal, self.likelihood_scale)
            require(
                error > 0 and self.geco_goal < math.inf,
                "model.geco_goal",
                f"above {floor:.5f}, the value of a perfect reconstruction at likelihood_scale={self.likelihood_scale:g}, and finite, or none "
                f"(a goal of {floor:.5f} + MSE / {2 * self.likelihood_scale**2:g} asks for that mean squared error; this one for {error:.2g})",
                self.geco_goal,
            )

    def warnings(self):
        if self.geco_goal is None:
            return []
        error = mean_squared_error_at(self.geco_goal, self.likelihood_scale)
        if error < EASY_ERROR:
            return []
        return [
            (
                f"`model.geco_goal` = {self.geco_goal:g} at likelihood_scale = {self.likelihood_scale:g} asks for a mean squared error of {error:.2g} only: "
                f"a picture of one colour may do. The floor is {gaussian_floor(self.likelihood_scale):.5f}; add MSE / (2 scale^2)."
            )
        ]

    def strides(self):
        """Returns the strides of the mask encoder."""
        return self.mask_strides or default_strides(self.image_size)


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
        self.network = (
            ClusteringNetwork if config.variant == "genesis_v2" else StickBreakingNetwork
        )(config, name="network")
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
        first, size = self.config.mask_latent_size, self.config.slot_size
        return (
            {"mask": (0, first), "component": (first, size)}
            if self.config.variant == "genesis"
            else {"latent": (0, size)}
        )

    def call(self, image, *, num_slots=None, num_steps=None, seed=None, training=False):
        num_slots, _, seed = self.resolve_call(image, num_slots, num_steps, seed)
        inference = self.network.infer(image, num_slots, seed, training)
        nll = self.negative_log_likelihood(image, inference.log_masks, inference.means)
        q, p = inference.posterior, self.network.prior(inference.samples)
        kl_per_latent = tfd.kl_divergence(q, p)  # [B, K, D]
        kl = (
            kl_per_latent
            if self.config.kl == "analytic"
            else q.log_prob(inference.samples) - p.log_prob(inference.samples)
        )
        kl_per_slot = tf.reduce_sum(kl, axis=-1)
        kl = tf.reduce_sum(kl_per_slot, axis=1)
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
        """Returns - log p(x | z) [B], nats summed over pixels and channels, the constant 1/2 ln 2 pi included."""
        scale = self.config.likelihood_scale
        if self.config.likelihood == "mixture":
            return -SpatialMixture(means, log_masks, scale, reduce="channel").log_prob(image)
        return -tfd.Independent(tfd.Normal(compose(tf.exp(log_masks), means), scale), 3).log_prob(
            image
        )

    def total_loss(self, terms, step):
        """mean over scenes of NLL + beta KL, in nats; beta is `kl_weight` among the terms, `geco_multiplier` under GECO."""
        weight = self.kl_weight(step)
        if self.multiplier is None:
            more = {"kl_weight": weight}
        else:
            more = {"geco_multiplier": weight, "geco_constraint": self.multiplier.constraint()}
        return terms["nll"] + weight * terms["kl"], {**terms, **more}

    def kl_weight(self, step):
        """Returns beta: the multiplier of GECO, or the constant, warmed up."""
        if self.multiplier is not None:
            return self.multiplier.multiplier()
        if not self.config.kl_warmup_steps:
            return tf.constant(self.config.kl_weight)
        return self.config.kl_weight * tf.minimum(
            1.0, tf.cast(step, tf.float32) / self.config.kl_warmup_steps
        )

    def update_state(self, terms, statistics, step):
        """GECO follows the NLL, batch norms their moments."""
        if self.multiplier is not None:
            self.multiplier.update(terms["nll"], step)
        for norm in self.network.batch_norms():
            norm.update(statistics)

    def decode(self, slots):
        """Renders latents [B, K, D] as a `DecodedScene`: D is the mask latent and the component latent after it."""
        log_masks, means = self.network.decode(slots)
        masks = tf.exp(log_masks)
        return DecodedScene(compose(masks, means), masks, means)

    def sample(self, num, seed, num_slots=None):
        """Draws `num` scenes from the prior, slot after slot."""
        return self.decode(
            self.network.sample_prior(
                num, self.config.num_slots if num_slots is None else num_slots, seed
            )
        )
