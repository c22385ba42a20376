"""A user's pictures and clips for an exported model, cropped or padded to its aspect ratio.

Unlike `data.folder`, which resizes all images to one small size for training, sizes are kept (up to
a limit), because an exported model returns its masks at the size of the picture.
"""

import itertools

import numpy as np

from tfobj.data import media
from tfobj.data.media import FITS
from tfobj.errors import unknown_name

Unreadable = media.Unreadable

MAX_SIDE = 512
"""Default longest side in pixels.

Models see far fewer, and every slot is returned as an image of this size."""


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


def read(
    path,
    aspect,
    channels=3,
    fit="crop",
    max_side=MAX_SIDE,
    max_frames=None,
    even=False,
    use_damaged=False,
    damages=None,
):
    """Yields the picture in a file, or the frames of a clip, as `data.media` reads them.

    Args:
      path: picture, animation or video.
      aspect: see `fitted_size`.
      channels: 3, or 1 for gray.
      fit: see `fitted_size`.
      max_side: see `fitted_size`.
      max_frames: stop after that many frames; None reads all.
      even: whether a clip with a variable frame rate is converted to its mean rate, by repeating
        and dropping frames.
      use_damaged: see `media.iterate_frames`.
      damages: see `media.iterate_frames`.

    Yields:
      (frame number, or None for a still picture; uint8 [H, W, channels]).

    Raises:
      Unreadable: the file is not a picture, is damaged, or needs a reader that is not installed;
        names the file.
    """
    check_fit(fit)
    frames = media.iterate_frames(
        path,
        keep_side=max_side,
        # At a constant rate, frames are counted after some were repeated or dropped.
        max_frames=None if even else max_frames,
        use_damaged=use_damaged,
        damages=damages,
    )
    if even:
        frames = _at_constant_rate(path, frames, use_damaged)

    for number, (time, frame) in enumerate(itertools.islice(frames, max_frames)):
        place = None if time is None else number
        yield place, _fit_frame(frame, aspect, channels, fit, max_side)


def _at_constant_rate(path, frames, use_damaged):
    """Returns the frames of a clip at its mean rate, or of a picture as they are."""
    first = next(frames)
    frames = itertools.chain([first], frames)
    if first[0] is None:
        return frames

    videos = media.video_files()
    times = media.frame_times(path, use_damaged)
    if not videos.is_uneven(times):
        return frames
    return videos.at_constant_rate(frames, videos.mean_rate(times))


def _fit_frame(frame, aspect, channels, fit, max_side):
    """Returns a Pillow image at its `fitted_size`, as uint8 [H, W, channels]."""
    height, width = fitted_size(frame.size[::-1], aspect, fit, max_side)
    frame = frame.convert("L" if channels == 1 else "RGB")
    return np.asarray(media.fit(frame, (height, width), fit)).reshape(height, width, channels)
