"""What changes over training: refinement steps and stages, weights of losses, values with a step."""

import tensorflow as tf

from tfobj.errors import UserError


def check_schedule(first, changes, field, minimum=0):
    """Returns ((0, first), *changes), the refinement steps in training: (finished updates, steps from there on).

    Raises:
      UserError: numbers of updates that do not rise, or numbers of steps below `minimum`.
    """
    starts = [0, *(start for start, _ in changes)]
    if any(later <= earlier for earlier, later in zip(starts, starts[1:], strict=False)) or any(
        steps < minimum for _, steps in changes
    ):
        raise UserError(
            f"`{field}` must be pairs (step, number), the steps rising from above 0, the numbers at least {minimum}. "
            f"Received: {field}={changes}."
        )
    return ((0, first), *changes)


def stage_at(stages, step):
    """Returns what holds for the update that follows `step` finished ones, of ((0, first), (start, later), ...), and where it changes next (None: nowhere)."""
    current = [stage for start, stage in stages if start <= step][-1]
    later = [start for start, _ in stages if start > step]
    return current, min(later, default=None)


def stepped(step, value, later_value, from_step):
    """Returns `value`, and from `from_step` finished updates on `later_value`, unless that is None: a float32 scalar tensor; `step` is a tensor."""
    return (
        tf.constant(value, tf.float32)
        if later_value is None
        else tf.where(step < from_step, tf.constant(value, tf.float32), later_value)
    )


def refinement_loss_weight(t, num_steps, kind="linear", values=()):
    """Returns the weight of the loss after `t` of `num_steps` refinements, t = 0 ... num_steps.

    "linear": t / num_steps, so the data-independent first decode counts nothing (Greff 2019, Eq. 4, with
    the num_steps + 1 decodes of the released code: taken literally, the paper's sum would leave the last
    refinement untrained). "constant": 1. "list": `values[t]`.

    Args:
      t, num_steps: Python integers, or tensors where the model runs with a free number of steps.

    Raises:
      UserError: if a list has not num_steps + 1 entries.
    """
    if kind == "list":
        if not isinstance(num_steps, int) or len(values) != num_steps + 1:
            raise UserError(
                f"`model.loss_weight_list` must have num_steps + 1 entries. Received: {len(values)} entries for num_steps={num_steps}."
            )
        return values[t] if isinstance(t, int) else tf.gather(tf.constant(values), t)
    if kind == "constant":
        return 1.0
    if isinstance(t, int) and isinstance(num_steps, int):
        return t / num_steps
    return tf.cast(t, tf.float32) / tf.cast(num_steps, tf.float32)
