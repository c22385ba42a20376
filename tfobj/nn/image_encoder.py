"""Convolutional encoder of images, shared by the models that encode a scene or a slot at once."""

import math

import keras
import tensorflow as tf

from tfobj.nn.convolution import ConvStack
from tfobj.nn.mlp import MLP


@keras.saving.register_keras_serializable("tfobj")
class ImageEncoder(keras.layers.Layer):
    """Image [N, H, W, C] -> parameters [N, size], float32: strided convolutions and an MLP.

    The last map is flattened: an average over it would lose positions.

    Args:
      channels: channels of the convolutions, which have stride 2.
      mlp: units of the MLP's hidden layers.
      size: length of the output, for instance 2 D for loc and scale of a posterior.
      kernel_size: side of the kernels.
      padding: zeros on each side, or "same" or "valid"; see `ConvStack`.
      activation: of all layers but the last, which is linear.
      initializer: of all kernels.
    """

    def __init__(
        self,
        channels,
        mlp,
        size,
        *,
        kernel_size=3,
        padding="same",
        activation="relu",
        initializer="glorot_uniform",
        **kwargs,
    ):
        super().__init__(**kwargs)
        common = {
            "activation": activation,
            "initializer": initializer,
            "dtype": self.dtype_policy,
        }
        self.cnn = ConvStack(channels, kernel_size, 2, padding=padding, name="cnn", **common)
        self.mlp = MLP((*mlp, size), name="mlp", **common)

    def build(self, input_shape):
        self.cnn.build(input_shape)
        self.num_features = math.prod(self.cnn.compute_output_shape(input_shape)[1:])
        self.mlp.build((None, self.num_features))
        self.built = True

    def call(self, image):
        features = tf.reshape(self.cnn(image), [-1, self.num_features])
        return tf.cast(self.mlp(features), tf.float32)
