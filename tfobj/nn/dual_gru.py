"""DualGRU: one GRU for each half of a Gaussian's parameters (Emami 2021, section 3, appendix F.1).

    r = sigmoid(W_r x + b_r + U_r h + c_r)          reset
    u = sigmoid(W_u x + b_u + U_u h + c_u)          update
    n = tanh(W_n x + b_n + r * (U_n h + c_n))       candidate
    h' = (1 - u) * n + u * h

The released code makes one GRU of twice the width whose matrices are block-diagonal and padded
with zeros. Here the two cells are one product over a leading axis of 2: the same function in half
the work.
"""

import keras
import tensorflow as tf

from tfobj.nn.layers import Dense


@keras.saving.register_keras_serializable("tfobj")
class DualGRU(keras.layers.Layer):
    """(inputs [N, C], states [2, N, D]) -> new states [2, N, D]; both cells see the same inputs.

    Computes in float32.

    Args:
      size: D.
      initializer: of both weights and biases; standard normal in the released code.
    """

    def __init__(self, size, initializer="glorot_uniform", **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.size = size
        self.initializer = keras.initializers.get(initializer)

    def build(self, input_shape):
        def weight(name, *shape):
            return self.add_weight(
                name=name, shape=(2, *shape, 3 * self.size), initializer=self.initializer.clone()
            )

        self.kernel = weight("kernel", input_shape[-1])
        self.recurrent_kernel = weight("recurrent_kernel", self.size)
        self.bias = weight("bias", 1)
        self.recurrent_bias = weight("recurrent_bias", 1)
        self.built = True

    def call(self, inputs, states):
        from_inputs = tf.matmul(inputs[None], self.kernel) + self.bias  # [2, N, 3 D]
        from_states = tf.matmul(states, self.recurrent_kernel) + self.recurrent_bias
        reset_x, update_x, candidate_x = tf.split(from_inputs, 3, axis=-1)
        reset_h, update_h, candidate_h = tf.split(from_states, 3, axis=-1)

        update = tf.sigmoid(update_x + update_h)
        candidate = tf.tanh(candidate_x + tf.sigmoid(reset_x + reset_h) * candidate_h)
        return candidate + update * (states - candidate)


@keras.saving.register_keras_serializable("tfobj")
class JointGRU(keras.layers.Layer):
    """One GRU of width 2 D on both halves, the ablation without DualGRU (Emami 2021, Table 2).

    Its inputs are projected from C to 2 D with `projection_initializer`. The other arguments and
    the shapes are those of `DualGRU`.
    """

    def __init__(
        self, size, initializer="glorot_uniform", projection_initializer="glorot_uniform", **kwargs
    ):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.size = size
        self.projection = Dense(
            2 * size, kernel_initializer=projection_initializer, dtype="float32", name="projection"
        )

        # A clone each: weights of one shape that share an instance get the same values.
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
