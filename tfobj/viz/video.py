"""Films of decompositions: strips of frames as figures, and animations as GIF or MP4. Plain arrays of one clip in.

    save_figure(filmstrip_figure(image[0], recon[0], masks[0], slot_recons[0], true_mask[0]), "filmstrip.png")
    save_animation(animation_frames(image[0], recon[0], masks[0], slot_recons[0], true_mask[0]), "clip.gif")

A slot has one colour in all frames, and true objects take the colours of the slots that hold them best over the whole clip: an object
whose colour differs between segmentation and truth has changed its slot. Axes: T frames, K slots.
"""

import importlib
import pathlib

import numpy as np

from tfobj import files
from tfobj.errors import UserError
from tfobj.metrics import clustering
from tfobj.viz import canvas, palette, panels

MAX_COLUMNS = 10
"""Frames in a strip."""

TINT, LARGEST_TINT = 0.55, 0.15
"""Share of the slot's colour in an overlay, the rest is the picture's grey; less for the largest segment, which mostly is the background."""
LINE = 2
"""Pixels of the contour in an enlarged overlay, inside of the segment."""

PREDICTED = palette.SLOT_COLOURS[5]
"""Colour of everything that says "predicted"."""
GREY = np.array([0xD0, 0xD4, 0xDA]) / 255.0

SUFFIXES = (".gif", ".mp4", ".mov", ".mkv")


def overlay(image, ids, *, num_slots=None, scale=1):
    """Pictures in grey, tinted and outlined in the colours of their segments; the largest of all segments lightly, and without outline.

    Args:
      image: [..., H, W, C] in [0, 1], C = 1 or 3.
      ids: [..., H, W] integer slot ids.
      num_slots: K, more than every id; None takes the largest id plus one.
      scale: whole factor of enlargement; contours are thin lines from 4 on.

    Returns:
      picture: float32 [..., H * scale, W * scale, 3] in [0, 1].
    """
    image, ids = palette.to_rgb(image), np.asarray(ids)
    colours = palette.slot_colours(num_slots or int(ids.max(initial=0)) + 1).astype(np.float32)
    grey = image @ np.float32([0.299, 0.587, 0.114])
    tint = np.full(len(colours), TINT, np.float32)
    largest = np.bincount(ids.ravel(), minlength=len(colours)).argmax()
    tint[largest] = LARGEST_TINT
    tint = tint[ids][..., None]
    tinted = enlarge((1.0 - tint) * grey[..., None] + tint * colours[ids], scale)
    large = enlarge(ids[..., None], scale)[..., 0]
    edge = np.zeros(large.shape, bool)
    for axis in (-2, -1):
        for step in range(1, min(LINE, max(scale // 2, 1)) + 1):
            here, there = (
                (slice(None),) * (large.ndim + axis) + (part,)
                for part in (slice(step, None), slice(None, -step))
            )
            differs = large[here] != large[there]
            edge[here] |= differs
            edge[there] |= differs
    return np.where((edge & (large != largest))[..., None], colours[large], tinted)


def enlarge(picture, scale):
    """Repeats every pixel of [..., H, W, C] `scale` times in both directions."""
    return np.repeat(np.repeat(picture, scale, axis=-3), scale, axis=-2)


def filmstrip_figure(
    image, recon, masks, slot_recons=None, true_mask=None, scores=None, *, every=None, title=""
):
    """One clip as a strip: frames side by side, below each its reconstruction, segmentation, truth, and what every slot holds.

    Args:
      image, recon: [T, H, W, C] in [0, 1], C = 1 or 3.
      masks: [T, K, H, W, 1], shares that sum to one over K.
      slot_recons: optional [T, K, H, W, C], appearance before masking; None leaves the rows of the slots out.
      true_mask: optional [T, H, W] integer ids, the same for the same object in all frames; 0 = background, 255 = not labelled.
      scores: optional dict of name -> [T], printed below every frame ("–" where NaN).
      every: shows every n-th frame; None takes the least n that makes at most `MAX_COLUMNS` columns.
      title: line above the figure.

    Returns:
      matplotlib.figure.Figure.

    Raises:
      UserError: shapes that do not fit each other.
    """
    rows = _rows(image, recon, masks, true_mask, image)
    num_frames, num_slots = np.shape(masks)[:2]
    _check_slots(slot_recons, masks, image)
    every = -(-num_frames // MAX_COLUMNS) if every is None else every
    if every < 1:
        raise UserError(f"`every` must be at least 1. Received: {every}.")
    columns = range(0, num_frames, every)
    slots = range(0 if slot_recons is None else num_slots)
    grid = _strip(rows, columns, title, scores, num_slots=len(slots))
    for column, t in enumerate(columns):
        grid.column_label(column, f"frame {t + 1}")
    for k in slots:
        grid.row_label(len(rows) + k, f"slot {k + 1}")
        _bar(
            grid,
            grid.x(0) - 9,
            grid.y(len(rows) + k),
            4,
            grid.cell_height,
            palette.slot_colours(k + 1)[k],
        )
    for column, t in enumerate(columns if slots else ()):
        for k, cutout in enumerate(
            palette.over_checkerboard(np.asarray(slot_recons)[t], np.asarray(masks)[t])
        ):
            grid.picture(len(rows) + k, column, cutout)
    return grid.figure


def prediction_figure(
    image, recon, masks, true_mask=None, scores=None, *, num_observed, frames=None, title=""
):
    """A clip whose end the model predicted: what happened above what the model says, the border between seen and unseen marked.

    Args:
      image: [T, H, W, C] in [0, 1], what really happened.
      recon: the same shape; reconstructions of the first `num_observed` frames, then predictions.
      masks: [T, K, H, W, 1].
      true_mask: optional [T, H, W] integer ids.
      scores: optional dict of name -> [T], printed below every frame ("–" where NaN).
      num_observed: frames that the model saw, at least 1 and less than T.
      frames: indices of the frames to show, ascending; None takes up to 4 observed ones and up to 6 predicted ones, the first and the
        last among them.
      title: line above the figure.

    Returns:
      matplotlib.figure.Figure.

    Raises:
      UserError: shapes that do not fit each other, or `num_observed` leaves nothing.
    """
    rows = _rows(
        image,
        recon,
        masks,
        true_mask,
        recon,
        names=("truth", "model", "segmentation", "true segments"),
    )
    num_frames = len(image)
    _check_observed(num_observed, num_frames)
    if frames is None:
        ahead = np.unique(
            np.linspace(num_observed, num_frames - 1, min(6, num_frames - num_observed))
            .round()
            .astype(int)
        )
        step = int(np.diff(ahead).min()) if len(ahead) > 1 else 1
        frames = [*range(num_observed - 1, -1, -step)[:4][::-1], *ahead.tolist()]
    if (
        not len(frames)
        or min(frames) < 0
        or max(frames) >= num_frames
        or (np.diff(frames) <= 0).any()
    ):
        raise UserError(
            f"`frames` must be ascending indices of the {num_frames} frames. Received: {list(frames)}."
        )
    first = int(np.searchsorted(frames, num_observed))
    border = 0 < first < len(frames)
    grid = _strip(rows, frames, title, scores, header=74, breaks=(first,) if border else ())
    for column, t in enumerate(frames):
        grid.column_label(
            column,
            f"frame {t + 1}" if t < num_observed else f"frame {t + 1} (+{t + 1 - num_observed})",
        )
    for name, colour, start, stop in (
        ("observed", canvas.INK, 0, first),
        ("predicted", PREDICTED, first, len(frames)),
    ):
        if start < stop:
            left, right = grid.x(start), grid.x(stop - 1) + grid.cell_width
            grid.text(
                (left + right) / 2, grid.y(0) - 58, name, ha="center", weight="bold", colour=colour
            )
            _bar(grid, left, grid.y(0) - 42, right - left, 3, colour)
    if border:
        middle, bottom = (
            (grid.x(first - 1) + grid.cell_width + grid.x(first)) / 2,
            grid.y(len(rows) - 1) + grid.cell_height,
        )
        _bar(grid, middle - 1, grid.y(0) - 66, 2, bottom - grid.y(0) + 66, PREDICTED)
    return grid.figure


def animation_frames(
    image, recon, masks, slot_recons=None, true_mask=None, *, num_observed=None, title=""
):
    """A clip as pictures of a film: input, reconstruction, segmentation and truth above the slots, with a line that shows the time.

    Args:
      image, recon, masks, slot_recons, true_mask: as of `filmstrip_figure`.
      num_observed: frames that the model saw; the later ones are marked as predicted. None: all of them.
      title: line above the pictures.

    Returns:
      frames: uint8 [T, height, width, 3].

    Raises:
      UserError: shapes that do not fit each other.
    """
    heads = _rows(image, recon, masks, true_mask, image if num_observed is None else recon)
    _check_slots(slot_recons, masks, image)
    num_frames, num_slots, height, width = np.shape(masks)[:4]
    if num_observed is not None:
        _check_observed(num_observed, num_frames)
        heads = [
            ("model" if name == "reconstruction" else name, pictures) for name, pictures in heads
        ]
    cells = [(name, None, pictures) for name, pictures in heads]
    if slot_recons is not None:
        cutouts = palette.over_checkerboard(slot_recons, masks)
        cells += [
            (f"slot {k + 1}", colour, cutouts[:, k])
            for k, colour in enumerate(palette.slot_colours(num_slots))
        ]
    columns = len(heads)
    rows = -(-len(cells) // columns)
    grid = canvas.Grid(
        rows, columns, (height, width), title=title, bottom=50, row_breaks=[*range(1, rows)] * 2
    )
    places = [(grid.x(i % columns), grid.y(i // columns)) for i in range(len(cells))]
    for (x, y), (name, colour, _) in zip(places, cells, strict=True):
        grid.text(x + grid.cell_width / 2, y - 20, name, ha="center")
        if colour is not None:
            _bar(grid, x, y - 9, grid.cell_width, 4, colour)
    left, right, line = (
        grid.x(0),
        grid.x(columns - 1) + grid.cell_width,
        grid.y(rows - 1) + grid.cell_height + 26,
    )
    seen = num_frames if num_observed is None else num_observed
    border = left + (right - left) * seen / num_frames
    _bar(grid, left, line - 2, right - left, 4, GREY)
    grid.text(left, line + 22, "frame 1", size=canvas.SMALL_SIZE, colour=canvas.SOFT_INK)
    grid.text(
        right,
        line + 22,
        f"frame {num_frames}",
        ha="right",
        size=canvas.SMALL_SIZE,
        colour=canvas.SOFT_INK,
    )
    if seen < num_frames:
        _bar(grid, border, line - 2, right - border, 4, PREDICTED)
        grid.text(
            (border + right) / 2,
            line + 22,
            "predicted",
            ha="center",
            size=canvas.SMALL_SIZE,
            weight="bold",
            colour=PREDICTED,
        )
    still = canvas.figure_to_array(grid.figure)
    film = np.repeat(still[None], num_frames, axis=0)
    for (x, y), (name, _, pictures) in zip(places, cells, strict=True):
        film[:, y - 1 : y + grid.cell_height + 1, x - 1 : x + grid.cell_width + 1] = _bytes(GREY)
        if name in ("model", "segmentation"):
            film[seen:, y - 3 : y + grid.cell_height + 3, x - 3 : x + grid.cell_width + 3] = _bytes(
                PREDICTED
            )
        film[:, y : y + grid.cell_height, x : x + grid.cell_width] = _fit(
            pictures, (grid.cell_height, grid.cell_width)
        )
    for t in range(num_frames):
        now = round(left + (right - left) * (t + 0.5) / num_frames)
        film[t, line - 8 : line + 8, now - 3 : now + 3] = _bytes(
            PREDICTED if t >= seen else palette.BACKGROUND
        )
    return film


def save_animation(frames, path, *, frame_rate=10.0):
    """Writes a film (format by suffix: gif, mp4, mov, mkv); the file appears whole or not at all.

    Args:
      frames: uint8 [T, H, W, 3].
      path: the file. A GIF repeats without end; its 256 colours are those that suit the film best, the same in all of its frames.
      frame_rate: frames per second; a GIF's is rounded so that a frame lasts whole hundredths of a second, two at least.

    Returns:
      path: pathlib.Path.

    Raises:
      UserError: another suffix or shape; PyAV is missing, which all but GIF take; the file cannot be written.
    """
    path, frames = pathlib.Path(path), np.asarray(frames)
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"`path` must end in {', '.join(SUFFIXES)}. Received: {path}.")
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or not len(frames):
        raise UserError(
            f"`frames` must be uint8 [T, H, W, 3] with T at least 1. Received: {frames.dtype} {frames.shape}."
        )
    if not frame_rate > 0:
        raise UserError(f"`frame_rate` must be positive. Received: {frame_rate}.")
    if path.suffix.lower() == ".gif":
        with files.whole(path) as partial:
            _write_gif(frames, partial, frame_rate)
    else:
        # By name, because importing from `datasets` is for commands alone.
        importlib.import_module("tfobj.datasets.video_files").write_video(path, frames, frame_rate)
    return path


def _write_gif(frames, path, frame_rate):
    from PIL import Image

    sample = frames[np.linspace(0, len(frames) - 1, min(len(frames), 8)).round().astype(int)]
    sample = (
        sample[:, ::5, ::5] if min(sample.shape[1:3]) > 256 else sample
    )  # 0.5 s instead of 4 s, the error is the same
    colours = Image.fromarray(np.concatenate(sample)).quantize(
        256, method=Image.Quantize.MAXCOVERAGE, kmeans=1
    )
    # Dither would flicker from frame to frame, and double the file.
    first, *others = (
        Image.fromarray(frame).quantize(palette=colours, dither=Image.Dither.NONE)
        for frame in frames
    )
    duration = 10 * max(2, round(100 / frame_rate))
    first.save(path, format="GIF", save_all=True, append_images=others, duration=duration, loop=0)


def _rows(
    image,
    recon,
    masks,
    true_mask,
    below,
    names=("input", "reconstruction", "segmentation", "truth"),
):
    """Returns [(name, pictures [T, H', W', C])] of what a clip is shown as; segmentations lie over the pictures `below`."""
    image, recon, masks = map(np.asarray, (image, recon, masks))
    if image.ndim != 4 or recon.shape != image.shape or not len(image):
        raise UserError(
            f"`image` and `recon` must have one shape [T, H, W, C], one clip. Received: {image.shape} and {recon.shape}."
        )
    if masks.ndim != 5 or masks.shape != (len(image), masks.shape[1], *image.shape[1:3], 1):
        raise UserError(
            f"`masks` must have shape [T, K, H, W, 1] of `image`, {image.shape}. Received: {masks.shape}."
        )
    if true_mask is not None and np.shape(true_mask) != image.shape[:3]:
        raise UserError(
            f"`true_mask` must have shape {image.shape[:3]}. Received: {np.shape(true_mask)}."
        )
    ids, num_slots = clustering.segment_ids(masks), masks.shape[1]
    scale = max(1, canvas.cell_size(*image.shape[1:3])[0] // image.shape[1])
    rows = [image, recon, overlay(below, ids, num_slots=num_slots, scale=scale)]
    if true_mask is not None:
        true_mask = np.asarray(true_mask)
        rows.append(
            palette.render_true_mask(true_mask, panels.object_slots(true_mask, ids, num_slots))
        )
    return list(zip(names, rows, strict=False))


def _check_slots(slot_recons, masks, image):
    expected = (*np.shape(masks)[:4], np.shape(image)[-1])
    if slot_recons is not None and np.shape(slot_recons) != expected:
        raise UserError(
            f"`slot_recons` must have shape [T, K, H, W, C] = {expected}. Received: {np.shape(slot_recons)}."
        )


def _check_observed(num_observed, num_frames):
    if not 1 <= num_observed < num_frames:
        raise UserError(
            f"`num_observed` must be at least 1 and less than the {num_frames} frames. Received: {num_observed}."
        )


def _strip(rows, frames, title, scores, *, num_slots=0, header=34, breaks=()):
    """Returns a grid with the pictures of `rows` at `frames`, room for slots below, and the scores of these frames at the bottom."""
    scores = {name: np.asarray(values, np.float64) for name, values in (scores or {}).items()}
    for name, values in scores.items():
        if values.shape != (len(rows[0][1]),):
            raise UserError(
                f"`scores[{name!r}]` must have one number per frame, {len(rows[0][1])}. Received: shape {values.shape}."
            )
    size = rows[0][1].shape[1:3]
    grid = canvas.Grid(
        len(rows) + num_slots,
        len(frames),
        size,
        title=title,
        left=150,
        header=header,
        breaks=breaks,
        bottom=24 * len(scores) + (12 if scores else 0),
        row_breaks=(len(rows),) if num_slots else (),
    )
    for row, (name, pictures) in enumerate(rows):
        grid.row_label(row, name)
        for column, t in enumerate(frames):
            grid.picture(row, column, pictures[t])
    below = grid.y(len(rows) + num_slots - 1) + grid.cell_height
    for i, (name, values) in enumerate(scores.items()):
        y = below + 24 * (i + 1)
        grid.text(grid.x(0) - 14, y, name, ha="right", weight="bold")
        for column, t in enumerate(frames):
            grid.text(grid.x(column) + grid.cell_width / 2, y, _number(values[t]), ha="center")
    return grid


def _number(value):
    return "–" if np.isnan(value) else format(value, ".3g" if abs(value) < 0.01 else ".3f")


def _bar(grid, x, y, width, height, colour):
    """Fills a rectangle of pixels."""
    bar = grid.axes(x, y, width, height)
    bar.set(xticks=[], yticks=[], facecolor=colour)
    bar.spines[:].set_visible(False)


def _fit(pictures, size):
    """[T, H, W, C] in [0, 1] -> uint8 [T, *size, 3]: enlarged pixel by pixel, or reduced by averaging."""
    large = _bytes(palette.to_rgb(pictures))
    if large.shape[1] <= size[0]:
        return enlarge(large, size[0] // large.shape[1])
    from PIL import Image

    return np.stack(
        [
            np.asarray(Image.fromarray(frame).resize(size[::-1], Image.Resampling.BOX))
            for frame in large
        ]
    )


def _bytes(colours):
    return np.uint8(np.rint(np.asarray(colours) * 255.0))
