"""Scores of video clips: per frame, per prefix, and of predicted frames. Needs only NumPy.

    prefix_means(frame_rand_index(true, masks, foreground_only=True))     # {10: [B], 20: [B], ...}
    prefix_rand_index(frame_tables(true, masks), foreground_only=True)    # identity counts

There are two levels. *Frame*: every frame is scored by itself, and the scores are averaged; this
ignores identity across frames. *Sequence*: the pixels of all frames form one set, so a slot that
switches objects lowers the score. Zablotskaia et al. 2020 report the frame level, which can also
score models of single frames; later work reports the sequence level.

A frame whose reconstruction or masks are not finite has failed: it gets the worst value (an
infinite error, `clustering.WORST_ARI`) and stays in every mean that reads it.

The FG-ARI of a frame is undefined where no object has a pixel. Our protocol leaves such frames out
of means (`empty_value=nan`, as everywhere in this package); `ZABLOTSKAIA_EMPTY_VALUE` is that of
the paper. Frames with a single object score 1 if one slot holds all of it, else 0, in both.

Axes: B clips, T frames, L true ids (0 = background), K slots.
"""

import numpy as np

from tfobj.errors import UserError
from tfobj.metrics import clustering, reconstruction
from tfobj.structs import IGNORE_LABEL

PREFIXES = (10, 20, 30, 40)
"""Lengths of the scored prefixes in frames (Zablotskaia 2020, table 1)."""

HORIZONS = (1, 3, 5, 7, 10)
"""Scored predicted frames; 1 is the first after the last observed frame.

Zablotskaia 2020, figure 5, shows those from 3 on.
"""

ZABLOTSKAIA_EMPTY_VALUE = 1.0
"""FG-ARI of a frame without objects in the released evaluation of Zablotskaia 2020."""


def frame_tables(true, masks, *, ignore_label=IGNORE_LABEL):
    """Counts the contingency table of every frame; sums over frames are tables of longer stretches.

    Args:
      true: [B, T, H, W] integer ids, constant over frames for every object; 0 = background,
        `ignore_label` = not scored.
      masks: [B, T, K, H, W, 1], finite shares or logits of the slots; the largest one owns the
        pixel, and ties go to the lowest index.
      ignore_label: the id that marks pixels without label, or None.

    Returns:
      tables: int64 [B, T, L, K]; row 0 is the background, the others are the ids of each clip in
        ascending order.
    """
    true = np.asarray(true)
    masks = np.asarray(masks)
    is_video = masks.ndim == 6 and masks.shape[-1] == 1
    if not is_video or true.shape != (*masks.shape[:2], *masks.shape[3:5]):
        raise UserError(
            "`true` and `masks` must have shapes [B, T, H, W] and [B, T, K, H, W, 1]. "
            f"Received: {true.shape} and {masks.shape}."
        )

    true, values = clustering.renumber(true, ignore_label=ignore_label)
    num_true = max(map(len, values), default=1)
    num_slots = masks.shape[2]

    # One clip at a time: for 32 clips of 40 frames at 64x64, this takes a quarter less time and a
    # 32nd of the memory compared with all at once.
    tables = []
    for clip_true, clip_masks in zip(true, masks, strict=True):
        table = clustering.contingency_table(
            clip_true[None],
            clustering.segment_ids(clip_masks[None]),
            num_true=num_true,
            num_predicted=num_slots,
            ignore_label=None,
            level="frame",
        )
        tables.append(table[0])

    # The shape is spelled out for batches without clips.
    return np.array(tables, np.int64).reshape(*true.shape[:2], num_true, num_slots)


def frame_rand_index(
    true, masks, *, foreground_only=False, empty_value=np.nan, ignore_label=IGNORE_LABEL
):
    """Computes the ARI of every frame (FG-ARI with `foreground_only`).

    Args:
      true, masks, ignore_label: as for `frame_tables`.
      foreground_only, empty_value: as for `clustering.adjusted_rand_index_from_table`.

    Returns:
      scores: float64 [B, T]; `clustering.WORST_ARI` for frames whose masks are not finite.
    """
    masks, failed = without_failures(masks)
    tables = frame_tables(true, masks, ignore_label=ignore_label)
    return failed_frames_scored(tables, failed, foreground_only, empty_value)


def without_failures(masks):
    """Returns (masks with zeros in frames that are not finite, which frames those are [B, T]).

    Args:
      masks: [B, T, ...].
    """
    masks = np.asarray(masks)
    if masks.ndim < 3:
        return masks, np.zeros(masks.shape[:2], bool)
    failed = ~np.isfinite(masks).all(axis=tuple(range(2, masks.ndim)))
    if not failed.any():
        return masks, failed
    kept = ~failed.reshape(*failed.shape, *[1] * (masks.ndim - 2))
    return np.where(kept, masks, np.zeros((), masks.dtype)), failed


def failed_frames_scored(tables, failed, foreground_only, empty_value):
    """Returns the ARI [B, T] of frames from their tables; failed frames get the worst one.

    Frames that the truth leaves without anything to score stay undefined (NaN).
    """
    index = clustering.adjusted_rand_index_from_table
    scores = index(tables, foreground_only=foreground_only, empty_value=empty_value)
    return np.where(failed & ~np.isnan(scores), clustering.WORST_ARI, scores)


def frame_mean_squared_error(image, recon):
    """Computes the mean squared error of every frame over pixels and channels.

    Args:
      image: [B, T, H, W, C] floats in [0, 1].
      recon: the same shape, not clipped.

    Returns:
      mse: float64 [B, T]; infinite where `recon` is not finite.
    """
    image = np.asarray(image)
    recon = np.asarray(recon)
    if image.ndim != 5 or image.shape != recon.shape:
        raise UserError(
            "`image` and `recon` must have one shape [B, T, H, W, C]. "
            f"Received: {image.shape} and {recon.shape}."
        )
    errors = [
        reconstruction.mean_squared_error(frames, recons)
        for frames, recons in zip(image, recon, strict=True)
    ]
    return np.array(errors, np.float64).reshape(image.shape[:2])


def prefix_means(scores, lengths=PREFIXES):
    """Averages scores over prefixes of every clip, undefined frames left out.

    Args:
      scores: [B, T], one score per frame; NaN = undefined.
      lengths: prefix lengths in frames; those beyond T are left out.

    Returns:
      means: dict of length -> float64 [B]; NaN where no frame of the prefix is defined.
    """
    scores = np.asarray(scores, np.float64)
    return {
        length: clustering.mean_over_defined(scores[:, :length])
        for length in _lengths(lengths, scores.shape[1])
    }


def prefix_rand_index(tables, lengths=PREFIXES, *, foreground_only=False, empty_value=np.nan):
    """Computes the sequence-level ARI of prefixes of every clip; identity switches lower it.

    Args:
      tables: [B, T, L, K] counts of every frame.
      lengths: prefix lengths in frames; those beyond T are left out.
      foreground_only, empty_value: see `clustering.adjusted_rand_index_from_table`.

    Returns:
      scores: dict of length -> float64 [B].
    """
    lengths = _lengths(lengths, np.shape(tables)[1])
    so_far = np.cumsum(tables, axis=1)
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
    """Scores predicted frames by their horizon; the result fits `SceneScorer.update(scores=...)`.

        scores = prediction_scores(image, recon, masks, true, num_observed=20)
        scores["mse_ahead_10"]    # error of frame 30, counted from 1

    Args:
      image: [B, T, H, W, C] floats in [0, 1], the frames that really followed.
      recon: the same shape; frames from `num_observed` on are predictions.
      masks: optional [B, T, K, H, W, 1].
      true: [B, T, H, W] integer ids, given with `masks`; 0 = background.
      num_observed: number of frames at the start that the model saw, which are not scored; 0 for
        arrays of predicted frames only.
      horizons: numbers of frames ahead, at least 1; those beyond T are left out.
      cumulative: averages over all predicted frames up to the horizon instead of taking the frame
        at the horizon. (The figure in Zablotskaia 2020 does not say which; its released code
        averages over observed and predicted frames together.)
      empty_value, ignore_label: as for `frame_rand_index`.

    Returns:
      columns: dict of name -> float64 [B]: `mse_ahead_<h>`, and with masks `fg_ari_ahead_<h>`
        (every frame scored by itself).
    """
    error = frame_mean_squared_error(image, recon)
    num_frames = error.shape[1]
    if not 0 <= num_observed < max(num_frames, 1):
        raise UserError(
            f"`num_observed` must be at least 0 and less than the {num_frames} frames given. "
            f"Received: {num_observed}."
        )
    if (masks is None) != (true is None):
        raise UserError("`masks` and `true` must be given together. Received: one of them.")

    scores = {"mse": error}
    if masks is not None:
        if np.shape(masks)[:2] != error.shape:
            raise UserError(
                f"`masks` must have the clips and frames of `image`, {error.shape}. "
                f"Received: {np.shape(masks)[:2]}."
            )
        scores["fg_ari"] = frame_rand_index(
            true, masks, foreground_only=True, empty_value=empty_value, ignore_label=ignore_label
        )

    columns = {}
    for name, values in scores.items():
        values = values[:, num_observed:]
        if cumulative:
            at_horizon = prefix_means(values, horizons)
        else:
            at_horizon = {h: values[:, h - 1] for h in _lengths(horizons, values.shape[1])}
        columns |= {f"{name}_ahead_{h}": column for h, column in at_horizon.items()}
    return columns


def _lengths(lengths, num_frames):
    """Returns the `lengths` that do not exceed the number of frames."""
    if any(length < 1 for length in lengths):
        raise UserError(f"Numbers of frames must be at least 1. Received: {tuple(lengths)}.")
    return [length for length in lengths if length <= num_frames]
