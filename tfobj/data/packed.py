"""Scenes as memory-mapped arrays, from which training reads.

A prepared TFDS split is unpacked once into `.npy` files beside it, because a record file can only
be read from front to back: with arrays any scene of any epoch is one copy away, the order of
training is a function of the step (`pipeline.BatchStream`), and processes on one host share the
memory.

    <data_dir>/<dataset>/<config>/<version>/packed/<split>/
        image.npy, mask.npy, amodal_masks.npy, factor_*.npy, track_*.npy, packed.json

The folder appears complete or not at all, so a killed run leaves nothing half-made behind, and two
runs may start at once. It lies inside the dataset's folder and vanishes when that is rebuilt.

Where the dataset's folder cannot be written to, for example because an administrator has built it
for everyone, the arrays go to the user's cache: $TFOBJ_CACHE, or tfobj in $XDG_CACHE_HOME or in
~/.cache. There they are found by the place and the content of the dataset.
"""

import contextlib
import dataclasses
import errno
import hashlib
import importlib
import json
import os
import pathlib
import shutil
import sys
import tempfile

import numpy as np

from tfobj import files
from tfobj.data import mapped, tfds_files, transforms
from tfobj.errors import UserError, first_line
from tfobj.structs import IGNORE_LABEL

_SUMMARY = "packed.json"
_INCOMPLETE = ".incomplete_"

CACHE = "TFOBJ_CACHE"
"""Environment variable: folder for what can be made again."""


@dataclasses.dataclass(frozen=True, eq=False)
class SceneArrays:
    """The arrays of n scenes, usually mapped from disk: images, or clips of T frames.

    Attributes:
      image: uint8 [n, (T,) H, W, C].
      mask: uint8 [n, (T,) H, W] instance ids, 0 = background; None without labels.
      factors: factor name -> float32 [n, N, ...].
      num_objects: largest instance id of the TFDS split, i.e. most objects in a scene; 0 without
        labels.
      amodal_masks: uint8 [n, N, H, ceil(W / 8)], full extent of each entity, packed by
        `transforms.pack_masks` (index 0, the background, is all ones); None for datasets without.
        Not part of training batches.
      tracks: name -> float32 [n, T, N, ...], factors that change from frame to frame; clips only.
      source: name and version of the data set, such as "tetris/generated/1.0.0"; empty without one.
    """

    image: np.ndarray
    mask: np.ndarray | None = None
    factors: dict = dataclasses.field(default_factory=dict)
    num_objects: int = 0
    amodal_masks: np.ndarray | None = None
    tracks: dict = dataclasses.field(default_factory=dict)
    source: str = ""

    @property
    def num_frames(self):
        """T; None for images."""
        return self.image.shape[1] if self.image.ndim == 5 else None

    def __len__(self):
        return len(self.image)

    @property
    def fields(self):
        """Names of the entries of a batch: `image` and, with labels, `mask`."""
        return ("image",) if self.mask is None else ("image", "mask")

    def gather(self, indices):
        """Returns copies of the scenes `indices` [B] as a dict of `fields`."""
        return {name: getattr(self, name)[indices] for name in self.fields}

    def slice(self, start, stop):
        """Returns scenes start ... stop - 1 without copying."""

        def cut(array):
            return array[start:stop]

        return dataclasses.replace(
            self,
            image=cut(self.image),
            mask=_optional(cut, self.mask),
            factors=_each(cut, self.factors),
            amodal_masks=_optional(cut, self.amodal_masks),
            tracks=_each(cut, self.tracks),
        )

    def first_frames(self, num_frames):
        """Returns the first `num_frames` frames of every clip without copying.

        Raises:
          UserError: if there are fewer.
        """
        if not 0 < num_frames <= self.num_frames:
            raise UserError(
                f"`num_frames` must be in 1 ... {self.num_frames}. "
                f"Received: num_frames={num_frames}."
            )

        def cut(array):
            return array[:, :num_frames]

        return dataclasses.replace(
            self,
            image=cut(self.image),
            mask=_optional(cut, self.mask),
            tracks=_each(cut, self.tracks),
        )

    def frames(self):
        """Returns all frames as images, clip by clip, without copying contiguous arrays.

        Factors and tracks, which belong to clips, are left out.
        """
        if self.num_frames is None:
            return self

        def flat(array):
            return array.reshape(-1, *array.shape[2:])

        return dataclasses.replace(
            self, image=flat(self.image), mask=_optional(flat, self.mask), factors={}, tracks={}
        )

    def take(self, num_scenes):
        """Returns the first `num_scenes` scenes without copying.

        Raises:
          UserError: if there are fewer.
        """
        if not 0 < num_scenes <= len(self):
            raise UserError(
                f"`num_scenes` must be in 1 ... {len(self)}. Received: num_scenes={num_scenes}."
            )
        return self.slice(0, num_scenes)


def _optional(function, array):
    return None if array is None else function(array)


def _each(function, arrays):
    return {name: function(array) for name, array in arrays.items()}


def open_split(protocol, split, data_dir=None):
    """Opens the scenes of a protocol's split; builds and unpacks the dataset first if necessary.

    Args:
      protocol: a `protocols.Protocol`.
      split: name of one of its splits.
      data_dir: TFDS data folder; None is $TFDS_DATA_DIR or ~/tensorflow_datasets.

    Returns:
      `SceneArrays`.

    Raises:
      UserError: data on disk is damaged, or too short for the split; names the file.
    """
    chosen = protocol.split(split)
    builder = _prepared_builder(protocol, data_dir)
    root = os.fspath(builder.data_path)
    if "://" in root:
        raise UserError(
            "`data_dir` must be a local folder, because its files are mapped to memory. "
            f"Received: {root}."
        )

    folder = _packed_folder(pathlib.Path(root), _view_name(protocol, chosen))
    if not folder.exists():
        _pack(builder, protocol, chosen, folder)
    arrays = _load(folder)

    stop = len(arrays) if chosen.stop is None else chosen.stop
    if not chosen.start < stop <= len(arrays):
        raise UserError(
            f"Split {split!r} of protocol {protocol.name!r} must lie within the {len(arrays)} "
            f"scenes of {builder.info.full_name}. Received: scenes {chosen.start} to {stop}."
        )
    return arrays.slice(chosen.start, stop)


def builder_of(protocol, data_dir):
    """Returns the protocol's TFDS builder, whether its data is on disk or not."""
    module = importlib.import_module(
        f"tfobj.datasets.{protocol.dataset}.{protocol.dataset}_dataset_builder"
    )
    config = protocol.config
    if protocol.base_config is not None:
        base = module.Builder.builder_configs[protocol.base_config]
        config = dataclasses.replace(base, name=protocol.config, **protocol.options)
    return module.Builder(data_dir=data_dir, config=config)


def _prepared_builder(protocol, data_dir):
    """Returns the protocol's TFDS builder, with its data on disk."""
    root = data_dir or os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")
    folder = pathlib.Path(root, protocol.dataset, protocol.config)
    return tfds_files.prepare(lambda: builder_of(protocol, data_dir), folder)


def _packed_folder(root, view):
    """Returns the folder of a packed split: in that of the dataset, or in the user's cache."""
    inside = root / "packed" / view
    if inside.exists() or _can_write(inside.parent):
        return inside

    # Rebuilt data have another description or another date, and are packed anew.
    info = root / "dataset_info.json"
    identity = hashlib.sha256(os.fsencode(root.resolve()))
    identity.update(info.read_bytes())
    identity.update(str(info.stat().st_mtime_ns).encode())
    names = root.parts[-3:]
    outside = cache_folder() / "packed" / "-".join([*names, identity.hexdigest()[:16]]) / view
    if outside.exists():
        return outside
    if not _can_write(outside.parent):
        raise UserError(
            f"`{root}` cannot be written to, nor can the cache, {outside.parent}. Set {CACHE} to a "
            "folder for unpacked data sets."
        )
    print(
        f"{root} cannot be written to; its scenes are unpacked to {outside.parent}.",
        file=sys.stderr,
    )
    return outside


def cache_folder():
    """Returns the folder for what can be made again: $TFOBJ_CACHE, or where the system has it."""
    if os.environ.get(CACHE):
        return pathlib.Path(os.environ[CACHE]).expanduser()
    # By the specification, relative paths are ignored.
    shared = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(shared):
        return pathlib.Path(shared, "tfobj")
    return pathlib.Path("~/.cache/tfobj").expanduser()


def _can_write(folder):
    """Returns whether files can be made in `folder`; makes it if need be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Permissions tell little of network and read-only file systems.
        pathlib.Path(tempfile.mkdtemp(prefix=".probe_", dir=folder)).rmdir()
    except OSError as e:
        if e.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return False
        raise UserError(f"`{folder}` cannot be written ({e.strerror or e}).") from e
    return True


def _view_name(protocol, split):
    """Returns the folder name of a TFDS split under a protocol's filter, crop and size."""
    parts = [split.source]
    if split.objects is not None:
        parts.append("objects{}to{}".format(*split.objects))
    if protocol.crop is not None:
        (top, bottom), (left, right) = protocol.crop
        parts.append(f"rows{top}to{bottom}_columns{left}to{right}")
    parts.append("x".join(map(str, protocol.image_size)))
    return "_".join(parts)


def _pack(builder, protocol, split, folder):
    """Unpacks a TFDS split into `folder`, which appears complete or not at all."""
    prefix = f"{_INCOMPLETE}{folder.name}_"
    with tfds_files.locked(folder.parent) as held:
        if held:
            # Those of killed processes: who packs now holds the lock.
            for old in folder.parent.glob(f"{_INCOMPLETE}*"):
                shutil.rmtree(old, ignore_errors=True)
        if not folder.exists():
            _pack_into(builder, protocol, split, folder, prefix)


def _pack_into(builder, protocol, split, folder, prefix):
    temporary = pathlib.Path(tempfile.mkdtemp(prefix=prefix, dir=folder.parent))
    try:
        _write(builder, protocol, split, temporary)
        # Temporary folders are closed to other users.
        temporary.chmod(folder.parent.stat().st_mode)
        # The rename fails if another process was faster, whose folder is as good.
        with contextlib.suppress(OSError):
            temporary.rename(folder)
        if not folder.exists():
            raise UserError(
                f"`{folder}` could not be written; is the disk full or the folder read-only?"
            )
    except OSError as e:
        raise UserError(f"`{folder}` cannot be written ({e.strerror or e}).") from e
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write(builder, protocol, split, folder):
    """Writes the arrays of a TFDS split, filtered, cropped and resized, and their summary."""
    num_objects = 0
    with contextlib.ExitStack() as stack:
        writers = {}
        for batch in tfds_files.read(builder, split.source):
            if split.objects is not None:
                batch = with_object_count(batch, split.objects)
            arrays = arrays_of(batch, protocol)

            labels = arrays["mask"]
            most = int(labels.max(initial=0, where=labels != IGNORE_LABEL))
            num_objects = max(num_objects, most)

            for name, values in arrays.items():
                if name not in writers:
                    writers[name] = stack.enter_context(_NpyWriter(folder / f"{name}.npy", values))
                writers[name].append(values)

    summary = {
        "source": builder.info.full_name,
        "num_scenes": writers["image"].count,
        "num_objects": num_objects,
    }
    (folder / _SUMMARY).write_text(json.dumps(summary) + "\n")


def arrays_of(batch, protocol):
    """Returns file name -> array of a batch of records, cropped and resized as in the protocol."""
    images = batch.get("image", batch.get("video"))
    arrays = {
        "image": _form_images(images, protocol),
        "mask": _form_labels(batch["mask"], protocol),
    }
    if "amodal_masks" in batch:
        width = batch["mask"].shape[-1]
        arrays["amodal_masks"] = _form_packed(batch["amodal_masks"], width, protocol)

    for name, values in batch["factors"].items():
        arrays[f"factor_{name}"] = values
    for name, values in batch.get("tracks", {}).items():
        arrays[f"track_{name}"] = values
    return arrays


def _form_images(images, protocol):
    """Returns images [..., H, W, C], cropped and resized as in the protocol."""
    size = protocol.image_size[:2]
    if protocol.crop is not None:
        images = transforms.crop(images, *protocol.crop)
    if images.shape[-3:-1] != size:
        images = transforms.resize_images(images, size)
    return images


def _form_labels(labels, protocol):
    """Returns label maps or masks [..., H, W], cropped and resized as in the protocol."""
    size = protocol.image_size[:2]
    if protocol.crop is not None:
        labels = transforms.crop(labels, *protocol.crop, axis=-2)
    if labels.shape[-2:] != size:
        labels = transforms.resize_labels(labels, size)
    return labels


def _form_packed(packed, width, protocol):
    """Returns packed masks [n, N, H, ceil(W / 8)], cropped and resized as in the protocol.

    `width` is their number of pixels a row.
    """
    height, new_width, _ = protocol.image_size
    if protocol.crop is None and (packed.shape[-2], width) == (height, new_width):
        return packed

    # Scene by scene, because all masks of a batch of 240 x 320 pixels and eleven entities would
    # take 200 MB.
    row_bytes = -(-new_width // 8)
    result = np.empty((*packed.shape[:2], height, row_bytes), np.uint8)
    for i, masks in enumerate(packed):
        masks = _form_labels(transforms.unpack_masks(masks, width), protocol)
        result[i] = transforms.pack_masks(masks)
    return result


def with_object_count(batch, objects):
    """Returns the scenes of a batch that have objects[0] to objects[1] objects."""
    least, greatest = objects
    count = batch["factors"]["visibility"][:, 1:].sum(axis=1)
    keep = (count >= least) & (count <= greatest)

    kept = {}
    for name, values in batch.items():
        if isinstance(values, dict):
            kept[name] = {factor: v[keep] for factor, v in values.items()}
        else:
            kept[name] = values[keep]
    return kept


def _load(folder):
    """Maps the arrays of a packed folder to memory."""
    try:
        keys = {"source": str, "num_scenes": int, "num_objects": int}
        summary = files.read_json(folder / _SUMMARY, keys=keys)
        # Copy on write: writable, as sharing memory with TensorFlow requires, and yet the
        # file never changes.
        arrays = {path.stem: np.load(path, mmap_mode="c") for path in sorted(folder.glob("*.npy"))}
        if any(len(values) != summary["num_scenes"] for values in arrays.values()):
            raise ValueError("arrays of unequal length")
        mapped.watch(sorted(folder.glob("*.npy")))
        return SceneArrays(
            image=arrays["image"],
            mask=arrays["mask"],
            factors=_with_prefix("factor_", arrays),
            num_objects=summary["num_objects"],
            amodal_masks=arrays.get("amodal_masks"),
            tracks=_with_prefix("track_", arrays),
            source=summary["source"],
        )
    # The one border to NumPy's reader of headers: those that are damaged end in ValueError,
    # EOFError, SyntaxError, TypeError, OverflowError and more.
    except Exception as error:
        raise UserError(
            f"`{folder}` is damaged ({first_line(error)}). "
            "Delete this folder to have it made again."
        ) from error


def _with_prefix(prefix, arrays):
    """Returns the arrays whose names begin with `prefix`, by the rest of their names."""
    return {
        name.removeprefix(prefix): values
        for name, values in arrays.items()
        if name.startswith(prefix)
    }


class _NpyWriter:
    """Writes a `.npy` file row by row; the number of rows is known only at the end.

    NumPy pads the header so that its length does not depend on the first axis, for this very use.
    """

    def __init__(self, path, like):
        """Opens `path` for rows like those of `like` [n, ...]."""
        self.count = 0
        self._row_shape = like.shape[1:]
        self._dtype = like.dtype
        self._file = open(path, "wb")  # noqa: SIM115 - closed by __exit__
        self._write_header()

    def append(self, rows):
        """Writes `rows` [n, ...]."""
        self._file.write(np.ascontiguousarray(rows).data)
        self.count += len(rows)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._file.seek(0)
        self._write_header()
        self._file.close()

    def _write_header(self):
        header = {
            "descr": np.lib.format.dtype_to_descr(self._dtype),
            "fortran_order": False,
            "shape": (self.count, *self._row_shape),
        }
        np.lib.format.write_array_header_1_0(self._file, header)
