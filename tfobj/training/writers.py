"""What a run writes down while it goes: JSON lines, TensorBoard events, and a line on the console."""

import json
import math
import os
import pathlib
import sys

import tensorflow as tf
from tqdm import auto as tqdm

from tfobj import files
from tfobj.errors import UserError


class MetricsWriter:
    """Appends to `<workdir>/metrics.jsonl` (one object per line: step, split, numbers) and to TensorBoard events.

    A run that continues from step s first drops the rows after s, which it is about to write again.
    """

    def __init__(self, workdir, step=0):
        self.path = pathlib.Path(workdir) / "metrics.jsonl"
        rows = [row for row in read_metrics(workdir) if row["step"] <= step]
        files.write_text(self.path, "".join(json.dumps(row) + "\n" for row in rows))
        self._events = {}
        self._logdir = pathlib.Path(workdir) / "tensorboard"

    def write(self, step, split, scalars):
        """Writes one row; numbers that are not finite become null in JSON."""
        row = {"step": step, "split": split, **{k: v if math.isfinite(v) else None for k, v in scalars.items()}}
        try:
            with self.path.open("a") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as e:
            raise UserError(f"`{self.path}` cannot be written ({e.strerror}).") from e
        with self._writer(split).as_default(step=step):
            for name, value in scalars.items():
                tf.summary.scalar(name, value)

    def image(self, step, split, name, array):
        """Writes a picture, uint8 [H, W, 3 or 4], to TensorBoard."""
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


def read_metrics(workdir):
    """Returns the rows of `<workdir>/metrics.jsonl`; a last line cut short by a kill is left out."""
    path = pathlib.Path(workdir) / "metrics.jsonl"
    rows = []
    if path.exists():
        for line in path.read_text().splitlines():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                continue
    return rows


def training_minutes(rows):
    """Returns the minutes of training that the rows of `read_metrics` tell of, without evaluation and start-up."""
    minutes, last = 0.0, 0
    for row in rows:
        if row["split"] == "train":
            minutes += (row["step"] - last) / row["steps_per_second"] / 60.0
            last = row["step"]
    return minutes


class Console:
    """Progress bar with rate and remaining time on a terminal; plain lines where output goes to a file. Silent unless `enabled`."""

    def __init__(self, total, done, description, enabled=True):
        self._enabled = enabled
        self._bar = tqdm.tqdm(total=total, initial=done, desc=description, unit=" steps", dynamic_ncols=True, smoothing=0.1,
                              disable=not (enabled and sys.stderr.isatty()))

    def advance(self, num_steps, **numbers):
        self._bar.set_postfix({k: f"{v:.4g}" for k, v in numbers.items()}, refresh=False)
        self._bar.update(num_steps)

    def say(self, text):
        if self._enabled:
            tqdm.tqdm.write(text, file=sys.stderr)
            sys.stderr.flush()

    def close(self):
        self._bar.close()
