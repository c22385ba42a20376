"""Scenes of squares whose latents are appearance, depth and position, to show what edits do.

Slots are [red, green, blue, depth, row, column], positions in [-1, 1], the background last: [red,
green, blue, 0, 0, 0].
"""

import numpy as np

from tfobj.models.base import DecodedScene
from tfobj.serving.slot_layout import SlotLayout

SIZE = (9, 13)
REACH = 1
"""Pixels of a square on each side of its centre."""
LAYOUT = SlotLayout({"appearance": (0, 3), "depth": (3, 4), "position": (4, 6)}, SIZE, 4, -1)
RED, GREEN, BLUE, GREY = (0.8, 0.1, 0.1), (0.1, 0.8, 0.1), (0.1, 0.1, 0.8), (0.5, 0.5, 0.5)


def square(colour, row, column, depth):
    """Returns the slot of a square with its centre in a pixel."""
    return np.array(
        [*colour, depth, 2 * row / (SIZE[0] - 1) - 1, 2 * column / (SIZE[1] - 1) - 1], np.float32
    )


def scene(*squares, background=GREY):
    """Returns slots [K, 6]."""
    return np.stack([*squares, np.array([*background, 0, 0, 0], np.float32)])


def two_scenes():
    """Returns a scene whose red square hides part of the green one, and another; K = 4 in all."""
    first = scene(square(RED, 3, 3, 0.0), square(GREEN, 4, 4, 1.0), square(BLUE, 4, 10, 0.5))
    second = scene(
        square((0.9, 0.9, 0.1), 5, 9, -0.2),
        square((0.1, 0.9, 0.9), 2, 2, 0.7),
        square((0.9, 0.1, 0.9), 6, 4, 0.1),
        background=(0.2, 0.2, 0.2),
    )
    return first, second


def place(slots):
    """Returns alpha [n, K, H, W, 1] of slots [n, K, 6]; 1 for the background."""
    height, width = SIZE
    row = np.rint((slots[..., 4] + 1) / 2 * (height - 1))[..., None, None]
    column = np.rint((slots[..., 5] + 1) / 2 * (width - 1))[..., None, None]
    rows, columns = np.arange(height)[:, None], np.arange(width)[None, :]
    alpha = ((np.abs(rows - row) <= REACH) & (np.abs(columns - column) <= REACH)).astype(np.float32)
    alpha[:, -1] = 1.0
    return alpha[..., None]


def decode(slots):
    """Paints slots [n, K, 6] as a `DecodedScene`, near squares over far ones."""
    slots = np.asarray(slots, np.float32)
    alpha = place(slots)
    depth = slots[..., 3].copy()
    depth[:, -1] = np.inf
    # Visible is what no nearer slot covers; squares at one depth do not hide each other, and masks
    # would sum to 2.
    nearer = depth[:, None, :] < depth[:, :, None]
    masks = alpha * np.prod(
        np.where(nearer[..., None, None, None], 1.0 - alpha[:, None], 1.0), axis=2
    )
    slot_recons = np.broadcast_to(slots[:, :, None, None, :3], (*masks.shape[:-1], 3)).copy()
    return DecodedScene(
        (masks * slot_recons).sum(1).astype(np.float32), masks.astype(np.float32), slot_recons
    )


def picture(slots):
    """Returns the picture [H, W, 3] of one scene [K, 6]."""
    return decode(slots[None]).recon[0]
