"""The parts of GENESIS (Engelcke et al. 2020; released code), in the order of inference.

Convolutions compute in the policy's type; recurrent networks, heads and the prior are small and
stay in float32.
"""

import math
from typing import Any, NamedTuple

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfobj.distributions.autoregressive import AutoregressiveGaussian
from tfobj.nn.convolution import crop
from tfobj.nn.gated_conv import GatedConvStack, GatedMapToVector, GatedVectorToMap
from tfobj.nn.iteration import scan
from tfobj.nn.layers import Conv2D, Dense, own_initializer
from tfobj.nn.slots import batch_size

tfd = tfp.distributions


class Inference(NamedTuple):
    """The latents that an inference network finds in images, and their decodes."""

    posterior: Any
    """tfd.Normal [B, K, D], q of every latent given the samples of earlier slots."""
    samples: Any
    """[B, K, D]."""
    log_masks: Any
    """[B, K, H, W, 1]."""
    means: Any
    """[B, K, H, W, C] in [0, 1]."""
    history: dict
    """name -> [B, K, H, W, 1], for figures."""
    statistics: dict
    """Moments of batch norms; see `tfobj.nn.batch_norm`."""


def posterior_gaussian(parameters):
    """Returns the `tfd.Normal` [..., D] with parameters [loc, raw] [..., 2 D].

    Its scale is softplus(raw + 0.5) + 1e-8, which is 0.974 for raw = 0.
    """
    loc, raw = tf.split(tf.cast(parameters, tf.float32), 2, axis=-1)
    return tfd.Normal(loc, tf.math.softplus(raw + 0.5) + 1e-8)


def sample_with_noise(q, noise):
    """Returns the samples of a `tfd.Normal` that standard normal `noise` of its shape gives."""
    return q.loc + q.scale * noise


def set_pytorch_initial_values(model):
    """Assigns values from U(-f, f), f = 1 / sqrt(fan_in), PyTorch's default, to a new model.

    fan_in is the product of all sizes of a kernel but the last: the inputs of a Dense layer, and
    k * k * inputs of a convolution. The kernel of a transposed convolution is [k, k, outputs,
    inputs], so its fan_in is k * k * outputs, as in PyTorch. LSTM cells set their own values.
    """
    for layer in model._flatten_layers(include_self=False):
        if not hasattr(layer, "kernel") or isinstance(layer, keras.layers.LSTMCell):
            continue
        limit = math.prod(layer.kernel.shape[:-1]) ** -0.5
        for weight in (layer.kernel, layer.bias):
            if weight is not None:
                weight.assign(keras.initializers.RandomUniform(-limit, limit)(weight.shape))


class TwoBiasLSTMCell(keras.layers.LSTMCell):
    """LSTM cell with PyTorch's two bias vectors, one of the inputs and one of the memory.

    Only their sum counts, but Adam moves the sum of two vectors twice as far as a single one.
    """

    def build(self, input_shape):
        super().build(input_shape)
        self.recurrent_bias = self.add_weight(
            name="recurrent_bias",
            shape=(4 * self.units,),
            initializer=own_initializer(self.bias_initializer),
        )

    def call(self, inputs, states, training=False):
        hidden, memory = states
        gates = tf.matmul(inputs, self.kernel) + self.bias
        gates += tf.matmul(hidden, self.recurrent_kernel) + self.recurrent_bias
        write, keep, candidate, read = tf.split(gates, 4, axis=-1)

        memory = tf.sigmoid(keep) * memory + tf.sigmoid(write) * tf.tanh(candidate)
        hidden = tf.sigmoid(read) * tf.tanh(memory)
        return hidden, [hidden, memory]


def lstm_cell(units, name, recurrent_bias=False):
    """Returns an LSTM cell with the initial values of PyTorch.

    They are U(-f, f), f = 1 / sqrt(units), without a unit forget bias.

    Args:
      units: size of the memory.
      name: of the layer.
      recurrent_bias: whether it has the second bias vector, see `TwoBiasLSTMCell`.
    """

    def initial():
        return keras.initializers.RandomUniform(-(units**-0.5), units**-0.5)

    cell_class = TwoBiasLSTMCell if recurrent_bias else keras.layers.LSTMCell
    return cell_class(
        units,
        kernel_initializer=initial(),
        recurrent_initializer=initial(),
        bias_initializer=initial(),
        unit_forget_bias=False,
        dtype="float32",
        name=name,
    )


class MaskEncoder(keras.layers.Layer):
    """Image [B, H, W, C] -> features [B, F] float32, by gated convolutions.

    The kernel of the last one is as large as the map.
    """

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
    """Latents [N, D] -> mask logits [N, H, W, 1] float32, by transposed gated convolutions.

    Strides are the encoder's in reverse order, and the first map has the encoder's last size,
    ceil(H / product of strides). Excess rows and columns are cropped at the lower and right border.
    """

    def __init__(self, config, **kwargs):
        super().__init__(**kwargs)
        self.size = config.image_size
        strides = config.strides()
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
        logits = self.output_layer(crop(x, self.size))
        return tf.cast(logits, tf.float32), statistics


class RecurrentPosterior(keras.layers.Layer):
    """q(z_1 | h) from Dense layers, q(z_k | z_<k, h) from an LSTM that reads [h, z_{k-1}].

    z_k are samples.
    """

    def __init__(self, size, units, **kwargs):
        super().__init__(autocast=False, dtype="float32", **kwargs)
        self.size = size
        # Two Dense layers side by side: mean and scale of the first slot.
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
          features: h [B, F].
          noise: [B, K, D], standard normal.
          num_slots: K, a Python or tensor integer.
        """
        noises = tf.transpose(noise, [1, 0, 2])
        first = self.first(features)
        zeros = tf.zeros([batch_size(features), self.cell.units])

        def body(k, state):
            z, *memory = state
            output, memory = self.cell(tf.concat([features, z], axis=-1), list(memory))
            parameters = self.later(output)
            z = sample_with_noise(posterior_gaussian(parameters), noises[k + 1])
            return (z, *memory), parameters

        z = sample_with_noise(posterior_gaussian(first), noises[0])
        _, later = scan(body, (z, zeros, zeros), num_slots - 1)

        parameters = tf.transpose(tf.concat([first[None], later], axis=0), [1, 0, 2])
        q = posterior_gaussian(parameters)
        return q, sample_with_noise(q, noise)


class RecurrentPrior(keras.layers.Layer):
    """One step of p(z_k | z_<k): an LSTM that reads z_{k-1}, and a Dense layer.

    `distribution` returns the prior over all slots.

    Args:
      size: of a latent.
      units: of the LSTM.
      recurrent_bias: whether the LSTM has PyTorch's two bias vectors.
    """

    def __init__(self, size, units, recurrent_bias=False, **kwargs):
        super().__init__(autocast=False, dtype="float32", **kwargs)
        self.size = size
        self.cell = lstm_cell(units, "cell", recurrent_bias)
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
