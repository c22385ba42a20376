"""Numbers known to Python stay in Python; those of the graph give the same values."""

import numpy as np
import pytest
import tensorflow as tf

from tfobj.nn import static


@pytest.mark.parametrize("step", [0, 1, 5])
def test_tensors_give_the_values_of_integers(step):
    tensor = tf.constant(step)
    for function in (static.maximum, static.ratio):
        known = function(step, 2)
        assert static.is_static(known) and tf.is_tensor(function(tensor, 2))
        np.testing.assert_allclose(function(tensor, 2), known, rtol=1e-7)

    for other in (True, False):
        known = static.logical_and(step == 0, other)
        assert known is (step == 0 and other)
        assert bool(static.logical_and(tensor == 0, other)) is known
        assert static.holds(known) is known and not static.holds(tensor == 0)
        assert static.logical_not(known) is not known
        assert bool(static.logical_not(tf.constant(known))) is not known


def test_where_selects_from_nests():
    first, second = (tf.constant(1.0), (2,)), (tf.constant(3.0), (4,))
    assert static.where(True, first, second) is first
    assert static.where(False, first, second) is second
    for condition, expected in ((True, (1.0, (2,))), (False, (3.0, (4,)))):
        chosen = static.where(tf.constant(condition), first, second)
        tf.nest.map_structure(np.testing.assert_array_equal, chosen, expected)


def test_where_calls_what_it_needs():
    calls = []

    def arm(value):
        return lambda: calls.append(value) or tf.constant(value)

    assert static.where(True, arm(1), arm(2)) == 1
    assert calls == [1]
    assert static.where(tf.constant(False), arm(1), arm(2)) == 2
    assert calls == [1, 1, 2]
