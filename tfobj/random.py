"""Random numbers that do not depend on the engine, the number of replicas or restarts.

Philox is counter based: number j of scene b, drawn at `place` in step s of run r, is
`philox(key=(r, place), counter=(b * blocks + j // 4, s))[j % 4]`. So

* the same seed gives the same run, with any number of restarts;
* N replicas with parts of a batch draw the noise that one replica draws for the joined batch;
* eager mode, graph mode and XLA agree: integer bits are equal, and floats are made from them by the
  same arithmetic everywhere (TensorFlow's own float noise differs between eager and XLA).

A `seed` is an int32 tensor [3]: (run seed, step, index of the batch's first scene).

Training wants other noise for every scene. A server wants an answer that does not depend on the
other scenes of the batch, so an exported model is traced under `shared_by_scenes`.
"""

import contextlib
import contextvars
import math
import zlib

import tensorflow as tf

_PHILOX = 1
"""The `alg` number of the raw op."""

_is_shared = contextvars.ContextVar("noise is shared by scenes", default=False)


def make_seed(run_seed=0, step=0, first_scene=0):
    """Returns the seed tensor int32 [3] of a batch; each argument is a Python or tensor integer."""
    parts = (run_seed, step, first_scene)
    return tf.stack([tf.cast(tf.convert_to_tensor(part), tf.int32) for part in parts])


def later_scenes(seed, offset):
    """Returns the seed of the part of a batch that begins with its scene `offset`."""
    return seed + tf.stack([0, 0, tf.cast(offset, tf.int32)])


@contextlib.contextmanager
def shared_by_scenes():
    """Gives every scene of a batch the noise of scene 0, in the code that is traced inside.

    The noise of a scene then depends on the seed alone, not on its place in the batch.
    """
    token = _is_shared.set(True)
    try:
        yield
    finally:
        _is_shared.reset(token)


def normal(seed, place, shape, index=0):
    """Draws standard normal noise of `shape` [B, ...], one independent stream per scene.

    Args:
      seed: int32 [3] of `make_seed`.
      place: name of the place that draws, e.g. "slot_attention/slots"; places are independent.
      shape: list of Python or tensor integers; all but the first must be known unless the model
        runs with a free number of slots.
      index: Python or tensor integer that tells repeated draws at one place apart (a refinement
        step).

    Returns:
      float32 tensor, |value| <= 5.6, because uniforms lie on a grid of 2**-23 centred in (0, 1).
    """
    return _draw(_normal, seed, place, shape, index)


def uniform(seed, place, shape, index=0):
    """Draws uniform noise on the open interval (0, 1); arguments as in `normal`."""
    return _draw(_uniform, seed, place, shape, index)


def _draw(sampler, seed, place, shape, index):
    """Returns noise [B, ...] of a sampler, or that of scene 0 for all scenes."""
    if not _is_shared.get():
        return sampler(seed, place, shape, index)

    # Copies of one row are equal to the bit. A vectorised erfinv of equal rows need not be.
    one_scene = sampler(seed * [1, 1, 0], place, [1, *shape[1:]], index)
    return tf.broadcast_to(one_scene, shape)


def _normal(seed, place, shape, index):
    return math.sqrt(2.0) * tf.math.erfinv(2.0 * _uniform(seed, place, shape, index) - 1.0)


def _uniform(seed, place, shape, index):
    batch, *rest = shape
    per_scene = 1
    for size in rest:
        per_scene = per_scene * size

    # Philox-4x32 yields four numbers per counter value.
    blocks = (per_scene + 3) // 4
    bits = _bits(seed, place, index, batch, blocks)[:, :per_scene]

    # The upper 23 bits, which float32 holds exactly, in the middle of their interval.
    bits = tf.cast(tf.bitwise.right_shift(bits, tf.constant(9, tf.uint32)), tf.float32)
    return tf.reshape(bits * 2.0**-23 + 2.0**-24, shape)


def _bits(seed, place, index, batch, blocks):
    """Returns uint32 [batch, 4 * blocks]; row b starts at counter (first_scene + b) * blocks."""
    seed = tf.cast(tf.bitcast(seed, tf.uint32), tf.uint64)
    run_seed = seed[0]
    step = seed[1]
    first_scene = seed[2]
    place_id = tf.constant(zlib.crc32(place.encode()) & 0x7FFFFFFF, tf.uint64)
    place_id += tf.cast(index, tf.uint64)

    key = tf.bitwise.left_shift(run_seed, tf.constant(32, tf.uint64)) + place_id
    counter = tf.stack([first_scene * tf.cast(blocks, tf.uint64), step])
    bits = tf.raw_ops.StatelessRandomUniformFullIntV2(
        shape=tf.stack([batch, 4 * blocks]),
        key=tf.reshape(key, [1]),
        counter=counter,
        alg=_PHILOX,
        dtype=tf.uint32,
    )

    known = [size if isinstance(size, int) else None for size in (batch, 4 * blocks)]
    return tf.ensure_shape(bits, known)
