"""Rows, their report, and the processes that measure them."""

import os
import time

import pytest

from tfobj.errors import UserError
from tfobj.training import benchmark
from tfobj.training.workers import Team

SMALL = {"model.encoder_channels": (4,), "model.encoder_kernels": (3,), "model.decoder_channels": (4,), "model.decoder_kernels": (3,),
         "model.slot_size": 4, "model.num_steps": 1, "train.batch_size": 2, "data.num_train": 8, "data.num_test": 2}


def test_rows_are_models_times_settings_times_measurements():
    rows = benchmark.make_rows(["iodine", "slot_attention"], "tetris", overrides={"train.batch_size": 2},
                               also=[{"train.precision": "bfloat16"}], what=("train", "inference"))
    assert list(map(str, rows)) == [
        "iodine train", "iodine inference", "iodine train train.precision=bfloat16", "iodine inference train.precision=bfloat16",
        "slot_attention train", "slot_attention inference", "slot_attention train train.precision=bfloat16",
        "slot_attention inference train.precision=bfloat16"]
    assert {row.experiment.train.batch_size for row in rows} == {2} and {row.experiment.data.num_train for row in rows} == {512}


def test_equal_pipelines_are_measured_once():
    rows = benchmark.make_rows(["iodine", "slot_attention"], "tetris", overrides={"train.batch_size": 2}, also=[{"train.batch_size": 4}],
                               what=("data",))
    assert [row.experiment.train.batch_size for row in rows] == [2, 4]


@pytest.mark.parametrize("arguments, message", [
    ({"models": ["iodin"]}, "Unknown model 'iodin'. Did you mean 'iodine'"), ({"dataset": "tetriss"}, "Unknown dataset 'tetriss'"),
    ({"what": ["training"]}, "Unknown measurement 'training'. Did you mean 'train'"),
    ({"also": [{"train.precison": "bfloat16"}]}, "Unknown setting 'train.precison'. Did you mean 'train.precision'")])
def test_unknown_names(arguments, message):
    with pytest.raises(UserError, match=message):
        benchmark.make_rows(**{"models": ["iodine"], "dataset": "tetris", **arguments})


@pytest.mark.parametrize("arguments, message", [
    ({"seconds": 0.0}, "`seconds` must be positive"), ({"seconds": float("nan")}, "`seconds` must be positive"),
    ({"blocks": 0}, "`blocks` must be at least 1"), ({"strategy": "gpus"}, "Unknown strategy 'gpus'. Did you mean 'gpu'")])
def test_numbers_out_of_range(arguments, message):
    with pytest.raises(UserError, match=message):
        benchmark.run(benchmark.make_rows(["iodine"], "tetris"), **arguments)
    with pytest.raises(UserError, match="`rows` must have at least one entry"):
        benchmark.run([])


def test_report_of_real_processes(tmp_path, capfd):
    rows = benchmark.make_rows(["slot_attention"], "tetris", overrides=SMALL, what=benchmark.MEASUREMENTS)
    report = benchmark.run(rows, strategy="cpu", seconds=0.05, blocks=2, data_dir=tmp_path)
    train, inference, data = report["rows"]
    assert [line["what"] for line in report["rows"]] == ["train", "inference", "data"]
    for line in report["rows"]:
        assert len(line["ms_per_step_per_block"]) == 2
        assert 0 < line["ms_per_step_min"] <= line["ms_per_step"] and line["ms_per_step_spread"] >= 0
        assert line["images_per_second"] == pytest.approx(2000 / line["ms_per_step"])
        assert line["peak_memory_mb"] > 100 and len(line["matmul_gflops_per_block"]) == 2
        assert (line["model"], line["dataset"], line["batch_size"], line["precision"]) == ("slot_attention", "tetris", 2, "float32")
    assert 2 < train["gflop_per_step"] / inference["gflop_per_step"] < 3.1 and data["gflop_per_step"] is None
    assert train["pipeline_ratio"] == pytest.approx(data["images_per_second"] / train["images_per_second"])
    assert report["calibration"]["convolution_gflops"]["float32"] > 0 and report["calibration"]["matmul_gflops"] > 0
    text = benchmark.format_report(report)
    assert "the pipeline makes" in text and max(map(len, text.splitlines())) <= 130
    assert capfd.readouterr().out == "", "progress belongs on stderr"


class Counter:
    """A job that counts its calls, and fails as it is told."""

    facts = "made"

    def __init__(self, failure=None, at=0):
        self.calls, self.failure, self.at = 0, failure, at
        self._fail()

    def __call__(self):
        self.calls += 1
        self._fail()
        return self.calls, os.getpid()

    def _fail(self):
        if self.calls == self.at and self.failure == "mistake":
            raise UserError("`train.steps` must be at least 1.")
        if self.calls == self.at and self.failure == "crash":
            raise ZeroDivisionError("division by zero")
        if self.calls == self.at and self.failure == "killed":
            os.kill(os.getpid(), 9)


def test_workers_take_turns():
    with Team() as team:
        first, second = team.start("first", Counter), team.start("second", Counter)
        assert first.facts == "made"
        assert [first.call()[0], second.call()[0], first.call()[0]] == [1, 1, 2]
        pids = [first.call()[1], second.call()[1]]
    assert len({*pids, os.getpid()}) == 3
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_mistake_of_a_job_is_ours():
    with Team() as team, pytest.raises(UserError, match="row: `train.steps` must be at least 1."):
        team.start("row", Counter, "mistake")
    with Team() as team, pytest.raises(UserError, match="row: `train.steps`"):
        team.start("row", Counter, "mistake", 1).call()


def test_crash_of_a_job_shows_what_it_printed(capsys):
    with Team() as team, pytest.raises(UserError, match="The process of `row` ended with status 1"):
        team.start("row", Counter, "crash")
    assert "ZeroDivisionError: division by zero" in capsys.readouterr().err


def test_killed_job_suggests_the_memory():
    with Team() as team, pytest.raises(UserError, match="killed; is the memory full"):
        team.start("row", Counter, "killed", 1).call()


def test_leaving_early_is_quick():
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt), Team() as team:
        team.start("row", Counter)
        raise KeyboardInterrupt
    assert time.monotonic() - start < 60
