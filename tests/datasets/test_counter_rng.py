"""Philox against published vectors and against TensorFlow's own implementation."""

import numpy as np
import pytest

from tfobj.datasets.generators import counter_rng

# `kat_vectors` of Random123, philox4x32 with 10 rounds: counter, key, result.
KNOWN_ANSWERS = [
    ([0x00000000] * 4, [0x00000000] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        [0xA4093822, 0x299F31D0],
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]


@pytest.mark.parametrize("counter, key, expected", KNOWN_ANSWERS)
def test_known_answers(counter, key, expected):
    assert [int(word) for word in counter_rng.philox_4x32(counter, key)] == expected


def test_equals_tensorflow():
    import tensorflow as tf

    seed = 0x0123456789ABCDEF
    stream = 77
    index = 123_456
    num_words = 42
    words = counter_rng.random_words([index], num_words, seed=seed, stream=stream, attempt=9)[0]
    expected = tf.raw_ops.StatelessRandomUniformFullIntV2(
        shape=[num_words],
        key=np.array([seed], np.uint64),
        counter=np.array([9 << 32, stream << 32 | index], np.uint64),
        alg=1,
        dtype=tf.uint32,
    )

    np.testing.assert_array_equal(words, expected.numpy())


def test_rows_do_not_depend_on_their_neighbours():
    indices = np.array([5, 0, 5, 4_000_000_000])
    together = counter_rng.random_words(indices, 6, seed=1, stream=2)
    alone = np.concatenate([counter_rng.random_words([i], 6, seed=1, stream=2) for i in indices])
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(
        together, counter_rng.random_words(indices, 11, seed=1, stream=2)[:, :6]
    )


@pytest.mark.parametrize(
    "change", [{"seed": 2}, {"seed": 1 + 2**32}, {"stream": 3}, {"attempt": 1}]
)
def test_every_argument_changes_the_words(change):
    base = {"seed": 1, "stream": 2, "attempt": 0}
    words = counter_rng.random_words(np.arange(100), 4, **base)
    assert not (words == counter_rng.random_words(np.arange(100), 4, **{**base, **change})).any()


def test_integers_cover_their_range_evenly():
    words = counter_rng.random_words(np.arange(100_000), 1, seed=0, stream=0)[:, 0]
    counts = np.bincount(counter_rng.integers(words, 7), minlength=7)
    assert counts.size == 7
    np.testing.assert_allclose(counts / 100_000, 1 / 7, atol=0.005)
    assert counter_rng.integers(np.array([0, 2**32 - 1], np.uint32), 7).tolist() == [0, 6]


def test_uniform_is_open_and_centred():
    extremes = counter_rng.uniform(np.array([0, 2**32 - 1], np.uint32), -1.0, 3.0)
    assert -1.0 < extremes[0] < extremes[1] < 3.0
    assert extremes.mean() == pytest.approx(1.0)


@pytest.mark.parametrize(
    "indices, seed, message",
    [
        ([-1], 0, r"`indices` must be in"),
        ([2**32], 0, r"`indices` must be in"),
        ([0.5], 0, r"`indices` must be a one-dimensional array of integers"),
        ([[1]], 0, r"`indices` must be a one-dimensional array of integers"),
        ([1], -1, r"`seed` must be in"),
        ([1], 2**64, r"`seed` must be in"),
    ],
)
def test_wrong_arguments_are_named(indices, seed, message):
    with pytest.raises(ValueError, match=message):
        counter_rng.random_words(indices, 1, seed=seed, stream=0)


def test_no_indices_give_no_words():
    assert counter_rng.random_words([], 3, seed=0, stream=0).shape == (0, 3)
