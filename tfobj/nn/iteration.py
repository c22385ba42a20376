"""One loop for both kinds of step counts: known while tracing, or an input of a served model."""

import tensorflow as tf


def iterate(body, state, num_steps):
    """Returns `state` after `num_steps` applications of `state = body(t, state)`.

    A Python integer is unrolled (the graph then has one straight line per step, which trains fastest for
    the few steps of these models); a tensor becomes a `tf.while_loop`, so that an exported model takes the
    number of steps as an input. `state` is a tuple of tensors of constant shapes.
    """
    if isinstance(num_steps, int):
        for t in range(num_steps):
            state = body(t, state)
        return state
    _, state = tf.while_loop(
        lambda t, _: t < num_steps, lambda t, state: (t + 1, tuple(body(t, state))),
        (tf.constant(0), tuple(state)))
    return state
