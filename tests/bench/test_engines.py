"""The table of engines from made-up results. (Real ones are in tests/launch/test_check_engines.py.)"""

import numpy as np
import pytest

from tfobj.bench import engines

FACTS = {
    "steps_per_second": 10.0,
    "loss": 0.5,
    "num_replicas": 2,
    "replicas_identical": True,
    "clipped": 1.0,
    "moved": 1e-2,
}


@pytest.fixture
def compare(tiny, monkeypatch):
    """Returns a function that compares made-up results: compare([(facts, weight), ...])."""

    def run(results, also_xla=False):
        answers = iter(results)

        def train(engine, task):
            facts, weight = next(answers)
            return {**FACTS, **facts}, {"w": np.array([1.0, weight])}

        monkeypatch.setattr(engines, "_train", train)
        return engines.compare(tiny(**{"train.clip_norm": 0.1}), steps=2, also_xla=also_xla)

    return run


def test_equal_within_tolerance(compare):
    report = compare([({"num_replicas": 1}, 2.0), ({}, 2.0), ({}, 2.0 + 1e-4)])
    assert report["equal"] and [row["difference"] for row in report["rows"]] == [
        0.0,
        0.0,
        pytest.approx(1e-4),
    ]
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
    assert not report["equal"] and [row["equal"] for row in report["rows"]] == [True, False, True]
    lines = engines.format_report(report).splitlines()
    assert (
        lines[2].endswith("NOT EQUAL")
        and shown in lines[2]
        and lines[-1] == "NOT all engines make the same run."
    )


def test_compilers_are_not_engines(compare):
    """Rows with XLA are held against one device with XLA; how far that is from the graph is told."""
    report = compare(
        [({}, 2.0), ({}, 2.0), ({}, 2.0), ({}, 2.5), ({}, 2.5), ({}, 2.0)], also_xla=True
    )
    assert [row["equal"] for row in report["rows"]] == [True] * 5 + [False]
    assert (
        "One device with XLA differs from one with the graph by 5.0e-01"
        in engines.format_report(report)
    )


def test_preset_is_made_to_tell_engines_apart():
    experiment, remarks = engines.make_experiment(
        "slot_attention", "tetris", "paper", {"train.warmup_steps": 100}
    )
    assert (
        experiment.train.warmup_steps,
        experiment.train.clip_norm,
        experiment.data.num_train,
    ) == (0, 0.1, 512) and len(remarks) == 2
    kept, remarks = engines.make_experiment(
        "iodine", "tetris", "paper", {"train.warmup_steps": 0, "train.clip_norm": 3.0}
    )
    assert kept.train.clip_norm == 3.0 and remarks == []
