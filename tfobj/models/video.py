"""Models of clips: one pass over the frames, in a batch or as they come.

A clip is worked off in *cells*, each of which looks at one frame: several for an iterative model that refines what it
thinks of a frame, one for the others. What a cell needs of those before it is its *memory*, so the same cell makes

    outputs = model(clip)                             # [B, T, H, W, C] at once; training unrolls it or keeps memories alone
    outputs = model.forecast(clip, 10)                # ... and ten frames that nobody has seen
    state = model.initial_state(batch, num_slots)     # a stream: state in, state out
    state, frame_outputs = model.observe(state, frame)
    state, frame_outputs = model.imagine(state)

and a stream has the numbers of the batch, because there is no second implementation.
"""

import abc
from typing import Any, NamedTuple

import tensorflow as tf

from tfobj import random
from tfobj.config import require
from tfobj.inference.schedules import check_schedule
from tfobj.models.base import SceneConfig, SceneModel, Stage
from tfobj.nn.iteration import record, scan
from tfobj.nn.slots import batch_size
from tfobj.structs import SceneOutputs, check_num_slots

NOISE_STRIDE = 1024
"""Cells of a frame that noise can tell apart: that of cell r of frame f has the index f * NOISE_STRIDE + r."""


QUICK_EVAL = {"num_scenes": 32, "num_frames": 10, "batch_size": 16}
QUICK_DATA = {"num_train": 2_000, "num_test": 320}
"""Of the quick presets, whatever the model."""


class VideoConfig(SceneConfig):
    """What the configurations of models of clips have in common."""

    num_frames: int
    """T, frames of a training clip."""
    curriculum: tuple
    """((step, frames), ...): frames of a training clip from that many updates on. The batch shrinks in proportion: a clip of twice
    the length costs twice the memory."""

    minimum_frames = 1
    is_video = True

    def __post_init__(self):
        super().__post_init__()
        self.lengths()

    def lengths(self):
        """Returns ((0, frames), (step, frames), ...)."""
        require(
            self.num_frames >= self.minimum_frames,
            "model.num_frames",
            f"at least {self.minimum_frames}",
            self.num_frames,
        )
        return check_schedule(
            self.num_frames, self.curriculum, "model.curriculum", self.minimum_frames
        )


class Cell(NamedTuple):
    """Where in a clip a cell is; Python integers, or int32 tensors in loops."""

    frame: Any
    """f, from 0."""
    step: Any
    """r, from 0 in every frame."""
    num_cells: Any
    """Cells of this frame."""
    num_frames: Any
    """T of the clip; None in a stream, which has no end."""
    training: bool = False
    """Whether an update will learn from it."""

    @property
    def noise_index(self):
        """Number of the cell for `random.normal`."""
        return self.frame * NOISE_STRIDE + self.step


class VideoState(NamedTuple):
    """What a stream keeps between two frames."""

    memory: Any
    """Tuple of tensors [B, K, ...], of the model's own."""
    frame: Any
    """int32 scalar, frames seen."""
    seed: Any
    """int32 [3], of `random.make_seed`."""


class VideoModel(SceneModel):
    """Base of the models of clips; see the module's docstring. Subclasses say what a cell is."""

    @abc.abstractmethod
    def initial_memory(self, batch, num_slots, seed):
        """Returns the memory before the first frame, a tuple of tensors [batch, num_slots, ...]."""

    @abc.abstractmethod
    def memory_names(self):
        """Returns a name for each tensor of the memory; inputs and outputs of exported models are called so."""

    def num_cells(self, frame, num_steps):
        """Returns how many cells look at frame `frame`; a Python integer where both are, else an int32 tensor."""
        return 1

    def operators(self):
        """Returns a nest of tensors that depend on the weights alone; computed once per clip."""
        return ()

    @abc.abstractmethod
    def cell(self, image, memory, seed, cell, num_steps, operators):
        """Looks at a frame.

        Args:
          image: [B, H, W, C].
          memory: of the cell before.
          seed: int32 [3].
          cell: `Cell`.
          num_steps: R.
          operators: of `operators()`.

        Returns:
          (memory, loss [B], record): what the next cell needs, this cell's share of the training loss, and a dict with
          `recon` [B, H, W, C], `masks`, `slot_recons`, `slots` [B, K, ...] and terms [B] of the frame, of which the last cell's stay.
        """

    @abc.abstractmethod
    def imagined_cell(self, memory, seed, cell, num_steps, operators):
        """Returns (memory, record) of a frame that nobody has seen; the record without terms."""

    def stages(self):
        """One stage per length of clips."""
        return tuple(
            (start, Stage(self.config.num_steps, num_frames=frames))
            for start, frames in self.config.lengths()
        )

    def call(self, image, *, num_slots=None, num_steps=None, seed=None, training=False):
        num_slots, num_steps, seed = self.resolve_call(image, num_slots, num_steps, seed)
        operators = self.operators()
        memory = self.initial_memory(batch_size(image), num_slots, seed)
        known = image.shape[1] is not None and isinstance(num_steps, int)
        if training and known:
            loss, records = self._unrolled(image, memory, seed, num_steps, operators)
        else:
            _, loss, records = self._streamed(image, memory, seed, num_steps, operators, training)
        return self._outputs(image, loss, records)

    def forecast(self, image, num_predicted, *, num_slots=None, num_steps=None, seed=None):
        """Returns the `SceneOutputs` of a clip [B, T, H, W, C] and of `num_predicted` frames after it, [B, T + num_predicted, ...].

        The terms are those of the frames that were seen. Frames are predicted from predictions: nothing is known of them.
        """
        num_slots, num_steps, seed = self.resolve_call(image, num_slots, num_steps, seed)
        operators = self.operators()
        memory, loss, seen = self._streamed(
            image,
            self.initial_memory(batch_size(image), num_slots, seed),
            seed,
            num_steps,
            operators,
        )
        first = tf.shape(image)[1]

        def imagine(t, memory):
            cell = Cell(first + t, 0, 1, None)
            return self.imagined_cell(memory, seed, cell, num_steps, operators)

        _, imagined = scan(imagine, memory, tf.convert_to_tensor(num_predicted))
        outputs = self._outputs(image, loss, seen)
        later = {name: _batch_first(value) for name, value in imagined.items()}
        return outputs._replace(
            **{
                name: tf.concat([getattr(outputs, name), value], axis=1)
                for name, value in later.items()
            }
        )

    def initial_state(self, batch, num_slots=None, seed=None):
        """Returns the `VideoState` of a stream of `batch` clips."""
        num_slots = self.config.num_slots if num_slots is None else num_slots
        check_num_slots(num_slots, self.config.minimum_slots)
        seed = random.make_seed() if seed is None else seed
        return VideoState(self.initial_memory(batch, num_slots, seed), tf.constant(0), seed)

    def observe(self, state, image, num_steps=None):
        """Returns (state, `SceneOutputs`) after one more frame, images [B, H, W, C]."""
        _, num_steps, _ = self.resolve_call(image[:, None], None, num_steps, state.seed)
        memory, loss, record = self._frame(
            image, state.memory, state.seed, state.frame, num_steps, self.operators()
        )
        outputs = self._frame_outputs(
            record, tf.reduce_mean(tf.square(image - record["recon"]), axis=[1, 2, 3]), loss
        )
        return state._replace(memory=memory, frame=state.frame + 1), outputs

    def imagine(self, state, num_steps=None):
        """Returns (state, `SceneOutputs` without terms) for the next frame, which nobody has seen."""
        num_steps = self.config.num_steps if num_steps is None else num_steps
        memory, record = self.imagined_cell(
            state.memory, state.seed, Cell(state.frame, 0, 1, None), num_steps, self.operators()
        )
        return state._replace(memory=tuple(memory), frame=state.frame + 1), SceneOutputs(**record)

    def _unrolled(self, image, memory, seed, num_steps, operators):
        """Returns (loss [B], records [T, B, ...]) of clips of a known length, cell by cell."""
        num_frames = image.shape[1]
        counts = [self.num_cells(f, num_steps) for f in range(num_frames)]
        grid = [(f, r, count) for f, count in enumerate(counts) for r in range(count)]

        def look(t, state, operators):
            loss, *memory = state
            if isinstance(t, int):
                (frame, step, count), now = grid[t], image[:, grid[t][0]]
            else:
                frame, step, count = tf.unstack(tf.gather(tf.constant(grid, tf.int32), t))
                now = tf.gather(image, frame, axis=1)
            memory, share, kept = self.cell(
                now,
                tuple(memory),
                seed,
                Cell(frame, step, count, num_frames, training=True),
                num_steps,
                operators,
            )
            return (loss + share, *memory), kept

        state = (tf.zeros([batch_size(image)]), *memory)
        (loss, *_), records = record(
            look, state, len(grid), operators, [f for f, _, _ in grid], num_frames
        )
        return loss, records

    def _streamed(self, image, memory, seed, num_steps, operators, training=False):
        """Returns (memory, loss [B], records [T, B, ...]) of clips, frame by frame."""
        num_frames = tf.shape(image)[1]

        def look(t, state):
            loss, *memory = state
            memory, share, kept = self._frame(
                tf.gather(image, t, axis=1),
                tuple(memory),
                seed,
                t,
                num_steps,
                operators,
                num_frames,
                training,
            )
            return (loss + share, *memory), kept

        (loss, *memory), records = scan(look, (tf.zeros([batch_size(image)]), *memory), num_frames)
        return tuple(memory), loss, records

    def _frame(
        self, image, memory, seed, frame, num_steps, operators, num_frames=None, training=False
    ):
        """Returns (memory, loss [B], record) after all cells of one frame."""
        count = self.num_cells(frame, num_steps)
        place = Cell(frame, 0, count, num_frames, training)
        if isinstance(count, int) and count == 1:
            return self.cell(image, memory, seed, place, num_steps, operators)

        def look(r, state):
            loss, *memory = state
            memory, share, _ = self.cell(
                image, tuple(memory), seed, place._replace(step=r), num_steps, operators
            )
            return r + 1, (loss + share, *memory)

        _, (loss, *memory) = tf.while_loop(
            lambda r, _: r < count - 1,
            look,
            (tf.constant(0), (tf.zeros([batch_size(image)]), *memory)),
        )
        memory, share, kept = self.cell(
            image, tuple(memory), seed, place._replace(step=count - 1), num_steps, operators
        )
        return tuple(memory), loss + share, kept

    def _outputs(self, image, loss, records):
        """Returns `SceneOutputs` from records [T, B, ...]; terms are means over frames."""
        records = {name: _batch_first(value) for name, value in records.items()}
        if "nll" in records:
            records["last_nll"] = records["nll"][:, -1]
        return self._frame_outputs(
            records, tf.reduce_mean(tf.square(image - records["recon"]), axis=[1, 2, 3, 4]), loss
        )

    def _frame_outputs(self, records, mse, loss):
        fields = {name: records[name] for name in ("recon", "masks", "slot_recons", "slots")}
        mean = lambda term: tf.reduce_mean(term, axis=1) if len(term.shape) == 2 else term
        terms = {name: mean(term) for name, term in records.items() if name not in fields}
        return SceneOutputs(**fields, loss_terms={**terms, "mse": mse, "weighted_loss": loss})

    def total_loss(self, terms, step):
        """mean over clips of the sum of the cells' shares; other terms are means over clips and frames."""
        return terms.pop("weighted_loss"), terms


def _batch_first(x):
    """[T, B, ...] -> [B, T, ...]."""
    return tf.transpose(x, [1, 0, *range(2, len(x.shape))])
