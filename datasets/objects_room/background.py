"""Which of the numbered parts of a published Objects Room picture are its background.

Published masks are numbered 0 sky, 1 floor, 2 and 3 the halves of the wall, 4 and up objects. In some pictures the wall
has one half only, and objects begin at 3. The files do not say which pictures these are.

    first_four   0-3 are the background, as documented; where the wall has one half, an object is lost to it
    by_outline   3 is an object, and the others move down by one, in pictures where it does not look like a wall

A wall reaches up to the sky, or to the upper border of the picture, and sideways to the border or to the other half. So 3
is taken for an object if most of its upper outline lies before floor or wall, or if neither border has a pixel of it; unless
the highest number is in use, for there are never that many objects.
"""

import numpy as np

from tfobj.datasets.generators.rooms import FIRST_OBJECT, FLOOR, OTHER_WALL, SKY, WALL

RULES = ("first_four", "by_outline")


def object_mask(parts, rule, num_parts):
    """Returns the numbers of objects in pictures of numbered parts.

    Args:
      parts: uint8 [n, H, W], values below `num_parts`.
      rule: one of `RULES`.
      num_parts: entities that the published masks have room for.

    Returns:
      uint8 [n, H, W], 0 the background, 1 and up the objects.
    """
    first = np.full(len(parts), FIRST_OBJECT, np.uint8)
    if rule == "by_outline":
        full = (parts == num_parts - 1).any(axis=(1, 2))
        first[~full & ~_is_wall(parts)] = OTHER_WALL
    below = first[:, None, None] - np.uint8(1)
    return np.maximum(parts, below) - below


def _is_wall(parts):
    """Whether part 3 of pictures [n, H, W] is a half of the wall, or is not there at all: bool [n]."""
    own = parts == OTHER_WALL
    above = np.full_like(parts, SKY)
    above[:, 1:] = parts[:, :-1]
    outline = own & (above != OTHER_WALL)
    before = {part: (outline & (above == part)).sum(axis=(1, 2)) for part in (SKY, FLOOR, WALL)}
    at_border = own[:, :, 0].any(axis=1) | own[:, :, -1].any(axis=1)
    return ~own.any(axis=(1, 2)) | (at_border & (before[SKY] > before[FLOOR] + before[WALL]))
