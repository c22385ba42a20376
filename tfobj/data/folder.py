"""A user's own pictures as scenes without labels: `--dataset=folder:/path/to/pictures`."""

import concurrent.futures
import os
import warnings

import numpy as np

from tfobj.data import media, own_files
from tfobj.data.file_tree import list_files
from tfobj.data.packed import SceneArrays
from tfobj.errors import UserError, UserNote, printable, unknown_name

PREFIX = "folder:"
"""Marks a dataset name as the path of a folder."""

FITS = ("crop", "pad")
"""Ways to bring pictures to one size without distorting them; see `media.FITS`."""


def open_folder(path, image_size, fit="crop", skip_unreadable=False):
    """Reads all pictures below a folder.

    Accepts every format that Pillow reads (PNG, JPEG, WebP, GIF, BMP, TIFF, ...), as `media` shows
    them: upright, in 8 bits, white where they are transparent; of animations and files with several
    pictures, the first. Files that this package wrote, such as decompositions, are left out.

    Args:
      path: folder, searched with its subfolders as `list_files` does, or one picture.
      image_size: (height, width, channels) of the result; channels 3, or 1 for gray.
      fit: "crop" scales a picture until it covers the size and cuts out the centre; "pad" scales it
        until it fits inside and adds black borders. Neither distorts.
      skip_unreadable: leave out files that are no pictures, or damaged, with a `UserNote` that
        counts them and names the first, instead of raising an error.

    Returns:
      `SceneArrays` with `image` uint8 [n, H, W, C] in the order of `list_files`, without masks.

    Raises:
      UserError: no such folder, nothing in it, a subfolder that cannot be listed, or a file that is
        no picture.
    """
    from tqdm import auto as tqdm

    if fit not in FITS:
        raise unknown_name("fit", fit, FITS)
    if len(image_size) != 3 or min(image_size) < 1 or image_size[2] not in (1, 3):
        raise UserError(
            "`image_size` must be (height, width, channels) with 1 or 3 channels. Received: "
            f"image_size={tuple(image_size)}."
        )

    files = list_pictures(path)
    images = np.empty((len(files), *image_size), np.uint8)
    unreadable = []
    count = 0
    # Pillow decodes and scales outside Python's lock, so threads serve all cores.
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        pictures = pool.map(lambda file: _read_or_reason(file, image_size, fit), files)
        pictures = tqdm.tqdm(pictures, "Reading pictures", len(files), leave=False, disable=None)
        for picture in pictures:
            if not isinstance(picture, media.Unreadable):
                images[count] = picture
                count += 1
            elif skip_unreadable:
                unreadable.append(picture)
            else:
                pool.shutdown(wait=False, cancel_futures=True)
                raise UserError(f"{picture} Remove it, or skip unreadable files.") from picture

    _note_skipped(unreadable, len(files))
    if not count:
        raise UserError(
            "`path` must hold at least one picture. "
            f"Received: {printable(path)}, where no file is one."
        )
    return SceneArrays(images[:count])


def open_first(path, image_size, first, number):
    """Reads a few pictures below a folder, and no more of them than that.

    Args:
      path: as for `open_folder`.
      image_size: as for `open_folder`.
      first: number of the first file among those of `list_pictures`.
      number: most pictures to read; files that are none are skipped, with a `UserNote`.

    Returns:
      (`SceneArrays`, number of files that may be pictures).

    Raises:
      UserError: as for `open_folder`; or there is no file `first`.
    """
    files = list_pictures(path)
    if not 0 <= first < len(files):
        raise UserError(f"`first` must be in 0 ... {len(files) - 1}. Received: {first}.")

    images = []
    unreadable = []
    for file in files[first:]:
        picture = _read_or_reason(file, image_size, "crop")
        if isinstance(picture, media.Unreadable):
            unreadable.append(picture)
        else:
            images.append(picture)
        if len(images) == number:
            break

    _note_skipped(unreadable, len(files))
    if not images:
        raise UserError(
            "`path` must hold at least one picture. "
            f"Received: {printable(path)}, where no file is one."
        )
    return SceneArrays(np.stack(images)), len(files) - len(unreadable)


def list_pictures(path):
    """Returns what `list_files` does, without the files that this package wrote.

    A single file is returned in any case.
    """
    files = list_files(path)
    if len(files) == 1:
        return files
    pictures = own_files.leave_out(files)
    if not pictures:
        raise UserError(
            "`path` must hold at least one picture. "
            f"Received: {printable(path)}, which holds results of this program alone."
        )
    own_files.note_left_out(len(files) - len(pictures))
    return pictures


def _note_skipped(unreadable, num_files):
    """Warns of files that were skipped: `unreadable` are their errors."""
    if unreadable:
        warnings.warn(
            f"{len(unreadable)} of {num_files} files are no pictures and were skipped, "
            f"the first: {unreadable[0]}",
            UserNote,
            stacklevel=3,
        )


def read_picture(file, image_size, fit="crop"):
    """Reads one picture; arguments as in `open_folder`.

    Returns:
      uint8 [H, W, C].

    Raises:
      media.Unreadable: the file is no picture, or damaged.
    """
    height, width, channels = image_size
    picture = media.read_picture(file, keep_side=max(height, width))
    picture = picture.convert({1: "L", 3: "RGB"}[channels])
    return np.asarray(media.fit(picture, (height, width), fit)).reshape(height, width, channels)


def _read_or_reason(file, image_size, fit):
    """Returns the picture, or the `Unreadable` that says why there is none."""
    try:
        return read_picture(file, image_size, fit)
    except media.Unreadable as error:
        return error
