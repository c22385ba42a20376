"""Figures of the scenes of a data set and their true segmentation."""

import math

import numpy as np

from tfobj.errors import UserError
from tfobj.viz import canvas, palette
from tfobj.viz.layers import outline


def truth_figure(image, mask=None, amodal_masks=None, *, columns=6, title=""):
    """Draws scenes above their true segmentations, with the full extent of every object outlined.

    Args:
      image: [n, H, W, C] in [0, 1].
      mask: [n, H, W] ids; 0 = background, 255 = not labelled. None: images only.
      amodal_masks: {0, 1} [n, N, H, W], entity 0 the background; None: no outlines.
      columns: scenes per row.
      title: line above the figure.

    Returns:
      matplotlib.figure.Figure.

    Raises:
      UserError: if there is no scene, or shapes do not fit.
    """
    image = np.asarray(image)
    if image.ndim != 4 or not len(image):
        raise UserError(
            f"`image` must have shape [n, H, W, C] with n at least 1. Received: {image.shape}."
        )
    num_scenes, height, width = image.shape[:3]
    _check_shape("mask", mask, (num_scenes, height, width))
    _check_shape("amodal_masks", amodal_masks, (num_scenes, None, height, width))

    columns = min(columns, num_scenes)
    rows_per_scene = 1 if mask is None else 2
    grid = canvas.Grid(
        rows_per_scene * math.ceil(num_scenes / columns),
        columns,
        (height, width),
        title=title,
        header=0,
        row_breaks=range(rows_per_scene, rows_per_scene * num_scenes, rows_per_scene),
    )
    for i, picture in enumerate(image):
        row = rows_per_scene * (i // columns)
        column = i % columns
        grid.picture(row, column, picture)
        if mask is None:
            continue

        axes = grid.picture(row + 1, column, palette.render_true_mask(mask[i]))
        if amodal_masks is not None:
            # Entity 0 is the background, whose extent is the whole picture.
            colours = palette.slot_colours(len(amodal_masks[i]))
            for entity in range(1, len(amodal_masks[i])):
                outline(axes, amodal_masks[i][entity] > 0, colours[entity])
    return grid.figure


def _check_shape(name, values, expected):
    """Raises a `UserError` unless optional values have the expected shape; None fits any size."""
    if values is None:
        return

    shape = np.shape(values)
    sizes = zip(expected, shape, strict=True)
    if any(size not in (None, found) for size, found in sizes):
        raise UserError(f"`{name}` must have shape {expected}. Received: {shape}.")
