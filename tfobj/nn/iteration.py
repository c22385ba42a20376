"""Loops for all iteration: unrolled, with a tensor as step count, or in the memory of one step."""

import tensorflow as tf

from tfobj import execution

MAX_UNROLLED = 20
"""The largest number of steps that `record` unrolls."""


def iterate(body, state, num_steps, constants=()):
    """Returns `state` after `num_steps` applications of `state = body(r, state, constants)`.

    A Python integer is unrolled: the graph then has one straight line per step, which trains
    fastest for the few steps of these models. A tensor becomes a `tf.while_loop`, so that an
    exported model takes the number of steps as an input. Under `Execution.rematerialise` a Python
    integer becomes a loop whose gradient recomputes each step from the state before it: it stores
    the activations of one step instead of `num_steps`.

    Args:
      body: function of (r, state, constants); r is an integer, or an int32 tensor in loops.
      state: tuple of tensors of constant shapes.
      num_steps: at least 0.
      constants: tuple (or nest) of tensors that the body reads in every step. Every tensor that
        needs a gradient must reach the body through `state`, `constants` or weights; anything
        captured otherwise gets none when the step is rematerialised.
    """
    if not isinstance(num_steps, int):
        return _loop(body, state, num_steps, constants)

    if execution.current().rematerialise and num_steps:
        return _rematerialised(lambda *step: (body(*step), ()), state, num_steps, constants)[0]

    for r in range(num_steps):
        state = body(r, state, constants)
    return state


def scan(body, state, num_steps):
    """Applies `state, outputs = body(i, state)` for i = 0 ... num_steps - 1 and stacks the outputs.

    A Python integer is unrolled, a tensor becomes a `tf.while_loop`.

    Args:
      body: function of (i, state); the outputs are a tensor or a nest of tensors, of the same
        shapes at every step.
      state: tuple of tensors of constant shapes.
      num_steps: at least 1.

    Returns:
      (last state, outputs stacked on a new first axis).
    """
    if isinstance(num_steps, int):
        outputs = []
        for i in range(num_steps):
            state, output = body(i, state)
            outputs.append(output)
        return state, tf.nest.map_structure(lambda *steps: tf.stack(steps), *outputs)

    like = _like(lambda: body(tf.constant(0), state)[1])
    arrays = tf.nest.map_structure(
        lambda x: tf.TensorArray(x.dtype, num_steps, element_shape=x.shape), like
    )

    def step(i, state, arrays):
        state, output = body(i, state)
        arrays = tf.nest.map_structure(lambda array, x: array.write(i, x), arrays, output)
        return i + 1, tuple(state), arrays

    _, state, arrays = tf.while_loop(
        lambda i, *_: i < num_steps, step, (tf.constant(0), tuple(state), arrays)
    )
    return state, tf.nest.map_structure(lambda array: array.stack(), arrays)


def record(body, state, num_steps, constants, place, num_records):
    """Applies `state, record = body(i, state, constants)` for i = 0 ... num_steps - 1.

    Record i is written to position `place[i]` of a new first axis of length `num_records` and
    overwrites earlier records there: a grid that visits a frame several times keeps one record per
    frame. Gradients flow through the state alone.

    Up to `MAX_UNROLLED` steps are unrolled. More become a loop, whose graph does not grow with
    them: tracing 31 frames of R-NEM and their gradient takes minutes when unrolled. Under
    `Execution.rematerialise` any number is a loop in the memory of one step, as in `iterate`.

    Args:
      body: function of (i, state, constants); i is an integer, or an int32 tensor in loops. The
        record is a tensor or a nest of tensors, of the same shapes at every step.
      state: tuple of tensors of constant shapes.
      num_steps: Python integer of at least 1.
      constants: as for `iterate`.
      place: num_steps Python integers.
      num_records: Python integer.

    Returns:
      (last state, records).
    """
    rematerialise = execution.current().rematerialise
    if rematerialise or num_steps > MAX_UNROLLED:
        like = _like(lambda: body(tf.constant(0), tuple(state), constants)[1])
        loop = _rematerialised if rematerialise else _recorded
        return loop(body, state, num_steps, constants, place, num_records, like)

    records = [None] * num_records
    for i in range(num_steps):
        state, records[place[i]] = body(i, state, constants)
    return tuple(state), tf.nest.map_structure(
        lambda *entries: tf.stop_gradient(tf.stack(entries)), *records
    )


def _like(step):
    """Traces `step()` and returns its outputs as placeholders of known types and shapes."""
    return tf.function(step, autograph=False).get_concrete_function().structured_outputs


def _arrays(tensors, size):
    """Returns an array of `size` entries like each of the tensors."""
    return tuple(
        tf.TensorArray(x.dtype, size, element_shape=x.shape, clear_after_read=False)
        for x in tensors
    )


def _write(arrays, index, values):
    """Writes one value to entry `index` of each array."""
    return tuple(array.write(index, x) for array, x in zip(arrays, values, strict=True))


def _loop(body, state, num_steps, constants):
    """Runs `iterate` as a loop with a tensor as step count."""
    _, state = tf.while_loop(
        lambda r, _: r < num_steps,
        lambda r, state: (r + 1, tuple(body(r, state, constants))),
        (tf.constant(0), tuple(state)),
    )
    return state


def _recorded(body, state, num_steps, constants, place, num_records, like):
    """Runs `record` as a loop; `like` is a record."""
    arrays = _arrays(tf.nest.flatten(like), num_records)
    place = tf.constant(place, tf.int32)

    def step(i, state, arrays):
        state, output = body(i, state, constants)
        output = [tf.stop_gradient(x) for x in tf.nest.flatten(output)]
        return i + 1, tuple(state), _write(arrays, place[i], output)

    _, state, arrays = tf.while_loop(
        lambda i, *_: i < num_steps,
        step,
        (tf.constant(0), tuple(state), arrays),
        maximum_iterations=num_steps,
    )
    records = [tf.stop_gradient(array.stack()) for array in arrays]
    return state, tf.nest.pack_sequence_as(like, records)


def _rematerialised(body, state, num_steps, constants, place=None, num_records=0, like=()):
    """Runs `record` as a loop whose gradient recomputes each step from the state before it.

    `like` is a record; by default records are empty, which is `iterate`.
    """
    num_states = len(state)
    flat_constants = tf.nest.flatten(constants)
    place = tf.constant(place or [0] * num_steps, tf.int32)

    def step(i, state, flat):
        state, output = body(i, state, tf.nest.pack_sequence_as(constants, flat))
        return tuple(state), tf.nest.flatten(output)

    @tf.custom_gradient
    def run(*inputs):
        state = inputs[:num_states]
        flat = inputs[num_states:]
        before = _arrays(state, num_steps)
        records = _arrays(tf.nest.flatten(like), num_records)

        def forward(i, state, before, records):
            before = _write(before, i, state)
            state, output = step(i, state, flat)
            return i + 1, state, before, _write(records, place[i], output)

        _, last, before, records = tf.while_loop(
            lambda i, *_: i < num_steps,
            forward,
            (tf.constant(0), state, before, records),
            **_one_at_a_time(num_steps),
        )

        def gradient(*upstream, variables=()):
            to_last = tuple(upstream[:num_states])
            to_inputs, to_variables = _backward(step, before, flat, variables, to_last, num_steps)
            return (to_inputs, to_variables) if variables else to_inputs

        return (*last, *(array.stack() for array in records)), gradient

    results = run(*state, *flat_constants)
    records = [tf.stop_gradient(x) for x in results[num_states:]]
    return results[:num_states], tf.nest.pack_sequence_as(like, records)


def _backward(step, before, flat, variables, to_last, num_steps):
    """Differentiates the steps from the last to the first, each recomputed from its state `before`.

    Args:
      step: function of (i, state, flat constants) -> (state, flat record).
      before: arrays of the states before every step.
      flat: flat constants.
      variables: weights that the steps read.
      to_last: gradients with respect to the last state.
      num_steps: Python integer.

    Returns:
      (gradients with respect to the first state and the constants, those of the variables).
    """

    def backward(i, to_state, to_constants, to_variables):
        state = tuple(array.read(i) for array in before)
        with tf.GradientTape() as tape:
            tape.watch([state, flat])
            after, _ = step(i, state, flat)

        of_state, of_constants, of_variables = tape.gradient(
            after,
            [list(state), list(flat), list(variables)],
            output_gradients=to_state,
            unconnected_gradients="zero",
        )
        return (
            i - 1,
            tuple(of_state),
            _sums(to_constants, of_constants),
            _sums(to_variables, of_variables),
        )

    zeros = (
        tuple(tf.zeros_like(c) for c in flat),
        tuple(tf.zeros(v.shape, v.dtype) for v in variables),
    )
    _, to_state, to_constants, to_variables = tf.while_loop(
        lambda i, *_: i >= 0,
        backward,
        (tf.constant(num_steps - 1), to_last, *zeros),
        **_one_at_a_time(num_steps),
    )
    return [*to_state, *to_constants], list(to_variables)


def _one_at_a_time(num_steps):
    """Returns options of `tf.while_loop` that keep the memory to that of one step.

    Recomputing a step needs nothing of the step after it, so TensorFlow would by default recompute
    ten of them at a time.
    """
    return {"maximum_iterations": num_steps, "parallel_iterations": 1}


def _sums(totals, values):
    return tuple(total + value for total, value in zip(totals, values, strict=True))
