"""`launch/evaluate.py` on a small trained run: files, table, figures, and errors."""

import csv
import html
import json
import math

import command
import numpy as np
import pytest
import tensorflow as tf
from command import assert_mistake

from tfobj.launch import evaluate
from tfobj.training import loop
from tfobj.training.evaluation import Evaluator
from tfobj.training.experiment import resolve
from tfobj.training.strategy import make_strategy

TINY = {
    "model.encoder_channels": "8,8",
    "model.encoder_kernels": "3",
    "model.encoder_strides": "2,2",
    "model.decoder_channels": "8",
    "model.decoder_kernels": "3",
    "model.slot_size": 8,
    "data.num_train": 32,
    "data.num_test": 12,
    "train.steps": 4,
    "train.log_every": 2,
    "train.batch_size": 4,
    "eval.batch_size": 8,
    "eval.num_scenes": 8,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    loop.train(
        resolve("slot_attention", "tetris", overrides=TINY),
        folder / "run",
        make_strategy("cpu"),
        data_dir=folder / "data",
    )
    return folder


def call(run, **settings):
    """Runs the command in this process, with settings as flags."""
    settings = {"workdir": run / "run", "data_dir": run / "data", **settings}
    arguments = [f"--{name}={value}" for name, value in settings.items()]
    return command.run("evaluate", *arguments, cwd=run)


def test_writes_every_file_and_prints_the_protocol(run):
    finished = call(run)
    assert finished.returncode == 0, finished.stderr
    printed = finished.stdout
    result = json.loads((run / "run" / "evaluation.json").read_text())
    assert (
        result["protocol"].startswith("tetris_32_12/test: scenes 0-11")
        and result["protocol"] in printed
    )
    assert result["failed_scenes"] == 0
    assert result["num_scenes"] == 12 and result["step"] == 4 and result["seed"] == 0
    for name in ("fg_ari", "ari", "msc", "miou", "mse", "fg_ari_std"):
        assert math.isfinite(result[name])
    rows = list(csv.DictReader((run / "run" / "evaluation.csv").read_text().splitlines()))
    assert len(rows) == 12
    assert sum(float(r["fg_ari"]) for r in rows) / 12 == pytest.approx(result["fg_ari"])
    for name in ("report.html", "figures/decomposition_test.png", "figures/refinement_test.png"):
        assert (run / "run" / name).stat().st_size > 1000

    page = (run / "run" / "report.html").read_text()
    for name in ("command", "hardware", "training_minutes"):
        assert f"<td>{html.escape(str(result[name]))}</td>" in page
    assert "Learning curves" in page and "What the scores mean" in page


def test_scores_do_not_depend_on_the_batch_size(run):
    results = []
    for batch_size in (5, 12):
        call(run, batch_size=batch_size, out=str(run / f"batch{batch_size}"))
        results.append(json.loads((run / f"batch{batch_size}" / "evaluation.json").read_text()))
    for name in ("fg_ari", "mse", "miou"):
        assert results[0][name] == pytest.approx(results[1][name], abs=1e-6)


def test_slots_and_steps_can_be_changed(run):
    call(run, num_slots=6, num_steps=2, out=str(run / "other"))
    result = json.loads((run / "other" / "evaluation.json").read_text())
    assert (result["num_slots"], result["num_steps"]) == (6, 2)


def test_failed_scenes_are_counted_everywhere(run, monkeypatch):
    """A model that breaks down in scene 3, and says nothing of it."""
    forward = Evaluator.forward

    def break_down(self, image, first_scene=0):
        outputs = forward(self, image, first_scene)
        place = np.arange(first_scene, first_scene + len(image)) == 3
        place = tf.constant(place.reshape(-1, 1, 1, 1, 1))
        masks = tf.where(place, np.float32(np.nan), outputs.masks)
        recon = tf.where(place[:, 0], np.float32(np.nan), outputs.recon)
        return outputs._replace(masks=masks, recon=recon)

    monkeypatch.setattr(Evaluator, "forward", break_down)
    out = run / "failing"
    finished = call(run, out=str(out))
    assert finished.returncode == 0, finished.stderr
    lines = {line.split()[0]: line for line in finished.stdout.splitlines() if line}
    assert lines["failed_scenes"].split() == ["failed_scenes", "1"]
    assert "1 failed, counted as -0.5" in lines["fg_ari"]
    assert lines["mse"].split()[1] == "inf" and "1 failed" in lines["mse"]

    result = json.loads((out / "evaluation.json").read_text(), parse_constant=pytest.fail)
    assert result["failed_scenes"] == result["failed_mse"] == result["failed_fg_ari"] == 1
    assert result["mse"] is None
    rows = list(csv.DictReader((out / "evaluation.csv").read_text().splitlines()))
    assert [row["failed"] for row in rows] == ["0"] * 3 + ["1"] + ["0"] * 8
    assert sum(float(row["fg_ari"]) for row in rows) / 12 == pytest.approx(result["fg_ari"])
    assert float(rows[3]["fg_ari"]) == -0.5 and float(rows[3]["mse"]) == math.inf
    page = (out / "report.html").read_text()
    assert "1 of 12 scenes failed" in page
    assert page.index("Worst scenes") < page.index("Scenes 3, ") < page.index("Median scenes")


def test_table_ends_with_averages_over_objects_and_pairs(capsys):
    facts = dict.fromkeys(("model", "protocol", "step", "num_slots", "num_steps"), 0)
    summary = {
        "num_scenes": 2,
        "num_objects": 2.0,
        "num_objects_std": 0.5,
        "dpa_30": 0.75,
        "dpa_30_std": 0.25,
        "aiou_objects": 4,
        "dpa_30_pairs": 3,
        "dpa_30_micro": 2 / 3,
        "dpa_30_visible": 1.0,
    }
    evaluate.print_table(facts, summary)
    *_, means, totals = capsys.readouterr().out.split("\n\n")
    assert [line.split() for line in means.splitlines()] == [
        ["metric", "mean", "std"],
        ["num_objects", "2", "0.5"],
        ["dpa_30", "0.75", "0.25"],
    ]
    assert [line.split() for line in totals.splitlines()] == [
        ["aiou_objects", "4"],
        ["dpa_30_pairs", "3"],
        ["dpa_30_micro", "0.66667"],
        ["dpa_30_visible", "1"],
    ]
    assert all(
        name in evaluate.__doc__
        for name in (
            "object_miou",
            "aiou",
            "dpa_0, 30, 90",
            "position_error",
            "dpa_30_visible",
            "dpa_30_hidden_pairs",
        )
    )


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"split": "tset"}, "Did you mean 'test'"),
        ({"num_slots": 1}, "`num_slots` must be at least 2"),
        ({"num_steps": 0}, "`num_steps` must be at least 1"),
        ({"num_scenes": 13}, "1 ... 12"),
        ({"workdir": "/nowhere"}, "no config.json"),
    ],
)
def test_mistakes_are_named(run, settings, message):
    assert_mistake(call(run, **settings), message)
