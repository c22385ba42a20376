"""The complete objects of a scene from near to far: what a model with depths knows of what is hidden."""

import numpy as np

from tfobj.errors import UserError
from tfobj.metrics import clustering
from tfobj.viz import canvas, palette, panels

SHOWN_ALPHA = 0.5
"""Objects whose alpha never reaches this are left out: that is how a model says that a slot is not used (Anciukevicius 2020, section 5)."""


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
    """Scenes as rows: input, reconstruction, segmentation, truth, then the complete objects from the nearest to the farthest.

    An object is shown with all that the model knows of it, hidden parts included, over a checkerboard; the line around its visible
    part has the colour of its slot in the segmentation, and a cross marks its position. The background closes the row.

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
      UserError: shapes that do not fit each other.
    """
    image, recon, masks, slot_recons, amodal_masks, depths = map(
        np.asarray, (image, recon, masks, slot_recons, amodal_masks, depths)
    )
    num_scenes, num_slots, height, width = _check(image, masks, slot_recons, amodal_masks, depths)
    background = None if background is None else background % num_slots
    ranks = [near_to_far(amodal_masks[b], depths[b], background) for b in range(num_scenes)]
    most = max(map(len, ranks))
    heads = ["input", "reconstruction", "segmentation"] + (
        ["truth"] if true_mask is not None else []
    )
    names = ["nearest", *(f"depth {rank}" for rank in range(2, most + 1))][:most]
    names += ["background"] if background is not None else []
    grid = canvas.Grid(
        num_scenes,
        len(heads) + len(names),
        (height, width),
        title=title,
        left=118 if scene_names is not None else 88,
        breaks=(len(heads),) if names else (),
    )
    for column, name in enumerate((*heads, *names)):
        grid.column_label(column, name)
    ids, colours = clustering.segment_ids(masks), palette.slot_colours(num_slots)
    for b in range(num_scenes):
        grid.row_label(b, str(scene_names[b]) if scene_names is not None else f"scene {b + 1}")
        pictures = [image[b], recon[b], palette.render_segmentation(ids[b], colours)]
        if true_mask is not None:
            pictures.append(
                palette.render_true_mask(
                    true_mask[b], panels.object_slots(true_mask[b], ids[b], num_slots)
                )
            )
        for column, picture in enumerate(pictures):
            grid.picture(b, column, picture)
        complete = palette.over_checkerboard(slot_recons[b], amodal_masks[b])
        for rank, slot in enumerate(ranks[b]):
            grid.picture(b, len(heads) + rank, complete[slot])
            axes = grid.figure.axes[-1]
            outline(axes, ids[b] == slot, colours[slot])
            if positions is not None:
                mark_position(axes, np.asarray(positions)[b, slot], (height, width), colours[slot])
            tag(axes, f"slot {slot + 1}", colours[slot])
        if background is not None:
            grid.picture(b, len(heads) + most, complete[background])
            tag(grid.figure.axes[-1], f"slot {background + 1}", colours[background])
    return grid.figure


def near_to_far(amodal_masks, depths, background=None):
    """Returns the slots of the objects that are there, nearest first.

    Args:
      amodal_masks: [K, H, W, 1]; objects whose alpha never reaches `SHOWN_ALPHA` are left out.
      depths: [K], smaller is nearer; of equal ones the lower slot comes first.
      background: index of a slot that is left out, or None.
    """
    reached = np.asarray(amodal_masks).reshape(len(amodal_masks), -1).max(axis=1) >= SHOWN_ALPHA
    return [int(k) for k in np.argsort(depths, kind="stable") if reached[k] and k != background]


def outline(axes, inside, colour):
    """Draws the border between the pixels `inside` [H, W] (bool) and all others, pixel by pixel, white under the colour."""
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
    """Returns the edges between pixels inside and outside, and along the picture's border, [n, 2, 2] as (x, y) of both ends.

    Pixel (row, column) covers columns column - 0.5 ... column + 0.5, as in `imshow`.
    """
    padded = np.pad(np.asarray(inside, bool), 1)
    rows, columns = np.nonzero(
        padded[1:, 1:-1] != padded[:-1, 1:-1]
    )  # edge above pixel (rows, columns)
    level = np.stack(
        [np.stack([columns - 0.5, rows - 0.5], -1), np.stack([columns + 0.5, rows - 0.5], -1)], 1
    )
    rows, columns = np.nonzero(padded[1:-1, 1:] != padded[1:-1, :-1])  # edge left of it
    upright = np.stack(
        [np.stack([columns - 0.5, rows - 0.5], -1), np.stack([columns - 0.5, rows + 0.5], -1)], 1
    )
    return np.concatenate([level, upright])


def mark_position(axes, position, size, colour):
    """Marks a (row, column) with a cross, if it lies in the picture of `size` (H, W)."""
    row, column = (float(value) for value in position)
    if 0 <= row <= size[0] - 1 and 0 <= column <= size[1] - 1:
        axes.plot([column], [row], "x", color="white", markersize=6, markeredgewidth=2.4)
        axes.plot([column], [row], "x", color=colour, markersize=5, markeredgewidth=1.3)
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
            f"`image` must have shape [B, H, W, C] and `masks` [B, K, H, W, 1]. Received: {image.shape} and {masks.shape}."
        )
    num_scenes, height, width, channels = image.shape
    num_slots = masks.shape[1]
    expected = {
        "masks": (height, width, 1),
        "slot_recons": (height, width, channels),
        "amodal_masks": (height, width, 1),
        "depths": (),
    }
    for (name, shape), array in zip(
        expected.items(), (masks, slot_recons, amodal_masks, depths), strict=True
    ):
        if array.shape != (num_scenes, num_slots, *shape):
            raise UserError(
                f"`{name}` must have shape {(num_scenes, num_slots, *shape)}. Received: {array.shape}."
            )
    return num_scenes, num_slots, height, width
