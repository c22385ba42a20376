"""Scoring a split: independent of the batch size, comparable between checkpoints."""

import numpy as np
import pytest

from tfobj.training.evaluation import Evaluator, validation_score
from tfobj.training.experiment import build_model


@pytest.fixture
def model(tiny):
    return build_model(tiny())


def test_scores_do_not_depend_on_the_batch_size(model, scenes):
    """A scene draws the noise of its place in the split, and a last batch that is not full is filled with scenes that do not count."""
    tables = [Evaluator(model, size).score(scenes).summary() for size in (8, 3)]
    assert tables[0]["num_scenes"] == tables[1]["num_scenes"] == 8
    for name, value in tables[0].items():
        np.testing.assert_allclose(tables[1][name], value, rtol=1e-4, atol=1e-6, err_msg=name)


def test_scores_repeat_and_depend_on_the_seed(model, scenes):
    mse = [Evaluator(model, 4, seed=seed).score(scenes).summary()["mse"] for seed in (1, 1, 2)]
    assert mse[0] == mse[1] != mse[2]


def test_slots_and_steps_at_test_time(model, scenes):
    image = scenes.image[:4].astype(np.float32) / 255
    outputs = Evaluator(model, 4, num_slots=5, num_steps=3).forward(image)
    assert outputs.masks.shape == (4, 5, 10, 12, 1)


def test_health_is_plain_numbers(model, scenes):
    health = Evaluator(model, 4).health(scenes.image[:4].astype(np.float32) / 255)
    assert 0 <= health["active_slots"] <= 2 and all(isinstance(value, float) for value in health.values())


def test_graph_of_the_forward_pass(model, scenes):
    function = Evaluator(model, 4).trace(scenes.image[:4].astype(np.float32))
    assert function.structured_outputs.masks.shape == (4, 2, 10, 12, 1)


@pytest.mark.parametrize("summary, metric, expected", [
    ({"fg_ari": 0.7, "mse": 0.1}, "fg_ari", 0.7), ({"fg_ari": float("nan"), "mse": 0.1}, "fg_ari", -0.1), ({"mse": 0.1}, "fg_ari", -0.1),
    ({"fg_ari": 0.7, "mse": 0.1}, "mse", -0.1)])
def test_number_that_chooses_the_best(summary, metric, expected):
    assert validation_score(summary, metric) == expected
