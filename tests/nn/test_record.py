"""`record`: unrolled, as a loop, and recomputing, one result and one gradient."""

import numpy as np
import pytest
import tensorflow as tf

from tfobj import execution
from tfobj.execution import Execution
from tfobj.nn import iteration

PLACE = [0, 0, 1, 1, 1, 2]
"""Six steps that leave three records: the last of each."""


def run(start, factor):
    """Returns (value and gradients of the state's sum, records, gradients of the records)."""

    def body(t, state, factor):
        (x,) = state
        x = tf.sin(factor * x + tf.cast(t, tf.float32))
        return (x,), {"x": x, "t": tf.cast(t, tf.float32)}

    with tf.GradientTape(persistent=True) as tape:
        tape.watch([start, factor])
        (last,), records = iteration.record(body, (start,), len(PLACE), factor, PLACE, 3)
        total = tf.reduce_sum(last)
        of_records = tf.reduce_sum(records["x"])
    return (
        total,
        tape.gradient(total, [start, factor]),
        records,
        tape.gradient(of_records, [start, factor]),
    )


@pytest.mark.parametrize("way", ["loop", "rematerialised"])
@pytest.mark.parametrize("xla", [False, True])
def test_all_ways_agree(way, xla, monkeypatch):
    start = tf.constant([0.3, -0.7])
    factor = tf.constant(1.3)
    total, gradients, records, _ = run(start, factor)
    x = start
    expected = []
    for t in range(6):
        x = np.sin(1.3 * x + t)
        expected.append(x)
    np.testing.assert_allclose(
        records["x"], np.stack([expected[1], expected[4], expected[5]]), atol=1e-6
    )
    np.testing.assert_array_equal(records["t"], [1, 4, 5])
    if way == "loop":
        monkeypatch.setattr(iteration, "MAX_UNROLLED", 5)

    def traced(start, factor):
        with execution.using(Execution(rematerialise=way == "rematerialised")):
            return run(start, factor)[:3]

    got_total, got_gradients, got_records = tf.function(traced, jit_compile=xla, autograph=False)(
        start, factor
    )
    np.testing.assert_allclose(got_total, total, rtol=1e-5)
    for got, want in zip(
        (*got_gradients, *got_records.values()), (*gradients, *records.values()), strict=True
    ):
        np.testing.assert_allclose(got, want, atol=1e-5)


def test_records_carry_no_gradient():
    _, _, _, gradients = run(tf.constant([0.3, -0.7]), tf.constant(1.3))
    assert gradients == [None, None]
