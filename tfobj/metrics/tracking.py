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
    """Scores every clip as a tracking of its objects by slots, for `SceneScorer.update(extra=...)`.

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
      num_slots: K, more than every id in `predicted`; None takes the largest id plus one.
      background: "largest", "overlap", the index of a slot (-1 is the last of `num_slots`), or
        None; see the module docstring.
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

    tables = clustering.contingency_table(
        true, predicted, num_predicted=num_slots, ignore_label=ignore_label, level="frame"
    )
    iou = overlap.iou_from_table(tables)
    present = tables.sum(-1)[..., 1:] > min_pixels
    hypotheses = (tables.sum(-2) > min_pixels) & ~_background_slots(tables, iou, background)
    # py-motmetrics never pairs objects and hypotheses whose distance is NaN.
    distances = np.where(iou[..., 1:, :] >= iou_threshold, 1.0 - iou[..., 1:, :], np.nan)

    host = motmetrics.metrics.create()
    found = {name: np.zeros(len(tables)) for name in _EVENTS}
    for b in range(len(tables)):
        events = motmetrics.MOTAccumulator()
        for t in range(tables.shape[1]):
            objects = np.flatnonzero(present[b, t])
            slots = np.flatnonzero(hypotheses[b, t])
            events.update(objects, slots, distances[b, t][np.ix_(objects, slots)], frameid=t)

        result = host.compute(events, metrics=list(_EVENTS), return_dataframe=False)
        for name, value in result.items():
            found[name][b] = value

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


def _background_slots(tables, iou, background):
    """Returns which slots are background in which frames: bool, broadcastable to [B, T, K]."""
    num_slots = tables.shape[-1]
    if background is None:
        return np.zeros(num_slots, bool)

    if isinstance(background, numbers.Integral):
        if not -num_slots <= background < num_slots:
            raise UserError(
                f"`background` must be the index of one of {num_slots} slots (see `num_slots`). "
                f"Received: {background}."
            )
        return np.arange(num_slots) == background % num_slots

    if background == "largest":
        return np.arange(num_slots) == tables.sum((1, 2)).argmax(-1)[:, None, None]
    if background == "overlap":
        return iou[..., 0, :] > BACKGROUND_IOU
    raise unknown_name("background", background, BACKGROUNDS)


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
