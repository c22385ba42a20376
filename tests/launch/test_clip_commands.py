"""Clips from training to scores: growing clip lengths, restarts, scores, predictions, figures."""

import json

import command
import numpy as np
import pytest
from command import assert_mistake

from tfobj.training import loop
from tfobj.training.checkpoint import load_run
from tfobj.training.experiment import resolve
from tfobj.training.strategy import make_strategy
from tfobj.training.workdir import read_metrics

DATA = {
    "data.num_train": 6,
    "data.num_test": 3,
    "eval.num_scenes": 2,
    "eval.batch_size": 2,
    "eval.num_frames": 6,
}
RNEM = {
    **DATA,
    "train.steps": 4,
    "train.batch_size": 4,
    "train.log_every": 2,
    "train.eval_every": 4,
    "train.checkpoint_every": 2,
    "train.warmup_steps": 0,
    "train.cooldown_steps": 0,
    "model.num_slots": 3,
    "model.num_frames": 2,
    "model.curriculum": "(2,4)",
    "model.state_size": 6,
    "model.relation_size": 5,
    "model.attention_size": 4,
    "model.encoder_channels": "4,6",
    "model.encoder_hidden": "8",
    "model.decoder_hidden": "8",
    "model.decoder_channels": "6,4",
}
IODINE = {
    **DATA,
    "train.steps": 2,
    "train.batch_size": 2,
    "train.eval_every": 2,
    "train.warmup_steps": 0,
    "model.num_steps": 2,
    "model.latent_size": 4,
    "model.decoder_channels": "4,4",
    "model.refinement_channels": "4,4",
    "model.refinement_mlp": "8",
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def run(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("rnem") / "run"
    loop.train(
        resolve("rnem", "bouncing_balls", "quick", RNEM),
        folder,
        make_strategy("cpu"),
        data_dir=data,
    )
    return folder


def call(run, data, **settings):
    """Runs launch/evaluate.py in this process, with settings as flags."""
    settings = {"workdir": run, "data_dir": data, "batch_size": 2, **settings}
    arguments = [f"--{name}={value}" for name, value in settings.items()]
    return command.run("evaluate", *arguments, cwd=data)


def weights(run):
    return load_run(run).model.get_weights()


def test_longer_clips_come_in_smaller_batches(run):
    """4 clips of 2 frames, 2 of 4."""
    rows = [row for row in read_metrics(run) if row["split"] == "train"]
    np.testing.assert_allclose(
        [row["images_per_second"] / row["steps_per_second"] for row in rows], [4, 2], rtol=1e-6
    )


@pytest.mark.parametrize(
    "cuts", [(3,), pytest.param((1, 3), marks=pytest.mark.slow)], ids=["later", "every"]
)
def test_a_run_that_was_cut_in_a_stage_has_the_same_weights(run, data, tmp_path, cuts):
    """The first stage has clips of two frames, the later one, from step 2 on, of four."""
    for steps in (*cuts, RNEM["train.steps"]):
        loop.train(
            resolve("rnem", "bouncing_balls", "quick", {**RNEM, "train.steps": steps}),
            tmp_path,
            make_strategy("cpu"),
            data_dir=data,
        )
    for a, b in zip(weights(run), weights(tmp_path), strict=True):
        np.testing.assert_array_equal(a, b)


def test_scores_and_figures(run, data):
    finished = call(run, data, num_frames=12, num_observed=10)
    assert finished.returncode == 0, finished.stderr
    found = json.loads((run / "evaluation.json").read_text())
    assert {
        "fg_ari",
        "fg_ari_10",
        "fg_ari_frame_10",
        "mse_10",
        "mota",
        "mota_micro",
        "id_switches",
        "mse_ahead_1",
    } <= set(found)
    assert (found["num_frames"], found["num_observed"], found["num_scenes"]) == (
        12,
        10,
        3,
    ) and "mse_ahead_3" not in found
    names = {path.name for path in (run / "figures").iterdir()}
    assert {
        "filmstrip_test_0.png",
        "clip_test_0.gif",
        "prediction_test_0.png",
        "prediction_test_0.gif",
    } <= names
    assert "clips 0-2 of bouncing_balls" in finished.stdout


def test_a_model_of_pictures_sees_frames_and_runs_over_them(data, tmp_path):
    """IODINE frame by frame and SEQ-IODINE, with the same weights, on the same clips."""
    loop.train(
        resolve("iodine", "bouncing_balls", "quick", IODINE),
        tmp_path,
        make_strategy("cpu"),
        data_dir=data,
    )
    for out, settings in (
        ("frames", {}),
        ("sequence", {"sequential": True, "clamp": 10.0, "num_observed": 4}),
    ):
        assert (
            call(tmp_path, data, out=str(tmp_path / out), num_frames=6, **settings).returncode == 0
        )
    frames, sequence = (
        json.loads((tmp_path / out / "evaluation.json").read_text())
        for out in ("frames", "sequence")
    )
    assert (frames["model"], sequence["model"]) == ("iodine", "iodine_sequential") and frames[
        "mse"
    ] != sequence["mse"]
    assert "mse_ahead_1" in sequence and "mse_ahead_1" not in frames


def test_only_iodine_runs_sequentially(run, data):
    assert_mistake(
        call(run, data, sequential=True),
        "`--sequential` must go with a run of iodine on images. Received: a run of RNem.",
    )
