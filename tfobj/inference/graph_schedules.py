"""Values that change over training or over refinement, as tensors of the graph."""

import tensorflow as tf

from tfobj.errors import UserError


def step_function(step, value, later_value, from_step):
    """Returns a value that changes once during training, a float32 scalar tensor.

    Args:
      step: finished updates, a tensor.
      value: number at first.
      later_value: number once `from_step` updates are finished; None keeps `value`.
      from_step: see `later_value`.
    """
    first = tf.constant(value, tf.float32)
    if later_value is None:
        return first
    return tf.where(step < from_step, first, later_value)


def refinement_loss_weight(r, num_steps, kind="linear", values=()):
    """Returns the weight of the loss after `r` of `num_steps` refinements, r = 0 ... num_steps.

    "linear": r / num_steps, so that the data-independent first decode does not count (Greff 2019,
    Eq. 4, with the num_steps + 1 decodes of the released code: taken literally, the paper's sum
    would leave the last refinement untrained). "constant": 1. "list": `values[r]`.

    Args:
      r: Python integer, or a tensor where the model runs with a free number of steps.
      num_steps: the same.
      kind: "linear", "constant" or "list".
      values: num_steps + 1 numbers for "list".

    Raises:
      UserError: a list does not have num_steps + 1 entries.
    """
    if kind == "list":
        if not isinstance(num_steps, int) or len(values) != num_steps + 1:
            raise UserError(
                "`model.loss_weight_list` must have num_steps + 1 entries. "
                f"Received: {len(values)} entries for num_steps={num_steps}."
            )
        return values[r] if isinstance(r, int) else tf.gather(tf.constant(values), r)

    if kind == "constant":
        return 1.0

    if isinstance(r, int) and isinstance(num_steps, int):
        return r / num_steps
    return tf.cast(r, tf.float32) / tf.cast(num_steps, tf.float32)
