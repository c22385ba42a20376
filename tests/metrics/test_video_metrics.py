"""Scores of video clips: by hand, scikit-learn, frame and sequence level, prefixes, predictions."""

import itertools

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from tfobj.errors import UserError
from tfobj.metrics import clustering, scores, video


def one_hot(ids, num_slots=None):
    """[B, T, H, W] -> masks [B, T, K, H, W, 1]."""
    ids = np.asarray(ids)
    return np.moveaxis(np.eye(num_slots or ids.max() + 1, dtype=np.float32)[ids], -1, -3)[..., None]


def clips(num_clips=3, frames=12, num_slots=4, seed=0):
    """Random truth of 3 objects and slots that follow it on 80 % of the pixels."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, 4, (num_clips, frames, 9, 7)).astype(np.uint8)
    predicted = np.where(rng.random(true.shape) < 0.8, true, rng.integers(0, num_slots, true.shape))
    image = rng.random((*true.shape, 3), dtype=np.float32)
    recon = image + 0.1 * rng.standard_normal(image.shape, dtype=np.float32)
    return {
        "image": image,
        "recon": recon,
        "masks": one_hot(predicted, num_slots),
        "true_mask": true,
    }


def example(frame_1, frame_2):
    """The examples M9 and M10 of a clip of two frames: truth [1, 1, 2, 2] in both."""
    true = np.array([1, 1, 2, 2, 1, 1, 2, 2], np.uint8).reshape(1, 2, 1, 4)
    return true, one_hot(np.array([frame_1, frame_2]).reshape(1, 2, 1, 4))


def test_examples_by_hand():
    """M9: the slots change places; M10: the second frame is split so that its ARI is 0."""
    for frame_2, of_frames, of_clip in (
        ([1, 1, 0, 0], [1.0, 1.0], -1 / 6),
        ([0, 1, 1, 1], [1.0, 0.0], 48 / 97),
    ):
        true, masks = example([0, 0, 1, 1], frame_2)
        np.testing.assert_allclose(video.frame_rand_index(true, masks), [of_frames], atol=1e-12)
        np.testing.assert_allclose(
            video.frame_rand_index(true, masks, foreground_only=True), [of_frames], atol=1e-12
        )
        prefixes = video.prefix_rand_index(video.frame_tables(true, masks), (1, 2, 3))
        assert list(prefixes) == [1, 2]
        np.testing.assert_allclose([prefixes[1][0], prefixes[2][0]], [1.0, of_clip], atol=1e-12)


def test_frames_are_those_of_scikit_learn():
    data = clips()
    true = data["true_mask"]
    predicted = clustering.segment_ids(data["masks"])
    ari, fg_ari = (
        video.frame_rand_index(true, data["masks"], foreground_only=foreground_only)
        for foreground_only in (False, True)
    )
    for b, t in np.ndindex(true.shape[:2]):
        objects = true[b, t] > 0
        np.testing.assert_allclose(
            ari[b, t], adjusted_rand_score(true[b, t].ravel(), predicted[b, t].ravel()), atol=1e-12
        )
        np.testing.assert_allclose(
            fg_ari[b, t],
            adjusted_rand_score(true[b, t][objects], predicted[b, t][objects]),
            atol=1e-12,
        )


def test_prefixes_are_those_of_scikit_learn():
    data = clips()
    true = data["true_mask"]
    predicted = clustering.segment_ids(data["masks"])
    found = video.prefix_rand_index(
        video.frame_tables(true, data["masks"]), (2, 7, 12), foreground_only=True
    )
    for length, b in itertools.product((2, 7, 12), range(3)):
        objects = true[b, :length] > 0
        expected = adjusted_rand_score(true[b, :length][objects], predicted[b, :length][objects])
        np.testing.assert_allclose(found[length][b], expected, atol=1e-12)
        assert expected < 0.9


def test_shuffled_slots_cost_over_the_clip_but_not_by_frame():
    data = clips(frames=8)
    rng = np.random.default_rng(1)
    shuffled = np.stack(
        [np.stack([frame[rng.permutation(4)] for frame in clip]) for clip in data["masks"]]
    )
    for foreground_only in (False, True):
        before, after = (
            video.frame_rand_index(data["true_mask"], masks, foreground_only=foreground_only)
            for masks in (data["masks"], shuffled)
        )
        np.testing.assert_allclose(before, after, atol=1e-12)
        before, after = (
            video.prefix_rand_index(
                video.frame_tables(data["true_mask"], masks), (8,), foreground_only=foreground_only
            )[8]
            for masks in (data["masks"], shuffled)
        )
        assert (after < 0.5 * before).all() and (before > 0.4).all()


def test_frames_without_objects_follow_the_convention():
    """Frames: two objects apart, none, one object in one slot, one in two, none labelled."""
    rows = [[1, 1, 2, 2], [0, 0, 0, 0], [1, 1, 1, 0], [1, 1, 1, 0], [255, 255, 255, 255]]
    slots = [[0, 0, 1, 1], [0, 1, 0, 1], [1, 1, 1, 1], [0, 0, 1, 1], [0, 1, 2, 0]]
    true = np.array(rows, np.uint8).reshape(1, 5, 1, 4)
    masks = one_hot(np.array(slots).reshape(1, 5, 1, 4))
    ours = video.frame_rand_index(true, masks, foreground_only=True)
    paper = video.frame_rand_index(
        true, masks, foreground_only=True, empty_value=video.ZABLOTSKAIA_EMPTY_VALUE
    )
    np.testing.assert_allclose(ours, [[1, np.nan, 1, 0, np.nan]])
    np.testing.assert_allclose(paper, [[1, 1, 1, 0, 1]])
    np.testing.assert_allclose(video.prefix_means(ours, (2, 5))[5], [2 / 3])
    np.testing.assert_allclose(video.prefix_means(paper, (2, 5))[5], [4 / 5])
    empty = video.prefix_means(ours[:, [1, 4]], (1, 2))
    assert np.isnan(empty[1]).all() and np.isnan(empty[2]).all()
    np.testing.assert_allclose(
        video.frame_rand_index(true, masks)[0, [1, 4]], [0, np.nan]
    )  # background in two slots; nothing to score


def test_errors_of_frames():
    image = np.zeros((2, 3, 4, 5, 1))
    recon = np.broadcast_to(
        np.array([[0, 0.5, 1], [0.1, 0.2, 0.3]])[..., None, None, None], image.shape
    ).copy()
    recon[0, 1, :2] = 0  # half of the frame is right
    error = video.frame_mean_squared_error(image, recon)
    np.testing.assert_allclose(error, [[0, 0.125, 1], [0.01, 0.04, 0.09]])
    means = video.prefix_means(error, (1, 2, 3, 4))
    assert list(means) == [1, 2, 3]
    np.testing.assert_allclose(means[2], [0.0625, 0.025])


def test_predicted_frames():
    """Five frames are observed; slots merge from the seventh on.

    The error grows by 0.1 per frame ahead.
    """
    true = np.zeros((2, 9, 4, 4), np.uint8)
    true[:, :, :2] = 1
    true[:, :, 2:] = 2
    ids = true.astype(np.int64) - 1
    ids[:, 6:] = 0
    image = np.zeros((2, 9, 4, 4, 3), np.float32)
    recon = image + np.maximum(np.arange(9) - 4, 0).astype(np.float32)[:, None, None, None] / 10
    columns = video.prediction_scores(image, recon, one_hot(ids), true, num_observed=5)
    assert list(columns) == ["mse_ahead_1", "mse_ahead_3", "fg_ari_ahead_1", "fg_ari_ahead_3"]
    for name, value in {
        "mse_ahead_1": 0.01,
        "mse_ahead_3": 0.09,
        "fg_ari_ahead_1": 1.0,
        "fg_ari_ahead_3": 0.0,
    }.items():
        np.testing.assert_allclose(columns[name], [value] * 2, rtol=1e-5, err_msg=name)
    so_far = video.prediction_scores(
        image, recon, one_hot(ids), true, num_observed=5, cumulative=True
    )
    np.testing.assert_allclose(so_far["mse_ahead_3"], [(0.01 + 0.04 + 0.09) / 3] * 2, rtol=1e-5)
    np.testing.assert_allclose(so_far["fg_ari_ahead_3"], [1 / 3] * 2)
    alone = video.prediction_scores(image[:, 5:], recon[:, 5:], horizons=(2, 4))
    np.testing.assert_allclose(
        [alone["mse_ahead_2"][0], alone["mse_ahead_4"][0]], [0.04, 0.16], rtol=1e-5
    )


def test_scorer_columns_are_the_functions():
    data = clips(frames=11)
    scorer = scores.SceneScorer(prefixes=(3, 10, 11, 12))
    for start, stop in ((0, 2), (2, 3)):
        scorer.update(**{name: values[start:stop] for name, values in data.items()})
    table = scorer.table()
    truth = (data["true_mask"], data["masks"])
    added = {
        f"{name}_{n}"
        for name in ("mse", "fg_ari", "fg_ari_frame", "ari_frame")
        for n in (3, 10, 11)
    }
    assert {name for name in table if name[-1].isdigit()} == added
    by_frame = {
        name: video.frame_rand_index(*truth, foreground_only=name == "fg_ari")
        for name in ("fg_ari", "ari")
    }
    of_clip = video.prefix_rand_index(video.frame_tables(*truth), (3, 10, 11), foreground_only=True)
    error = np.square(np.float64(data["image"]) - data["recon"]).mean((2, 3, 4))
    for n in (3, 10, 11):
        for name, values in by_frame.items():
            np.testing.assert_allclose(
                table[f"{name}_frame_{n}"], values[:, :n].mean(1), rtol=1e-12
            )
        np.testing.assert_array_equal(table[f"fg_ari_{n}"], of_clip[n])
        np.testing.assert_allclose(table[f"mse_{n}"], error[:, :n].mean(1), rtol=1e-6)
    for name in ("mse", "fg_ari", "fg_ari_frame", "ari_frame"):
        np.testing.assert_allclose(table[f"{name}_11"], table[name], rtol=1e-12)
    assert (table["fg_ari_3"] != table["fg_ari"]).any()
    assert "fg_ari_10" in scorer.summary() and "fg_ari_10_std" in scorer.summary()


def test_scorer_conventions_and_lengths():
    data = clips(num_clips=2, frames=10)
    data["true_mask"][0, :4] = 0
    ours = scores.SceneScorer()
    paper = scores.SceneScorer(empty_value=video.ZABLOTSKAIA_EMPTY_VALUE)
    for scorer in (ours, paper):
        scorer.update(**data)
    assert {name for name in ours.table() if name[-1].isdigit()} == {
        "mse_10",
        "fg_ari_10",
        "fg_ari_frame_10",
        "ari_frame_10",
    }
    ours = ours.table()
    paper = paper.table()
    np.testing.assert_allclose(
        paper["fg_ari_frame_10"][0], (4 + 6 * ours["fg_ari_frame_10"][0]) / 10
    )
    np.testing.assert_array_equal(paper["fg_ari_10"], ours["fg_ari_10"])  # the clip has objects
    np.testing.assert_array_equal(paper["ari_frame_10"], ours["ari_frame_10"])
    images = scores.SceneScorer()
    images.update(**{name: values[:, 0] for name, values in data.items()})
    assert not any(name[-1].isdigit() or "frame" in name for name in images.table())
    unlabelled = scores.SceneScorer()
    unlabelled.update(**{**data, "true_mask": None})
    assert set(unlabelled.table()) == {"mse", "psnr", "mse_10"}


def test_columns_of_predictions_fit_the_scorer():
    data = clips(num_clips=2, frames=6)
    scorer = scores.SceneScorer()
    ahead = video.prediction_scores(
        data["image"], data["recon"], data["masks"], data["true_mask"], num_observed=3
    )
    scorer.update(**data, extra=ahead, valid=[True, False])
    assert scorer.table()["fg_ari_ahead_3"] == ahead["fg_ari_ahead_3"][:1]


def test_an_empty_batch_has_empty_scores():
    data = {name: values[:0] for name, values in clips(frames=10).items()}
    assert (
        video.frame_rand_index(data["true_mask"], data["masks"]).shape
        == video.frame_mean_squared_error(data["image"], data["recon"]).shape
        == (0, 10)
    )
    assert all(
        column.shape == (0,)
        for column in video.prefix_rand_index(
            video.frame_tables(data["true_mask"], data["masks"])
        ).values()
    )


def test_wrong_arguments():
    data = clips(frames=4)
    image, recon, masks, true = data.values()
    with pytest.raises(
        UserError,
        match=(
            r"`true` and `masks` must have shapes \[B, T, H, W\] and \[B, T, K, H, W, 1\]. "
            r"Received: \(3, 3, 9, 7\)"
        ),
    ):
        video.frame_tables(true[:, 1:], masks)
    with pytest.raises(
        UserError, match=r"`image` and `recon` must have one shape \[B, T, H, W, C\]"
    ):
        video.frame_mean_squared_error(image[:, 0], recon[:, 0])
    with pytest.raises(
        UserError, match=r"Numbers of frames must be at least 1. Received: \(0, 2\)"
    ):
        video.prefix_means(np.zeros((1, 3)), (0, 2))
    for observed in (-1, 4):
        with pytest.raises(
            UserError,
            match=(
                "`num_observed` must be at least 0 and less than the 4 frames given. "
                f"Received: {observed}"
            ),
        ):
            video.prediction_scores(image, recon, num_observed=observed)
    with pytest.raises(UserError, match="`masks` and `true` must be given together"):
        video.prediction_scores(image, recon, masks)
    with pytest.raises(
        UserError,
        match=r"`masks` must have the clips and frames of `image`, \(3, 4\). Received: \(3, 2\)",
    ):
        video.prediction_scores(image, recon, masks[:, 2:], true[:, 2:], num_observed=2)
