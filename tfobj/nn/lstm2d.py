"""LSTM cells with a memory along each of two axes: the time of a video and the refinements within a frame."""

import keras
import tensorflow as tf

from tfobj.errors import unknown_name

FORMS = ("mixed", "graves")
BLOCKS = 5


@keras.saving.register_keras_serializable("tfobj")
class LSTM2DCell(keras.layers.Layer):
    """One cell of a two-dimensional LSTM: inputs [N, F], states of both axes [N, units] -> (h, c), the state for both.

        i, f, o, s = sigmoid(.)   g = tanh(.)     of  x W + h_T U_T + h_R U_R + b

        mixed     c = f (s c_T + (1 - s) c_R) + i g         one forget gate, and a gate that mixes the axes
        graves    c = f c_T + s c_R + i g                   a forget gate per axis (Graves et al. 2007, without peepholes)
        both      h = o tanh(c)

    In the mixed form |c| <= max(|c_T|, |c_R|) + 1 whatever the weights; in the other it can grow with every path through the
    grid. Both have the same weights, and compute in float32 where mixed precision is on.

    Args:
      units: size of the state.
      form: "mixed" (released code of Zablotskaia et al. 2020) or "graves" (the form that their text cites).
    """

    def __init__(self, units, form="mixed", **kwargs):
        super().__init__(**{"autocast": False, "dtype": "float32", **kwargs})
        if form not in FORMS:
            raise unknown_name("form of the 2-D LSTM", form, FORMS)
        self.units, self.form = units, form

    def build(self, input_shape):
        for name, size in (
            ("kernel", input_shape[-1]),
            ("time_kernel", self.units),
            ("refinement_kernel", self.units),
        ):
            setattr(
                self,
                name,
                self.add_weight(
                    name=name, shape=(size, BLOCKS * self.units), initializer=fan_in_uniform()
                ),
            )
        # Three biases in the released code, one per product, of which only the sum matters.
        self.bias = self.add_weight(
            name="bias",
            shape=(3, BLOCKS * self.units),
            initializer=_Biases([input_shape[-1], self.units, self.units]),
        )
        self.built = True

    def call(self, inputs, time_state, refinement_state):
        """Returns (h, c), each [N, units].

        Args:
          inputs: [N, F].
          time_state: (h_T, c_T) that the frame before left.
          refinement_state: (h_R, c_R) of the refinement before, zeros at the first of a frame.
        """
        (time_h, time_c), (h, c) = time_state, refinement_state
        gates = (
            inputs @ self.kernel.value
            + time_h @ self.time_kernel.value
            + h @ self.refinement_kernel.value
        )
        i, f, o, s, g = tf.split(gates + tf.reduce_sum(self.bias.value, axis=0), BLOCKS, axis=-1)
        i, f, o, s, g = tf.sigmoid(i), tf.sigmoid(f), tf.sigmoid(o), tf.sigmoid(s), tf.tanh(g)
        old = f * (s * time_c + (1.0 - s) * c) if self.form == "mixed" else f * time_c + s * c
        c = old + i * g
        return o * tf.tanh(c), c


def fan_in_uniform():
    """Returns the initializer U(+-1 / sqrt(fan_in)) of kernels, PyTorch's default for linear and convolution layers."""
    return keras.initializers.VarianceScaling(
        scale=1.0 / 3.0, mode="fan_in", distribution="uniform"
    )


class _Biases(keras.initializers.Initializer):
    """Rows of U(+-1 / sqrt(fan_in)), one fan_in per row."""

    def __init__(self, fan_ins):
        self.fan_ins = list(fan_ins)

    def __call__(self, shape, dtype=None):
        limits = tf.constant([[size**-0.5] for size in self.fan_ins], dtype or "float32")
        return keras.initializers.RandomUniform(-1.0, 1.0)(shape, dtype) * limits

    def get_config(self):
        return {"fan_ins": self.fan_ins}
