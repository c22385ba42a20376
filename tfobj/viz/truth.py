"""Scenes of a data set beside what is known of them."""

import numpy as np

from tfobj.errors import UserError
from tfobj.viz import canvas, palette
from tfobj.viz.layers import outline


def truth_figure(image, mask=None, amodal_masks=None, *, columns=6, title=""):
    """Scenes in pairs: the picture, and its true segmentation with the full extent of every object as an outline.

    Args:
      image: [n, H, W, C] in [0, 1].
      mask: [n, H, W] ids; 0 = background, 255 = not labelled. None: pictures alone.
      amodal_masks: {0, 1} [n, N, H, W], entity 0 the background; None: no outlines.
      columns: scenes per row.
      title: line above the figure.

    Returns:
      matplotlib.figure.Figure.

    Raises:
      UserError: there is no scene, or shapes do not fit.
    """
    image = np.asarray(image)
    if image.ndim != 4 or not len(image):
        raise UserError(
            f"`image` must have shape [n, H, W, C] with n at least 1. Received: {image.shape}."
        )
    for name, values, wanted in (
        ("mask", mask, image.shape[:3]),
        ("amodal_masks", amodal_masks, (len(image), None, *image.shape[1:3])),
    ):
        if values is not None and any(
            w not in (None, got) for w, got in zip(wanted, np.shape(values), strict=True)
        ):
            raise UserError(f"`{name}` must have shape {wanted}. Received: {np.shape(values)}.")
    columns, each = min(columns, len(image)), 1 if mask is None else 2
    grid = canvas.Grid(
        each * -(-len(image) // columns),
        columns,
        image.shape[1:3],
        title=title,
        header=0,
        row_breaks=range(each, each * len(image), each),
    )
    for i, picture in enumerate(image):
        row, column = each * (i // columns), i % columns
        grid.picture(row, column, picture)
        if mask is not None:
            grid.picture(row + 1, column, palette.render_true_mask(mask[i]))
            for entity in range(1, 0 if amodal_masks is None else len(amodal_masks[i])):
                outline(
                    grid.figure.axes[-1],
                    amodal_masks[i][entity] > 0,
                    palette.slot_colours(entity + 1)[entity],
                )
    return grid.figure
