"""Slot Attention autoencoder (Locatello et al. 2020, "Object-Centric Learning with Slot Attention").

    F     = MLP(LN(CNN(x) + position embedding))            tokens [B, N, C]
    s_k   ~ N(mu, exp(log_sigma)^2)                         exchangeable slots [B, K, D]
    s     = SlotAttention(F, s)                             `num_steps` iterations
    y, a  = CNN(broadcast(s) + position embedding)          RGB and mask logit of every slot
    x_hat = sum_k softmax_k(a)_k y_k
    loss  = mean over pixels and channels of (x - x_hat)^2  images in [-1, 1]

Deterministic but for the initial slots, symmetric in the slots, no probability. The paper's sprite-set
architectures are known through re-implementations only; where the official TensorFlow code speaks (CLEVR),
it is followed. `Slot MLP`, the baseline with ordered slots, is in `models/slot_mlp`.
"""

import dataclasses

import keras
import tensorflow as tf

from tfobj import random
from tfobj.config import require
from tfobj.models.base import DecodedScene, SceneConfig, SceneModel
from tfobj.nn.broadcast_decoder import BroadcastDecoder
from tfobj.nn.convolution import ConvStack
from tfobj.nn.coordinates import PositionEmbedding
from tfobj.nn.mlp import MLP
from tfobj.nn.slot_attention import SlotAttention
from tfobj.nn.slots import (
    batch_and_slots,
    batch_size,
    compose,
    fold_slots,
    split_decoded,
    unfold_slots,
)
from tfobj.structs import SceneOutputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class SlotAutoencoderConfig(SceneConfig):
    """Encoder and decoder that Slot Attention and Slot MLP share. Defaults: Tetrominoes and Multi-dSprites, 35x35 to 64x64.

    Slot size 64 on Tetrominoes is not settled in the literature (Emami 2021 uses 32).
    """

    image_size: tuple[int, int] = (35, 35)
    channels: int = 3
    num_slots: int = 4
    num_steps: int = 3
    slot_size: int = 64
    encoder_channels: tuple[int, ...] = (32, 32, 32, 32)
    encoder_kernels: tuple[int, ...] = (5,)
    """One entry per layer, or one for all; likewise for strides and the decoder's."""
    encoder_strides: tuple[int, ...] = (1,)
    token_hidden: int | None = None
    """Hidden units of the per-token MLP; none: as many as the encoder's last layer has channels."""
    decoder_channels: tuple[int, ...] = (32, 32, 32)
    """Hidden layers; the output layer (RGB and mask logit) is added."""
    decoder_kernels: tuple[int, ...] = (5, 5, 5, 3)
    decoder_strides: tuple[int, ...] = (1,)
    """Above 1: transposed convolutions, which enlarge `decoder_grid`."""
    decoder_grid: tuple[int, ...] = ()
    """(h, w) that slots are broadcast to; empty: the image's own size."""
    decoder_pixel_shuffle: int = 1
    """Above 1: the output layer yields r x r pixels per position, the rest of the decoder runs at 1 / r of the resolution."""
    decoder_coarse_masks: bool = False
    """With a pixel shuffle: one mask logit per position, enlarged bilinearly, so that masks cannot follow single pixels."""

    def __post_init__(self):
        super().__post_init__()
        require(
            len(self.decoder_grid) in (0, 2),
            "model.decoder_grid",
            "empty or two numbers",
            self.decoder_grid,
        )
        require(self.slot_size >= 1, "model.slot_size", "positive", self.slot_size)
        require(
            self.decoder_pixel_shuffle >= 1,
            "model.decoder_pixel_shuffle",
            "at least 1",
            self.decoder_pixel_shuffle,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class SlotAttentionConfig(SlotAutoencoderConfig):
    """Slot Attention (Locatello 2020): K exchangeable slots, `num_steps` attention iterations."""

    mlp_hidden: int = 128
    """Hidden units of the residual MLP."""
    epsilon: float = 1e-8
    """Added to the attention before it is normalised over tokens."""
    initial_log_sigma: float = 0.0
    """Centre of the initial values of the initial slots' log standard deviation."""


class ImageTokens(keras.layers.Layer):
    """Image [B, H, W, C] in [0, 1] -> tokens [B, N, channels]: CNN, position embedding, layer norm, MLP."""

    def __init__(self, config, **kwargs):
        super().__init__(**kwargs)
        width = config.encoder_channels[-1]
        self.cnn = ConvStack(
            config.encoder_channels, config.encoder_kernels, config.encoder_strides, name="cnn"
        )
        self.positions = PositionEmbedding(name="positions")
        self.norm = keras.layers.LayerNormalization(epsilon=1e-3, dtype="float32", name="norm")
        self.mlp = MLP((config.token_hidden or width, width), name="mlp")

    def build(self, input_shape):
        self.cnn.build(input_shape)
        self.map_shape = self.cnn.compute_output_shape(input_shape)
        self.positions.build(self.map_shape)
        for layer in (self.norm, self.mlp):
            layer.build((None, None, self.map_shape[-1]))
        self.built = True

    def call(self, image):
        features = self.positions(self.cnn(2.0 * image - 1.0))
        tokens = tf.reshape(
            features, [-1, self.map_shape[1] * self.map_shape[2], self.map_shape[3]]
        )
        return self.mlp(self.norm(tokens))


class SlotAutoencoder(SceneModel):
    """What Slot Attention and Slot MLP share: tokens, decoder, mean squared error. Subclasses say how tokens become slots."""

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.tokens = ImageTokens(config, autocast=False, name="tokens")
        self.decoder = BroadcastDecoder(
            config.image_size,
            (*config.decoder_channels, config.channels + 1),
            config.decoder_kernels,
            config.decoder_strides,
            grid_size=config.decoder_grid or None,
            pixel_shuffle=config.decoder_pixel_shuffle,
            coarse_channels=int(config.decoder_coarse_masks),
            positions="add",
            name="decoder",
        )

    def build(self, input_shape=None):
        self.tokens.build((None, *self.config.image_size, self.config.channels))
        self.build_slots(self.tokens.map_shape)
        self.decoder.build((None, self.config.slot_size))
        self.built = True

    def build_slots(self, map_shape):
        """Builds what turns tokens into slots; `map_shape` is (None, h, w, channels) of the feature map."""
        raise NotImplementedError

    def infer(self, tokens, num_slots, num_steps, seed):
        """Returns (slots [B, K, D], history dict or None) from tokens [B, N, channels]."""
        raise NotImplementedError

    def call(self, image, *, num_slots=None, num_steps=None, seed=None, training=False):
        num_slots, num_steps, seed = self.resolve_call(image, num_slots, num_steps, seed)
        slots, history = self.infer(self.tokens(image), num_slots, num_steps, seed)
        scene = self.decode(slots)
        squared_error = tf.reduce_mean(tf.square(image - scene.recon), axis=[1, 2, 3])
        return SceneOutputs(
            *scene,
            slots=slots,
            loss_terms={"squared_error": 4.0 * squared_error, "mse": squared_error},
            history=history,
        )

    def total_loss(self, terms, step):
        """Mean squared error with images in [-1, 1] (`squared_error`); `mse` is the same with images in [0, 1]."""
        return terms["squared_error"], {"mse": terms["mse"]}

    def decode(self, slots):
        """Slots [B, K, D] -> `DecodedScene`; the decoder works in [-1, 1], the result is in [0, 1] (not clipped)."""
        decoded = unfold_slots(self.decoder(fold_slots(slots)), *batch_and_slots(slots))
        colours, mask_logits = split_decoded(decoded)
        masks = tf.nn.softmax(mask_logits, axis=1)
        slot_recons = 0.5 * (colours + 1.0)
        return DecodedScene(compose(masks, slot_recons), masks, slot_recons)


@keras.saving.register_keras_serializable("tfobj")
class SlotAttentionAutoencoder(SlotAutoencoder):
    """Slot Attention autoencoder; see the module's docstring."""

    config_class = SlotAttentionConfig

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.attention = SlotAttention(
            config.slot_size, config.mlp_hidden, epsilon=config.epsilon, name="attention"
        )
        self.build()

    def build_slots(self, map_shape):
        self.attention.build(map_shape)
        # Official initial values: Glorot uniform on [1, 1, D], i.e. +-sqrt(6 / (1 + D)), for mean and log sigma alike.
        size, centre = self.config.slot_size, self.config.initial_log_sigma
        shape, limit = (1, 1, size), (6.0 / (1 + size)) ** 0.5
        self.slot_mean = self.add_weight(
            name="slot_mean",
            shape=shape,
            autocast=False,
            initializer=keras.initializers.RandomUniform(-limit, limit),
        )
        self.slot_log_sigma = self.add_weight(
            name="slot_log_sigma",
            shape=shape,
            autocast=False,
            initializer=keras.initializers.RandomUniform(centre - limit, centre + limit),
        )

    def initial_slots(self, batch, num_slots, seed):
        """Draws s_k = mu + exp(log sigma) * noise, [B, K, D]: the only thing that tells slots apart."""
        noise = random.normal(
            seed, "slot_attention/initial_slots", [batch, num_slots, self.config.slot_size]
        )
        return self.slot_mean + tf.exp(self.slot_log_sigma) * noise

    def infer(self, tokens, num_slots, num_steps, seed):
        slots, attention = self.attention(
            tokens, self.initial_slots(batch_size(tokens), num_slots, seed), num_steps=num_steps
        )
        return slots, {"attention": attention[:, None]}
