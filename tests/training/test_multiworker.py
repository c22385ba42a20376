"""Two processes that train together: the run of one device; refusals, deaths and signals."""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from tfobj.training.checkpoint import load_run
from tfobj.training.workdir import read_metrics

SCRIPT = pathlib.Path(__file__).with_name("multiworker_run.py")
CLIPPED = {"train.clip_norm": 1e-2, "train.learning_rate": 1e-3}
LONG = {
    **CLIPPED,
    "train.steps": 40,
    "train.log_every": 40,
    "train.eval_every": 40,
    "train.checkpoint_every": 4,
    "train.steps_per_call": 4,
}
TOLERANCE = 1e-5
"""Largest difference of a weight that has moved by a few 1e-3."""


@pytest.fixture
def start(tmp_path):
    """Returns a function that starts both workers.

    start(workdir, overrides of worker 0, other overrides of worker 1, pause, failing) -> processes
    """
    with contextlib.ExitStack() as stack:

        def run(workdir, overrides, others=None, pause=0.0, failing=""):
            with contextlib.ExitStack() as free:
                ports = [
                    free.enter_context(socket.create_server(("", 0))).getsockname()[1]
                    for _ in range(2)
                ]
            processes = []
            for index in range(2):
                config = {
                    "cluster": {"worker": [f"localhost:{port}" for port in ports]},
                    "task": {"type": "worker", "index": index},
                }
                settings = overrides
                if index == 1:
                    settings = {**overrides, **(others or {})}
                arguments = [str(workdir), json.dumps(settings), str(pause), failing]
                process = subprocess.Popen(
                    [sys.executable, str(SCRIPT), *arguments],
                    text=True,
                    env={**os.environ, "TF_CONFIG": json.dumps(config)},
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                )
                stack.callback(process.communicate)
                stack.callback(process.kill)
                processes.append(process)
            return processes

        yield run


def ends(processes):
    """Waits for both; returns [(status, stdout, stderr)]."""
    texts = [process.communicate(timeout=300) for process in processes]
    return [(process.returncode, *text) for process, text in zip(processes, texts, strict=True)]


def wait_for_checkpoint(workdir, processes):
    while not (
        workdir / "checkpoints" / "checkpoint"
    ).exists():  # TensorFlow's list, whose line makes a checkpoint count
        assert all(process.poll() is None for process in processes)
        time.sleep(0.02)


def largest_difference(workdir, expected):
    """Largest difference between a run's weights and `expected`, another run's folder."""
    a = load_run(workdir)
    b = load_run(expected)
    assert a.step == b.step
    return max(
        np.abs(x.numpy() - y.numpy()).max()
        for x, y in zip(a.model.variables, b.model.variables, strict=True)
    )


def test_two_workers_make_the_run_of_one_device(tmp_path, start, train_tiny):
    """With clipping, noise, and an epoch that ends within a batch."""
    processes = start(tmp_path / "two", CLIPPED)
    train_tiny(tmp_path / "one", **CLIPPED)
    (status, out, errors), (other_status, other_out, other_errors) = ends(processes)
    assert status == other_status == 0, errors + other_errors
    assert out == other_out == "finished at step 6, interrupted: False\n"
    # the chief reports
    assert "2 workers with 1 device each" in errors
    assert "loss" in errors
    assert "loss" not in other_errors
    assert largest_difference(tmp_path / "two", tmp_path / "one") < TOLERANCE
    rows = [read_metrics(tmp_path / name) for name in ("one", "two")]
    assert [(row["step"], row["split"]) for row in rows[0]] == [
        (row["step"], row["split"]) for row in rows[1]
    ]
    for one, two in zip(*rows, strict=True):
        for name in set(one) & {"loss", "grad_norm", "mse", "fg_ari", "health/active_slots"}:
            np.testing.assert_allclose(two[name], one[name], rtol=1e-4, atol=1e-6, err_msg=name)
    assert all(
        row["grad_norm"] > CLIPPED["train.clip_norm"] for row in rows[1] if row["split"] == "train"
    )


def test_other_settings_are_refused_on_both(tmp_path, start):
    results = ends(start(tmp_path / "run", {}, {"train.batch_size": 8}))
    for status, _, errors in results:
        assert status == 2, errors
        assert errors.count("error:") == 1, errors
        assert "Traceback" not in errors, errors
        assert "The workers differ (worker 0 -> worker 1: train.batch_size: 4 -> 8)" in errors
        assert "--print_config" in errors
    assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_worker_ends_all_and_a_restart_resumes(tmp_path, start, train_tiny, victim):
    processes = start(tmp_path / "killed", LONG, pause=0.3)
    wait_for_checkpoint(tmp_path / "killed", processes)
    processes[victim].kill()
    killed = time.monotonic()
    status, out, errors = ends(processes)[1 - victim]
    assert time.monotonic() - killed < 60
    assert status == 2
    assert out == ""
    assert errors.count("error:") == 1, errors
    assert f"worker {victim}" in errors.lower(), errors
    assert "is gone" in errors, errors
    assert "Traceback" not in errors, errors
    assert load_run(tmp_path / "killed").step < LONG["train.steps"]

    again = ends(start(tmp_path / "killed", LONG))
    assert [status for status, *_ in again] == [0, 0]
    assert "Resuming at step" in again[0][2]
    assert [status for status, *_ in ends(start(tmp_path / "whole", LONG))] == [0, 0]
    assert largest_difference(tmp_path / "killed", tmp_path / "whole") == 0.0
    train_tiny(tmp_path / "one", **LONG)
    assert largest_difference(tmp_path / "killed", tmp_path / "one") < 10 * TOLERANCE


@pytest.mark.slow
def test_an_error_at_one_frees_the_other_from_its_sum(tmp_path, start):
    """The process that failed lingers, so that TensorFlow's own connections stay open."""
    processes = start(tmp_path / "run", LONG, failing="1")
    error = next(line for line in processes[1].stderr if line.startswith("error:"))
    failed = time.monotonic()
    out, errors = processes[0].communicate(timeout=300)
    assert time.monotonic() - failed < 20
    assert processes[1].poll() is None
    assert error == "error: The disk is full.\n"
    assert processes[0].returncode == 2
    assert out == ""
    assert errors.count("error:") == 1, errors
    assert "Worker 1 at" in errors, errors
    assert "stopped. The disk is full." in errors, errors
    assert "Traceback" not in errors, errors


@pytest.mark.slow
def test_signal_at_one_stops_all_at_the_same_step(tmp_path, start):
    processes = start(tmp_path / "run", {**LONG, "train.steps": 4000}, pause=0.1)
    wait_for_checkpoint(tmp_path / "run", processes)
    processes[1].send_signal(signal.SIGTERM)
    (status, out, errors), (other_status, other_out, _) = ends(processes)
    assert status == other_status == 0, errors
    step = load_run(tmp_path / "run").step
    assert out == other_out == f"finished at step {step}, interrupted: True\n"
    assert 4 <= step < 4000
    assert f"Stopped by SIGTERM at worker 1 at step {step}; saved." in errors
