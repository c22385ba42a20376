"""What a run without TensorFlow writes: states, and a line on the console.

It needs the standard library and NumPy alone.
"""

import pathlib
import re
import shutil
import sys
import time

from tfobj.errors import UserError
from tfobj.portable import artifact
from tfobj.training.progress import TimeLeft

KEPT_STATES = 2
STATES = "state"
_STATE = re.compile(r"step_(\d+)")


def save_state(workdir, step, state, **facts):
    """Writes the state of a step to `<workdir>/state/step_<n>`.

    The last `KEPT_STATES` stay. Those of later steps, which cannot be read, are not touched.
    """
    folder = pathlib.Path(workdir) / STATES
    artifact.write_state(folder / f"step_{step:08d}", step, state, **facts)
    until_now = [(number, path) for number, path in _states(workdir) if number <= step]
    for _, old in until_now[:-KEPT_STATES]:
        shutil.rmtree(old, ignore_errors=True)


def _states(workdir):
    """Returns [(step, folder)] of all states, readable or not, ascending."""
    folder = pathlib.Path(workdir) / STATES
    if not folder.is_dir():
        return []
    found = [(_STATE.fullmatch(path.name), path) for path in folder.iterdir()]
    return sorted((int(match[1]), path) for match, path in found if match)


def remove_partial_states(workdir):
    """Removes what killed writes left behind; for the process with the lock."""
    for partial in (pathlib.Path(workdir) / STATES).glob(".incomplete_step_*"):
        shutil.rmtree(partial, ignore_errors=True)


def newest_state(workdir):
    """Returns (summary, arrays) of the newest readable state, or None if there is none yet.

    Raises:
      UserError: there are states, but none can be read.
    """
    failures = []
    for _, folder in reversed(_states(workdir)):
        try:
            return artifact.read_state(folder)
        except UserError as e:
            failures.append(str(e))
            print(f"warning: {e} The state before is tried.", file=sys.stderr)
    if failures:
        raise UserError(f"No state of `{workdir}` can be read. Nothing was changed.")
    return None


class Progress:
    """A line with step, rate and time left.

    It is rewritten in place on a terminal, and printed at every log elsewhere.
    """

    def __init__(self, first_step, last_step):
        self._step = first_step
        self._last = last_step
        self._left = TimeLeft(last_step, first_step)
        self._shown = time.monotonic()
        self._terminal = sys.stderr.isatty()

    def measured(self, step, seconds):
        """Says how long the steps until `step` took, without compilation and evaluation."""
        self._left.add(step - self._step, seconds)
        self._step = step

    def show(self, step):
        """Rewrites the line, at most twice a second."""
        now = time.monotonic()
        if self._terminal and now - self._shown > 0.5:
            self._shown = now
            sys.stderr.write(f"\r\033[K{step:,} of {self._last:,} steps, {self._left}")
            sys.stderr.flush()

    def say(self, text):
        """Prints a line above."""
        clear = "\r\033[K" if self._terminal else ""
        sys.stderr.write(f"{clear}{text}\n")
        sys.stderr.flush()

    def log(self, step, numbers, steps_per_second):
        """Prints what a log says."""
        names = ("loss", "grad_norm")
        shown = [f"{name} {numbers[name]:.5g}" for name in names if name in numbers]
        rate = f"{steps_per_second:.2f} steps/s"
        self.say("  ".join([f"step {step:>8,}", *shown, rate, str(self._left)]))
