"""Names and formats of the files that hold decompositions.

All of them carry the mark of `data.own_files`, except tables, which are known by their columns.
"""

import hashlib
import os
import pathlib
import unicodedata
import zipfile

import numpy as np
from PIL import Image, PngImagePlugin

from tfobj import files
from tfobj.data import own_files

LONGEST_STEM = 150
"""Bytes of a name before its ending; file systems allow 255 (some 143) with everything.

A temporary file's name is longer than that of the result."""

_HASH = 8


class OutputNames:
    """Gives every result of a command names of its own.

    Names that differ only in case or Unicode form count as one, because many file systems cannot
    tell them apart.

    Args:
      folder: where the results go. Files in it that this package did not write keep their names;
        those of earlier runs are replaced.
      endings: what is appended to a stem, such as "_masks.npz".
    """

    def __init__(self, folder, endings):
        self._folder = folder
        self._endings = endings
        self._taken = set()

    def unused(self, stem):
        """Returns `stem`, shortened if need be, with a number if other files have its names."""
        stem = _shortened(stem)
        name = stem
        number = 1
        while _folded(name) in self._taken or self._is_users(name):
            number += 1
            name = f"{stem}_{number}"
        self._taken.add(_folded(name))
        return name

    def _is_users(self, name):
        """Returns whether a file that this package did not write has one of a stem's names."""
        paths = [self._folder / f"{name}{ending}" for ending in self._endings]
        return any(os.path.lexists(path) and not own_files.is_own(path) for path in paths)


def unused_path(path):
    """Returns a path for a result; with a number if a file of the user is there."""
    path = pathlib.Path(path)
    names = OutputNames(path.parent, [path.suffix])
    return path.with_name(names.unused(path.stem) + path.suffix)


def _folded(name):
    return unicodedata.normalize("NFC", name).casefold()


def _shortened(stem):
    """Returns a stem of at most `LONGEST_STEM` bytes; the end of a long one becomes its hash."""
    encoded = os.fsencode(stem)
    if len(encoded) <= LONGEST_STEM:
        return stem
    digest = hashlib.blake2b(encoded).hexdigest()[:_HASH]
    while len(os.fsencode(stem)) > LONGEST_STEM - 1 - _HASH:
        stem = stem[:-1]
    return f"{stem}_{digest}"


def write_arrays(path, **arrays):
    """Writes arrays as a compressed .npz file; the file appears whole or not at all."""
    with files.atomic_path(path) as partial:
        np.savez_compressed(partial, **{name: np.asarray(a) for name, a in arrays.items()})
        with zipfile.ZipFile(partial, "a") as archive:
            archive.comment = own_files.MARK.encode()


def write_image(path, image):
    """Writes an image [H, W, C] in [0, 1] (values outside are clipped) as 8-bit PNG."""
    levels = np.rint(255.0 * np.clip(image, 0.0, 1.0)).astype(np.uint8)
    if levels.shape[-1] == 1:
        levels = levels[..., 0]
    comment = PngImagePlugin.PngInfo()
    comment.add_text("Comment", own_files.MARK)
    with files.atomic_path(path) as partial:
        Image.fromarray(levels).save(partial, pnginfo=comment)
