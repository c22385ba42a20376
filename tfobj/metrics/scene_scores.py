"""The scores of one batch of scenes, one column per score; `scores.SceneScorer` gathers them.

Every function returns `Columns`. `SceneScorer` lists the meaning of the names.

What fails is decided here, per score: a scene or frame whose output that the score reads is not
finite gets `definitions.worst`, unless the truth alone leaves the score undefined (NaN), as FG-ARI
without objects is.

Axes: B scenes, T frames, N true entities (0 = background), K slots.
"""

from typing import NamedTuple

import numpy as np

from tfobj.errors import UserError
from tfobj.metrics import (
    amodal,
    clustering,
    definitions,
    depth_order,
    matching,
    overlap,
    reconstruction,
    video,
)


class Columns(NamedTuple):
    """Scores of a batch."""

    values: dict
    """name -> float64 [B]; NaN where the score is undefined."""
    failed: dict
    """name -> bool [B], where the value is the worst one because the model failed."""

    def __or__(self, other):
        return Columns(self.values | other.values, self.failed | other.failed)


def finite_scenes(values):
    """Returns which scenes of an output [B, ...] are finite in every number: bool [B]."""
    values = np.asarray(values)
    return np.isfinite(values).all(axis=tuple(range(1, values.ndim)))


def with_worst(values, failed):
    """Returns `Columns` of scores, with the worst values in scenes that failed.

    Args:
      values: name -> float64 [B]; NaN where the truth leaves the score undefined.
      failed: bool [B].
    """
    counted = {name: failed & ~np.isnan(column) for name, column in values.items()}
    values = {
        name: np.where(counted[name], definitions.worst(name), column)
        for name, column in values.items()
    }
    return Columns(values, counted)


def reconstruction_columns(image, recon, true, *, ignore_label, prefixes):
    """Scores reconstructions: mse, psnr, mse_foreground and, for videos, the error of prefixes.

    Args:
      image: float32 [B, (T,) H, W, C] in [0, 1].
      recon: the same shape; infinite errors where it is not finite.
      true: [B, (T,) H, W] integer ids, 0 = background, or None.
      ignore_label: id that marks pixels without label, or None.
      prefixes: lengths in frames.
    """
    columns = error_columns(image, recon, prefixes)
    values = {"psnr": reconstruction.psnr(columns.values["mse"])}
    if true is not None:
        values["mse_foreground"] = reconstruction.foreground_mean_squared_error(
            image, recon, true, ignore_label=ignore_label
        )
    return columns | _infinite_is_failed(values)


def error_columns(image, recon, prefixes):
    """Scores reconstructions by mse and, for videos, by the mse of prefixes.

    The arguments are those of `reconstruction_columns`.
    """
    if image.ndim == 4:
        return _infinite_is_failed({"mse": reconstruction.mean_squared_error(image, recon)})
    frame_mse = video.frame_mean_squared_error(image, recon)
    by_length = _by_length("mse", video.prefix_means(frame_mse, prefixes))
    return _infinite_is_failed({"mse": frame_mse.mean(-1), **by_length})


def _infinite_is_failed(values):
    """Returns the `Columns` of errors, which are infinite where the model failed."""
    return Columns(values, {name: np.isinf(column) for name, column in values.items()})


def mask_columns(masks, true, *, empty_value, ignore_label, prefixes):
    """Scores predicted masks against true ones; see `segment_columns`.

    Args:
      masks: [B, (T,) K, H, W, 1], shares or logits of the slots.

    Raises:
      UserError: if `true` and `masks` differ in resolution.
    """
    clustering.check_masks(masks.shape)
    resolution = (*masks.shape[:-4], *masks.shape[-3:-1])
    if true.shape != resolution:
        raise UserError(
            f"`true_mask` must have the resolution of `masks`, {resolution}: resize it with "
            f"nearest neighbour. Received: {true.shape}."
        )

    # One scene at a time: for 32 clips of 40 frames at 64x64, this takes a quarter less time and a
    # 32nd of the memory compared with all at once.
    ids = np.zeros(true.shape, np.int64)
    for b in range(len(masks)):
        ids[b] = clustering.segment_ids(masks[b][None])[0]
    return segment_columns(
        ids,
        true,
        num_segments=masks.shape[-4],
        empty_value=empty_value,
        ignore_label=ignore_label,
        prefixes=prefixes,
    )


def segment_columns(ids, true, *, num_segments=None, empty_value, ignore_label, prefixes):
    """Scores predicted label maps against true ones.

    Args:
      ids: [B, (T,) H, W] integer ids >= 0; `clustering.NO_SLOT` where the model failed.
      true: the same shape, integer ids; 0 = background.
      num_segments: K, more than every id; None takes the ids that occur.
      empty_value: FG-ARI of scenes, and of frames, without objects.
      ignore_label: id that marks pixels without label, or None.
      prefixes: lengths in frames.
    """
    lost = ids == clustering.NO_SLOT
    ids = np.where(lost, 0, ids)
    level = "sequence" if true.ndim == 3 else "frame"
    tables = _tables(true, ids, num_segments, ignore_label, level)
    if level == "sequence":
        return _table_columns(tables, lost.any((1, 2)), empty_value)

    # Tables add up over frames, so counting once serves both levels.
    failed = lost.any((2, 3))
    columns = _table_columns(tables.sum(1), failed.any(1), empty_value)
    return columns | frame_columns(tables, failed, empty_value, prefixes)


def _tables(true, ids, num_segments, ignore_label, level):
    """Counts tables int64 [B, (T,) L, K], one scene at a time, which saves memory for clips."""
    clustering.check_ids("true_mask", true)
    clustering.check_ids("segments", ids)
    true, values = clustering.renumber(true, ignore_label=ignore_label)
    num_true = max(map(len, values), default=1)
    if num_segments is None:
        # What is predicted for pixels without label does not matter.
        ids, values = clustering.renumber(np.where(true >= 0, ids, 0))
        num_segments = max(map(len, values), default=1)

    lead = true.shape[:1] if level == "sequence" else true.shape[:2]
    tables = np.zeros((*lead, num_true, num_segments), np.int64)
    for b in range(len(true)):
        tables[b] = clustering.contingency_table(
            true[b][None],
            ids[b][None],
            num_true=num_true,
            num_predicted=num_segments,
            ignore_label=None,
            level=level,
        )[0]
    return tables


def _table_columns(table, failed, empty_value):
    """Scores whole scenes from their tables [B, L, K]; `failed` says which ones failed."""
    values = {}
    for name, foreground_only in (("fg_ari", True), ("ari", False)):
        values[name] = clustering.adjusted_rand_index_from_table(
            table, foreground_only=foreground_only, empty_value=empty_value
        )
    values["msc"] = overlap.segmentation_covering_from_table(table)
    values["msc_all"] = overlap.segmentation_covering_from_table(table, foreground_only=False)
    values["sc"] = overlap.segmentation_covering_from_table(table, size_weighted=True)
    values["miou"] = clustering.mean_over_defined(matching.matched_iou_from_table(table))

    # The truth alone decides how many objects there are.
    num_objects = (table[:, 1:].sum(-1) > 0).sum(-1).astype(np.float64)
    return with_worst(values, failed) | Columns({"num_objects": num_objects}, {})


def frame_columns(tables, failed, empty_value, prefixes):
    """Scores single frames and prefixes of videos.

    Args:
      tables: [B, T, L, K].
      failed: bool [B, T].
      empty_value: FG-ARI of what has no objects.
      prefixes: lengths in frames.
    """
    lengths = [length for length in prefixes if length <= tables.shape[1]]
    columns = Columns({}, {})
    for name, foreground_only in (("fg_ari", True), ("ari", False)):
        by_frame = video.failed_frames_scored(tables, failed, foreground_only, empty_value)
        values = {f"{name}_frame": clustering.mean_over_defined(by_frame)}
        values |= _by_length(f"{name}_frame", video.prefix_means(by_frame, prefixes))

        # The mean over frames has the failed frames in it, with the worst value.
        counted = failed & ~np.isnan(by_frame)
        affected = {f"{name}_frame": counted.any(1)}
        affected |= {f"{name}_frame_{length}": counted[:, :length].any(1) for length in lengths}
        columns |= Columns(values, affected)

    sequences = video.prefix_rand_index(
        tables, prefixes, foreground_only=True, empty_value=empty_value
    )
    for length, values in sequences.items():
        columns |= with_worst({f"fg_ari_{length}": values}, failed[:, :length].any(1))
    return columns


def amodal_columns(
    amodal_masks, depths, positions, true, true_amodal_masks, true_depth, *, ignore_label
):
    """Scores full extents, depth order and positions of object slots.

    Args:
      amodal_masks: [B, K, H, W, 1] in [0, 1], full extents of the object slots.
      depths: [B, K], smaller is nearer.
      positions: [B, K, 2], row and column in pixels, or None.
      true: [B, H, W] integer ids; 0 = background.
      true_amodal_masks: {0, 1} [B, N, H, W], entity 0 the background, or None.
      true_depth: [B, N], or None.
      ignore_label: id that marks pixels without label, or None.

    Returns:
      columns: `Columns`.
      counts: name -> int64 [B], the numbers of objects and pairs that the columns are means over.

    Raises:
      UserError: if shapes do not fit each other, or `depths` is missing.
    """
    failed = ~finite_scenes(amodal_masks)
    if np.shape(depths)[:1] == failed.shape:
        failed |= ~finite_scenes(depths)
    sets = amodal.amodal_sets(_without(amodal_masks, failed))
    if true.shape != (len(sets), *sets.shape[2:]):
        raise UserError(
            f"`true_mask` must have the resolution of `amodal_masks`, {sets.shape[2:]}. "
            f"Received: {true.shape}."
        )
    if depths is None:
        raise UserError("`depths` must be given with `amodal_masks`. Received: None.")
    depths = _without(depths, failed)
    if true_amodal_masks is None:
        # Without extents, whose order ids follow, ids are only names.
        true, _ = clustering.renumber(true, ignore_label=ignore_label)
    num_objects = _num_objects(true, true_amodal_masks, sets.shape[2:], ignore_label)

    # Depth order and positions are scored under the modal matching; aIOU matches anew below.
    ids = amodal.modal_ids(sets, depths)
    iou, present = amodal.modal_iou(true, ids, num_objects, sets.shape[1], ignore_label)
    slots = amodal.match_present(iou, present)
    object_iou = amodal.iou_of_matching(iou, present, slots)
    columns = {"object_miou": clustering.mean_over_defined(object_iou)}
    counts = {}
    if true_amodal_masks is None:
        return with_worst(columns, failed), counts

    true_sets = true_amodal_masks[:, 1:]
    of_objects = {"aiou": amodal.matched_amodal_iou(true_sets, sets)}
    if positions is not None:
        errors = depth_order.position_errors(true_sets, slots, positions)
        # Objects without a slot have no error. If the model failed, every object in the frame does.
        in_frame = ~np.isnan(of_objects["aiou"])
        of_objects["position_error"] = np.where(failed[:, None] & in_frame, np.inf, errors)
    for name, values in of_objects.items():
        columns[name] = clustering.mean_over_defined(values)
        counts[f"{name}_objects"] = (~np.isnan(values)).sum(-1)

    object_depth = None if true_depth is None else true_depth[:, 1:]
    pairs = depth_order.depth_pairs(true, true_sets, object_depth, slots, depths)
    for threshold in depth_order.MIN_OVERLAPS:
        name = f"dpa_{threshold}"
        counted = depth_order.counted(pairs, threshold)
        columns[name] = depth_order.depth_pair_accuracy(pairs, threshold)
        counts[f"{name}_pairs"] = counted.sum(-1)
        counts[f"{name}_hidden_pairs"] = (counted & pairs.hidden).sum(-1)

    columns = with_worst(columns, failed)
    if positions is not None:
        # Also of scenes in which the position alone of a matched slot is not finite.
        columns.failed["position_error"] = np.isinf(columns.values["position_error"])
    return columns, counts


def _without(values, failed):
    """Returns optional predictions [B, ...] with zeros in the scenes that failed."""
    if values is None or not failed.any():
        return values
    kept = np.reshape(~failed, (-1, *[1] * (np.ndim(values) - 1)))
    return np.where(kept, values, 0.0)


def _num_objects(true, true_amodal_masks, size, ignore_label):
    """Returns N - 1, from the true extents if they are known, else from the ids in `true`."""
    labelled = true if ignore_label is None else np.where(true == ignore_label, 0, true)
    largest = int(labelled.max(initial=0))
    if true_amodal_masks is None:
        return largest

    shape = true_amodal_masks.shape
    if len(shape) != 4 or shape[2:] != size or shape[1] <= largest:
        raise UserError(
            f"`true_amodal_masks` must have shape [B, N, {size[0]}, {size[1]}] with N more than "
            f"every id in `true_mask`, {largest}. Received: {shape}."
        )
    return shape[1] - 1


def _by_length(name, of_length):
    """Returns {`<name>_<length>`: column} for {length: column}."""
    return {f"{name}_{length}": column for length, column in of_length.items()}
