"""What changes in stages over training: refinement steps, lengths of clips, trained weights.

Python numbers, without TensorFlow; `graph_schedules` has values that a graph computes.
"""

from tfobj.errors import UserError


def check_schedule(first, changes, field, minimum=0):
    """Checks how the number of refinement steps changes during training.

    Args:
      first: number of steps from the beginning.
      changes: pairs (finished updates, number of steps from there on).
      field: name of the setting, for errors.
      minimum: smallest allowed number of steps.

    Returns:
      ((0, first), *changes).

    Raises:
      UserError: the numbers of updates do not rise, or a number of steps is below `minimum`.
    """
    starts = [0, *(start for start, _ in changes)]
    rising = all(earlier < later for earlier, later in zip(starts, starts[1:], strict=False))
    enough = all(steps >= minimum for _, steps in changes)
    if not (rising and enough):
        raise UserError(
            f"`{field}` must be pairs (step, number), the steps rising from above 0, "
            f"the numbers at least {minimum}. Received: {field}={changes}."
        )
    return ((0, first), *changes)


def stage_at(stages, step):
    """Returns the stage of the update that follows `step` finished ones, and when it changes next.

    Args:
      stages: ((0, first), (start, later), ...).
      step: Python integer.

    Returns:
      (stage, number of finished updates at the next change, or None if there is none).
    """
    current = [stage for start, stage in stages if start <= step][-1]
    later = [start for start, _ in stages if start > step]
    return current, min(later, default=None)
