"""Reads the published HDF5 files of bouncing balls.

A file has the groups `training`, `validation` and `test`. The data sets in each have time first and clips second:

    features    [T, n, 64, 64, 1], 1 in balls
    groups      [T, n, 64, 64, 1], number of the ball in each pixel, 0 is the background

and others (`collisions`, `events`, `positions`, `velocities`) that are not documented and not read.

Source: van Steenkiste et al. 2018 (Relational N-EM), its reader and readme.
"""

import dataclasses

import h5py
import numpy as np

from tfobj.datasets import hdf5_files, item_builder
from tfobj.datasets.generators import balls
from tfobj.errors import UserError

LINK = "https://www.dropbox.com/sh/8fjscaromuu094o/AAB4Ye7yD3lmUd-iInbEfcHga?dl=0"
"""The shared folder that the authors published."""

GROUPS = {"train": "training", "validation": "validation", "test": "test"}
"""Split -> group of a file."""

_FRAME_SHAPE = (balls.DEFAULT_SIZE, balls.DEFAULT_SIZE, 1)

_BLOCK, _LARGEST_BLOCK = 100, 1000
"""Clips read at a time (20 MB of each data set), and at most if the file stores more of them in one compressed piece."""


@dataclasses.dataclass(frozen=True)
class PublishedFile:
    """One published file, seen as a variant of `generators.balls`.

    Attributes:
      name: of the file.
      variant: name of a set in `balls.VARIANTS`.
      num_frames: frames to read of each clip.
    """

    name: str
    variant: str
    num_frames: int = balls.DEFAULT_FRAMES

    @property
    def _facts(self):
        return balls.get_variant(self.variant)

    @property
    def _data_sets(self):
        # Colours come from the groups alone.
        return ("groups",) if self._facts.num_colors else ("features", "groups")

    def check(self, path, sizes):
        """Raises a `UserError` of one line that names the file, if `read` could not read it.

        Args:
          path: the file.
          sizes: split -> number of clips to read.
        """
        with hdf5_files.opened(path, LINK) as file:
            for split, size in sizes.items():
                self._check_group(file, path, GROUPS[split], size)

    def read(self, path, split, start, stop):
        """Reads clips start ... stop - 1 of a split's group, a block at a time.

        Args:
          path: the file.
          split: key of `GROUPS`.
          start: number of the first clip within the group.
          stop: number after the last clip.

        Yields:
          dicts of some clips: `video` uint8 [n, T, 64, 64, C], `mask` uint8 [n, T, 64, 64], `color` float32 [n, N, 3],
          `visibility` float32 [n, N] (1 for the balls that a clip shows somewhere), and of sets with a curtain
          `full_mask`, the groups as they are stored; `mask` is 0 where the features are.

        Raises:
          UserError: one line that names the file, if it is not such a file, damaged, or of another set.
        """
        group = GROUPS[split]
        with hdf5_files.opened(path, LINK) as file:
            self._check_group(file, path, group, stop)
            data_sets = {name: file[group][name] for name in self._data_sets}
            block = max(map(_block_size, data_sets.values()))
            for first in range(start, stop, block):
                last = min(first + block, stop)
                arrays = {
                    name: self._read_block(data, first, last) for name, data in data_sets.items()
                }
                for i in range(0, last - first, _BLOCK):
                    part = {name: values[i : i + _BLOCK] for name, values in arrays.items()}
                    yield self._clips(part, path, group, first + i)

    def write(self, path, splits):
        """Writes clips in the published layout, for tests, and for clips of ours in programs that read the published files.

        Args:
          path: file to write.
          splits: key of `GROUPS` -> dict with `video` and `mask`, or `full_mask` where there is one, as of `balls.clips`.
        """
        with h5py.File(
            str(path), "w", libver="latest"
        ) as file:  # a third of the size of small files
            for split, clips in splits.items():
                group = file.create_group(GROUPS[split])
                for name, values in (
                    ("features", (clips["video"] > 0).any(axis=-1)),
                    ("groups", clips.get("full_mask", clips["mask"])),
                ):
                    values = np.swapaxes(values[:, : self.num_frames], 0, 1)[..., None]
                    group.create_dataset(
                        name, data=values, compression="gzip", chunks=(1, *values.shape[1:])
                    )

    def _check_group(self, file, path, group, size):
        if not isinstance(file.get(group), h5py.Group):
            raise UserError(
                f"`{path}` must have the groups {', '.join(GROUPS.values())}. Received: {hdf5_files.names(file)}."
            )
        for name in self._data_sets:
            data = file[group].get(name)
            if not isinstance(data, h5py.Dataset):
                raise UserError(
                    f"Group {group!r} of `{path}` must have the data set {name!r}. Received: {hdf5_files.names(file[group])}."
                )
            if (
                data.ndim != 5
                or data.shape[2:] != _FRAME_SHAPE
                or data.shape[0] < self.num_frames
                or data.dtype.kind not in "buif"
            ):
                raise UserError(
                    f"{group}/{name} of `{path}` must be numbers of shape (frames, clips, 64, 64, 1) with at least "
                    f"{self.num_frames} frames. Received: {data.dtype} of shape {data.shape}."
                )
            if data.shape[1] < size:
                raise UserError(
                    f"{group}/{name} of `{path}` must have at least {size} clips. Received: {data.shape[1]}; ask for fewer by "
                    "the config's `num_train`, `num_validation` or `num_test`."
                )

    def _read_block(self, data, first, last):
        """Returns uint8 [n, T, 64, 64]."""
        # HDF5 converts while it reads: a file's larger integers never are in memory. Booleans are bytes as they are.
        source = data if data.dtype.kind == "b" else data.astype(np.uint8)
        return np.swapaxes(source[: self.num_frames, first:last, ..., 0], 0, 1).astype(np.uint8)

    def _clips(self, arrays, path, group, first):
        """Returns a block's arrays as clips, the first of which is number `first` of its group."""
        facts = self._facts
        for name, largest in (("features", 1), ("groups", facts.max_balls)):
            received = int(arrays[name].max(initial=0)) if name in arrays else 0
            if received > largest:
                clip = first + int(np.argmax(arrays[name].max(axis=(1, 2, 3)) > largest))
                raise UserError(
                    f"{group}/{name} of `{path}` must hold 0 ... {largest}, as {self.name} does. Received: {received}, first "
                    f"in clip {clip}."
                )
        groups = arrays["groups"]
        visibility = item_builder.visibility(groups, facts.num_entities)
        clips = {
            "mask": groups,
            "color": (visibility[..., None] * (facts.palette / 255.0)).astype(np.float32),
            "visibility": visibility,
        }
        if facts.curtain:
            clips |= {"mask": groups * arrays["features"], "full_mask": groups}
        if facts.num_colors:
            clips["video"] = facts.palette[groups]
        else:
            clips["video"] = 255 * arrays["features"][..., None]
        return clips


def _block_size(data):
    """Returns how many clips to read at a time: whole compressed pieces, which would be read again for every block."""
    piece = data.chunks[1] if data.chunks else 1
    return piece * max(1, _BLOCK // piece) if piece <= _LARGEST_BLOCK else _BLOCK
