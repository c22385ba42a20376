"""Reads the published HDF5 files of bouncing balls.

A file has the groups `training`, `validation` and `test`. The data sets of a group have the frames
on the first axis and the clips on the second:

    features    [T, n, 64, 64, 1], 1 in balls
    groups      [T, n, 64, 64, 1], number of the ball in each pixel, 0 is the background

The others (`collisions`, `events`, `positions`, `velocities`) are not documented and not read.

Source: van Steenkiste et al. 2018 (Relational N-EM), its reader and readme.
"""

import dataclasses

import h5py
import numpy as np

from tfobj.datasets import hdf5_files, item_builder
from tfobj.datasets.generators import balls
from tfobj.errors import UserError

LINK = "https://www.dropbox.com/sh/8fjscaromuu094o/AAB4Ye7yD3lmUd-iInbEfcHga?dl=0"
"""Folder that the authors share."""

GROUPS = {"train": "training", "validation": "validation", "test": "test"}
"""Split -> group of a file."""

_FRAME_SHAPE = (balls.DEFAULT_SIZE, balls.DEFAULT_SIZE, 1)

_BLOCK = 100
"""Clips read at a time, 20 MB of each data set."""

_LARGEST_BLOCK = 1000
"""Clips read at a time at most, where the file stores more than `_BLOCK` of them in one chunk."""


@dataclasses.dataclass(frozen=True)
class PublishedFile:
    """One published file, seen as a variant of `generators.balls`.

    Attributes:
      name: name of the file.
      variant: key of `balls.VARIANTS`.
      num_frames: number of frames to read of each clip.
    """

    name: str
    variant: str
    num_frames: int = balls.DEFAULT_FRAMES

    @property
    def _facts(self):
        return balls.get_variant(self.variant)

    @property
    def _data_sets(self):
        # Coloured clips are drawn from the groups alone.
        if self._facts.num_colors:
            return ("groups",)
        return ("features", "groups")

    def check(self, path, sizes):
        """Checks that `read` can read a file, as far as its structure tells.

        Args:
          path: path of the file.
          sizes: dict from split to number of clips to read.

        Raises:
          UserError: one line that names the file.
        """
        with hdf5_files.opened(path, LINK) as file:
            for split, size in sizes.items():
                self._check_group(file, path, GROUPS[split], size)

    def read(self, path, split, start, stop):
        """Reads the clips start ... stop - 1 of a split's group, block by block.

        Args:
          path: path of the file.
          split: key of `GROUPS`.
          start: number of the first clip within the group.
          stop: number after the last clip.

        Yields:
          dicts of some clips: `video` uint8 [n, T, 64, 64, C], `mask` uint8 [n, T, 64, 64], `color`
          float32 [n, N, 3], and `visibility` float32 [n, N], 1 for the balls that appear in a clip.
          Variants with a curtain also have `full_mask`, the groups as they are stored; their `mask`
          is 0 where the features are.

        Raises:
          UserError: one line that names the file, if it has another structure, is damaged, or
            belongs to another variant.
        """
        group = GROUPS[split]
        with hdf5_files.opened(path, LINK) as file:
            self._check_group(file, path, group, stop)
            data_sets = {name: file[group][name] for name in self._data_sets}

            # Whole chunks are read at a time, but fewer clips are made of them at a time: labels
            # are smaller than coloured frames.
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
        """Writes clips in the published layout.

        This serves tests, and programs that read the published files and are to read generated
        clips.

        Args:
          path: path of the file to write.
          splits: dict from key of `GROUPS` to a dict as `balls.clips` returns it. Its `full_mask`,
            if there is one, or else its `mask` becomes the groups.
        """
        # The latest format takes a third of the space for small files.
        with h5py.File(str(path), "w", libver="latest") as file:
            for split, clips in splits.items():
                group = file.create_group(GROUPS[split])
                data_sets = {
                    "features": (clips["video"] > 0).any(axis=-1),
                    "groups": clips.get("full_mask", clips["mask"]),
                }
                for name, values in data_sets.items():
                    values = np.swapaxes(values[:, : self.num_frames], 0, 1)[..., None]
                    group.create_dataset(
                        name, data=values, compression="gzip", chunks=(1, *values.shape[1:])
                    )

    def _check_group(self, file, path, group, size):
        """Checks that a group has the data sets to read, with at least `size` clips."""
        if not isinstance(file.get(group), h5py.Group):
            raise UserError(
                f"`{path}` must have the groups {', '.join(GROUPS.values())}. "
                f"Received: {hdf5_files.names(file)}."
            )

        for name in self._data_sets:
            data = file[group].get(name)
            if not isinstance(data, h5py.Dataset):
                raise UserError(
                    f"Group {group!r} of `{path}` must have the data set {name!r}. "
                    f"Received: {hdf5_files.names(file[group])}."
                )
            if not self._holds_frames(data):
                raise UserError(
                    f"{group}/{name} of `{path}` must be numbers of shape (frames, clips, 64, 64, "
                    f"1) with at least {self.num_frames} frames. "
                    f"Received: {data.dtype} of shape {data.shape}."
                )
            hdf5_files.check_chunk(data, path)
            if data.shape[1] < size:
                raise UserError(
                    f"{group}/{name} of `{path}` must have at least {size} clips. "
                    f"Received: {data.shape[1]}; ask for fewer by the config's `num_train`, "
                    "`num_validation` or `num_test`."
                )

    def _holds_frames(self, data):
        """Returns whether a data set has the axes, the frames and the numbers to read."""
        return (
            data.ndim == 5
            and data.shape[2:] == _FRAME_SHAPE
            and data.shape[0] >= self.num_frames
            and data.dtype.kind in "buif"
        )

    def _read_block(self, data, first, last):
        """Returns the clips first ... last - 1 of a data set, uint8 [n, T, 64, 64]."""
        # HDF5 converts while it reads, so that wider numbers are never held in memory. It cannot
        # convert booleans, which are single bytes anyway.
        source = data if data.dtype.kind == "b" else data.astype(np.uint8)
        return np.swapaxes(source[: self.num_frames, first:last, ..., 0], 0, 1).astype(np.uint8)

    def _clips(self, arrays, path, group, first):
        """Returns a block's arrays as clips, the first of which is number `first` of its group."""
        facts = self._facts
        self._check_largest(arrays, path, group, first)

        groups = arrays["groups"]
        visibility = item_builder.visibility(groups, facts.num_entities)
        clips = {
            "mask": groups,
            "color": (visibility[..., None] * (facts.palette / 255.0)).astype(np.float32),
            "visibility": visibility,
        }
        if facts.curtain:
            clips["mask"] = groups * arrays["features"]
            clips["full_mask"] = groups

        if facts.num_colors:
            clips["video"] = facts.palette[groups]
        else:
            clips["video"] = 255 * arrays["features"][..., None]
        return clips

    def _check_largest(self, arrays, path, group, first):
        """Checks that a block's numbers are those of this file, and not of another variant."""
        largest = {"features": 1, "groups": self._facts.max_balls}
        for name in self._data_sets:
            values = arrays[name]
            received = int(values.max(initial=0))
            if received > largest[name]:
                too_large = values.max(axis=(1, 2, 3)) > largest[name]
                raise UserError(
                    f"{group}/{name} of `{path}` must hold 0 ... {largest[name]}, as {self.name} "
                    f"does. Received: {received}, first in clip {first + int(too_large.argmax())}."
                )


def _block_size(data):
    """Returns how many clips of a data set to read at a time."""
    if not data.chunks:
        return _BLOCK

    # A compressed chunk is read as a whole, again for every block that needs a part of it. So a
    # block is a multiple of the clips in a chunk, unless there are too many.
    chunk = data.chunks[1]
    if chunk > _LARGEST_BLOCK:
        return _BLOCK
    return chunk * max(1, _BLOCK // chunk)
