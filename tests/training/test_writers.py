"""TensorBoard and the console."""

import sys

import numpy as np
import tensorflow as tf

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
