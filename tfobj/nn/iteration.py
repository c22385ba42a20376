"""Loops for all kinds of iteration: unrolled, with a step count that is a tensor, and in the memory of one step."""

import tensorflow as tf

from tfobj import execution

MAX_UNROLLED = 20
"""Steps that `record` makes a straight line of."""


def iterate(body, state, num_steps, constants=()):
    """Returns `state` after `num_steps` applications of `state = body(t, state, constants)`.

    A Python integer is unrolled (the graph then has one straight line per step, which trains fastest for
    the few steps of these models); a tensor becomes a `tf.while_loop`, so that an exported model takes the
    number of steps as an input. Under `Execution.rematerialise` a Python integer becomes a loop whose
    gradient recomputes each step from the state before it: activations of one step instead of `num_steps`.

    Args:
      body: function of (t, state, constants); t is an integer, or an int32 tensor in loops.
      state: tuple of tensors of constant shapes.
      num_steps: at least 0.
      constants: tuple (or nest) of tensors that the body reads in every step. Every tensor that needs a
        gradient must come to the body through `state`, `constants` or weights; what a body captures otherwise has none
        when it is rematerialised.
    """
    if not isinstance(num_steps, int):
        return _loop(body, state, num_steps, constants)
    if execution.current().rematerialise and num_steps:
        return _rematerialised(lambda *step: (body(*step), ()), state, num_steps, constants)[0]
    for t in range(num_steps):
        state = body(t, state, constants)
    return state


def scan(body, state, num_steps):
    """Returns (last state, outputs stacked on a new first axis) of `state, outputs = body(t, state)` for t = 0 ... num_steps - 1.

    A Python integer is unrolled, a tensor becomes a `tf.while_loop`.

    Args:
      body: function of (t, state); the outputs are a tensor or a nest of them, of the same shapes at every step.
      state: tuple of tensors of constant shapes.
      num_steps: at least 1.
    """
    if isinstance(num_steps, int):
        outputs = []
        for t in range(num_steps):
            state, output = body(t, state)
            outputs.append(output)
        return state, tf.nest.map_structure(lambda *steps: tf.stack(steps), *outputs)
    like = _like(lambda: body(tf.constant(0), state)[1])
    arrays = tf.nest.map_structure(
        lambda x: tf.TensorArray(x.dtype, num_steps, element_shape=x.shape), like
    )

    def step(t, state, arrays):
        state, output = body(t, state)
        return (
            t + 1,
            tuple(state),
            tf.nest.map_structure(lambda array, x: array.write(t, x), arrays, output),
        )

    _, state, arrays = tf.while_loop(
        lambda t, *_: t < num_steps, step, (tf.constant(0), tuple(state), arrays)
    )
    return state, tf.nest.map_structure(lambda array: array.stack(), arrays)


def record(body, state, num_steps, constants, place, num_records):
    """Returns (last state, records) of `state, record = body(t, state, constants)` for t = 0 ... num_steps - 1.

    Record t is kept at position `place[t]` of a new first axis of length `num_records`, over what an earlier step left there:
    a grid that visits a frame several times keeps one record per frame. Gradients flow through the state alone.

    Up to `MAX_UNROLLED` steps are unrolled; more are a loop, whose graph does not grow with them (tracing 31 frames of R-NEM and their
    gradient takes minutes). Under `Execution.rematerialise` all are a loop in the memory of one step, like `iterate`.

    Args:
      body: function of (t, state, constants); t is an integer, or an int32 tensor in loops. The record is a tensor or a nest of
        them, of the same shapes at every step.
      state: tuple of tensors of constant shapes.
      num_steps: Python integer of at least 1.
      constants: as for `iterate`.
      place: num_steps Python integers.
      num_records: Python integer.
    """
    rematerialise = execution.current().rematerialise
    if rematerialise or num_steps > MAX_UNROLLED:
        like = _like(lambda: body(tf.constant(0), tuple(state), constants)[1])
        return (_rematerialised if rematerialise else _recorded)(
            body, state, num_steps, constants, place, num_records, like
        )
    records = [None] * num_records
    for t in range(num_steps):
        state, records[place[t]] = body(t, state, constants)
    return tuple(state), tf.nest.map_structure(
        lambda *kept: tf.stop_gradient(tf.stack(kept)), *records
    )


def _like(step):
    """Returns the nest of outputs of a function without arguments as placeholders, whose types and shapes are known; nothing is computed."""
    return tf.function(step, autograph=False).get_concrete_function().structured_outputs


def _arrays(tensors, size):
    """Returns an array of `size` entries like each of the tensors."""
    return tuple(
        tf.TensorArray(x.dtype, size, element_shape=x.shape, clear_after_read=False)
        for x in tensors
    )


def _recorded(body, state, num_steps, constants, place, num_records, like):
    """`record` as a loop; `like` is a record."""
    arrays = _arrays(tf.nest.flatten(like), num_records)
    place = tf.constant(place, tf.int32)

    def step(t, state, arrays):
        state, kept = body(t, state, constants)
        kept = [tf.stop_gradient(x) for x in tf.nest.flatten(kept)]
        return (
            t + 1,
            tuple(state),
            tuple(array.write(place[t], x) for array, x in zip(arrays, kept, strict=True)),
        )

    _, state, arrays = tf.while_loop(
        lambda t, *_: t < num_steps,
        step,
        (tf.constant(0), tuple(state), arrays),
        maximum_iterations=num_steps,
    )
    return state, tf.nest.pack_sequence_as(
        like, [tf.stop_gradient(array.stack()) for array in arrays]
    )


def _loop(body, state, num_steps, constants):
    _, state = tf.while_loop(
        lambda t, _: t < num_steps,
        lambda t, state: (t + 1, tuple(body(t, state, constants))),
        (tf.constant(0), tuple(state)),
    )
    return state


def _rematerialised(body, state, num_steps, constants, place=None, num_records=0, like=()):
    """`record` as a loop whose gradient recomputes each step from the state before it; `like` is a record, by default an empty one."""
    num_states = len(state)
    # Recomputing a step needs nothing of the step after it, so TensorFlow would recompute ten of them at a time.
    one_at_a_time = {"maximum_iterations": num_steps, "parallel_iterations": 1}
    flat_constants = tf.nest.flatten(constants)
    place = tf.constant(place or [0] * num_steps, tf.int32)

    def step(t, state, flat):
        state, kept = body(t, state, tf.nest.pack_sequence_as(constants, flat))
        return tuple(state), tf.nest.flatten(kept)

    @tf.custom_gradient
    def run(*inputs):
        state, flat = inputs[:num_states], inputs[num_states:]
        before, records = _arrays(state, num_steps), _arrays(tf.nest.flatten(like), num_records)

        def forward(t, state, before, records):
            before = tuple(array.write(t, s) for array, s in zip(before, state, strict=True))
            state, kept = step(t, state, flat)
            records = tuple(
                array.write(place[t], x) for array, x in zip(records, kept, strict=True)
            )
            return t + 1, state, before, records

        _, last, before, records = tf.while_loop(
            lambda t, *_: t < num_steps,
            forward,
            (tf.constant(0), state, before, records),
            **one_at_a_time,
        )

        def gradient(*upstream, variables=()):
            def backward(t, to_state, to_constants, to_variables):
                state = tuple(array.read(t) for array in before)
                with tf.GradientTape() as tape:
                    tape.watch([state, flat])
                    after, _ = step(t, state, flat)
                sources = [list(state), list(flat), list(variables)]
                found = tape.gradient(
                    after, sources, output_gradients=to_state, unconnected_gradients="zero"
                )
                add = lambda sums, more: tuple(a + b for a, b in zip(sums, more, strict=True))
                return (
                    t - 1,
                    tuple(found[0]),
                    add(to_constants, found[1]),
                    add(to_variables, found[2]),
                )

            zeros = (
                tuple(tf.zeros_like(c) for c in flat),
                tuple(tf.zeros(v.shape, v.dtype) for v in variables),
            )
            _, to_state, to_constants, to_variables = tf.while_loop(
                lambda t, *_: t >= 0,
                backward,
                (tf.constant(num_steps - 1), tuple(upstream[:num_states]), *zeros),
                **one_at_a_time,
            )
            to_inputs = [*to_state, *to_constants]
            return (to_inputs, list(to_variables)) if variables else to_inputs

        return (*last, *(array.stack() for array in records)), gradient

    results = run(*state, *flat_constants)
    return results[:num_states], tf.nest.pack_sequence_as(
        like, [tf.stop_gradient(x) for x in results[num_states:]]
    )
