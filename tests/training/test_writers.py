"""metrics.jsonl and the console."""

import json
import sys

import numpy as np
import pytest
import tensorflow as tf

from tfobj.errors import UserError
from tfobj.training.writers import Console, MetricsWriter, read_metrics


def test_rows_come_back(tmp_path):
    writer = MetricsWriter(tmp_path)
    writer.write(1, "train", {"loss": 2.0})
    writer.write(1, "validation", {"ari": 0.5})
    assert read_metrics(tmp_path) == [{"step": 1, "split": "train", "loss": 2.0}, {"step": 1, "split": "validation", "ari": 0.5}]


def test_numbers_that_are_not_finite_become_null(tmp_path):
    MetricsWriter(tmp_path).write(1, "train", {"loss": float("nan"), "bound": float("inf"), "rate": 0.1})
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"step": 1, "split": "train", "loss": None, "bound": None, "rate": 0.1}


def test_half_written_last_line_is_left_out_and_removed(tmp_path):
    writer = MetricsWriter(tmp_path)
    writer.write(1, "train", {"loss": 2.0})
    with writer.path.open("a") as file:
        file.write('{"step": 2, "split": "tra')
    assert [row["step"] for row in read_metrics(tmp_path)] == [1]
    MetricsWriter(tmp_path, step=1).write(2, "train", {"loss": 1.0})
    assert [row["step"] for row in read_metrics(tmp_path)] == [1, 2]


def test_rows_after_the_restored_step_are_dropped(tmp_path):
    writer = MetricsWriter(tmp_path)
    for step in (10, 20, 30):
        writer.write(step, "train", {"loss": 1.0 / step})
    MetricsWriter(tmp_path, step=20)
    assert [row["step"] for row in read_metrics(tmp_path)] == [10, 20]


def test_no_file_is_no_rows(tmp_path):
    assert read_metrics(tmp_path) == []


def test_file_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="metrics.jsonl` cannot be written|cannot be written"):
        MetricsWriter(tmp_path / "file")


def test_full_disk_while_running(tmp_path):
    writer = MetricsWriter(tmp_path)
    writer.path.unlink()
    writer.path.mkdir()  # stands for any refusal of the system
    with pytest.raises(UserError, match="metrics.jsonl` cannot be written"):
        writer.write(1, "train", {"loss": 1.0})


def events(folder):
    """Returns {tag: step} of the TensorBoard files below a folder."""
    found = {}
    for path in folder.rglob("events.*"):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            found |= {value.tag: event.step for value in event.summary.value}
    return found


def test_tensorboard_gets_scalars_and_images(tmp_path):
    writer = MetricsWriter(tmp_path)
    writer.write(3, "train", {"loss": 1.0})
    writer.image(3, "train", "decomposition", np.zeros((4, 4, 3), np.uint8))
    writer.flush()
    assert events(tmp_path / "tensorboard" / "train") == {"loss": 3, "decomposition": 3}


def test_console_says_lines_where_there_is_no_terminal(capsys):
    console = Console(total=10, done=0, description="run")
    console.advance(5, loss=1.0)
    console.say("step 5")
    console.close()
    assert capsys.readouterr().err == "step 5\n"


def test_console_has_a_bar_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    console = Console(total=10, done=5, description="run")
    console.advance(5, loss=1.23456)
    console.close()
    assert "10/10" in capsys.readouterr().err
