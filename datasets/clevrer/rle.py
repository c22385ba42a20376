"""Run-length encoded masks of COCO, as CLEVRER's proposals have them.

A mask is read column by column; runs alternate between off and on, and begin with off. In the compressed form a run is
written in characters of six bits, `ord(character) - 48`: five of its number, the lowest first, and one that says whether
more follow; bit 16 of the last one is the sign. From the fourth run on, what is written is the difference to the run
two places before.

Source: Lin et al. 2014 (COCO), the format of its programs.
"""

import numpy as np


def decode(size, counts):
    """Decodes a mask.

    Args:
      size: (H, W).
      counts: the compressed runs, text or bytes; or a list of the runs themselves.

    Returns:
      bool [H, W].

    Raises:
      ValueError: if `counts` is no such text, or its runs do not fill H x W pixels.

    Example: size (4, 5), counts "52207" -> runs 5, 2, 2, 2, 9.
    """
    height, width = (int(side) for side in size)
    runs = np.array(_runs(counts) if isinstance(counts, str | bytes) else counts, np.int64)
    if runs.ndim != 1 or (runs < 0).any() or runs.sum() != height * width:
        raise ValueError(
            f"`counts` must hold runs that fill {height}x{width} pixels. Received: {len(runs)} runs of {runs.sum()} pixels."
        )
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T


def _runs(counts):
    """Lengths of the runs of compressed `counts`."""
    runs, value, shift = [], 0, 0
    for byte in counts.encode() if isinstance(counts, str) else counts:
        bits = byte - 48
        if not 0 <= bits < 64:
            raise ValueError(f"`counts` must hold characters '0' to 'o'. Received: {chr(byte)!r}.")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    if shift:
        raise ValueError(
            "`counts` must end with the end of a number. Received: a text that was cut off."
        )
    return runs
