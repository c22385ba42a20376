"""What a run without TensorFlow writes: states, and a line on the console.

It needs the standard library and NumPy alone.
"""

import pathlib
import shutil
import sys
import time

from tfobj.errors import UserError
from tfobj.portable import artifact

KEPT_STATES = 2
STATES = "state"


def save_state(workdir, step, state, **facts):
    """Writes the state of a step to `<workdir>/state/step_<n>`; the last `KEPT_STATES` stay."""
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


class Progress:
    """A line with step, rate and time left.

    It is rewritten in place on a terminal, and printed at every log elsewhere.
    """

    def __init__(self, first_step, last_step):
        self._first = first_step
        self._last = last_step
        self._start = time.monotonic()
        self._shown = self._start
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
        clear = "\r\033[K" if self._terminal else ""
        sys.stderr.write(f"{clear}{text}\n")
        sys.stderr.flush()

    def log(self, step, numbers, steps_per_second):
        """Prints what a log says."""
        names = ("loss", "grad_norm")
        shown = [f"{name} {numbers[name]:.5g}" for name in names if name in numbers]
        rate = f"{steps_per_second:.2f} steps/s"
        self.say("  ".join([f"step {step:>8,}", *shown, rate, self._left(step)]))

    def _left(self, step):
        done = step - self._first
        if done < 1:
            return "time left unknown"
        seconds = (time.monotonic() - self._start) / done * (self._last - step)
        hours, minutes = divmod(round(seconds / 60), 60)
        if hours:
            return f"{hours} h {minutes:02d} min left"
        if minutes:
            return f"{minutes} min left"
        return f"{seconds:.0f} s left"
