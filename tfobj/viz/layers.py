"""Figures of models with depths: complete objects, hidden parts included, from near to far."""

import numpy as np

from tfobj.errors import UserError
from tfobj.metrics import clustering
from tfobj.viz import canvas, palette, panels

SHOWN_ALPHA = 0.5
"""Objects whose alpha never reaches this are left out.

A model turns off unused slots this way (Anciukevicius 2020, section 5).
"""


def layers_figure(
    image,
    recon,
    masks,
    slot_recons,
    amodal_masks,
    depths,
    *,
    positions=None,
    background=-1,
    true_mask=None,
    title="",
    scene_names=None,
):
    """Draws scenes as rows: input, reconstruction, segmentation, truth, then objects by depth.

    Every object is shown completely, hidden parts included, over a checkerboard. The line around
    its visible part has the colour of its slot in the segmentation, and a cross marks its position.
    The background is last. The segmentation is dimmed where no slot visibly draws anything (see
    `palette.render_masks`).

    Args:
      image, recon: [B, H, W, C] in [0, 1], C = 1 or 3.
      masks: [B, K, H, W, 1], shares that sum to one over K: what is visible.
      slot_recons: [B, K, H, W, C], appearance before masking.
      amodal_masks: [B, K, H, W, 1] in [0, 1], placed alpha of every slot, hidden parts included.
      depths: [B, K], smaller is nearer.
      positions: optional [B, K, 2], row and column of every slot's centre in pixels.
      background: index of the background's slot, -1 for the last; None if there is none.
      true_mask: optional [B, H, W] integer ids; 0 = background, 255 = not labelled.
      title: line above the figure.
      scene_names: optional names of the rows; None counts from 1.

    Returns:
      matplotlib.figure.Figure.

    Raises:
      UserError: if shapes do not fit each other.
    """
    image = np.asarray(image)
    recon = np.asarray(recon)
    masks = np.asarray(masks)
    slot_recons = np.asarray(slot_recons)
    amodal_masks = np.asarray(amodal_masks)
    depths = np.asarray(depths)
    num_scenes, num_slots, height, width = _check(image, masks, slot_recons, amodal_masks, depths)
    if background is not None:
        background = background % num_slots

    # Scenes may show different numbers of objects; columns are depth ranks.
    ranks = [near_to_far(amodal_masks[b], depths[b], background) for b in range(num_scenes)]
    most = max(map(len, ranks))
    names = ["nearest", *(f"depth {rank}" for rank in range(2, most + 1))][:most]
    if background is not None:
        names.append("background")

    heads = panels.head_names(true_mask)
    grid = canvas.Grid(
        num_scenes,
        len(heads) + len(names),
        (height, width),
        title=title,
        left=panels.room_for_labels(scene_names),
        caption=palette.SEGMENTATION_CAPTION,
        breaks=(len(heads),),
    )
    for column, name in enumerate((*heads, *names)):
        grid.column_label(column, name)

    ids = clustering.segment_ids(masks)
    colours = palette.slot_colours(num_slots)
    for b in range(num_scenes):
        grid.row_label(b, panels.scene_name(scene_names, b))
        pictures = panels.head_pictures(image, recon, masks, true_mask, scene=b)
        for column, picture in enumerate(pictures):
            grid.picture(b, column, picture)

        complete = palette.over_checkerboard(slot_recons[b], amodal_masks[b])
        for rank, slot in enumerate(ranks[b]):
            axes = grid.picture(b, len(heads) + rank, complete[slot])
            outline(axes, ids[b] == slot, colours[slot])
            if positions is not None:
                mark_position(axes, np.asarray(positions)[b, slot], (height, width), colours[slot])
            tag(axes, f"slot {slot + 1}", colours[slot])

        if background is not None:
            axes = grid.picture(b, len(heads) + most, complete[background])
            tag(axes, f"slot {background + 1}", colours[background])
    return grid.figure


def near_to_far(amodal_masks, depths, background=None):
    """Returns the slots of the objects that are present, nearest first.

    Args:
      amodal_masks: [K, H, W, 1]; objects whose alpha never reaches `SHOWN_ALPHA` are left out.
      depths: [K], smaller is nearer; ties go to the lower slot.
      background: index of a slot that is left out, or None.
    """
    reached = np.asarray(amodal_masks).reshape(len(amodal_masks), -1).max(axis=1) >= SHOWN_ALPHA
    return [int(k) for k in np.argsort(depths, kind="stable") if reached[k] and k != background]


def outline(axes, inside, colour):
    """Outlines the pixels `inside`, bool [H, W], along their edges, white below the colour."""
    from matplotlib.collections import LineCollection

    segments = border_segments(inside)
    if not len(segments):
        return
    for line_colour, width in (("white", 2.6), (colour, 1.5)):
        axes.add_collection(
            LineCollection(segments, colors=[line_colour], linewidths=width, capstyle="projecting"),
            autolim=False,
        )


def border_segments(inside):
    """Returns the edges between pixels inside and outside, and along the border of the picture.

    Pixel (row, column) covers columns column - 0.5 ... column + 0.5, as in `imshow`.

    Args:
      inside: bool [H, W].

    Returns:
      edges: [n, 2, 2], (x, y) of both ends.
    """
    padded = np.pad(np.asarray(inside, bool), 1)

    # Level edges are above their pixels, upright ones left of them.
    rows, columns = np.nonzero(padded[1:, 1:-1] != padded[:-1, 1:-1])
    start = np.stack([columns - 0.5, rows - 0.5], -1)
    level = np.stack([start, start + [1.0, 0.0]], 1)

    rows, columns = np.nonzero(padded[1:-1, 1:] != padded[1:-1, :-1])
    start = np.stack([columns - 0.5, rows - 0.5], -1)
    upright = np.stack([start, start + [0.0, 1.0]], 1)
    return np.concatenate([level, upright])


def mark_position(axes, position, size, colour):
    """Marks a (row, column) with a cross if it lies within the picture of `size` (H, W)."""
    row, column = (float(value) for value in position)
    if 0 <= row <= size[0] - 1 and 0 <= column <= size[1] - 1:
        axes.plot([column], [row], "x", color="white", markersize=6, markeredgewidth=2.4)
        axes.plot([column], [row], "x", color=colour, markersize=5, markeredgewidth=1.3)
        # Plotting would otherwise extend the axes beyond the picture.
        axes.set(xlim=(-0.5, size[1] - 0.5), ylim=(size[0] - 0.5, -0.5))


def tag(axes, text, colour):
    """Writes a name in the upper left corner of a cell, on the slot's colour."""
    dark = float(np.dot(colour, (0.299, 0.587, 0.114))) < 0.55
    axes.text(
        0.02,
        0.98,
        text,
        transform=axes.transAxes,
        ha="left",
        va="top",
        fontsize=canvas.SMALL_SIZE - 1,
        color="white" if dark else canvas.INK,
        bbox={"facecolor": colour, "edgecolor": "none", "pad": 1.6},
    )


def _check(image, masks, slot_recons, amodal_masks, depths):
    if image.ndim != 4 or masks.ndim != 5:
        raise UserError(
            "`image` must have shape [B, H, W, C] and `masks` [B, K, H, W, 1]. Received: "
            f"{image.shape} and {masks.shape}."
        )
    num_scenes, height, width, channels = image.shape
    num_slots = masks.shape[1]
    for name, array, shape in (
        ("masks", masks, (height, width, 1)),
        ("slot_recons", slot_recons, (height, width, channels)),
        ("amodal_masks", amodal_masks, (height, width, 1)),
        ("depths", depths, ()),
    ):
        expected = (num_scenes, num_slots, *shape)
        if array.shape != expected:
            raise UserError(f"`{name}` must have shape {expected}. Received: {array.shape}.")
    return num_scenes, num_slots, height, width
