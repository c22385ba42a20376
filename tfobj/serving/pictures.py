"""Pictures and clips as they come to an exported model: at their own size, cut or padded to the model's shape.

Unlike `data.folder`, which brings everything to one small size for training, sizes are kept (up to a
limit), because an exported model returns its masks at the size of the picture.
"""

import importlib
import pathlib

import numpy as np

from tfobj.data import folder
from tfobj.errors import UserError, unknown_name

FITS = ("crop", "pad", "stretch")
"""Ways to bring a picture to the shape of the model's images: cut the centre out, add black borders, distort."""

VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v")
"""Read through PyAV; animations (GIF, WebP, APNG) through Pillow."""

MAX_SIDE = 512
"""Default longest side in pixels: models see far fewer, and every slot is returned as a picture of this size."""


class Unreadable(UserError):
    """A file that is no picture; others may still be read."""


def check_fit(fit):
    """Raises a `UserError` that lists the valid names unless `fit` is one."""
    if fit not in FITS:
        raise unknown_name("fit", fit, FITS)


def fitted_size(size, aspect, fit="crop", max_side=MAX_SIDE):
    """Size of a picture after `fit`.

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
        units = (min if fit == "crop" else max)(height / aspect[0], width / aspect[1])
        height, width = units * aspect[0], units * aspect[1]
    scale = min(1.0, max_side / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def read(path, aspect, channels=3, fit="crop", max_side=MAX_SIDE, max_frames=None, even=False):
    """Yields the picture in a file, or the frames of a clip.

    Args:
      path: picture, animation or video.
      aspect, fit, max_side: see `fitted_size`.
      channels: 3, or 1 for gray.
      max_frames: stop after that many frames; None reads all.
      even: whether a video of variable frame rate is brought to its mean rate, by frames repeated or left out.

    Yields:
      (frame number, or None for a still picture; uint8 [H, W, channels]).

    Raises:
      Unreadable: the file is no picture, damaged, or needs a reader that is not installed; names the file.
    """
    from PIL import Image

    check_fit(fit)
    path = pathlib.Path(path)
    if path.suffix.lower() in VIDEO_SUFFIXES:
        frames = _video_frames(path, even)
    else:
        try:
            with Image.open(path) as opened:
                animated, size = getattr(opened, "n_frames", 1) > 1, opened.size[::-1]
                turned = opened.getexif().get(0x0112, 1) in (
                    5,
                    6,
                    7,
                    8,
                )  # camera held upright: sides swap
            if not animated:
                target = fitted_size(size[::-1] if turned else size, aspect, fit, max_side)
                yield (
                    None,
                    folder.read_picture(
                        path, (*target, channels), "pad" if fit == "pad" else "crop"
                    ),
                )
                return
        except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as e:
            raise _unreadable(path, e) from e
        frames = _animation_frames(path)
    for number, frame in enumerate(frames):
        if max_frames is not None and number >= max_frames:
            return
        yield number, _fit_frame(frame, aspect, channels, fit, max_side)


def _fit_frame(frame, aspect, channels, fit, max_side):
    """Brings a Pillow image to its `fitted_size`."""
    from PIL import Image, ImageOps

    height, width = fitted_size(frame.size[::-1], aspect, fit, max_side)
    frame = frame.convert("L" if channels == 1 else "RGB")
    method = ImageOps.pad if fit == "pad" else ImageOps.fit
    return np.asarray(method(frame, (width, height), method=Image.Resampling.BICUBIC)).reshape(
        height, width, channels
    )


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
    """Yields the frames of a video as Pillow images; `even`: at a constant rate."""
    from PIL import Image

    if not path.is_file():
        raise _unreadable(path, "no such file")
    videos = importlib.import_module("tfobj.datasets.video_files")
    try:
        frames = videos.iterate_frames(path)
        if even:
            times = videos.frame_times(path)
            frames = (
                videos.at_constant_rate(frames, videos.mean_rate(times))
                if videos.is_uneven(times)
                else frames
            )
        for _, frame in frames:
            yield Image.fromarray(frame)
    except UserError as e:  # also where PyAV is missing
        raise Unreadable(str(e)) from e


def _unreadable(path, reason):
    first_line = str(getattr(reason, "strerror", None) or reason).strip().splitlines() or [
        type(reason).__name__
    ]
    return Unreadable(f"`{path}` is not a picture that can be read ({first_line[0]}).")
