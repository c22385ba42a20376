"""The run folder of every host: one process at a time, rows and scores in JSON, a clean way out."""

import json
import multiprocessing
import os
import pathlib
import resource
import signal
import subprocess
import sys

import pytest

from tfobj import files
from tfobj.errors import UserError
from tfobj.training.workdir import (
    Rows,
    Signals,
    locked,
    read_metrics,
    training_minutes,
    write_evaluation,
    write_machine,
)

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_usable_where_there_is_nothing_but_python():
    code = (
        "import sys, tfobj.training.workdir\n"
        "heavy = {'numpy', 'tensorflow', 'keras', 'absl', 'tqdm', 'jax'}\n"
        "print(heavy & set(sys.modules))"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
        == "set()\n"
    )


def test_two_runs_in_one_folder_are_refused(tmp_path):
    with (
        locked(tmp_path),
        pytest.raises(UserError, match=r"`--workdir` .* is in use by another run \(process \d+\)"),
        locked(tmp_path),
    ):
        pass
    with locked(tmp_path):  # free again
        pass


def hold(workdir, connection):
    with locked(workdir):
        connection.send("held")
        connection.recv()


def test_lock_of_a_killed_process_is_gone(tmp_path):
    here, there = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=hold, args=(tmp_path, there))
    process.start()
    assert here.recv() == "held"
    with pytest.raises(UserError, match=f"process {process.pid}"), locked(tmp_path):
        pass
    process.kill()
    process.join()
    with locked(tmp_path):
        pass


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(
            UserError,
            match="`--workdir` must be a folder that can be written. Received: .*file/run",
        ),
        locked(tmp_path / "file" / "run"),
    ):
        pass
    with pytest.raises(UserError, match="cannot be written"):
        files.write_text(tmp_path / "file" / "config.json", "{}")


def test_first_signal_asks_and_a_second_interrupt_acts():
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with Signals() as signals:
        assert signals.received is None
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.received == "SIGTERM"
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_rows_come_back(tmp_path):
    rows = Rows(tmp_path)
    rows.write(1, "train", {"loss": 2.0})
    rows.write(1, "validation", {"ari": 0.5})
    assert read_metrics(tmp_path) == [
        {"step": 1, "split": "train", "loss": 2.0},
        {"step": 1, "split": "validation", "ari": 0.5},
    ]


def test_numbers_that_are_not_finite_become_null(tmp_path):
    Rows(tmp_path).write(1, "train", {"loss": float("nan"), "bound": float("inf"), "rate": 0.1})
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {
        "step": 1,
        "split": "train",
        "loss": None,
        "bound": None,
        "rate": 0.1,
    }


def test_half_written_last_line_is_left_out_and_removed(tmp_path):
    rows = Rows(tmp_path)
    rows.write(1, "train", {"loss": 2.0})
    with rows.path.open("a") as file:
        file.write('{"step": 2, "split": "tra')
    assert [row["step"] for row in read_metrics(tmp_path)] == [1]
    Rows(tmp_path, step=1).write(2, "train", {"loss": 1.0})
    assert [row["step"] for row in read_metrics(tmp_path)] == [1, 2]


def test_rows_after_the_restored_step_are_dropped(tmp_path):
    rows = Rows(tmp_path)
    for step in (10, 20, 30):
        rows.write(step, "train", {"loss": 1.0 / step})
    Rows(tmp_path, step=20)
    assert [row["step"] for row in read_metrics(tmp_path)] == [10, 20]


def test_a_disk_that_is_full_leaves_the_rows_before(tmp_path):
    rows = Rows(tmp_path)
    rows.write(1, "train", {"loss": 2.0})
    size = rows.path.stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Python ignores the signal, so that writing beyond the limit fails, as on a full disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, hard))
    try:
        with pytest.raises(UserError, match="metrics.jsonl` cannot be written .File too large"):
            rows.write(2, "train", {"loss": 1.0})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [row["step"] for row in read_metrics(tmp_path)] == [1]
    assert Rows(tmp_path, step=1).dropped == []


def test_no_file_is_no_rows(tmp_path):
    assert read_metrics(tmp_path) == []


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        Rows(tmp_path / "file")


def test_a_full_disk_while_running_is_named(tmp_path):
    rows = Rows(tmp_path)
    rows.path.unlink()
    rows.path.mkdir()  # stands for any refusal of the system
    with pytest.raises(UserError, match="metrics.jsonl` cannot be written"):
        rows.write(1, "train", {"loss": 1.0})


def test_minutes_count_training_rows_alone():
    rows = [
        {"step": 60, "split": "train", "steps_per_second": 1.0},
        {"step": 60, "split": "validation"},
        {"step": 180, "split": "train", "steps_per_second": 0.5},
    ]
    assert training_minutes(rows) == 1.0 + 4.0


def test_the_file_of_an_evaluation_has_facts_and_scores(tmp_path):
    write_evaluation(
        tmp_path / "evaluation.json", {"mse": 0.5, "fg_ari": float("nan")}, protocol="p", step=3
    )
    assert json.loads((tmp_path / "evaluation.json").read_text()) == {
        "protocol": "p",
        "step": 3,
        "mse": 0.5,
        "fg_ari": None,
    }


def test_machine_is_that_of_the_first_process(tmp_path):
    write_machine(tmp_path, {"hardware": "first"})
    write_machine(tmp_path, {"hardware": "second"})
    assert json.loads((tmp_path / "machine.json").read_text()) == {"hardware": "first"}
