"""Reads the published CLEVRER files: videos, annotations and proposed masks, from the ZIP files.

The files of single videos may be damaged, and some are known to be: these videos are left out and
listed. A ZIP file that is damaged or has other content is an error.

Axes: n clips, T frames, N entities (0 is the background), M objects, H x W pixels.

Source: Yi et al. 2020 (files); Zablotskaia et al. 2020, released program (middle square, size,
windows, trimmed clips).
"""

import dataclasses
import functools
import io
import os
import zipfile

import numpy as np

from tfobj.data import transforms
from tfobj.datasets import video_files
from tfobj.datasets.clevrer import annotations
from tfobj.datasets.generators import clevrer_clips
from tfobj.errors import UserError, first_line

SPLITS = {
    "train": range(10_000),
    "validation": range(10_000, 15_000),
    "test": range(15_000, 20_000),
}
"""Numbers of the published videos; those of `test` have no annotations."""

BAD_ANNOTATIONS = (10_800,)
"""Videos whose annotations are known to be damaged."""

BAD_PROPOSALS = (7_648, 8_182, 9_777, 18_700)
"""Videos whose proposed masks are known to be damaged."""

LARGEST_MEMBER = 64 << 20
"""Bytes of a video, its annotations or its masks; the published ones have at most a few million."""

_ENCRYPTED = 1
"""Flag of an entry of a ZIP file."""

NUM_ENTITIES = 1 + annotations.MAX_OBJECTS

_FACTORS = ("color", "shape", "material")
_TRACKS = ("position", "velocity", "orientation", "angular_velocity")


@dataclasses.dataclass(frozen=True)
class Source:
    """Paths of the ZIP files of one split; `proposals` is None if the masks are not read."""

    videos: str
    annotations: str
    proposals: str | None


@dataclasses.dataclass(frozen=True)
class Selection:
    """The clips to take from a video.

    Attributes:
      starts: numbers of the frames at which clips begin. None selects the first frame with all
        objects in view (`clevrer_clips.trimmed`), and leaves out videos in which they are not in
        view for long enough.
      num_frames: T.
      stride: keep every `stride`-th frame.
      size: side of the image after resizing.
      objects: (least, greatest) number of objects; other videos are left out.
    """

    starts: tuple | None
    num_frames: int
    stride: int
    size: int
    objects: tuple = (1, annotations.MAX_OBJECTS)


def video_ids(split, segmentation=True):
    """Returns the numbers of the videos that are not known to be damaged.

    Args:
      split: key of `SPLITS`.
      segmentation: whether the masks are needed; without them more videos are usable.
    """
    bad = set(BAD_ANNOTATIONS)
    if segmentation:
        bad |= set(BAD_PROPOSALS)
    return [number for number in SPLITS[split] if number not in bad]


def windows(num_frames, stride=1):
    """Returns the first frames of the consecutive clips into which a training video is cut.

    Example: clips of 40 frames begin at (0, 40, 80).
    """
    length = num_frames * stride
    return tuple(range(0, annotations.NUM_FRAMES - length + 1, length))


def read(numbers, source, selection):
    """Reads the clips of some videos.

    Args:
      numbers: int [v], numbers of the videos.
      source: a `Source`.
      selection: a `Selection`.

    Returns:
      A dict of arrays [n, ...]: `video` uint8 [n, T, H, W, 3], `mask` uint8 [n, T, H, W], factors
      [n, N], tracks [n, T, N, ...], `first_frame` [n] and `index` [n], the numbers of the videos;
      and `left_out`, a list of (number of a video, reason). Without proposals, masks are
      `annotations.UNKNOWN` everywhere. Without any clip, there are only an empty `mask` and
      `left_out`.

    Raises:
      UserError: if a ZIP file is damaged, lacks a video, or has other content; names the file.
    """
    clips = []
    left_out = []
    for number in map(int, numbers):
        try:
            clips += _read_video(number, source, selection)
        except annotations.Broken as error:
            left_out.append((number, str(error)))
        except video_files.Unreadable:
            left_out.append((number, "video that cannot be decoded"))

    if not clips:
        empty = np.zeros((0, selection.num_frames, selection.size, selection.size), np.uint8)
        return {"mask": empty, "left_out": left_out}
    arrays = {name: np.stack([clip[name] for clip in clips]) for name in clips[0]}
    return {**arrays, "left_out": left_out}


def _read_video(number, source, selection):
    """Returns the clips of one video, dicts of arrays without the axis of clips."""
    if number in BAD_ANNOTATIONS or (source.proposals and number in BAD_PROPOSALS):
        raise annotations.Broken("known to be damaged")

    annotation = annotations.parse(_member(source.annotations, f"annotation_{number:05d}.json"))
    starts = _starts(annotation, selection)
    if not starts:
        return []

    proposals = None
    if source.proposals:
        text = _member(source.proposals, f"proposal_{number:05d}.json")
        proposals = annotations.parse_proposals(text)

    # Clips may share frames; each is decoded and resized once.
    kept = [start + selection.stride * np.arange(selection.num_frames) for start in starts]
    video = _frames(number, source, set(np.concatenate(kept).tolist()), selection.size)
    return [
        {
            **_truth(annotation, frames),
            "video": np.stack([video[frame] for frame in frames]),
            "mask": _masks(annotation, proposals, frames, selection.size),
            "first_frame": np.float32(frames[0]),
            "index": np.int64(number),
        }
        for frames in kept
    ]


def _starts(annotation, selection):
    """Returns the first frames of a video's clips; empty if the selection leaves the video out."""
    least, greatest = selection.objects
    if not least <= annotation.num_objects <= greatest:
        return ()
    if selection.starts is not None:
        return selection.starts

    window = clevrer_clips.trimmed(annotation.in_view)
    if window is None:
        return ()
    return window[:1]


def _truth(annotation, kept):
    """Returns the factors [N] and tracks [T, N, ...] of the frames `kept`, float32."""
    count = annotation.num_objects
    still = (NUM_ENTITIES,)
    moving = (len(kept), NUM_ENTITIES)
    truth = {name: np.zeros(still, np.float32) for name in (*_FACTORS, "visibility")}
    truth |= {name: np.zeros((*moving, 3), np.float32) for name in _TRACKS}
    truth |= {name: np.zeros(moving, np.float32) for name in ("in_view", "collision", "partner")}

    # Entity 0 is the background; absent entities come last and stay zero.
    objects = slice(1, 1 + count)
    for name in _FACTORS:
        truth[name][objects] = annotation.factors[name]
    truth["visibility"][: 1 + count] = 1

    for name in _TRACKS:
        truth[name][:, objects] = annotation.tracks[name][kept]
    truth["in_view"][:, objects] = annotation.in_view[kept]
    truth["partner"][:, objects] = clevrer_clips.partners(annotation.collisions, kept, count)
    truth["collision"] = np.float32(truth["partner"] > 0)
    return truth


def _masks(annotation, proposals, kept, size):
    """Returns the label maps of the frames `kept`, uint8 [T, size, size]."""
    if not proposals:
        return np.full((len(kept), size, size), annotations.UNKNOWN, np.uint8)
    labels = annotations.label_maps([proposals[frame] for frame in kept], annotation.factors)
    frame = clevrer_clips.FRAME
    square = transforms.crop(labels, frame.rows, frame.columns, axis=-2)
    return transforms.resize_labels(square, (size, size))


def _frames(number, source, kept, size):
    """Returns a dict from frame number to image uint8 [size, size, 3], for the frames `kept`."""
    name = f"video_{number:05d}.mp4"
    file = io.BytesIO(_member(source.videos, name))
    file.name = name
    result = {}
    count = 0
    for _, frame in video_files.iterate_frames(file):
        height, width, _ = frame.shape
        if (height, width) != annotations.PICTURE:
            raise UserError(
                f"`{source.videos}` must hold videos of 480x320 pixels. "
                f"Received: {name} of {width}x{height}."
            )
        if count in kept:
            result[count] = resize(frame, size)
        count += 1

    # All frames are decoded, even if only the first ones are kept, to find damaged videos.
    if count != annotations.NUM_FRAMES:
        raise annotations.Broken(f"video of {count} frames")
    return result


def resize(frame, size):
    """Resizes the middle square of a published frame, bicubic with antialiasing.

    Args:
      frame: uint8 [320, 480, 3].
      size: side of the result in pixels.

    Returns:
      uint8 [size, size, 3].
    """
    from PIL import Image

    square = transforms.crop(frame, clevrer_clips.FRAME.rows, clevrer_clips.FRAME.columns)
    image = Image.fromarray(np.ascontiguousarray(square))
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))


@functools.lru_cache(maxsize=8)
def _archive(path, modified):
    """Returns an open ZIP file, and a dict from file name without folder to entry.

    The argument `modified`, the file's time stamp, makes the cache forget files that changed.
    """
    archive = zipfile.ZipFile(path)
    return archive, {entry.filename.rsplit("/", 1)[-1]: entry for entry in archive.infolist()}


def _member(path, name):
    """Returns the content of one file of a ZIP file."""
    # A damaged directory of a ZIP file surfaces in many kinds of error: BadZipFile, OSError,
    # struct.error, NotImplementedError, UnicodeDecodeError, ...
    try:
        archive, entries = _archive(path, os.stat(path).st_mtime_ns)
    except Exception as error:
        raise UserError(
            f"`{path}` is not a ZIP file, damaged, or was not downloaded completely "
            f"({first_line(error)}). Download it again."
        ) from error

    if name not in entries:
        raise UserError(
            f"`{path}` must hold {name}. Received: a ZIP file of {len(entries)} other files; "
            "a dataset with fewer clips may not need it."
        )
    entry = entries[name]
    _check_entry(path, name, entry)
    try:
        with archive.open(entry) as file:
            # With a bound, no more is unpacked than the directory says. The byte beyond it makes
            # the reader reach the end, where it compares the checksum.
            return file.read(entry.file_size + 1)
    # RuntimeError, NotImplementedError, zlib.error, EOFError, struct.error, ...
    except Exception as error:
        raise UserError(
            f"`{path}` is damaged at {name} ({first_line(error)}). Download it again."
        ) from error


def _check_entry(path, name, entry):
    """Raises a `UserError` for an entry of a ZIP file that no published file has."""
    received = None
    if entry.flag_bits & _ENCRYPTED:
        received = "an encrypted file"
    elif entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        received = f"compression of kind {entry.compress_type}"
    elif entry.file_size > LARGEST_MEMBER:
        received = f"a file of {entry.file_size:,} bytes"
    if received is not None:
        raise UserError(
            f"`{path}` must hold {name} as a plain or deflated file of at most "
            f"{LARGEST_MEMBER:,} bytes. Received: {received}."
        )
