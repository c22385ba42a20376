"""Scoring a split: independent of the batch size, comparable between checkpoints."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tfobj.data.packed import SceneArrays
from tfobj.datasets.generators import polygons
from tfobj.structs import SceneOutputs
from tfobj.training.evaluation import Evaluator, validation_score
from tfobj.training.experiment import build_model


@pytest.fixture
def model(tiny):
    return build_model(tiny())


def test_scores_do_not_depend_on_the_batch_size(model, scenes):
    """A scene draws the noise of its place in the split.

    A last batch that is not full is filled with scenes that do not count.
    """
    tables = [Evaluator(model, size).score(scenes).summary() for size in (8, 3)]
    assert tables[0]["num_scenes"] == tables[1]["num_scenes"] == 8
    for name, value in tables[0].items():
        np.testing.assert_allclose(tables[1][name], value, rtol=1e-4, atol=1e-6, err_msg=name)


def test_scores_repeat_and_depend_on_the_seed(model, scenes):
    mse = [Evaluator(model, 4, seed=seed).score(scenes).summary()["mse"] for seed in (1, 1, 2)]
    assert mse[0] == mse[1] != mse[2]


def test_slots_and_steps_may_differ_at_test_time(model, scenes):
    image = scenes.image[:4].astype(np.float32) / 255
    outputs = Evaluator(model, 4, num_slots=5, num_steps=3).forward(image)
    assert outputs.masks.shape == (4, 5, 10, 12, 1)


def test_health_is_plain_numbers(model, scenes):
    health = Evaluator(model, 4).health(scenes.image[:4].astype(np.float32) / 255)
    assert 0 <= health["active_slots"] <= 2
    assert all(isinstance(value, float) for value in health.values())


def test_the_graph_of_the_forward_pass_can_be_read(model, scenes):
    function = Evaluator(model, 4).trace(scenes.image[:4].astype(np.float32))
    assert function.structured_outputs.masks.shape == (4, 2, 10, 12, 1)


def polygon_scenes(num=5):
    """Scenes of polygons with full extents and depths, and a perfect model's answers."""
    drawn = polygons.scenes(np.arange(num))
    arrays = SceneArrays(
        drawn["image"],
        drawn["mask"],
        {"depth": drawn["depth"]},
        2,
        np.packbits(drawn["amodal_masks"], axis=-1),
    )
    slots = [2, 1, 0]  # the background is the last slot
    extents = drawn["amodal_masks"][:, slots, ..., None].astype(np.float32)
    share = (drawn["mask"][:, None] == np.array(slots)[:, None, None])[..., None].astype(np.float32)
    depths = np.where(np.array(slots) == 0, 9.0, drawn["depth"][:, slots]).astype(np.float32)
    return arrays, {
        "recon": drawn["image"].astype(np.float32) / 255,
        "masks": share,
        "slot_recons": share,
        "slots": depths[..., None],
        "amodal_masks": extents,
        "depths": depths,
        "positions": np.full((num, 3, 2), 31.5, np.float32),
    }


@pytest.mark.parametrize("background_slot", [-1, None])
def test_extents_and_depths_are_scored_where_model_and_data_have_them(
    model, monkeypatch, background_slot
):
    arrays, perfect = polygon_scenes()
    evaluator = Evaluator(model, 3)
    monkeypatch.setattr(type(model), "background_slot", background_slot)

    def forward(image, first_scene=0):
        rows = np.minimum(np.arange(first_scene, first_scene + len(image)), len(arrays) - 1)
        return SceneOutputs(**{name: tf.constant(value[rows]) for name, value in perfect.items()})

    monkeypatch.setattr(evaluator, "forward", forward)
    summary = evaluator.score(arrays).summary()
    visible = sum(len(np.unique(mask)) - 1 for mask in arrays.mask)
    assert summary["object_miou_micro"] == summary["aiou_micro"] == 1.0
    assert summary["aiou_objects"] == 10
    assert summary["dpa_0_visible"] == 1.0
    assert summary["dpa_0_pairs"] == 5
    assert summary["dpa_0_hidden_pairs"] == 10 - visible
    assert summary["position_error_objects"] == visible
    assert 0 < summary["position_error"] < 8
    columns = {"object_miou", "aiou", "dpa_0", "dpa_30", "dpa_90", "position_error"}
    plain = dataclasses.replace(arrays, amodal_masks=None, factors={})
    assert columns & set(evaluator.score(plain).table()) == {"object_miou"}
    del perfect["amodal_masks"]
    assert not columns & set(evaluator.score(arrays).table())


@pytest.mark.parametrize(
    "summary, metric, expected",
    [
        ({"fg_ari": 0.7, "mse": 0.1}, "fg_ari", 0.7),
        ({"fg_ari": float("nan"), "mse": 0.1}, "fg_ari", -0.1),
        ({"mse": 0.1}, "fg_ari", -0.1),
        ({"fg_ari": 0.7, "mse": 0.1}, "mse", -0.1),
        ({"elbo": float("-inf"), "failed_elbo": 1, "mse": 0.1}, "elbo", float("-inf")),
        ({"own": float("nan"), "failed_own": 1, "mse": 0.1}, "own", float("-inf")),
        ({"mse": float("inf"), "failed_mse": 1}, "fg_ari", float("-inf")),
    ],
)
def test_the_best_is_chosen_by_the_metric_or_else_by_the_mse(summary, metric, expected):
    assert validation_score(summary, metric) == expected
