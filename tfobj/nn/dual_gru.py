"""DualGRU (Emami 2021, section 3 and appendix F.1): the two halves of a Gaussian's parameters, each with a GRU of its own.

    r = sigmoid(W_r x + b_r + U_r h + c_r)          reset
    u = sigmoid(W_u x + b_u + U_u h + c_u)          update
    n = tanh(W_n x + b_n + r * (U_n h + c_n))       candidate
    h' = (1 - u) * n + u * h

The released code makes one GRU of twice the width whose matrices are block-diagonal and padded with zeros. Here the two
cells are one product over a leading axis of 2: the same function in half the work.
"""

import keras
import tensorflow as tf

from tfobj.nn.layers import Dense


@keras.saving.register_keras_serializable("tfobj")
class DualGRU(keras.layers.Layer):
    """(inputs [N, C], states [2, N, D]) -> new states [2, N, D]; both cells see the same inputs. Computes in float32.

    Args:
      size: D.
      initializer: of weights and biases alike: standard normal in the released code.
    """

    def __init__(self, size, initializer="glorot_uniform", **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.size, self.initializer = size, keras.initializers.get(initializer)

    def build(self, input_shape):
        def weight(name, *shape):
            return self.add_weight(
                name=name, shape=(2, *shape, 3 * self.size), initializer=self.initializer.clone()
            )

        self.kernel, self.recurrent_kernel = (
            weight("kernel", input_shape[-1]),
            weight("recurrent_kernel", self.size),
        )
        self.bias, self.recurrent_bias = weight("bias", 1), weight("recurrent_bias", 1)
        self.built = True

    def call(self, inputs, states):
        reset_x, update_x, candidate_x = tf.split(
            tf.matmul(inputs[None], self.kernel) + self.bias, 3, axis=-1
        )
        reset_h, update_h, candidate_h = tf.split(
            tf.matmul(states, self.recurrent_kernel) + self.recurrent_bias, 3, axis=-1
        )
        update = tf.sigmoid(update_x + update_h)
        candidate = tf.tanh(candidate_x + tf.sigmoid(reset_x + reset_h) * candidate_h)
        return candidate + update * (states - candidate)


@keras.saving.register_keras_serializable("tfobj")
class JointGRU(keras.layers.Layer):
    """The ablation without DualGRU (Emami 2021, Table 2): one GRU of width 2 D on both halves and a projection of the inputs.

    Arguments and shapes as for `DualGRU`; `projection_initializer` is that of the projection C -> 2 D.
    """

    def __init__(
        self, size, initializer="glorot_uniform", projection_initializer="glorot_uniform", **kwargs
    ):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.size = size
        self.projection = Dense(
            2 * size, kernel_initializer=projection_initializer, dtype="float32", name="projection"
        )
        kernel, recurrent, bias = (keras.initializers.get(initializer).clone() for _ in range(3))
        self.gru = keras.layers.GRUCell(
            2 * size,
            reset_after=True,
            kernel_initializer=kernel,
            recurrent_initializer=recurrent,
            bias_initializer=bias,
            dtype="float32",
            name="gru",
        )

    def build(self, input_shape):
        self.projection.build(input_shape)
        self.gru.build((None, 2 * self.size))
        self.built = True

    def call(self, inputs, states):
        joint, _ = self.gru(self.projection(inputs), [tf.concat(tf.unstack(states), axis=-1)])
        return tf.stack(tf.split(joint, 2, axis=-1))
