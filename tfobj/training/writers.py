"""What a run of TensorFlow reports: JSON lines, TensorBoard events, and a line on the console."""

import os
import pathlib
import sys

import tensorflow as tf
from tqdm import auto as tqdm

from tfobj.training.workdir import Rows


class MetricsWriter(Rows):
    """Appends to `<workdir>/metrics.jsonl` and to TensorBoard events."""

    def __init__(self, workdir, step=0):
        super().__init__(workdir, step)
        self._events = {}
        self._logdir = pathlib.Path(workdir) / "tensorboard"

    def write(self, step, split, numbers):
        """Writes one row, and its numbers as scalars."""
        super().write(step, split, numbers)
        with self._writer(split).as_default(step=step):
            for name, value in numbers.items():
                tf.summary.scalar(name, value)

    def image(self, step, split, name, array):
        """Writes an image, uint8 [H, W, 3 or 4], to TensorBoard."""
        with self._writer(split).as_default(step=step):
            tf.summary.image(name, array[None])

    def graph(self, graph):
        """Writes a `tf.Graph` to TensorBoard."""
        with self._writer("train").as_default(step=0):
            tf.summary.graph(graph)

    def flush(self):
        for writer in self._events.values():
            writer.flush()

    def _writer(self, split):
        if split not in self._events:
            self._events[split] = tf.summary.create_file_writer(os.fspath(self._logdir / split))
        return self._events[split]


class Console:
    """A progress bar with rate and remaining time on a terminal; plain lines in a file.

    Args:
      total, done: numbers of steps.
      description: name of the bar.
      enabled: whether to print at all.
    """

    def __init__(self, total, done, description, enabled=True):
        self._enabled = enabled
        self._bar = tqdm.tqdm(
            total=total,
            initial=done,
            desc=description,
            unit=" steps",
            dynamic_ncols=True,
            smoothing=0.1,
            disable=not (enabled and sys.stderr.isatty()),
        )

    def advance(self, num_steps, **numbers):
        """Moves the bar on and shows numbers beside it."""
        self._bar.set_postfix({k: f"{v:.4g}" for k, v in numbers.items()}, refresh=False)
        self._bar.update(num_steps)

    def say(self, text):
        """Prints a line above the bar."""
        if self._enabled:
            tqdm.tqdm.write(text, file=sys.stderr)
            sys.stderr.flush()

    def close(self):
        self._bar.close()
