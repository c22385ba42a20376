"""The refinement network of EfficientMORL (Emami 2021, appendix F.1): updates of lambda."""

import keras
import tensorflow as tf

from tfobj.models.efficient_morl.bottom_up import xavier_normal
from tfobj.nn.layers import Dense
from tfobj.nn.mlp import MLP
from tfobj.nn.slots import fold_slots


class LatentRefinement(keras.layers.Layer):
    """(lambda, gradient [B, K, 2 D], memory [B K, D]) -> (new lambda, new memory).

        h          = GRU(MLP([lambda; LN(d loc); LN(d raw)]), memory)
        new lambda = lambda + [Dense(h); Dense(h)]

    The network never sees the image. Its layer norms have no parameters, as in the released code:
    trained ones would give 667,012 parameters, not the 666,500 of the paper.
    """

    EPSILON = 1e-5

    def __init__(self, size, gain, **kwargs):
        super().__init__(dtype="float32", **kwargs)
        self.size = size
        initializer = xavier_normal(gain)
        self.mlp = MLP(
            (128, size), activation="elu", initializer=initializer, dtype="float32", name="mlp"
        )

        # PyTorch's default of a GRU: uniform within 1 / sqrt(D).
        kernel, recurrent, bias = (
            keras.initializers.RandomUniform(-(size**-0.5), size**-0.5) for _ in range(3)
        )
        self.gru = keras.layers.GRUCell(
            size,
            reset_after=True,
            kernel_initializer=kernel,
            recurrent_initializer=recurrent,
            bias_initializer=bias,
            dtype="float32",
            name="gru",
        )

        self.heads = [
            Dense(size, kernel_initializer=initializer.clone(), dtype="float32", name=half)
            for half in ("loc", "raw")
        ]

    def build(self, input_shape=None):
        self.mlp.build((None, 4 * self.size))
        for layer in (self.gru, *self.heads):
            layer.build((None, self.size))
        self.built = True

    def call(self, posterior, gradient, memory):
        normalised = [self.normalise(half) for half in tf.split(gradient, 2, axis=-1)]
        inputs = fold_slots(tf.concat([posterior, *normalised], axis=-1))
        memory, _ = self.gru(self.mlp(inputs), [memory])

        delta = tf.concat([head(memory) for head in self.heads], axis=-1)
        delta = tf.ensure_shape(tf.reshape(delta, tf.shape(posterior)), posterior.shape)
        return posterior + delta, memory

    def normalise(self, x):
        """Applies layer norm without gain and offset over the last axis."""
        mean, variance = tf.nn.moments(x, axes=[-1], keepdims=True)
        return (x - mean) * tf.math.rsqrt(variance + self.EPSILON)
