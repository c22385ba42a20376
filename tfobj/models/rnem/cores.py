"""The recurrent cores: how encoded inputs update the state of a slot.

A core takes encoded inputs [B, K, F] and its memory, a tuple of tensors [B, K, units], and
returns the next memory, whose last tensor is rendered by the decoder. Cores are small and compute
in float32.
"""

import math

import keras
import tensorflow as tf

from tfobj.models.rnem.networks import JointNorm, dense_block
from tfobj.nn.layers import Dense
from tfobj.nn.slots import batch_and_slots

FLOAT32 = {"autocast": False, "dtype": "float32"}


@keras.saving.register_keras_serializable("tfobj")
class RecurrentCore(keras.layers.Layer):
    """RNN-EM: independent slots, without a norm on the recurrent path (Greff 2017).

        g = W [e ; h] + b     h <- sigmoid(g)     output = sigmoid(LN(g))

    Args:
      units: size of the state.
      epsilon: of layer norms; None for no norms.
    """

    memory_names = ("hidden", "output")

    def __init__(self, units, epsilon, **kwargs):
        super().__init__(**{**FLOAT32, **kwargs})
        self.units = units
        self.state = Dense(units, dtype="float32", name="state")
        self.norm = None
        if epsilon is not None:
            self.norm = JointNorm(1, epsilon, name="norm")

    def build(self, num_features):
        self.build_state(num_features + self.units)

    def build_state(self, size):
        """Creates the weights of g for inputs of `size`."""
        self.state.build((None, size))
        if self.norm is not None:
            self.norm.build((None, self.units))
        self.built = True

    def inputs(self, features, hidden):
        """Returns the inputs of the linear layer g, a list of [B, K, .]."""
        return [features, hidden]

    def call(self, features, memory):
        hidden, _ = memory
        g = self.state(tf.concat(self.inputs(features, hidden), axis=-1))
        normalised = g
        if self.norm is not None:
            normalised = self.norm(g)
        return tf.sigmoid(g), tf.sigmoid(normalised)


@keras.saving.register_keras_serializable("tfobj")
class RelationalCore(RecurrentCore):
    """R-NEM: slots that interact in pairs (van Steenkiste 2018).

        s_k = ReLU(LN(W_s h_k))                           state
        xi_ki = ReLU(LN(W_p [s_k ; s_i]))                 pair
        e_ki = ReLU(LN(W_e xi_ki))                        effect of slot i on slot k
        alpha_ki = sigmoid(w . tanh(LN(W_a xi_ki)))       attention
        E_k = sum_{i != k} alpha_ki e_ki
        g_k = W [s_k ; E_k ; x_k] + b                     x_k: encoded input

    The state and the output follow from g as in `RecurrentCore`.

    Args:
      units, epsilon: as for `RecurrentCore`.
      relation_size: units of xi and of the effects e_ki.
      attention_size: units of the layer before alpha; None: alpha = 1.
    """

    def __init__(self, units, relation_size, attention_size, epsilon, **kwargs):
        super().__init__(units, epsilon, **kwargs)
        self.relation_size = relation_size
        self.attention_size = attention_size
        self.slot = dense_block(units, "relu", epsilon, "float32", "slot")
        self.pair = dense_block(relation_size, "relu", epsilon, "float32", "pair")
        self.effect = dense_block(relation_size, "relu", epsilon, "float32", "effect")
        if attention_size is not None:
            self.attention = dense_block(attention_size, "tanh", epsilon, "float32", "attention")
            self.gate = Dense(1, activation="sigmoid", dtype="float32", name="gate")

    def build(self, num_features):
        self.slot.build((None, self.units))
        self.pair.build((None, 2 * self.units))
        self.effect.build((None, self.relation_size))
        if self.attention_size is not None:
            self.attention.build((None, self.relation_size))
            self.gate.build((None, self.attention_size))
        self.build_state(self.units + self.relation_size + num_features)

    def inputs(self, features, hidden):
        slots = self.slot(hidden)
        return [slots, self.effects(slots), features]

    def effects(self, slots):
        """Returns E [B, K, relation_size], the sum of the effects of all other slots.

        Args:
          slots: s [B, K, units], encoded states.
        """
        # Before its norm the layer of pairs is linear: it is applied once per slot, not per pair.
        linear = self.pair.linear
        focus, context = tf.split(linear.kernel.value, 2, axis=0)
        pairs = (slots @ focus)[:, :, None] + (slots @ context)[:, None]
        pairs = self.pair.finish(pairs + linear.bias.value)  # [B, K, K, relation_size]

        effects = self.effect(pairs)
        if self.attention_size is not None:
            effects *= self.gate(self.attention(pairs))

        # All K x K pairs at once, without those of a slot and itself.
        others = 1.0 - tf.eye(batch_and_slots(slots)[1])
        return tf.reduce_sum(effects * others[:, :, None], axis=2)


@keras.saving.register_keras_serializable("tfobj")
class LSTMCore(keras.layers.Layer):
    """LSTM with layer norms instead of biases (Ba 2016), a baseline with one slot.

        i, j, f, o = LN(each part of W [e ; h])
        c <- LN(sigmoid(f + 1) c + sigmoid(i) tanh(j))
        h <- sigmoid(o) tanh(c)

    Args:
      units: size of the state.
      epsilon: of layer norms; None for no norms, but a bias.
    """

    memory_names = ("cell", "output")

    def __init__(self, units, epsilon, **kwargs):
        super().__init__(**{**FLOAT32, **kwargs})
        self.units = units
        self.gates = keras.layers.Dense(
            4 * units, use_bias=epsilon is None, dtype="float32", name="gates"
        )
        self.norms = []
        if epsilon is not None:
            names = ("input", "candidate", "forget", "output", "cell")
            self.norms = [JointNorm(1, epsilon, name=f"norm_{name}") for name in names]

    def build(self, num_features):
        self.gates.build((None, num_features + self.units))
        for norm in self.norms:
            norm.build((None, self.units))
        self.built = True

    def call(self, features, memory):
        cell, hidden = memory
        *norms, norm_cell = self.norms or [tf.identity] * 5
        parts = tf.split(self.gates(tf.concat([features, hidden], axis=-1)), 4, axis=-1)
        i, j, f, o = (norm(part) for norm, part in zip(norms, parts, strict=True))
        cell = norm_cell(tf.sigmoid(f + 1.0) * cell + tf.sigmoid(i) * tf.tanh(j))
        return cell, tf.sigmoid(o) * tf.tanh(cell)


@keras.saving.register_keras_serializable("tfobj")
class GradientCore(keras.layers.Layer):
    """N-EM: a gradient step on the expected log-likelihood of a one-layer decoder (Greff 2017).

        logits = sigmoid(z) W^T
        z <- z + eta sigmoid(z) (1 - sigmoid(z)) (u W),    u = gamma (x - psi)

    It is encoder, core, and decoder in one. eta is learned; W has no biases.

    Args:
      image_shape: (H, W, C).
      units: size of z.
    """

    memory_names = ("output",)

    def __init__(self, image_shape, units, **kwargs):
        super().__init__(**{**FLOAT32, **kwargs})
        self.image_shape = tuple(image_shape)
        self.units = units

    def build(self, input_shape=None):
        self.kernel = self.add_weight(
            name="kernel",
            shape=(math.prod(self.image_shape), self.units),
            initializer="glorot_uniform",
        )
        self.step_size = self.add_weight(
            name="step_size", shape=(1, 1), initializer="glorot_uniform"
        )
        self.built = True

    def encode(self, x):
        """Returns u W [N, units] of u [N, H, W, C]."""
        return tf.reshape(x, [-1, math.prod(self.image_shape)]) @ self.kernel.value

    def render(self, z):
        """Returns logits [N, H, W, C] of z [N, units]."""
        logits = tf.matmul(tf.sigmoid(z), self.kernel.value, transpose_b=True)
        return tf.reshape(logits, [-1, *self.image_shape])

    def call(self, features, memory):
        (z,) = memory
        s = tf.sigmoid(z)
        return (z + self.step_size.value * s * (1.0 - s) * features,)
