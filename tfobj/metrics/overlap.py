"""Overlap of true and predicted segments: IoU, segmentation covering and mean best overlap.

All scores are functions of a contingency table [..., L, K] (see `clustering.contingency_table`),
whose row 0 is the background. Predicted segments keep all their pixels, including those outside the
objects: unlike FG-ARI, these scores penalise slots that spill into the background.
"""

import numpy as np

from tfobj.metrics import clustering


def iou_from_table(table):
    """Computes the intersection over union of every pair of segments.

        IoU_ij = n_ij / (a_i + b_j - n_ij);   0 where both segments are empty

    Args:
      table: [..., L, K] counts.

    Returns:
      iou: float64 [..., L, K] in [0, 1].
    """
    table = np.asarray(table, np.int64)
    union = table.sum(-1, keepdims=True) + table.sum(-2, keepdims=True) - table
    return table / np.maximum(union, 1)


def segmentation_covering_from_table(
    table, *, foreground_only=True, size_weighted=False, empty_value=np.nan
):
    """Scores how well the best predicted segment covers each true one.

        best_i = max_j IoU_ij
        mSC = mean_i best_i                       i runs over the true segments that have pixels
        SC  = sum_i a_i best_i / sum_i a_i        with `size_weighted`

    One predicted segment may be the best for several true ones. mSC over objects is also called
    mean best overlap (mBO) and, in GENESIS, MSC-FG.

    Args:
      table: [..., L, K] counts.
      foreground_only: i runs over objects, without the background.
      size_weighted: weights every true segment by its number of pixels.
      empty_value: the score of a table without true segments; NaN means skip and count.

    Returns:
      scores: float64 [...] in [0, 1].

    Source: Arbelaez 2011, section 2.3 (SC); Engelcke 2020, section 5 (mSC).
    """
    table = np.asarray(table, np.int64)
    best = iou_from_table(table).max(-1)
    sizes = table.sum(-1)
    if foreground_only:
        best = best[..., 1:]
        sizes = sizes[..., 1:]

    weights = sizes if size_weighted else (sizes > 0).astype(np.int64)
    total = weights.sum(-1)
    return np.where(total > 0, (weights * best).sum(-1) / np.maximum(total, 1), empty_value)


def segmentation_covering(
    true,
    predicted,
    *,
    foreground_only=True,
    size_weighted=False,
    level="sequence",
    empty_value=np.nan,
):
    """Computes the segmentation covering of every image or video.

    See `segmentation_covering_from_table` for the definition.

    Args:
      true: [B, ...] integer ids; 0 = background, 255 = not scored.
      predicted: integer ids, the shape of `true`.
      foreground_only, size_weighted, empty_value: as for the table.
      level: "sequence", or "frame" for the mean over frames [B, T, H, W].

    Returns:
      scores: float64 [B] in [0, 1].
    """
    table = clustering.contingency_table(true, predicted, level=level)
    scores = segmentation_covering_from_table(
        table, foreground_only=foreground_only, size_weighted=size_weighted, empty_value=empty_value
    )
    if level == "frame":
        return clustering.mean_over_defined(scores)
    return scores


def mean_best_overlap(true, predicted, *, level="sequence", empty_value=np.nan):
    """Computes mBO, the unweighted covering of objects under its DINOSAUR name: float64 [B]."""
    return segmentation_covering(true, predicted, level=level, empty_value=empty_value)


def iou_from_table_on_device(table):
    """Computes `iou_from_table` in the graph: float32 [..., L, K] counts -> float32 [..., L, K]."""
    # Imported here, as below, because the other functions also serve hosts without TensorFlow.
    import tensorflow as tf

    table = tf.cast(table, tf.float32)
    true_sizes = tf.reduce_sum(table, -1, keepdims=True)
    predicted_sizes = tf.reduce_sum(table, -2, keepdims=True)
    union = true_sizes + predicted_sizes - table
    return table / tf.maximum(union, 1.0)


def segmentation_covering_from_table_on_device(
    table, *, foreground_only=True, size_weighted=False, empty_value=float("nan")
):
    """Computes `segmentation_covering_from_table` in the graph: [..., L, K] -> float32 [...].

    The scores of a table of NaN are NaN, whatever `empty_value` is.
    """
    import tensorflow as tf

    table = tf.cast(table, tf.float32)
    best = tf.reduce_max(iou_from_table_on_device(table), -1)
    sizes = tf.reduce_sum(table, -1)
    if foreground_only:
        best = best[..., 1:]
        sizes = sizes[..., 1:]

    weights = sizes if size_weighted else tf.cast(sizes > 0.0, tf.float32)
    total = tf.reduce_sum(weights, -1)
    scores = tf.reduce_sum(weights * best, -1) / tf.maximum(total, 1.0)
    scores = tf.where(total > 0.0, scores, tf.constant(empty_value, tf.float32))
    pixels = tf.reduce_sum(sizes, -1)
    return tf.where(tf.math.is_nan(pixels), pixels, scores)
