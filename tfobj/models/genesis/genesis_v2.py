"""Inference and generation of GENESIS-V2 (Engelcke et al. 2021).

The paper is "GENESIS-V2: Inferring Unordered Object Representations without Iterative Refinement".

    e_n = gain Conv(head_s(f)_n) + (0, ..., 0, row_n, column_n)   embedding of pixel n, f = U-Net(x)
    seed_k = argmax_n u_n scope_n,   u ~ U(0, 1) once         stochastic stick breaking, K - 1 times
    alpha_n = exp(-|e_n - e_seed|^2 / s)
    mask_k = scope alpha,   scope <- scope (1 - alpha)
    q(z_k) = N(MLP(sum_n mask_kn head_f(f)_n / sum_n mask_kn))   one latent per slot, all at once
    p(x | z): decoder(z_k) -> appearance and mask logit, softmax over slots

Only the clustering and the autoregressive prior are recurrent over slots. The likelihood has the
decoded masks; those of the clustering (`history`) decide which pixels a latent describes. Slots
come in random order.

The layers are those of the released code, 2,729,422 parameters at 64 x 64: both heads (segmentation
head_s and features head_f) begin with a 3 x 3 convolution without bias, a group norm and a ReLU,
and the U-Net has no output layer. The feature head is evaluated once per image; the released code
evaluates it once per slot, a third of its forward pass.
"""

import math

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfobj import random
from tfobj.models.genesis.components import (
    Inference,
    RecurrentPrior,
    posterior_gaussian,
    sample_with_noise,
)
from tfobj.nn import coordinates
from tfobj.nn.broadcast_decoder import BroadcastGrid
from tfobj.nn.convolution import crop
from tfobj.nn.iteration import scan
from tfobj.nn.layers import Conv2D, Conv2DTranspose
from tfobj.nn.mlp import MLP
from tfobj.nn.slots import (
    batch_and_slots,
    batch_size,
    fold_slots,
    log_softmax_over_slots,
    split_decoded,
    unfold_slots,
)
from tfobj.nn.unet import UNet, UNetBlock, default_blocks

tfd = tfp.distributions

GROUPS = 8
"""Groups of all group norms."""
LEAST_SHARE = 0.01
GREATEST_SHARE = 0.99
"""Bounds of alpha: no pixel is taken or left entirely."""


class PixelClustering(keras.layers.Layer):
    """Features [B, H, W, C] -> log masks and log scopes [B, K, H, W, 1].

    The method is instance-colouring stick breaking.
    """

    def __init__(self, config, **kwargs):
        super().__init__(autocast=False, dtype="float32", **kwargs)
        self.config = config
        self.embedding = Conv2D(config.v2_embedding_size, 1, dtype="float32", name="embedding")

    def build(self, input_shape):
        _, height, width, _ = input_shape
        self.embedding.build(input_shape)
        self.gain = self.add_weight(
            name="gain",
            shape=(),
            initializer=keras.initializers.Constant(self.config.v2_embedding_gain),
        )
        # Its logarithm is learned, so that it stays positive.
        self.log_scale = self.add_weight(name="log_scale", shape=(), initializer="zeros")
        self.grid = coordinates.grid_weight(self, coordinates.linear_grid(height, width))
        self.built = True

    def embeddings(self, features):
        """Returns the embeddings [B, H W, E] of pixels, a semi-convolution (Novotny 2018).

        Their last two dimensions know where the pixel is.
        """
        size = self.embedding.filters
        grid = tf.pad(self.grid.value, [[0, 0], [0, 0], [size - 2, 0]])
        embedded = self.gain.value * self.embedding(features) + grid
        return tf.reshape(embedded, [-1, grid.shape[0] * grid.shape[1], size])

    def call(self, features, priorities, num_slots):
        """Returns (log masks, log scopes), both [B, K, H, W, 1].

        Args:
          features: [B, H, W, C].
          priorities: [B, H W], uniform noise u that decides among the pixels of the scope.
          num_slots: K, a Python or tensor integer.
        """
        embedded = self.embeddings(features)

        # s = factor / (K ln 2), the factor learned. The release learns s itself, from 1 / (K ln 2)
        # on, which would tie the weights to one K.
        sharpness = tf.cast(num_slots, tf.float32) * math.log(2.0) * tf.exp(-self.log_scale.value)

        def body(k, state):
            (log_scope,) = state
            scores = tf.math.log(priorities) + tf.stop_gradient(log_scope)
            seed = tf.argmax(scores, axis=1, output_type=tf.int32)
            centre = tf.gather(embedded, seed, batch_dims=1)[:, None]

            log_share = -tf.reduce_sum(tf.square(embedded - centre), axis=-1) * sharpness
            share = tf.exp(log_share)
            # Straight through: the gradient passes the bounds.
            bounded = tf.clip_by_value(share, LEAST_SHARE, GREATEST_SHARE)
            share += tf.stop_gradient(bounded - share)

            left = log_scope + tf.math.log1p(-share)
            return (left,), (log_scope + tf.math.log(share), log_scope)

        # The last slot takes what is left.
        (left,), (log_masks, log_scopes) = scan(body, (tf.zeros_like(priorities),), num_slots - 1)
        _, height, width, _ = features.shape

        def as_maps(x):
            x = tf.transpose(tf.concat([x, left[None]], axis=0), [1, 0, 2])
            return tf.reshape(x, [-1, num_slots, height, width, 1])

        return as_maps(log_masks), as_maps(log_scopes)


class EnlargingDecoder(keras.layers.Layer):
    """Latents [N, D] -> [N, H, W, C + 1] float32, by four transposed convolutions of stride 2.

    They start from a broadcast grid of a 16th of the size. Excess rows and columns are cropped at
    the lower and right border.
    """

    def __init__(self, config, **kwargs):
        super().__init__(**kwargs)
        self.size = config.image_size
        common = {"dtype": self.dtype_policy}
        self.broadcast = BroadcastGrid(
            [-(-side // 16) for side in self.size], positions="append", name="broadcast", **common
        )
        self.convolutions = [
            Conv2DTranspose(
                config.v2_features, 5, strides=2, padding="same", name=f"conv_{i}", **common
            )
            for i in range(4)
        ]
        self.norms = [
            keras.layers.GroupNormalization(GROUPS, epsilon=1e-5, dtype="float32", name=f"norm_{i}")
            for i in range(4)
        ]
        self.output_layer = Conv2D(config.channels + 1, 1, name="output", **common)

    def build(self, input_shape):
        self.broadcast.build(input_shape)
        shape = self.broadcast.compute_output_shape(input_shape)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            convolution.build(shape)
            shape = convolution.compute_output_shape(shape)
            norm.build(shape)
        self.output_layer.build(shape)
        self.built = True

    def call(self, latents):
        x = self.broadcast(latents)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = tf.nn.relu(tf.cast(norm(convolution(x)), self.compute_dtype))
        return tf.cast(self.output_layer(crop(x, self.size)), tf.float32)


class ClusteringNetwork(keras.layers.Layer):
    """GENESIS-V2 behind the interface of `StickBreakingNetwork`; one latent per slot."""

    def __init__(self, config, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.config = config
        features = config.v2_features
        size = config.mask_latent_size
        common = {"dtype": self.dtype_policy}

        self.encoder = UNet(
            default_blocks(config.image_size),
            features,
            channels=None,
            groups=GROUPS,
            name="encoder",
            **common,
        )
        self.segmentation_head = UNetBlock(
            features, groups=GROUPS, name="segmentation_head", **common
        )
        self.clustering = PixelClustering(config, name="clustering")
        self.head = UNetBlock(features, groups=GROUPS, name="head", **common)
        self.head_output = Conv2D(2 * features, 1, name="head_output", **common)
        self.norm = keras.layers.LayerNormalization(epsilon=1e-5, dtype="float32", name="norm")
        self.mlp = MLP((2 * features, 2 * size), dtype="float32", name="mlp")

        self.prior_network = None
        if config.autoregressive_prior:
            self.prior_network = RecurrentPrior(
                size, config.prior_units, recurrent_bias=True, name="prior"
            )
        self.decoder = EnlargingDecoder(config, name="decoder", **common)

    def build(self, input_shape):
        features = self.config.v2_features
        shape = (None, *self.config.image_size, features)
        self.encoder.build(input_shape)
        self.segmentation_head.build(shape)
        self.clustering.build(shape)
        self.head.build(shape)
        self.head_output.build(shape)
        for layer in (self.norm, self.mlp):
            layer.build((None, None, 2 * features))

        if self.prior_network is not None:
            self.prior_network.build()
        self.decoder.build((None, self.config.mask_latent_size))
        self.built = True

    def batch_norms(self):
        """Returns no layers: all norms here are of single images."""
        return []

    def infer(self, image, num_slots, seed, training=False):
        """Infers the latents of all slots and decodes them.

        Args:
          image: [B, H, W, C].
          num_slots: K, a Python or tensor integer.
          seed: int32 [3] of `random.make_seed`.
          training: not used.

        Returns:
          `Inference`.
        """
        batch = batch_size(image)
        height, width = self.config.image_size

        # Cluster the pixels.
        features = self.encoder(image)
        priorities = random.uniform(seed, "genesis/cluster_seeds", [batch, height * width])
        log_attention, log_scopes = self.clustering(
            tf.cast(self.segmentation_head(features), tf.float32), priorities, num_slots=num_slots
        )

        # Describe every cluster by a latent. Of many slots, the last may have too little attention
        # for float32: 0.01 ** 30. Only its proportions count.
        greatest = tf.reduce_max(log_attention, axis=[2, 3], keepdims=True)
        q = self.posterior(features, tf.exp(log_attention - tf.stop_gradient(greatest)))
        shape = [batch, num_slots, self.config.mask_latent_size]
        latents = sample_with_noise(q, random.normal(seed, "genesis/mask_latents", shape))

        history = {"scopes": tf.exp(log_scopes), "stick_masks": tf.exp(log_attention)}
        return Inference(q, latents, *self.decode(latents), history, {})

    def posterior(self, features, attention):
        """Returns q of the latents, a `tfd.Normal` [B, K, D].

        Args:
          features: [B, H, W, F].
          attention: [B, K, H, W, 1], share of each slot in each pixel, up to a factor per slot.
        """
        heads = tf.cast(self.head_output(self.head(features)), tf.float32)  # [B, H, W, 2 F]
        total = tf.reduce_sum(attention, axis=[2, 3])
        pooled = tf.einsum("bkhwo,bhwf->bkf", attention, heads) / total
        return posterior_gaussian(self.mlp(self.norm(pooled)))

    def decode(self, latents):
        """Latents [B, K, D] -> (log masks [B, K, H, W, 1], means [B, K, H, W, C])."""
        batch, num_slots = batch_and_slots(latents)
        decoded = unfold_slots(self.decoder(fold_slots(latents)), batch, num_slots)
        means, logits = split_decoded(decoded)
        return log_softmax_over_slots(logits), tf.sigmoid(means)

    def prior(self, latents):
        """Returns p of every latent [B, K, D] given earlier slots, a `tfd.Normal` [B, K, D]."""
        if self.prior_network is None:
            return tfd.Normal(tf.zeros_like(latents), tf.ones_like(latents))
        return self.prior_network.distribution(batch_and_slots(latents)[1]).conditionals(latents)

    def sample_prior(self, num, num_slots, seed):
        """Samples latents [num, K, D] from the prior, one slot after the other."""
        shape = [num, num_slots, self.config.mask_latent_size]
        noise = random.normal(seed, "genesis/prior_mask_latents", shape)
        if self.prior_network is None:
            return noise
        return self.prior_network.distribution(num_slots).from_noise(noise)
