"""The accumulator: batches do not matter, padding is dropped, undefined scenes are counted, files are whole."""

import csv

import numpy as np
import pytest
import tensorflow as tf

from tfobj.errors import UserError
from tfobj.metrics import clustering, matching, overlap, scores


def scenes(num_scenes=7, seed=0, frames=None):
    rng = np.random.default_rng(seed)
    lead = (num_scenes,) if frames is None else (num_scenes, frames)
    true = rng.integers(0, 4, (*lead, 8, 8)).astype(np.uint8)
    true[0] = 0
    masks = np.moveaxis(np.eye(5, dtype=np.float32)[np.where(rng.random(true.shape) < 0.7, true, 4)], -1, -3)[..., None]
    image = rng.random((*lead, 8, 8, 3)).astype(np.float32)
    recon = image + 0.1 * rng.standard_normal(image.shape).astype(np.float32)
    return {"image": image, "recon": recon, "masks": masks, "true_mask": true}


def feed(scorer, data, sizes, **kwargs):
    start = 0
    for size in sizes:
        stop = start + size
        scorer.update(**{k: v[start:stop] for k, v in data.items()}, **{k: v[start:stop] for k, v in kwargs.items()})
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
    true, predicted = data["true_mask"], clustering.segment_ids(data["masks"])
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
    assert set(summary) == {"num_scenes", "mse", "mse_std", "psnr", "psnr_std"}
    np.testing.assert_allclose(summary["mse"], np.square(data["recon"] - data["image"]).mean(), rtol=1e-5)


def test_videos_report_both_levels():
    data = scenes(5, frames=3)
    table = feed(scores.SceneScorer(), data, [5]).table()
    true, predicted = data["true_mask"], clustering.segment_ids(data["masks"])
    for name, foreground_only in (("fg_ari", True), ("ari", False)):
        kwargs = {"foreground_only": foreground_only}
        np.testing.assert_array_equal(table[name], clustering.adjusted_rand_index(true, predicted, **kwargs))
        frame = clustering.adjusted_rand_index(true, predicted, level="frame", **kwargs)
        np.testing.assert_array_equal(table[f"{name}_frame"], frame)


def test_scenes_without_any_object_give_nan_not_a_warning():
    data = scenes(2)
    data["true_mask"][:] = 0
    summary = feed(scores.SceneScorer(), data, [2]).summary()
    assert np.isnan(summary["fg_ari"]) and np.isnan(summary["miou_micro"]) and np.isnan(summary["fg_ari_low"])
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
    assert scores.SceneScorer().summary() == {"num_scenes": 0}


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
