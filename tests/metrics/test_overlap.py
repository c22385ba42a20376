"""IoU and covering: worked examples M11, M13, laws, edges, device against host."""

import numpy as np
import pytest
import tensorflow as tf

from tfobj.metrics import clustering, matching, overlap

M11_TRUE = np.array([[1] * 6 + [2] * 3 + [0] * 3])
M11_PREDICTED = np.array([[5] * 4 + [6] * 5 + [7] * 3])


def random_tables(seed, batch=40, num_true=5, num_predicted=4):
    rng = np.random.default_rng(seed)
    table = rng.integers(0, 30, (batch, num_true, num_predicted)) * (
        rng.random((batch, num_true, num_predicted)) < 0.6
    )
    table[0] = 0
    table[1, 1:] = 0
    return table


@pytest.mark.parametrize(
    ("kwargs", "expected"),
    [
        ({}, 19 / 30),
        ({"size_weighted": True}, 29 / 45),
        ({"foreground_only": False}, 34 / 45),
        ({"foreground_only": False, "size_weighted": True}, 11 / 15),
    ],
)
def test_m11(kwargs, expected):
    np.testing.assert_allclose(
        overlap.segmentation_covering(M11_TRUE, M11_PREDICTED, **kwargs), expected, rtol=1e-14
    )


def test_m11_best_iou_per_object():
    best = overlap.iou_from_table(clustering.contingency_table(M11_TRUE, M11_PREDICTED)).max(-1)
    np.testing.assert_allclose(best, [[1.0, 2 / 3, 3 / 5]], rtol=1e-14)


def test_m13_one_slot_for_everything():
    true = np.array([[1, 1, 1, 2, 2, 2]])
    predicted = np.zeros((1, 6), int)
    assert overlap.mean_best_overlap(true, predicted)[0] == 0.5
    assert overlap.segmentation_covering(true, predicted, size_weighted=True)[0] == 0.5


def test_spilling_into_the_background_costs_covering_but_not_fg_ari():
    true = np.array([[1, 1, 0, 0, 0, 0]])
    predicted = np.array([[1, 1, 1, 1, 0, 0]])
    assert clustering.adjusted_rand_index(true, predicted, foreground_only=True)[0] == 1.0
    assert overlap.segmentation_covering(true, predicted)[0] == 0.5


def test_ignored_pixels_leave_both_sides():
    true = np.array([[1, 1, 255, 255]])
    predicted = np.array([[1, 1, 1, 1]])
    assert overlap.segmentation_covering(true, predicted)[0] == 1.0


def test_no_objects_is_undefined():
    true = np.zeros((1, 4), int)
    assert np.isnan(overlap.segmentation_covering(true, true))
    assert overlap.segmentation_covering(true, true, empty_value=1.0)[0] == 1.0
    assert overlap.segmentation_covering(true, true, foreground_only=False)[0] == 1.0


def test_covering_equals_a_loop_and_stays_in_the_unit_interval():
    rng = np.random.default_rng(0)
    true = rng.integers(0, 4, (6, 30))
    predicted = rng.integers(0, 5, (6, 30))
    expected = []
    for t, p in zip(true, predicted, strict=True):
        best = [
            max(((t == i) & (p == j)).sum() / ((t == i) | (p == j)).sum() for j in set(p))
            for i in set(t) - {0}
        ]
        expected.append(np.mean(best))
    got = overlap.segmentation_covering(true, predicted)
    np.testing.assert_allclose(got, expected, rtol=1e-14)
    assert ((got >= 0) & (got <= 1)).all()


def test_best_overlap_is_at_least_the_matched_iou():
    table = random_tables(1)[1:]
    best = overlap.segmentation_covering_from_table(table)
    matched = clustering.mean_over_defined(matching.matched_iou_from_table(table))
    assert (np.nan_to_num(best) >= np.nan_to_num(matched) - 1e-15).all()


def test_frame_level_is_the_mean_over_frames():
    rng = np.random.default_rng(2)
    true = rng.integers(0, 3, (2, 3, 4, 4))
    predicted = rng.integers(0, 3, (2, 3, 4, 4))
    frames = overlap.segmentation_covering(
        true.reshape(6, 4, 4), predicted.reshape(6, 4, 4)
    ).reshape(2, 3)
    got = overlap.segmentation_covering(true, predicted, level="frame")
    np.testing.assert_allclose(got, clustering.mean_over_defined(frames), rtol=1e-14)
    one = overlap.segmentation_covering(true[:, :1], predicted[:, :1], level="frame")
    np.testing.assert_array_equal(one, overlap.segmentation_covering(true[:, :1], predicted[:, :1]))


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("foreground_only", [False, True])
@pytest.mark.parametrize("size_weighted", [False, True])
def test_device_equals_host(jit_compile, foreground_only, size_weighted):
    table = random_tables(3)
    kwargs = {"foreground_only": foreground_only, "size_weighted": size_weighted}

    @tf.function(jit_compile=jit_compile)
    def compute(counts):
        return overlap.segmentation_covering_from_table_on_device(counts, **kwargs)

    expected = overlap.segmentation_covering_from_table(table, **kwargs)
    np.testing.assert_allclose(compute(tf.constant(table, tf.float32)), expected, atol=1e-6)
