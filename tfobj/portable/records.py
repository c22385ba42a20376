"""What a run without TensorFlow writes down: JSON lines, states, and a line on the console. The standard library and NumPy alone."""

import contextlib
import fcntl
import json
import math
import pathlib
import shutil
import sys
import time

from tfobj import files
from tfobj.errors import UserError
from tfobj.portable import artifact

KEPT_STATES = 2
METRICS, STATES = "metrics.jsonl", "state"


class Rows:
    """Appends to `<workdir>/metrics.jsonl`, one object per line: step, split, numbers; first drops the rows after `step`."""

    def __init__(self, workdir, step):
        self.path = pathlib.Path(workdir) / METRICS
        self.kept = []
        for line in self.path.read_text().splitlines() if self.path.exists() else []:
            with contextlib.suppress(json.JSONDecodeError):  # a last line cut short by a kill
                row = json.loads(line)
                if row["step"] <= step:
                    self.kept.append(row)
        files.write_text(self.path, "".join(json.dumps(row) + "\n" for row in self.kept))

    def write(self, step, split, numbers):
        """Writes one row; numbers that are not finite become null."""
        row = {"step": step, "split": split, **{k: v if math.isfinite(v) else None for k, v in numbers.items()}}
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")


def save_state(workdir, step, state, **facts):
    """Writes the state of a step to `<workdir>/state/step_<number>`; the last `KEPT_STATES` stay."""
    folder = pathlib.Path(workdir) / STATES
    artifact.write_state(folder / f"step_{step:08d}", step, state, **facts)
    for old in sorted(folder.glob("step_*"))[:-KEPT_STATES]:
        shutil.rmtree(old, ignore_errors=True)


def newest_state(workdir):
    """Returns (summary, arrays) of the newest readable state, or None if there is none yet.

    Raises:
      UserError: there are states, but none can be read.
    """
    failures = []
    for folder in sorted((pathlib.Path(workdir) / STATES).glob("step_*"), reverse=True):
        try:
            return artifact.read_state(folder)
        except UserError as e:
            failures.append(str(e))
            print(f"warning: {e}", file=sys.stderr)
    if failures:
        raise UserError(f"No state of `{workdir}` can be read. Nothing was changed.")
    return None


@contextlib.contextmanager
def locked(workdir):
    """Holds a folder for one process, and makes it if need be; a second process gets a `UserError`."""
    workdir = pathlib.Path(workdir)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        lock = (workdir / ".lock").open("a")
    except OSError as e:
        raise UserError(f"`--workdir` must be a folder that can be written. Received: {workdir} ({e.strerror}).") from e
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as e:
            raise UserError(f"`--workdir` {workdir} is in use by another run. Wait for it, or choose another folder.") from e
        yield workdir


class Progress:
    """A line with step, rate and time left: rewritten in place on a terminal, at every log elsewhere."""

    def __init__(self, first_step, last_step):
        self._first, self._last = first_step, last_step
        self._start = self._shown = time.monotonic()
        self._terminal = sys.stderr.isatty()

    def restart(self):
        """Forgets the time so far, which went into compilation."""
        self._start = time.monotonic()

    def show(self, step):
        """Rewrites the line, at most twice a second."""
        now = time.monotonic()
        if self._terminal and now - self._shown > 0.5:
            self._shown = now
            sys.stderr.write(f"\r\033[K{step:,} of {self._last:,} steps, {self._left(step)}")
            sys.stderr.flush()

    def say(self, text):
        """Prints a line above."""
        sys.stderr.write(("\r\033[K" if self._terminal else "") + text + "\n")
        sys.stderr.flush()

    def log(self, step, numbers, steps_per_second):
        """Prints what a log says."""
        shown = "  ".join(f"{name} {numbers[name]:.5g}" for name in ("loss", "grad_norm") if name in numbers)
        self.say(f"step {step:>8,}  {shown}  {steps_per_second:.2f} steps/s  {self._left(step)}")

    def _left(self, step):
        done = step - self._first
        if done < 1:
            return "time left unknown"
        seconds = (time.monotonic() - self._start) / done * (self._last - step)
        hours, minutes = divmod(round(seconds / 60), 60)
        return f"{hours} h {minutes:02d} min left" if hours else f"{minutes} min left" if minutes else f"{seconds:.0f} s left"
