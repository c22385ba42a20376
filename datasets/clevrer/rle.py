"""Decodes COCO's run-length encoded masks, the format of CLEVRER's proposals.

A mask is read column by column. Its runs alternate between off and on, and begin with off. In the
compressed form, a run is written in characters of six bits, `ord(character) - 48`: five bits of its
number, the lowest first, and one bit that says whether more follow. Bit 16 of the last character is
the sign. From the fourth run on, the number is the difference to the run two places before.

Source: Lin et al. 2014 (COCO), the format of its programs.
"""

import numpy as np


def decode(size, counts):
    """Decodes a mask.

    Args:
      size: (H, W).
      counts: the compressed runs as text or bytes, or a list of the runs themselves.

    Returns:
      bool [H, W].

    Raises:
      ValueError: if `counts` is malformed, or its runs do not fill H x W pixels.

    Example: size (4, 5), counts "52207" -> runs 5, 2, 2, 2, 9.
    """
    height, width = (int(side) for side in size)
    if isinstance(counts, str | bytes):
        counts = _runs(counts)
    runs = np.array(counts, np.int64)
    if runs.ndim != 1 or (runs < 0).any() or runs.sum() != height * width:
        raise ValueError(
            f"`counts` must hold runs that fill {height}x{width} pixels. "
            f"Received: {len(runs)} runs of {runs.sum()} pixels."
        )
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T


def _runs(counts):
    """Returns the lengths of the runs of compressed `counts`."""
    if isinstance(counts, str):
        counts = counts.encode()

    runs = []
    value = 0
    shift = 0
    for byte in counts:
        bits = byte - 48
        if not 0 <= bits < 64:
            raise ValueError(f"`counts` must hold characters '0' to 'o'. Received: {chr(byte)!r}.")

        # Low bits come first. The last character of a number also has its sign.
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift

        before = runs[-2] if len(runs) > 2 else 0
        runs.append(value + before)
        value = 0
        shift = 0

    if shift:
        raise ValueError(
            "`counts` must end with the end of a number. Received: a text that was cut off."
        )
    return runs
