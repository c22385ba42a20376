"""The parts of GENESIS (Engelcke et al. 2020; released code), in the order in which the data meets them.

Convolutions compute in the policy's type; recurrent networks, heads and the prior are small and stay in float32.
"""

import math
from typing import Any, NamedTuple

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfobj.distributions.autoregressive import AutoregressiveGaussian
from tfobj.nn.convolution import ConvStack
from tfobj.nn.gated_conv import GatedConvStack, GatedMapToVector, GatedVectorToMap
from tfobj.nn.iteration import scan
from tfobj.nn.layers import Conv2D, Dense
from tfobj.nn.mlp import MLP

tfd = tfp.distributions

LEAST_LOG_MASK = -14.0
"""Bound (8e-7) on log masks as inputs of a network, which would otherwise see values of -100 and less; the likelihood has none."""

STRIDES = {
    32: (1, 2, 1, 2, 1),
    64: (1, 2, 1, 2, 1),
    96: (2, 2, 2, 1, 1),
    128: (2, 2, 2, 1, 1),
    256: (2, 2, 2, 2, 1),
}
"""Of the mask encoder by the side of a square image (released code; 96 is ours)."""


class Inference(NamedTuple):
    """What an inference network makes of a batch of images."""

    posterior: Any
    """tfd.Normal [B, K, D], q of every latent given the samples before it."""
    samples: Any
    """[B, K, D]."""
    log_masks: Any
    """[B, K, H, W, 1]."""
    means: Any
    """[B, K, H, W, C] in [0, 1]."""
    history: dict
    """For figures: name -> [B, K, H, W, 1]."""
    statistics: dict
    """Moments of batch norms; see `tfobj.nn.batch_norm`."""


def default_strides(size):
    """Returns the strides of the mask encoder for an image of `size` (H, W)."""
    return STRIDES.get(size[0] if size[0] == size[1] else None, STRIDES[64])


def posterior_gaussian(parameters):
    """Returns `tfd.Normal` [..., D] with scale softplus(r + 0.5) + 1e-8 of [mean, r] [..., 2 D]; scale 0.974 for r = 0."""
    loc, raw = tf.split(tf.cast(parameters, tf.float32), 2, axis=-1)
    return tfd.Normal(loc, tf.math.softplus(raw + 0.5) + 1e-8)


def draw(q, noise):
    """Returns the samples of a `tfd.Normal` that standard normal `noise` makes."""
    return q.loc + q.scale * noise


def set_pytorch_initial_values(model):
    """Draws kernels and biases from U(-f, f), f = 1 / sqrt(fan_in), as PyTorch does by default; for a model just built.

    fan_in is the product of a kernel's sizes but the last: inputs of a Dense layer, k * k * inputs of a convolution, and of a
    transposed one, whose kernel is [k, k, outputs, inputs], k * k * outputs. LSTM cells set their own.
    """
    for layer in model._flatten_layers(include_self=False):
        if hasattr(layer, "kernel") and not isinstance(layer, keras.layers.LSTMCell):
            limit = math.prod(layer.kernel.shape[:-1]) ** -0.5
            for weight in (layer.kernel, layer.bias):
                if weight is not None:
                    weight.assign(keras.initializers.RandomUniform(-limit, limit)(weight.shape))


def lstm_cell(units, name):
    """Returns an LSTM cell with PyTorch's initial values: U(-f, f), f = 1 / sqrt(units), no unit forget bias."""
    initial = lambda: keras.initializers.RandomUniform(-(units**-0.5), units**-0.5)
    return keras.layers.LSTMCell(
        units,
        kernel_initializer=initial(),
        recurrent_initializer=initial(),
        bias_initializer=initial(),
        unit_forget_bias=False,
        dtype="float32",
        name=name,
    )


class MaskEncoder(keras.layers.Layer):
    """Image [B, H, W, C] -> features [B, F] float32: gated convolutions, the last by a kernel as large as the map."""

    def __init__(self, config, **kwargs):
        super().__init__(**kwargs)
        self.stack = GatedConvStack(
            config.mask_encoder_channels,
            5,
            config.strides(),
            norm=config.norm,
            dtype=self.dtype_policy,
            name="stack",
        )
        self.output_layer = GatedMapToVector(
            config.mask_features, dtype=self.dtype_policy, name="output"
        )

    def build(self, input_shape):
        self.stack.build(input_shape)
        self.output_layer.build(self.stack.compute_output_shape(input_shape))
        self.built = True

    def call(self, image, training=False):
        x, statistics = self.stack(image, training=training)
        return tf.cast(self.output_layer(x), tf.float32), statistics


class MaskDecoder(keras.layers.Layer):
    """Latents [N, D] -> mask logits [N, H, W, 1] float32: the encoder's strides in reverse order, transposed.

    The map that it starts from has the encoder's last size, ceil(H / product of strides); what doubling makes too large is
    cropped at the lower and right border.
    """

    def __init__(self, config, **kwargs):
        super().__init__(**kwargs)
        self.size, strides = config.image_size, config.strides()
        first, *rest = config.mask_decoder_channels
        shrunk = [-(-side // math.prod(strides)) for side in self.size]
        self.first = GatedVectorToMap(first, shrunk, dtype=self.dtype_policy, name="first")
        self.stack = GatedConvStack(
            rest,
            5,
            strides[::-1],
            norm=config.norm,
            transposed=True,
            dtype=self.dtype_policy,
            name="stack",
        )
        self.output_layer = Conv2D(1, 1, dtype=self.dtype_policy, name="output")

    def build(self, input_shape):
        self.first.build(input_shape)
        map_shape = self.first.compute_output_shape(input_shape)
        self.stack.build(map_shape)
        self.output_layer.build(self.stack.compute_output_shape(map_shape))
        self.built = True

    def call(self, latents, training=False):
        x, statistics = self.stack(self.first(latents), training=training)
        logits = self.output_layer(x[:, : self.size[0], : self.size[1]])
        return tf.cast(logits, tf.float32), statistics


class RecurrentPosterior(keras.layers.Layer):
    """q(z_1 | h) from two Dense layers, q(z_k | z_<k, h) from an LSTM that reads [h, z_{k-1}], z the samples."""

    def __init__(self, size, units, **kwargs):
        super().__init__(autocast=False, dtype="float32", **kwargs)
        self.size = size
        # Side by side: mean and scale of the first slot.
        self.first = Dense(2 * size, dtype="float32", name="first")
        self.cell = lstm_cell(units, "cell")
        self.later = Dense(2 * size, dtype="float32", name="later")

    def build(self, input_shape):
        self.first.build(input_shape)
        self.cell.build((None, input_shape[-1] + self.size))
        self.later.build((None, self.cell.units))
        self.built = True

    def call(self, features, noise, num_slots):
        """Returns (`tfd.Normal` [B, K, D], samples [B, K, D]).

        Args:
          features: [B, F].
          noise: [B, K, D], standard normal.
          num_slots: K, a Python or tensor integer.
        """
        noises = tf.transpose(noise, [1, 0, 2])
        first = self.first(features)
        zeros = tf.zeros([features.shape[0] or tf.shape(features)[0], self.cell.units])

        def body(t, state):
            z, *memory = state
            output, memory = self.cell(tf.concat([features, z], axis=-1), list(memory))
            parameters = self.later(output)
            return (draw(posterior_gaussian(parameters), noises[t + 1]), *memory), parameters

        _, later = scan(
            body, (draw(posterior_gaussian(first), noises[0]), zeros, zeros), num_slots - 1
        )
        q = posterior_gaussian(tf.transpose(tf.concat([first[None], later], axis=0), [1, 0, 2]))
        return q, draw(q, noise)


class ComponentEncoder(keras.layers.Layer):
    """Log masks [B, K, H, W, 1] and the whole image [B, H, W, C] -> parameters [B K, 2 D]."""

    def __init__(self, config, **kwargs):
        super().__init__(**kwargs)
        common = {"activation": "elu", "dtype": self.dtype_policy}
        self.cnn = ConvStack(
            config.component_encoder_channels, 3, 2, padding=1, name="cnn", **common
        )
        self.mlp = MLP(
            (config.component_encoder_hidden, 2 * config.component_latent_size),
            name="mlp",
            **common,
        )

    def build(self, input_shape):
        *shape, channels = input_shape
        self.cnn.build((*shape, channels + 1))
        self.map_size = math.prod(self.cnn.compute_output_shape((*shape, channels + 1))[1:])
        self.mlp.build((None, self.map_size))
        self.built = True

    def call(self, log_masks, image):
        log_masks = tf.maximum(log_masks, tf.cast(LEAST_LOG_MASK, log_masks.dtype))
        images = tf.broadcast_to(
            image[:, None], tf.concat([tf.shape(log_masks)[:-1], image.shape[-1:]], axis=0)
        )
        x = tf.concat([log_masks, images], axis=-1)
        x = self.cnn(tf.reshape(x, [-1, *image.shape[1:3], image.shape[3] + 1]))
        return self.mlp(tf.reshape(x, [-1, self.map_size]))


class RecurrentPrior(keras.layers.Layer):
    """p(z_k | z_<k): an LSTM that reads z_{k-1} and a Dense layer; `distribution` makes it a prior over all slots."""

    def __init__(self, size, units, **kwargs):
        super().__init__(autocast=False, dtype="float32", **kwargs)
        self.size = size
        self.cell = lstm_cell(units, "cell")
        self.output_layer = Dense(2 * size, dtype="float32", name="output")

    def build(self, input_shape=None):
        self.cell.build((None, self.size))
        self.output_layer.build((None, self.cell.units))
        self.built = True

    def call(self, z, memory):
        output, memory = self.cell(z, list(memory))
        return self.output_layer(output), tuple(memory)

    def initial_memory(self, rows):
        """Returns the memory before the first step: two zero tensors [N, units]."""
        return (tf.zeros([rows, self.cell.units]),) * 2

    def distribution(self, num_slots):
        """Returns p(z_1 ... z_K), an `AutoregressiveGaussian`."""
        return AutoregressiveGaussian(self.__call__, self.initial_memory, num_slots, self.size)
