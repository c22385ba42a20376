"""The network that turns refinement inputs into an additive update of the posterior.

Source: Greff 2019, tables of appendix B.
"""

import keras
import tensorflow as tf

from tfobj.nn.convolution import ConvStack, FanInTruncatedNormal, convolve_slots
from tfobj.nn.mlp import MLP
from tfobj.nn.slots import batch_and_slots, fold_slots, unfold_slots


class GateBias(keras.initializers.Initializer):
    """Bias of an LSTM with gates in the order i, f, g, o, as in Sonnet 1.

    Truncated normal of standard deviation 1 / sqrt(fan_in), plus 1 on the forget gate.
    """

    def __init__(self, fan_in):
        self.fan_in = fan_in

    def __call__(self, shape, dtype=None):
        units = shape[0] // 4
        forget = tf.one_hot(1, 4, dtype=dtype or "float32")
        return FanInTruncatedNormal(self.fan_in)(shape, dtype) + tf.repeat(forget, units)

    def get_config(self):
        return {"fan_in": self.fan_in}


class RefinementNetwork(keras.layers.Layer):
    """Refinement inputs and a memory -> (update [B, K, 2 D], new memory).

    Strided convolutions (ELU: the signs of the gradients among the inputs carry information) ->
    average over the map -> MLP -> concatenation with the flat inputs -> LSTM, if any -> one linear
    layer. Everything behind the convolutions is small and stays in float32. What the first
    convolution makes of the inputs that all slots of an image share (a third of its channels on
    colour images) is computed once per image.

    Args:
      channels: output channels of the stride-2 convolutions.
      kernel_size: of all of them.
      mlp_sizes: sizes of the MLP; its last layer is linear if `mlp_linear_output`.
      lstm_size: units of the LSTM; 0 for none.
      update_size: 2 D.
      mlp_linear_output: see `mlp_sizes`.
    """

    def __init__(
        self,
        channels,
        kernel_size,
        mlp_sizes,
        lstm_size,
        update_size,
        *,
        mlp_linear_output=False,
        **kwargs,
    ):
        super().__init__(autocast=False, **kwargs)
        initializer = FanInTruncatedNormal()

        # Not "cnn" as in 0.1.0, whose kernels have the same shape but another order of channels:
        # the other name makes sure that those checkpoints are refused.
        self.cnn = ConvStack(
            channels,
            kernel_size,
            2,
            activation="elu",
            initializer=initializer,
            dtype=self.dtype_policy,
            name="convolutions",
        )
        self.mlp = MLP(
            mlp_sizes,
            activation="elu",
            linear_output=mlp_linear_output,
            initializer=initializer,
            dtype="float32",
            name="mlp",
        )
        self.feature_size = mlp_sizes[-1]
        self.lstm_size = lstm_size
        self.output_layer = keras.layers.Dense(
            update_size, kernel_initializer=initializer, dtype="float32", name="update"
        )

    def build(self, num_shared, num_per_slot, num_flat):
        """Makes the weights.

        Args:
          num_shared: channels of the image-shaped inputs that all slots share.
          num_per_slot: channels of the image-shaped inputs of each slot.
          num_flat: number of flat inputs.
        """
        # The kernel's input channels in the order of `convolve_slots`: the shared ones first.
        spatial_shape = (None, None, None, num_shared + num_per_slot)
        self.cnn.build(spatial_shape)
        self.mlp.build((None, self.cnn.compute_output_shape(spatial_shape)[-1]))

        size = self.feature_size + num_flat
        if self.lstm_size:
            fan_in = size + self.lstm_size
            initializer = FanInTruncatedNormal(fan_in)
            self.lstm = keras.layers.LSTMCell(
                self.lstm_size,
                kernel_initializer=initializer,
                recurrent_initializer=initializer,
                bias_initializer=GateBias(fan_in),
                unit_forget_bias=False,
                dtype="float32",
                name="lstm",
            )
            self.lstm.build((None, size))
            size = self.lstm_size

        self.output_layer.build((None, size))
        self.built = True

    def initial_memory(self, rows):
        """Returns the memory before the first step: two zeros [N, lstm_size], or ()."""
        if not self.lstm_size:
            return ()
        return (tf.zeros([rows, self.lstm_size]),) * 2

    def call(self, shared, per_slot, flat, memory=()):
        """Returns (update, new memory).

        Args:
          shared: [B, 1, H, W, num_shared], or None.
          per_slot: [B, K, H, W, num_per_slot], or None.
          flat: [B, K, num_flat].
          memory: that of the step before; see `initial_memory`.
        """
        batch, num_slots = batch_and_slots(flat)

        x = convolve_slots(self.cnn, shared, per_slot, num_slots)
        features = tf.reduce_mean(tf.cast(x, tf.float32), axis=[1, 2])
        x = tf.concat([self.mlp(features), fold_slots(flat)], axis=-1)  # [B * K, F]
        if self.lstm_size:
            x, memory = self.lstm(x, list(memory))

        return unfold_slots(self.output_layer(x), batch, num_slots), tuple(memory)
