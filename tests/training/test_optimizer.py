"""The learning rate over the steps, and Adam and RMSprop against Keras' own."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfobj import replicas
from tfobj.training.experiment import TrainConfig, resolve
from tfobj.training.optimizer import GlobalAdam, WarmupDecay, make_optimizer


@pytest.mark.parametrize(
    "step, rate",
    [(0, 0.0), (5_000, 1.932e-4), (10_000, 3.732e-4), (100_000, 2.0e-4), (500_000, 1.25e-5)],
)
def test_the_rate_is_that_of_slot_attention(step, rate):
    """Locatello 2020, official training code.

    Linear warm-up over 10,000 steps times continuous halving per 100,000.
    """
    schedule = make_optimizer(resolve("slot_attention", "tetris").train)._learning_rate
    np.testing.assert_allclose(schedule(tf.constant(step, tf.int64)), rate, rtol=2e-4)


@pytest.mark.parametrize(
    "step, rate",
    [(0, 0.0), (5_000, 2e-4), (10_000, 4e-4), (110_000, 2e-4), (210_000, 1e-4), (300_000, 5.36e-5)],
)
def test_the_decay_may_begin_after_the_warm_up(step, rate):
    """Emami 2021, released code."""
    config = TrainConfig(
        learning_rate=4e-4,
        warmup_steps=10_000,
        decay_start=10_000,
        decay_rate=0.5,
        decay_steps=100_000,
    )
    np.testing.assert_allclose(
        make_optimizer(config)._learning_rate(tf.constant(step, tf.int64)),
        rate,
        rtol=1e-3,
        atol=1e-12,
    )


def test_a_cosine_falls_slowly_at_first_and_last():
    schedule = WarmupDecay(0.5, cooldown_steps=100, total_steps=100, cooldown="cosine")
    np.testing.assert_allclose(
        [float(schedule(s)) for s in (0, 25, 50, 75, 100)],
        [0.5, 0.25 * (1 + np.sqrt(0.5)), 0.25, 0.25 * (1 - np.sqrt(0.5)), 0.0],
        rtol=1e-5,
        atol=1e-8,
    )


def test_the_cooldown_ends_at_zero():
    schedule = WarmupDecay(0.5, cooldown_steps=10, total_steps=100)
    np.testing.assert_allclose(
        [float(schedule(s)) for s in (0, 90, 95, 99, 100, 101)],
        [0.5, 0.5, 0.25, 0.05, 0.0, 0.0],
        rtol=1e-6,
    )


def test_the_rate_is_constant_by_default():
    schedule = make_optimizer(TrainConfig(learning_rate=3e-4))._learning_rate
    assert {float(schedule(s)) for s in (0, 1, 1_000_000)} == {float(np.float32(3e-4))}


def test_schedule_survives_serialization():
    schedule = WarmupDecay(0.5, 10, 0.5, 100, 20, 1_000)
    copy = keras.optimizers.schedules.deserialize(keras.optimizers.schedules.serialize(schedule))
    assert [float(copy(s)) for s in (5, 500, 995)] == [float(schedule(s)) for s in (5, 500, 995)]


def updated(optimizer, num_steps=5):
    """Returns two weights after updates with fixed gradients of global norm above one."""
    variables = [
        keras.Variable(np.ones((3, 2), np.float32)),
        keras.Variable(np.zeros((4,), np.float32)),
    ]
    rng = np.random.default_rng(0)
    for _ in range(num_steps):
        gradients = [tf.constant(rng.normal(size=v.shape), tf.float32) for v in variables]
        optimizer.apply_gradients(
            zip(
                replicas.sum_over(gradients) if isinstance(optimizer, GlobalAdam) else gradients,
                variables,
                strict=True,
            )
        )
    return [v.numpy() for v in variables]


@pytest.mark.parametrize("clip_norm", [None, 0.1])
def test_one_device_equals_keras_adam(clip_norm):
    ours = make_optimizer(
        TrainConfig(
            learning_rate=1e-2,
            adam_beta_1=0.95,
            adam_beta_2=0.99,
            adam_epsilon=1e-6,
            clip_norm=clip_norm,
        )
    )
    reference = keras.optimizers.Adam(
        1e-2, beta_1=0.95, beta_2=0.99, epsilon=1e-6, global_clipnorm=clip_norm
    )
    for a, b in zip(updated(ours), updated(reference), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


def numpy_adam(gradients, placement, rate=1e-2, betas=(0.9, 0.999), epsilon=1e-8, clip_norm=None):
    """Returns the changes of a weight over updates, in double precision."""
    m = v = 0.0
    change = 0.0
    for t, gradient in enumerate(gradients, start=1):
        if clip_norm is not None:
            gradient = gradient * min(1.0, clip_norm / np.linalg.norm(gradient))
        m = betas[0] * m + (1 - betas[0]) * gradient
        v = betas[1] * v + (1 - betas[1]) * gradient**2
        unbiased_m = m / (1 - betas[0] ** t)
        if placement == "pytorch":
            change = change - rate * unbiased_m / (np.sqrt(v / (1 - betas[1] ** t)) + epsilon)
        else:
            change = change - rate * unbiased_m * np.sqrt(1 - betas[1] ** t) / (
                np.sqrt(v) + epsilon
            )
    return change


def keras_change(optimizer, gradients):
    variable = keras.Variable(np.zeros(gradients.shape[1:], np.float32))
    for gradient in gradients:
        optimizer.apply([tf.constant(gradient, tf.float32)], [variable])
    return variable.numpy()


@pytest.mark.parametrize("placement", ["tensorflow", "pytorch"])
@pytest.mark.parametrize("scale", [1e-9, 1e-6, 1.0])
@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.5, 0.9)])
@pytest.mark.parametrize("clip_norm", [None, 0.3])
def test_both_placements_of_epsilon_equal_numpy(placement, scale, betas, clip_norm):
    gradients = scale * np.random.default_rng(1).normal(size=(6, 5))
    if clip_norm is not None:
        clip_norm *= float(np.linalg.norm(gradients, axis=1).max())
    config = TrainConfig(
        learning_rate=1e-2,
        adam_beta_1=betas[0],
        adam_beta_2=betas[1],
        adam_epsilon_placement=placement,
        clip_norm=clip_norm,
    )
    found = keras_change(make_optimizer(config), gradients)
    expected = numpy_adam(gradients, placement, betas=betas, clip_norm=clip_norm)
    np.testing.assert_allclose(found, expected, rtol=2e-5)


def test_tiny_gradients_tell_the_placements_apart():
    """The first update of a gradient g is rate g / (|g| + epsilon) only in PyTorch."""
    gradient = np.array([[1e-9, 1e-8, 1.0]])
    found = {
        placement: -keras_change(
            make_optimizer(TrainConfig(learning_rate=1.0, adam_epsilon_placement=placement)),
            gradient,
        )
        for placement in ("tensorflow", "pytorch")
    }
    np.testing.assert_allclose(found["pytorch"], [1 / 11, 1 / 2, 1.0], rtol=1e-5)
    root = np.sqrt(0.001)
    expected = gradient[0] * root / (gradient[0] * root + 1e-8)
    np.testing.assert_allclose(found["tensorflow"], expected, rtol=2e-5)
    assert found["pytorch"][0] > 25 * found["tensorflow"][0]


@pytest.mark.parametrize("placement", ["tensorflow", "pytorch"])
def test_moments_without_memory_need_no_correction(placement):
    config = TrainConfig(
        learning_rate=1.0, adam_beta_1=0.0, adam_beta_2=0.0, adam_epsilon_placement=placement
    )
    gradient = np.array([[1e-9, 1e-8, -3.0]])
    found = keras_change(make_optimizer(config), gradient)
    np.testing.assert_allclose(found, [-1 / 11, -1 / 2, 1.0], rtol=1e-5)


def test_placement_survives_serialization():
    optimizer = GlobalAdam(0.1, epsilon=1e-5, epsilon_placement="pytorch")
    copy = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert isinstance(copy, GlobalAdam) and copy.epsilon_placement == "pytorch"
    assert GlobalAdam.from_config(GlobalAdam(0.1).get_config()).epsilon_placement == "tensorflow"


@pytest.fixture(scope="module")
def two_replicas():
    """One strategy for all tests: the collectives of a second one would bear the same numbers."""
    return tf.distribute.MirroredStrategy(["cpu:0", "cpu:1"])


def test_placement_keeps_the_reduction_over_replicas(two_replicas):
    """Two replicas with parts of a gradient make the update of one with all of it."""
    gradients = 1e-8 * np.random.default_rng(2).normal(size=(3, 4))
    with two_replicas.scope():
        variable = keras.Variable(np.zeros((4,), np.float32))
        optimizer = GlobalAdam(1e-2, epsilon=1e-8, epsilon_placement="pytorch")
        optimizer.build([variable])

    @tf.function
    def step(gradient):
        def replica():
            me = tf.distribute.get_replica_context().replica_id_in_sync_group
            share = gradient * tf.where(tf.equal(me, 0), 0.25, 0.75)
            optimizer.apply(replicas.sum_over([share]), [variable])

        two_replicas.run(replica)

    for gradient in gradients:
        step(tf.constant(gradient, tf.float32))
    np.testing.assert_allclose(variable.numpy(), numpy_adam(gradients, "pytorch"), rtol=1e-5)
    copies = [v.numpy() for v in variable.value.values]
    np.testing.assert_array_equal(*copies)


def test_clipping_is_active_in_this_test():
    """Adam hides a constant factor.

    So the claim above would hold without clipping if every step were scaled alike.
    """
    clipped, free = (
        make_optimizer(TrainConfig(learning_rate=1e-2, clip_norm=c)) for c in (0.1, None)
    )
    assert np.abs(updated(clipped)[0] - updated(free)[0]).max() > 1e-4


def test_two_replicas_clip_the_sum(two_replicas):
    """Keras would clip each replica's share.

    (0.6, 0) and (0, 0.8) would pass a bound of 1 unclipped, as does their sum of norm 1.
    """
    with two_replicas.scope():
        variable = keras.Variable(np.zeros((2,), np.float32))
        optimizer = GlobalAdam(0.1, global_clipnorm=1.0)
        optimizer.build([variable])

    @tf.function
    def step():
        def replica():
            me = tf.distribute.get_replica_context().replica_id_in_sync_group
            gradient = tf.where(tf.equal(me, 0), [3.0, 0.0], [0.0, 4.0])
            optimizer.apply_gradients([(g, variable) for g in replicas.sum_over([gradient])])

        two_replicas.run(replica)

    step()
    # First moment after one step: (1 - beta_1) * clipped gradient; the sum (3, 4) has norm 5.
    np.testing.assert_allclose(optimizer._momentums[0].numpy(), [0.1 * 0.6, 0.1 * 0.8], rtol=1e-5)
