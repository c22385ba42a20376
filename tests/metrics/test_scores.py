"""SceneScorer: batches do not matter, padding is dropped, undefined scenes are counted."""

import csv

import numpy as np
import pytest
import tensorflow as tf

from tfobj.errors import UserError
from tfobj.metrics import amodal, clustering, depth_order, matching, overlap, scores


def scenes(num_scenes=7, seed=0, frames=None):
    rng = np.random.default_rng(seed)
    lead = (num_scenes,) if frames is None else (num_scenes, frames)
    true = rng.integers(0, 4, (*lead, 8, 8)).astype(np.uint8)
    true[0] = 0
    masks = np.moveaxis(
        np.eye(5, dtype=np.float32)[np.where(rng.random(true.shape) < 0.7, true, 4)], -1, -3
    )[..., None]
    image = rng.random((*lead, 8, 8, 3)).astype(np.float32)
    recon = image + 0.1 * rng.standard_normal(image.shape).astype(np.float32)
    return {"image": image, "recon": recon, "masks": masks, "true_mask": true}


def feed(scorer, data, sizes, **kwargs):
    start = 0
    for size in sizes:
        stop = start + size
        scorer.update(
            **{k: v[start:stop] for k, v in data.items()},
            **{k: v[start:stop] for k, v in kwargs.items()},
        )
        start = stop
    return scorer


def test_batching_does_not_matter():
    data = scenes()
    joined = feed(scores.SceneScorer(), data, [7])
    split = feed(scores.SceneScorer(), data, [3, 3, 1])
    assert joined.summary() == split.summary()
    for name, values in joined.table().items():
        np.testing.assert_array_equal(values, split.table()[name])


def test_padding_is_dropped():
    data = scenes(4)
    padded = {k: np.concatenate([v, np.repeat(v[-1:], 2, 0)]) for k, v in data.items()}
    scorer = scores.SceneScorer()
    scorer.update(**padded, valid=[1, 1, 1, 1, 0, 0], extra={"kl": np.arange(6.0)})
    reference = scores.SceneScorer()
    reference.update(**data, extra={"kl": np.arange(4.0)})
    assert scorer.summary() == reference.summary()
    assert scorer.summary()["kl"] == 1.5


def test_columns_are_the_functions_of_the_package():
    data = scenes()
    table = feed(scores.SceneScorer(), data, [7]).table()
    true = data["true_mask"]
    predicted = clustering.segment_ids(data["masks"])
    for name, expected in {
        "fg_ari": clustering.adjusted_rand_index(true, predicted, foreground_only=True),
        "ari": clustering.adjusted_rand_index(true, predicted),
        "msc": overlap.segmentation_covering(true, predicted),
        "msc_all": overlap.segmentation_covering(true, predicted, foreground_only=False),
        "sc": overlap.segmentation_covering(true, predicted, size_weighted=True),
        "miou": matching.mean_matched_iou(true, predicted),
    }.items():
        np.testing.assert_array_equal(table[name], expected, err_msg=name)
    assert table["num_objects"].tolist() == [0, 3, 3, 3, 3, 3, 3]


def test_summary_counts_undefined_scenes_and_brackets_the_mean():
    data = scenes()
    summary = feed(scores.SceneScorer(), data, [4, 3]).summary()
    table = feed(scores.SceneScorer(), data, [7]).table()
    assert summary["num_scenes"] == 7
    assert summary["undefined_fg_ari"] == summary["undefined_miou"] == 1
    assert "undefined_ari" not in summary
    np.testing.assert_allclose(summary["fg_ari"], np.nanmean(table["fg_ari"]))
    np.testing.assert_allclose(summary["fg_ari_std"], np.nanstd(table["fg_ari"]))
    assert summary["fg_ari_low"] < summary["fg_ari"] < summary["fg_ari_high"]
    predicted = clustering.segment_ids(data["masks"])
    micro = matching.mean_matched_iou(data["true_mask"], predicted, average="object")
    np.testing.assert_allclose(summary["miou_micro"], micro)


def test_empty_foreground_policy_is_an_argument():
    summary = feed(scores.SceneScorer(empty_value=1.0), scenes(), [7]).summary()
    assert "undefined_fg_ari" not in summary and "undefined_miou" in summary


def test_without_masks_only_the_reconstruction_is_scored():
    data = scenes()
    del data["true_mask"]
    summary = feed(scores.SceneScorer(), data, [7]).summary()
    assert set(summary) == {"num_scenes", "failed_scenes", "mse", "mse_std", "psnr", "psnr_std"}
    np.testing.assert_allclose(
        summary["mse"], np.square(data["recon"] - data["image"]).mean(), rtol=1e-5
    )


def test_videos_report_both_levels():
    data = scenes(5, frames=3)
    table = feed(scores.SceneScorer(), data, [5]).table()
    true = data["true_mask"]
    predicted = clustering.segment_ids(data["masks"])
    for name, foreground_only in (("fg_ari", True), ("ari", False)):
        kwargs = {"foreground_only": foreground_only}
        np.testing.assert_array_equal(
            table[name], clustering.adjusted_rand_index(true, predicted, **kwargs)
        )
        frame = clustering.adjusted_rand_index(true, predicted, level="frame", **kwargs)
        np.testing.assert_array_equal(table[f"{name}_frame"], frame)


def test_scenes_without_any_object_give_nan_not_a_warning():
    data = scenes(2)
    data["true_mask"][:] = 0
    summary = feed(scores.SceneScorer(), data, [2]).summary()
    assert np.isnan(summary["fg_ari"])
    assert np.isnan(summary["miou_micro"])
    assert np.isnan(summary["fg_ari_low"])
    assert summary["undefined_fg_ari"] == 2


def test_tensors_of_a_half_precision_model_are_scored():
    data = scenes(3)
    reference = scores.SceneScorer()
    reference.update(**data)
    scorer = scores.SceneScorer()
    masks = tf.constant(data["masks"], tf.bfloat16)
    scorer.update(**{**data, "recon": tf.constant(data["recon"], tf.bfloat16), "masks": masks})
    assert scorer.summary()["fg_ari"] == reference.summary()["fg_ari"]
    np.testing.assert_allclose(scorer.summary()["mse"], reference.summary()["mse"], rtol=1e-2)


def test_empty_scorer():
    assert scores.SceneScorer().summary() == {"num_scenes": 0, "failed_scenes": 0}


def test_csv_holds_the_table_exactly(tmp_path):
    scorer = feed(scores.SceneScorer(), scenes(), [7])
    path = tmp_path / "tables" / "scenes.csv"
    scorer.write_csv(path)
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["scene"] for row in rows] == [str(i) for i in range(7)]
    for name, values in scorer.table().items():
        np.testing.assert_array_equal([float(row[name]) for row in rows], values)
    assert [p.name for p in path.parent.iterdir()] == ["scenes.csv"]


def test_bootstrap_is_repeatable_and_has_the_right_width():
    values = np.random.default_rng(1).normal(0.9, 0.1, 400)
    low, high = scores.bootstrap_interval(values)
    assert (low, high) == scores.bootstrap_interval(np.append(values, np.nan))
    np.testing.assert_allclose(high - low, 2 * 1.96 * values.std() / np.sqrt(400), rtol=0.1)
    assert scores.bootstrap_interval([0.5]) == (0.5, 0.5)


def depth_scene(**changes):
    """Returns M14 as a scene of one line with a background slot.

    Two objects have extents 0-9 and 8-17 and are predicted as 1-9 and 8-19, the farther in front.
    """
    true_sets = np.zeros((1, 3, 1, 20), np.uint8)
    predicted = np.zeros((1, 3, 1, 20, 1), np.float32)
    true_sets[0, 0] = 1
    true_sets[0, 1, 0, :10] = 1
    true_sets[0, 2, 0, 8:18] = 1
    predicted[0, 0, 0, 1:10] = 0.9
    predicted[0, 1, 0, 8:] = 0.4
    predicted[0, 2] = 1.0
    true_mask = np.array([[[1] * 10 + [2] * 8 + [0] * 2]], np.uint8)
    image = np.zeros((1, 1, 20, 3), np.float32)
    scene = {
        "image": image,
        "recon": image,
        "masks": np.full((1, 3, 1, 20, 1), 1 / 3, np.float32),
        "true_mask": true_mask,
        "amodal_masks": predicted,
        "depths": np.array([[0.9, 0.4, 1.0]], np.float32),
        "positions": np.array([[[0, 5], [0, 12.5], [0, 0]]], np.float32),
        "background_slot": -1,
        "true_amodal_masks": true_sets,
        "true_depth": np.array([[0, 1, 2]], np.float32),
    }
    return {**scene, **changes}


def test_depth_columns_are_those_of_m14(monkeypatch):
    monkeypatch.setattr(depth_order, "MIN_OVERLAPS", (0, 1, 30))
    scorer = scores.SceneScorer()
    scorer.update(**depth_scene())
    table = scorer.table()
    summary = scorer.summary()
    expected = {
        "object_miou": 41 / 60,
        "aiou": 13 / 15,
        "dpa_0": 0.0,
        "dpa_1": 0.0,
        "dpa_30": np.nan,
        "position_error": (0.5 + 0.0) / 2,
    }
    for name, value in expected.items():
        np.testing.assert_allclose(table[name], [value], rtol=1e-12, err_msg=name)
        np.testing.assert_allclose(summary[f"{name}_micro"], value, rtol=1e-12, err_msg=name)
    assert summary["undefined_dpa_30"] == 1
    assert summary["dpa_30_pairs"] == 0
    assert np.isnan(summary["dpa_30_visible"])
    assert summary["aiou_objects"] == summary["position_error_objects"] == 2
    assert summary["dpa_1_pairs"] == 1
    right = scores.SceneScorer()
    right.update(**depth_scene(depths=np.array([[0.4, 0.9, 1.0]])))
    assert right.summary()["dpa_1"] == 1.0


def test_averages_over_objects_and_pairs():
    """Scenes without objects, with two in order, and with three of which one is hidden.

    They have 4 pairs, 2 of them with the hidden object.
    """
    sets = np.zeros((3, 4, 1, 12), np.uint8)
    sets[:, 0] = 1
    sets[1, 1, 0, :4] = 1
    sets[1, 2, 0, 3:8] = 1
    sets[2, 1, 0, :4] = 1
    sets[2, 2, 0, 1:3] = 1
    sets[2, 3, 0, 6:] = 1  # the second lies behind the first
    depth = np.array([[0, 1, 2, 3]] * 3, np.float32)
    mask = amodal.modal_ids(sets[:, 1:], depth[:, 1:]).astype(np.uint8)
    image = np.zeros((3, 1, 12, 3), np.float32)
    data = {
        "image": image,
        "recon": image,
        "masks": np.ones((3, 3, 1, 12, 1)),
        "true_mask": mask,
        "amodal_masks": sets[:, 1:, ..., None],
        "depths": depth[:, 1:],
        "positions": depth_order.box_centres(sets[:, 1:]),
        "true_amodal_masks": sets,
        "true_depth": depth,
    }
    joined = feed(scores.SceneScorer(), data, [3])
    split = feed(scores.SceneScorer(), data, [1, 2])
    summary = joined.summary()
    assert all(
        np.array_equal(value, split.summary()[name], equal_nan=True)
        for name, value in summary.items()
    )
    np.testing.assert_allclose(joined.table()["dpa_0"], [np.nan, 1.0, 1 / 3])
    assert summary["dpa_0_pairs"] == 4
    assert summary["dpa_0_hidden_pairs"] == 2
    assert summary["dpa_0"] == pytest.approx(2 / 3)
    assert summary["dpa_0_micro"] == 0.5 and summary["dpa_0_visible"] == 1.0
    assert summary["aiou_micro"] == summary["object_miou_micro"] == 1.0
    assert summary["aiou_objects"] == 5
    assert summary["position_error_micro"] == 0.0 and summary["position_error_objects"] == 4
    assert summary["undefined_aiou"] == summary["undefined_object_miou"] == 1


def test_depth_columns_follow_what_is_known():
    depth_columns = {"object_miou", "aiou", "dpa_0", "dpa_30", "dpa_90", "position_error"}
    for changes, missing in (
        ({}, set()),
        ({"positions": None}, {"position_error"}),
        ({"true_amodal_masks": None}, depth_columns - {"object_miou"}),
        ({"amodal_masks": None}, depth_columns),
        ({"true_mask": None}, depth_columns),
    ):
        scorer = scores.SceneScorer()
        scorer.update(**depth_scene(**changes))
        assert depth_columns - set(scorer.table()) == missing, changes
    # The background's extent is the whole frame: were it an object, it would hide what lies behind
    # depth 1.
    with_background = scores.SceneScorer()
    without = scores.SceneScorer()
    with_background.update(**depth_scene(background_slot=None, depths=np.array([[0.9, 0.4, 0.1]])))
    without.update(**depth_scene(depths=np.array([[0.9, 0.4, 0.1]])))
    assert with_background.table()["object_miou"] < 0.5 < without.table()["object_miou"]


def test_padding_and_unlabelled_pixels_have_no_extent():
    padded = {
        name: np.concatenate([value, value]) if isinstance(value, np.ndarray) else value
        for name, value in depth_scene().items()
    }
    scorer = scores.SceneScorer()
    reference = scores.SceneScorer()
    scorer.update(**padded, valid=[True, False])
    reference.update(**depth_scene())
    assert all(
        np.array_equal(value, scorer.summary()[name], equal_nan=True)
        for name, value in reference.summary().items()
    )
    ignoring = scores.SceneScorer()
    true_mask = depth_scene()["true_mask"].copy()
    true_mask[..., 18:] = 255
    true_mask[..., 0] = 255
    ignoring.update(**depth_scene(true_mask=true_mask))
    np.testing.assert_allclose(ignoring.table()["object_miou"], [(7 / 9 + 8 / 10) / 2])


def test_depth_errors():
    for changes, message in (
        ({"depths": None}, "`depths` must be given with `amodal_masks`"),
        (
            {"true_amodal_masks": np.ones((1, 2, 1, 20))},
            r"with N more than every id in `true_mask`, 2. Received: \(1, 2, 1, 20\)",
        ),
        (
            {"amodal_masks": np.ones((1, 3, 2, 20, 1))},
            r"`true_mask` must have the resolution of `amodal_masks`, \(2, 20\)",
        ),
        (
            {"amodal_masks": np.ones((1, 1, 3, 1, 20, 1))},
            r"`amodal_masks` must have shape \[B, K, H, W, 1\]",
        ),
    ):
        with pytest.raises(UserError, match=message):
            scores.SceneScorer().update(**depth_scene(background_slot=None, **changes))


def test_errors():
    data = scenes(2)
    scorer = scores.SceneScorer()
    with pytest.raises(UserError, match=r"`valid` must have shape \[2\]"):
        scorer.update(**data, valid=[True])
    with pytest.raises(UserError, match=r"`extra\['kl'\]` must have shape \[2\]"):
        scorer.update(**data, extra={"kl": 1.0})
    with pytest.raises(UserError, match="a name of its own"):
        scorer.update(**data, extra={"mse": np.zeros(2)})
    with pytest.raises(UserError, match="`true_mask` must have the resolution of `masks`"):
        scorer.update(**{**data, "true_mask": data["true_mask"][:, ::2]})
    scorer.update(**data)
    with pytest.raises(UserError, match=r"Received a change in: \['kl'\]"):
        scorer.update(**data, extra={"kl": np.zeros(2)})
