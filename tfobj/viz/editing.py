"""Figures of edited scenes: the slots that can be edited, with their numbers, and what every edit makes of the picture."""

import numpy as np

from tfobj.metrics import clustering
from tfobj.viz import canvas, layers, palette

LINE = 19
"""Pixels between two lines below a cell."""


def slots_figure(
    image,
    recon,
    masks,
    slot_recons,
    *,
    numbers=None,
    positions=None,
    depths=None,
    background=None,
    amodal_masks=None,
    title="",
):
    """One scene and its slots under the numbers by which they are edited.

    Args:
      image, recon: [H, W, C] in [0, 1], C = 1 or 3.
      masks: [K, H, W, 1], shares that sum to one over K.
      slot_recons: [K, H, W, C], appearance before masking.
      numbers: numbers of the slots; None counts from 1. They also decide the colours.
      positions: optional [K, 2], row and column of every slot's centre in pixels.
      depths: optional [K], smaller is nearer; shown as rank.
      background: index of a slot that is always the background, or None.
      amodal_masks: optional [K, H, W, 1]; with it, objects are shown complete.
      title: line above the figure.

    Returns:
      matplotlib.figure.Figure.
    """
    image, recon, masks, slot_recons = map(np.asarray, (image, recon, masks, slot_recons))
    num_slots, (height, width) = len(masks), image.shape[:2]
    numbers = range(1, num_slots + 1) if numbers is None else numbers
    colours = _colours(numbers)
    ids = clustering.segment_ids(masks[None])[0]
    heads = ("input", "reconstruction", "segmentation")
    lines = 1 + max(positions is not None, background is not None) + (depths is not None)
    grid = canvas.Grid(
        1,
        len(heads) + num_slots,
        (height, width),
        title=title,
        breaks=(len(heads),),
        bottom=lines * LINE + 8,
    )
    for column, (name, picture) in enumerate(
        zip(heads, (image, recon, palette.render_segmentation(ids, colours)), strict=True)
    ):
        grid.column_label(column, name)
        grid.picture(0, column, picture)
    segmentation = grid.figure.axes[-1]
    ranks = (
        {}
        if depths is None
        else {
            k: rank
            for rank, k in enumerate(
                (k for k in np.argsort(depths, kind="stable") if k != background), start=1
            )
        }
    )
    cutouts = palette.over_checkerboard(
        slot_recons, masks if amodal_masks is None else amodal_masks
    )
    for k, number in enumerate(numbers):
        column = len(heads) + k
        grid.column_label(column, f"slot {number}", colour=colours[k])
        grid.picture(0, column, cutouts[k])
        if amodal_masks is not None and k != background:
            layers.outline(grid.figure.axes[-1], ids == k, colours[k])
        if positions is not None and k != background:
            layers.mark_position(grid.figure.axes[-1], positions[k], (height, width), colours[k])
        place = inner_pixel(ids == k)
        if place is not None:
            segmentation.text(
                place[1],
                place[0],
                str(number),
                ha="center",
                va="center",
                fontsize=canvas.LABEL_SIZE,
                weight="bold",
                color=canvas.INK,
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.2},
            )
        for line, text in enumerate(slot_facts(k, (ids == k).mean(), positions, ranks, background)):
            grid.text(
                grid.x(column) + grid.cell_width / 2,
                grid.y(0) + grid.cell_height + 16 + LINE * line,
                text,
                ha="center",
                size=canvas.SMALL_SIZE,
                colour=canvas.SOFT_INK,
            )
    return grid.figure


def slot_facts(slot, share, positions, ranks, background):
    """Returns short lines about a slot: its share of the picture, position and rank in depth, as far as they are known."""
    facts = [f"{100 * share:.1f} % visible"]
    if slot == background:
        return [*facts, "background"]
    if positions is not None:
        facts.append(f"row {positions[slot][0]:.1f}, column {positions[slot][1]:.1f}")
    if slot in ranks:
        facts.append(f"depth {ranks[slot]} of {len(ranks)}")
    return facts


def inner_pixel(inside):
    """Returns the (row, column) of a pixel of `inside` [H, W] that is farthest from all others, or None if it is empty."""
    from scipy import ndimage

    inside = np.asarray(inside, bool)
    if not inside.any():
        return None
    distance = ndimage.distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1]
    return np.unravel_index(distance.argmax(), inside.shape)


def render_slots(masks, numbers):
    """Paints the slot with the largest share of every pixel, masks [K, H, W, 1], in the colour of its number: [H, W, 3]."""
    return palette.render_segmentation(
        clustering.segment_ids(np.asarray(masks)[None])[0], _colours(numbers)
    )


def edits_figure(heads, results, *, title=""):
    """A row for the scene, and one for every edit.

    Args:
      heads: pairs (name, picture [H, W, 1 or 3] in [0, 1]): input, reconstruction and what else there is before the edits.
      results: pairs (edit as it was written, list of pictures [H, W, 1 or 3]).
      title: line above the figure.

    Returns:
      matplotlib.figure.Figure.
    """
    columns = max(len(heads), *(len(pictures) for _, pictures in results))
    grid = canvas.Grid(
        1 + len(results), columns, np.shape(heads[0][1])[:2], title=title, left=190, row_breaks=(1,)
    )
    grid.row_label(0, "scene")
    for column, (name, picture) in enumerate(heads):
        grid.column_label(column, name)
        grid.picture(0, column, np.asarray(picture))
    for row, (text, pictures) in enumerate(results, start=1):
        name, _, options = text.partition(":")
        grid.row_label(row, name, options.replace(",", "\n"))
        for column, picture in enumerate(pictures):
            grid.picture(row, column, np.asarray(picture))
    return grid.figure


def _colours(numbers):
    return palette.slot_colours(max(numbers))[np.asarray(numbers) - 1]
