"""Contingency tables and the adjusted Rand index (ARI) in the graph, for validation inside a compiled step.

The same functions as in `clustering`, in TensorFlow, float32, with static shapes.

Axes: B images, T frames, L true ids (0 = background), K predicted ids.
"""

import tensorflow as tf

from tfobj.metrics.clustering import check_masks


def segment_ids_on_device(masks):
    """`segment_ids` in the graph: masks [B, (T,) K, H, W, 1] of any float dtype -> int32 [B, (T,) H, W]."""
    check_masks(masks.shape)
    return tf.argmax(masks[..., 0], axis=-3, output_type=tf.int32)


def contingency_table_on_device(true, predicted, num_true, num_predicted):
    """`contingency_table` at sequence level in the graph, as a product of one-hot matrices.

    Args:
      true: [B, ...] integer tensor. Ids outside [0, num_true) count nowhere: that is how the ignore
        label drops out, and why `num_true` must cover every object.
      predicted: integer tensor of the same shape, in [0, num_predicted).
      num_true: L, a Python integer (shapes stay static).
      num_predicted: K, a Python integer.

    Returns:
      table: float32 [B, L, K], exact counts up to 2**24 pixels per entry. Zeros and ones survive the
        bfloat16 or TF32 inputs of a matrix unit, and sums are accumulated in float32.
    """
    true, predicted = _flat_ids(true), _flat_ids(predicted)
    return tf.einsum(
        "bnl,bnk->blk", tf.one_hot(true, num_true), tf.one_hot(predicted, num_predicted)
    )


def adjusted_rand_index_from_table_on_device(
    table, *, foreground_only=False, empty_value=float("nan")
):
    """`adjusted_rand_index_from_table` in float32, with every sum kept in [0, 1].

    Args:
      table: float32 [..., L, K], exact counts.
      foreground_only, empty_value: as on the host.

    Returns:
      scores: float32 [...]; within 1e-5 of the host up to 2**24 pixels.
    """
    table = tf.cast(table, tf.float32)
    if foreground_only:
        table = table[..., 1:, :]
    rows, columns = tf.reduce_sum(table, -1), tf.reduce_sum(table, -2)
    n = tf.reduce_sum(rows, -1)
    size, others = tf.maximum(n, 1.0), tf.maximum(n - 1.0, 1.0)

    def separated(counts, axes):
        """Share of pixel pairs in different groups; n - counts is exact, so nothing cancels."""
        total = n[(...,) + (None,) * len(axes)]
        shares = counts / size[(...,) + (None,) * len(axes)]
        return tf.reduce_sum(shares * (total - counts), axes) / others

    true_gap, predicted_gap = separated(rows, [-1]), separated(columns, [-1])
    joint_gap = separated(table, [-2, -1])
    product = true_gap * predicted_gap
    occupied = _count_positive(table, [-2, -1])
    identical = (occupied == _count_positive(rows, [-1])) & (
        occupied == _count_positive(columns, [-1])
    )
    denominator = tf.where(identical, 1.0, 0.5 * (true_gap + predicted_gap) - product)
    scores = tf.where(
        identical, 1.0, (true_gap + predicted_gap - joint_gap - product) / denominator
    )
    return tf.where(n == 0.0, tf.constant(empty_value, tf.float32), scores)


def _flat_ids(ids):
    ids = tf.cast(ids, tf.int32)
    return tf.reshape(ids, [-1, ids.shape[1:].num_elements()])


def _count_positive(counts, axes):
    return tf.reduce_sum(tf.cast(counts > 0.0, tf.int32), axes)
