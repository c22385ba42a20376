"""The network that turns refinement inputs into an additive update of the posterior (Greff 2019, appendix B tables)."""

import keras
import tensorflow as tf

from tfobj.nn.convolution import ConvStack, FanInTruncatedNormal
from tfobj.nn.mlp import MLP


class GateBias(keras.initializers.Initializer):
    """Bias of an LSTM as in Sonnet 1: truncated normal 1 / sqrt(fan_in), plus 1 on the forget gate (order i, f, g, o)."""

    def __init__(self, fan_in):
        self.fan_in = fan_in

    def __call__(self, shape, dtype=None):
        units = shape[0] // 4
        forget = tf.one_hot(1, 4, dtype=dtype or "float32")
        return FanInTruncatedNormal(self.fan_in)(shape, dtype) + tf.repeat(forget, units)

    def get_config(self):
        return {"fan_in": self.fan_in}


class RefinementNetwork(keras.layers.Layer):
    """(spatial [N, H, W, C], flat [N, F], memory) -> (update [N, 2 D], memory), one row per slot of each image.

    Strided convolutions (ELU: the signs of the gradients among the inputs carry information) -> average over
    the map -> MLP -> concatenation with the flat inputs -> LSTM or nothing -> one linear layer.
    Everything behind the convolutions is small and stays in float32.

    Args:
      channels, kernel_size: of the stride-2 convolutions.
      mlp_sizes: sizes of the MLP; its last layer is linear if `mlp_linear_output`.
      lstm_size: units of the LSTM; 0 for none.
      update_size: 2 D.
    """

    def __init__(self, channels, kernel_size, mlp_sizes, lstm_size, update_size, *, mlp_linear_output=False, **kwargs):
        super().__init__(autocast=False, **kwargs)
        initializer = FanInTruncatedNormal()
        self.cnn = ConvStack(channels, kernel_size, 2, activation="elu", initializer=initializer, dtype=self.dtype_policy, name="cnn")
        self.mlp = MLP(mlp_sizes, activation="elu", linear_output=mlp_linear_output, initializer=initializer, dtype="float32", name="mlp")
        self.feature_size, self.lstm_size = mlp_sizes[-1], lstm_size
        self.output_layer = keras.layers.Dense(update_size, kernel_initializer=initializer, dtype="float32", name="update")

    def build(self, spatial_shape, flat_shape):
        self.cnn.build(spatial_shape)
        self.mlp.build((None, self.cnn.compute_output_shape(spatial_shape)[-1]))
        size = self.feature_size + flat_shape[-1]
        if self.lstm_size:
            fan_in = size + self.lstm_size
            initializer = FanInTruncatedNormal(fan_in)
            self.lstm = keras.layers.LSTMCell(self.lstm_size, kernel_initializer=initializer, recurrent_initializer=initializer,
                                              bias_initializer=GateBias(fan_in), unit_forget_bias=False, dtype="float32", name="lstm")
            self.lstm.build((None, size))
            size = self.lstm_size
        self.output_layer.build((None, size))
        self.built = True

    def initial_memory(self, rows):
        """Returns the memory before the first step: two zero tensors [N, lstm_size], or nothing without an LSTM."""
        return (tf.zeros([rows, self.lstm_size]),) * 2 if self.lstm_size else ()

    def call(self, spatial, flat, memory=()):
        features = tf.cast(tf.reduce_mean(tf.cast(self.cnn(spatial), tf.float32), axis=[1, 2]), tf.float32)
        x = tf.concat([self.mlp(features), flat], axis=-1)
        if self.lstm_size:
            x, memory = self.lstm(x, list(memory))
        return self.output_layer(x), tuple(memory)
