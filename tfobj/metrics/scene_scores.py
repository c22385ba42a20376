"""The scores of one batch of scenes, one column per score; `scores.SceneScorer` gathers them.

Every function returns a dict of name -> float64 [B]. `SceneScorer` lists the meaning of the names.

Axes: B scenes, T frames, N true entities (0 = background), K slots.
"""

import numpy as np

from tfobj.errors import UserError
from tfobj.metrics import amodal, clustering, depth_order, matching, overlap, reconstruction, video


def reconstruction_columns(image, recon, prefixes):
    """Scores reconstructions: mse, psnr and, for videos, the error of prefixes.

    Args:
      image, recon: float32 [B, (T,) H, W, C] in [0, 1].
      prefixes: lengths in frames.
    """
    if image.ndim != 5:
        mse = reconstruction.mean_squared_error(image, recon)
        return {"mse": mse, "psnr": reconstruction.psnr(mse)}

    frame_mse = video.frame_mean_squared_error(image, recon)
    mse = frame_mse.mean(-1)
    columns = {"mse": mse, "psnr": reconstruction.psnr(mse)}
    return columns | _by_length("mse", video.prefix_means(frame_mse, prefixes))


def mask_columns(image, recon, masks, true, *, empty_value, ignore_label, prefixes):
    """Scores predicted masks against true ones.

    Args:
      image, recon: float32 [B, (T,) H, W, C] in [0, 1].
      masks: [B, (T,) K, H, W, 1], shares or logits of the slots.
      true: [B, (T,) H, W] integer ids; 0 = background.
      empty_value: FG-ARI of scenes, and of frames, without objects.
      ignore_label: id that marks pixels without label, or None.
      prefixes: lengths in frames.

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

    if true.ndim == 4:
        # Tables add up over frames, so counting once serves both levels.
        frame_tables = video.frame_tables(true, masks, ignore_label=ignore_label)
        table = frame_tables.sum(1)
    else:
        frame_tables = None
        ids = clustering.segment_ids(masks)
        table = clustering.contingency_table(
            true, ids, num_predicted=masks.shape[-4], ignore_label=ignore_label
        )

    columns = {}
    for name, foreground_only in (("fg_ari", True), ("ari", False)):
        columns[name] = clustering.adjusted_rand_index_from_table(
            table, foreground_only=foreground_only, empty_value=empty_value
        )
    if frame_tables is not None:
        columns |= _frame_columns(frame_tables, empty_value, prefixes)

    columns["msc"] = overlap.segmentation_covering_from_table(table)
    columns["msc_all"] = overlap.segmentation_covering_from_table(table, foreground_only=False)
    columns["sc"] = overlap.segmentation_covering_from_table(table, size_weighted=True)
    columns["miou"] = clustering.mean_over_defined(matching.matched_iou_from_table(table))
    columns["mse_foreground"] = reconstruction.foreground_mean_squared_error(
        image, recon, true, ignore_label=ignore_label
    )
    columns["num_objects"] = (table[:, 1:].sum(-1) > 0).sum(-1).astype(np.float64)
    return columns


def _frame_columns(tables, empty_value, prefixes):
    """Scores single frames and prefixes of videos, from the tables [B, T, L, K] of their frames."""
    columns = {}
    for name, foreground_only in (("fg_ari", True), ("ari", False)):
        by_frame = clustering.adjusted_rand_index_from_table(
            tables, foreground_only=foreground_only, empty_value=empty_value
        )
        columns[f"{name}_frame"] = clustering.mean_over_defined(by_frame)
        columns |= _by_length(f"{name}_frame", video.prefix_means(by_frame, prefixes))

    sequences = video.prefix_rand_index(
        tables, prefixes, foreground_only=True, empty_value=empty_value
    )
    return columns | _by_length("fg_ari", sequences)


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
      columns: name -> float64 [B].
      counts: name -> int64 [B], the numbers of objects and pairs that the columns are means over.

    Raises:
      UserError: if shapes do not fit each other, or `depths` is missing.
    """
    sets = amodal.amodal_sets(amodal_masks)
    if true.shape != (len(sets), *sets.shape[2:]):
        raise UserError(
            f"`true_mask` must have the resolution of `amodal_masks`, {sets.shape[2:]}. "
            f"Received: {true.shape}."
        )
    if depths is None:
        raise UserError("`depths` must be given with `amodal_masks`. Received: None.")
    num_objects = _num_objects(true, true_amodal_masks, sets.shape[2:], ignore_label)

    # Depth order and positions are scored under the modal matching; aIOU matches anew below.
    ids = amodal.modal_ids(sets, depths)
    iou, present = amodal.modal_iou(true, ids, num_objects, sets.shape[1], ignore_label)
    slots = amodal.match_present(iou, present)
    object_iou = amodal.iou_of_matching(iou, present, slots)
    columns = {"object_miou": clustering.mean_over_defined(object_iou)}
    counts = {}
    if true_amodal_masks is None:
        return columns, counts

    true_sets = true_amodal_masks[:, 1:]
    of_objects = {"aiou": amodal.matched_amodal_iou(true_sets, sets)}
    if positions is not None:
        of_objects["position_error"] = depth_order.position_errors(true_sets, slots, positions)
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
    return columns, counts


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
