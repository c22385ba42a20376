"""Bottom-up inference of EfficientMORL (Emami 2021, Algorithm 1, appendix F.1).

The image becomes tokens once; then one stochastic layer follows another. Each is an iteration of
slot attention whose queries are samples, and all of them share their weights.
"""

import keras
import tensorflow as tf

from tfobj.nn.convolution import ConvStack
from tfobj.nn.coordinates import PositionEmbedding
from tfobj.nn.dual_gru import DualGRU, JointGRU
from tfobj.nn.mlp import MLP
from tfobj.nn.slots import fold_slots

NORM = {"epsilon": 1e-5, "dtype": "float32"}
"""Arguments of all layer norms; Keras' default epsilon is 1e-3."""


def xavier_normal(gain):
    """Returns the initializer N(0, gain**2 2 / (fan_in + fan_out)) of kernels.

    The released code has a gain of 0.02.
    """
    return keras.initializers.VarianceScaling(
        scale=gain**2, mode="fan_avg", distribution="untruncated_normal"
    )


class TokenEncoder(keras.layers.Layer):
    """Image [B, H, W, C] in [0, 1] -> (keys, values) [B, N, D] of its N positions.

    The layers share them, so they are computed once per image.
    """

    def __init__(self, config, **kwargs):
        super().__init__(autocast=False, **kwargs)
        initializer = xavier_normal(config.initial_gain)
        width = config.encoder_channels[-1]
        self.cnn = ConvStack(
            config.encoder_channels,
            config.encoder_kernels,
            config.encoder_strides,
            initializer=initializer,
            name="cnn",
        )

        # PyTorch's default: uniform within 1 / sqrt(fan_in). Nothing else is as large at first.
        uniform = keras.initializers.RandomUniform(-0.5, 0.5)
        self.positions = PositionEmbedding(
            initializer=uniform, bias_initializer=uniform, name="positions"
        )
        self.norm = keras.layers.LayerNormalization(name="norm", **NORM)
        self.mlp = MLP((width, width), initializer=initializer, name="mlp")

        self.project_key, self.project_value = (
            keras.layers.Dense(
                config.latent_size,
                use_bias=False,
                kernel_initializer=initializer.clone(),
                name=name,
            )
            for name in ("key", "value")
        )

    def build(self, input_shape):
        self.cnn.build(input_shape)
        map_shape = self.cnn.compute_output_shape(input_shape)
        self.positions.build(map_shape)

        _, height, width, channels = map_shape
        self.num_tokens = height * width
        for layer in (self.norm, self.mlp, self.project_key, self.project_value):
            layer.build((None, None, channels))
        self.built = True

    def call(self, image):
        features = self.positions(self.cnn(2.0 * image - 1.0))
        features = tf.reshape(features, [-1, self.num_tokens, features.shape[-1]])
        tokens = self.mlp(self.norm(features))
        return self.project_key(tokens), self.project_value(tokens)


class StochasticLayer(keras.layers.Layer):
    """One layer of q: (keys, values, z^{l-1}, lambda^{l-1}) -> (lambda^l, attention).

        A[n, k] = softmax_k( <key_n, query(z_k)> / sqrt(D) )      slots compete for each token
        u_k     = sum_n (A + epsilon)[n, k] value_n / sum_n (A + epsilon)[n, k]
        lambda' = DualGRU(u, lambda)
        lambda^l = lambda' + MLP(LN(lambda'))                     an MLP and a norm for either half

    Tensors of slots are small and stay in float32, and so do the softmax and the division by its
    sum over tokens. The offset of the query's norm adds the same to the logits of all slots; the
    softmax is invariant to it.
    """

    EPSILON = 1e-8

    def __init__(self, config, **kwargs):
        super().__init__(autocast=False, dtype="float32", **kwargs)
        self.size = config.latent_size
        initializer = xavier_normal(config.initial_gain)
        normal = keras.initializers.RandomNormal(stddev=1.0)

        self.norm_query = keras.layers.LayerNormalization(name="norm_query", **NORM)
        self.project_query = keras.layers.Dense(
            self.size,
            use_bias=False,
            kernel_initializer=initializer.clone(),
            dtype="float32",
            name="query",
        )

        if config.dual_gru:
            self.gru = DualGRU(self.size, initializer=normal, name="gru")
        else:
            self.gru = JointGRU(
                self.size,
                initializer=normal,
                projection_initializer=initializer.clone(),
                name="gru",
            )

        halves = ("loc", "raw")
        self.norms = [
            keras.layers.LayerNormalization(name=f"norm_{half}", **NORM) for half in halves
        ]
        self.mlps = [
            MLP(
                (2 * self.size, self.size),
                initializer=initializer,
                dtype="float32",
                name=f"mlp_{half}",
            )
            for half in halves
        ]

    def build(self, input_shape=None):
        for layer in (self.norm_query, self.project_query, self.gru, *self.norms, *self.mlps):
            layer.build((None, self.size))
        self.built = True

    def call(self, keys, values, latents, posterior):
        """Runs one iteration of slot attention.

        Args:
          keys, values: [B, N, D] of `TokenEncoder`.
          latents: z^{l-1} [B, K, D].
          posterior: lambda^{l-1} [B, K, 2 D].

        Returns:
          (lambda^l [B, K, 2 D], attention [B, N, K], float32).
        """
        queries = self.project_query(self.norm_query(latents)) * self.size**-0.5
        logits = tf.matmul(keys, tf.cast(queries, keys.dtype), transpose_b=True)
        attention = tf.nn.softmax(tf.cast(logits, tf.float32), axis=-1)

        # Updates are means of values over tokens, weighted by attention.
        weights = attention + self.EPSILON
        weights = weights / tf.reduce_sum(weights, axis=1, keepdims=True)
        updates = tf.matmul(tf.cast(weights, values.dtype), values, transpose_a=True)
        updates = tf.cast(updates, tf.float32)

        # DualGRU and residual MLPs, each half of lambda by itself.
        states = tf.stack(tf.split(fold_slots(posterior), 2, axis=-1))
        states = self.gru(fold_slots(updates), states)
        halves = [
            state + mlp(norm(state))
            for state, norm, mlp in zip(tf.unstack(states), self.norms, self.mlps, strict=True)
        ]
        updated = tf.reshape(tf.concat(halves, axis=-1), tf.shape(posterior))
        return tf.ensure_shape(updated, posterior.shape), attention
