"""Depth pair accuracy and positions: M14, M15, double loop, ties, hidden and unmatched objects."""

import itertools

import numpy as np
import pytest
from test_amodal import discs, line_sets

from tfobj.errors import UserError
from tfobj.metrics import amodal, depth_order


def naive_pairs(true_mask, true_sets, true_depth, slots, depths, min_overlap):
    """Scores of the pairs that count in one image, pixel by pixel."""
    scores = []
    for i, j in itertools.combinations(range(len(true_sets)), 2):
        if not true_sets[i].any() or not true_sets[j].any():
            continue
        overlap = owned_i = owned_j = 0
        for p in np.ndindex(true_mask.shape):
            if true_sets[i][p] and true_sets[j][p]:
                overlap += 1
                owned_i += true_mask[p] == i + 1
                owned_j += true_mask[p] == j + 1
        i_is_nearer = owned_i > owned_j if owned_i != owned_j else true_depth[i] < true_depth[j]
        if overlap < min_overlap or (owned_i == owned_j and true_depth[i] == true_depth[j]):
            continue
        if slots[i] < 0 or slots[j] < 0:
            scores.append(0.0)
        elif depths[slots[i]] == depths[slots[j]]:
            scores.append(0.5)
        else:
            scores.append(float((depths[slots[i]] < depths[slots[j]]) == i_is_nearer))
    return scores


def test_m14_wrong_order_counts_where_the_overlap_is_large_enough():
    true = line_sets(range(10), range(8, 18))
    mask = amodal.modal_ids(true, [[0.1, 0.2]])
    pairs = depth_order.depth_pairs(mask, true, None, np.array([[0, 1]]), [[0.9, 0.4]])
    assert pairs.overlap.tolist() == [[2]]
    assert np.isnan(depth_order.depth_pair_accuracy(pairs, 30)).all()
    assert np.isnan(depth_order.depth_pair_accuracy(pairs, 30, average="pair"))
    assert depth_order.depth_pair_accuracy(pairs, 1).tolist() == [0.0]
    assert depth_order.depth_pair_accuracy(pairs, 2).tolist() == [0.0]
    right = depth_order.depth_pairs(mask, true, None, np.array([[0, 1]]), [[0.4, 0.9]])
    assert depth_order.depth_pair_accuracy(right, 1).tolist() == [1.0]


def test_m15_only_pairs_with_enough_overlap_count():
    true = line_sets(range(60), range(25, 80), range(70, 120), length=120)
    pairs = depth_order.depth_pairs(
        amodal.modal_ids(true, [[1, 2, 3]]), true, None, np.array([[0, 1, 2]]), [[1.0, 2.0, 3.0]]
    )
    assert pairs.overlap.tolist() == [[35, 0, 10]]  # A-B, A-C, B-C
    assert depth_order.counted(pairs, 30).tolist() == [[True, False, False]]
    assert depth_order.counted(pairs, 10).tolist() == [[True, False, True]]
    # Without a true depth a pair without overlap has no order.
    assert depth_order.counted(pairs, 0).tolist() == [[True, False, True]]
    with_depth = depth_order.depth_pairs(
        amodal.modal_ids(true, [[1, 2, 3]]),
        true,
        [[1, 2, 3]],
        np.array([[0, 1, 2]]),
        [[1.0, 2.0, 3.0]],
    )
    assert depth_order.counted(with_depth, 0).all()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("min_overlap", [0, 5, 30])
def test_equals_double_loop(seed, min_overlap):
    rng = np.random.default_rng(seed)
    mask, sets, depth = discs(rng, 6, 5)
    # Depths that do not always agree with what is seen, as centres of 3-D objects do not; some are
    # equal.
    depth = np.where(rng.random(depth.shape) < 0.3, 2.0, depth)
    slots = rng.integers(-1, 6, (6, 4))
    depths = rng.integers(0, 4, (6, 6)) / 4.0
    pairs = depth_order.depth_pairs(mask, sets[:, 1:], depth[:, 1:], slots, depths)
    expected = [
        naive_pairs(mask[b], sets[b, 1:], depth[b, 1:], slots[b], depths[b], min_overlap)
        for b in range(6)
    ]
    per_image = [np.mean(scores) if scores else np.nan for scores in expected]
    np.testing.assert_allclose(
        depth_order.depth_pair_accuracy(pairs, min_overlap), per_image, rtol=1e-12
    )
    together = sum(expected, [])
    np.testing.assert_allclose(
        depth_order.depth_pair_accuracy(pairs, min_overlap, average="pair"),
        np.mean(together) if together else np.nan,
        rtol=1e-12,
    )
    assert depth_order.counted(pairs, min_overlap).sum() == len(together)


def test_what_is_seen_decides_before_the_depth_of_centres():
    """B's centre is farther, but B shows in most of the overlap, as a tilted 3-D object may."""
    true = line_sets(range(10), range(5, 15))
    mask = np.zeros((1, 1, 20), int)
    mask[0, 0, :6] = 1
    mask[0, 0, 6:15] = 2  # of the overlap 5 ... 9, A shows one pixel and B four
    slots = np.array([[0, 1]])
    assert depth_order.depth_pairs(
        mask, true, [[1.0, 2.0]], slots, [[2.0, 1.0]]
    ).score.tolist() == [[1.0]]
    mask[0, 0, 5:10] = 3  # a third object hides the overlap
    hidden = depth_order.depth_pairs(mask, true, [[1.0, 2.0]], slots, [[2.0, 1.0]])
    assert hidden.score.tolist() == [[0.0]] and hidden.defined.all()
    assert not depth_order.depth_pairs(mask, true, None, slots, [[2.0, 1.0]]).defined.any()


def test_ties_are_worth_a_half_and_missing_slots_nothing():
    true = line_sets(range(10), range(5, 15))
    mask = amodal.modal_ids(true, [[1, 2]])
    for slots, depths, expected in (
        ([[0, 1]], [[0.5, 0.5]], 0.5),
        ([[0, 0]], [[0.5, 0.7]], 0.5),
        ([[0, -1]], [[0.1, 0.2]], 0.0),
        ([[-1, -1]], [[0.1, 0.2]], 0.0),
    ):
        assert depth_order.depth_pairs(
            mask, true, None, np.array(slots), depths
        ).score.tolist() == [[expected]], slots


def test_an_object_without_a_pixel_makes_its_pairs_wrong_and_hidden():
    true = line_sets(range(10), range(2, 8))
    mask = amodal.modal_ids(true, [[1, 2]])  # the second lies wholly behind the first
    iou, present = amodal.modal_iou(mask, mask, 2, 2)
    slots = amodal.match_present(iou, present)
    pairs = depth_order.depth_pairs(mask, true, [[1.0, 2.0]], slots, [[1.0, 2.0]])
    assert slots.tolist() == [[0, -1]] and pairs.score.tolist() == [[0.0]]
    assert pairs.hidden.all() and depth_order.counted(pairs, 5).all()


def test_perfect_predictions_score_one_and_permuted_slots_change_nothing():
    rng = np.random.default_rng(0)
    mask, sets, depth = discs(rng, 8, 5)
    order = rng.permutation(4)
    scores = []
    for slots_of in (np.arange(4), order):
        predicted = sets[:, 1:][:, slots_of]
        depths = depth[:, 1:][:, slots_of]
        iou, present = amodal.modal_iou(mask, amodal.modal_ids(predicted, depths), 4, 4)
        slots = amodal.match_present(iou, present)
        pairs = depth_order.depth_pairs(mask, sets[:, 1:], depth[:, 1:], slots, depths)
        assert (pairs.score[depth_order.counted(pairs, 0) & ~pairs.hidden] == 1.0).all()
        reverse = depth_order.depth_pairs(mask, sets[:, 1:], depth[:, 1:], slots, -depths)
        assert (reverse.score[depth_order.counted(pairs, 0)] == 0.0).all()
        scores.append(pairs.score)
    np.testing.assert_array_equal(scores[0], scores[1])


def test_without_objects_or_slots():
    mask = np.zeros((2, 4, 4), int)
    sets = np.zeros((2, 3, 4, 4), bool)
    pairs = depth_order.depth_pairs(
        mask, sets, np.zeros((2, 3)), np.full((2, 3), -1), np.zeros((2, 0))
    )
    assert pairs.score.shape == (2, 3)
    assert not pairs.defined.any()
    assert np.isnan(depth_order.depth_pair_accuracy(pairs, 0)).all()
    one = depth_order.depth_pairs(mask, sets[:, :1], None, np.zeros((2, 1), int), np.zeros((2, 2)))
    assert one.score.shape == (2, 0)
    assert np.isnan(depth_order.depth_pair_accuracy(one, 0, average="pair"))


def test_centres_of_boxes_and_position_errors():
    sets = np.zeros((1, 3, 6, 8), bool)
    sets[0, 0, 1:4, 2:8] = True  # rows 1-3, columns 2-7
    sets[0, 1, 0, 0] = sets[0, 1, 3, 2] = True
    np.testing.assert_array_equal(
        depth_order.box_centres(sets), [[[2.0, 4.5], [1.5, 1.0], [np.nan, np.nan]]]
    )
    positions = np.array([[[5.0, 8.5], [1.5, 1.0]]])
    errors = depth_order.position_errors(sets, np.array([[0, 1, 1]]), positions)
    np.testing.assert_array_equal(errors, [[5.0, 0.0, np.nan]])
    np.testing.assert_array_equal(
        depth_order.position_errors(sets, np.array([[-1, 0, -1]]), positions),
        [[np.nan, np.hypot(3.5, 7.5), np.nan]],
    )
    assert np.isnan(
        depth_order.position_errors(sets, np.full((1, 3), -1), np.zeros((1, 0, 2)))
    ).all()


def test_errors():
    pairs = depth_order.DepthPairs(*(np.zeros((1, 1)),) * 4)
    with pytest.raises(UserError, match="Unknown average 'pairs'. Did you mean 'pair'"):
        depth_order.depth_pair_accuracy(pairs, average="pairs")
    with pytest.raises(
        UserError,
        match=r"`positions` must have shape \[B, K, 2\], row and column. Received: \(1, 3\)",
    ):
        depth_order.position_errors(np.zeros((1, 1, 4, 4)), np.zeros((1, 1), int), np.zeros((1, 3)))
