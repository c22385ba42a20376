"""Animations of decomposed video clips, and the one way to write them as GIF or video files.

Axes: T frames, K slots.
"""

import importlib
import pathlib

import numpy as np

from tfobj import files
from tfobj.data import own_files
from tfobj.errors import UserError
from tfobj.viz import canvas, palette
from tfobj.viz.clip_pictures import (
    PREDICTED,
    check_num_observed,
    check_slot_recons,
    clip_rows,
    enlarge,
)

GREY = np.array([0xD0, 0xD4, 0xDA]) / 255.0
SUFFIXES = (".gif", ".mp4", ".mov", ".mkv")


def animation_frames(
    image, recon, masks, slot_recons=None, true_mask=None, *, num_observed=None, title=""
):
    """Draws every frame of a clip: its pictures above its slots, with a line that shows the time.

    Args:
      image, recon, masks, slot_recons, true_mask: as for `filmstrip_figure`.
      num_observed: number of frames that the model saw; later ones are marked as predicted. None:
        all of them.
      title: line above the pictures.

    Returns:
      frames: uint8 [T, height, width, 3].

    Raises:
      UserError: if shapes do not fit each other.
    """
    names = ("input", "reconstruction", "segmentation", "truth")
    below = image
    if num_observed is not None:
        names = ("input", "model", "segmentation", "truth")
        below = recon
    heads = clip_rows(image, recon, masks, true_mask, below=below, names=names)
    check_slot_recons(slot_recons, masks, image)
    num_frames, num_slots, height, width = np.shape(masks)[:4]
    num_seen = num_frames
    if num_observed is not None:
        check_num_observed(num_observed, num_frames)
        num_seen = num_observed

    cells = [(name, None, pictures) for name, pictures in heads]
    if slot_recons is not None:
        cutouts = palette.over_checkerboard(slot_recons, masks)
        for k, colour in enumerate(palette.slot_colours(num_slots)):
            cells.append((f"slot {k + 1}", colour, cutouts[:, k]))

    columns = len(heads)
    rows = -(-len(cells) // columns)
    grid = canvas.Grid(
        rows,
        columns,
        (height, width),
        title=title,
        caption=palette.SEGMENTATION_CAPTION,
        footer=50,
        row_breaks=[*range(1, rows)] * 2,
    )
    places = [(grid.x(i % columns), grid.y(i // columns)) for i in range(len(cells))]
    for (x, y), (name, colour, _) in zip(places, cells, strict=True):
        grid.text(x + grid.cell_width / 2, y - 20, name, ha="center")
        if colour is not None:
            grid.bar(x, y - 9, grid.cell_width, 4, colour)
    timeline = _Timeline(grid, num_frames, num_seen)

    # Matplotlib draws what all frames share only once; frames differ in plain pixels.
    still = canvas.figure_to_array(grid.figure)
    animation = np.repeat(still[None], num_frames, axis=0)
    for place, (name, _, pictures) in zip(places, cells, strict=True):
        predicted_from = num_frames
        if name in ("model", "segmentation"):
            predicted_from = num_seen
        _paste(animation, place, pictures, (grid.cell_height, grid.cell_width), predicted_from)
    timeline.mark(animation)
    return animation


class _Timeline:
    """The line of time at the bottom of an animation, drawn on its grid."""

    def __init__(self, grid, num_frames, num_seen):
        self._left = grid.x(0)
        self._right = grid.width - canvas.MARGIN
        self._y = grid.height - canvas.MARGIN - 24
        self._num_seen = num_seen

        length = self._right - self._left
        text_y = self._y + 22
        small = {"size": canvas.SMALL_SIZE, "colour": canvas.SOFT_INK}
        grid.bar(self._left, self._y - 2, length, 4, GREY)
        grid.text(self._left, text_y, "frame 1", **small)
        grid.text(self._right, text_y, f"frame {num_frames}", ha="right", **small)

        if num_seen < num_frames:
            border = self._left + length * num_seen / num_frames
            small = {"size": canvas.SMALL_SIZE, "colour": PREDICTED, "weight": "bold"}
            grid.bar(border, self._y - 2, self._right - border, 4, PREDICTED)
            grid.text((border + self._right) / 2, text_y, "predicted", ha="center", **small)

    def mark(self, animation):
        """Marks in every frame of `animation` [T, height, width, 3] where it is on the line."""
        num_frames = len(animation)
        rows = slice(self._y - 8, self._y + 8)
        for t in range(num_frames):
            now = round(self._left + (self._right - self._left) * (t + 0.5) / num_frames)
            colour = PREDICTED if t >= self._num_seen else palette.BACKGROUND
            animation[t, rows, now - 3 : now + 3] = _bytes(colour)


def _paste(animation, place, pictures, size, predicted_from):
    """Pastes the pictures of one cell into all frames, predicted ones with a coloured frame."""
    x, y = place
    height, width = size
    animation[:, y - 1 : y + height + 1, x - 1 : x + width + 1] = _bytes(GREY)
    animation[predicted_from:, y - 3 : y + height + 3, x - 3 : x + width + 3] = _bytes(PREDICTED)
    animation[:, y : y + height, x : x + width] = _fit(pictures, size)


def save_animation(frames, path, *, frame_rate=10.0):
    """Writes an animation atomically, in the format of the suffix: gif, mp4, mov or mkv.

    Args:
      frames: uint8 [T, H, W, 3].
      path: path of the file. A GIF loops endlessly; its 256 colours suit all frames together.
      frame_rate: frames per second; a GIF's is rounded so that a frame lasts whole hundredths of a
        second, at least two.

    Returns:
      path: pathlib.Path.

    Raises:
      UserError: if suffix or shape are wrong, the file cannot be written, or PyAV is missing, which
        all formats but GIF need.
    """
    path = pathlib.Path(path)
    frames = np.asarray(frames)
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"`path` must end in {', '.join(SUFFIXES)}. Received: {path}.")
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or not len(frames):
        raise UserError(
            "`frames` must be uint8 [T, H, W, 3] with T at least 1. "
            f"Received: {frames.dtype} {frames.shape}."
        )
    if not frame_rate > 0:
        raise UserError(f"`frame_rate` must be positive. Received: {frame_rate}.")

    if path.suffix.lower() == ".gif":
        with files.atomic_path(path) as partial:
            _write_gif(frames, partial, frame_rate)
    else:
        # Imported by name, because only commands may import from `datasets`.
        importlib.import_module("tfobj.datasets.video_files").write_video(path, frames, frame_rate)
    return path


def _write_gif(frames, path, frame_rate):
    from PIL import Image

    # A sample of the pixels gives the same error as all of them, in 0.5 s instead of 4 s.
    chosen = np.linspace(0, len(frames) - 1, min(len(frames), 8)).round().astype(int)
    sample = frames[chosen]
    if min(sample.shape[1:3]) > 256:
        sample = sample[:, ::5, ::5]
    colours = Image.fromarray(np.concatenate(sample)).quantize(
        256, method=Image.Quantize.MAXCOVERAGE, kmeans=1
    )

    # Dithering would flicker from frame to frame, and double the size of the file.
    first, *others = (
        Image.fromarray(frame).quantize(palette=colours, dither=Image.Dither.NONE)
        for frame in frames
    )
    duration = 10 * max(2, round(100 / frame_rate))
    first.save(
        path,
        format="GIF",
        save_all=True,
        append_images=others,
        duration=duration,
        loop=0,
        comment=own_files.MARK.encode(),
    )


def _fit(pictures, size):
    """Enlarges pictures [T, H, W, C] pixel by pixel, or reduces them by averaging, to uint8."""
    large = _bytes(palette.to_rgb(pictures))
    if large.shape[1] <= size[0]:
        return enlarge(large, size[0] // large.shape[1])

    from PIL import Image

    reduced = [
        np.asarray(Image.fromarray(frame).resize(size[::-1], Image.Resampling.BOX))
        for frame in large
    ]
    return np.stack(reduced)


def _bytes(colours):
    return np.uint8(np.rint(np.asarray(colours) * 255.0))
