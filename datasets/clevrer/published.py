"""Reads the published CLEVRER: videos, annotations and proposed masks, straight from the ZIP files.

Files of single videos may be damaged, and some are known to be: these videos are left out and named. A damaged ZIP file,
or one of other content, is an error.

Axes: n clips, T frames, N entities (0 is the background), M objects, H x W pixels.

Source: Yi et al. 2020 (files); Zablotskaia et al. 2020, released program (middle square, size, windows, trimmed clips).
"""

import dataclasses
import functools
import io
import os
import zipfile
import zlib

import numpy as np

from tfobj.data import transforms
from tfobj.datasets import video_files
from tfobj.datasets.clevrer import annotations
from tfobj.datasets.generators import clevrer_clips
from tfobj.errors import UserError

SPLITS = {
    "train": range(10_000),
    "validation": range(10_000, 15_000),
    "test": range(15_000, 20_000),
}
"""Numbers of the published videos; those of `test` have no annotations."""
BAD_ANNOTATIONS = (10_800,)
BAD_PROPOSALS = (7_648, 8_182, 9_777, 18_700)
"""Videos whose files are known to be damaged."""

_FACTORS = ("color", "shape", "material")
_TRACKS = ("position", "velocity", "orientation", "angular_velocity")
NUM_ENTITIES = 1 + annotations.MAX_OBJECTS


@dataclasses.dataclass(frozen=True)
class Source:
    """Paths of the ZIP files of one split; `proposals` may be None."""

    videos: str
    annotations: str
    proposals: str | None


@dataclasses.dataclass(frozen=True)
class Selection:
    """What is kept of a video.

    Attributes:
      starts: frames at which its clips begin; None is where all objects are in view (`clevrer_clips.trimmed`), and
        leaves out videos in which they are not for long enough.
      num_frames: T.
      stride: every `stride`-th frame is kept.
      size: side of the picture after resizing.
      objects: (least, greatest) number of objects of the videos that count.
    """

    starts: tuple | None
    num_frames: int
    stride: int
    size: int
    objects: tuple = (1, annotations.MAX_OBJECTS)


def video_ids(split, segmentation=True):
    """Numbers of the videos of a split of `SPLITS` that are not known to be damaged; without masks more are usable."""
    bad = BAD_ANNOTATIONS + (BAD_PROPOSALS if segmentation else ())
    return [number for number in SPLITS[split] if number not in bad]


def windows(num_frames, stride=1):
    """First frames of the consecutive clips of `num_frames` frames into which a video is cut for training.

    Example: 40 frames -> (0, 40, 80).
    """
    length = num_frames * stride
    return tuple(range(0, annotations.NUM_FRAMES - length + 1, length))


def read(numbers, source, selection):
    """Reads the clips of some videos.

    Args:
      numbers: int [v], numbers of videos.
      source: a `Source`.
      selection: a `Selection`.

    Returns:
      dict of arrays [n, ...]: `video` uint8 [n, T, H, W, 3], `mask` uint8 [n, T, H, W] (`annotations.UNKNOWN` everywhere
      without proposals), factors [n, N], tracks [n, T, N, ...], `first_frame` [n], `index` [n], the numbers of the
      videos; and `left_out`, a list of (number of a video, reason).

    Raises:
      UserError: a ZIP file is damaged, lacks a video, or has other content; names the file.
    """
    clips, left_out = [], []
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
    return {
        **{name: np.stack([clip[name] for clip in clips]) for name in clips[0]},
        "left_out": left_out,
    }


def _read_video(number, source, selection):
    """Returns the clips of one video, dicts of arrays without the axis of clips."""
    if number in BAD_ANNOTATIONS or (source.proposals and number in BAD_PROPOSALS):
        raise annotations.Broken("known to be damaged")
    annotation = annotations.parse(_member(source.annotations, f"annotation_{number:05d}.json"))
    starts = selection.starts
    if not selection.objects[0] <= annotation.num_objects <= selection.objects[1]:
        return []
    if starts is None:
        window = clevrer_clips.trimmed(annotation.in_view)
        if window is None:
            return []
        starts = window[:1]
    proposals = source.proposals and annotations.parse_proposals(
        _member(source.proposals, f"proposal_{number:05d}.json")
    )
    kept = [start + selection.stride * np.arange(selection.num_frames) for start in starts]
    video = _frames(number, source, set(np.concatenate(kept).tolist()), selection.size)
    return [_clip(number, frames, annotation, proposals, video, selection.size) for frames in kept]


def _clip(number, kept, annotation, proposals, video, size):
    count = annotation.num_objects
    still, moving = (NUM_ENTITIES,), (len(kept), NUM_ENTITIES)
    clip = {name: np.zeros(still, np.float32) for name in (*_FACTORS, "visibility")}
    clip |= {name: np.zeros((*moving, 3), np.float32) for name in _TRACKS}
    clip |= {name: np.zeros(moving, np.float32) for name in ("in_view", "collision", "partner")}
    for name in _FACTORS:
        clip[name][1 : 1 + count] = annotation.factors[name]
    clip["visibility"][: 1 + count] = 1
    for name in _TRACKS:
        clip[name][:, 1 : 1 + count] = annotation.tracks[name][kept]
    clip["in_view"][:, 1 : 1 + count] = annotation.in_view[kept]
    clip["partner"][:, 1 : 1 + count] = clevrer_clips.partners(annotation.collisions, kept, count)
    clip["collision"] = np.float32(clip["partner"] > 0)
    clip["video"] = np.stack([video[frame] for frame in kept])
    if proposals:
        labels = annotations.label_maps([proposals[frame] for frame in kept], annotation.factors)
        square = transforms.crop(
            labels, clevrer_clips.FRAME.rows, clevrer_clips.FRAME.columns, axis=-2
        )
        clip["mask"] = transforms.resize_labels(square, (size, size))
    else:
        clip["mask"] = np.full((len(kept), size, size), annotations.UNKNOWN, np.uint8)
    return {**clip, "first_frame": np.float32(kept[0]), "index": np.int64(number)}


def _frames(number, source, kept, size):
    """Returns frame number -> uint8 [size, size, 3] for the frames `kept` of a video."""
    name = f"video_{number:05d}.mp4"
    file = io.BytesIO(_member(source.videos, name))
    file.name = name
    result, count = {}, 0
    for _, frame in video_files.iterate_frames(file):
        if frame.shape[:2] != annotations.PICTURE:
            raise UserError(
                f"`{source.videos}` must hold videos of 480x320 pixels. Received: {name} of {frame.shape[1]}x{frame.shape[0]}."
            )
        if count in kept:
            result[count] = resize(frame, size)
        count += 1
    if count != annotations.NUM_FRAMES:
        raise annotations.Broken(f"video of {count} frames")
    return result


def resize(frame, size):
    """The middle square of a picture uint8 [320, 480, 3] as uint8 [size, size, 3]: bicubic with antialiasing."""
    from PIL import Image

    square = transforms.crop(frame, clevrer_clips.FRAME.rows, clevrer_clips.FRAME.columns)
    return np.asarray(
        Image.fromarray(np.ascontiguousarray(square)).resize((size, size), Image.Resampling.BICUBIC)
    )


@functools.lru_cache(maxsize=8)
def _archive(path, modified):
    """Returns an open ZIP file, last `modified` at that time, and name of a file without its folder -> entry."""
    archive = zipfile.ZipFile(path)
    return archive, {entry.filename.rsplit("/", 1)[-1]: entry for entry in archive.infolist()}


def _member(path, name):
    """Returns the content of one file of a ZIP file."""
    try:
        archive, entries = _archive(path, os.stat(path).st_mtime_ns)
    except (zipfile.BadZipFile, OSError) as error:
        raise UserError(
            f"`{path}` is no ZIP file, damaged, or was not downloaded completely ({error}). Download it again."
        ) from error
    if name not in entries:
        raise UserError(
            f"`{path}` must hold {name}. Received: a ZIP file of {len(entries)} other files; fewer clips may do."
        )
    try:
        return archive.read(entries[name])
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        raise UserError(f"`{path}` is damaged at {name} ({error}). Download it again.") from error
