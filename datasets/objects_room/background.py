"""Tells the background of a published Objects Room image from its objects.

Published masks number the parts of an image: 0 sky, 1 floor, 2 and 3 the halves of the wall, 4 and
up objects. In some images the wall has only one half, and the objects start at 3. The files do not
say which images these are, so there are two rules:

    first_four   0-3 are the background, as documented. Where the wall has one half, an object is
                 lost to the background.
    by_outline   Where part 3 does not look like a wall, it is an object, and the other objects move
                 down by one.

A wall reaches up to the sky or to the upper border of the image, and sideways to the border or to
the other half. Part 3 therefore counts as an object if most of its upper outline borders on floor
or wall, or if it touches neither the left nor the right border. It is a wall in any case if the
highest number is in use, because there are never that many objects.
"""

import numpy as np

from tfobj.datasets.generators.rooms import FIRST_OBJECT, FLOOR, OTHER_WALL, SKY, WALL

RULES = ("first_four", "by_outline")
"""Names of the rules."""


def object_mask(parts, rule, num_parts):
    """Returns the object numbers of images of numbered parts.

    Args:
      parts: uint8 [n, H, W], values below `num_parts`.
      rule: one of `RULES`.
      num_parts: number of entities that the published masks have room for.

    Returns:
      uint8 [n, H, W], 0 for the background, 1 and up for objects.
    """
    first = np.full(len(parts), FIRST_OBJECT, np.uint8)
    if rule == "by_outline":
        full = (parts == num_parts - 1).any(axis=(1, 2))
        first[~full & ~_is_wall(parts)] = OTHER_WALL
    below = first[:, None, None] - np.uint8(1)
    return np.maximum(parts, below) - below


def _is_wall(parts):
    """Returns whether part 3 is half of the wall or absent, bool [n], for images [n, H, W]."""
    own = parts == OTHER_WALL

    # The pixel above one in the top row counts as sky.
    above = np.full_like(parts, SKY)
    above[:, 1:] = parts[:, :-1]
    outline = own & (above != OTHER_WALL)
    length = {part: (outline & (above == part)).sum(axis=(1, 2)) for part in (SKY, FLOOR, WALL)}

    at_border = own[:, :, 0].any(axis=1) | own[:, :, -1].any(axis=1)
    absent = ~own.any(axis=(1, 2))
    return absent | (at_border & (length[SKY] > length[FLOOR] + length[WALL]))
