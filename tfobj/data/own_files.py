"""The mark by which files that this package wrote are known again, wherever they were moved.

Results are never taken for pictures of the user when a folder is read again, and results may be
replaced by newer ones, while a user's file of the same name stays.
"""

import pathlib
import warnings

from tfobj.errors import UserNote

MARK = "made by tfobj"
"""Text in every result: PNG and GIF hold it as a comment, .npz files as that of the archive."""

_HEAD = 4096
"""Bytes within which the mark of a PNG or GIF file lies: behind the palette at the latest."""

_TRACKS = b"frame,slot,pixels,row,column,"
"""Beginning of a table of tracks, which has no room for a comment."""


def is_own(path):
    """Returns whether this package wrote a file; False for what cannot be read."""
    path = pathlib.Path(path)
    suffix = path.suffix.lower()
    if suffix not in (".png", ".gif", ".npz", ".csv"):
        return False
    try:
        if not path.is_file():
            return False
        with open(path, "rb") as file:
            if suffix == ".npz":
                file.seek(max(0, path.stat().st_size - len(MARK)))
            head = file.read(_HEAD)
    except OSError:
        return False
    if suffix == ".csv":
        return head.startswith(_TRACKS)
    return MARK.encode() in head


def leave_out(paths):
    """Returns the paths of files that this package did not write."""
    return [path for path in paths if not is_own(path)]


def note_left_out(count):
    """Warns that `count` files were left out, unless there are none."""
    if count:
        what = "1 result of an earlier run was"
        if count > 1:
            what = f"{count} results of earlier runs were"
        warnings.warn(f"{what} not taken for a picture.", UserNote, stacklevel=3)
