"""Seeded batches whose only state is the step number.

Batch s of a stream is a function of (seed, s): scene p = s * batch_size + b of an endless
sequence of epochs, each a permutation of all scenes. Nothing is dropped; a batch may straddle two
epochs. A run that resumes at step s therefore sees the batches that it would have seen without
the interruption, and the step number is all that a checkpoint needs to store of the data.
"""

import functools

import numpy as np

from tfobj.data import transforms
from tfobj.datasets.generators import counter_rng
from tfobj.errors import UserError

# Separates the order of training from the scenes that a generator draws under the same seed.
_STREAM = 0x6F726472

_ALIGNMENT = 64
"""Bytes; TensorFlow's kernels refuse memory that does not start on a multiple of it."""

_shared_tensors = []
"""Tensors that use NumPy's memory, kept for the life of the process.

Releasing one takes Python's lock, and TensorFlow may do that in a thread for which the holder of
the lock is waiting.
"""


class BatchStream:
    """An endless, shuffled, restartable stream of batches. The NumPy part needs no TensorFlow.

        stream = BatchStream(open_split(protocol, "train"), batch_size=32, seed=0)
        stream.batch(1000)["image"]                  # uint8 [32, H, W, C], always the same
        for batch in stream.dataset(start_step=1000) # float32, through tf.data

    Clips are cut into windows of `num_frames` consecutive frames, which do not overlap; frames
    left over at the end of a clip are not used. A scene is then a window.
    """

    def __init__(self, arrays, batch_size, seed=0, shuffle=True, num_frames=None):
        """Makes a stream.

        Args:
          arrays: `SceneArrays` of n scenes.
          batch_size: scenes per batch, B; may exceed n.
          seed: order of the scenes, in [0, 2**64).
          shuffle: False walks through the scenes in order, again and again.
          num_frames: F, frames of a window; None for images.

        Raises:
          UserError: if there is no scene, or a number is out of range.
        """
        if len(arrays) < 1:
            raise UserError("`arrays` must hold at least one scene. Received: none.")
        if batch_size < 1:
            raise UserError(f"`batch_size` must be at least 1. Received: batch_size={batch_size}.")
        if not 0 <= seed < 2**64:
            raise UserError(f"`seed` must be in [0, 2**64). Received: seed={seed}.")
        if (num_frames is None) != (arrays.num_frames is None):
            raise UserError(
                "`num_frames` must be given for clips, and not for images. "
                f"Received: num_frames={num_frames}."
            )
        if num_frames is not None and not 1 <= num_frames <= arrays.num_frames:
            raise UserError(
                f"`num_frames` must be at most the {arrays.num_frames} frames of the clips. "
                f"Received: num_frames={num_frames}."
            )

        self.arrays = arrays
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.num_frames = num_frames
        self._windows = 1 if num_frames is None else arrays.num_frames // num_frames
        self.num_scenes = len(arrays) * self._windows

        # A batch touches two epochs at a border, and tf.data asks for several batches at a time.
        self._permutation = functools.lru_cache(maxsize=4)(self._draw_permutation)

    def indices(self, step):
        """Returns the scene numbers of batch `step`, int64 [B]."""
        position = step * self.batch_size + np.arange(self.batch_size, dtype=np.int64)
        epoch, place = np.divmod(position, self.num_scenes)
        if not self.shuffle:
            return place

        result = np.empty(self.batch_size, np.int64)
        for number in range(int(epoch[0]), int(epoch[-1]) + 1):
            chosen = epoch == number
            result[chosen] = self._permutation(number)[place[chosen]]
        return result

    def batch(self, step):
        """Returns batch `step` as a dict of NumPy arrays.

        `image` is uint8 [B, (F,) H, W, C] and, with labels, `mask` is uint8 [B, (F,) H, W].
        """
        if self.num_frames is None:
            return self.arrays.gather(self.indices(step))

        clips, windows = np.divmod(self.indices(step), self._windows)
        frames = windows[:, None] * self.num_frames + np.arange(self.num_frames)
        return {
            name: getattr(self.arrays, name)[clips[:, None], frames] for name in self.arrays.fields
        }

    def dataset(self, start_step=0, *, num_parallel_calls=2, prefetch=4):
        """Returns the batches start_step, start_step + 1, ... as an endless `tf.data.Dataset`.

        Args:
          start_step: first step.
          num_parallel_calls: batches that are assembled at a time; the order does not depend on it.
          prefetch: batches kept ready.

        Returns:
          Dataset of dicts with static shapes: `image` float32 [B, (F,) H, W, C] in [0, 1] and, with
          labels, `mask` uint8 [B, (F,) H, W]. Under `tf.distribute` every worker draws the global
          batch and keeps its part (`AutoShardPolicy.DATA`), since there are no files to divide.
        """
        import tensorflow as tf

        first_epoch, first_place = divmod(start_step * self.batch_size, self.num_scenes)

        def order_of(epoch):
            order = self._tensorflow_permutation(epoch)
            start = tf.where(epoch == first_epoch, first_place, 0)
            return tf.data.Dataset.from_tensor_slices(order[start:])

        def gather(indices, scenes):
            if self.num_frames is not None:
                indices = self._frames_of_windows(indices)
            batch = {name: tf.gather(values, indices) for name, values in scenes.items()}
            # Division, not multiplication by 1 / 255: correctly rounded, so equal on every engine.
            return {**batch, "image": tf.cast(batch["image"], tf.float32) / 255.0}

        # TensorFlow ops only. A Python function in the pipeline can hang a program forever: Python
        # holds its lock while it destroys an iterator, which waits for a call that needs the lock.
        order = tf.data.Dataset.range(first_epoch, counter_rng.MAX_INDEX).flat_map(order_of)
        indices = order.batch(self.batch_size, drop_remainder=True)

        # As an element and not as a capture, because captures are copied into the graph.
        rows = self.arrays if self.num_frames is None else self.arrays.frames()
        tensors = {name: _as_tensor(getattr(rows, name)) for name in rows.fields}
        scenes = tf.data.Dataset.from_tensors(tensors)

        options = tf.data.Options()
        options.deterministic = True
        # Rewriting the pipeline copies its constants, all scenes among them, and gains nothing.
        options.experimental_optimization.apply_default_optimizations = False
        options.experimental_distribute.auto_shard_policy = (
            tf.data.experimental.AutoShardPolicy.DATA
        )
        return (
            tf.data.Dataset.zip((indices, scenes.repeat()))
            .map(gather, num_parallel_calls=num_parallel_calls)
            .prefetch(prefetch)
            .with_options(options)
        )

    def _frames_of_windows(self, indices):
        """Returns frame numbers [B, F] of windows [B], counted over all clips in a row."""
        import tensorflow as tf

        clips = indices // self._windows
        windows = indices % self._windows
        first_frames = clips * self.arrays.num_frames + windows * self.num_frames
        return first_frames[:, None] + tf.range(self.num_frames, dtype=indices.dtype)

    def _draw_permutation(self, epoch):
        """Returns the order of an epoch, int64 [n]: the scenes sorted by one random word each."""
        words = counter_rng.random_words([epoch], self.num_scenes, seed=self.seed, stream=_STREAM)
        return np.argsort(words[0], kind="stable")

    def _tensorflow_permutation(self, epoch):
        """Returns the same order as a tensor; `epoch` is an int64 tensor."""
        import tensorflow as tf

        if not self.shuffle:
            return tf.range(self.num_scenes, dtype=tf.int64)

        # The counter of `counter_rng.random_words`, in the layout of TensorFlow's Philox.
        block = tf.zeros([], tf.uint64)
        stream = tf.cast(epoch, tf.uint64) + (_STREAM << 32)
        words = tf.raw_ops.StatelessRandomUniformFullIntV2(
            shape=[self.num_scenes],
            key=tf.constant([self.seed], tf.uint64),
            counter=tf.stack([block, stream]),
            alg=1,  # Philox
            dtype=tf.uint32,
        )
        return tf.argsort(tf.cast(words, tf.int64), stable=True)


def _as_tensor(array):
    """Returns an array as a tensor on the host, if possible without copying memory-mapped data."""
    import tensorflow as tf

    if array.ctypes.data % _ALIGNMENT == 0 and array.flags.c_contiguous and array.flags.writeable:
        tensor = tf.experimental.dlpack.from_dlpack(array.__dlpack__())
        _shared_tensors.append(tensor)
        return tensor

    with tf.device("CPU:0"):
        return tf.constant(array)


def evaluation_batches(arrays, batch_size):
    """Yields all scenes once, in order, in batches of one static shape.

    Args:
      arrays: `SceneArrays` of n scenes.
      batch_size: scenes per batch, B.

    Yields:
      Dicts of NumPy arrays: `image` float32 [B, (T,) H, W, C] in [0, 1], `mask` uint8 [B, (T,) H,
      W] if there are labels, `amodal_masks` uint8 {0, 1} [B, N, H, W] and `depth` float32 [B, N]
      (smaller is nearer, 0 for entities that have none) if the scenes have them, and `valid` bool
      [B]. The last batch is filled with copies of the last scene, which are not valid.
    """
    if batch_size < 1:
        raise UserError(f"`batch_size` must be at least 1. Received: batch_size={batch_size}.")
    for start in range(0, len(arrays), batch_size):
        position = np.arange(start, start + batch_size)
        indices = np.minimum(position, len(arrays) - 1)

        batch = arrays.gather(indices)
        if arrays.amodal_masks is not None:
            width = arrays.image.shape[2]
            batch["amodal_masks"] = transforms.unpack_masks(arrays.amodal_masks[indices], width)
        if "depth" in arrays.factors:
            batch["depth"] = arrays.factors["depth"][indices]

        image = batch["image"].astype(np.float32) / np.float32(255.0)
        yield {**batch, "image": image, "valid": position < len(arrays)}
