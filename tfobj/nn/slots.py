"""Slots as rows of a batch, and as parts of a scene.

Most layers do not know about slots: they see [B * K, ...]. `fold_slots` makes these rows,
`unfold_slots` inverts it.

Softmaxes over slots are written out here: TensorFlow's own computes over the last axis alone and
transposes the images there and back, which takes 2.5 to 3 times as long, forward and backward.

All decoders share one convention, known only to `split_decoded` and `join_decoded`: [..., C + 1],
the C colours of a slot first, its mask logit last.
"""

import tensorflow as tf


def batch_size(x):
    """Returns B of `x` [B, ...]: a Python integer where it is known, else a tensor."""
    if x.shape[0] is None:
        return tf.shape(x)[0]
    return x.shape[0]


def batch_and_slots(x):
    """Returns (B, K) of `x` [B, K, ...]: Python integers where they are known, else tensors."""
    if x.shape[1] is None:
        return batch_size(x), tf.shape(x)[1]
    return batch_size(x), x.shape[1]


def fold_slots(x):
    """Reshapes [B, K, ...] to [B * K, ...]; the shape is static where the input's is."""
    rows = -1
    if None not in x.shape[:2]:
        rows = x.shape[0] * x.shape[1]
    return tf.reshape(x, [rows, *x.shape[2:]])


def unfold_slots(x, batch, num_slots):
    """Reshapes [B * K, ...] to [B, K, ...]; `batch` and `num_slots` are integers or tensors."""
    return tf.reshape(x, [batch, num_slots, *x.shape[1:]])


def softmax_over_slots(logits):
    """Returns the softmax of logits [B, K, ...] over K."""
    powers = tf.exp(_shifted(logits))
    return powers / tf.reduce_sum(powers, axis=1, keepdims=True)


def log_softmax_over_slots(logits):
    """Returns the logarithm of the softmax of logits [B, K, ...] over K."""
    shifted = _shifted(logits)
    return shifted - tf.math.log(tf.reduce_sum(tf.exp(shifted), axis=1, keepdims=True))


def _shifted(logits):
    """Returns logits whose largest over slots is zero, so that no exponential overflows."""
    return logits - tf.stop_gradient(tf.reduce_max(logits, axis=1, keepdims=True))


def split_decoded(decoded):
    """Splits decoder outputs [..., C + 1] into (colours [..., C], mask logits [..., 1])."""
    # tf.split and not slices: the gradient of a slice pads with zeros, at ten times the cost.
    return tf.split(decoded, [decoded.shape[-1] - 1, 1], axis=-1)


def join_decoded(colours, mask_logits):
    """Joins (colours [..., C], mask logits [..., 1]), or their gradients, into [..., C + 1]."""
    return tf.concat([colours, mask_logits], axis=-1)


def compose(masks, slot_recons):
    """Returns the scene sum_k masks_k slot_recons_k.

    Args:
      masks: [B, K, H, W, 1], sums to one over K.
      slot_recons: [B, K, H, W, C].

    Returns:
      [B, H, W, C].
    """
    return tf.reduce_sum(masks * slot_recons, axis=1)
