"""How long a run still takes, from its recent steps. It needs the standard library alone."""

import collections

_WINDOW = 60.0
"""Seconds of steps from which the rate is estimated."""

ESTIMATING = "estimating the time left"


class TimeLeft:
    """Estimates the rest of a run from its recent steps and its last evaluation.

    Compilation happens once, so its steps are not added. Evaluations are not part of a rate, since
    they come at intervals; those that are still to come are added up by themselves.

    Args:
      total: last step of the run.
      done: finished steps.
      eval_every: steps between evaluations; None: evaluations are not counted. The last step is
        evaluated in any case.
    """

    def __init__(self, total, done, eval_every=None):
        self._total = total
        self._done = done
        self._eval_every = eval_every
        self._evaluation = 0.0
        self._recent = collections.deque()

    def add(self, num_steps, seconds):
        """Adds steps that were made; seconds None: they tell nothing of the rate."""
        self._done += num_steps
        if seconds is None:
            return
        self._recent.append((num_steps, seconds))
        while sum(duration for _, duration in self._recent) - self._recent[0][1] > _WINDOW:
            self._recent.popleft()

    def add_evaluation(self, seconds):
        """Says how long an evaluation took."""
        self._evaluation = seconds

    def seconds(self):
        """Returns the seconds that are left, or None as long as no step was measured."""
        num_steps = sum(count for count, _ in self._recent)
        if not num_steps:
            return None
        per_step = sum(duration for _, duration in self._recent) / num_steps
        left = max(self._total - self._done, 0)
        return left * per_step + self._evaluations_left() * self._evaluation

    def __str__(self):
        seconds = self.seconds()
        if seconds is None:
            return ESTIMATING
        return f"{describe_seconds(seconds)} left"

    def _evaluations_left(self):
        if self._eval_every is None or self._done >= self._total:
            return 0
        regular = (self._total - 1) // self._eval_every - self._done // self._eval_every
        return regular + 1


def describe_seconds(seconds):
    """Returns a duration in words: "40 s", "12 min", "1 h 05 min"."""
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min"
