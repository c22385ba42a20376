"""Scenes as memory-mapped arrays: what training reads.

A prepared TFDS split is unpacked once into `.npy` files beside it, because a record file can only
be read from front to back: with arrays any scene of any epoch is one copy away, the order of
training is a function of the step (`pipeline.BatchStream`), and processes on one host share the
memory.

    <data_dir>/<dataset>/<config>/<version>/packed/<split>/{image,mask,amodal_masks,factor_*,track_*}.npy,
    packed.json

The folder appears in one piece or not at all, so a killed run leaves nothing half-made behind,
and two runs may start at once. It lies inside the dataset's folder and goes when that is rebuilt.
"""

import contextlib
import dataclasses
import importlib
import json
import os
import pathlib
import shutil
import tempfile

import numpy as np

from tfobj.data import transforms
from tfobj.errors import UserError, first_line
from tfobj.structs import IGNORE_LABEL

_BATCH = 256
_BATCH_OF_CLIPS = 16
_SUMMARY = "packed.json"


@dataclasses.dataclass(frozen=True, eq=False)
class SceneArrays:
    """n scenes in arrays, usually mapped from disk: pictures, or clips of T frames.

    Attributes:
      image: uint8 [n, (T,) H, W, C].
      mask: uint8 [n, (T,) H, W] instance ids, 0 = background; None without labels.
      factors: factor name -> float32 [n, N, ...].
      num_objects: largest instance id of the TFDS split, i.e. most objects in a scene; 0 without
        labels.
      amodal_masks: uint8 [n, N, H, ceil(W / 8)], full extent of each entity as
        `transforms.pack_masks` packs it (index 0, the background, is all ones); None for datasets
        without. No part of training batches.
      tracks: name -> float32 [n, T, N, ...], factors that change from frame to frame; clips only.
    """

    image: np.ndarray
    mask: np.ndarray | None = None
    factors: dict = dataclasses.field(default_factory=dict)
    num_objects: int = 0
    amodal_masks: np.ndarray | None = None
    tracks: dict = dataclasses.field(default_factory=dict)

    @property
    def num_frames(self):
        """T; None for pictures."""
        return self.image.shape[1] if self.image.ndim == 5 else None

    def __len__(self):
        return len(self.image)

    @property
    def fields(self):
        """Names of what a batch holds: `image` and, with labels, `mask`."""
        return ("image",) if self.mask is None else ("image", "mask")

    def gather(self, indices):
        """Returns copies of the scenes `indices` [B] as a dict of `fields`."""
        return {name: getattr(self, name)[indices] for name in self.fields}

    def slice(self, start, stop):
        """Returns scenes start ... stop - 1 without copying."""
        return dataclasses.replace(
            self,
            image=self.image[start:stop],
            mask=None if self.mask is None else self.mask[start:stop],
            factors={name: values[start:stop] for name, values in self.factors.items()},
            amodal_masks=None if self.amodal_masks is None else self.amodal_masks[start:stop],
            tracks={name: values[start:stop] for name, values in self.tracks.items()},
        )

    def first_frames(self, num_frames):
        """Returns the first `num_frames` frames of every clip without copying; raises a `UserError` if there are fewer."""
        if not 0 < num_frames <= self.num_frames:
            raise UserError(
                f"`num_frames` must be in 1 ... {self.num_frames}. Received: num_frames={num_frames}."
            )
        return dataclasses.replace(
            self,
            image=self.image[:, :num_frames],
            mask=None if self.mask is None else self.mask[:, :num_frames],
            tracks={name: values[:, :num_frames] for name, values in self.tracks.items()},
        )

    def frames(self):
        """Returns all frames of all clips as pictures, clip by clip, without copying whole clips; factors of clips are left out."""
        if self.num_frames is None:
            return self
        flat = lambda x: None if x is None else x.reshape(-1, *x.shape[2:])
        return dataclasses.replace(
            self, image=flat(self.image), mask=flat(self.mask), factors={}, tracks={}
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


def open_split(protocol, split, data_dir=None):
    """Opens the scenes of a protocol's split; builds and unpacks the dataset if that was not done yet.

    Args:
      protocol: a `protocols.Protocol`.
      split: name of one of its splits.
      data_dir: TFDS data folder; None is $TFDS_DATA_DIR or ~/tensorflow_datasets.

    Returns:
      `SceneArrays`.

    Raises:
      UserError: one line that names the file, if data on disk is damaged or too short for the
        split.
    """
    chosen = protocol.split(split)
    builder = _prepared_builder(protocol, data_dir)
    root = os.fspath(builder.data_path)
    if "://" in root:
        raise UserError(
            f"`data_dir` must be a local folder, for its files are mapped to memory. Received: {root}."
        )
    folder = pathlib.Path(root) / "packed" / _view_name(protocol, chosen)
    if not folder.exists():
        _pack(builder, protocol, chosen, folder)
    arrays = _load(folder)
    stop = len(arrays) if chosen.stop is None else chosen.stop
    if not chosen.start < stop <= len(arrays):
        raise UserError(
            f"Split {split!r} of protocol {protocol.name!r} must lie within the {len(arrays)} scenes of "
            f"{builder.info.full_name}. Received: scenes {chosen.start} to {stop}."
        )
    return arrays.slice(chosen.start, stop)


def _prepared_builder(protocol, data_dir):
    """Returns the protocol's TFDS builder, with its data on disk."""
    module = importlib.import_module(
        f"tfobj.datasets.{protocol.dataset}.{protocol.dataset}_dataset_builder"
    )
    config = protocol.config
    if protocol.base_config is not None:
        base = module.Builder.builder_configs[protocol.base_config]
        config = dataclasses.replace(base, name=protocol.config, **protocol.options)

    def make():
        return module.Builder(data_dir=data_dir, config=config)

    builder = make()
    if builder.is_prepared():
        return builder
    try:
        builder.download_and_prepare()
    except OSError:
        # Another process may have been faster: the last step is a rename onto its folder.
        builder = make()
        if not builder.is_prepared():
            raise
    return builder


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
    """Unpacks a TFDS split into `folder`, which appears in one piece."""
    folder.parent.mkdir(exist_ok=True)
    temporary = pathlib.Path(
        tempfile.mkdtemp(prefix=f".incomplete_{folder.name}_", dir=folder.parent)
    )
    try:
        _write(builder, protocol, split, temporary)
        temporary.chmod(folder.parent.stat().st_mode)  # temporary folders are closed to other users
        with contextlib.suppress(OSError):  # another process was faster
            temporary.rename(folder)
        if not folder.exists():
            raise UserError(
                f"`{folder}` could not be written; is the disk full or the folder read-only?"
            )
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write(builder, protocol, split, folder):
    """Writes the arrays of a TFDS split, filtered, cropped and resized, and their summary."""
    height, width, channels = protocol.image_size
    num_objects = 0
    with contextlib.ExitStack() as stack:
        writers = {}
        for batch in _read(builder, split.source):
            if split.objects is not None:
                batch = _with_object_count(batch, split.objects)
            image, mask = batch["image"] if "image" in batch else batch["video"], batch["mask"]
            if protocol.crop is not None:
                image = transforms.crop(image, *protocol.crop)
            if image.shape[-3:-1] != (height, width):
                image = transforms.resize_images(image, (height, width))
            mask = _crop_and_resize(mask, protocol)
            num_objects = max(num_objects, int(mask.max(initial=0, where=mask != IGNORE_LABEL)))
            arrays = {"image": image, "mask": mask}
            if "amodal_masks" in batch:
                arrays["amodal_masks"] = _crop_and_resize_packed(
                    batch["amodal_masks"], batch["mask"].shape[-1], protocol
                )
            arrays |= {f"factor_{name}": values for name, values in batch["factors"].items()}
            arrays |= {f"track_{name}": values for name, values in batch.get("tracks", {}).items()}
            for name, values in arrays.items():
                if name not in writers:
                    writers[name] = stack.enter_context(_NpyWriter(folder / f"{name}.npy", values))
                writers[name].append(values)
    num_scenes = writers["image"].count
    summary = {
        "source": builder.info.full_name,
        "num_scenes": num_scenes,
        "num_objects": num_objects,
    }
    (folder / _SUMMARY).write_text(json.dumps(summary) + "\n")


def _crop_and_resize(labels, protocol):
    """Returns label maps or masks [..., H, W] in the form of the protocol."""
    if protocol.crop is not None:
        labels = transforms.crop(labels, *protocol.crop, axis=-2)
    size = tuple(protocol.image_size[:2])
    return labels if labels.shape[-2:] == size else transforms.resize_labels(labels, size)


def _crop_and_resize_packed(packed, width, protocol):
    """The same for packed masks [n, N, H, ceil(W / 8)] of `width` pixels a row.

    Scene by scene: all masks of a batch of 240 x 320 pixels and eleven entities would be 200 MB.
    """
    height, new_width, _ = protocol.image_size
    if protocol.crop is None and (packed.shape[-2], width) == (height, new_width):
        return packed
    result = np.empty((*packed.shape[:2], height, -(-new_width // 8)), np.uint8)
    for i, masks in enumerate(packed):
        result[i] = transforms.pack_masks(
            _crop_and_resize(transforms.unpack_masks(masks, width), protocol)
        )
    return result


def _read(builder, source):
    """Yields batches of a prepared TFDS split in order: dicts of arrays [n, ...]."""
    import tensorflow as tf
    import tensorflow_datasets as tfds
    from tqdm import auto as tqdm

    if source not in builder.info.splits:
        raise UserError(
            f"{builder.info.full_name} must have a split {source!r}. Received: {', '.join(builder.info.splits)}."
        )
    info = builder.info.splits[source]
    batch_size = _BATCH if "image" in builder.info.features else _BATCH_OF_CLIPS
    # TFDS would keep a small split in memory, for a second epoch that never comes.
    read_config = tfds.ReadConfig(try_autocache=False)
    with tqdm.tqdm(
        total=info.num_examples,
        desc=f"Unpacking {builder.info.full_name} {source}",
        unit=" scenes",
        mininterval=0.5,
    ) as bar:
        # Shard by shard, so that an error can name the file.
        for shard, path in enumerate(info.filepaths):
            instruction = tfds.core.ReadInstruction(source, from_=shard, to=shard + 1, unit="shard")
            dataset = builder.as_dataset(
                split=instruction,
                shuffle_files=False,
                batch_size=batch_size,
                read_config=read_config,
            )
            try:
                for batch in tfds.as_numpy(dataset):
                    yield batch
                    bar.update(len(batch["mask"]))
            except (tf.errors.OpError, AssertionError) as error:
                reason = first_line(getattr(error, "message", error))
                raise UserError(
                    f"`{path}` is damaged ({reason}). Delete the folder {builder.data_path} to have it built again."
                ) from error


def _with_object_count(batch, objects):
    """Keeps the scenes of a batch with objects[0] to objects[1] objects."""
    count = batch["factors"]["visibility"][:, 1:].sum(axis=1)
    keep = (objects[0] <= count) & (count <= objects[1])
    return {
        name: {factor: v[keep] for factor, v in values.items()}
        if isinstance(values, dict)
        else values[keep]
        for name, values in batch.items()
    }


def _load(folder):
    """Maps the arrays of a packed folder to memory."""
    try:
        summary = json.loads((folder / _SUMMARY).read_text())
        # Copy on write: writable, as zero-copy sharing with TensorFlow asks, and yet no mistake
        # reaches the file.
        arrays = {path.stem: np.load(path, mmap_mode="c") for path in sorted(folder.glob("*.npy"))}
        if any(len(values) != summary["num_scenes"] for values in arrays.values()):
            raise ValueError("arrays of unequal length")
        factors, tracks = (
            {name.removeprefix(prefix): arrays[name] for name in arrays if name.startswith(prefix)}
            for prefix in ("factor_", "track_")
        )
        return SceneArrays(
            arrays["image"],
            arrays["mask"],
            factors,
            summary["num_objects"],
            arrays.get("amodal_masks"),
            tracks,
        )
    except (ValueError, KeyError, OSError) as error:
        raise UserError(
            f"`{folder}` is damaged ({error}). Delete this folder to have it made again."
        ) from error


class _NpyWriter:
    """Writes a `.npy` file row by row; the number of rows is known at the end only.

    NumPy pads the header so that its length does not depend on the first axis, for this very use.
    """

    def __init__(self, path, like):
        """Opens `path` for rows like those of `like` [n, ...]."""
        self.count = 0
        self._row_shape = like.shape[1:]
        self._dtype = like.dtype
        self._file = open(path, "wb")
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
