"""Random numbers that do not depend on the engine, the number of replicas or the number of restarts.

Philox is counter based: number j of scene b, drawn at `place` in step s of run r, is
`philox(key=(r, place), counter=(b * blocks + j // 4, s))[j % 4]`. So

* the same seed gives the same run, whatever the number of restarts;
* N replicas that hold parts of a batch draw the noise that one replica draws for the joined batch;
* eager mode, graph mode and XLA agree: integer bits are equal, and floats are made from them by the
  same arithmetic everywhere (TensorFlow's own float noise differs between eager and XLA).

A `seed` is an int32 tensor [3]: (run seed, step, index of the batch's first scene).
"""

import math
import zlib

import tensorflow as tf

_PHILOX = 1  # the `alg` number of the raw op


def make_seed(run_seed=0, step=0, first_scene=0):
    """Returns the seed tensor int32 [3] of a batch; each argument is a Python or tensor integer."""
    return tf.stack(
        [tf.cast(tf.convert_to_tensor(v), tf.int32) for v in (run_seed, step, first_scene)]
    )


def later_scenes(seed, offset):
    """Returns the seed of a part of the batch whose first scene is scene `offset` of it."""
    return seed + tf.stack([0, 0, tf.cast(offset, tf.int32)])


def normal(seed, place, shape, index=0):
    """Draws standard normal noise of `shape` [B, ...], one independent stream per scene.

    Args:
      seed: int32 [3] of `make_seed`.
      place: name of the place that draws, e.g. "slot_attention/slots"; different places are independent.
      shape: list of Python or tensor integers; all but the first must be known unless the model runs with
        a free number of slots.
      index: Python or tensor integer that tells repeated draws at one place apart (a refinement step).

    Returns:
      float32 tensor, |value| <= 5.6: uniforms lie on a grid of 2**-23 centred in (0, 1).
    """
    return math.sqrt(2.0) * tf.math.erfinv(2.0 * uniform(seed, place, shape, index) - 1.0)


def uniform(seed, place, shape, index=0):
    """Draws uniform noise on the open interval (0, 1); arguments as in `normal`."""
    batch, *rest = shape
    per_scene = 1
    for size in rest:
        per_scene = per_scene * size
    blocks = (per_scene + 3) // 4  # Philox-4x32 yields four numbers per counter value
    bits = _bits(seed, place, index, batch, blocks)[:, :per_scene]
    u = (
        tf.cast(tf.bitwise.right_shift(bits, tf.constant(9, tf.uint32)), tf.float32) * 2.0**-23
        + 2.0**-24
    )
    return tf.reshape(u, shape)


def _bits(seed, place, index, batch, blocks):
    """Returns uint32 [batch, 4 * blocks]; row b starts at counter (first_scene + b) * blocks."""
    seed = tf.cast(tf.bitcast(seed, tf.uint32), tf.uint64)
    place_id = tf.constant(zlib.crc32(place.encode()) & 0x7FFFFFFF, tf.uint64) + tf.cast(
        index, tf.uint64
    )
    key = tf.reshape(tf.bitwise.left_shift(seed[0], tf.constant(32, tf.uint64)) + place_id, [1])
    counter = tf.stack([seed[2] * tf.cast(blocks, tf.uint64), seed[1]])
    bits = tf.raw_ops.StatelessRandomUniformFullIntV2(
        shape=tf.stack([batch, 4 * blocks]), key=key, counter=counter, alg=_PHILOX, dtype=tf.uint32
    )
    return tf.ensure_shape(
        bits,
        [
            batch if isinstance(batch, int) else None,
            4 * blocks if isinstance(blocks, int) else None,
        ],
    )
