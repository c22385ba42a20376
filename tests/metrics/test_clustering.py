"""ARI and contingency tables: worked examples M1-M10, scikit-learn, laws, edge cases, graph."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import adjusted_rand_score

from tfobj.errors import UserError
from tfobj.metrics import clustering, clustering_graph

ONE_OBJECT = np.pad(np.ones((2, 2), np.uint8), ((0, 1), (0, 1)))  # a 2 x 2 object in 3 x 3


def ari(true, predicted, **kwargs):
    return clustering.adjusted_rand_index(
        np.array(true)[None], np.array(predicted)[None], **kwargs
    )[0]


def random_labelings(rng, batch, num_pixels, num_true, num_predicted):
    return rng.integers(0, num_true, (batch, num_pixels)), rng.integers(
        0, num_predicted, (batch, num_pixels)
    )


def loop_table(true, predicted, num_true, num_predicted):
    table = np.zeros((len(true), num_true, num_predicted), np.int64)
    for b, (t, p) in enumerate(
        zip(true.reshape(len(true), -1), predicted.reshape(len(true), -1), strict=True)
    ):
        for i, j in zip(t, p, strict=True):
            if i != 255:
                table[b, i, j] += 1
    return table


@pytest.mark.parametrize(
    ("true", "predicted", "expected"),
    [
        pytest.param([0, 0, 1, 1], [0, 0, 1, 2], 4 / 7, id="M1"),
        pytest.param([0, 0, 1, 1], [0, 1, 0, 1], -1 / 2, id="M2"),
        pytest.param(
            [[1, 1, 1], [0, 2, 2], [0, 0, 0]], [[1, 1, 0], [0, 2, 2], [0, 0, 0]], 14 / 23, id="M3"
        ),
        pytest.param(ONE_OBJECT, ONE_OBJECT, 1.0, id="M4"),
        pytest.param(ONE_OBJECT, [[1, 1, 0], [2, 2, 0], [0, 0, 0]], 10 / 13, id="M5"),
        pytest.param(ONE_OBJECT, np.zeros((3, 3), int), 0.0, id="M6"),
        pytest.param([0, 0, 0, 0], [0, 0, 1, 1], 0.0, id="M7-all-background-split"),
        pytest.param([0, 0, 0, 0], [2, 2, 2, 2], 1.0, id="M7-all-background-one-slot"),
        pytest.param([0, 1, 2], [2, 0, 1], 1.0, id="M8-singletons"),
        pytest.param([0, 0, 0], [0, 1, 2], 0.0, id="M8-split"),
        pytest.param([0, 1, 2], [0, 0, 0], 0.0, id="M8-merged"),
        pytest.param([1] * 6 + [2] * 3 + [0] * 3, [5] * 4 + [6] * 5 + [7] * 3, 153 / 307, id="M11"),
    ],
)
def test_worked_examples_over_all_pixels(true, predicted, expected):
    np.testing.assert_allclose(ari(true, predicted), expected, rtol=1e-14, atol=1e-16)


@pytest.mark.parametrize(
    ("true", "predicted", "expected"),
    [
        pytest.param(
            [[1, 1, 1], [0, 2, 2], [0, 0, 0]], [[1, 1, 0], [0, 2, 2], [0, 0, 0]], 6 / 11, id="M3"
        ),
        pytest.param(ONE_OBJECT, ONE_OBJECT, 1.0, id="M4-single-object-is-not-nan"),
        pytest.param(ONE_OBJECT, [[1, 1, 0], [2, 2, 0], [0, 0, 0]], 0.0, id="M5"),
        pytest.param(ONE_OBJECT, np.zeros((3, 3), int), 1.0, id="M6-blind-spot"),
        pytest.param(np.zeros((3, 3), int), np.zeros((3, 3), int), np.nan, id="M7-empty"),
        pytest.param([1] * 6 + [2] * 3 + [0] * 3, [5] * 4 + [6] * 5 + [7] * 3, 2 / 9, id="M11"),
    ],
)
def test_worked_examples_over_the_foreground(true, predicted, expected):
    np.testing.assert_allclose(
        ari(true, predicted, foreground_only=True), expected, rtol=1e-14, atol=1e-16
    )


@pytest.mark.parametrize("empty_value", [1.0, 0.0])
def test_empty_foreground_takes_the_stated_value(empty_value):
    assert ari([0, 0], [0, 1], foreground_only=True, empty_value=empty_value) == empty_value


def test_binary_masks_of_255_do_not_reach_the_score():
    """multi_object_datasets' README passes 0/255 masks as one-hot and gets 0.68324 for M3."""
    assert abs(ari([1, 1, 1, 2, 2], [1, 1, 0, 2, 2]) - 6 / 11) < 1e-14


@pytest.mark.parametrize(
    ("second", "frame", "sequence"),
    [
        pytest.param([1, 1, 0, 0], 1.0, -1 / 6, id="M9"),
        pytest.param([0, 1, 1, 1], 0.5, 48 / 97, id="M10"),
    ],
)
def test_video_levels(second, frame, sequence):
    true = np.array([[[[1, 1, 2, 2]], [[1, 1, 2, 2]]]])  # [B=1, T=2, H=1, W=4]
    predicted = np.array([[[[0, 0, 1, 1]], [second]]])
    for foreground_only in (False, True):
        kwargs = {"foreground_only": foreground_only}
        got = clustering.adjusted_rand_index(true, predicted, level="frame", **kwargs)
        np.testing.assert_allclose(got, [frame], rtol=1e-14)
        got = clustering.adjusted_rand_index(true, predicted, level="sequence", **kwargs)
        np.testing.assert_allclose(got, [sequence], rtol=1e-14)


def test_levels_agree_for_one_frame():
    rng = np.random.default_rng(0)
    true = rng.integers(0, 4, (5, 1, 8, 8))
    predicted = rng.integers(0, 3, (5, 1, 8, 8))
    np.testing.assert_array_equal(
        clustering.adjusted_rand_index(true, predicted, level="frame"),
        clustering.adjusted_rand_index(true, predicted, level="sequence"),
    )


def test_frames_without_objects_are_left_out_of_the_mean():
    true = np.zeros((1, 2, 2, 2), np.uint8)
    true[0, 0] = [[1, 1], [2, 2]]
    predicted = np.array([[[[0, 0], [1, 1]], [[0, 1], [0, 1]]]])
    kwargs = {"foreground_only": True, "level": "frame"}
    assert clustering.adjusted_rand_index(true, predicted, **kwargs)[0] == 1.0
    assert clustering.adjusted_rand_index(true, predicted, empty_value=0.0, **kwargs)[0] == 0.5


def test_equals_scikit_learn_on_thousands_of_tiny_labelings():
    """Degenerate ones included: single clusters, singletons, one pixel, none."""
    rng = np.random.default_rng(1)
    for num_pixels in (1, 2, 3, 4, 7):
        true, predicted = random_labelings(
            rng, 600, num_pixels, rng.integers(1, 5), rng.integers(1, 5)
        )
        expected = [adjusted_rand_score(t, p) for t, p in zip(true, predicted, strict=True)]
        np.testing.assert_allclose(
            clustering.adjusted_rand_index(true, predicted), expected, rtol=1e-13, atol=1e-14
        )
        got = clustering.adjusted_rand_index(true, predicted, foreground_only=True, empty_value=1.0)
        expected = [
            adjusted_rand_score(t[t > 0], p[t > 0]) for t, p in zip(true, predicted, strict=True)
        ]
        np.testing.assert_allclose(got, expected, rtol=1e-13, atol=1e-14)


def test_equals_scikit_learn_on_images():
    rng = np.random.default_rng(2)
    true, predicted = random_labelings(rng, 8, 128 * 128, 11, 7)
    predicted = np.where(rng.random(true.shape) < 0.7, true % 7, predicted)
    expected = [adjusted_rand_score(t, p) for t, p in zip(true, predicted, strict=True)]
    np.testing.assert_allclose(
        clustering.adjusted_rand_index(true, predicted), expected, rtol=1e-12
    )


def test_long_videos_do_not_overflow():
    """40 frames of 64 x 64: the product of the pair counts exceeds int64."""
    rng = np.random.default_rng(3)
    true, predicted = random_labelings(rng, 1, 40 * 64 * 64, 2, 2)
    np.testing.assert_allclose(
        clustering.adjusted_rand_index(true, predicted)[0],
        adjusted_rand_score(true[0], predicted[0]),
        atol=1e-12,
    )


def test_invariances():
    rng = np.random.default_rng(4)
    true, predicted = random_labelings(rng, 50, 60, 5, 6)
    scores = clustering.adjusted_rand_index(true, predicted)
    relabelled = clustering.adjusted_rand_index(
        rng.permutation(5)[true], rng.permutation(6)[predicted]
    )
    np.testing.assert_allclose(relabelled, scores, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(
        clustering.adjusted_rand_index(predicted, true), scores, rtol=1e-12, atol=1e-15
    )
    assert (clustering.adjusted_rand_index(true, 7 - true) == 1.0).all()
    singles = [ari(t, p) for t, p in zip(true, predicted, strict=True)]
    np.testing.assert_array_equal(singles, scores)


def test_random_predictions_score_zero_on_average():
    rng = np.random.default_rng(5)
    true, predicted = random_labelings(rng, 320, 64 * 64, 7, 7)
    assert abs(clustering.adjusted_rand_index(true, predicted).mean()) < 1e-3


def test_table_equals_a_loop_and_leaves_out_ignored_pixels():
    rng = np.random.default_rng(6)
    true = rng.integers(0, 4, (3, 5, 6)).astype(np.uint8)
    predicted = rng.integers(0, 3, (3, 5, 6))
    true[rng.random(true.shape) < 0.2] = 255
    table = clustering.contingency_table(true, predicted, num_true=4, num_predicted=5)
    np.testing.assert_array_equal(table, loop_table(true, predicted, 4, 5))
    assert table.dtype == np.int64
    frames = clustering.contingency_table(
        true[None], predicted[None], level="frame", num_true=4, num_predicted=5
    )
    np.testing.assert_array_equal(frames, table[None])
    everywhere = clustering.contingency_table(true, predicted, ignore_label=None)
    assert everywhere.shape == (3, 5, 3) and everywhere.sum() == true.size


def test_all_ignored_and_negative_ids():
    ignored = np.full((1, 4), 255, np.uint8)
    assert np.isnan(clustering.adjusted_rand_index(ignored, np.zeros((1, 4), int)))
    assert ari([0, 0, 1, 1, -1], [0, 0, 1, 1, 0]) == 1.0


@pytest.mark.parametrize(
    ("true", "predicted", "kwargs", "message"),
    [
        ([[0, 1]], [[0, 1, 1]], {}, "`predicted` must have the shape of `true`"),
        ([0, 1], [0, 1], {}, r"`true` must be integer ids \[B, ...\]"),
        ([[0.0, 1.0]], [[0, 1]], {}, "Received: shape .*float64"),
        (
            [[0, 4]],
            [[0, 1]],
            {"num_true": 4},
            "`num_true` must be more than every id in `true`, 4. Received: 4",
        ),
        ([[0, 1]], [[0, -1]], {}, "`predicted` must hold ids of at least 0. Received: -1"),
        ([[0, 1]], [[0, 1]], {"level": "frames"}, "Did you mean 'frame'"),
        ([[0, 1]], [[0, 1]], {"level": "frame"}, r"`true` must be \[B, T, H, W\]"),
    ],
)
def test_errors(true, predicted, kwargs, message):
    with pytest.raises(UserError, match=message):
        clustering.contingency_table(np.array(true), np.array(predicted), **kwargs)


def test_segment_ids_break_ties_towards_the_first_slot():
    masks = np.zeros((1, 3, 1, 2, 1), np.float32)
    masks[0, 2, 0, 1] = 1.0
    assert clustering.segment_ids(masks).tolist() == [[[0, 2]]]
    assert clustering_graph.segment_ids_on_device(
        tf.constant(masks, tf.bfloat16)
    ).numpy().tolist() == [[[0, 2]]]
    video = np.stack([masks, masks], axis=1)
    assert (
        clustering.segment_ids(video).shape
        == clustering_graph.segment_ids_on_device(video).shape
        == (1, 2, 1, 2)
    )
    with pytest.raises(UserError, match="`masks` must have shape"):
        clustering.segment_ids(masks[..., 0])


def device_scores(true, predicted, num_true, num_predicted, foreground_only):
    table = clustering_graph.contingency_table_on_device(true, predicted, num_true, num_predicted)
    return clustering_graph.adjusted_rand_index_from_table_on_device(
        table, foreground_only=foreground_only
    )


@pytest.mark.parametrize("mode", ["eager", "graph", "jit"])
@pytest.mark.parametrize("foreground_only", [False, True])
def test_device_equals_host(mode, foreground_only):
    rng = np.random.default_rng(7)
    true = rng.integers(0, 11, (6, 128, 128)).astype(np.uint8)
    predicted = np.where(rng.random(true.shape) < 0.6, true % 7, rng.integers(0, 7, true.shape))
    true[rng.random(true.shape) < 0.05] = 255
    true[1] = 0
    predicted[2] = 4
    true[3] = 1
    true[4] = 0
    predicted[4] = 0  # nearly one cluster on both sides: the usual formula loses three digits here
    true[4, 5, 5] = 1
    predicted[4, 9, 9] = 1
    predicted[5] = true[5] % 7
    function = device_scores
    if mode != "eager":
        function = tf.function(device_scores, jit_compile=mode == "jit")
    got = function(
        tf.constant(true), tf.constant(predicted, tf.int32), 11, 7, foreground_only
    ).numpy()
    expected = clustering.adjusted_rand_index(true, predicted, foreground_only=foreground_only)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)


def test_device_equals_host_on_tiny_degenerate_labelings():
    rng = np.random.default_rng(8)
    for num_pixels in (1, 2, 3, 5):
        true, predicted = random_labelings(rng, 300, num_pixels, 4, 3)
        got = device_scores(tf.constant(true), tf.constant(predicted), 4, 3, True)
        expected = clustering.adjusted_rand_index(true, predicted, foreground_only=True)
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6)


def test_device_is_exact_under_a_bfloat16_policy():
    rng = np.random.default_rng(9)
    masks = tf.nn.softmax(tf.constant(rng.normal(size=(2, 5, 96, 96, 1)), tf.bfloat16), axis=1)
    true = rng.integers(0, 6, (2, 96, 96)).astype(np.uint8)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        predicted = clustering_graph.segment_ids_on_device(masks)
        table = clustering_graph.contingency_table_on_device(tf.constant(true), predicted, 6, 5)
    finally:
        keras.config.set_dtype_policy(before)
    expected = clustering.contingency_table(
        true, clustering.segment_ids(masks.numpy().astype(np.float32))
    )
    assert table.dtype == tf.float32
    np.testing.assert_array_equal(table.numpy(), expected)
