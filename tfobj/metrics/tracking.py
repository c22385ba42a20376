"""Multiple-object tracking scores: does one slot hold an object from its first frame to its last?

    ids = clustering.segment_ids(masks)
    columns = tracking_scores(true, ids)     # one row per clip
    tracking_micro(columns)["mota_micro"]    # over all clips together, as benchmarks report it

A slot is a hypothesis in the frames where it owns more than five pixels (argmax over slots), unless
it is the background. A true object is present in the frames where more than five of its pixels are
visible. A hypothesis may be paired with an object if their IoU is at least 0.5. Every frame first
keeps the pairs of the previous frame that are still allowed, then pairs the rest so that the sum of
1 - IoU is smallest. The events are found by py-motmetrics.

Which slot is the background? The true background is not an object, so the slots that hold it would
be false positives:
  "largest": the slot with the most pixels over the clip, in all of its frames. This needs no
  labels.
    If a background is split over several slots, the smaller parts stay hypotheses and lower the
    score.
  "overlap": in every frame, all slots whose IoU with the true background exceeds 0.2. This needs
    labels and forgives a split background, but it is the protocol of the Video Objects Room
    benchmark (Weis et al. 2021), which scores frames 2 to 9:
    `tracking_scores(true[:, 2:10], predicted[:, 2:10], background="overlap")`, then
    `tracking_micro`.
  a slot index: for models with a dedicated background slot.
  None: every slot is a hypothesis.

A clip with `clustering.NO_SLOT` among its ids has failed: its masks were not finite. It gets the
worst of every score, as if every slot had been a hypothesis in every frame and none the right one.

Axes: B clips, T frames, L true ids (0 = background), K slots. py-motmetrics comes with the extra
`tfobj[video]`.
"""

import numbers

import numpy as np

from tfobj.errors import UserError, unknown_name
from tfobj.metrics import clustering, overlap
from tfobj.structs import IGNORE_LABEL

BACKGROUNDS = ("largest", "overlap")

MIN_PIXELS = 5
"""Objects and slots with at most this many pixels count as absent (Weis 2021)."""

BACKGROUND_IOU = 0.2
"""Slots above this IoU with the true background are background under "overlap" (Weis 2021)."""

_EVENTS = (
    "num_switches",
    "num_false_positives",
    "num_misses",
    "num_detections",
    "num_objects",
    "num_predictions",
    "num_unique_objects",
    "mostly_tracked",
    "mostly_lost",
    "idtp",
    "motp",
)


def tracking_scores(
    true,
    predicted,
    *,
    num_slots=None,
    background="largest",
    iou_threshold=0.5,
    min_pixels=MIN_PIXELS,
    ignore_label=IGNORE_LABEL,
):
    """Scores every clip as a tracking of its objects by slots.

    The result fits `SceneScorer.update(scores=...)`.

        MOTA = 1 - (misses + false positives + switches) / appearances      in (-inf, 1]
        MOTP = mean IoU of the pairs                                        in [iou_threshold, 1]
        IDF1 = 2 identified / (appearances + hypotheses)                    in [0, 1]

    An appearance is one object in one frame. An identity switch pairs an object with a slot other
    than its last one, however long ago that was. `identified` counts the pairs under the best
    one-to-one assignment of objects to slots over the whole clip.

    Args:
      true: [B, T, H, W] integer ids, constant over frames for every object; 0 = background,
        `ignore_label` = not scored.
      predicted: [B, T, H, W] integer slot ids, see `clustering.segment_ids`.
      num_slots: K, more than every id in `predicted`; None takes the ids that occur.
      background: "largest", "overlap", the index of a slot (-1 is the last of `num_slots`, or the
        largest id that occurs), or None; see the module docstring.
      iou_threshold: minimum IoU of a pair, in (0, 1].
      min_pixels: objects and slots with at most this many pixels in a frame count as absent.
      ignore_label: the id that marks pixels without label, or None; such pixels are not counted.

    Returns:
      columns: dict of name -> float64 [B]:
        mota, motp, idf1: as above; NaN for clips without appearances, pairs, or either.
        id_switches, false_positives, misses: numbers of events.
        mostly_tracked, mostly_lost: shares of the objects that are paired in at least 80 % and in
          less than 20 % of their frames; switches count as paired. (Weis 2021 counts them as not
          paired in `mostly tracked`.)
        num_tracks, num_appearances, num_hypotheses, num_pairs, num_identified: the denominators and
          counts behind these scores.

    Raises:
      UserError: if py-motmetrics is missing, or an argument does not fit.

    Source: Bernardin and Stiefelhagen 2008 (MOTA, MOTP), Ristani 2016 (IDF1), Li 2009 (mostly
    tracked and mostly lost), Weis 2021 (masks).
    """
    motmetrics = _motmetrics()
    if not 0.0 < iou_threshold <= 1.0:
        raise UserError(f"`iou_threshold` must be in (0, 1]. Received: {iou_threshold}.")

    true = np.asarray(true)
    predicted = np.asarray(predicted)
    if true.ndim != 4:
        raise UserError(f"`true` must be [B, T, H, W]. Received: shape {true.shape}.")
    if true.shape != predicted.shape:
        raise UserError(
            f"`predicted` must have the shape of `true`, {true.shape}. Received: {predicted.shape}."
        )
    background = _checked_background(background, num_slots or int(predicted.max(initial=0)) + 1)

    host = motmetrics.metrics.create()
    found = {name: np.zeros(len(true)) for name in _EVENTS}
    for b, (clip, ids) in enumerate(zip(true, predicted, strict=True)):
        failed = bool((ids == clustering.NO_SLOT).any())
        if failed:
            ids = np.zeros_like(ids)
        present, hypotheses, iou = _frames_of_clip(
            clip, ids, num_slots, background, min_pixels, ignore_label
        )
        if failed:
            hypotheses[:] = True

        # py-motmetrics never pairs objects and hypotheses whose distance is NaN.
        distances = np.where(iou >= iou_threshold, 1.0 - iou, np.nan)
        if failed:
            distances[:] = np.nan
        events = motmetrics.MOTAccumulator()
        for t in range(len(clip)):
            objects = np.flatnonzero(present[t])
            slots = np.flatnonzero(hypotheses[t])
            events.update(objects, slots, distances[t][np.ix_(objects, slots)], frameid=t)

        result = host.compute(events, metrics=list(_EVENTS), return_dataframe=False)
        for name, value in result.items():
            found[name][b] = value
        if failed:
            _fail(found, b)

    counts = {
        "id_switches": found["num_switches"],
        "false_positives": found["num_false_positives"],
        "misses": found["num_misses"],
        "num_tracks": found["num_unique_objects"],
        "num_appearances": found["num_objects"],
        "num_hypotheses": found["num_predictions"],
        "num_pairs": found["num_detections"],
        "num_identified": found["idtp"],
    }
    return {
        "mota": _mota(counts),
        "motp": 1.0 - found["motp"],
        "idf1": _idf1(counts),
        "mostly_tracked": _ratio(found["mostly_tracked"], counts["num_tracks"]),
        "mostly_lost": _ratio(found["mostly_lost"], counts["num_tracks"]),
        **counts,
    }


def tracking_micro(columns):
    """Scores all clips together: their events are counted as those of one long clip.

    Args:
      columns: from `tracking_scores`, for one batch or several joined; `SceneScorer.table()` holds
        them as well.

    Returns:
      dict of name -> float:
        mota_micro, motp_micro, idf1_micro: as in `tracking_scores`, over all clips.
        mostly_tracked_micro, mostly_lost_micro: shares of all objects.
        id_switches_micro, false_positives_micro, misses_micro: per appearance, so that MOTA is 1
          minus their sum.
    """
    errors = ("id_switches", "false_positives", "misses")
    columns = {name: np.asarray(values, np.float64) for name, values in columns.items()}
    totals = {}
    for name, values in columns.items():
        if name.startswith("num_") or name in errors:
            totals[name] = values.sum()

    # Means weigh clips by the pairs and objects behind them, which makes them means over all.
    micro = {
        "mota": _mota(totals),
        "motp": _ratio(_total(columns["motp"], columns["num_pairs"]), totals["num_pairs"]),
        "idf1": _idf1(totals),
    }
    for name in ("mostly_tracked", "mostly_lost"):
        micro[name] = _ratio(_total(columns[name], columns["num_tracks"]), totals["num_tracks"])
    for name in errors:
        micro[name] = _ratio(totals[name], totals["num_appearances"])
    return {f"{name}_micro": float(value) for name, value in micro.items()}


def _frames_of_clip(true, predicted, num_slots, background, min_pixels, ignore_label):
    """Counts one clip [T, H, W].

    Returns:
      present: bool [T, N], objects that show enough pixels.
      hypotheses: bool [T, K], slots that own enough pixels and are not the background.
      iou: float64 [T, N, K].
    """
    true, _ = clustering.renumber(true[None], ignore_label=ignore_label)
    # What is predicted for pixels without label does not matter.
    predicted = np.where(true >= 0, predicted[None], 0)
    if num_slots is None:
        predicted, (slots,) = clustering.renumber(predicted)
    else:
        slots = np.arange(num_slots)
    tables = clustering.contingency_table(
        true, predicted, num_predicted=len(slots), ignore_label=None, level="frame"
    )[0]

    iou = overlap.iou_from_table(tables)
    is_background = _background_slots(tables, iou, slots, background)
    present = tables.sum(-1)[:, 1:] > min_pixels
    hypotheses = (tables.sum(-2) > min_pixels) & ~is_background
    return present, hypotheses, iou[:, 1:]


def _checked_background(background, num_slots):
    """Returns `background`, an index counted from 0; refuses others than the module docstring's."""
    if background is None or (isinstance(background, str) and background in BACKGROUNDS):
        return background
    if not isinstance(background, numbers.Integral):
        raise unknown_name("background", background, BACKGROUNDS)
    if not -num_slots <= background < num_slots:
        raise UserError(
            f"`background` must be the index of one of {num_slots} slots (see `num_slots`). "
            f"Received: {background}."
        )
    return background % num_slots


def _background_slots(tables, iou, slots, background):
    """Returns which slots are background in which frames of a clip: bool [K] or [T, K].

    Args:
      tables: int64 [T, L, K].
      iou: float64 [T, L, K].
      slots: [K], the ids of the columns.
      background: see the module docstring; an index is at least 0.
    """
    if background is None:
        return np.zeros(len(slots), bool)
    if background == "largest":
        return np.arange(len(slots)) == tables.sum((0, 1)).argmax()
    if background == "overlap":
        return iou[:, 0] > BACKGROUND_IOU
    return slots == background


def _fail(found, b):
    """Gives a clip without any pair the worst of what is left: see the module docstring."""
    appearances = found["num_objects"][b]
    found["num_switches"][b] = appearances - found["num_unique_objects"][b]
    # `motp` is a distance of 1 in the mean over as many pairs as there could be.
    found["num_detections"][b] = appearances
    found["motp"][b] = 1.0 if appearances else np.nan


def _mota(counts):
    errors = counts["misses"] + counts["false_positives"] + counts["id_switches"]
    return 1.0 - _ratio(errors, counts["num_appearances"])


def _idf1(counts):
    total = counts["num_appearances"] + counts["num_hypotheses"]
    return _ratio(2.0 * counts["num_identified"], total)


def _ratio(share, total):
    return np.where(total > 0, share / np.maximum(total, 1), np.nan)


def _total(means, count):
    return np.where(count > 0, means * count, 0.0).sum()


def _motmetrics():
    """Imports py-motmetrics, which takes over a second together with pandas."""
    try:
        import motmetrics
    except ImportError as e:
        raise UserError(
            f"Tracking scores need py-motmetrics: pip install 'tfobj[video]'. ({e})"
        ) from e
    return motmetrics
