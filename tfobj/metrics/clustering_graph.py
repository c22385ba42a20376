"""Contingency tables and the adjusted Rand index (ARI) in the graph, for use in compiled steps.

These are the functions of `clustering` in TensorFlow: float32, with static shapes. They refuse what
those refuse: types and shapes when the graph is built, ids out of range when it runs. XLA drops
assertions, so an entry with such ids also gets a table of NaN, whose scores are all NaN.

Axes: B images, T frames, L true ids (0 = background), K predicted ids.
"""

import tensorflow as tf

from tfobj.errors import UserError
from tfobj.metrics.clustering import NO_SLOT, check_masks
from tfobj.structs import IGNORE_LABEL


def segment_ids_on_device(masks):
    """Computes `segment_ids` in the graph.

    Args:
      masks: float [B, (T,) K, H, W, 1].

    Returns:
      ids: int32 [B, (T,) H, W]; `clustering.NO_SLOT` where a share of the pixel is not finite.
    """
    masks = tf.convert_to_tensor(masks)
    check_masks(masks.shape)
    ids = tf.argmax(masks[..., 0], axis=-3, output_type=tf.int32)
    if not masks.dtype.is_floating:
        return ids
    finite = tf.reduce_all(tf.math.is_finite(masks[..., 0]), axis=-3)
    return tf.where(finite, ids, NO_SLOT)


def contingency_table_on_device(
    true, predicted, num_true, num_predicted, *, ignore_label=IGNORE_LABEL
):
    """Computes `contingency_table` at sequence level as a product of one-hot matrices.

    Args:
      true: [B, ...] integer tensor, ids less than `num_true`. Negative ids and `ignore_label` are
        not counted.
      predicted: integer tensor of the same shape, in [0, num_predicted) where `true` is counted.
      num_true: L, a Python integer so that shapes stay static.
      num_predicted: K, a Python integer.
      ignore_label: the id that marks pixels without label, or None.

    Returns:
      table: float32 [B, L, K], exact counts up to 2**24 pixels per entry. Zeros and ones survive
        the bfloat16 or TF32 inputs of a matrix unit, and sums are accumulated in float32.

    Raises:
      UserError: if the types or shapes do not fit.
      tf.errors.InvalidArgumentError: if an id is out of range; under XLA, the table is NaN instead.
    """
    true = _flat_ids("true", true)
    predicted = _flat_ids("predicted", predicted)
    if not true.shape.is_compatible_with(predicted.shape):
        raise UserError(
            f"`predicted` must have the shape of `true`, {true.shape}. Received: {predicted.shape}."
        )

    counted = true >= 0
    if ignore_label is not None:
        counted &= true != ignore_label
    beyond = counted & (true >= num_true)
    strange = counted & ((predicted < 0) | (predicted >= num_predicted))
    assertions = [
        _assert_none(beyond, f"`true` must hold ids less than `num_true`, {num_true}."),
        _assert_none(strange, f"`predicted` must hold ids in [0, {num_predicted})."),
    ]

    with tf.control_dependencies([a for a in assertions if a is not None]):
        rows = tf.one_hot(tf.where(counted, true, -1), num_true)
    table = tf.einsum("bnl,bnk->blk", rows, tf.one_hot(predicted, num_predicted))
    broken = tf.reduce_any(beyond | strange, axis=-1)
    return tf.where(broken[:, None, None], float("nan"), table)


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
    scores = tf.where(n == 0.0, tf.constant(empty_value, tf.float32), scores)
    # Of counts that are NaN, none is positive, as of identical partitions.
    return tf.where(tf.math.is_nan(n), n, scores)


def _flat_ids(name, ids):
    """Returns ids [B, ...] as int64 [B, n]."""
    ids = tf.convert_to_tensor(ids)
    if ids.shape.rank < 2 or not (ids.dtype.is_integer or ids.dtype.is_bool):
        raise UserError(
            f"`{name}` must be integer ids [B, ...]. "
            f"Received: shape {ids.shape}, dtype {ids.dtype.name}."
        )
    num_pixels = ids.shape[1:].num_elements()
    if num_pixels is None:
        num_pixels = tf.reduce_prod(tf.shape(ids)[1:])
    # 64 bits, because larger ids that are cast to 32 bits may fall among the valid ones.
    return tf.reshape(tf.cast(ids, tf.int64), [tf.shape(ids)[0], num_pixels])


def _assert_none(wrong, message):
    """Asserts that no pixel is `wrong`; returns the operation, or None in eager mode."""
    return tf.debugging.assert_equal(tf.reduce_any(wrong), False, message)


def _count_positive(counts, axes):
    return tf.reduce_sum(tf.cast(counts > 0.0, tf.int32), axes)
