"""Slot Attention autoencoder (Locatello et al. 2020).

The paper is "Object-Centric Learning with Slot Attention".

    F     = MLP(LN(CNN(x) + position embedding))            tokens [B, N, C]
    s_k   ~ N(mu, exp(log_sigma)^2)                         exchangeable slots [B, K, D]
    s     = SlotAttention(F, s)                             `num_steps` iterations
    y, a  = CNN(broadcast(s) + position embedding)          RGB and mask logit of every slot
    x_hat = sum_k softmax_k(a)_k y_k
    loss  = mean over pixels and channels of (x - x_hat)^2  images in [-1, 1]

Only the initial slots are random; the model is symmetric in the slots and has no likelihood. The
paper's architectures for the sprite sets are known through re-implementations only; for CLEVR, the
official TensorFlow code is followed. `Slot MLP`, the baseline with ordered slots, is in
`models/slot_mlp`.
"""

import keras
import tensorflow as tf

from tfobj import random
from tfobj.errors import UserError
from tfobj.models.base import DecodedScene, SceneModel
from tfobj.models.slot_attention.config import SlotAttentionConfig
from tfobj.nn.broadcast_decoder import BroadcastDecoder, GridTooSmall
from tfobj.nn.convolution import ConvStack
from tfobj.nn.coordinates import PositionEmbedding
from tfobj.nn.mlp import MLP
from tfobj.nn.slot_attention import SlotAttention
from tfobj.nn.slots import (
    batch_and_slots,
    batch_size,
    compose,
    fold_slots,
    softmax_over_slots,
    split_decoded,
    unfold_slots,
)
from tfobj.structs import SceneOutputs


class ImageTokens(keras.layers.Layer):
    """Image [B, H, W, C] in [0, 1] -> tokens [B, N, channels].

    CNN, position embedding, layer norm and MLP follow each other.
    """

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
        _, height, width, channels = self.map_shape
        tokens = tf.reshape(features, [-1, height * width, channels])
        return self.mlp(self.norm(tokens))


class SlotAutoencoder(SceneModel):
    """Base of Slot Attention and Slot MLP: tokens, decoder, mean squared error.

    Subclasses say how tokens become slots, in `build_slots` and `infer`.
    """

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.tokens = ImageTokens(config, autocast=False, name="tokens")

        try:
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
        except GridTooSmall as e:
            raise UserError(f"`model.decoder_grid` must suit `model.image_size`. {e}") from e

    def build(self, input_shape=None):
        self.tokens.build((None, *self.config.image_size, self.config.channels))
        self.build_slots(self.tokens.map_shape)
        self.decoder.build((None, self.config.slot_size))
        self.built = True

    def build_slots(self, map_shape):
        """Builds the part that turns tokens into slots.

        Args:
          map_shape: (None, h, w, channels) of the feature map.
        """
        raise NotImplementedError

    def infer(self, tokens, num_slots, num_steps, seed):
        """Returns (slots [B, K, D], history dict or None) from tokens [B, N, channels]."""
        raise NotImplementedError

    def call(self, image, *, num_slots=None, num_steps=None, seed=None, training=False):
        num_slots, num_steps, seed = self.resolve_call(image, num_slots, num_steps, seed)
        slots, history = self.infer(self.tokens(image), num_slots, num_steps, seed)
        scene = self.decode(slots)

        # The paper's images are in [-1, 1], ours in [0, 1].
        mse = tf.reduce_mean(tf.square(image - scene.recon), axis=[1, 2, 3])
        return SceneOutputs(
            *scene,
            slots=slots,
            loss_terms={"squared_error": 4.0 * mse, "mse": mse},
            history=history,
        )

    def total_loss(self, terms, step):
        """Returns `squared_error`, the mean squared error of images in [-1, 1], and the terms.

        `mse` is the same with images in [0, 1].
        """
        return terms["squared_error"], {"mse": terms["mse"]}

    def decode(self, slots):
        """Renders slots [B, K, D] as a `DecodedScene`.

        The decoder works in [-1, 1]; the result is in [0, 1], not clipped.
        """
        batch, num_slots = batch_and_slots(slots)
        decoded = unfold_slots(self.decoder(fold_slots(slots)), batch, num_slots)
        colours, mask_logits = split_decoded(decoded)
        masks = softmax_over_slots(mask_logits)
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

        # Official initial values: Glorot uniform on [1, 1, D], i.e. +-sqrt(6 / (1 + D)), for mean
        # and log sigma alike.
        size = self.config.slot_size
        centre = self.config.initial_log_sigma
        limit = (6.0 / (1 + size)) ** 0.5
        self.slot_mean = self.add_weight(
            name="slot_mean",
            shape=(1, 1, size),
            autocast=False,
            initializer=keras.initializers.RandomUniform(-limit, limit),
        )
        self.slot_log_sigma = self.add_weight(
            name="slot_log_sigma",
            shape=(1, 1, size),
            autocast=False,
            initializer=keras.initializers.RandomUniform(centre - limit, centre + limit),
        )

    def initial_slots(self, batch, num_slots, seed):
        """Samples s_k = mu + exp(log sigma) * noise, [B, K, D].

        Nothing but the noise tells slots apart.
        """
        shape = [batch, num_slots, self.config.slot_size]
        noise = random.normal(seed, "slot_attention/initial_slots", shape)
        return self.slot_mean + tf.exp(self.slot_log_sigma) * noise

    def infer(self, tokens, num_slots, num_steps, seed):
        slots = self.initial_slots(batch_size(tokens), num_slots, seed)
        slots, attention = self.attention(tokens, slots, num_steps=num_steps)
        return slots, {"attention": attention[:, None]}
