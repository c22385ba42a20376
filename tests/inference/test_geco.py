"""Both forms of GECO against their update rules worked out by hand; targets of the papers."""

import math

import numpy as np
import pytest
import tensorflow as tf

from tfobj.inference.gaussian_error import gaussian_floor, mean_squared_error_at
from tfobj.inference.geco import ErrorMultiplier, KLMultiplier

START = math.log1p(math.exp(0.55))


def built(layer):
    layer.build()
    return layer


def follow(geco, values, first_step=0):
    update = tf.function(geco.update, autograph=False)
    for step, value in enumerate(values, first_step):
        update(tf.constant(float(value)), tf.constant(step, tf.int64))
    return float(geco.constraint()), float(geco.multiplier())


def test_error_multiplier_warms_up():
    geco = built(ErrorMultiplier(-100.0, warm_steps=3))
    assert float(geco.multiplier()) == 1.0
    assert follow(geco, [5.0, 5.0]) == (0.0, 1.0)
    # The update after `warm_steps` finished ones is the first with a multiplier; it sets the
    # average and leaves beta.
    assert follow(geco, [5.0], 2) == (0.0, pytest.approx(START))
    assert follow(geco, [5.0], 3) == (-105.0, pytest.approx(START))


def test_error_multiplier_while_the_target_is_met():
    geco = built(ErrorMultiplier(-100.0, warm_steps=0, acceleration=5.0))
    constraint, multiplier = follow(geco, [-1100.0] * 20)
    assert constraint == pytest.approx(1000.0) and multiplier == pytest.approx(START)


def test_error_multiplier_while_the_target_is_missed():
    """Emami 2021, released code: 1,000 nats above the target raise beta by 1e-3 per update."""
    geco = built(ErrorMultiplier(-100.0, warm_steps=0))
    constraint, _ = follow(geco, [900.0] * 21)
    assert constraint == pytest.approx(-1000.0) and float(geco.beta) == pytest.approx(
        0.55 + 20 * 1e-3, rel=1e-4
    )
    # On the way back the rate is multiplied.
    geco.acceleration = 5.0
    geco.average.assign(1000.0)
    follow(geco, [-1100.0], 21)
    assert float(geco.beta) == pytest.approx(0.57 - 5e-3, rel=1e-4)


def test_error_multiplier_average():
    geco = built(ErrorMultiplier(0.0, warm_steps=0))
    assert follow(geco, [-10.0, 20.0])[0] == pytest.approx(0.99 * 10.0 - 0.01 * 20.0)


def test_kl_multiplier():
    """Engelcke 2020, released code: log beta moves by 1e-5 per nat and update.

    An error above the goal lowers it, one below raises it ten times faster.
    """
    geco = built(KLMultiplier(100.0))
    assert float(geco.multiplier()) == 1.0
    constraint, multiplier = follow(geco, [100.0])
    assert (constraint, multiplier) == (0.0, 1.0)
    geco = built(KLMultiplier(100.0))
    assert follow(geco, [700.0]) == (-600.0, pytest.approx(math.exp(-6e-3)))
    geco = built(KLMultiplier(100.0))
    assert follow(geco, [90.0]) == (10.0, pytest.approx(math.exp(1e-3)))
    assert follow(geco, [190.0], 1)[0] == pytest.approx(0.99 * 10.0 - 0.01 * 90.0)


def test_kl_multiplier_stays_in_its_bounds():
    geco = built(KLMultiplier(0.0, rate=1.0))
    assert follow(geco, [1e6] * 3)[1] == pytest.approx(1e-10)
    geco = built(KLMultiplier(0.0, rate=1.0))
    assert follow(geco, [-1e6] * 3)[1] == pytest.approx(1e10)


@pytest.mark.parametrize(
    "make",
    [lambda: ErrorMultiplier(-100.0, warm_steps=0), lambda: KLMultiplier(100.0)],
    ids=["error", "kl"],
)
def test_a_broken_likelihood_changes_nothing(make):
    geco = built(make())
    before = follow(geco, [50.0, 60.0])
    for value in (math.nan, math.inf, -math.inf):
        assert follow(geco, [value], 2) == before


@pytest.mark.parametrize(
    "make", [lambda: ErrorMultiplier(-100.0), lambda: KLMultiplier(100.0)], ids=["error", "kl"]
)
def test_state_is_saved_and_not_trained(make):
    geco = built(make())
    assert (
        not geco.trainable_weights and len({w.path for w in geco.weights}) == len(geco.weights) >= 2
    )
    with tf.GradientTape() as tape:
        value = geco.multiplier() * 2.0
    assert tape.gradient(value, [w.value for w in geco.weights]) == [None] * len(geco.weights)


def test_floors_and_targets_of_the_papers():
    # GENESIS.
    assert gaussian_floor(0.7) == pytest.approx(0.56226, abs=1e-5)
    assert mean_squared_error_at(0.5655, 0.7) == pytest.approx(3.2e-3, rel=0.02)

    # EfficientMORL on CLEVR6.
    assert gaussian_floor(0.1, with_constant=False) == pytest.approx(-2.3025851)
    error = mean_squared_error_at(-2.206, 0.1, with_constant=False)
    assert error == pytest.approx(1.9e-3, rel=0.02)

    # Its published target on Tetrominoes is below the floor.
    assert mean_squared_error_at(-1.224, 0.3, with_constant=False) < 0.0
    floor = gaussian_floor(0.3, with_constant=False) * 3 * 35**2
    np.testing.assert_allclose(floor, -4424.6, rtol=1e-4)
