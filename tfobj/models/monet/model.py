"""MONet (Burgess et al. 2019, "MONet: Unsupervised Scene Decomposition and Representation").

A recurrent attention network breaks one mask after the other off the part of the image that is not yet explained, the scope s;
one VAE, shared by all slots, encodes and renders image and mask of each:

    log s_0 = 0,   a_k = U([x, log s_{k-1}])                  U: a U-Net, k = 1 ... K - 1
    log m_k = log s_{k-1} + log sigmoid(a_k),   log s_k = log s_{k-1} + log(1 - sigmoid(a_k)),   log m_K = log s_{K-1}
    q(z_k) = N(loc, scale^2) = encoder([x, log m_k]),         p(z_k) = N(0, I)
    mu_k, l_k = decoder(z_k)                                  means of the pixels, logits of the reconstructed masks
    p(x | z) = prod_pixels,channels sum_k m_k N(x; mu_k, sigma_k^2)

    loss = -log p(x | z) + beta sum_k KL(q(z_k) || p(z_k)) + gamma sum_pixels KL(m || softmax_k(l))

Slots are ordered: the first one has the smaller sigma, explains most pixels more cheaply, and so takes the background. The masks m
are not random variables, hence the loss bounds no likelihood; `elbo` in `loss_terms` is -(nll + kl), for comparison with other models.
K may change at call time.

The paper leaves open the widths of the U-Net (those of Engelcke 2020's code here), whether pixel means are bounded (a sigmoid, as in
most re-implementations), and the initial weights (U(+-1 / sqrt(fan in)), biases zero).
"""

import dataclasses
from typing import Literal

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfobj import random
from tfobj.config import require
from tfobj.distributions.spatial_mixture import SpatialMixture
from tfobj.models.base import DecodedScene, SceneConfig, SceneModel
from tfobj.nn.broadcast_decoder import BroadcastDecoder
from tfobj.nn.convolution import ConvStack
from tfobj.nn.iteration import scan
from tfobj.nn.mlp import MLP
from tfobj.nn.slots import (
    batch_and_slots,
    batch_size,
    compose,
    fold_slots,
    split_decoded,
    unfold_slots,
)
from tfobj.nn.unet import UNet, default_blocks
from tfobj.structs import SceneOutputs

tfd = tfp.distributions

LOWEST_LOG_MASK = -14.0
"""Networks see no smaller log masks and log scopes; the likelihood does. Ours: scopes fall without bound."""
LOWEST_MASK = 1e-5
"""Floor of the masks within their KL (as in public re-implementations): 0 log 0 and the logarithm of a vanished reconstruction are finite."""
LOG_SCALE_BOUND = 10.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class MonetConfig(SceneConfig):
    """MONet. Defaults: 64 x 64 images, the paper's standard deviations and weights: 974,085 parameters."""

    image_size: tuple[int, int] = (64, 64)
    channels: int = 3
    num_slots: int = 6
    num_steps: int = 1
    """No refinement: always 1."""
    background_scale: float = 0.09
    """Standard deviation of the pixels of the first slot, image in [0, 1]."""
    foreground_scale: float = 0.11
    """Of all other slots. Larger than the first one's, so that the first slot takes the background."""
    mixture: Literal["channel", "pixel"] = "channel"
    """What comes from one slot: a colour channel of a pixel, as in all re-implementations, or (ours) a pixel with all its channels."""
    beta: float = 0.5
    """Weight of the KL of the latents."""
    gamma: float = 0.5
    """Weight of the KL between attention masks and reconstructed masks."""
    latent_size: int = 16
    unet_blocks: int | None = None
    """Blocks per path of the attention network; none: so many that the lowest map has 4 to 7 pixels on the shorter side."""
    unet_filters: int = 32
    """Channels of its larger maps; the small ones have twice as many."""
    unet_mlp: tuple[int, ...] = (128, 128)
    encoder_channels: tuple[int, ...] = (32, 32, 64, 64)
    encoder_mlp: tuple[int, ...] = (256,)
    decoder_channels: tuple[int, ...] = (32, 32, 32, 32)
    """3 x 3 layers without padding; a 1 x 1 layer to colours and mask logit follows."""
    decoder_pixel_shuffle: int = 1
    """Above 1 (ours): the decoder runs at 1 / r of the resolution and its last layer yields r x r pixels per position."""
    initial_gain: float = 1.0
    """Kernels begin uniform within initial_gain / sqrt(fan in)."""

    @property
    def slot_size(self):
        """D."""
        return self.latent_size

    def __post_init__(self):
        super().__post_init__()
        require(
            self.num_steps == 1, "model.num_steps", "1: MONet has no refinement", self.num_steps
        )
        for name in ("background_scale", "foreground_scale", "initial_gain"):
            require(getattr(self, name) > 0, f"model.{name}", "positive", getattr(self, name))
        for name in ("beta", "gamma"):
            require(getattr(self, name) >= 0, f"model.{name}", "at least 0", getattr(self, name))
        require(self.latent_size >= 1, "model.latent_size", "positive", self.latent_size)


class ComponentEncoder(keras.layers.Layer):
    """Image and log mask [N, H, W, C + 1] -> [N, 2 D] float32, mean and log standard deviation (Burgess 2019, appendix B.1)."""

    def __init__(self, channels, mlp, latent_size, initializer, **kwargs):
        super().__init__(**kwargs)
        self.cnn = ConvStack(
            channels, 3, 2, padding=1, initializer=initializer, dtype=self.dtype_policy, name="cnn"
        )
        self.mlp = MLP(
            (*mlp, 2 * latent_size), initializer=initializer, dtype=self.dtype_policy, name="mlp"
        )

    def build(self, input_shape):
        self.cnn.build(input_shape)
        _, height, width, channels = self.cnn.compute_output_shape(input_shape)
        self.num_features = height * width * channels
        self.mlp.build((None, self.num_features))
        self.built = True

    def call(self, x):
        return tf.cast(self.mlp(tf.reshape(self.cnn(x), [-1, self.num_features])), tf.float32)


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
        self.encoder = ComponentEncoder(
            config.encoder_channels,
            config.encoder_mlp,
            config.latent_size,
            initializer,
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
        posterior = self.encode(image, log_masks, num_slots)
        noise = random.normal(
            seed, "monet/posterior", [batch_size(image), num_slots, self.config.latent_size]
        )
        slot_recons, mask_logits = self.render(posterior.loc + posterior.scale * noise)
        masks = tf.exp(log_masks)
        recon = compose(masks, slot_recons)

        kl = tfd.kl_divergence(posterior, tfd.Normal(0.0, 1.0))  # [B, K, D]
        terms = {
            "nll": -SpatialMixture(
                slot_recons, log_masks, self.pixel_scale(num_slots), reduce=self.config.mixture
            ).log_prob(image),
            "kl": tf.reduce_sum(kl, axis=[1, 2]),
            "mask_kl": mask_divergence(log_masks, tf.nn.log_softmax(mask_logits, axis=1)),
        }
        terms |= {
            "elbo": -(terms["nll"] + terms["kl"]),
            "mse": tf.reduce_mean(tf.square(image - recon), axis=[1, 2, 3]),
        }
        return SceneOutputs(
            recon=recon,
            masks=masks,
            slot_recons=slot_recons,
            slots=posterior.loc,
            loss_terms=terms,
            posterior={"loc": posterior.loc, "scale": posterior.scale, "kl": kl},
            history={
                "scopes": tf.exp(log_scopes),
                "stick_masks": masks,
                "decoded_masks": tf.nn.softmax(mask_logits, axis=1),
            },
        )

    def attend(self, image, num_slots):
        """Breaks the image into masks, one slot after the other.

        Args:
          image: [B, H, W, C].
          num_slots: K, Python or tensor integer, at least 2.

        Returns:
          (log m_k, log s_{k-1}), each [B, K, H, W, 1]: the masks, and the scope that each was broken off.
        """

        def step(_, state):
            (log_scope,) = state
            logits = self.attention(
                tf.concat([image, tf.maximum(log_scope, LOWEST_LOG_MASK)], axis=-1)
            )
            return (log_scope - tf.nn.softplus(logits),), (
                log_scope - tf.nn.softplus(-logits),
                log_scope,
            )

        (rest,), (log_masks, log_scopes) = scan(
            step, (tf.zeros_like(image[..., :1]),), num_slots - 1
        )
        return tuple(
            tf.transpose(tf.concat([x, rest[None]], axis=0), [1, 0, 2, 3, 4])
            for x in (log_masks, log_scopes)
        )

    def encode(self, image, log_masks, num_slots):
        """Returns q(z_k), a `tfd.Normal` of batch shape [B, K, D], from the image [B, H, W, C] and log m_k [B, K, H, W, 1]."""
        tiled = tf.repeat(image[:, None], num_slots, axis=1)
        inputs = tf.concat([tiled, tf.maximum(log_masks, LOWEST_LOG_MASK)], axis=-1)
        parameters = unfold_slots(self.encoder(fold_slots(inputs)), batch_size(image), num_slots)
        loc, log_scale = tf.split(parameters, 2, axis=-1)
        return tfd.Normal(
            loc, tf.exp(tf.clip_by_value(log_scale, -LOG_SCALE_BOUND, LOG_SCALE_BOUND))
        )

    def render(self, latents):
        """Latents [B, K, D] -> (means in (0, 1) [B, K, H, W, C], mask logits l [B, K, H, W, 1])."""
        decoded = unfold_slots(self.decoder(fold_slots(latents)), *batch_and_slots(latents))
        colours, mask_logits = split_decoded(decoded)
        return tf.sigmoid(colours), mask_logits

    def pixel_scale(self, num_slots):
        """Returns sigma_k, [K, 1, 1, 1]."""
        scales = tf.concat(
            [
                [self.config.background_scale],
                tf.fill([num_slots - 1], self.config.foreground_scale),
            ],
            axis=0,
        )
        return tf.reshape(scales, [-1, 1, 1, 1])

    def total_loss(self, terms, step):
        """mean over scenes of nll + beta kl + gamma mask_kl, in nats (Burgess 2019, Eq. 3)."""
        return terms["nll"] + self.config.beta * terms["kl"] + self.config.gamma * terms[
            "mask_kl"
        ], terms

    def decode(self, slots):
        """Renders latents [B, K, D] as a `DecodedScene` with the reconstructed masks, softmax_k(l): attention masks need an image."""
        slot_recons, mask_logits = self.render(slots)
        masks = tf.nn.softmax(mask_logits, axis=1)
        return DecodedScene(compose(masks, slot_recons), masks, slot_recons)

    def sample(self, num, seed, num_slots=None):
        """Draws `num` scenes: z ~ N(0, I) for every slot by itself, decoded. Their slots do not fit together."""
        shape = [
            num,
            self.config.num_slots if num_slots is None else num_slots,
            self.config.latent_size,
        ]
        return self.decode(random.normal(seed, "monet/prior", shape))


def mask_divergence(log_masks, log_decoded):
    """Returns sum_pixels KL(m || m_hat) in nats, [B], of log masks [B, K, H, W, 1]; both floored at `LOWEST_MASK` and normalised again."""

    def floored(log_probs):
        log_probs = tf.maximum(log_probs, tf.math.log(LOWEST_MASK))
        return log_probs - tf.reduce_logsumexp(log_probs, axis=1, keepdims=True)

    log_masks, log_decoded = floored(log_masks), floored(log_decoded)
    return tf.reduce_sum(tf.exp(log_masks) * (log_masks - log_decoded), axis=[1, 2, 3, 4])
