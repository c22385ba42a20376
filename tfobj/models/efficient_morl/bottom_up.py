"""The bottom-up part of EfficientMORL (Emami 2021, Algorithm 1, appendix F.1): image -> tokens -> one stochastic layer after another.

A layer is an iteration of slot attention whose queries are samples. All layers share their weights.
"""

import keras
import tensorflow as tf

from tfobj.nn.convolution import ConvStack
from tfobj.nn.coordinates import PositionEmbedding
from tfobj.nn.dual_gru import DualGRU, JointGRU
from tfobj.nn.mlp import MLP
from tfobj.nn.slots import fold_slots

NORM = {"epsilon": 1e-5, "dtype": "float32"}
"""Of all layer norms; Keras' default is 1e-3."""


def xavier_normal(gain):
    """Returns the initializer N(0, gain**2 2 / (fan_in + fan_out)) of kernels; the released code has a gain of 0.02."""
    return keras.initializers.VarianceScaling(
        scale=gain**2, mode="fan_avg", distribution="untruncated_normal"
    )


class TokenEncoder(keras.layers.Layer):
    """Image [B, H, W, C] in [0, 1] -> (keys, values) [B, N, D] of its N positions, once for all layers."""

    def __init__(self, config, **kwargs):
        super().__init__(autocast=False, **kwargs)
        initializer, width = xavier_normal(config.initial_gain), config.encoder_channels[-1]
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
        self.num_tokens, width = map_shape[1] * map_shape[2], map_shape[3]
        for layer in (self.norm, self.mlp, self.project_key, self.project_value):
            layer.build((None, None, width))
        self.built = True

    def call(self, image):
        features = self.positions(self.cnn(2.0 * image - 1.0))
        features = tf.reshape(features, [-1, self.num_tokens, features.shape[-1]])
        tokens = self.mlp(self.norm(features))
        return self.project_key(tokens), self.project_value(tokens)


class StochasticLayer(keras.layers.Layer):
    """(keys, values [B, N, D], z^{l-1} [B, K, D], lambda^{l-1} [B, K, 2 D]) -> (lambda^l, attention [B, N, K]).

        A[n, k] = softmax_k( <key_n, query(z_k)> / sqrt(D) )        slots compete for each token
        u_k     = sum_n (A + epsilon)[n, k] value_n / sum_n (A + epsilon)[n, k]
        lambda' = DualGRU(u, lambda);  lambda^l = lambda' + MLP(LN(lambda'))     an MLP and a norm for either half

    What belongs to slots is small and stays in float32, and so do the softmax and the sum over tokens it is divided by.
    The offset of the query's norm adds the same to the logits of all slots: the softmax takes no notice of it.
    """

    EPSILON = 1e-8

    def __init__(self, config, **kwargs):
        super().__init__(autocast=False, dtype="float32", **kwargs)
        self.size = config.latent_size
        initializer, normal = (
            xavier_normal(config.initial_gain),
            keras.initializers.RandomNormal(stddev=1.0),
        )
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
        self.norms = [
            keras.layers.LayerNormalization(name=f"norm_{half}", **NORM) for half in ("loc", "raw")
        ]
        self.mlps = [
            MLP(
                (2 * self.size, self.size),
                initializer=initializer,
                dtype="float32",
                name=f"mlp_{half}",
            )
            for half in ("loc", "raw")
        ]

    def build(self, input_shape=None):
        for layer in (self.norm_query, self.project_query, self.gru, *self.norms, *self.mlps):
            layer.build((None, self.size))
        self.built = True

    def call(self, keys, values, latents, posterior):
        queries = self.project_query(self.norm_query(latents)) * self.size**-0.5
        logits = tf.cast(
            tf.matmul(keys, tf.cast(queries, keys.dtype), transpose_b=True), tf.float32
        )
        attention = tf.nn.softmax(logits, axis=-1)
        weights = attention + self.EPSILON
        weights = weights / tf.reduce_sum(weights, axis=1, keepdims=True)  # a mean over tokens
        updates = tf.cast(
            tf.matmul(tf.cast(weights, values.dtype), values, transpose_a=True), tf.float32
        )
        states = self.gru(
            fold_slots(updates), tf.stack(tf.split(fold_slots(posterior), 2, axis=-1))
        )
        halves = [
            state + mlp(norm(state))
            for state, norm, mlp in zip(tf.unstack(states), self.norms, self.mlps, strict=True)
        ]
        return tf.ensure_shape(
            tf.reshape(tf.concat(halves, axis=-1), tf.shape(posterior)), posterior.shape
        ), attention
