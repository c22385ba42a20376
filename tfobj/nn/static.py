"""Arithmetic on numbers that Python knows while it traces, or that only the graph knows.

A frame, a refinement step or their count is a Python integer where a loop is unrolled and an int32
tensor where it is not. These functions decide in Python whatever Python knows, so an unrolled loop
has no conditionals, and leave the rest to the graph.
"""

import tensorflow as tf


def is_static(*values):
    """Returns whether none of the numbers or conditions is a tensor."""
    return not any(tf.is_tensor(value) for value in values)


def holds(condition):
    """Returns whether Python knows that the condition holds; False for tensors."""
    return is_static(condition) and bool(condition)


def where(condition, if_true, if_false):
    """Returns `if_true` where the scalar `condition` holds and `if_false` elsewhere.

    Args:
      condition: a Python boolean, which selects, or a scalar bool tensor, for `tf.where`.
      if_true, if_false: tensors, numbers, or nests of them with the same structure. A function
        without arguments is called only if its value is needed.
    """
    if is_static(condition):
        return _value(if_true if condition else if_false)
    return tf.nest.map_structure(
        lambda a, b: tf.where(condition, a, b), _value(if_true), _value(if_false)
    )


def maximum(a, b):
    """Returns the larger of two integers: a Python integer if both are, else an int32 tensor."""
    if is_static(a, b):
        return max(a, b)
    return tf.maximum(a, b)


def ratio(a, b):
    """Returns a / b of two integers: a Python float if both are static, else a float32 tensor."""
    if is_static(a, b):
        return a / b
    return tf.cast(a, tf.float32) / tf.cast(b, tf.float32)


def logical_and(a, b):
    """Returns `a and b`: a Python boolean if both are, else a bool tensor."""
    if is_static(a, b):
        return a and b
    return tf.logical_and(a, b)


def logical_not(a):
    """Returns `not a`: a Python boolean if `a` is one, else a bool tensor."""
    if is_static(a):
        return not a
    return tf.logical_not(a)


def _value(arm):
    return arm() if callable(arm) else arm
