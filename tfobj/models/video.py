"""Video models: one pass over the frames, as a batch of clips or as a stream.

A clip is processed as a sequence of *cells*, each of which processes a frame once: an iterative
model refines its posterior of a frame in several cells, all others have one cell per frame. The
state that passes from cell to cell is the *memory*, so the same cells serve

    outputs = model(clip)                            # [B, T, H, W, C], in training and evaluation
    outputs = model.forecast(clip, 10)               # the clip and ten predicted frames
    state = model.initial_state(batch, num_slots)    # a stream: state in, state out
    state, frame_outputs = model.observe(state, frame)
    state, frame_outputs = model.imagine(state)

and a stream computes the numbers of the batch, because there is no second implementation.

Axes: B batch, T frames (index t), R refinement steps (index r), K slots, H W C image.
"""

import abc
from typing import Any, NamedTuple

import tensorflow as tf

from tfobj import random
from tfobj.models.base import SceneModel, Stage
from tfobj.models.settings import VideoConfig as VideoConfig
from tfobj.nn import static
from tfobj.nn.iteration import record, scan
from tfobj.nn.slots import batch_size
from tfobj.structs import SceneOutputs, check_num_slots

NOISE_STRIDE = 1024
"""Cells per frame with noise of their own: cell r of frame t has the index t * NOISE_STRIDE + r."""

LAST_FRAME = 2**31 // NOISE_STRIDE - 1
"""Greatest t, a day at 24 frames a second: noise of later frames has no index in int32."""

SCENE_FIELDS = ("recon", "masks", "slot_recons", "slots")
"""The fields of `SceneOutputs` that every frame has; all other outputs of a frame are terms."""


class Cell(NamedTuple):
    """The position of a cell in its clip: Python integers, or int32 tensors inside loops."""

    frame: Any
    """t, from 0."""
    step: Any
    """r, from 0 in every frame."""
    num_cells: Any
    """Cells of this frame."""
    num_frames: Any
    """T of the clip; None in a stream, which has no end."""
    training: bool = False
    """Whether an update will learn from it."""

    @property
    def is_first_frame(self):
        """Whether the frame is the first of its clip."""
        return self.frame == 0

    @property
    def is_first_step(self):
        """Whether the cell is the first of its frame."""
        return self.step == 0

    @property
    def is_last_step(self):
        """Whether the cell is the last of its frame."""
        return self.step >= self.num_cells - 1

    @property
    def noise_index(self):
        """Index of the cell's noise, for `random.normal`."""
        return self.frame * NOISE_STRIDE + self.step


class VideoState(NamedTuple):
    """The state of a stream between two frames."""

    memory: Any
    """Tuple of tensors [B, K, ...], which the model defines."""
    frame: Any
    """int32 scalar, number of frames processed."""
    seed: Any
    """int32 [3], of `random.make_seed`."""


class VideoModel(SceneModel):
    """Base of the video models; see the module's docstring. Subclasses define the cell."""

    @abc.abstractmethod
    def initial_memory(self, batch, num_slots, seed):
        """Returns the memory before the first frame, a tuple of tensors [batch, num_slots, ...]."""

    @abc.abstractmethod
    def memory_names(self):
        """Returns one name per tensor of the memory, for inputs and outputs of exported models."""

    def num_cells(self, frame, num_steps):
        """Returns the number of cells of frame t: an integer if both arguments are integers."""
        return 1

    def weight_terms(self):
        """Returns a nest of tensors that depend on the weights alone; computed once per clip."""
        return ()

    @abc.abstractmethod
    def run_cell(self, image, memory, seed, cell, num_steps, weight_terms):
        """Processes a frame once.

        Args:
          image: [B, H, W, C].
          memory: memory that the previous cell returned.
          seed: int32 [3].
          cell: `Cell`.
          num_steps: R.
          weight_terms: of `weight_terms()`.

        Returns:
          memory: memory for the next cell.
          loss: [B], the cell's share of the training loss.
          frame_outputs: dict of `recon` [B, H, W, C], of `masks`, `slot_recons`, `slots`, each
            [B, K, ...], and of the frame's terms [B]. Those of a frame's last cell are returned.
        """

    @abc.abstractmethod
    def imagine_cell(self, memory, seed, cell, num_steps, weight_terms):
        """Predicts a frame that was not observed: returns (memory, frame outputs without terms)."""

    def own_stages(self):
        """Returns one stage per length of training clips."""
        return tuple(
            (start, Stage(self.config.num_steps, num_frames=frames))
            for start, frames in self.config.lengths()
        )

    def call(self, image, *, num_slots=None, num_steps=None, seed=None, training=False):
        num_slots, num_steps, seed = self.resolve_call(image, num_slots, num_steps, seed)
        weight_terms = self.weight_terms()
        memory = self.initial_memory(batch_size(image), num_slots, seed)

        # Short unrolled loops train fastest, but need a static number of cells.
        if training and image.shape[1] is not None and static.is_static(num_steps):
            loss, frames = self._unrolled(image, memory, seed, num_steps, weight_terms)
        else:
            _, loss, frames = self._streamed(image, memory, seed, num_steps, weight_terms, training)
        return self._clip_outputs(image, loss, frames)

    def forecast(self, image, num_predicted, *, num_slots=None, num_steps=None, seed=None):
        """Returns the `SceneOutputs` of a clip and of the frames predicted after it.

        Args:
          image: [B, T, H, W, C], the observed clip.
          num_predicted: number of frames to predict, each from the predictions before it.
          num_slots, num_steps, seed: as for `call`.

        Returns:
          `SceneOutputs` [B, T + num_predicted, ...]; their terms are those of the observed frames.
        """
        num_slots, num_steps, seed = self.resolve_call(image, num_slots, num_steps, seed)
        weight_terms = self.weight_terms()
        memory = self.initial_memory(batch_size(image), num_slots, seed)
        memory, loss, observed = self._streamed(image, memory, seed, num_steps, weight_terms)
        first = tf.shape(image)[1]

        def imagine(t, memory):
            cell = Cell(first + t, 0, 1, None)
            return self.imagine_cell(memory, seed, cell, num_steps, weight_terms)

        _, imagined = scan(imagine, memory, tf.convert_to_tensor(num_predicted))
        outputs = self._clip_outputs(image, loss, observed)
        return outputs._replace(
            **{
                name: tf.concat([getattr(outputs, name), _batch_first(value)], axis=1)
                for name, value in imagined.items()
            }
        )

    def initial_state(self, batch, num_slots=None, seed=None):
        """Returns the `VideoState` of a stream of `batch` clips."""
        if num_slots is None:
            num_slots = self.config.num_slots
        check_num_slots(num_slots, self.config.minimum_slots)
        if seed is None:
            seed = random.make_seed()
        return VideoState(self.initial_memory(batch, num_slots, seed), tf.constant(0), seed)

    def observe(self, state, image, num_steps=None):
        """Returns (state, `SceneOutputs`) after the next frame [B, H, W, C] of every stream."""
        _, num_steps, _ = self.resolve_call(image[:, None], None, num_steps, state.seed)
        memory, loss, frame_outputs = self._all_cells(
            image, state.memory, state.seed, state.frame, num_steps, self.weight_terms()
        )

        mse = tf.reduce_mean(tf.square(image - frame_outputs["recon"]), axis=[1, 2, 3])
        outputs = self._scene_outputs(frame_outputs, mse, loss)
        return state._replace(memory=memory, frame=state.frame + 1), outputs

    def imagine(self, state, num_steps=None):
        """Returns (state, `SceneOutputs` without terms) after predicting the next frame."""
        if num_steps is None:
            num_steps = self.config.num_steps
        cell = Cell(state.frame, 0, 1, None)
        memory, frame_outputs = self.imagine_cell(
            state.memory, state.seed, cell, num_steps, self.weight_terms()
        )
        state = state._replace(memory=tuple(memory), frame=state.frame + 1)
        return state, SceneOutputs(**frame_outputs)

    def _unrolled(self, image, memory, seed, num_steps, weight_terms):
        """Returns (loss [B], frame outputs [T, B, ...]) of clips of static length, cell by cell."""
        num_frames = image.shape[1]
        counts = [self.num_cells(t, num_steps) for t in range(num_frames)]
        grid = [(t, r, count) for t, count in enumerate(counts) for r in range(count)]

        def frame_and_cell(index):
            if static.is_static(index):
                t, r, count = grid[index]
                frame = image[:, t]
            else:
                t, r, count = tf.unstack(tf.gather(tf.constant(grid, tf.int32), index))
                frame = tf.gather(image, t, axis=1)
            return frame, Cell(t, r, count, num_frames, training=True)

        # The state carries the loss: gradients flow through it, and none through frame outputs.
        def run_cell(index, state, weight_terms):
            total, *memory = state
            frame, cell = frame_and_cell(index)
            memory, loss, frame_outputs = self.run_cell(
                frame, tuple(memory), seed, cell, num_steps, weight_terms
            )
            return (total + loss, *memory), frame_outputs

        state = (tf.zeros([batch_size(image)]), *memory)
        frame_of_cell = [t for t, _, _ in grid]
        (total, *_), frames = record(
            run_cell, state, len(grid), weight_terms, frame_of_cell, num_frames
        )
        return total, frames

    def _streamed(self, image, memory, seed, num_steps, weight_terms, training=False):
        """Returns (memory, loss [B], frame outputs [T, B, ...]) of clips, frame by frame."""
        num_frames = tf.shape(image)[1]

        def process_frame(t, state):
            total, *memory = state
            memory, loss, frame_outputs = self._all_cells(
                tf.gather(image, t, axis=1),
                tuple(memory),
                seed,
                t,
                num_steps,
                weight_terms,
                num_frames,
                training,
            )
            return (total + loss, *memory), frame_outputs

        state = (tf.zeros([batch_size(image)]), *memory)
        (total, *memory), frames = scan(process_frame, state, num_frames)
        return tuple(memory), total, frames

    def _all_cells(
        self, image, memory, seed, frame, num_steps, weight_terms, num_frames=None, training=False
    ):
        """Returns (memory, loss [B], frame outputs) after all cells of a frame [B, H, W, C]."""
        num_cells = self.num_cells(frame, num_steps)
        cell = Cell(frame, 0, num_cells, num_frames, training)
        if static.holds(num_cells == 1):
            return self.run_cell(image, memory, seed, cell, num_steps, weight_terms)

        def run_cell(r, state):
            total, *memory = state
            memory, loss, _ = self.run_cell(
                image, tuple(memory), seed, cell._replace(step=r), num_steps, weight_terms
            )
            return r + 1, (total + loss, *memory)

        # The last cell stands outside the loop, which then carries no frame outputs.
        start = (tf.constant(0), (tf.zeros([batch_size(image)]), *memory))
        _, (total, *memory) = tf.while_loop(lambda r, _: r < num_cells - 1, run_cell, start)
        last = cell._replace(step=num_cells - 1)
        memory, loss, frame_outputs = self.run_cell(
            image, tuple(memory), seed, last, num_steps, weight_terms
        )
        return tuple(memory), total + loss, frame_outputs

    def _clip_outputs(self, image, loss, frames):
        """Returns the `SceneOutputs` of frame outputs [T, B, ...]; terms are means over frames."""
        frames = {name: _batch_first(value) for name, value in frames.items()}
        if "nll" in frames:
            frames["last_nll"] = frames["nll"][:, -1]
        mse = tf.reduce_mean(tf.square(image - frames["recon"]), axis=[1, 2, 3, 4])
        return self._scene_outputs(frames, mse, loss)

    def _scene_outputs(self, outputs, mse, loss):
        """Returns `SceneOutputs` of outputs [B, ...] of a frame, or [B, T, ...] of a clip."""
        fields = {name: outputs[name] for name in SCENE_FIELDS}
        terms = {}
        for name, term in outputs.items():
            if name in fields:
                continue
            if len(term.shape) == 2:  # [B, T]
                term = tf.reduce_mean(term, axis=1)
            terms[name] = term
        return SceneOutputs(**fields, loss_terms={**terms, "mse": mse, "weighted_loss": loss})

    def total_loss(self, terms, step):
        """Returns the mean over clips of the sum over cells of their loss, and all other terms."""
        return terms.pop("weighted_loss"), terms


def _batch_first(x):
    """[T, B, ...] -> [B, T, ...]."""
    return tf.transpose(x, [1, 0, *range(2, len(x.shape))])
