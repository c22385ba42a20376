"""Multiple-object tracking scores of videos: is an object held by one slot from its first frame to its last? Events by py-motmetrics.

    columns = tracking_scores(true, clustering.segment_ids(masks))      # one row per clip, fits `SceneScorer.update(extra=...)`
    tracking_micro(columns)["mota_micro"]                               # all clips together, as benchmarks report it

A slot is a hypothesis in the frames in which it has more than five pixels (argmax over slots), unless it is the background; a true
object is there in the frames in which more than five of its pixels are visible. A hypothesis may be an object where their IoU is at
least 0.5. A frame first keeps the pairs of the frame before as far as they still may be, then pairs the rest with the least 1 - IoU.

Which slot is the background? A true background is no object, so the slots that hold it would be false positives:
  "largest": the slot with the most pixels over the clip, in all of its frames. Reads no label. Of a background that is split over
    slots the smaller parts stay hypotheses, and cost.
  "overlap": in every frame every slot whose IoU with the true background exceeds 0.2. It reads labels and is kind to a split
    background, but it is the protocol of the Video Objects Room benchmark (Weis et al. 2021), which scores frames 2 to 9:
    `tracking_scores(true[:, 2:10], predicted[:, 2:10], background="overlap")`, then `tracking_micro`.
  a slot index: models with a slot of its own for the background.
  None: every slot is a hypothesis.

Axes: B clips, T frames, L true ids (0 = background), K slots. py-motmetrics comes with the extra `tfobj[video]`.
"""

import numbers

import numpy as np

from tfobj.errors import UserError, unknown_name
from tfobj.metrics import clustering, overlap
from tfobj.structs import IGNORE_LABEL

BACKGROUNDS = ("largest", "overlap")

MIN_PIXELS = 5
"""Objects and slots with so few pixels, or fewer, are not there (Weis 2021)."""

BACKGROUND_IOU = 0.2
"""Slots beyond this IoU with the true background are background under "overlap" (Weis 2021)."""

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

        MOTA = 1 - (misses + false positives + identity switches) / appearances     in (-inf, 1]
        MOTP = mean IoU of the pairs                                               in [iou_threshold, 1]
        IDF1 = 2 identified / (appearances + hypotheses)                           in [0, 1]

    An appearance is one object in one frame. A switch is a pairing of an object with another slot than the one that it was paired
    with last, however long ago. `identified` counts pairs under the best one-to-one assignment of objects and slots for the whole clip.

    Args:
      true: [B, T, H, W] integer ids, the same for the same object in all frames; 0 = background, `ignore_label` = not scored.
      predicted: [B, T, H, W] integer slot ids, see `clustering.segment_ids`.
      num_slots: K, more than every id in `predicted`; None takes the largest id plus one.
      background: "largest", "overlap", the index of a slot (-1 is the last of `num_slots`), or None; see the head of this file.
      iou_threshold: least IoU of a pair, in (0, 1].
      min_pixels: objects and slots with at most so many pixels in a frame are not there.
      ignore_label: the id that marks pixels without label, or None; these pixels count nowhere.

    Returns:
      columns: dict of name -> float64 [B]:
        mota, motp, idf1: as above; NaN for clips without appearances, pairs, or either.
        id_switches, false_positives, misses: how many.
        mostly_tracked, mostly_lost: share of the objects paired in at least 80 %, in less than 20 % of their frames; switches
          count as paired. (Weis 2021 counts them as not paired in `mostly tracked`.)
        num_tracks, num_appearances, num_hypotheses, num_pairs, num_identified: what these are shares and means of.

    Raises:
      UserError: py-motmetrics is missing; or an argument does not fit.

    Source: Bernardin and Stiefelhagen 2008 (MOTA, MOTP), Ristani 2016 (IDF1), Li 2009 (mostly tracked and lost), Weis 2021 (masks).
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
    distances = np.where(iou[..., 1:, :] >= iou_threshold, 1.0 - iou[..., 1:, :], np.nan)
    host = motmetrics.metrics.create()
    found = {name: np.zeros(len(tables)) for name in _EVENTS}
    for b in range(len(tables)):
        events = motmetrics.MOTAccumulator()
        for t in range(tables.shape[1]):
            objects, slots = np.flatnonzero(present[b, t]), np.flatnonzero(hypotheses[b, t])
            events.update(objects, slots, distances[b, t][np.ix_(objects, slots)], frameid=t)
        for name, value in host.compute(
            events, metrics=list(_EVENTS), return_dataframe=False
        ).items():
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
    """Scores of all clips together: their events are counted as those of one long clip.

    Args:
      columns: what `tracking_scores` returns, of one batch or several joined; `SceneScorer.table()` has it as well.

    Returns:
      dict of name -> float: mota_micro, motp_micro, idf1_micro; mostly_tracked_micro, mostly_lost_micro, shares of all objects;
        id_switches_micro, false_positives_micro, misses_micro, per appearance, so that MOTA is 1 minus their sum.
    """
    columns = {name: np.asarray(values, np.float64) for name, values in columns.items()}
    totals = {
        name: columns[name].sum()
        for name in columns
        if name.startswith("num_") or name in ("id_switches", "false_positives", "misses")
    }
    micro = {
        "mota": _mota(totals),
        "motp": _ratio(_total(columns["motp"], columns["num_pairs"]), totals["num_pairs"]),
        "idf1": _idf1(totals),
    }
    for name in ("mostly_tracked", "mostly_lost"):
        micro[name] = _ratio(_total(columns[name], columns["num_tracks"]), totals["num_tracks"])
    for name in ("id_switches", "false_positives", "misses"):
        micro[name] = _ratio(totals[name], totals["num_appearances"])
    return {f"{name}_micro": float(value) for name, value in micro.items()}


def _background_slots(tables, iou, background):
    """Returns which slots are background in which frame: bool, broadcastable to [B, T, K]."""
    num_slots = tables.shape[-1]
    if background is None:
        return np.zeros(num_slots, bool)
    if isinstance(background, numbers.Integral):
        if not -num_slots <= background < num_slots:
            raise UserError(
                f"`background` must be the index of one of {num_slots} slots; `num_slots` says how many. Received: {background}."
            )
        return np.arange(num_slots) == background % num_slots
    if background == "largest":
        return np.arange(num_slots) == tables.sum((1, 2)).argmax(-1)[:, None, None]
    if background == "overlap":
        return iou[..., 0, :] > BACKGROUND_IOU
    raise unknown_name("background", background, BACKGROUNDS)


def _mota(counts):
    return 1.0 - _ratio(
        counts["misses"] + counts["false_positives"] + counts["id_switches"],
        counts["num_appearances"],
    )


def _idf1(counts):
    return _ratio(
        2.0 * counts["num_identified"], counts["num_appearances"] + counts["num_hypotheses"]
    )


def _ratio(share, total):
    return np.where(total > 0, share / np.maximum(total, 1), np.nan)


def _total(means, count):
    return np.where(count > 0, means * count, 0.0).sum()


def _motmetrics():
    """Returns py-motmetrics, whose import takes over a second with pandas."""
    try:
        import motmetrics
    except ImportError as e:
        raise UserError(
            f"Tracking scores need py-motmetrics: pip install 'tfobj[video]'. ({e})"
        ) from e
    return motmetrics
