"""Figures of stick-breaking models (MONet, GENESIS), which decompose a scene slot by slot."""

import numpy as np

from tfobj.errors import UserError
from tfobj.viz import canvas, palette

ROWS = (
    ("scope", "left before the step"),
    ("mask", "taken from it"),
    ("component", "before masking"),
    ("masked", "component by mask"),
)


def stick_breaking_figure(image, scopes, masks, slot_recons, *, title=""):
    """Draws every scene as four rows: scope, mask, component and masked component of every slot.

    The first column shows the input and the sum of the masked components.

    Args:
      image: [B, H, W, C] in [0, 1], C = 1 or 3.
      scopes: [B, K, H, W, 1], share of every pixel that is left before step k; 1 for the first
        slot.
      masks: [B, K, H, W, 1], share that step k takes; they sum to one over K.
      slot_recons: [B, K, H, W, C], appearance before masking.
      title: line above the figure.

    Returns:
      matplotlib.figure.Figure.

    Raises:
      UserError: if shapes do not fit each other.
    """
    image = np.asarray(image)
    scopes = np.asarray(scopes)
    masks = np.asarray(masks)
    slot_recons = np.asarray(slot_recons)
    num_scenes, height, width, channels = image.shape
    num_slots = slot_recons.shape[1]
    for name, array, last in (
        ("scopes", scopes, 1),
        ("masks", masks, 1),
        ("slot_recons", slot_recons, channels),
    ):
        expected = (num_scenes, num_slots, height, width, last)
        if array.shape != expected:
            raise UserError(
                f"`{name}` must have shape [B, K, H, W, {last}] = {expected}. Received: "
                f"{array.shape}."
            )

    colours = palette.slot_colours(num_slots)
    rows = len(ROWS)
    grid = canvas.Grid(
        num_scenes * rows,
        1 + num_slots,
        (height, width),
        title=title,
        left=158,
        breaks=(1,),
        row_breaks=range(rows, num_scenes * rows, rows),
    )
    grid.column_label(0, "input, sum")
    for k in range(num_slots):
        grid.column_label(1 + k, f"slot {k + 1}", colour=colours[k])

    for b in range(num_scenes):
        first = b * rows
        for row, (name, note) in enumerate(ROWS):
            grid.row_label(first + row, name, note)
        grid.picture(first, 0, image[b])
        grid.picture(first + rows - 1, 0, np.sum(masks[b] * slot_recons[b], axis=0))

        cutouts = palette.over_checkerboard(slot_recons[b], masks[b])
        for k in range(num_slots):
            tinted = masks[b, k] * colours[k]
            pictures = (scopes[b, k], tinted, slot_recons[b, k], cutouts[k])
            for row, picture in enumerate(pictures):
                grid.picture(first + row, 1 + k, picture)
    return grid.figure
