"""What every run keeps in its folder, whether TensorFlow or JAX makes the steps.

It needs the standard library alone.

    <workdir>/.lock          held by the process that runs
    <workdir>/metrics.jsonl  one object per line: step, split, numbers
    <workdir>/machine.json   hardware, software and command of the run's first process

`checkpoint` has the state of a run of TensorFlow, `tfobj.portable.records` that of a run of JAX.
"""

import contextlib
import fcntl
import json
import math
import os
import pathlib
import signal

from tfobj import files
from tfobj.errors import UserError

METRICS = "metrics.jsonl"
MACHINE = "machine.json"

_SHOWN_LINES = 5

_TOO_LARGE = 2.0**1000
"""Numbers from here on are no metrics; larger integers cannot even become floats."""


@contextlib.contextmanager
def locked(workdir):
    """Holds `workdir` for one process; makes it if need be.

    Raises:
      UserError: another process holds it, or it cannot be written.
    """
    workdir = pathlib.Path(workdir)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        lock = open(workdir / ".lock", "a+")  # noqa: SIM115 (the block below closes it)
    except OSError as e:
        raise UserError(
            f"`--workdir` must be a folder that can be written. Received: {workdir} ({e.strerror})."
        ) from e

    with lock:
        try:
            # The kernel frees it when the process ends, however it ends.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as e:
            lock.seek(0)
            process = lock.read().strip() or "unknown"
            raise UserError(
                f"`--workdir` {workdir} is in use by another run (process {process}). "
                "Wait for it, or choose another folder."
            ) from e

        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield workdir


class Signals:
    """Turns SIGTERM and the first Ctrl-C into a request to save and leave.

    A second Ctrl-C acts at once.

    Attributes:
      received: name of the signal, None without.
    """

    def __init__(self):
        self.received = None
        self._before = {}

    def __enter__(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *exception):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number, frame):
        if self.received and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = signal.Signals(number).name


class Rows:
    """Appends to `<workdir>/metrics.jsonl`.

    A run that resumes at step s first drops the rows after s, which it is about to write again.

    Attributes:
      dropped: numbers of the lines that could not be read and were dropped as well; a last line
        that a kill cut short is not one of them.
    """

    def __init__(self, workdir, step=0):
        self.path = pathlib.Path(workdir) / METRICS
        rows, self.dropped = _read_rows(self.path)
        kept = [json.dumps(row) + "\n" for row in rows if row["step"] <= step]
        files.write_text(self.path, "".join(kept))

    @property
    def warning(self):
        """What a user must know of dropped lines, None if there were none."""
        if not self.dropped:
            return None
        shown = ", ".join(map(str, self.dropped[:_SHOWN_LINES]))
        more = ", ..." * (len(self.dropped) > _SHOWN_LINES)
        return f"warning: damaged lines of {self.path} are dropped: {shown}{more}."

    def write(self, step, split, numbers):
        """Writes one row; numbers that are not finite become null."""
        try:
            with self.path.open("a") as file:
                file.write(json.dumps({"step": step, "split": split, **_finite(numbers)}) + "\n")
        except OSError as e:
            raise UserError(f"`{self.path}` cannot be written ({e.strerror}).") from e


def read_metrics(workdir):
    """Returns the rows of `<workdir>/metrics.jsonl`, without lines that are damaged.

    A run is more than its numbers: no line of them stops it.
    """
    rows, _ = _read_rows(pathlib.Path(workdir) / METRICS)
    return rows


def _read_rows(path):
    """Returns (rows, numbers of the damaged lines) of a `metrics.jsonl`."""
    try:
        lines = path.read_bytes().split(b"\n")
    except (FileNotFoundError, NotADirectoryError):
        return [], []
    except OSError as e:
        raise UserError(f"`{path}` cannot be read ({e.strerror or e}).") from e

    rows = []
    damaged = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(_parse_row(line))
        except UserError:
            # What follows the last line break is empty, or was cut short by a kill.
            if number < len(lines):
                damaged.append(number)
    return rows, damaged


def _parse_row(line):
    row = files.parse_json(line, "row", keys={"step": int, "split": str})
    numbers = {key: (float, type(None)) for key in row if key != "split"}
    files.check_keys(row, "row", numbers)
    if not all(abs(row[key] or 0) < _TOO_LARGE for key in numbers) or row["step"] < 0:
        raise UserError("A row must hold finite numbers.")
    return row


def training_minutes(rows):
    """Returns the minutes of training in the rows of `read_metrics`.

    Evaluation and start-up are not counted.
    """
    minutes = 0.0
    last = 0
    for row in rows:
        if row["split"] == "train":
            rate = row.get("steps_per_second")
            if rate and rate > 0:
                minutes += (row["step"] - last) / rate / 60.0
            last = row["step"]
    return minutes


def validation_curve(rows, name):
    """Returns the validation score `name` over the run: dicts with its step, minutes and value.

    Args:
      rows: of `read_metrics`.
      name: of a score; validations without it are left out.
    """
    curve = []
    for i, row in enumerate(rows):
        if row["split"] == "validation" and row.get(name) is not None:
            minutes = round(training_minutes(rows[: i + 1]), 2)
            curve.append({"step": row["step"], "minutes": minutes, name: round(row[name], 4)})
    return curve


def write_evaluation(path, summary, **facts):
    """Writes `evaluation.json`: facts (protocol, seed, step, ...) and flat metric names.

    Undefined numbers become null.
    """
    files.write_text(path, json.dumps(_finite({**facts, **summary}), indent=2) + "\n")


def write_machine(workdir, description):
    """Writes `<workdir>/machine.json`, a result of `training.machine`.

    That of the run's first process stays.
    """
    path = pathlib.Path(workdir) / MACHINE
    if not path.exists():
        files.write_text(path, json.dumps(description, indent=2) + "\n")


def _finite(values):
    return {name: _finite_or_none(value) for name, value in values.items()}


def _finite_or_none(value):
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
