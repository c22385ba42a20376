"""The one reader of a user's pictures, animations and videos, which shows them as a viewer does.

What every reader of this package may rely on:

* Pictures are upright and not mirrored, whatever the camera noted (EXIF, XMP, display matrix);
  pixels of videos are square; transparent parts are white; `levels` and `video_files` say how
  numbers become colours.
* Only formats made for moving pictures are animations. A picture that has others inside (a
  thumbnail, pages, layers, sizes, the second eye) is its first one.
* A damaged file is an `Unreadable` that names it, before any frame of it came out. What lies before
  the damage is read only with `use_damaged`.
* No decoder's error leaves this module as anything but an `Unreadable`, and no warning of theirs is
  printed.
"""

import contextlib
import importlib
import itertools
import pathlib
import stat
import threading

from tfobj.data import levels, truncation
from tfobj.data.decoding import Unreadable, foreign_decoder
from tfobj.errors import UserError, printable

VIDEO_SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".ts",
    ".mts", ".3gp", ".ogv",
)  # fmt: skip
"""Read by PyAV, unless their first bytes are those of a picture."""

ANIMATION_FORMATS = ("GIF", "WEBP", "PNG", "AVIF", "FLI")
"""Pillow's names of the formats whose second picture is a second frame."""

FITS = ("crop", "pad", "stretch")
"""How a picture gets a size of another shape: crop the centre, add black borders, or distort."""

SHORTEST_FRAME = 0.02
"""Seconds. Viewers take an animation's shorter frame times for an oversight ..."""

USUAL_FRAME = 0.1
"""... and show such a frame for this long."""

_PICTURE_HEADS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM", b"II*\0", b"MM\0*")
_REDUCED = 2
"""Larger JPEG files are decoded at 1/2, 1/4 or 1/8 of their size while that leaves this many times
the pixels a side that are asked for."""

_broken_off_lock = threading.Lock()


def iterate_frames(path, *, keep_side=None, max_frames=None, use_damaged=False, damages=None):
    """Reads the picture in a file, or the frames of a clip, with one frame in memory at a time.

    Args:
      path: picture, animation or video.
      keep_side: the picture will be scaled down to sides of at most this many pixels, and so a
        large one need not be decoded in full; None decodes in full.
      max_frames: stop after that many frames; None reads all.
      use_damaged: whether a file that is damaged gives what lies before the damage.
      damages: list that then gets a line about the damage.

    Yields:
      (seconds after the first frame, or None for a still picture; Pillow image of mode RGB).

    Raises:
      Unreadable: the file is neither picture nor clip, is damaged, or needs a reader that is not
        installed; names the file. Clips are decoded once before the first frame is given, so that
        their damage is known.
    """
    path = pathlib.Path(path)
    _check_file(path)
    decode = _picture_frames
    if is_video(path):
        decode = _video_frames

    if use_damaged:
        yield from _up_to_damage(decode, path, keep_side, max_frames, damages)
        return

    _check_whole(path)
    frames = decode(path, keep_side)
    start = list(itertools.islice(frames, 1 if max_frames == 1 else 2))
    if len(start) == 2:
        # A clip. Its frames up to the last one wanted are decoded, and forgotten.
        for _ in itertools.islice(frames, max_frames and max_frames - 2):
            pass
        frames = decode(path, keep_side)
        yield from itertools.islice(frames, max_frames)
        return
    frames.close()
    yield from start


def read_picture(path, keep_side=None):
    """Returns the picture in a file, or the first frame of an animation, as mode RGB.

    Args:
      path: picture or animation.
      keep_side: see `iterate_frames`.

    Raises:
      Unreadable: see `iterate_frames`; also for a video.
    """
    path = pathlib.Path(path)
    _check_file(path)
    if is_video(path):
        raise Unreadable(f"`{printable(path)}` is a video, not a picture.")
    ((_, picture),) = iterate_frames(path, keep_side=keep_side, max_frames=1)
    return picture


def is_video(path):
    """Returns whether a file is to be read as a video, by its name and first bytes."""
    head = b""
    # What cannot be opened is reported by the reader.
    with contextlib.suppress(OSError), open(path, "rb") as file:
        head = file.read(16)
    if head.startswith(_PICTURE_HEADS) or head[8:12] in (b"WEBP", b"avif", b"avis"):
        return False
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return True
    is_avi = head.startswith(b"RIFF") and head[8:12] == b"AVI "
    is_mp4 = head[4:8] == b"ftyp" and head[8:12] not in (b"mif1", b"msf1", b"heic", b"heix")
    return is_avi or is_mp4 or head.startswith(b"\x1a\x45\xdf\xa3")


def fit(picture, size, how):
    """Brings a picture to a size.

    Args:
      picture: Pillow image.
      size: (height, width) of the result.
      how: one of `FITS`.

    Returns:
      Pillow image.
    """
    from PIL import Image, ImageOps

    height, width = size
    method = Image.Resampling.BICUBIC
    if how == "stretch":
        return picture.resize((width, height), method)
    if how == "crop":
        return ImageOps.fit(picture, (width, height), method=method)

    # A thin strip keeps at least one row or column.
    scale = min(width / picture.width, height / picture.height)
    inner = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    padded = Image.new(picture.mode, (width, height))
    padded.paste(picture.resize(inner, method), ((width - inner[0]) // 2, (height - inner[1]) // 2))
    return padded


def _up_to_damage(decode, path, keep_side, max_frames, damages):
    """Yields the frames of `iterate_frames` that come before a damage."""
    count = 0
    try:
        for frame in itertools.islice(decode(path, keep_side), max_frames):
            yield frame
            count += 1
        _check_whole(path)
    except Unreadable as error:
        damage = error
    else:
        return

    used = f"Its first {count} frames were used."
    if count == 1:
        used = "Its first frame was used."
    if not count:
        if is_video(path):
            raise damage
        yield None, _broken_off_picture(path, damage)
        used = "What there is of the picture was used."
    if damages is not None:
        damages.append(f"{damage} {used}")


def _check_file(path):
    """Raises `Unreadable` for what is no file: reading a pipe or a device might never end."""
    with foreign_decoder(path):
        if not stat.S_ISREG(path.stat().st_mode):
            raise ValueError("it is no file")


def _check_whole(path):
    """Raises `Unreadable` for a file whose structure shows that it is damaged."""
    what = "is not a picture that can be read"
    if is_video(path):
        what = "cannot be decoded as a video"
    with foreign_decoder(path, what=what):
        damage = truncation.find_damage(path)
        if damage is not None:
            raise ValueError(f"damaged: {damage}")


def _picture_frames(path, keep_side):
    """Yields (seconds or None, RGB image) of a file that Pillow reads."""
    from PIL import Image

    with contextlib.ExitStack() as stack:
        with foreign_decoder(path):
            image = stack.enter_context(Image.open(path))
            if keep_side is not None:
                side = _REDUCED * keep_side
                image.draft(None, (side, side))
            # An animated PNG may begin with a picture for programs that show no animations.
            index = int(image.info.get("default_image", False))
            if index:
                image.seek(index)
            image.load()
            orientation = levels.stored_orientation(image)
            picture = levels.upright(levels.to_rgb(image), orientation)
            seconds = _seconds_on_view(image)

        following = iter(())
        if image.format in ANIMATION_FORMATS:
            following = _following_frames(path, image, index + 1, seconds, orientation)
        # The first frame is whole even if there is no way to the second.
        damage = None
        try:
            second = next(following, None)
        except Unreadable as error:
            damage = error
        if damage is None and second is None:
            yield None, picture
            return

        yield 0.0, picture
        if damage is not None:
            raise damage
        yield second
        yield from following


def _broken_off_picture(path, damage):
    """Returns what there is of a damaged picture, black where nothing is, or raises `damage`."""
    from PIL import Image, ImageFile

    # Pillow knows this wish for the whole process alone.
    with _broken_off_lock:
        before = ImageFile.LOAD_TRUNCATED_IMAGES
        ImageFile.LOAD_TRUNCATED_IMAGES = True
        try:
            with foreign_decoder(path), Image.open(path) as image:
                image.load()
                return levels.upright(levels.to_rgb(image), levels.stored_orientation(image))
        except Unreadable:
            raise damage from None
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = before


def _following_frames(path, image, index, time, orientation):
    """Yields (seconds, RGB image) of the frames of an open animation from number `index` on."""
    for number in itertools.count(1):
        with foreign_decoder(path, f"damaged after frame {number}: "):
            try:
                image.seek(index)
            except EOFError:
                return
            image.load()
            picture = levels.upright(levels.to_rgb(image), orientation)
            seconds = _seconds_on_view(image)
        yield time, picture
        time += seconds
        index += 1


def _seconds_on_view(image):
    """Returns for how long viewers show the current frame of an animation."""
    seconds = image.info.get("duration", 0) / 1000
    if seconds < SHORTEST_FRAME:
        return USUAL_FRAME
    return seconds


def _video_frames(path, keep_side):
    """Yields (seconds, RGB image) of a file that PyAV reads."""
    from PIL import Image

    try:
        for time, frame in video_files().iterate_frames(path, check=False):
            yield time, Image.fromarray(frame)
    except UserError as error:
        # Also raised if PyAV is not installed.
        raise Unreadable(str(error)) from error


def frame_times(path, use_damaged=False):
    """Returns when the frames of a clip appear; empty if a video's container does not tell.

    Raises:
      Unreadable: see `iterate_frames`.
    """
    path = pathlib.Path(path)
    if not is_video(path):
        return [time for time, _ in iterate_frames(path, use_damaged=use_damaged)]
    try:
        return video_files().frame_times(path)
    except UserError as error:
        raise Unreadable(str(error)) from error


def video_files():
    """Returns the module `datasets.video_files`."""
    # By name, because the layer of data imports no builders.
    return importlib.import_module("tfobj.datasets.video_files")
