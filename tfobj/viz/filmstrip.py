"""Still figures of video clips: strips of frames, and predictions beside what really followed.

Axes: T frames, K slots.
"""

import numpy as np

from tfobj.errors import UserError
from tfobj.viz import canvas, palette
from tfobj.viz.clip_pictures import PREDICTED, check_num_observed, check_slot_recons, clip_rows

MAX_COLUMNS = 10
"""Most frames in a strip."""

OBSERVED_COLUMNS = 4
PREDICTED_COLUMNS = 6
"""Most observed and predicted frames in the figure of a prediction."""


def filmstrip_figure(
    image, recon, masks, slot_recons=None, true_mask=None, scores=None, *, every=None, title=""
):
    """Draws one clip as a strip: a column per frame, a row per kind of picture and per slot.

    Args:
      image, recon: [T, H, W, C] in [0, 1], C = 1 or 3.
      masks: [T, K, H, W, 1], shares that sum to one over K.
      slot_recons: optional [T, K, H, W, C], appearance before masking; None leaves out the rows of
        the slots.
      true_mask: optional [T, H, W] integer ids, constant over frames for every object; 0 =
        background, 255 = not labelled.
      scores: optional dict of name -> [T], printed below every frame ("–" where NaN).
      every: shows every n-th frame; None takes the smallest n that gives at most `MAX_COLUMNS`
        columns.
      title: line above the figure.

    Returns:
      matplotlib.figure.Figure.

    Raises:
      UserError: if shapes do not fit each other.
    """
    rows = clip_rows(image, recon, masks, true_mask, below=image)
    check_slot_recons(slot_recons, masks, image)
    num_frames, num_slots = np.shape(masks)[:2]
    if every is None:
        every = -(-num_frames // MAX_COLUMNS)
    if every < 1:
        raise UserError(f"`every` must be at least 1. Received: {every}.")

    frames = range(0, num_frames, every)
    if slot_recons is None:
        num_slots = 0
    grid = _strip(rows, frames, title, scores, num_slots=num_slots)
    for column, t in enumerate(frames):
        grid.column_label(column, f"frame {t + 1}")
    if slot_recons is None:
        return grid.figure

    colours = palette.slot_colours(num_slots)
    for k in range(num_slots):
        row = len(rows) + k
        grid.row_label(row, f"slot {k + 1}")
        grid.bar(grid.x(0) - 9, grid.y(row), 4, grid.cell_height, colours[k])

    # One frame at a time: large clips would need all their cutouts in memory at once.
    for column, t in enumerate(frames):
        cutouts = palette.over_checkerboard(np.asarray(slot_recons)[t], np.asarray(masks)[t])
        for k, cutout in enumerate(cutouts):
            grid.picture(len(rows) + k, column, cutout)
    return grid.figure


def prediction_figure(
    image, recon, masks, true_mask=None, scores=None, *, num_observed, frames=None, title=""
):
    """Draws a clip whose end the model predicted, with the border between seen and unseen marked.

    Args:
      image: [T, H, W, C] in [0, 1], the frames that really followed.
      recon: the same shape; reconstructions of the first `num_observed` frames, then predictions.
      masks: [T, K, H, W, 1].
      true_mask: optional [T, H, W] integer ids.
      scores: optional dict of name -> [T], printed below every frame ("–" where NaN).
      num_observed: number of frames that the model saw, at least 1 and less than T.
      frames: indices of the frames to show, ascending; None takes up to 4 observed and up to 6
        predicted ones, the first and the last predicted frame among them.
      title: line above the figure.

    Returns:
      matplotlib.figure.Figure.

    Raises:
      UserError: if shapes do not fit each other, or `num_observed` leaves nothing to predict.
    """
    names = ("truth", "model", "segmentation", "true segments")
    rows = clip_rows(image, recon, masks, true_mask, below=recon, names=names)
    num_frames = len(image)
    check_num_observed(num_observed, num_frames)
    if frames is None:
        frames = _frames_around(num_observed, num_frames)
    _check_frames(frames, num_frames)

    first = int(np.searchsorted(frames, num_observed))
    grid = _strip(rows, frames, title, scores, header=74, breaks=(first,))
    for column, t in enumerate(frames):
        label = f"frame {t + 1}"
        if t >= num_observed:
            label += f" (+{t + 1 - num_observed})"
        grid.column_label(column, label)

    _mark_columns(grid, "observed", canvas.INK, range(first))
    _mark_columns(grid, "predicted", PREDICTED, range(first, len(frames)))
    if 0 < first < len(frames):
        middle = (grid.x(first - 1) + grid.cell_width + grid.x(first)) / 2
        bottom = grid.y(len(rows) - 1) + grid.cell_height
        grid.bar(middle - 1, grid.y(0) - 66, 2, bottom - grid.y(0) + 66, PREDICTED)
    return grid.figure


def _frames_around(num_observed, num_frames):
    """Returns predicted frames, evenly spaced, and observed frames at the same spacing."""
    num_predicted = min(PREDICTED_COLUMNS, num_frames - num_observed)
    ahead = np.linspace(num_observed, num_frames - 1, num_predicted)
    ahead = np.unique(ahead.round().astype(int))
    step = 1
    if len(ahead) > 1:
        step = int(np.diff(ahead).min())
    seen = range(num_observed - 1, -1, -step)[:OBSERVED_COLUMNS]
    return [*seen[::-1], *ahead.tolist()]


def _check_frames(frames, num_frames):
    within = len(frames) > 0 and min(frames) >= 0 and max(frames) < num_frames
    if not within or (np.diff(frames) <= 0).any():
        raise UserError(
            f"`frames` must be ascending indices of the {num_frames} frames. "
            f"Received: {list(frames)}."
        )


def _mark_columns(grid, name, colour, columns):
    """Writes a name above some columns, over a bar that spans them."""
    if not columns:
        return

    left = grid.x(columns[0])
    right = grid.x(columns[-1]) + grid.cell_width
    centre = (left + right) / 2
    grid.text(centre, grid.y(0) - 58, name, ha="center", weight="bold", colour=colour)
    grid.bar(left, grid.y(0) - 42, right - left, 3, colour)


def _strip(rows, frames, title, scores, *, num_slots=0, header=34, breaks=()):
    """Returns a grid with the pictures of `rows` at `frames`.

    It has room for the rows of slots below, and the scores of these frames at the bottom.
    """
    scores = {name: np.asarray(values, np.float64) for name, values in (scores or {}).items()}
    num_frames = len(rows[0][1])
    for name, values in scores.items():
        if values.shape != (num_frames,):
            raise UserError(
                f"`scores[{name!r}]` must have one number per frame, {num_frames}. "
                f"Received: shape {values.shape}."
            )

    bottom = 0
    if scores:
        bottom = 12 + 24 * len(scores)
    grid = canvas.Grid(
        len(rows) + num_slots,
        len(frames),
        rows[0][1].shape[1:3],
        title=title,
        left=150,
        header=header,
        breaks=breaks,
        bottom=bottom,
        caption=palette.SEGMENTATION_CAPTION,
        row_breaks=(len(rows),),
    )
    for row, (name, pictures) in enumerate(rows):
        grid.row_label(row, name)
        for column, t in enumerate(frames):
            grid.picture(row, column, pictures[t])

    for i, (name, values) in enumerate(scores.items()):
        y = grid.below + 24 * (i + 1)
        grid.text(grid.x(0) - 14, y, name, ha="right", weight="bold")
        for column, t in enumerate(frames):
            number = canvas.format_score(values[t])
            grid.text(grid.x(column) + grid.cell_width / 2, y, number, ha="center")
    return grid
