"""Objects followed through clips: slots and label maps of every frame, and a table of tracks.

Memory grows with the label maps and latents of a clip only: masks and appearances of its frames are
kept for a preview of bounded size.

Axes: T frames, K slots.
"""

import csv
from typing import NamedTuple

import numpy as np

from tfobj import files
from tfobj.errors import printable
from tfobj.serving import pictures

PREVIEW_FRAMES = 120
"""Most frames of a preview."""
PREVIEW_SIDE = 160
"""Longest side of its frames in pixels; at 512 pixels a frame would take 24 MB."""

COLUMNS = ("frame", "slot", "pixels", "row", "column", "top", "left", "bottom", "right")


class ClipPreview:
    """Some frames of a clip, spread evenly over its length however long it is, and small.

    Attributes:
      every: every how-many-eth frame was kept.
    """

    def __init__(self):
        self.every = 1
        self._num_seen = 0
        self._frames = []

    def add(self, image, result):
        """Keeps a frame, uint8 [H, W, C], and its `zoo.Decomposition`, or drops them."""
        if self._num_seen % self.every == 0:
            step = -(-max(image.shape[:2]) // PREVIEW_SIDE)
            small = [
                array[0][..., ::step, ::step, :]
                for array in (result.recon, result.masks, result.slot_recons)
            ]
            self._frames.append((image[::step, ::step] / 255.0, *small))

        if len(self._frames) > PREVIEW_FRAMES:
            self._frames = self._frames[::2]
            self.every *= 2
        self._num_seen += 1

    def arrays(self):
        """Returns image, recon, masks and slot_recons of the kept frames, float32 [T, ...] each."""
        return [np.stack(a).astype(np.float32) for a in zip(*self._frames, strict=True)]


class TrackedClip(NamedTuple):
    """What a model found in a clip."""

    segmentation: np.ndarray
    """uint8 [T, H, W], the slot of every pixel; a slot stays with its object."""
    slots: np.ndarray
    """[T, K, D], latents."""
    preview: ClipPreview


def track_clip(decomposer, frames, num_slots=None, seed=0):
    """Follows the objects of a clip.

    Args:
      decomposer: `zoo.Decomposer` of a video model.
      frames: iterable of uint8 [H, W, C], all of one size.
      num_slots: K; None takes the model's.
      seed: of the noise.

    Returns:
      `TrackedClip`, or None for a clip without frames.
    """
    # `track` takes one frame for each result. `itertools.tee` would keep up to 57 frames alive.
    last = None

    def remembered():
        nonlocal last
        for frame in frames:
            last = frame
            yield frame

    results = decomposer.track(remembered(), num_slots, seed)
    return collect((last, result) for result in results)


def collect(frames_and_results):
    """Returns the `TrackedClip` of a clip, or None if it has no frames.

    Args:
      frames_and_results: iterable of pairs, uint8 [H, W, C] and its `zoo.Decomposition`.
    """
    preview = ClipPreview()
    segmentation = []
    slots = []
    for frame, result in frames_and_results:
        preview.add(frame, result)
        segmentation.append(result.segmentation[0].astype(np.uint8))
        slots.append(result.slots[0])

    if not slots:
        return None
    return TrackedClip(np.stack(segmentation), np.stack(slots), preview)


def checked_frames(path, numbered):
    """Yields the frames of a file, checked to be a clip of frames of one size.

    Args:
      path: of the file, for messages.
      numbered: pairs of `pictures.read`.

    Raises:
      Unreadable: a still picture, or frames of several sizes.
    """
    shape = None
    for number, frame in numbered:
        if number is None:
            raise pictures.Unreadable(
                f"`{printable(path)}` is a still picture, and this model follows objects through "
                "clips."
            )
        if shape is not None and frame.shape != shape:
            raise pictures.Unreadable(
                f"`{printable(path)}` must hold frames of one size. Received: another one at frame "
                f"{number + 1}."
            )
        shape = frame.shape
        yield frame


def track_table(segmentation, num_slots):
    """Returns where the slots of a clip are, with one row per frame and slot that has pixels.

    Args:
      segmentation: integers [T, H, W], the slot of every pixel.
      num_slots: K.

    Returns:
      dict of arrays by the names in `COLUMNS`. `slot` counts from 1, as in all figures; row and
      column are means over the slot's pixels; the box is that of its outermost pixels, both ends
      included.
    """
    segmentation = np.asarray(segmentation)
    _, height, width = segmentation.shape

    # Slot by slot: [T, K, H, W] at once would be 400 MB for ten minutes of video.
    by_row = []
    by_column = []
    for slot in range(num_slots):
        inside = segmentation == slot
        by_row.append(inside.sum(axis=2))
        by_column.append(inside.sum(axis=1))
    by_row = np.stack(by_row, axis=1)  # [T, K, H]
    by_column = np.stack(by_column, axis=1)  # [T, K, W]

    pixels = by_row.sum(axis=2)
    frame, slot = np.nonzero(pixels)
    count = pixels[frame, slot]
    rows = by_row[frame, slot]
    columns = by_column[frame, slot]
    return {
        "frame": frame,
        "slot": slot + 1,
        "pixels": count,
        "row": rows @ np.arange(height) / count,
        "column": columns @ np.arange(width) / count,
        "top": (rows > 0).argmax(1),
        "left": (columns > 0).argmax(1),
        "bottom": height - 1 - (rows[:, ::-1] > 0).argmax(1),
        "right": width - 1 - (columns[:, ::-1] > 0).argmax(1),
    }


def write_tracks(path, table):
    """Writes a `track_table` as CSV; the file appears whole or not at all."""
    with files.atomic_path(path) as partial, open(partial, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for row in zip(*(table[name] for name in COLUMNS), strict=True):
            writer.writerow([int(v) if isinstance(v, np.integer) else f"{v:.3f}" for v in row])
