"""Stick breaking: hand-computed masks, laws, saturated logits; the bijector against TFP."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tfobj.distributions.stick_breaking import StickBreaking, stick_breaking
from tfobj.errors import UserError


def make_logits(shape=(2, 3, 4, 5, 1), seed=0, scale=2.0):
    return np.random.default_rng(seed).normal(scale=scale, size=shape).astype(np.float32)


def sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


def test_equal_logits_halve_what_is_left():
    log_masks, log_scopes = stick_breaking(np.zeros([1, 3, 2, 2, 1], np.float32))
    np.testing.assert_allclose(
        np.exp(log_masks)[0, :, 0, 0, 0], [1 / 2, 1 / 4, 1 / 8, 1 / 8], rtol=1e-6
    )
    np.testing.assert_allclose(
        np.exp(log_scopes)[0, :, 0, 0, 0], [1, 1 / 2, 1 / 4, 1 / 8], rtol=1e-6
    )


@pytest.mark.parametrize(
    "axis, shape", [(1, (2, 3, 4, 5, 1)), (-1, (6, 2)), (0, (4, 3)), (2, (2, 3, 1))]
)
def test_recursion(axis, shape):
    """Against the definition, step by step in float64."""
    logits = make_logits(shape)
    log_masks, log_scopes = (
        np.moveaxis(np.asarray(x), axis, 0) for x in stick_breaking(logits, axis)
    )
    scope = 1.0
    for k, a in enumerate(np.moveaxis(logits, axis, 0)):
        np.testing.assert_allclose(
            np.exp(log_scopes[k]), np.broadcast_to(scope, a.shape), rtol=1e-5
        )
        np.testing.assert_allclose(np.exp(log_masks[k]), scope * sigmoid(a), rtol=1e-5)
        scope = scope * sigmoid(-a)

    np.testing.assert_allclose(np.exp(log_masks[-1]), scope, rtol=1e-5)
    np.testing.assert_array_equal(log_masks[-1], log_scopes[-1])
    assert len(log_masks) == shape[axis] + 1


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("sticks", [1, 3, 6])
def test_an_unknown_number_of_slots_gives_the_same(sticks, jit_compile):
    logits = make_logits((2, sticks, 3, 3, 1))

    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            log_masks, log_scopes = stick_breaking(x)
            loss = tf.reduce_sum(tf.sin(log_masks) + log_scopes**2)
        return log_masks, log_scopes, tape.gradient(loss, x)

    signature = [tf.TensorSpec([2, None, 3, 3, 1])]
    free = tf.function(run, input_signature=signature, jit_compile=jit_compile)
    for got, expected in zip(free(logits), run(tf.constant(logits)), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_saturated_logits_are_finite():
    """All combinations of -50, 0 and 50 on four sticks: values, gradients, sums of masks."""
    logits = tf.constant(
        np.stack(np.meshgrid(*[[-50.0, 0.0, 50.0]] * 4), -1).reshape(-1, 4), tf.float32
    )
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(logits)
        log_masks, log_scopes = stick_breaking(logits, axis=-1)
        masks = tf.exp(log_masks)

    assert np.isfinite(log_masks).all()
    assert np.isfinite(log_scopes).all()
    assert float(tf.reduce_min(log_masks)) == -200.0
    np.testing.assert_allclose(tf.reduce_sum(masks, -1), 1.0, atol=1e-5)
    for target in (log_masks, log_scopes, masks):
        assert np.isfinite(tape.gradient(target, logits)).all()

    # A saturated step keeps its gradient: d log sigmoid(-a) / d a = -1 at a = 50.
    np.testing.assert_allclose(
        tape.gradient(log_scopes, logits)[-1], [-4.0, -3.0, -2.0, -1.0], rtol=1e-6
    )


def test_float32_whatever_comes_in():
    log_masks, log_scopes = stick_breaking(tf.cast(make_logits(), tf.bfloat16))
    assert log_masks.dtype == log_scopes.dtype == tf.float32
    np.testing.assert_allclose(tf.reduce_sum(tf.exp(log_masks), 1), 1.0, atol=1e-5)


def test_one_slot_is_a_mistake():
    with pytest.raises(
        UserError,
        match=r"`logits` must hold at least two slots: .* Received: shape \(2, 0, 3, 3, 1\)",
    ):
        stick_breaking(np.zeros([2, 0, 3, 3, 1], np.float32))


def test_bijector_and_function_agree():
    logits = make_logits((5, 3))
    np.testing.assert_array_equal(
        StickBreaking().forward(logits), tf.exp(stick_breaking(logits, axis=-1)[0])
    )


@pytest.mark.parametrize("sticks", [1, 2, 5])
def test_log_det_jacobian_equals_autodiff(sticks):
    bijector = StickBreaking()
    x = tf.constant(make_logits((7, sticks), scale=1.0))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = StickBreaking().forward(x)
        back = StickBreaking().inverse(y)

    # Of the first K - 1 shares.
    jacobian = np.asarray(tape.batch_jacobian(y, x), np.float64)[:, :-1]
    expected = np.linalg.slogdet(jacobian)[1]

    np.testing.assert_allclose(
        bijector.forward_log_det_jacobian(x, event_ndims=1), expected, rtol=1e-4
    )
    np.testing.assert_allclose(
        StickBreaking().inverse_log_det_jacobian(tf.identity(y), event_ndims=1),
        -expected,
        rtol=1e-4,
    )

    there_and_back = tape.batch_jacobian(back, x)
    np.testing.assert_allclose(
        there_and_back, np.broadcast_to(np.eye(sticks), there_and_back.shape), atol=1e-4
    )


@pytest.mark.parametrize("sticks", [1, 4])
def test_equals_tfp_with_shifted_logits(sticks):
    """IteratedSigmoidCentered takes sigmoid(x_k - log(K - k)) of the rest: ours plus log(K - k)."""
    theirs = tfp.bijectors.IteratedSigmoidCentered()
    ours = StickBreaking()
    x = make_logits((6, sticks))
    shift = np.log(np.arange(sticks, 0, -1)).astype(np.float32)
    y = ours.forward(x)

    np.testing.assert_allclose(theirs.forward(x + shift), y, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(
        ours.inverse(tf.identity(y)) + shift, theirs.inverse(tf.identity(y)), rtol=1e-2, atol=1e-3
    )
    np.testing.assert_allclose(
        ours.forward_log_det_jacobian(x, event_ndims=1),
        theirs.forward_log_det_jacobian(x + shift, event_ndims=1),
        rtol=1e-3,
    )


def test_round_trips():
    bijector = StickBreaking()
    x = make_logits((50, 4), scale=4.0)
    np.testing.assert_allclose(
        bijector.inverse(tf.identity(bijector.forward(x))), x, rtol=1e-4, atol=1e-4
    )
    # A first share of almost one: 1 - share would be zero in float32, the sum from the end is not.
    np.testing.assert_allclose(
        bijector.inverse(tf.identity(bijector.forward([[40.0, 1.0]]))), [[40.0, 1.0]], rtol=1e-5
    )
    y = np.random.default_rng(1).dirichlet([0.3] * 4, 50).astype(np.float32)
    np.testing.assert_allclose(bijector.forward(tf.identity(bijector.inverse(y))), y, atol=1e-6)


@pytest.mark.parametrize("y", [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.5, 0.0, 0.5]])
def test_shares_of_zero_have_finite_logits(y):
    bijector = StickBreaking()
    y = tf.constant(y)
    with tf.GradientTape() as tape:
        tape.watch(y)
        x = bijector.inverse(y)
    assert np.isfinite(x).all() and np.abs(x).max() < 90 and np.isfinite(tape.gradient(x, y)).all()
    np.testing.assert_allclose(bijector.forward(tf.identity(x)), y, atol=1e-6)


def test_transformed_distribution():
    """A logit-normal on the triangle: its shares sum to one and its density integrates to one."""
    base = tfp.distributions.MultivariateNormalDiag(loc=[0.3, -0.2], scale_diag=[0.7, 1.1])
    simplex = tfp.distributions.TransformedDistribution(base, StickBreaking())
    assert simplex.event_shape == (3,)
    np.testing.assert_allclose(tf.reduce_sum(simplex.sample(20, seed=(1, 2)), -1), 1.0, atol=1e-5)

    n = 400
    first, second = np.meshgrid((np.arange(n) + 0.5) / n, (np.arange(n) + 0.5) / n, indexing="ij")
    inside = first + second < 1 - 1e-6
    shares = np.stack(
        [first[inside], second[inside], 1 - first[inside] - second[inside]], -1
    ).astype(np.float32)

    np.testing.assert_allclose(np.exp(simplex.log_prob(shares)).sum() / n**2, 1.0, atol=0.01)

    y = tfp.distributions.Sample(base, 4).sample(seed=(3, 4))
    np.testing.assert_allclose(
        simplex.log_prob(tf.identity(StickBreaking().forward(y))),
        base.log_prob(y) - StickBreaking().forward_log_det_jacobian(y, event_ndims=1),
        rtol=1e-4,
    )
