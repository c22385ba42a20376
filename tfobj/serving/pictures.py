"""A user's pictures and clips for an exported model, cropped or padded to its aspect ratio.

Unlike `data.folder`, which resizes all images to one small size for training, sizes are kept (up to
a limit), because an exported model returns its masks at the size of the picture.
"""

import importlib
import pathlib

import numpy as np

from tfobj.data import folder
from tfobj.errors import UserError, unknown_name

FITS = ("crop", "pad", "stretch")
"""How a picture gets the model's aspect ratio: crop the centre, add black borders, or distort."""

VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v")
"""Read by PyAV; animations (GIF, WebP, APNG) are read by Pillow."""

MAX_SIDE = 512
"""Default longest side in pixels.

Models see far fewer, and every slot is returned as an image of this size."""

_EXIF_ORIENTATION = 0x0112
_SIDES_SWAPPED = (5, 6, 7, 8)
"""EXIF orientations of a camera held upright: the stored height is the width of the picture."""


class Unreadable(UserError):
    """A file that is not a picture; others may still be read."""


def check_fit(fit):
    """Raises a `UserError` that lists the valid names unless `fit` is one."""
    if fit not in FITS:
        raise unknown_name("fit", fit, FITS)


def fitted_size(size, aspect, fit="crop", max_side=MAX_SIDE):
    """Returns the size of a picture after `fit`.

    Args:
      size: (height, width) of the picture.
      aspect: (height, width) of the model's images; only their ratio counts.
      fit: one of `FITS`.
      max_side: longest side of the result; larger pictures are scaled down.

    Returns:
      (height, width).

    Example: 20 x 60 for a square model: crop 20 x 20, pad 60 x 60, stretch 20 x 60.
    """
    check_fit(fit)
    height, width = size
    if fit != "stretch":
        # The largest box of this aspect inside the picture (crop), or the smallest around it (pad).
        bounds = {"crop": min, "pad": max}
        unit = bounds[fit](height / aspect[0], width / aspect[1])
        height = unit * aspect[0]
        width = unit * aspect[1]

    scale = min(1.0, max_side / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def read(path, aspect, channels=3, fit="crop", max_side=MAX_SIDE, max_frames=None, even=False):
    """Yields the picture in a file, or the frames of a clip.

    Args:
      path: picture, animation or video.
      aspect: see `fitted_size`.
      channels: 3, or 1 for gray.
      fit: see `fitted_size`.
      max_side: see `fitted_size`.
      max_frames: stop after that many frames; None reads all.
      even: whether a video with a variable frame rate is converted to its mean rate, by repeating
        and dropping frames.

    Yields:
      (frame number, or None for a still picture; uint8 [H, W, channels]).

    Raises:
      Unreadable: the file is not a picture, is damaged, or needs a reader that is not installed;
        names the file.
    """
    check_fit(fit)
    path = pathlib.Path(path)
    if path.suffix.lower() in VIDEO_SUFFIXES:
        frames = _video_frames(path, even)
    else:
        is_animated, picture = _open_picture(path, aspect, channels, fit, max_side)
        if not is_animated:
            yield None, picture
            return
        frames = _animation_frames(path)

    for number, frame in enumerate(frames):
        if max_frames is not None and number >= max_frames:
            return
        yield number, _fit_frame(frame, aspect, channels, fit, max_side)


def _open_picture(path, aspect, channels, fit, max_side):
    """Returns (whether a file is an animation, its pixels if not)."""
    from PIL import Image

    try:
        with Image.open(path) as opened:
            is_animated = getattr(opened, "n_frames", 1) > 1
            width, height = opened.size
            orientation = opened.getexif().get(_EXIF_ORIENTATION, 1)
        if is_animated:
            return True, None

        if orientation in _SIDES_SWAPPED:
            height, width = width, height
        target = fitted_size((height, width), aspect, fit, max_side)
        # For `stretch`, the target has the picture's aspect, so the crop removes nothing.
        methods = {"crop": "crop", "pad": "pad", "stretch": "crop"}
        return False, folder.read_picture(path, (*target, channels), methods[fit])
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as e:
        raise _unreadable(path, e) from e


def _fit_frame(frame, aspect, channels, fit, max_side):
    """Returns a Pillow image at its `fitted_size`, as uint8 [H, W, channels]."""
    from PIL import Image, ImageOps

    height, width = fitted_size(frame.size[::-1], aspect, fit, max_side)
    frame = frame.convert("L" if channels == 1 else "RGB")
    method = ImageOps.fit
    if fit == "pad":
        method = ImageOps.pad
    fitted = method(frame, (width, height), method=Image.Resampling.BICUBIC)
    return np.asarray(fitted).reshape(height, width, channels)


def _animation_frames(path):
    """Yields the frames of an animation as Pillow images."""
    from PIL import Image, ImageSequence

    try:
        with Image.open(path) as opened:
            for frame in ImageSequence.Iterator(opened):
                yield frame.convert("RGB")
    except (OSError, SyntaxError, ValueError, EOFError) as e:
        raise _unreadable(path, e) from e


def _video_frames(path, even):
    """Yields the frames of a video as Pillow images, at a constant rate if `even`."""
    from PIL import Image

    if not path.is_file():
        raise _unreadable(path, "no such file")
    videos = importlib.import_module("tfobj.datasets.video_files")
    try:
        frames = videos.iterate_frames(path)
        if even:
            times = videos.frame_times(path)
            if videos.is_uneven(times):
                frames = videos.at_constant_rate(frames, videos.mean_rate(times))
        for _, frame in frames:
            yield Image.fromarray(frame)
    except UserError as e:
        # Also raised if PyAV is not installed.
        raise Unreadable(str(e)) from e


def _unreadable(path, reason):
    text = str(getattr(reason, "strerror", None) or reason).strip()
    lines = text.splitlines() or [type(reason).__name__]
    return Unreadable(f"`{path}` is not a picture that can be read ({lines[0]}).")
