"""Extents of objects with hidden parts: worked example M14, double loops, laws and edge cases."""

import itertools

import numpy as np
import pytest

from tfobj.errors import UserError
from tfobj.metrics import amodal


def line_sets(*members, length=20):
    """Sets of pixels of an image of one line -> bool [1, N, 1, length]."""
    sets = np.zeros((1, len(members), 1, length), bool)
    for row, pixels in zip(sets[0, :, 0], members, strict=True):
        row[list(pixels)] = True
    return sets


def discs(rng, batch, num_entities, size=16):
    """Returns overlapping discs: true_mask [B, H, W], sets [B, N, H, W] and depth [B, N].

    Entity 0 is the background.
    """
    row, column = np.mgrid[:size, :size]
    sets = np.zeros((batch, num_entities, size, size), bool)
    sets[:, 0] = True
    depth = np.zeros((batch, num_entities))
    for b in range(batch):
        depth[b, 1:] = 1.0 + rng.permutation(num_entities - 1)
        for n in range(1, num_entities):
            sets[b, n] = np.hypot(
                row - rng.uniform(0, size), column - rng.uniform(0, size)
            ) < rng.uniform(2, size / 3)
    return amodal.modal_ids(sets[:, 1:], depth[:, 1:]), sets, depth


def naive_modal_ids(sets, depths):
    ids = np.zeros((len(sets), *sets.shape[2:]), int)
    for b, i, j in np.ndindex(ids.shape):
        covering = [k for k in range(sets.shape[1]) if sets[b, k, i, j]]
        ids[b, i, j] = 1 + min(covering, key=lambda k: (depths[b, k], k)) if covering else 0
    return ids


def test_m14():
    true = line_sets(range(10), range(8, 18))
    true_mask = amodal.modal_ids(true, [[0.1, 0.2]])
    predicted = line_sets(range(1, 10), range(8, 20))
    depths = np.array([[0.9, 0.4]])
    ids = amodal.modal_ids(predicted, depths)
    assert ids[0, 0].tolist() == [0, *[1] * 7, *[2] * 12]
    iou, present = amodal.modal_iou(true_mask, ids, 2, 2)
    slots = amodal.match_present(iou, present)
    assert slots.tolist() == [[0, 1]]
    np.testing.assert_allclose(
        amodal.iou_of_matching(iou, present, slots), [[7 / 10, 8 / 12]], rtol=1e-14
    )
    np.testing.assert_allclose(
        amodal.iou_of_matching(iou, present, slots).mean(), 41 / 60, rtol=1e-14
    )
    matched = amodal.matched_amodal_iou(true, predicted)
    np.testing.assert_allclose(matched, [[9 / 10, 10 / 12]], rtol=1e-14)
    np.testing.assert_allclose(matched.mean(), 13 / 15, rtol=1e-14)


def test_share_of_exactly_the_threshold_is_outside():
    masks = np.array([0.0, 0.3, 0.30001, 1.0]).reshape(1, 1, 1, 4, 1)
    assert amodal.amodal_sets(masks)[0, 0, 0].tolist() == [False, False, True, True]
    assert amodal.amodal_sets(masks, threshold=0.5)[0, 0, 0].tolist() == [False, False, False, True]


@pytest.mark.parametrize("seed", range(3))
def test_modal_map_and_iou_equal_double_loops(seed):
    rng = np.random.default_rng(seed)
    sets = rng.random((3, 4, 5, 6)) < 0.3
    depths = rng.integers(0, 3, (3, 4)) / 2.0  # depths with ties
    ids = amodal.modal_ids(sets, depths)
    np.testing.assert_array_equal(ids, naive_modal_ids(sets, depths))
    true, true_sets, _ = discs(rng, 3, 4, size=6)
    true_sets = true_sets[:, 1:]
    sets = rng.random((3, 5, 6, 6)) < 0.4
    ids = amodal.modal_ids(sets, rng.random((3, 5)))
    modal, modal_present = amodal.modal_iou(true, ids, 3, 5)
    full, full_present = amodal.amodal_iou(true_sets, sets)
    assert modal.shape == full.shape == (3, 3, 5)
    for b, i in np.ndindex(3, 3):
        assert modal_present[b, i] == (true[b] == i + 1).any()
        assert full_present[b, i] == true_sets[b, i].any()
        for k in range(5):
            for got, x, y in (
                (modal, true[b] == i + 1, ids[b] == k + 1),
                (full, true_sets[b, i], sets[b, k]),
            ):
                assert got[b, i, k] == pytest.approx(
                    (x & y).sum() / max((x | y).sum(), 1), rel=1e-12
                )


def test_pixels_without_label_count_nowhere():
    true = np.array([[[1, 1, 255, 2]]])
    predicted = np.array([[[1, 1, 1, 2]]])
    iou, present = amodal.modal_iou(true, predicted, 2, 2, ignore_label=255)
    np.testing.assert_array_equal(iou, [[[1, 0], [0, 1]]])
    assert present.all()


def test_perfect_predictions_score_one_and_permuted_slots_change_nothing():
    rng = np.random.default_rng(0)
    true, sets, depth = discs(rng, 4, 4)
    iou, present = amodal.modal_iou(true, true, 3, 3)
    scores = amodal.iou_of_matching(iou, present, amodal.match_present(iou, present))
    assert (scores[present] == 1.0).all() and np.isnan(scores[~present]).all()
    full = amodal.matched_amodal_iou(sets[:, 1:], sets[:, 1:])
    assert np.array_equal(np.unique(full[~np.isnan(full)]), [1.0])

    predicted = rng.random((4, 5, 16, 16)) < 0.3
    depths = rng.random((4, 5))
    order = rng.permutation(5)
    results = []
    for slots in (np.arange(5), order):
        iou, present = amodal.modal_iou(
            true, amodal.modal_ids(predicted[:, slots], depths[:, slots]), 3, 5
        )
        results.append(
            [
                amodal.iou_of_matching(iou, present, amodal.match_present(iou, present)),
                amodal.matched_amodal_iou(sets[:, 1:], predicted[:, slots]),
            ]
        )
    np.testing.assert_allclose(results[0], results[1], rtol=1e-12)


def test_matching_is_the_best_of_all():
    rng = np.random.default_rng(1)
    iou = rng.random((6, 3, 4)) * (rng.random((6, 3, 4)) < 0.6)
    present = rng.random((6, 3)) < 0.8
    slots = amodal.match_present(iou, present)
    for b in range(6):
        best = max(
            sum(iou[b, i, p[i]] for i in range(3) if present[b, i])
            for p in itertools.permutations(range(4), 3)
        )
        assert sum(iou[b, i, k] for i, k in enumerate(slots[b]) if k >= 0) == pytest.approx(best)
        used = slots[b][slots[b] >= 0]
        assert len(set(used)) == len(used) and (slots[b][~present[b]] == -1).all()


def test_objects_that_no_slot_meets_have_none():
    """A pair without a common pixel adds nothing, and its slot would depend on the solver."""
    iou = np.array([[[0.5, 0.0], [0.0, 0.0], [0.0, 0.0]]])
    present = np.array([[True, True, False]])
    slots = amodal.match_present(iou, present)
    assert slots.tolist() == [[0, -1, -1]]
    np.testing.assert_array_equal(amodal.iou_of_matching(iou, present, slots), [[0.5, 0.0, np.nan]])


def test_modal_matching_can_be_reused():
    """Modal parts pair crosswise to what full extents would."""
    true = line_sets(range(4), range(4, 8))
    predicted = line_sets(range(4), range(4, 8))
    np.testing.assert_array_equal(amodal.matched_amodal_iou(true, predicted), [[1.0, 1.0]])
    np.testing.assert_array_equal(
        amodal.matched_amodal_iou(true, predicted, slots=np.array([[1, 0]])), [[0.0, 0.0]]
    )
    np.testing.assert_array_equal(
        amodal.matched_amodal_iou(true, predicted, slots=np.array([[0, -1]])), [[1.0, 0.0]]
    )


def test_no_object_no_slot_and_objects_outside_of_the_frame():
    nothing = np.zeros((2, 3, 4, 4), bool)
    assert np.isnan(amodal.matched_amodal_iou(nothing, nothing)).all()
    assert amodal.matched_amodal_iou(nothing[:, :0], nothing).shape == (2, 0)
    assert (amodal.modal_ids(nothing[:, :0], np.zeros((2, 0))) == 0).all()
    np.testing.assert_array_equal(
        amodal.matched_amodal_iou(~nothing, nothing[:, :0]), np.zeros((2, 3))
    )
    iou, present = amodal.modal_iou(np.zeros((2, 4, 4), int), np.zeros((2, 4, 4), int), 0, 3)
    assert iou.shape == (2, 0, 3) and present.shape == (2, 0)


def test_background_slot_is_dropped():
    values = np.arange(6).reshape(1, 3, 2)
    np.testing.assert_array_equal(amodal.without_slot(values, -1), values[:, :2])
    np.testing.assert_array_equal(amodal.without_slot(values, 0), values[:, 1:])
    assert amodal.without_slot(values, None) is values


def test_errors():
    with pytest.raises(
        UserError,
        match=r"`amodal_masks` must have shape \[B, K, H, W, 1\]. Received: \(2, 3, 4, 4\)",
    ):
        amodal.amodal_sets(np.zeros((2, 3, 4, 4)))
    with pytest.raises(
        UserError, match=r"`depths` must have shape \[B, K\], \(2, 3\). Received: \(2, 4\)"
    ):
        amodal.modal_ids(np.zeros((2, 3, 4, 4)), np.zeros((2, 4)))
    with pytest.raises(
        UserError,
        match=(
            r"`depths` must be finite: nothing is nearer than NaN. "
            r"Received: \[ ?0. nan  ?0.\] in scene 1."
        ),
    ):
        amodal.modal_ids(np.zeros((2, 3, 4, 4)), np.array([[0, 1, 2], [0, np.nan, 0]]))
