"""Noise: moments, one value on every engine, independence of replicas, places and restarts."""

import numpy as np
import pytest
import tensorflow as tf

from tfobj import random

ENGINE_TOLERANCE = 3e-5
"""Eager against XLA, from erfinv in the far tails (2.1e-5 over 1e6 draws)."""


def draw(seed=(0, 0, 0), place="here", shape=(4, 3, 5), index=0, kind="normal"):
    return getattr(random, kind)(random.make_seed(*seed), place, list(shape), index).numpy()


def test_moments_of_the_normal():
    x = draw(shape=(10, 100_000)).astype(np.float64)
    n = x.size
    # Four standard errors each.
    assert abs(x.mean()) < 4 / n**0.5
    assert abs(x.var() - 1) < 4 * (2 / n) ** 0.5
    assert abs((x**3).mean()) < 4 * (15 / n) ** 0.5
    assert abs((x**4).mean() - 3) < 4 * (96 / n) ** 0.5
    assert np.isfinite(x).all() and np.abs(x).max() <= 5.6


def test_uniform_is_open_and_flat():
    u = draw(shape=(10, 100_000), kind="uniform")
    assert u.min() > 0
    assert u.max() < 1
    counts = np.histogram(u, 20, (0, 1))[0]
    assert np.abs(counts - u.size / 20).max() < 5 * (u.size / 20) ** 0.5


def test_neighbouring_numbers_scenes_places_and_steps_are_uncorrelated():
    shape = (2, 50_000)
    x = draw(shape=shape)
    others = [
        x[0, :-1],
        x[1],
        draw(place="there", shape=shape)[0],
        draw((0, 1, 0), shape=shape)[0],
        draw((1, 0, 0), shape=shape)[0],
        draw(index=1, shape=shape)[0],
    ]
    partners = [x[0, 1:]] + [x[0]] * 5

    for a, b in zip(partners, others, strict=True):
        assert abs(np.corrcoef(a, b)[0, 1]) < 4.5 / 50_000**0.5


@pytest.mark.parametrize("shape", [(3, 4), (3, 5), (2, 3, 7), (1, 1), (4,)])
def test_eager_graph_and_xla_agree(shape):
    def fn(seed):
        return random.normal(seed, "here", list(shape), index=2), random.uniform(
            seed, "here", list(shape), index=2
        )

    seed = random.make_seed(7, 123_456, 65)
    eager = fn(seed)
    for jit_compile in (False, True):
        compiled = tf.function(fn, jit_compile=jit_compile)(seed)
        np.testing.assert_array_equal(compiled[1], eager[1])  # integer bits and exact arithmetic
        np.testing.assert_allclose(compiled[0], eager[0], atol=ENGINE_TOLERANCE)


def test_far_tails_agree_between_engines():
    @tf.function(jit_compile=True)
    def compiled(seed):
        return random.normal(seed, "tails", [1, 200_000])

    x = draw(place="tails", shape=(1, 200_000))
    assert np.abs(x).max() > 4
    np.testing.assert_allclose(compiled(random.make_seed()), x, atol=ENGINE_TOLERANCE)


@pytest.mark.parametrize("rest", [(3, 5), (4,), (7,), ()])
def test_a_replica_draws_its_part_of_the_joined_noise(rest):
    joined = draw((5, 9, 0), shape=(6, *rest))
    np.testing.assert_array_equal(draw((5, 9, 0), shape=(2, *rest)), joined[:2])
    np.testing.assert_array_equal(draw((5, 9, 2), shape=(4, *rest)), joined[2:])


def test_scenes_of_a_batch_differ():
    x = draw(shape=(8, 16))
    assert len(np.unique(x.round(6))) == x.size


@pytest.mark.parametrize(
    "other",
    [
        {"seed": (1, 0, 0)},
        {"seed": (0, 1, 0)},
        {"seed": (-1, 0, 0)},
        {"place": "there"},
        {"index": 1},
    ],
    ids=lambda o: next(iter(o)),
)
def test_every_part_of_the_key_counts(other):
    assert not np.isclose(draw(), draw(**other)).any()


def test_the_same_key_gives_the_same_noise():
    """A restart asks again with the same (run seed, step, place)."""
    draw((3, 1, 0))
    np.testing.assert_array_equal(draw((3, 2, 0)), draw((3, 2, 0)))


def test_values_are_pinned():
    """Runs that continue after an update of the package need the noise they began with."""
    got = draw((1, 2, 3), "pinned", (1, 4), index=4)[0]
    np.testing.assert_allclose(got, [1.1291128, -0.5324751, -0.6833219, 0.1729496], atol=1e-6)


def test_tensor_arguments():
    @tf.function
    def fn(step, batch, size, index):
        return random.normal(random.make_seed(3, step, 1), "here", [batch, size, 2], index)

    got = fn(*(tf.constant(v) for v in (4, 5, 3, 2)))
    np.testing.assert_array_equal(got, draw((3, 4, 1), shape=(5, 3, 2), index=2))


def test_static_shape():
    assert draw().shape == (4, 3, 5)
    fn = tf.function(
        lambda: random.normal(random.make_seed(), "here", [4, 3, 5])
    ).get_concrete_function()
    assert fn.output_shapes == (4, 3, 5)


@pytest.mark.parametrize("kind", ["normal", "uniform"])
@pytest.mark.parametrize("rest", [(3, 5), (4,), (7,), ()])
def test_shared_noise_is_that_of_scene_0_for_every_scene(kind, rest):
    """Bit for bit, whatever the batch and its first scene."""
    alone = draw((5, 9, 0), shape=(1, *rest), kind=kind)
    with random.shared_by_scenes():
        for first_scene, batch in ((0, 1), (0, 6), (4, 3)):
            shared = draw((5, 9, first_scene), shape=(batch, *rest), kind=kind)
            np.testing.assert_array_equal(shared, np.repeat(alone, batch, axis=0))


def test_shared_noise_ends_with_its_context_and_holds_inside_of_loops():
    def fn(batch):
        with random.shared_by_scenes():
            _, looped = tf.while_loop(
                lambda i, _: i < 3,
                lambda i, _: (i + 1, random.normal(random.make_seed(3), "here", [batch, 2], i)),
                (tf.constant(0), tf.zeros([batch, 2])),
            )
        return looped, random.normal(random.make_seed(3), "here", [batch, 2])

    looped, after = tf.function(fn, autograph=False)(tf.constant(4))
    np.testing.assert_array_equal(looped, np.repeat(draw((3, 0, 0), shape=(1, 2), index=2), 4, 0))
    np.testing.assert_array_equal(after, draw((3, 0, 0), shape=(4, 2)))
    assert len(np.unique(after)) == 8


def test_shared_noise_keeps_its_static_shape():
    def fn(batch):
        with random.shared_by_scenes():
            return random.normal(random.make_seed(), "here", [batch, 4, 3])

    function = tf.function(fn, autograph=False)
    assert function.get_concrete_function(5).output_shapes == (5, 4, 3)
    free = function.get_concrete_function(tf.TensorSpec([], tf.int32))
    assert free.output_shapes.as_list() == [None, 4, 3]
