"""Figures of edited scenes: slots under their numbers, and the result of every edit."""

import numpy as np

from tfobj.metrics import clustering
from tfobj.viz import canvas, layers, palette

LINE = 19
"""Pixels between two lines of text below a cell."""


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
    """Draws one scene and its slots under the numbers that edits use.

    The segmentation is dimmed where no slot visibly draws anything (see `palette.render_masks`).

    Args:
      image, recon: [H, W, C] in [0, 1], C = 1 or 3.
      masks: [K, H, W, 1], shares that sum to one over K.
      slot_recons: [K, H, W, C], appearance before masking.
      numbers: numbers of the slots; None counts from 1. They also decide the colours.
      positions: optional [K, 2], row and column of every slot's centre in pixels.
      depths: optional [K], smaller is nearer; shown as rank.
      background: index of a slot that is always the background, or None.
      amodal_masks: optional [K, H, W, 1]; with them, objects are shown complete.
      title: line above the figure.

    Returns:
      matplotlib.figure.Figure.
    """
    image = np.asarray(image)
    masks = np.asarray(masks)
    num_slots = len(masks)
    size = image.shape[:2]
    if numbers is None:
        numbers = range(1, num_slots + 1)
    colours = _colours(numbers)
    ids = clustering.segment_ids(masks[None])[0]

    heads = {
        "input": image,
        "reconstruction": np.asarray(recon),
        "segmentation": palette.render_masks(masks, recon, colours),
    }
    lines = 1 + max(positions is not None, background is not None) + (depths is not None)
    grid = canvas.Grid(
        1,
        len(heads) + num_slots,
        size,
        title=title,
        breaks=(len(heads),),
        bottom=lines * LINE + 8,
        caption=palette.SEGMENTATION_CAPTION,
    )
    head_axes = {}
    for column, (name, picture) in enumerate(heads.items()):
        grid.column_label(column, name)
        head_axes[name] = grid.picture(0, column, picture)

    # Complete objects overlap in the scene, so an outline shows which part of each is visible.
    extents = masks if amodal_masks is None else amodal_masks
    cutouts = palette.over_checkerboard(np.asarray(slot_recons), extents)
    ranks = _depth_ranks(depths, background)
    for k, number in enumerate(numbers):
        column = len(heads) + k
        grid.column_label(column, f"slot {number}", colour=colours[k])
        axes = grid.picture(0, column, cutouts[k])
        if amodal_masks is not None and k != background:
            layers.outline(axes, ids == k, colours[k])
        if positions is not None and k != background:
            layers.mark_position(axes, positions[k], size, colours[k])

        _write_number(head_axes["segmentation"], ids == k, number)
        facts = slot_facts(k, (ids == k).mean(), positions, ranks, background)
        _write_facts(grid, column, facts)
    return grid.figure


def _depth_ranks(depths, background):
    """Returns {slot: rank}, 1 the nearest, without the background; {} for unknown depths."""
    if depths is None:
        return {}
    near_to_far = [k for k in np.argsort(depths, kind="stable") if k != background]
    return {k: rank for rank, k in enumerate(near_to_far, start=1)}


def _write_number(axes, inside, number):
    """Writes the number of a slot well inside its segment [H, W], if it has any pixel."""
    place = inner_pixel(inside)
    if place is None:
        return

    row, column = place
    axes.text(
        column,
        row,
        str(number),
        ha="center",
        va="center",
        fontsize=canvas.LABEL_SIZE,
        weight="bold",
        color=canvas.INK,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.2},
    )


def _write_facts(grid, column, facts):
    """Writes short lines below a cell of the first row."""
    centre = grid.x(column) + grid.cell_width / 2
    top = grid.y(0) + grid.cell_height + 16
    style = {"ha": "center", "size": canvas.SMALL_SIZE, "colour": canvas.SOFT_INK}
    for line, text in enumerate(facts):
        grid.text(centre, top + LINE * line, text, **style)


def slot_facts(slot, share, positions, ranks, background):
    """Returns short lines about a slot: visible share, and position and depth rank if known."""
    facts = [f"{100 * share:.1f} % visible"]
    if slot == background:
        return [*facts, "background"]
    if positions is not None:
        row, column = positions[slot]
        facts.append(f"row {row:.1f}, column {column:.1f}")
    if slot in ranks:
        facts.append(f"depth {ranks[slot]} of {len(ranks)}")
    return facts


def inner_pixel(inside):
    """Returns the pixel of `inside` [H, W] farthest from all others, (row, column), or None."""
    from scipy import ndimage

    inside = np.asarray(inside, bool)
    if not inside.any():
        return None

    # Padding keeps the number away from the border of the picture as well.
    distance = ndimage.distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1]
    return np.unravel_index(distance.argmax(), inside.shape)


def render_slots(masks, numbers, recon=None):
    """Paints the segmentation of a scene in the colours of its slots' numbers.

    Args:
      masks: [K, H, W, 1], shares that sum to one over K.
      numbers: number of every slot, from 1.
      recon: optional [H, W, C] in [0, 1]; with it, the segmentation is also dimmed where the
        reconstruction is black (see `palette.render_masks`).

    Returns:
      picture: [H, W, 3] in [0, 1].
    """
    return palette.render_masks(masks, recon, _colours(numbers))


def edit_pictures(recon, masks, numbers):
    """Returns the pictures of one edit's row: its images, and the segmentation of a single one.

    Args:
      recon: [n, H, W, C], the result, or the steps of a traversal or interpolation.
      masks: [K, H, W, 1] of the first of them.
      numbers: number of every slot, from 1; objects keep their colours from row to row.
    """
    if len(recon) > 1:
        return list(recon)
    return [recon[0], render_slots(masks, numbers, recon[0])]


def edits_figure(heads, results, *, title=""):
    """Draws a row for the scene, and one for every edit.

    Args:
      heads: pairs (name, picture [H, W, 1 or 3] in [0, 1]) of the scene before the edits: input,
        reconstruction and so on.
      results: pairs (edit as the user wrote it, list of pictures [H, W, 1 or 3]).
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

    # An edit is written as "name:option=value,option=value": options go below the name.
    for row, (text, pictures) in enumerate(results, start=1):
        name, _, options = text.partition(":")
        grid.row_label(row, name, options.replace(",", "\n"))
        for column, picture in enumerate(pictures):
            grid.picture(row, column, np.asarray(picture))
    return grid.figure


def _colours(numbers):
    return palette.slot_colours(max(numbers))[np.asarray(numbers) - 1]
