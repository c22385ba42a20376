"""`scan`: unrolled and as a loop, against a loop by hand."""

import numpy as np
import pytest
import tensorflow as tf

from tfobj.nn.iteration import iterate, scan


def body(t, state):
    (x,) = state
    x = x * 1.5 + tf.cast(t, tf.float32)
    return (x,), {"x": x, "square": x[:, :1] ** 2}


def by_hand(x, num_steps):
    xs = []
    for t in range(num_steps):
        x = x * 1.5 + t
        xs.append(x)
    return x, np.stack(xs), np.stack(xs)[:, :, :1] ** 2


@pytest.mark.parametrize("num_steps", [1, 4])
@pytest.mark.parametrize("as_tensor", [False, True], ids=["integer", "tensor"])
def test_outputs_are_stacked(num_steps, as_tensor):
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    last, xs, squares = by_hand(x, num_steps)
    run = tf.function(lambda x, n: scan(body, (x,), n if as_tensor else num_steps), autograph=False)
    (state,), outputs = run(tf.constant(x), tf.constant(num_steps))
    np.testing.assert_allclose(state, last)
    np.testing.assert_allclose(outputs["x"], xs)
    np.testing.assert_allclose(outputs["square"], squares)


def test_gradients_of_the_loop_are_those_of_the_unrolled_form():
    def gradient(num_steps):
        x = tf.constant([[1.0, 2.0]])
        with tf.GradientTape() as tape:
            tape.watch(x)
            _, outputs = scan(body, (x,), num_steps)
            total = tf.reduce_sum(outputs["square"]) + tf.reduce_sum(outputs["x"] ** 3)
        return tape.gradient(total, x)

    np.testing.assert_allclose(
        tf.function(lambda n: gradient(n), autograph=False)(tf.constant(3)), gradient(3), rtol=1e-6
    )


def test_no_steps_leave_the_state_alone():
    x = tf.constant([[1.0]])
    assert iterate(lambda t, state, constants: (state[0] + 1,), (x,), 0)[0] is x
