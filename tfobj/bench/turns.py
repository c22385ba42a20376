"""Measurements in turns: their arguments, the work of others beside them, and the time left."""

import math
import pathlib
import sys
import time

from tfobj.errors import UserError
from tfobj.training.progress import TimeLeft

PROCESSOR_TIMES = pathlib.Path("/proc/stat")
MUCH = 0.15
"""Share of the processors from which on other work disturbs a measurement."""


def check_turns(seconds, blocks):
    """Raises a `UserError` unless blocks of `seconds` can be measured, so many of each row."""
    if not 0 < seconds < math.inf:
        raise UserError(f"`seconds` must be positive. Received: seconds={seconds}.")
    if blocks < 1:
        raise UserError(f"`blocks` must be at least 1. Received: blocks={blocks}.")


def rounds(blocks, title=""):
    """Yields the number of each round, and says on stderr which one it is and how long is left."""
    left = TimeLeft(blocks, 0)
    for number in range(blocks):
        print(f"{title}round {number + 1} of {blocks}, {left}", file=sys.stderr, flush=True)
        start = time.monotonic()
        yield number
        left.add(1, time.monotonic() - start)


def notice_other_work():
    """Returns `busy_share()`, and warns on stderr if it is so large that it disturbs."""
    busy = busy_share()
    if busy > MUCH:
        print(
            f"warning: other work takes {busy:.0%} of this machine's processors; the times will "
            "be too long.",
            file=sys.stderr,
        )
    return busy


def busy_share(seconds=1.0):
    """Returns the share of this machine's processors that is taken, 0 ... 1, measured for a while.

    Where the system does not count it (only Linux does), it is 0.
    """

    def ticks():
        """Returns (all, idle) since the start of the machine."""
        words = PROCESSOR_TIMES.read_text().split("\n", 1)[0].split()[1:]
        counts = [int(word) for word in words]
        return sum(counts[:8]), counts[3] + counts[4]

    if not PROCESSOR_TIMES.exists():
        return 0.0
    before = ticks()
    time.sleep(seconds)
    total, idle = (new - old for new, old in zip(ticks(), before, strict=True))
    return 1.0 - idle / total if total else 0.0
