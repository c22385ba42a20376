"""Reads the published files of Video Objects Room (VOR).

`vor.hdf5` has the data sets `train`, `val` and `test`, uint8 [clips, frames, 3, 64, 64] (or
channels last). `vor_<set>.json` describes the masks of every clip and frame:

    ids      a number per mask, the same for an object in all frames
    masks    "start length start length ...", runs of pixels row by row; the first pixel is 1
    num_bg   how many of the masks, at the end of the list, are background

Source: Weis et al. 2021, the loader, extraction and evaluation programs of their benchmark.
"""

import h5py
import numpy as np

from tfobj import files
from tfobj.datasets import hdf5_files, item_builder
from tfobj.errors import UserError, first_line
from tfobj.structs import IGNORE_LABEL

NAME = "vor.hdf5"
LINK = "https://osf.io/ua6sk/"

SETS = {"train": "train", "validation": "val", "test": "test"}
"""Split -> data set of the file."""

MAX_OBJECTS = 10
SIZE = 64
"""Side of a frame in pixels."""

_BLOCK = 100
"""Clips read at a time."""


def masks_file(path, split):
    """Returns the path of a split's JSON file beside `vor.hdf5`; the file need not exist."""
    return path.parent / f"vor_{SETS[split]}.json"


def read(path, split, stop, num_frames, segmentation=True):
    """Reads the clips 0 ... stop - 1 of a split, or as many as there are.

    Args:
      path: `etils.epath.Path` of `vor.hdf5`.
      split: key of `SETS`.
      stop: number after the last clip.
      num_frames: T, the length of the clips, counted from the first frame.
      segmentation: whether to read the masks, if there is a JSON file.

    Yields:
      dicts of up to 100 clips: `video` uint8 [n, T, 64, 64, 3], `mask` uint8 [n, T, 64, 64] and
      `visibility` float32 [n, 1 + MAX_OBJECTS], 1 for the background and the objects that appear
      in a clip. Masks that are not read are `IGNORE_LABEL` everywhere.

    Raises:
      UserError: one line that names the file, if it is damaged or has another structure.
    """
    masks = masks_file(path, split)
    with hdf5_files.opened(path, LINK) as file:
        clips = _checked(file, path, SETS[split], num_frames)
        stop = min(stop, len(clips))
        frames = None
        if segmentation and masks.exists():
            frames = _load(masks, len(clips))

        for first in range(0, stop, _BLOCK):
            video = clips[first : min(first + _BLOCK, stop), :num_frames]
            if video.shape[-1] != 3:
                video = np.moveaxis(video, 2, -1)
            video = np.ascontiguousarray(video).astype(np.uint8)

            mask = np.full(video.shape[:-1], IGNORE_LABEL, np.uint8)
            if frames is not None:
                for i in range(len(mask)):
                    mask[i] = _labels(masks, first + i, frames[first + i], num_frames)
            visibility = item_builder.visibility(mask, 1 + MAX_OBJECTS)
            yield {"video": video, "mask": mask, "visibility": visibility}


def check(path, splits, num_frames):
    """Checks that `read` can read the clips of some splits, as far as the structure tells.

    Raises:
      UserError: one line that names the file.
    """
    with hdf5_files.opened(path, LINK) as file:
        for split in splits:
            _checked(file, path, SETS[split], num_frames)


def _checked(file, path, name, num_frames):
    """Returns the data set `name`; raises a `UserError` if it is missing or has another form."""
    clips = file.get(name)
    if not isinstance(clips, h5py.Dataset):
        raise UserError(
            f"`{path}` must have the data sets {', '.join(SETS.values())}. "
            f"Received: {hdf5_files.names(file)}."
        )

    # The shape of the frames comes first: a data set with fewer axes has no `shape[1]`.
    if (
        clips.shape[2:] not in ((3, SIZE, SIZE), (SIZE, SIZE, 3))
        or clips.shape[1] < num_frames
        or clips.dtype.kind not in "ui"
    ):
        raise UserError(
            f"{name} of `{path}` must be integers of shape (clips, frames, 3, {SIZE}, {SIZE}) with "
            f"at least {num_frames} frames. Received: {clips.dtype} of shape {clips.shape}."
        )
    hdf5_files.check_chunk(clips, path)
    return clips


def _load(path, count):
    """Returns the content of a JSON file, a list of the frames of `count` clips."""
    clips = files.read_json(path, list)
    if len(clips) != count:
        raise UserError(
            f"`{path}` must be a list of the {count} clips of {NAME}. "
            f"Received: {len(clips)} of them."
        )
    return clips


def _labels(path, number, frames, num_frames):
    """Returns the label maps of a clip, uint8 [T, 64, 64].

    Objects are numbered in the order in which they first appear.
    """
    labels = np.zeros((num_frames, SIZE * SIZE), np.uint8)
    entities = {}
    try:
        for row, frame in zip(labels, frames[:num_frames], strict=True):
            _paint(row, frame, entities)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError) as error:
        raise UserError(
            f"Clip {number} of `{path}` must have ids, masks and num_bg of {num_frames} frames. "
            f"Received: {first_line(error)}."
        ) from error
    return labels.reshape(num_frames, SIZE, SIZE)


def _paint(row, frame, entities):
    """Paints the objects of a frame into `row` [64 * 64].

    Args:
      row: uint8 label of every pixel, changed in place.
      frame: entry of the JSON file.
      entities: dict from id to number of the clip's objects so far; new ones are added.

    Raises:
      ValueError: if the masks do not fit the frame; other errors if it has another structure.
    """
    num_objects = len(frame["ids"]) - frame["num_bg"]
    if num_objects < 0:
        raise ValueError("more background than masks")

    ids = frame["ids"][:num_objects]
    masks = frame["masks"][:num_objects]
    for key, text in zip(ids, masks, strict=True):
        entity = entities.setdefault(key, len(entities) + 1)
        if entity > MAX_OBJECTS:
            raise ValueError(f"more than {MAX_OBJECTS} objects")

        runs = np.array(text.split(), np.int64).reshape(-1, 2)
        if runs.size and not (runs.min() > 0 and runs.sum(axis=1).max() <= 1 + SIZE * SIZE):
            raise ValueError("runs beyond the picture")
        for start, length in runs:
            row[start - 1 : start - 1 + length] = entity
