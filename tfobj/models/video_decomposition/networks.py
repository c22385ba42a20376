"""The networks of Zablotskaia et al. 2020: decoder, conditional prior, and refinement.

Kernels start as U(+-1 / sqrt(fan_in)), as in the released code. Biases of convolutions and dense
layers start at zero (in the released code, like kernels).
"""

import keras
import tensorflow as tf

from tfobj.nn import coordinates
from tfobj.nn.broadcast_decoder import BroadcastDecoder
from tfobj.nn.convolution import ConvStack, convolve_slots
from tfobj.nn.layers import logit
from tfobj.nn.lstm2d import LSTM2DCell, fan_in_uniform
from tfobj.nn.mlp import MLP

NORM_EPSILON = 1e-5


def standardised(x):
    """Returns x [B, K, ...] with mean 0 and variance 1 per slot, and without gradient.

    This is layer norm without weights. All-zero inputs, those of predicted frames, stay zero.
    """
    axes = list(range(2, len(x.shape)))
    mean, variance = tf.nn.moments(tf.stop_gradient(x), axes, keepdims=True)
    return tf.stop_gradient((x - mean) * tf.math.rsqrt(variance + NORM_EPSILON))


@keras.saving.register_keras_serializable("tfobj")
class SlotDecoder(keras.layers.Layer):
    """The decoder g: latents [n, D] and context [n, units] -> float32 [n, H, W, C + 1] (Eq. 6).

    Dense - ELU for each of `hidden`, then a spatial broadcast decoder (supplement, decoder table).
    The outputs are means before their sigmoid, and mask logits.

    Args:
      image_size: (H, W).
      channels: C.
      hidden: units of the dense layers; empty for a decoder that does not read the context.
      widths: channels of the decoder's convolutions.
      kernel_size: of the convolutions.
      pixel_shuffle: r, side of the squares of pixels that one position yields.
      initial_mean: means before training, approximately: the smaller `output_gain`, the closer.
      output_gain: factor of the last kernel before training.
    """

    def __init__(
        self,
        image_size,
        channels,
        hidden,
        widths,
        kernel_size,
        pixel_shuffle,
        initial_mean=0.5,
        output_gain=1.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.initial_mean = initial_mean
        self.output_gain = output_gain

        self.mlp = None
        if hidden:
            self.mlp = MLP(
                hidden,
                activation="elu",
                linear_output=False,
                initializer=fan_in_uniform(),
                dtype=self.dtype_policy,
                name="mlp",
            )
        self.broadcast = BroadcastDecoder(
            image_size,
            (*widths, channels + 1),
            kernel_size,
            pixel_shuffle=pixel_shuffle,
            positions="append",
            activation="elu",
            initializer=fan_in_uniform(),
            dtype=self.dtype_policy,
            name="broadcast",
        )

    def build(self, latent_size, context_size):
        size = latent_size
        if self.mlp is not None:
            self.mlp.build((None, latent_size + context_size))
            size = self.mlp.stages[-1].units
        self.broadcast.build((None, size))

        # The last layer yields r x r pixels, each with the mean of every channel and a mask logit.
        last = self.broadcast.stack.stages[-1]
        values = [logit(self.initial_mean)] * (self.broadcast.fine_channels - 1) + [0.0]
        last.bias.assign(values * (last.bias.shape[0] // len(values)))
        last.kernel.assign(last.kernel * self.output_gain)
        self.built = True

    def weight_terms(self):
        """Returns a nest of tensors that depend on the weights alone."""
        return self.broadcast.weight_terms()

    def call(self, latents, context, weight_terms=None):
        if self.mlp is not None:
            latents = self.mlp(tf.concat([latents, context], axis=-1))
        return self.broadcast(tf.cast(latents, self.compute_dtype), weight_terms=weight_terms)


@keras.saving.register_keras_serializable("tfobj")
class ConditionalPrior(keras.layers.Layer):
    """The conditional prior xi of the next latent (Zablotskaia 2020, Eq. 5).

    Context [..., units] -> (mean, log variance), each float32 [..., D].

    Args:
      latent_size: D.
      hidden: units of the hidden layer.
      scale: "release": the log variance is the softplus of the second head, so no prior is narrower
        than N(., I); "paper": the second head is the log standard deviation.
    """

    def __init__(self, latent_size, hidden, scale, **kwargs):
        super().__init__(**{"autocast": False, "dtype": "float32", **kwargs})
        self.scale = scale
        self.hidden = keras.layers.Dense(
            hidden,
            activation="relu",
            kernel_initializer=fan_in_uniform(),
            dtype="float32",
            name="hidden",
        )
        self.mean = keras.layers.Dense(
            latent_size, kernel_initializer=fan_in_uniform(), dtype="float32", name="mean"
        )
        self.spread = keras.layers.Dense(
            latent_size, kernel_initializer=fan_in_uniform(), dtype="float32", name="spread"
        )

    def build(self, context_size):
        self.hidden.build((None, context_size))
        for head in (self.mean, self.spread):
            head.build((None, self.hidden.units))
        self.built = True

    def call(self, context):
        x = self.hidden(context)
        spread = self.spread(x)
        if self.scale == "release":
            return self.mean(x), tf.math.softplus(spread)
        return self.mean(x), 2.0 * spread


@keras.saving.register_keras_serializable("tfobj")
class GridRefinement(keras.layers.Layer):
    """The refinement network, with memories along time and refinement (Fig. 2b).

        features = convolutions (ELU) - average pool - Dense (ELU)
        update   = 2-D LSTM [features, lambda, its gradient] - Dense

    Args:
      widths, kernel_size, stride: of the convolutions; the stride is 1 in the paper.
      pool: side of the squares of the average pooling.
      features: units of the dense layer.
      lstm_size, lstm_form: arguments of `LSTM2DCell`.
      update_size: 2 D.
    """

    def __init__(
        self,
        widths,
        kernel_size,
        stride,
        pool,
        features,
        lstm_size,
        lstm_form,
        update_size,
        **kwargs,
    ):
        super().__init__(autocast=False, **kwargs)
        self.pool = pool

        self.cnn = ConvStack(
            widths,
            kernel_size,
            stride,
            activation="elu",
            initializer=fan_in_uniform(),
            dtype=self.dtype_policy,
            name="cnn",
        )
        self.features = keras.layers.Dense(
            features,
            activation="elu",
            kernel_initializer=fan_in_uniform(),
            dtype="float32",
            name="features",
        )
        self.lstm = LSTM2DCell(lstm_size, lstm_form, name="lstm")
        self.update = keras.layers.Dense(
            update_size, kernel_initializer=fan_in_uniform(), dtype="float32", name="update"
        )

    def build(self, image_size, num_channels, flat_size):
        """Creates the weights for maps [H, W, `num_channels`] and vectors of `flat_size`."""
        shape = (None, *image_size, num_channels)
        self.cnn.build(shape)

        _, height, width, channels = self.cnn.compute_output_shape(shape)
        self.grid = coordinates.grid_weight(self, coordinates.linear_grid(*image_size))
        self.features.build((None, (height // self.pool) * (width // self.pool) * channels))
        self.lstm.build((None, self.features.units + flat_size))
        self.update.build((None, self.lstm.units))
        self.built = True

    def call(self, shared, per_slot, flat, time_state, refinement_state):
        """Runs one refinement.

        Args:
          shared: [B, 1, H, W, .], the same for all slots; the coordinates are added here.
          per_slot: [B, K, H, W, .].
          flat: [B, K, 4 D].
          time_state, refinement_state: (h, c), each [B, K, lstm_size].

        Returns:
          update: [B, K, 2 D], of lambda.
          h, c: [B, K, lstm_size], the new memory along refinement.
        """
        batch = tf.shape(flat)[0]
        num_slots = tf.shape(flat)[1]

        # The first convolution reads inputs that slots share once per image, not once per slot.
        grid = tf.broadcast_to(self.grid.value, [batch, 1, *self.grid.shape])
        x = convolve_slots(self.cnn, tf.concat([shared, grid], axis=-1), per_slot, num_slots)
        if self.pool > 1:
            x = tf.nn.avg_pool2d(x, self.pool, self.pool, "VALID")
        x = self.features(tf.reshape(tf.cast(x, tf.float32), [-1, self.features.kernel.shape[0]]))

        def rows(tensors):
            return [tf.reshape(t, [-1, t.shape[-1]]) for t in tensors]

        def slots(x):
            x = tf.reshape(x, [batch, num_slots, x.shape[-1]])
            return tf.ensure_shape(x, [*flat.shape[:2], None])

        h, c = self.lstm(
            tf.concat([*rows([flat]), x], axis=-1), rows(time_state), rows(refinement_state)
        )
        return slots(self.update(h)), slots(h), slots(c)
