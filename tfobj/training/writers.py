"""What a run of TensorFlow reports: JSON lines, TensorBoard events, and a line on the console."""

import contextlib
import os
import pathlib
import sys
import time

import tensorflow as tf
from tqdm import auto as tqdm

from tfobj import files
from tfobj.errors import UserError, first_line
from tfobj.training.progress import TimeLeft
from tfobj.training.workdir import Rows

_SILENCE = 30.0
"""Seconds without a line in a file until one says how far the run is."""
_SILENCE_OF_WORK = 5.0
"""The same for what is done between steps, such as an evaluation."""

_BAR = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} steps [{elapsed}{postfix}]"
"""Of tqdm, without its own rate and remaining time, which compilation and evaluations distort."""


class MetricsWriter(Rows):
    """Appends to `<workdir>/metrics.jsonl` and to TensorBoard events.

    A run that resumes at step s first drops the events after s, as it does with rows.
    """

    def __init__(self, workdir, step=0):
        super().__init__(workdir, step)
        self._events = {}
        self._logdir = pathlib.Path(workdir) / "tensorboard"
        for path in sorted(self._logdir.glob("*/*tfevents*")):
            drop_events(path, step)

    def write(self, step, split, numbers):
        """Writes one row, and its numbers as scalars."""
        super().write(step, split, numbers)
        with self._writing(split, step):
            for name, value in numbers.items():
                tf.summary.scalar(name, value)

    def image(self, step, split, name, array):
        """Writes an image, uint8 [H, W, 3 or 4], to TensorBoard."""
        with self._writing(split, step):
            tf.summary.image(name, array[None])

    def graph(self, graph):
        """Writes a `tf.Graph` to TensorBoard."""
        with self._writing("train", 0):
            tf.summary.graph(graph)

    def flush(self):
        with self._explained():
            for writer in self._events.values():
                writer.flush()

    @contextlib.contextmanager
    def _writing(self, split, step):
        with self._explained():
            if split not in self._events:
                self._events[split] = tf.summary.create_file_writer(os.fspath(self._logdir / split))
            with self._events[split].as_default(step=step):
                yield

    @contextlib.contextmanager
    def _explained(self):
        try:
            yield
        except (tf.errors.OpError, OSError) as e:
            raise UserError(f"`{self._logdir}` cannot be written ({first_line(e)}).") from e


def drop_events(path, step):
    """Removes the events after `step` from a file of TensorBoard, so that no step is shown twice.

    TensorFlow 2 writes no mark of a restart, at which TensorBoard would drop them by itself. A last
    record that a kill cut short is dropped as well. Of a run that begins again, the graph is
    dropped too.
    """
    # Twice through the file, which may hold many images, instead of once with all of it in memory.
    if all(kept for _, kept in _records(path, step)):
        return
    with files.atomic_path(path) as partial, tf.io.TFRecordWriter(os.fspath(partial)) as writer:
        for record, kept in _records(path, step):
            if kept:
                writer.write(record)


def _records(path, step):
    """Yields the records of a file, and whether they stay; a damaged end is one that does not."""
    try:
        for record in tf.data.TFRecordDataset(os.fspath(path)).as_numpy_iterator():
            event = tf.compat.v1.Event.FromString(record)
            begins_again = step == 0 and event.HasField("graph_def")
            yield record, event.step <= step and not begins_again
    # The one border to protobuf and the reader of records: events are a copy of the run's numbers,
    # and damage to them stops nothing.
    except Exception:
        yield b"", False


class Console:
    """A progress bar on a terminal, with the time left; plain lines in a file.

    Args:
      total, done: numbers of steps.
      description: name of the bar.
      enabled: whether to print at all.
      eval_every: steps between evaluations, for the time left; None: there are none.
    """

    def __init__(self, total, done, description, enabled=True, eval_every=None):
        self.time_left = TimeLeft(total, done, eval_every)
        self._enabled = enabled
        self._total = total
        self._done = done
        self._spoken = time.monotonic()
        self._bar = tqdm.tqdm(
            total=total,
            initial=done,
            desc=description,
            dynamic_ncols=True,
            bar_format=_BAR,
            disable=not (enabled and sys.stderr.isatty()),
        )

    def advance(self, num_steps, seconds=None, **numbers):
        """Moves on and shows numbers.

        Args:
          num_steps: steps that were made.
          seconds: their duration; None if it tells nothing of the rate (compilation).
          **numbers: shown beside the bar, and in a file after a long silence.
        """
        self.time_left.add(num_steps, seconds)
        self._done += num_steps
        shown = [f"{name} {value:.4g}" for name, value in numbers.items()]
        self._bar.set_postfix_str(", ".join([str(self.time_left), *shown]), refresh=False)
        self._bar.update(num_steps)
        if self._is_silent(_SILENCE):
            parts = [f"step {self._done:>8,} of {self._total:,}", *shown, str(self.time_left)]
            self.say("  ".join(parts))

    def working(self, text, done=0, total=0):
        """Says what is done between steps, and how much of it.

        A terminal shows it beside the bar. In a file it is a line, if the last one is some seconds
        old.
        """
        if total:
            text = f"{text}: {done:,} of {total:,}"
        self._bar.set_postfix_str(text, refresh=True)
        if self._is_silent(_SILENCE_OF_WORK):
            self.say(text)

    def say(self, text):
        """Prints a line above the bar."""
        self._spoken = time.monotonic()
        if self._enabled:
            tqdm.tqdm.write(text, file=sys.stderr)
            sys.stderr.flush()

    def close(self):
        self._bar.close()

    def _is_silent(self, seconds):
        return self._bar.disable and time.monotonic() - self._spoken > seconds
