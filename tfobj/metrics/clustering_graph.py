"""Contingency tables and the adjusted Rand index (ARI) in the graph, for use in compiled steps.

These are the functions of `clustering` in TensorFlow: float32, with static shapes.

Axes: B images, T frames, L true ids (0 = background), K predicted ids.
"""

import tensorflow as tf

from tfobj.metrics.clustering import check_masks


def segment_ids_on_device(masks):
    """Computes `segment_ids` in the graph: float [B, (T,) K, H, W, 1] -> int32 [B, (T,) H, W]."""
    check_masks(masks.shape)
    return tf.argmax(masks[..., 0], axis=-3, output_type=tf.int32)


def contingency_table_on_device(true, predicted, num_true, num_predicted):
    """Computes `contingency_table` at sequence level as a product of one-hot matrices.

    Args:
      true: [B, ...] integer tensor. Ids outside [0, num_true) are not counted: the ignore label
        drops out this way, and `num_true` must therefore cover every object.
      predicted: integer tensor of the same shape, in [0, num_predicted).
      num_true: L, a Python integer so that shapes stay static.
      num_predicted: K, a Python integer.

    Returns:
      table: float32 [B, L, K], exact counts up to 2**24 pixels per entry. Zeros and ones survive
        the bfloat16 or TF32 inputs of a matrix unit, and sums are accumulated in float32.
    """
    true = tf.one_hot(_flat_ids(true), num_true)
    predicted = tf.one_hot(_flat_ids(predicted), num_predicted)
    return tf.einsum("bnl,bnk->blk", true, predicted)


def adjusted_rand_index_from_table_on_device(
    table, *, foreground_only=False, empty_value=float("nan")
):
    """Computes `adjusted_rand_index_from_table` in float32, with every sum kept in [0, 1].

    Args:
      table: float32 [..., L, K], exact counts.
      foreground_only, empty_value: as on the host.

    Returns:
      scores: float32 [...]; within 1e-5 of the host up to 2**24 pixels.
    """
    table = tf.cast(table, tf.float32)
    if foreground_only:
        table = table[..., 1:, :]
    rows = tf.reduce_sum(table, -1)
    columns = tf.reduce_sum(table, -2)
    n = tf.reduce_sum(rows, -1)
    size = tf.maximum(n, 1.0)
    others = tf.maximum(n - 1.0, 1.0)

    def separated(counts, axes):
        """Returns the share of pixel pairs in different groups; n - counts is exact in float32."""
        total = n[(...,) + (None,) * len(axes)]
        shares = counts / size[(...,) + (None,) * len(axes)]
        return tf.reduce_sum(shares * (total - counts), axes) / others

    true_gap = separated(rows, [-1])
    predicted_gap = separated(columns, [-1])
    joint_gap = separated(table, [-2, -1])
    product = true_gap * predicted_gap

    # Decided from exact counts and never from `denominator == 0`, which rounding can miss.
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
