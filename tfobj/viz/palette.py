"""Colours of slots, pictures of segmentations, and the checkerboard behind transparent pixels.

Slot k has the same colour in every figure of a run. The first seven colours are those of Okabe and
Ito (2008). The others were chosen one after another, each as far as possible from the earlier ones,
black, white and the background (OKLab distance, the smallest over normal and simulated red-, green-
and blue-blind vision).
"""

import numpy as np

from tfobj.errors import UserError
from tfobj.structs import IGNORE_LABEL

_HEX = (
    "0072B2 E69F00 009E73 CC79A7 56B4E9 D55E00 F0E442 A55AFF "
    "00F0B4 690FA5 D20FC3 873C00 E1C3FF 96C378 FF3C78 00694B "
    "2D2DFF A53C78 FF78D2 870078 96F0E1 D2004B 8787F0 A5F087"
)
SLOT_COLOURS = (
    np.array([[int(code[i : i + 2], 16) for i in (0, 2, 4)] for code in _HEX.split()]) / 255.0
)
"""[24, 3] RGB in [0, 1], read-only."""
SLOT_COLOURS.flags.writeable = False

BACKGROUND = np.array([61, 64, 71]) / 255.0
"""Colour of true id 0."""

IGNORED = np.zeros(3)
"""Colour of pixels without label."""

MISSED_SHADES = (1.0, 0.80, 0.62)
"""Greys of true objects that no slot explains, used in turn: missed objects have no colour."""

CONFIDENT_SHARE = 0.5
"""A slot owns a pixel if its mask is at least this large."""

VISIBLE_LEVEL = 0.04
"""A reconstruction is visible where a channel is at least this bright; 10 of 255 looks black."""

DIMMED = 0.25
"""Share of a slot's colour that is left where no slot visibly draws anything."""

SEGMENTATION_CAPTION = (
    f"Segmentation: full colour where a slot holds at least {100 * CONFIDENT_SHARE:g} % of the "
    f"pixel and the reconstruction is not black (some channel at least {VISIBLE_LEVEL:g} of 1); "
    "dimmed elsewhere, where no single slot visibly draws anything."
)
CONFIDENCE_CAPTION = (
    f"Segmentation: full colour where a slot holds at least {100 * CONFIDENT_SHARE:g} % of the "
    "pixel; dimmed elsewhere."
)
"""The rule of `render_masks` in the words of figure captions, with and without reconstruction."""


def slot_colours(num_slots):
    """Returns the colours of slots 0 .. num_slots-1.

    Args:
      num_slots: any positive integer; beyond 24, the colours repeat, a third darker each time.

    Returns:
      colours: [num_slots, 3] RGB in [0, 1].
    """
    index = np.arange(num_slots)
    turn = index // len(SLOT_COLOURS)
    return SLOT_COLOURS[index % len(SLOT_COLOURS)] * (2.0 / 3.0) ** turn[:, None]


def render_segmentation(ids, colours=None):
    """Paints every id in its colour.

    Args:
      ids: [..., H, W] integers >= 0, such as the argmax over slots.
      colours: [K, 3] RGB in [0, 1], K more than every id; None takes the slot colours.

    Returns:
      picture: [..., H, W, 3] in [0, 1].
    """
    ids = np.asarray(ids)
    largest = int(ids.max(initial=0))
    if colours is None:
        colours = slot_colours(largest + 1)
    colours = np.asarray(colours)
    if largest >= len(colours):
        raise UserError(
            f"`colours` must have a row for every id up to {largest}. Received: {len(colours)} "
            "rows."
        )
    return colours[ids]


def visibly_owned(masks, recon=None):
    """Returns where one slot visibly draws something.

    Every pixel has a winning slot, even where all slots predict black in equal shares. A pixel
    counts as owned only if both hold:

        max_k mask_k >= CONFIDENT_SHARE        one slot is confident
        max_c recon_c >= VISIBLE_LEVEL         the reconstruction is not black

    A slot that confidently draws a black object is therefore not counted either: nobody can tell it
    from an empty background. This rule reads no labels.

    Args:
      masks: [..., K, H, W, 1], shares that sum to one over K.
      recon: [..., H, W, C] in [0, 1]; None tests only the confidence.

    Returns:
      owned: bool [..., H, W].
    """
    owned = np.asarray(masks)[..., 0].max(axis=-3) >= CONFIDENT_SHARE
    if recon is None:
        return owned
    return owned & (np.asarray(recon).max(axis=-1) >= VISIBLE_LEVEL)


def render_masks(masks, recon=None, colours=None):
    """Paints the segmentation of soft masks, dimmed where no slot visibly draws anything.

    The slot with the largest share gives a pixel its colour. The colour is strong where
    `visibly_owned` holds; elsewhere it is blended with black, so that only `DIMMED` of it is left.

    Args:
      masks: [..., K, H, W, 1], shares that sum to one over K.
      recon: [..., H, W, C] in [0, 1], the composed reconstruction; None tests only the confidence.
      colours: [K, 3] RGB in [0, 1]; None takes the slot colours.

    Returns:
      picture: [..., H, W, 3] in [0, 1].
    """
    masks = np.asarray(masks)
    if colours is None:
        colours = slot_colours(masks.shape[-4])
    picture = render_segmentation(masks[..., 0].argmax(axis=-3), colours)
    owned = visibly_owned(masks, recon)
    return np.where(owned[..., None], picture, DIMMED * picture)


def render_true_mask(true, slots=None):
    """Paints a true label map: background dark, unlabelled pixels black, objects in slot colours.

    Args:
      true: [..., H, W] integer ids; 0 = background, 255 = not labelled.
      slots: optional dict of object id -> slot whose colour it takes, or -1 for "missed" (white or
        grey); None gives every object its own colour.

    Returns:
      picture: [..., H, W, 3] in [0, 1].
    """
    true = np.asarray(true)
    colours = slot_colours(IGNORE_LABEL + 1)
    num_missed = 0
    for object_id, slot in (slots or {}).items():
        if slot >= 0:
            colours[object_id] = slot_colours(slot + 1)[-1]
        else:
            colours[object_id] = MISSED_SHADES[num_missed % len(MISSED_SHADES)]
            num_missed += 1
    colours[0] = BACKGROUND
    colours[IGNORE_LABEL] = IGNORED
    return render_segmentation(true, colours)


def checkerboard(height, width, *, square=None):
    """Returns grey squares that show where a picture is transparent.

    Args:
      height, width: size in pixels.
      square: side of a square in pixels; None takes an eighth of the shorter side.

    Returns:
      board: [height, width, 3] in [0, 1].
    """
    square = square or max(1, min(height, width) // 8)
    row = np.arange(height) // square
    column = np.arange(width) // square
    dark = (row[:, None] + column[None, :]) % 2
    return np.repeat(np.where(dark, 0.80, 0.93)[..., None], 3, axis=-1)


def over_checkerboard(picture, alpha, *, square=None):
    """Composites pictures over a checkerboard.

    Args:
      picture: [..., H, W, C] in [0, 1], C = 1 or 3.
      alpha: [..., H, W, 1] in [0, 1].
      square: see `checkerboard`.

    Returns:
      [..., H, W, 3] in [0, 1].
    """
    picture = to_rgb(picture)
    alpha = np.clip(np.asarray(alpha, np.float32), 0.0, 1.0)
    board = checkerboard(*picture.shape[-3:-1], square=square)
    return alpha * picture + (1.0 - alpha) * board


def to_rgb(picture):
    """Converts [..., H, W, 1 or 3] to float32 [..., H, W, 3] clipped to [0, 1]; NaN is magenta."""
    picture = np.asarray(picture, np.float32)
    if picture.ndim < 3 or picture.shape[-1] not in (1, 3):
        raise UserError(
            f"`picture` must be [..., H, W, 1] or [..., H, W, 3]. Received: shape {picture.shape}."
        )

    rgb = np.broadcast_to(picture, (*picture.shape[:-1], 3))
    broken = np.isnan(rgb).any(-1, keepdims=True)
    return np.where(broken, np.float32([1.0, 0.0, 1.0]), np.clip(np.nan_to_num(rgb), 0.0, 1.0))
