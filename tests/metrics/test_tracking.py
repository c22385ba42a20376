"""Tracking scores: counted by hand, against a count of our own, and what is no hypothesis."""

import sys

import numpy as np
import pytest

from tfobj.errors import UserError
from tfobj.metrics import clustering, overlap, tracking

OBJECTS = (slice(0, 2), slice(2, 4))
"""Rows of the two objects, 16 pixels each, in frames of 8 x 8; the background has the other 32."""


def clip(*frames, background=0):
    """Returns true and predicted ids [1, T, 8, 8].

    Every frame gives the slot of each object; None stands for the slot of the background.
    """
    true = np.zeros((1, len(frames), 8, 8), np.uint8)
    predicted = np.full((1, len(frames), 8, 8), background, np.uint8)
    for t, slots in enumerate(frames):
        for i, (rows, slot) in enumerate(zip(OBJECTS, slots, strict=True), start=1):
            true[0, t, rows] = i
            predicted[0, t, rows] = background if slot is None else slot
    return true, predicted


def scores(*args, **kwargs):
    """Scores of one clip as numbers."""
    return {
        name: float(values[0]) for name, values in tracking.tracking_scores(*args, **kwargs).items()
    }


def test_by_hand():
    """The slots change places in the third frame, and the second object is lost in the fourth."""
    found = scores(*clip((1, 2), (1, 2), (2, 1), (2, None)))
    assert found == {
        "mota": 1 - (1 + 0 + 2) / 8, "motp": 1.0,
        # The best slots for the whole clip are 1 and 2: two frames each. There are 8 appearances
        # and 7 hypotheses.
        "idf1": pytest.approx(2 * 4 / (8 + 7)),
        "id_switches": 2, "false_positives": 0, "misses": 1,
        # The objects are paired in 4 and in 3 of 4 frames.
        "mostly_tracked": 0.5, "mostly_lost": 0.0,
        "num_tracks": 2, "num_appearances": 8, "num_hypotheses": 7, "num_pairs": 7,
        "num_identified": 4,
    }  # fmt: skip


def test_a_perfect_tracker():
    found = scores(*clip((1, 2), (1, 2), (1, 2)))
    assert found["mota"] == found["motp"] == found["idf1"] == found["mostly_tracked"] == 1.0
    assert (
        found["id_switches"]
        == found["false_positives"]
        == found["misses"]
        == found["mostly_lost"]
        == 0.0
    )


def test_a_switch_is_remembered_over_a_gap():
    assert scores(*clip((1, 2), (None, 2), (1, 2)))["id_switches"] == 0
    assert scores(*clip((1, 2), (None, 2), (3, 2)))["id_switches"] == 1


def test_overlap_below_the_threshold_is_a_miss_and_a_false_positive():
    true, predicted = clip((1, 2), (1, 2))
    predicted[0, 1, 0, :4] = 0  # 12 of 16 pixels: IoU 0.75
    assert scores(true, predicted)["motp"] == pytest.approx((3 + 0.75) / 4)
    assert scores(true, predicted, iou_threshold=0.8)["mota"] == 1 - 2 / 4
    predicted[0, 1, 0] = 0  # 8 of 16: exactly one half still counts
    assert scores(true, predicted)["mota"] == 1.0
    predicted[0, 1, 1, 0] = 0
    found = scores(true, predicted)
    assert found["misses"] == found["false_positives"] == 1 and found["mota"] == 0.5


@pytest.mark.parametrize("pixels, counted", [(5, 0), (6, 1)])
def test_few_pixels_do_not_count(pixels, counted):
    true, predicted = clip((1, 2), (1, 2))
    predicted[0, 1, 6, :pixels] = 3
    assert scores(true, predicted)["false_positives"] == counted
    small = np.where(true == 1, 0, true)
    small[0, 0, 6, :pixels] = 1
    assert scores(small, small)["num_appearances"] == 2 + counted


def test_the_background_is_recognised():
    true, predicted = clip((1, 2), (1, 2), background=4)
    assert scores(true, predicted)["mota"] == scores(true, predicted, background=4)["mota"] == 1.0
    assert scores(true, predicted, background=-2, num_slots=6)["mota"] == 1.0
    assert scores(true, predicted, background=None)["false_positives"] == 2
    assert (
        scores(true, predicted, background=1)["misses"] == 2
    )  # the slot of an object, declared to be the background
    predicted[:, :, 4] = 5  # a quarter of the background
    assert scores(true, predicted)["false_positives"] == 2
    assert scores(true, predicted, background="overlap")["mota"] == 1.0
    predicted[:, :, 4] = 4
    predicted[:, 0, 7, :7] = 5  # 7 of 32 pixels: 0.219
    assert scores(true, predicted, background="overlap")["false_positives"] == 0
    predicted[:, 0, 7, 6] = 4  # 6 of 32: 0.1875
    assert scores(true, predicted, background="overlap")["false_positives"] == 1


def test_the_largest_slot_is_that_of_the_whole_clip():
    """A background that changes its slot is a tracker's mistake."""
    true, predicted = clip((1, 2), (1, 2), (1, 2))
    predicted[0, 2][predicted[0, 2] == 0] = 7
    assert scores(true, predicted)["false_positives"] == 1
    assert scores(true, predicted, background="overlap")["false_positives"] == 0


def test_unlabelled_pixels_count_nowhere():
    true, predicted = clip((1, 2), (1, 2))
    predicted[0, :, 4:6] = 3
    true[0, :, 4:6] = 255
    assert scores(true, predicted)["mota"] == 1.0
    assert (
        scores(true, predicted, ignore_label=None)["mota"] == 1.0
    )  # then it is an object like others
    assert scores(true, predicted, ignore_label=None)["num_tracks"] == 3
    nothing = scores(np.full_like(true, 255), predicted)
    assert np.isnan(nothing["mota"])
    assert np.isnan(nothing["idf1"])
    assert nothing["num_hypotheses"] == 0


def test_clips_without_objects_or_pairs():
    true, predicted = clip((1, 2), (1, 2))
    empty = scores(np.zeros_like(true), predicted)
    assert np.isnan(
        [empty[name] for name in ("mota", "motp", "mostly_tracked", "mostly_lost")]
    ).all()
    assert empty["idf1"] == 0.0 and empty["false_positives"] == 4
    blind = scores(true, np.zeros_like(predicted))
    assert blind["mota"] == 0.0
    assert np.isnan(blind["motp"])
    assert blind["idf1"] == 0.0
    assert blind["mostly_lost"] == 1.0
    assert blind["misses"] == 4


def random_clips(num_clips=12, frames=14, size=24, num_slots=6, seed=0):
    """Returns moving rectangles that hide each other, and slots that follow them imperfectly.

    The slots have frayed edges, gaps and exchanges.
    """
    rng = np.random.default_rng(seed)
    rows = np.arange(size)[:, None]
    columns = np.arange(size)
    true = np.zeros((num_clips, frames, size, size), np.uint8)
    predicted = np.zeros_like(true)
    for b in range(num_clips):
        corners = rng.uniform(0, size - 8, (4, 2))
        steps = rng.uniform(-1.5, 1.5, (4, 2))
        slots = rng.permutation(np.arange(1, num_slots))
        for t in range(frames):
            for i, (top, left) in enumerate(corners + t * steps, start=1):
                true[b, t][
                    (rows >= top) & (rows < top + 8) & (columns >= left) & (columns < left + 8)
                ] = i
            if rng.random() < 0.3:
                slots = rng.permutation(slots)
            predicted[b, t] = np.concatenate([[0], slots])[true[b, t]]
            noisy = rng.random((size, size)) < rng.choice([0.05, 0.25, 0.45])
            predicted[b, t][noisy] = rng.integers(0, num_slots, noisy.sum())
    return true, predicted


def count_events(true, predicted, threshold, min_pixels=5):
    """Counts events without a tracker.

    Segments of one frame are disjoint, so above an IoU of one half no two slots claim one object.

    Returns a dict of name -> [B].
    """
    tables = clustering.contingency_table(true, predicted, level="frame")
    iou = overlap.iou_from_table(tables)[:, :, 1:]
    largest = np.arange(tables.shape[-1]) == tables.sum((1, 2)).argmax(-1)[:, None, None]
    present = tables.sum(-1)[..., 1:] > min_pixels
    there = (tables.sum(-2) > min_pixels) & ~largest
    pairs = (iou >= threshold) & present[..., None] & there[:, :, None]
    slot = np.where(pairs.any(-1), pairs.argmax(-1), -1)  # [B, T, N]
    when = np.maximum.accumulate(np.where(slot >= 0, np.arange(slot.shape[1])[:, None], -1), axis=1)
    last = np.where(when >= 0, np.take_along_axis(slot, np.maximum(when, 0), 1), -1)
    switched = (slot[:, 1:] >= 0) & (last[:, :-1] >= 0) & (slot[:, 1:] != last[:, :-1])
    return {
        "id_switches": switched.sum((1, 2)),
        "misses": (present & (slot < 0)).sum((1, 2)),
        "num_pairs": pairs.sum((1, 2, 3)),
        "false_positives": (there & ~pairs.any(2)).sum((1, 2)),
        "num_appearances": present.sum((1, 2)),
    }


def test_events_are_those_of_a_count_of_our_own():
    true, predicted = random_clips()
    # 0.5 itself is left to py-motmetrics' memory of the frame before.
    columns = tracking.tracking_scores(true, predicted, iou_threshold=0.501)
    expected = count_events(true, predicted, 0.501)
    for name, values in expected.items():
        assert values.sum() > 20, name  # the clips have something to count
        np.testing.assert_array_equal(columns[name], values, err_msg=name)
    wrong = expected["id_switches"] + expected["misses"] + expected["false_positives"]
    np.testing.assert_allclose(columns["mota"], 1 - wrong / expected["num_appearances"])


def test_names_of_slots_do_not_matter_and_clips_are_independent():
    true, predicted = random_clips(3)
    columns = tracking.tracking_scores(true, predicted)
    renamed = tracking.tracking_scores(true, np.array([4, 2, 5, 0, 1, 3])[predicted])
    one = tracking.tracking_scores(true[1:2], predicted[1:2])
    for name, values in columns.items():
        np.testing.assert_allclose(renamed[name], values, err_msg=name)
        np.testing.assert_allclose(one[name], values[1:2], err_msg=name)


def test_clips_together():
    """MOTA of all events is not the mean over clips; an empty clip adds only false positives."""
    parts = [clip((1, 2), (1, 2), (2, 1), (2, None)), clip((1, 2)), clip((1, 2))]
    parts[2][0][:] = 0
    columns = [tracking.tracking_scores(*part) for part in parts]
    joined = {name: np.concatenate([c[name] for c in columns]) for name in columns[0]}
    micro = tracking.tracking_micro(joined)
    assert micro["mota_micro"] == pytest.approx(1 - (3 + 0 + 2) / 10)
    assert micro["id_switches_micro"] + micro["false_positives_micro"] + micro[
        "misses_micro"
    ] == pytest.approx(0.5)
    assert micro["motp_micro"] == 1.0
    assert micro["idf1_micro"] == pytest.approx(2 * (4 + 2) / (10 + 11))
    assert micro["mostly_tracked_micro"] == 0.75 and micro["mostly_lost_micro"] == 0.0
    assert all(np.isnan(value) for value in tracking.tracking_micro(columns[2]).values() if value)


def test_errors(monkeypatch):
    true, predicted = clip((1, 2))
    for kwargs, message in (
        ({"background": "largst"}, "Unknown background 'largst'. Did you mean 'largest'\\?"),
        ({"background": 7}, "`background` must be the index of one of 3 slots.*Received: 7"),
        ({"iou_threshold": 0.0}, r"`iou_threshold` must be in \(0, 1\]. Received: 0.0"),
        ({"num_slots": 2}, "`num_predicted` must be more than every id"),
    ):
        with pytest.raises(UserError, match=message):
            tracking.tracking_scores(true, predicted, **kwargs)
    with pytest.raises(UserError, match="`predicted` must have the shape of `true`"):
        tracking.tracking_scores(true, predicted[:, :, 1:])
    monkeypatch.setitem(sys.modules, "motmetrics", None)
    with pytest.raises(UserError, match=r"need py-motmetrics: pip install 'tfobj\[video\]'"):
        tracking.tracking_scores(true, predicted)
