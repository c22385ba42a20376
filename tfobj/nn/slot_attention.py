"""Slot Attention (Locatello 2020, Algorithm 1): slots compete for tokens, iteratively.

Axes: B batch, N tokens, C token channels, K slots, D slot size.
"""

import keras
import tensorflow as tf

from tfobj.nn.iteration import iterate
from tfobj.nn.mlp import MLP
from tfobj.nn.slots import batch_and_slots, fold_slots, unfold_slots


@keras.saving.register_keras_serializable("tfobj")
class SlotAttention(keras.layers.Layer):
    """Maps tokens [B, N, C] and initial slots [B, K, D] to refined slots [B, K, D].

    Each iteration, with layer norms before every projection:

        A[n, k] = softmax_k( <key_n, query_k> / sqrt(D) ) + epsilon     slots compete for tokens
        u_k     = sum_n A[n, k] value_n / sum_n A[n, k]                 weighted mean
        s_k     = GRU(u_k, s_k);  s_k = s_k + MLP(s_k)

    The softmax, the normalisation over tokens and all layer-norm statistics stay in float32 under
    mixed precision: epsilon vanishes in bfloat16, and a sum over 16,384 tokens loses digits.

    Args:
      slot_size: D.
      mlp_hidden: hidden units of the residual MLP.
      epsilon: added to the attention before it is normalised over tokens.
    """

    def __init__(self, slot_size, mlp_hidden=128, *, epsilon=1e-8, **kwargs):
        # Slots stay float32; the projections cast.
        super().__init__(autocast=False, **kwargs)
        self.slot_size = slot_size
        self.epsilon = epsilon

        # Keras' own default of 1e-3 is what the official code trains with; ports with 1e-5 differ.
        norm = {"epsilon": 1e-3, "dtype": "float32"}
        self.norm_inputs = keras.layers.LayerNormalization(name="norm_inputs", **norm)
        self.norm_slots = keras.layers.LayerNormalization(name="norm_slots", **norm)
        self.norm_mlp = keras.layers.LayerNormalization(name="norm_mlp", **norm)

        project = {"use_bias": False, "dtype": self.dtype_policy}
        self.project_key = keras.layers.Dense(slot_size, name="key", **project)
        self.project_value = keras.layers.Dense(slot_size, name="value", **project)
        self.project_query = keras.layers.Dense(slot_size, name="query", **project)

        self.gru = keras.layers.GRUCell(
            slot_size, reset_after=True, dtype=self.dtype_policy, name="gru"
        )
        self.mlp = MLP((mlp_hidden, slot_size), dtype=self.dtype_policy, name="mlp")

    def build(self, input_shape):
        tokens = (None, None, input_shape[-1])
        slots = (None, None, self.slot_size)
        for layer in (self.norm_inputs, self.project_key, self.project_value):
            layer.build(tokens)
        for layer in (self.norm_slots, self.norm_mlp, self.project_query, self.mlp):
            layer.build(slots)
        self.gru.build((None, self.slot_size))
        self.built = True

    def call(self, tokens, slots, num_steps=3):
        """Iterates the attention.

        Args:
          tokens: [B, N, C].
          slots: [B, K, D], the initial slots.
          num_steps: Python integer of at least 1 (unrolled), or a tensor (a loop).

        Returns:
          (slots [B, K, D], attention [B, N, K] of the last iteration, which sums to one over K),
          both float32.
        """
        tokens = self.norm_inputs(tokens)
        keys = self.project_key(tokens)  # [B, N, D]
        values = self.project_value(tokens)  # [B, N, D]

        attention = tf.zeros([tf.shape(tokens)[0], tf.shape(tokens)[1], tf.shape(slots)[1]])
        return iterate(
            lambda _, state, tokens: self.step(*tokens, state[0]),
            (slots, attention),
            num_steps,
            (keys, values),
        )

    def step(self, keys, values, slots):
        """Runs one iteration; returns (new slots, attention before normalising over tokens)."""
        # Matrix products, because an einsum would transpose the tokens first.
        queries = self.project_query(self.norm_slots(slots)) * self.slot_size**-0.5
        logits = tf.cast(tf.matmul(keys, queries, transpose_b=True), tf.float32)  # [B, N, K]
        attention = tf.nn.softmax(logits, axis=-1)

        # Each update is a mean over tokens, not a sum.
        weights = attention + self.epsilon
        weights = weights / tf.reduce_sum(weights, axis=1, keepdims=True)
        updates = tf.matmul(tf.cast(weights, values.dtype), values, transpose_a=True)  # [B, K, D]

        states = tf.cast(fold_slots(slots), self.compute_dtype)
        new_slots, _ = self.gru(fold_slots(updates), [states])
        new_slots = unfold_slots(new_slots, *batch_and_slots(slots))
        new_slots = new_slots + self.mlp(self.norm_mlp(new_slots))
        return tf.cast(new_slots, tf.float32), attention
