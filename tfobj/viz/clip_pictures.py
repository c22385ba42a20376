"""The pictures that show a video clip: input, reconstruction, segmentation over the input, truth.

Axes: T frames, K slots.
"""

import numpy as np

from tfobj.errors import UserError
from tfobj.metrics import clustering
from tfobj.viz import canvas, palette, panels

TINT = 0.55
LARGEST_TINT = 0.15
"""Share of the slot's colour in an overlay, in most segments and in the largest one."""

LINE = 2
"""Width in pixels of the contour in an enlarged overlay, inside the segment."""

PREDICTED = palette.SLOT_COLOURS[5]
"""Colour of everything that marks predicted frames."""


def overlay(image, ids, *, owned=None, num_slots=None, scale=1):
    """Tints and outlines grey pictures in the colours of their segments.

    The largest of all segments is tinted lightly and has no outline, because it mostly is the
    background. Pixels that no slot owns form a segment of their own in this respect: only
    `palette.DIMMED` of the tint is left there, and outlines surround what is owned.

    Args:
      image: [..., H, W, C] in [0, 1], C = 1 or 3.
      ids: [..., H, W] integer slot ids.
      owned: bool [..., H, W] from `palette.visibly_owned`; None: all pixels.
      num_slots: K, more than every id; None takes the largest id plus one.
      scale: integer factor of enlargement; from 4 on, contours are thin lines.

    Returns:
      picture: float32 [..., H * scale, W * scale, 3] in [0, 1].
    """
    image = palette.to_rgb(image)
    ids = np.asarray(ids)
    nobody = num_slots or int(ids.max(initial=0)) + 1
    colours = palette.slot_colours(nobody + 1).astype(np.float32)
    owners = ids
    if owned is not None:
        owners = np.where(owned, ids, nobody)

    tint = np.full(nobody + 1, TINT, np.float32)
    largest = np.bincount(owners.ravel(), minlength=nobody + 1).argmax()
    tint[largest] = LARGEST_TINT
    tint[nobody] = palette.DIMMED * TINT
    tint = tint[owners][..., None]
    grey = image @ np.float32([0.299, 0.587, 0.114])
    tinted = enlarge((1.0 - tint) * grey[..., None] + tint * colours[ids], scale)

    # Contours are found after enlarging, so that they are thinner than a pixel of the input.
    large = enlarge(owners[..., None], scale)[..., 0]
    contour = _edges(large, width=min(LINE, max(scale // 2, 1)))
    contour &= (large != largest) & (large != nobody)
    return np.where(contour[..., None], colours[large], tinted)


def _edges(ids, width):
    """Returns which pixels of [..., H, W] lie within `width` pixels of another segment: bool."""
    edges = np.zeros(ids.shape, bool)
    for axis in (-2, -1):
        whole = (slice(None),) * (ids.ndim + axis)
        for step in range(1, width + 1):
            here = (*whole, slice(step, None))
            there = (*whole, slice(None, -step))
            differs = ids[here] != ids[there]
            edges[here] |= differs
            edges[there] |= differs
    return edges


def enlarge(picture, scale):
    """Repeats every pixel of [..., H, W, C] `scale` times in both directions."""
    return np.repeat(np.repeat(picture, scale, axis=-3), scale, axis=-2)


def clip_rows(
    image,
    recon,
    masks,
    true_mask,
    below,
    names=("input", "reconstruction", "segmentation", "truth"),
):
    """Returns the pictures that a clip is shown as.

    The segmentation is dimmed where no slot visibly draws anything (see `palette.visibly_owned`).

    Args:
      image, recon: [T, H, W, C] in [0, 1].
      masks: [T, K, H, W, 1], shares that sum to one over K.
      true_mask: [T, H, W] integer ids, or None.
      below: [T, H, W, C], the pictures below the segmentation, `image` or `recon`.
      names: names of the rows; the last one is unused without `true_mask`.

    Returns:
      rows: list of (name, pictures [T, H', W', C]); overlays are enlarged.

    Raises:
      UserError: if shapes do not fit each other.
    """
    image = np.asarray(image)
    recon = np.asarray(recon)
    masks = np.asarray(masks)
    _check(image, recon, masks, true_mask)

    ids = clustering.segment_ids(masks)
    num_slots = masks.shape[1]
    scale = max(1, canvas.cell_size(*image.shape[1:3])[0] // image.shape[1])
    owned = palette.visibly_owned(masks, recon)
    segmentation = overlay(below, ids, owned=owned, num_slots=num_slots, scale=scale)
    pictures = [image, recon, segmentation]
    if true_mask is not None:
        # Matched over the whole clip, so an object that switches slots changes its colour in the
        # segmentation but not in the truth.
        true_mask = np.asarray(true_mask)
        slots = panels.object_slots(true_mask, ids, num_slots)
        pictures.append(palette.render_true_mask(true_mask, slots))
    return list(zip(names, pictures, strict=False))


def check_slot_recons(slot_recons, masks, image):
    """Raises a `UserError` unless optional `slot_recons` fit `masks` and `image` of a clip."""
    expected = (*np.shape(masks)[:4], np.shape(image)[-1])
    if slot_recons is not None and np.shape(slot_recons) != expected:
        raise UserError(
            f"`slot_recons` must have shape [T, K, H, W, C] = {expected}. "
            f"Received: {np.shape(slot_recons)}."
        )


def check_num_observed(num_observed, num_frames):
    """Raises a `UserError` unless some frames of a clip are observed and some are predicted."""
    if not 1 <= num_observed < num_frames:
        raise UserError(
            f"`num_observed` must be at least 1 and less than the {num_frames} frames. "
            f"Received: {num_observed}."
        )


def _check(image, recon, masks, true_mask):
    if image.ndim != 4 or recon.shape != image.shape or not len(image):
        raise UserError(
            "`image` and `recon` must have one shape [T, H, W, C], one clip. "
            f"Received: {image.shape} and {recon.shape}."
        )
    if masks.ndim != 5 or masks.shape != (len(image), masks.shape[1], *image.shape[1:3], 1):
        raise UserError(
            f"`masks` must have shape [T, K, H, W, 1] of `image`, {image.shape}. "
            f"Received: {masks.shape}."
        )
    if true_mask is not None and np.shape(true_mask) != image.shape[:3]:
        raise UserError(
            f"`true_mask` must have shape {image.shape[:3]}. Received: {np.shape(true_mask)}."
        )
