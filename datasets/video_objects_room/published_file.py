"""Reads the published files of Video Objects Room (VOR).

`vor.hdf5` has the data sets `train`, `val` and `test`, uint8 [clips, frames, 3, 64, 64] (or channels last). Of the masks,
`vor_<set>.json` has per clip and frame

    ids      a number per mask, the same for the same object in every frame
    masks    "start length start length ...", runs of pixels row by row, the first pixel is 1
    num_bg   how many of the masks, at the end of the list, are background

Source: Weis et al. 2021, the loader, extraction and evaluation programs of their benchmark.
"""

import json

import h5py
import numpy as np

from tfobj.datasets import hdf5_files, item_builder
from tfobj.errors import UserError, first_line
from tfobj.structs import IGNORE_LABEL

NAME, LINK = "vor.hdf5", "https://osf.io/ua6sk/"
SETS = {"train": "train", "validation": "val", "test": "test"}
"""Split -> data set of the file."""
MAX_OBJECTS = 10
SIZE = 64
_BLOCK = 100


def masks_file(path, split):
    """Returns the path of the JSON file of a split, beside that of `vor.hdf5`; it need not exist."""
    return path.parent / f"vor_{SETS[split]}.json"


def read(path, split, stop, num_frames, segmentation=True):
    """Reads the clips 0 ... stop - 1 of a split, or as many as there are.

    Args:
      path: `etils.epath.Path` of `vor.hdf5`.
      split: key of `SETS`.
      stop: number after the last clip.
      num_frames: T, the first frames of each clip.
      segmentation: whether to read the masks, if there is a JSON file.

    Yields:
      dicts of up to 100 clips: `video` uint8 [n, T, 64, 64, 3], `mask` uint8 [n, T, 64, 64] (`IGNORE_LABEL` everywhere if
      masks are not read), `visibility` float32 [n, 1 + MAX_OBJECTS], 1 for the background and what a clip shows.

    Raises:
      UserError: one line that names the file, if one is damaged or of another kind.
    """
    masks = masks_file(path, split)
    with hdf5_files.opened(path, LINK) as file:
        clips = _checked(file, path, SETS[split], num_frames)
        stop = min(stop, len(clips))
        frames = _load(masks, len(clips)) if segmentation and masks.exists() else None
        for first in range(0, stop, _BLOCK):
            block = clips[first : min(first + _BLOCK, stop), :num_frames]
            video = np.ascontiguousarray(
                block if block.shape[-1] == 3 else np.moveaxis(block, 2, -1)
            ).astype(np.uint8)
            mask = np.full(video.shape[:-1], IGNORE_LABEL, np.uint8)
            if frames is not None:
                for i in range(len(mask)):
                    mask[i] = _labels(masks, first + i, frames[first + i], num_frames)
            visibility = item_builder.visibility(mask, 1 + MAX_OBJECTS)
            yield {"video": video, "mask": mask, "visibility": visibility}


def check(path, splits, num_frames):
    """Raises a `UserError` of one line, if `read` would for what is not inside of the clips."""
    with hdf5_files.opened(path, LINK) as file:
        for split in splits:
            _checked(file, path, SETS[split], num_frames)


def _checked(file, path, name, num_frames):
    """Returns the data set `name`, or raises a `UserError`."""
    clips = file.get(name)
    if not isinstance(clips, h5py.Dataset):
        raise UserError(
            f"`{path}` must have the data sets {', '.join(SETS.values())}. Received: {hdf5_files.names(file)}."
        )
    if (
        clips.shape[2:] not in ((3, SIZE, SIZE), (SIZE, SIZE, 3))
        or clips.shape[1] < num_frames
        or clips.dtype.kind not in "ui"
    ):
        raise UserError(
            f"{name} of `{path}` must be integers of shape (clips, frames, 3, {SIZE}, {SIZE}) with at least {num_frames} frames. "
            f"Received: {clips.dtype} of shape {clips.shape}."
        )
    return clips


def _load(path, count):
    """Returns the frames of `count` clips from a JSON file."""
    try:
        clips = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"`{path}` must be a JSON file: {first_line(error)}.") from error
    if not isinstance(clips, list) or len(clips) != count:
        received = f"{len(clips)} of them" if isinstance(clips, list) else type(clips).__name__
        raise UserError(
            f"`{path}` must be a list of the {count} clips of {NAME}. Received: {received}."
        )
    return clips


def _labels(path, number, frames, num_frames):
    """Returns a clip's numbers of objects, uint8 [T, 64, 64], in the order in which they first appear."""
    labels, numbers = np.zeros((num_frames, SIZE * SIZE), np.uint8), {}
    try:
        for row, frame in zip(labels, frames[:num_frames], strict=True):
            objects = len(frame["ids"]) - frame["num_bg"]
            if objects < 0:
                raise ValueError("more background than masks")
            for name, runs in zip(frame["ids"][:objects], frame["masks"][:objects], strict=True):
                entity = numbers.setdefault(name, len(numbers) + 1)
                if entity > MAX_OBJECTS:
                    raise ValueError(f"more than {MAX_OBJECTS} objects")
                runs = np.array(runs.split(), np.int64).reshape(-1, 2)
                if runs.size and not (runs.min() > 0 and runs.sum(axis=1).max() <= 1 + SIZE * SIZE):
                    raise ValueError("runs beyond the picture")
                for start, length in runs:
                    row[start - 1 : start - 1 + length] = entity
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"Clip {number} of `{path}` must have ids, masks and num_bg of {num_frames} frames. Received: {first_line(error)}."
        ) from error
    return labels.reshape(num_frames, SIZE, SIZE)
