"""LSTM cells with a memory along two axes: the frames of a video and the refinements of a frame."""

import keras
import tensorflow as tf

from tfobj.errors import unknown_name

FORMS = ("mixed", "graves")
BLOCKS = 5


@keras.saving.register_keras_serializable("tfobj")
class LSTM2DCell(keras.layers.Layer):
    """One cell of a two-dimensional LSTM: inputs [N, F], two states [N, units] -> (h, c).

        i, f, o, s = sigmoid(.)   g = tanh(.)     of  x W + h_T U_T + h_R U_R + b

        mixed     c = f (s c_T + (1 - s) c_R) + i g     a forget gate, and a gate that mixes axes
        graves    c = f c_T + s c_R + i g               a forget gate per axis
        both      h = o tanh(c)

    "graves" is Graves et al. 2007 without peepholes. In the mixed form |c| <= max(|c_T|, |c_R|) +
    1 for any weights; in the other c can grow with every path through the grid. Both have the
    same weights, and compute in float32 under mixed precision, too. The state that a cell returns
    is the one that it leaves along both axes.

    Args:
      units: size of the state.
      form: "mixed" (released code of Zablotskaia et al. 2020) or "graves" (the form that their
        text cites).
    """

    def __init__(self, units, form="mixed", **kwargs):
        super().__init__(**{"autocast": False, "dtype": "float32", **kwargs})
        if form not in FORMS:
            raise unknown_name("form of the 2-D LSTM", form, FORMS)
        self.units = units
        self.form = form

    def build(self, input_shape):
        def kernel(name, size):
            shape = (size, BLOCKS * self.units)
            return self.add_weight(name=name, shape=shape, initializer=fan_in_uniform())

        self.kernel = kernel("kernel", input_shape[-1])
        self.time_kernel = kernel("time_kernel", self.units)
        self.refinement_kernel = kernel("refinement_kernel", self.units)
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
          time_state: (h_T, c_T) of the frame before.
          refinement_state: (h_R, c_R) of the refinement before, zeros at the first of a frame.
        """
        time_h, time_c = time_state
        refinement_h, refinement_c = refinement_state

        gates = (
            inputs @ self.kernel.value
            + time_h @ self.time_kernel.value
            + refinement_h @ self.refinement_kernel.value
        )
        gates += tf.reduce_sum(self.bias.value, axis=0)
        *gates, candidate = tf.split(gates, BLOCKS, axis=-1)
        i, f, o, s = (tf.sigmoid(gate) for gate in gates)
        g = tf.tanh(candidate)

        if self.form == "mixed":
            c = f * (s * time_c + (1.0 - s) * refinement_c) + i * g
        else:
            c = f * time_c + s * refinement_c + i * g
        return o * tf.tanh(c), c


def fan_in_uniform():
    """Returns the initializer U(+-1 / sqrt(fan_in)), PyTorch's default for kernels."""
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
