"""Hungarian matching: worked examples M11-M14, brute force, averages, device against host."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from tfobj.errors import UserError
from tfobj.metrics import clustering, matching, overlap


def brute_force(iou):
    """Best sum over all one-to-one matchings of the rows and columns of one matrix."""
    num_objects, num_slots = iou.shape
    if num_objects > num_slots:
        return brute_force(iou.T)
    return max(
        sum(iou[i, j] for i, j in enumerate(slots))
        for slots in itertools.permutations(range(num_slots), num_objects)
    )


def test_m11():
    true = np.array([[1] * 6 + [2] * 3 + [0] * 3])
    predicted = np.array([[5] * 4 + [6] * 5 + [7] * 3])
    np.testing.assert_allclose(matching.mean_matched_iou(true, predicted), [19 / 30], rtol=1e-14)


def test_m12_crosses_for_the_good_of_the_sum():
    iou = np.array([[[0.6, 0.5], [0.5, 0.1]]])
    slots = matching.match_objects(iou)
    assert slots.tolist() == [[1, 0]]
    assert np.take_along_axis(iou, slots[..., None], -1).mean() == 0.5
    np.testing.assert_allclose(iou.max(-1).mean(), 0.55)
    np.testing.assert_allclose(
        matching.best_matching_value_on_device(tf.constant(iou, tf.float32)), [1.0]
    )


def test_m13_more_objects_than_slots():
    true = np.array([[1, 1, 1, 2, 2, 2]])
    predicted = np.zeros((1, 6), int)
    assert matching.mean_matched_iou(true, predicted)[0] == 0.25
    table = clustering.contingency_table(true, predicted)
    assert sorted(matching.matched_iou_from_table(table)[0]) == [0.0, 0.5]
    assert sorted(matching.match_objects(overlap.iou_from_table(table))[0, 1:]) in (
        [-1, 0],
        [-1, -1],
    )


def test_m14_modal_and_amodal_iou():
    modal = np.array([[[7 / 10, 0.0], [0.0, 8 / 12]]])
    value = matching.best_matching_value_on_device(tf.constant(modal, tf.float32))
    np.testing.assert_allclose(value / 2, [41 / 60], rtol=1e-6)
    objects = [set(range(10)), set(range(8, 18))]
    slots = [set(range(1, 10)), set(range(8, 20))]
    amodal = np.array([[[len(o & s) / len(o | s) for s in slots] for o in objects]])
    assert matching.match_objects(amodal).tolist() == [[0, 1]]
    np.testing.assert_allclose(np.trace(amodal[0]) / 2, 13 / 15, rtol=1e-14)


def test_matching_equals_brute_force_and_is_one_to_one():
    rng = np.random.default_rng(0)
    for num_objects, num_slots in ((1, 1), (3, 5), (5, 3), (4, 4)):
        iou = rng.random((10, num_objects, num_slots))
        slots = matching.match_objects(iou)
        assert slots.shape == (10, num_objects)
        for matrix, row in zip(iou, slots, strict=True):
            used = row[row >= 0]
            assert len(set(used)) == len(used) == min(num_objects, num_slots)
            value = sum(matrix[i, j] for i, j in enumerate(row) if j >= 0)
            np.testing.assert_allclose(value, brute_force(matrix), rtol=1e-12)


def test_averages_by_image_and_by_object():
    true = np.array([[1, 1, 2, 2, 3, 3], [1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]])
    predicted = np.array([[1, 1, 2, 2, 2, 2], [1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]])
    per_image = matching.mean_matched_iou(true, predicted)
    np.testing.assert_allclose(per_image, [0.5, 1.0, np.nan])
    np.testing.assert_allclose(
        matching.mean_matched_iou(true, predicted, average="object"), (1.5 + 1.0) / 4
    )
    with pytest.raises(UserError, match="Did you mean 'image'"):
        matching.mean_matched_iou(true, predicted, average="images")


def test_permuting_slots_changes_nothing():
    rng = np.random.default_rng(1)
    true = rng.integers(0, 4, (8, 40))
    predicted = rng.integers(0, 6, (8, 40))
    scores = matching.mean_matched_iou(true, predicted)
    np.testing.assert_allclose(
        matching.mean_matched_iou(true, rng.permutation(6)[predicted]), scores, rtol=1e-12
    )


def test_frame_level_forgives_identity_switches():
    true = np.array([[[[1, 1, 2, 2]], [[1, 1, 2, 2]]]])
    predicted = np.array([[[[0, 0, 1, 1]], [[1, 1, 0, 0]]]])
    assert matching.mean_matched_iou(true, predicted, level="frame")[0] == 1.0
    np.testing.assert_allclose(matching.mean_matched_iou(true, predicted), [1 / 3])


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize(("num_objects", "num_slots"), [(3, 5), (6, 4), (5, 7)])
def test_device_value_equals_scipy(jit_compile, num_objects, num_slots):
    rng = np.random.default_rng(2)
    table = rng.integers(0, 20, (16, num_objects + 1, num_slots)) * (
        rng.random((16, num_objects + 1, num_slots)) < 0.5
    )
    table[0, 1:] = 0
    compute = tf.function(matching.mean_matched_iou_from_table_on_device, jit_compile=jit_compile)
    expected = clustering.mean_over_defined(matching.matched_iou_from_table(table))
    np.testing.assert_allclose(compute(tf.constant(table, tf.float32)), expected, atol=1e-6)


def test_device_refuses_many_slots():
    with pytest.raises(UserError, match="at most 12 slots in the graph.*Received: 13 slots"):
        matching.best_matching_value_on_device(tf.zeros([1, 2, 13]))
