"""A user's own pictures as scenes without labels: `--dataset=folder:/path/to/pictures`."""

import concurrent.futures
import os
import pathlib
import warnings

import numpy as np

from tfobj.data.packed import SceneArrays
from tfobj.errors import UserError, unknown_name

PREFIX = "folder:"
"""Marks a dataset name as the path of a folder."""

FITS = ("crop", "pad")
"""Ways to bring pictures of any shape to one size: cut out the centre, or add black borders."""


def list_files(path):
    """Returns the files below `path`, sorted and without hidden ones, or `path` if it is a file.

    Raises:
      UserError: if there is none.
    """
    path = pathlib.Path(path).expanduser()
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(
            f"`path` must be a folder of pictures, or a picture. Received: {path} (no such folder)."
        )

    def hidden(file):
        return any(part.startswith(".") for part in file.relative_to(path).parts)

    files = sorted(file for file in path.rglob("*") if file.is_file() and not hidden(file))
    if not files:
        raise UserError(
            f"`path` must hold at least one picture. Received: {path}, which has no files."
        )
    return files


def open_folder(path, image_size, fit="crop", skip_unreadable=False):
    """Reads all pictures below a folder.

    Accepts every format that Pillow reads (PNG, JPEG, WebP, GIF, BMP, TIFF, ...). Pictures are
    rotated as their EXIF tag says, animations are reduced to their first frame, and transparent
    parts become white.

    Args:
      path: folder, searched with its subfolders, or one picture.
      image_size: (height, width, channels) of the result; channels 3, or 1 for gray.
      fit: "crop" scales a picture until it covers the size and cuts out the centre; "pad" scales it
        until it fits inside and adds black borders. Neither distorts.
      skip_unreadable: leave out files that are no pictures, with a warning that counts them,
        instead of raising an error.

    Returns:
      `SceneArrays` with `image` uint8 [n, H, W, C] in the order of `list_files`, without masks.

    Raises:
      UserError: no such folder, nothing in it, or a file that is no picture.
    """
    from tqdm import auto as tqdm

    if fit not in FITS:
        raise unknown_name("fit", fit, FITS)
    if len(image_size) != 3 or min(image_size) < 1 or image_size[2] not in (1, 3):
        raise UserError(
            "`image_size` must be (height, width, channels) with 1 or 3 channels. Received: "
            f"image_size={tuple(image_size)}."
        )

    files = list_files(path)
    images = np.empty((len(files), *image_size), np.uint8)
    unreadable = []
    count = 0
    # Pillow decodes and scales outside Python's lock, so threads serve all cores.
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        pictures = pool.map(lambda file: _read_or_none(file, image_size, fit), files)
        pictures = tqdm.tqdm(pictures, "Reading pictures", len(files), leave=False)
        for file, picture in zip(files, pictures, strict=True):
            if picture is not None:
                images[count] = picture
                count += 1
            elif skip_unreadable:
                unreadable.append(file)
            else:
                pool.shutdown(wait=False, cancel_futures=True)
                raise UserError(
                    f"`{file}` is not a picture that can be read. "
                    "Remove it, or skip unreadable files."
                )

    if unreadable:
        warnings.warn(
            f"{len(unreadable)} of {len(files)} files are no pictures and were skipped, "
            f"the first: {unreadable[0]}",
            stacklevel=2,
        )
    if not count:
        raise UserError(
            f"`path` must hold at least one picture. Received: {path}, where no file is one."
        )
    return SceneArrays(images[:count])


def read_picture(file, image_size, fit="crop"):
    """Reads one picture; arguments as in `open_folder`.

    Returns:
      uint8 [H, W, C].

    Raises:
      OSError: the file is no picture, or damaged (`PIL.UnidentifiedImageError` is one).
    """
    from PIL import Image, ImageOps

    height, width, channels = image_size
    with Image.open(file) as opened:
        picture = ImageOps.exif_transpose(opened)

    if picture.mode.startswith("I"):
        # Pillow would cut 16-bit values off at 255 instead of scaling them.
        picture = Image.fromarray((np.asarray(picture).clip(0, 65535) // 256).astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    picture = picture.convert({1: "L", 3: "RGB"}[channels])

    methods = {"crop": ImageOps.fit, "pad": ImageOps.pad}
    scaled = methods[fit](picture, (width, height), method=Image.Resampling.BICUBIC)
    return np.asarray(scaled).reshape(height, width, channels)


def _read_or_none(file, image_size, fit):
    """Returns the picture, or None if Pillow cannot read the file."""
    from PIL import Image

    try:
        return read_picture(file, image_size, fit)
    # Damaged files surface as SyntaxError (broken PNG), ValueError or struct errors beside OSError,
    # depending on the format's plugin.
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError):
        return None
