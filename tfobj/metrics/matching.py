"""One-to-one matching of true objects and slots, and the mean IoU under it.

On the host, the matching is SciPy's linear assignment. In the graph, dynamic programming over sets
of used slots finds its *value* exactly, with 2**K instead of K! cases and static shapes.
"""

import numpy as np

from tfobj.errors import UserError, unknown_name
from tfobj.metrics import clustering, overlap

MAX_SLOTS_ON_DEVICE = 12
"""2**12 sets of slots x 12 slots are 49 thousand numbers per image; for more slots use the host."""


def match_objects(iou):
    """Assigns objects to slots, one to one, so that the sum of IoU is largest.

        match_objects([[[0.6, 0.5], [0.5, 0.1]]])   # [[1, 0]]: 0.5 + 0.5 beats 0.6 + 0.1

    To maximise the sum, an object may be paired with a slot other than the one it overlaps most.

    Args:
      iou: [..., N, K] scores of every pair, larger is better.

    Returns:
      slots: int64 [..., N], the slot of every object; -1 for objects left over (N > K).

    Raises:
      UserError: if scores are not finite.
    """
    # Imported here because SciPy is optional and takes 0.4 s.
    from scipy.optimize import linear_sum_assignment

    iou = np.asarray(iou, np.float64)
    if iou.ndim < 2 or not np.isfinite(iou).all():
        raise UserError(
            "`iou` must have shape [..., N, K] and be finite. "
            f"Received: shape {iou.shape}, {np.count_nonzero(~np.isfinite(iou))} not finite."
        )
    slots = np.full(iou.shape[:-1], -1, np.int64)
    for index in np.ndindex(iou.shape[:-2]):
        objects, matched = linear_sum_assignment(iou[index], maximize=True)
        slots[index][objects] = matched
    return slots


def matched_iou_from_table(table, *, foreground_only=True):
    """Computes the IoU of every true segment with its slot under the best one-to-one matching.

    Args:
      table: [..., L, K] counts. Every slot is a candidate, including one that holds the background.
      foreground_only: matches objects only (row 0 left out).

    Returns:
      matched: float64 [..., N] in [0, 1]; N = L - 1, or L with background. 0 for segments left
        without a slot, NaN for ids without pixels.
    """
    table = np.asarray(table, np.int64)
    iou = overlap.iou_from_table(table)
    present = table.sum(-1) > 0
    if foreground_only:
        iou = iou[..., 1:, :]
        present = present[..., 1:]

    slots = match_objects(iou)
    matched = np.take_along_axis(iou, np.maximum(slots, 0)[..., None], axis=-1)[..., 0]
    return np.where(present, np.where(slots >= 0, matched, 0.0), np.nan)


def mean_matched_iou(true, predicted, *, foreground_only=True, average="image", level="sequence"):
    """Computes the mean IoU (mIOU) of true segments and slots under the best one-to-one matching.

    Args:
      true: [B, ...] integer ids; 0 = background, 255 = not scored.
      predicted: integer ids, the shape of `true`.
      foreground_only: objects only.
      average: "image" gives one score per entry; "object" gives the mean over all objects of the
        data set (Anciukevicius 2020), which weights crowded scenes more.
      level: "sequence", or "frame" to match every frame [B, T, H, W] separately.

    Returns:
      float64 [B] for "image" (NaN without objects), scalar for "object".

    Source: Anciukevicius 2020, section 4.
    """
    if average not in ("image", "object"):
        raise unknown_name("average", average, ("image", "object"))

    table = clustering.contingency_table(true, predicted, level=level)
    matched = matched_iou_from_table(table, foreground_only=foreground_only)
    if average == "object":
        return clustering.mean_over_defined(matched, axis=None)

    scores = clustering.mean_over_defined(matched)
    if level == "frame":
        return clustering.mean_over_defined(scores)
    return scores


def best_matching_value_on_device(iou):
    """Computes the largest sum of IoU over one-to-one matchings, exactly, in the graph.

        f_0(S) = 0
        f_i(S) = max( f_{i-1}(S),  max_{k in S} f_{i-1}(S without k) + IoU_ik )    S: a set of slots

    f_N(all slots) is the value. The table of sets and their members is a constant of the graph.

    Args:
      iou: float32 [B, N, K], at least 0; N and K static, K <= `MAX_SLOTS_ON_DEVICE`.

    Returns:
      value: float32 [B], in [0, min(N, K)].

    Raises:
      UserError: if K is larger.
    """
    import tensorflow as tf

    num_objects, num_slots = iou.shape[-2:]
    if num_slots > MAX_SLOTS_ON_DEVICE:
        raise UserError(
            f"`iou` must have at most {MAX_SLOTS_ON_DEVICE} slots in the graph; for more, use "
            f"`match_objects` on the host. Received: {num_slots} slots."
        )

    sets = np.arange(2**num_slots)[:, None]
    bits = 1 << np.arange(num_slots)[None]
    member = (sets & bits) > 0
    # For a slot outside the set, the entry is the set itself and gains nothing: "i unmatched".
    without = sets & ~bits

    best = tf.zeros([tf.shape(iou)[0], 2**num_slots], tf.float32)
    for i in range(num_objects):
        gain = iou[:, i, None, :] * tf.constant(member, tf.float32)  # [B, 2**K, K]
        best = tf.maximum(best, tf.reduce_max(tf.gather(best, without, axis=1) + gain, -1))
    return best[:, -1]


def mean_matched_iou_from_table_on_device(table, *, foreground_only=True, empty_value=float("nan")):
    """Computes the mIOU of every image in the graph.

    Args:
      table: float32 [B, L, K] counts.
      foreground_only: matches objects only (row 0 left out).
      empty_value: the score of images without true segments.

    Returns:
      scores: float32 [B] in [0, 1]; NaN for tables of NaN.
    """
    import tensorflow as tf

    table = tf.cast(table, tf.float32)
    iou = overlap.iou_from_table_on_device(table)
    present = tf.reduce_sum(table, -1) > 0.0
    if foreground_only:
        iou = iou[:, 1:]
        present = present[:, 1:]

    count = tf.reduce_sum(tf.cast(present, tf.float32), -1)
    scores = best_matching_value_on_device(iou) / tf.maximum(count, 1.0)
    scores = tf.where(count > 0.0, scores, tf.constant(empty_value, tf.float32))
    pixels = tf.reduce_sum(table, [-2, -1])
    return tf.where(tf.math.is_nan(pixels), pixels, scores)
