"""A run that is killed at random moments and resumed has, bit for bit, the same weights."""

import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from tfobj.training.checkpoint import load_run
from tfobj.training.workdir import read_metrics

ROOT = pathlib.Path(__file__).resolve().parents[2]
TINY = {
    "slot_attention": [
        "model.encoder_channels=8,8",
        "model.encoder_kernels=3",
        "model.encoder_strides=2,2",
        "model.decoder_channels=8",
        "model.decoder_kernels=3",
        "model.slot_size=8",
        "model.num_steps=1",
        "train.adam_epsilon_placement=pytorch",
        "train.ema_decay=0.9",
    ],
    "iodine": [
        "model.decoder_channels=8",
        "model.decoder_kernel=3",
        "model.refinement_channels=8",
        "model.refinement_mlp=8",
        "model.num_steps=1",
        "model.latent_size=4",
        "model.lstm_size=8",
    ],
}


def command(model, workdir, data_dir, steps=60, checkpoint_every=10):
    """Returns the command line of a small run."""
    settings = [
        *TINY[model],
        "data.num_train=200",
        "data.num_test=20",
        f"train.steps={steps}",
        "train.batch_size=4",
        "train.log_every=5",
        "train.steps_per_call=5",
        "train.eval_every=20",
        f"train.checkpoint_every={checkpoint_every}",
        "eval.num_scenes=8",
        "eval.batch_size=8",
    ]
    return [
        sys.executable,
        os.fspath(ROOT / "launch" / "train.py"),
        f"--model={model}",
        "--dataset=tetris",
        f"--workdir={workdir}",
        f"--data_dir={data_dir}",
        "--strategy=cpu",
        *[f"--set={s}" for s in settings],
    ]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


def steps_of(logdir, tag):
    """Returns the steps of a tag in all TensorBoard files of a folder, however often they occur."""
    return sorted(
        event.step
        for path in logdir.iterdir()
        for event in tf.compat.v1.train.summary_iterator(str(path))
        for value in event.summary.value
        if value.tag == tag
    )


@pytest.mark.parametrize("steps", [20, pytest.param(60, marks=pytest.mark.slow)])
def test_killed_and_resumed_equals_uninterrupted(steps, tmp_path, data_dir):
    """With a checkpoint every 10 steps: one kill or more by default, many in the slow test."""
    whole = command("slot_attention", tmp_path / "whole", data_dir, steps)
    subprocess.run(whole, check=True, capture_output=True)
    kills = 0
    rng = random.Random()
    while kills < 20:
        process = subprocess.Popen(
            command("slot_attention", tmp_path / "killed", data_dir, steps),
            stderr=subprocess.DEVNULL,
        )
        # Wait for the first checkpoint that this process wrote, then for a random moment, often
        # within the next write.
        before = set((tmp_path / "killed" / "checkpoints").glob("step-*.index"))
        while (
            process.poll() is None
            and set((tmp_path / "killed" / "checkpoints").glob("step-*.index")) <= before
        ):
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.3))
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
    process.wait()
    assert process.returncode == 0
    assert kills >= 1

    whole = load_run(tmp_path / "whole")
    killed = load_run(tmp_path / "killed")
    assert whole.step == killed.step == steps
    for a, b in zip(whole.model.variables, killed.model.variables, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy(), err_msg=a.path)

    # Rates are those of the machine, all other numbers those of the run.
    without_rates = [
        [
            {k: v for k, v in row.items() if "per_second" not in k}
            for row in read_metrics(tmp_path / name)
        ]
        for name in ("whole", "killed")
    ]
    assert without_rates[0] == without_rates[1]

    # TensorBoard has every one of them, and once.
    steps = [row["step"] for row in without_rates[0] if row["split"] == "train"]
    for name in ("whole", "killed"):
        assert steps_of(tmp_path / name / "tensorboard" / "train", "loss") == steps


def test_sigterm_saves_and_leaves_cleanly(tmp_path, data_dir):
    with subprocess.Popen(
        command("iodine", tmp_path, data_dir, steps=100_000, checkpoint_every=100_000),
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        for line in process.stderr:
            if line.startswith("step"):
                break
        process.send_signal(signal.SIGTERM)
        rest = process.stderr.read()
    assert process.returncode == 0, rest
    assert "Stopped by SIGTERM" in rest
    assert load_run(tmp_path).step >= 5
