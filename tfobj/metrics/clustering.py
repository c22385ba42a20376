"""Contingency tables and the adjusted Rand index (ARI) on the host.

Every segmentation score of the package is a function of one small table per image, n_ij = number of
pixels with true id i and predicted id j, so the pixels are read only once. Ids are names: the cost
depends on how many there are, not on how large they are. The functions need only NumPy and compute
in int64/float64. Their TensorFlow versions are in `clustering_graph`.

Axes: B images, T frames, L true ids (0 = background), K predicted ids.
"""

import numpy as np

from tfobj.errors import UserError, unknown_name
from tfobj.structs import IGNORE_LABEL

LEVELS = ("sequence", "frame")

NO_SLOT = -1
"""Id of pixels where a mask is NaN or infinite.

No score accepts it as a segment: `SceneScorer` counts such scenes as failed, and the functions of
label maps refuse them.
"""

WORST_ARI = -0.5
"""Least possible ARI (Chacon and Rastrojo 2023), the score of a failed scene."""

MAX_CELLS = 2**27
"""Numbers in a batch of tables, 1 GB."""


def segment_ids(masks):
    """Returns the slot with the largest share of every pixel; ties go to the lowest index.

    Only the order of the slots in a pixel counts: masks may be shares, logits, negative, or sum to
    anything.

    Args:
      masks: [B, (T,) K, H, W, 1] array, K >= 1.

    Returns:
      ids: [B, (T,) H, W] int64 in [0, K); `NO_SLOT` where a share of the pixel is not finite.
    """
    masks = np.asarray(masks)
    check_masks(masks.shape)
    ids = np.argmax(masks[..., 0], axis=-3)
    return np.where(np.isfinite(masks[..., 0]).all(axis=-3), ids, NO_SLOT)


def renumber(ids, *, ignore_label=None):
    """Renumbers the ids of every entry: 0 stays 0, the others become 1, 2, ... in ascending order.

        renumber(np.array([[0, 7, 1_000_000]]))     # [[0, 1, 2]], [array([0, 7, 1000000])]

    Args:
      ids: [B, ...] integers. Negative ids and `ignore_label` become -1.
      ignore_label: the id that marks pixels without label, or None.

    Returns:
      numbers: int64, the shape of `ids`.
      values: list of B arrays; `values[b][i]` is the id that became i in entry b, and
        `values[b][0]` is 0, whether or not it occurs.
    """
    ids = np.asarray(ids)
    check_ids("ids", ids)
    counted = _is_counted(ids, ignore_label)

    numbers = np.full(ids.shape, -1, np.int64)
    values = []
    for b in range(len(ids)):
        found = np.union1d(np.zeros(1, ids.dtype), ids[b][counted[b]])
        numbers[b][counted[b]] = np.searchsorted(found, ids[b][counted[b]])
        values.append(found)
    return numbers, values


def contingency_table(
    true,
    predicted,
    *,
    num_true=None,
    num_predicted=None,
    ignore_label=IGNORE_LABEL,
    level="sequence",
):
    """Counts the pixels of every pair of true and predicted id, in one `bincount` for the batch.

    Args:
      true: [B, ...] integer ids; 0 = background. Negative ids and `ignore_label` are not counted.
      predicted: integer ids >= 0, the shape of `true`. See `segment_ids` for soft masks.
      num_true: L, more than every id in `true`, so that row i is the true id i. None renumbers the
        ids of every entry (see `renumber`): row 0 is the id 0, the others follow in ascending
        order.
      num_predicted: K, likewise for the columns.
      ignore_label: the id that marks pixels without label, or None.
      level: "sequence" counts all pixels of an entry together (an image, or all frames of a video);
        "frame" makes one table per frame and needs `true` [B, T, H, W]. Ids are renumbered per
        video, so an object has the same row in all frames.

    Returns:
      table: int64, [B, L, K], or [B, T, L, K] at frame level.

    Raises:
      UserError: if the shapes differ, an id is out of range, or there are too many ids.
    """
    true = np.asarray(true)
    predicted = np.asarray(predicted)
    check_ids("true", true)
    check_ids("predicted", predicted)
    if true.shape != predicted.shape:
        raise UserError(
            f"`predicted` must have the shape of `true`, {true.shape}. Received: {predicted.shape}."
        )

    lead = true.shape[: _num_lead_axes(true, level)]
    valid = _is_counted(true, ignore_label)
    # What is predicted for pixels that are not counted does not matter.
    predicted = np.where(valid, predicted, 0)
    true, num_true = _numbered("true", true, num_true, ignore_label)
    predicted, num_predicted = _numbered("predicted", predicted, num_predicted, None)

    num_tables = int(np.prod(lead))
    num_cells = num_tables * num_true * num_predicted
    if num_cells > MAX_CELLS:
        raise UserError(
            f"`true` and `predicted` must have fewer ids: tables of {num_true:,} x "
            f"{num_predicted:,} ids for {num_tables:,} images take {8e-9 * num_cells:.3g} GB. Are "
            "these label maps?"
        )

    # The pixel count is spelled out because -1 is ambiguous for an empty batch.
    shape = (num_tables, int(np.prod(true.shape[len(lead) :])))
    valid = valid.reshape(shape)
    row = np.broadcast_to(np.arange(num_tables)[:, None], shape)[valid]
    cell = (row * num_true + true.reshape(shape)[valid]) * num_predicted
    counts = np.bincount(cell + predicted.reshape(shape)[valid], minlength=num_cells)
    return counts.reshape(*lead, num_true, num_predicted).astype(np.int64)


def adjusted_rand_index_from_table(table, *, foreground_only=False, empty_value=np.nan):
    """Computes the ARI of every contingency table.

        N = n(n-1)
        G_t = sum_i a_i(n-a_i) / N,   G_p = sum_j b_j(n-b_j) / N,   G_tp = sum_ij n_ij(n-n_ij) / N
        ARI = (G_t + G_p - G_tp - G_t G_p) / ((G_t + G_p)/2 - G_t G_p)

    with row sums a, column sums b and n = sum a. G is the share of pixel pairs that a partition
    separates. This is the usual formula written in separated instead of joined pairs. It does not
    cancel when one segment fills the image, so the same formula works in float32.

    The denominator vanishes only for identical partitions. They are recognised by counting: as many
    occupied cells as occupied rows and as occupied columns; their ARI is 1.

    Args:
      table: [..., L, K] integer counts.
      foreground_only: leaves out row 0, i.e. every pixel whose true id is 0 (FG-ARI).
      empty_value: the score of a table without pixels, e.g. of an image without objects. NaN
        (undefined: skip and count) is our protocol; 1.0 imitates scikit-learn, SAVi and PROVIDE,
        0.0 imitates EfficientMORL.

    Returns:
      scores: float64 [...], in [-0.5, 1]; 0 for random labels in expectation.

    Source: Hubert and Arabie 1985; foreground variant of Greff 2019, section 4.1.
    """
    table = np.asarray(table, np.int64)
    if foreground_only:
        table = table[..., 1:, :]
    rows = table.sum(-1)
    columns = table.sum(-2)
    n = rows.sum(-1)

    # G_t, G_p and G_tp: shares of pixel pairs that the partitions and their product separate.
    pairs = np.maximum(n * (n - 1), 1)
    true_gap = (rows * (n[..., None] - rows)).sum(-1) / pairs
    predicted_gap = (columns * (n[..., None] - columns)).sum(-1) / pairs
    joint_gap = (table * (n[..., None, None] - table)).sum((-2, -1)) / pairs
    product = true_gap * predicted_gap

    # Decided from exact counts and never from `denominator == 0`, which rounding can miss.
    occupied = (table > 0).sum((-2, -1))
    identical = (occupied == (rows > 0).sum(-1)) & (occupied == (columns > 0).sum(-1))
    denominator = np.where(identical, 1.0, 0.5 * (true_gap + predicted_gap) - product)
    scores = np.where(
        identical, 1.0, (true_gap + predicted_gap - joint_gap - product) / denominator
    )
    return np.where(n == 0, empty_value, scores)


def adjusted_rand_index(
    true,
    predicted,
    *,
    foreground_only=False,
    empty_value=np.nan,
    level="sequence",
    ignore_label=IGNORE_LABEL,
):
    """Computes the ARI of every image or video.

        adjusted_rand_index([[0, 0, 1, 1]], [[0, 0, 1, 2]])                         # [0.5714...]
        adjusted_rand_index([[0, 0, 1, 1]], [[3, 0, 1, 1]], foreground_only=True)   # [1.0]

    FG-ARI does not see the background: slots that spill far beyond their objects still score 1.
    Report ARI or covering beside it. Formula and edge cases: `adjusted_rand_index_from_table`.

    Args:
      true: [B, ...] integer ids; 0 = background, `ignore_label` = not scored.
      predicted: integer ids, the shape of `true`.
      foreground_only: scores the pixels of objects only.
      empty_value: the score where there is nothing to score.
      level: "sequence" treats all frames as one set of pixels, so identity switches cost; "frame"
        averages the scores of the frames, NaN left out (with `empty_value=1.0`, the protocol of
        PROVIDE).
      ignore_label: the id that marks pixels without label, or None.

    Returns:
      scores: float64 [B].
    """
    table = contingency_table(true, predicted, ignore_label=ignore_label, level=level)
    scores = adjusted_rand_index_from_table(
        table, foreground_only=foreground_only, empty_value=empty_value
    )
    if level == "frame":
        return mean_over_defined(scores)
    return scores


def mean_over_defined(scores, axis=-1):
    """Averages the entries that are not NaN over `axis`; NaN (no warning) where there are none."""
    scores = np.asarray(scores, np.float64)
    defined = ~np.isnan(scores)
    total = np.where(defined, scores, 0.0).sum(axis)
    count = defined.sum(axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _num_lead_axes(true, level):
    if level not in LEVELS:
        raise unknown_name("level", level, LEVELS)
    if level == "sequence":
        return 1
    if true.ndim != 4:
        raise UserError(
            f'`true` must be [B, T, H, W] for level="frame". Received: shape {true.shape}.'
        )
    return 2


def check_ids(name, ids):
    """Raises a `UserError` unless `ids` are integers or booleans [B, ...]."""
    if ids.ndim < 2 or ids.dtype.kind not in "iub":
        raise UserError(
            f"`{name}` must be integer ids [B, ...]. "
            f"Received: shape {ids.shape}, dtype {ids.dtype}."
        )


def _is_counted(true, ignore_label):
    """Returns which pixels have a label: bool, the shape of `true`."""
    counted = true >= 0
    if ignore_label is not None:
        counted &= true != ignore_label
    return counted


def _numbered(name, ids, declared, ignore_label):
    """Returns (ids as int64, -1 where they are not counted, number of rows that they need)."""
    counted = _is_counted(ids, ignore_label)
    if name == "predicted" and not counted.all():
        raise UserError(
            f"`{name}` must hold ids of at least 0. Received: {ids.min()} "
            f"(`segment_ids` gives {NO_SLOT} where masks are not finite)."
        )
    if declared is None:
        numbers, values = renumber(ids, ignore_label=ignore_label)
        return numbers, max(map(len, values), default=1)

    largest = int(ids.max(initial=0, where=counted))
    if declared <= largest:
        raise UserError(
            f"`num_{name}` must be more than every id in `{name}`, {largest}. Received: {declared}."
        )
    return np.where(counted, ids.astype(np.int64), -1), int(declared)


def check_masks(shape):
    """Raises a `UserError` unless `shape` is a shape of predicted masks."""
    if len(shape) not in (5, 6) or shape[-1] != 1 or shape[-4] == 0:
        raise UserError(
            f"`masks` must have shape [B, (T,) K, H, W, 1], K >= 1. Received: {tuple(shape)}."
        )
