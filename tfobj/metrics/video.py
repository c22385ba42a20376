"""Scores of videos: frame by frame, over the first frames of a clip, and of frames that a model predicted. NumPy alone.

    prefix_means(frame_rand_index(true, masks, foreground_only=True))         # {10: [B], 20: [B], ...}
    prefix_rand_index(frame_tables(true, masks), foreground_only=True)        # the same clips; slot identity counts

Two levels. *Frame*: every frame is scored alone and the scores are averaged; slots may change places from frame to frame.
*Sequence*: the pixels of all frames are one set, so that a slot which changes its object costs. Zablotskaia et al. 2020 report the
frame level (and so score models that see single frames); later work reports the sequence level.

FG-ARI of a frame is undefined where no object has a pixel. Ours is to leave such frames out of means (`empty_value=nan`, as
everywhere in this package); `ZABLOTSKAIA_EMPTY_VALUE` is the paper's. Frames with one object are no special case: 1 if one slot
has all of it, else 0, in both.

Axes: B clips, T frames, L true ids (0 = background), K slots.
"""

import numpy as np

from tfobj.errors import UserError
from tfobj.metrics import clustering, reconstruction
from tfobj.structs import IGNORE_LABEL

PREFIXES = (10, 20, 30, 40)
"""Numbers of first frames that are scored (Zablotskaia 2020, table 1)."""

HORIZONS = (1, 3, 5, 7, 10)
"""Predicted frames that are scored, 1 = the first one after the last observed frame (Zablotskaia 2020, figure 5, has those from 3 on)."""

ZABLOTSKAIA_EMPTY_VALUE = 1.0
"""FG-ARI of a frame without objects in the released evaluation of Zablotskaia 2020, where NaN counts as 1."""


def frame_tables(true, masks, *, ignore_label=IGNORE_LABEL):
    """Contingency table of every frame; sums over frames are the tables of longer stretches.

    Args:
      true: [B, T, H, W] integer ids, the same for the same object in all frames; 0 = background, `ignore_label` = not scored.
      masks: [B, T, K, H, W, 1], shares or logits of the slots; a pixel belongs to the largest one, of equal ones to the first.
      ignore_label: the id that marks pixels without label, or None.

    Returns:
      tables: int64 [B, T, L, K]; L is one more than the largest true id of the batch.
    """
    true, masks = np.asarray(true), np.asarray(masks)
    if (
        masks.ndim != 6
        or masks.shape[-1] != 1
        or true.shape != (*masks.shape[:2], *masks.shape[3:5])
    ):
        raise UserError(
            f"`true` and `masks` must have shapes [B, T, H, W] and [B, T, K, H, W, 1]. Received: {true.shape} and {masks.shape}."
        )
    num_true = (
        int(true.max(initial=0, where=True if ignore_label is None else true != ignore_label)) + 1
    )
    counts = {
        "num_true": num_true,
        "num_predicted": masks.shape[2],
        "ignore_label": ignore_label,
        "level": "frame",
    }
    # One clip at a time: for 32 clips of 40 frames of 64x64 a quarter less time, and a 32nd of the memory, than all at once.
    tables = [
        clustering.contingency_table(t[None], clustering.segment_ids(m[None]), **counts)[0]
        for t, m in zip(true, masks, strict=True)
    ]
    return np.array(tables, np.int64).reshape(*true.shape[:2], num_true, masks.shape[2])


def frame_rand_index(
    true, masks, *, foreground_only=False, empty_value=np.nan, ignore_label=IGNORE_LABEL
):
    """ARI (FG-ARI with `foreground_only`) of every frame: float64 [B, T]; arguments as of `frame_tables`."""
    tables = frame_tables(true, masks, ignore_label=ignore_label)
    return clustering.adjusted_rand_index_from_table(
        tables, foreground_only=foreground_only, empty_value=empty_value
    )


def frame_mean_squared_error(image, recon):
    """Mean squared error of every frame, over pixels and channels.

    Args:
      image: [B, T, H, W, C] floats in [0, 1].
      recon: the same shape, not clipped.

    Returns:
      mse: float64 [B, T].
    """
    image, recon = np.asarray(image), np.asarray(recon)
    if image.ndim != 5 or image.shape != recon.shape:
        raise UserError(
            f"`image` and `recon` must have one shape [B, T, H, W, C]. Received: {image.shape} and {recon.shape}."
        )
    errors = [
        reconstruction.mean_squared_error(frames, recons)
        for frames, recons in zip(image, recon, strict=True)
    ]
    return np.array(errors, np.float64).reshape(image.shape[:2])


def prefix_means(scores, lengths=PREFIXES):
    """Mean over the first frames of every clip, undefined frames left out.

    Args:
      scores: [B, T], one score per frame; NaN = undefined.
      lengths: numbers of first frames; those beyond T are left out.

    Returns:
      means: dict of length -> float64 [B]; NaN where none of these frames is defined.
    """
    scores = np.asarray(scores, np.float64)
    return {
        length: clustering.mean_over_defined(scores[:, :length])
        for length in _lengths(lengths, scores.shape[1])
    }


def prefix_rand_index(tables, lengths=PREFIXES, *, foreground_only=False, empty_value=np.nan):
    """ARI of the first frames of every clip at sequence level: their pixels are one set, so identity switches cost.

    Args:
      tables: [B, T, L, K] counts of every frame.
      lengths: numbers of first frames; those beyond T are left out.
      foreground_only, empty_value: see `clustering.adjusted_rand_index_from_table`.

    Returns:
      scores: dict of length -> float64 [B].
    """
    lengths, so_far = _lengths(lengths, np.shape(tables)[1]), np.cumsum(tables, axis=1)
    return {
        length: clustering.adjusted_rand_index_from_table(
            so_far[:, length - 1], foreground_only=foreground_only, empty_value=empty_value
        )
        for length in lengths
    }


def prediction_scores(
    image,
    recon,
    masks=None,
    true=None,
    *,
    num_observed=0,
    horizons=HORIZONS,
    cumulative=False,
    empty_value=np.nan,
    ignore_label=IGNORE_LABEL,
):
    """Scores of predicted frames by how far ahead they lie; the dict fits `SceneScorer.update(extra=...)`.

        prediction_scores(image, recon, masks, true, num_observed=20)["mse_ahead_10"]     # error of frame 30, counted from 1

    Args:
      image: [B, T, H, W, C] floats in [0, 1], what was really seen.
      recon: the same shape; frames from `num_observed` on are predictions.
      masks: optional [B, T, K, H, W, 1].
      true: [B, T, H, W] integer ids, with `masks`; 0 = background.
      num_observed: frames at the start that the model saw, which are not scored; 0 for arrays of predicted frames alone.
      horizons: numbers of frames ahead, at least 1; those beyond T are left out.
      cumulative: mean over all predicted frames up to the horizon, not the frame at the horizon alone. (The figure in
        Zablotskaia 2020 does not say which; its released code averages over observed and predicted frames together.)
      empty_value, ignore_label: as of `frame_rand_index`.

    Returns:
      columns: dict of name -> float64 [B]: `mse_ahead_<h>`, and with masks `fg_ari_ahead_<h>` (every frame scored alone).
    """
    error = frame_mean_squared_error(image, recon)
    num_frames = error.shape[1]
    if not 0 <= num_observed < max(num_frames, 1):
        raise UserError(
            f"`num_observed` must be at least 0 and less than the {num_frames} frames given. Received: {num_observed}."
        )
    if (masks is None) != (true is None):
        raise UserError("`masks` and `true` must be given together. Received: one of them.")
    scores = {"mse": error}
    if masks is not None:
        if np.shape(masks)[:2] != error.shape:
            raise UserError(
                f"`masks` must have the clips and frames of `image`, {error.shape}. Received: {np.shape(masks)[:2]}."
            )
        scores["fg_ari"] = frame_rand_index(
            true, masks, foreground_only=True, empty_value=empty_value, ignore_label=ignore_label
        )
    columns = {}
    for name, values in scores.items():
        values = values[:, num_observed:]
        at = (
            prefix_means(values, horizons)
            if cumulative
            else {h: values[:, h - 1] for h in _lengths(horizons, values.shape[1])}
        )
        columns |= {f"{name}_ahead_{h}": column for h, column in at.items()}
    return columns


def _lengths(lengths, num_frames):
    """Returns those of `lengths` that there are frames for."""
    if any(length < 1 for length in lengths):
        raise UserError(f"Numbers of frames must be at least 1. Received: {tuple(lengths)}.")
    return [length for length in lengths if length <= num_frames]
