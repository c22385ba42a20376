"""Searches the largest batch whose training step fits a TPU, with few compilations."""

import time


def largest_batch(measure, known, multiple, max_batch, seconds, clock=time.monotonic):
    """Searches the largest batch that fits.

    Memory is nearly affine in the batch, so a straight line through two batches that fit says where
    to look; then its neighbours are compiled. Near the limit the compiler begins to recompute
    instead of storing and fits more than the line says: steps away from a line that was wrong
    double.

    Args:
      measure: (batch, time limit in seconds) -> report of `tpu.compile_step`.
      known: reports by batch, of at least one batch.
      multiple: batches are multiples of it.
      max_batch: the search ends there.
      seconds: no compilation starts after these, and one that runs is stopped.

    Returns:
      dict with

      - `largest`: greatest batch compiled that fits; 0 if none.
      - `too_large`: smallest batch beyond it compiled that does not fit or does not compile, or
        None.
      - `complete`: nothing lies between the two, or `largest` is all that was asked for.
      - `predicted`: by the line, None without one; verified only if `complete`.
      - `trials`: batch, fits, needed_bytes, flops and error of each compilation.
    """
    reports = dict(known)
    deadline = clock() + seconds
    top = max_batch // multiple * multiple
    num_outside = 0

    # `num_outside` counts guesses in a row that the line put outside of what is open.
    while True:
        good, bad = _bracket(reports)
        limit = top
        if bad is not None:
            limit = min(top, bad - multiple)
        predicted = _predict(reports)
        if good >= limit or clock() >= deadline:
            break

        guess, is_inside = _next_batch(good, bad, limit, multiple, predicted, num_outside)
        num_outside = 0 if is_inside else num_outside + 1

        report = measure(guess, deadline - clock())
        if report["fits"] is None and clock() >= deadline:
            break
        reports[guess] = report

    return {
        "largest": good,
        "too_large": bad,
        "complete": good >= limit,
        "predicted": predicted,
        "trials": [_trial(batch, reports[batch]) for batch in sorted(reports)],
    }


def _next_batch(good, bad, limit, multiple, predicted, num_outside):
    """Returns (the batch to compile next, whether it is where the straight line says)."""
    middle = max(good + multiple, (good + limit) // 2 // multiple * multiple)
    guess = middle
    if predicted is not None:
        guess = predicted // multiple * multiple
    is_inside = good < guess <= limit

    if guess <= good:
        guess = good + multiple * 2**num_outside
        if bad is not None:
            guess = min(guess, middle)
    elif not is_inside and bad is not None:
        guess = max(limit - multiple * (2**num_outside - 1), middle)
    return min(max(guess, good + multiple), limit), is_inside


def _trial(batch, report):
    names = ("fits", "needed_bytes", "flops", "error")
    return {"batch_size": batch, **{name: report.get(name) for name in names}}


def _bracket(reports):
    """Returns (greatest batch that fits or 0, smallest batch beyond it that does not or None)."""
    good = max((batch for batch, report in reports.items() if report["fits"]), default=0)
    beyond = [batch for batch, report in reports.items() if batch > good and not report["fits"]]
    return good, min(beyond, default=None)


def _predict(reports):
    """Returns the greatest batch that fits by a straight line, None without one.

    The line goes through two known batches, or from zero through the only one.
    """
    known = [
        (batch, reports[batch])
        for batch in sorted(reports)
        if reports[batch].get("needed_bytes") and reports[batch].get("hbm_bytes")
    ]
    fitting = [(batch, report) for batch, report in known if report["fits"]]
    points = fitting[-2:] or known[:2]
    if not points:
        return None

    # Through zero unless there is a second point.
    batch, report = points[-1]
    needed = report["needed_bytes"]
    other = 0
    less = 0
    if len(points) == 2:
        other = points[0][0]
        less = points[0][1]["needed_bytes"]
    if needed <= less:
        return None
    available = report["hbm_bytes"]
    return int(batch + (available - needed) * (batch - other) / (needed - less))
