"""Random numbers without state: Philox-4x32-10, vectorised over NumPy arrays.

A counter-based generator maps (key, counter) to four random words and keeps no state. The
generators of this folder put the dataset's seed in the key and (scene index, attempt, block) in
the counter, so any scene can be sampled alone, in any order, on any machine, with the same bits.

Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3" (Random123), section 4.
The same function is TensorFlow's and XLA's `philox` algorithm.
"""

import numpy as np

# Multipliers and Weyl increments of Philox-4x32 (Salmon et al. 2011).
_MULTIPLIER_0 = np.uint64(0xD2511F53)
_MULTIPLIER_1 = np.uint64(0xCD9E8D57)
_WEYL_0 = 0x9E3779B9
_WEYL_1 = 0xBB67AE85
_ROUNDS = 10
_WORD_MASK = 0xFFFFFFFF
_SHIFT = np.uint64(32)

MAX_INDEX = _WORD_MASK
"""Largest scene index: an index occupies one 32-bit word of the counter."""


def philox_4x32(counter, key):
    """Applies ten rounds of Philox-4x32.

    Args:
      counter: four integer arrays (or scalars) of mutually broadcastable shapes, each in
        [0, 2**32); the first is the least significant word.
      key: two integers in [0, 2**32), the least significant first.

    Returns:
      Four uint32 arrays of the broadcast shape.
    """
    c0, c1, c2, c3 = np.broadcast_arrays(*(np.asarray(word, dtype=np.uint32) for word in counter))
    k0, k1 = (int(word) for word in key)

    for _ in range(_ROUNDS):
        # 32 x 32 -> 64 bit products; the halves are exchanged between the two lanes.
        product_0 = c0.astype(np.uint64) * _MULTIPLIER_0
        product_1 = c2.astype(np.uint64) * _MULTIPLIER_1

        c0, c1, c2, c3 = (
            (product_1 >> _SHIFT).astype(np.uint32) ^ c1 ^ np.uint32(k0),
            product_1.astype(np.uint32),
            (product_0 >> _SHIFT).astype(np.uint32) ^ c3 ^ np.uint32(k1),
            product_0.astype(np.uint32),
        )

        k0 = (k0 + _WEYL_0) & _WORD_MASK
        k1 = (k1 + _WEYL_1) & _WORD_MASK

    return c0, c1, c2, c3


def random_words(indices, num_words, *, seed, stream, attempt=0):
    """Returns random 32-bit words for each scene.

    Args:
      indices: integer array [n], scene indices in [0, `MAX_INDEX`].
      num_words: words per scene.
      seed: dataset seed in [0, 2**64).
      stream: number in [0, 2**32) that separates the users of one seed from each other.
      attempt: number of the attempt in [0, 2**32), for rejection sampling.

    Returns:
      uint32 array [n, num_words]. Row i depends on (indices[i], seed, stream, attempt) alone, and
      a larger `num_words` only appends columns.

    Raises:
      ValueError: if an index or the seed is out of range.
    """
    indices = checked_indices(indices)
    if not 0 <= seed < 2**64:
        raise ValueError(f"`seed` must be in [0, 2**64). Received: seed={seed}.")

    # The block is the least significant counter word, so more words only append columns.
    num_blocks = -(-num_words // 4)
    words = philox_4x32(
        (np.arange(num_blocks), attempt, indices[:, None], stream),
        (seed & _WORD_MASK, seed >> 32),
    )
    return np.stack(words, axis=-1).reshape(len(indices), 4 * num_blocks)[:, :num_words]


def checked_indices(indices):
    """Returns scene indices as an int64 array [n], or raises a ValueError that names the fault."""
    indices = np.atleast_1d(indices)
    if indices.size == 0:
        # `[]` becomes a float array, which the test for integers would refuse.
        return np.zeros(0, np.int64)

    if indices.ndim != 1 or not np.issubdtype(indices.dtype, np.integer):
        raise ValueError(
            "`indices` must be a one-dimensional array of integers. Received: "
            f"shape={indices.shape}, dtype={indices.dtype}."
        )

    if indices.min() < 0 or indices.max() > MAX_INDEX:
        raise ValueError(
            f"`indices` must be in [0, {MAX_INDEX}]. Received: values from {indices.min()} to "
            f"{indices.max()}."
        )

    return indices.astype(np.int64)


def integers(words, bound):
    """Maps random words to uniform integers in [0, bound); the bias is below bound / 2**32."""
    return ((words.astype(np.uint64) * np.asarray(bound, np.uint64)) >> _SHIFT).astype(np.int64)


def uniform(words, low=0.0, high=1.0):
    """Maps random words to uniform float64 numbers strictly between `low` and `high`.

    The numbers lie on a grid of 2**32 values, half a step away from both ends.
    """
    return low + (high - low) * ((words.astype(np.float64) + 0.5) * 2.0**-32)
