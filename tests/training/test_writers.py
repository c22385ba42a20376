"""TensorBoard and the console."""

import sys

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing import event_accumulator

from tfobj.errors import UserError
from tfobj.training import writers
from tfobj.training.workdir import read_metrics
from tfobj.training.writers import Console, MetricsWriter


def events(folder):
    """Returns {tag: step} of the TensorBoard files below a folder."""
    found = {}
    for path in folder.rglob("events.*"):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            found |= {value.tag: event.step for value in event.summary.value}
    return found


def test_rows_go_to_the_file_and_with_images_to_tensorboard(tmp_path):
    writer = MetricsWriter(tmp_path)
    writer.write(3, "train", {"loss": 1.0})
    writer.image(3, "train", "decomposition", np.zeros((4, 4, 3), np.uint8))
    writer.flush()
    assert read_metrics(tmp_path) == [{"step": 3, "split": "train", "loss": 1.0}]
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


def scalars(logdir, tag):
    """Returns [(step, value)] of a tag, as TensorBoard shows them."""
    accumulator = event_accumulator.EventAccumulator(str(logdir))
    accumulator.Reload()
    tensors = accumulator.Tensors(tag)
    return [(t.step, float(tf.make_ndarray(t.tensor_proto))) for t in tensors]


def all_steps(logdir):
    """Returns the steps of all values in all files, however often they are there."""
    steps = []
    for path in sorted(logdir.glob("*tfevents*")):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            steps += [event.step] * len(event.summary.value)
    return sorted(steps)


def test_a_run_that_resumes_shows_no_step_twice(tmp_path):
    for first, value in ((0, 1.0), (4, 2.0), (2, 3.0)):
        writer = MetricsWriter(tmp_path, first)
        for step in range(first + 1, 7):
            writer.write(step, "train", {"loss": value})
        writer.flush()  # and then the process is killed
        del writer

    logdir = tmp_path / "tensorboard" / "train"
    expected = [(1, 1.0), (2, 1.0), (3, 3.0), (4, 3.0), (5, 3.0), (6, 3.0)]
    assert scalars(logdir, "loss") == expected
    assert all_steps(logdir) == [1, 2, 3, 4, 5, 6]
    assert [(row["step"], row["loss"]) for row in read_metrics(tmp_path)] == expected


def num_graphs(workdir):
    return sum(
        event.HasField("graph_def")
        for path in (workdir / "tensorboard" / "train").iterdir()
        for event in tf.compat.v1.train.summary_iterator(str(path))
    )


def test_a_run_that_begins_again_has_one_graph(tmp_path):
    for _ in range(2):
        writer = MetricsWriter(tmp_path)
        writer.graph(tf.function(lambda x: x + 1.0).get_concrete_function(tf.constant(1.0)).graph)
        writer.flush()
    assert num_graphs(tmp_path) == 1


def test_the_first_evaluation_of_a_run_draws_its_graph(train_tiny, tmp_path):
    train_tiny(tmp_path, **{"train.steps": 4, "train.eval_every": 2})
    assert num_graphs(tmp_path) == 1


@pytest.mark.parametrize("content", [b"", b"\0" * 40, b"garbled"])
def test_damaged_event_files_stop_nothing(tmp_path, content):
    writer = MetricsWriter(tmp_path)
    writer.write(1, "train", {"loss": 1.0})
    writer.flush()
    (path,) = (tmp_path / "tensorboard" / "train").iterdir()
    with path.open("ab") as file:
        file.write(content)  # as a kill leaves the last record
    MetricsWriter(tmp_path, 1)
    assert all_steps(path.parent) == [1]
    path.write_bytes(content)
    MetricsWriter(tmp_path, 1)


def test_a_disk_that_is_full_is_one_line(tmp_path):
    (tmp_path / "tensorboard").write_text("in the way")
    with pytest.raises(UserError, match="tensorboard` cannot be written") as error:
        MetricsWriter(tmp_path).write(1, "train", {"loss": 1.0})
    assert "\n" not in str(error.value)


def test_dropped_lines_of_metrics_are_said(tmp_path):
    assert MetricsWriter(tmp_path).warning is None
    (tmp_path / "metrics.jsonl").write_text("broken\n[]\n")
    warning = MetricsWriter(tmp_path).warning
    assert warning.endswith("metrics.jsonl are dropped: 1, 2.")
    assert MetricsWriter(tmp_path).warning is None


def test_console_breaks_a_long_silence_in_a_file(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(writers.time, "monotonic", lambda: now[0])
    console = Console(total=100, done=0, description="run")
    console.advance(1, None, loss=1.0)
    now[0] = 31.0
    console.advance(1, 20.0, loss=0.5)
    now[0] = 40.0
    console.advance(1, 20.0, loss=0.25)
    console.working("scoring", 1, 3)
    now[0] = 44.0
    console.working("scoring", 2, 3)
    assert capsys.readouterr().err.splitlines() == [
        "step        2 of 100  loss 0.5  33 min left",
        "scoring: 1 of 3",
    ]


def test_the_bar_tells_the_time_left_and_what_is_done(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    console = Console(total=10, done=0, description="run")
    console.advance(5, None, loss=1.0)
    assert "estimating the time left" in str(console._bar)
    console.advance(1, 30.0, loss=1.0)
    assert "2 min left, loss 1" in str(console._bar)
    console.working("drawing figures")
    assert "drawing figures" in capsys.readouterr().err
