"""The table of engines from made-up results. (Real ones: tests/launch/test_check_engines.py.)"""

import json

import numpy as np
import pytest

from tfobj.bench import engines
from tfobj.training.experiment import resolve

FACTS = {
    "steps_per_second": 10.0,
    "loss": 0.5,
    "num_replicas": 2,
    "replicas_identical": True,
    "clipped": 1.0,
    "moved": 1e-2,
}


@pytest.fixture
def compare(monkeypatch):
    """Returns a function that compares made-up results: compare([(facts, weight), ...])."""
    experiment = resolve("slot_attention", "tetris", overrides={"train.clip_norm": 0.1})

    def run(results, also_xla=False):
        answers = iter(results)

        def train(engine, task):
            facts, weight = next(answers)
            return {**FACTS, **facts}, {"w": np.array([1.0, weight])}

        monkeypatch.setattr(engines, "_train", train)
        return engines.compare(experiment, steps=2, also_xla=also_xla)

    return run


def test_equal_within_tolerance(compare):
    report = compare([({"num_replicas": 1}, 2.0), ({}, 2.0), ({}, 2.0 + 1e-4)])
    assert report["equal"]
    differences = [row["difference"] for row in report["rows"]]
    assert differences == [0.0, 0.0, pytest.approx(1e-4)]
    assert engines.format_report(report).endswith("All engines make the same run.")


@pytest.mark.parametrize(
    "facts, weight, shown",
    [
        ({}, 2.001, "identical"),
        ({"replicas_identical": False}, 2.0, "DIFFER"),
        ({}, float("nan"), "nan"),
    ],
)
def test_one_that_differs_is_marked(compare, facts, weight, shown):
    report = compare([({}, 2.0), (facts, weight), ({}, 2.0)])
    assert not report["equal"]
    assert [row["equal"] for row in report["rows"]] == [True, False, True]
    lines = engines.format_report(report).splitlines()
    assert lines[2].endswith("NOT EQUAL")
    assert shown in lines[2]
    assert lines[-1] == "NOT all engines make the same run."


def test_compilers_are_not_engines(compare):
    """Rows with XLA are compared with one device with XLA; its distance from the graph is told."""
    report = compare(
        [({}, 2.0), ({}, 2.0), ({}, 2.0), ({}, 2.5), ({}, 2.5), ({}, 2.0)], also_xla=True
    )
    assert [row["equal"] for row in report["rows"]] == [True] * 5 + [False]
    assert (
        "One device with XLA differs from one with the graph by 5.0e-01"
        in engines.format_report(report)
    )


def test_preset_is_made_to_tell_engines_apart():
    overrides = {"train.warmup_steps": 100}
    experiment, remarks = engines.make_experiment("slot_attention", "tetris", "paper", overrides)
    assert experiment.train.warmup_steps == 0
    assert experiment.train.clip_norm == 0.1
    assert experiment.data.num_train == 512
    assert len(remarks) == 2


def test_settings_that_tell_engines_apart_are_kept():
    overrides = {"train.warmup_steps": 0, "train.clip_norm": 3.0}
    experiment, remarks = engines.make_experiment("iodine", "tetris", "paper", overrides)
    assert experiment.train.clip_norm == 3.0
    assert remarks == []


def test_processes_of_an_engine_get_their_devices_and_addresses(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", "of another run")
    one, mirrored, workers = engines.ENGINES
    (environment,) = engines._environments(one, gpus=False)
    assert environment["CUDA_VISIBLE_DEVICES"] == "-1"
    assert environment["TF_CONFIG"] is None
    (environment,) = engines._environments(mirrored, gpus=True)
    assert environment["CUDA_VISIBLE_DEVICES"] == "0,1"
    first, second = engines._environments(workers, gpus=True)
    assert first["CUDA_VISIBLE_DEVICES"] == "0"
    assert second["CUDA_VISIBLE_DEVICES"] == "1"
    clusters = [json.loads(environment["TF_CONFIG"]) for environment in (first, second)]
    assert clusters[0]["cluster"] == clusters[1]["cluster"]
    assert [cluster["task"]["index"] for cluster in clusters] == [0, 1]
