"""Scenes on a host without TensorFlow: drawn anew from the seed, or read from packed files. NumPy alone.

Drawn scenes are those that the dataset's builder writes, bit for bit, since both call `datasets/generators` with the
same numbers.
"""

import pathlib

import numpy as np

from tfobj.data import protocols
from tfobj.data.packed import SceneArrays
from tfobj.datasets.generators import polygons, sprites, tetris
from tfobj.errors import UserError
from tfobj.portable import artifact

NUM_EVALUATION = 320
"""Scenes of the papers' test split."""

GENERATE = "generate"
_DRAWN = {
    "tetris": lambda indices, variant: tetris.scenes(indices),
    "multi_dsprites": lambda indices, variant: sprites.scenes(indices, variant=variant),
    "overlapping_polygons": lambda indices, variant: polygons.scenes(indices),
}
"""Dataset -> function of scene numbers and the variant that its config names."""
_CHUNK = 500
"""Scenes drawn at a time; larger chunks fall out of the processor's cache."""


def protocol_of(data):
    """Returns the `Protocol` of a `DataConfig` as a dict, or None for a folder of pictures."""
    if data["protocol"] not in protocols.PROTOCOLS:
        return None
    return protocols.sized(data["protocol"], data["num_train"], data["num_test"])


def can_generate(protocol):
    """Whether the scenes of a `Protocol` are drawn from a seed, and used as they are drawn."""
    return (
        protocol is not None
        and protocol.dataset in _DRAWN
        and (protocol.base_config or protocol.config).startswith("generated")
        and protocol.crop is None
        and all(split.objects is None for split in protocol.splits.values())
    )


def generate(protocol, split, num_scenes=None, with_masks=True):
    """Draws the scenes of a protocol's split, or the first `num_scenes` of them.

    Returns:
      `SceneArrays`; without masks if they are not wanted.

    Raises:
      UserError: the protocol reads published files or pictures, which cannot be drawn.
    """
    if not can_generate(protocol):
        raise UserError(
            f"`--data={GENERATE}` draws scenes from a seed, and {protocol.name if protocol else 'a folder of pictures'} is not made so. "
            "Export with --with_data=N, and the scenes travel in the folder."
        )
    chosen, variant = (
        protocol.split(split),
        (protocol.base_config or protocol.config).partition("_")[2],
    )
    start = chosen.start + (protocol.test_start if chosen.source == "test" else 0)
    count = chosen.stop - chosen.start
    count = count if num_scenes is None else min(num_scenes, count)
    image = np.empty((count, *protocol.image_size), np.uint8)
    mask = np.empty(image.shape[:3], np.uint8) if with_masks else None
    for first in range(0, count, _CHUNK):
        scenes = _DRAWN[protocol.dataset](
            np.arange(start + first, start + min(first + _CHUNK, count)), variant
        )
        image[first : first + _CHUNK] = scenes["image"]
        if with_masks:
            mask[first : first + _CHUNK] = scenes["mask"]
    return SceneArrays(image, mask)


def write(folder, stem, scenes):
    """Writes `SceneArrays` as `<stem>_000.npz`, ...: `image`, `mask` if there is one, `first` and `total`; returns the file names."""
    per_scene = sum(getattr(scenes, name)[0].nbytes for name in scenes.fields)
    most = max(1, artifact.PART_BYTES // per_scene)
    names = []
    for number, first in enumerate(range(0, len(scenes), most)):
        part = scenes.gather(np.arange(first, min(first + most, len(scenes))))
        names.append(f"{stem}_{number:03d}.npz")
        artifact.write_npz(
            pathlib.Path(folder) / names[-1],
            {**part, "first": np.int64(first), "total": np.int64(len(scenes))},
        )
    return names


def read(path, stem="train"):
    """Reads `SceneArrays` from one .npz file, or from the files `<stem>_*.npz` of a folder; None if a folder has none.

    Raises:
      UserError: no such path, a part is missing or damaged, or an array is not what it should be.
    """
    path = pathlib.Path(path).expanduser()
    paths = sorted(path.glob(f"{stem}_*.npz")) if path.is_dir() else [path]
    if not paths:
        return None
    parts = [artifact.read_npz(p) for p in paths]
    for p, part in zip(paths, parts, strict=True):
        image, mask = part.get("image"), part.get("mask")
        if image is None or image.dtype != np.uint8 or image.ndim != 4:
            raise UserError(
                f"`{p}` must hold `image`, uint8 [n, H, W, C]. Received: {'nothing' if image is None else f'{image.dtype} {image.shape}'}."
            )
        if mask is not None and (mask.dtype != np.uint8 or mask.shape != image.shape[:3]):
            raise UserError(
                f"`{p}`: `mask` must be uint8 {image.shape[:3]}. Received: {mask.dtype} {mask.shape}."
            )
    image = np.concatenate([part["image"] for part in parts])
    total = int(parts[0].get("total", len(image)))
    if total != len(image):
        raise UserError(
            f"`{path}` must hold all parts of {total} scenes. Received: {len(image)} scenes in {len(paths)} files; copy the folder again."
        )
    return SceneArrays(
        image,
        np.concatenate([part["mask"] for part in parts])
        if all("mask" in part for part in parts)
        else None,
    )


def check(scenes, manifest, what):
    """Raises a `UserError` unless the scenes have the size for which the programs were made."""
    if list(scenes.image.shape[1:]) != manifest["image_shape"]:
        raise UserError(
            f"{what} must be images of shape {manifest['image_shape']}, for which the step was exported. "
            f"Received: {list(scenes.image.shape[1:])}."
        )


def without_masks(scenes):
    """Returns the images of `SceneArrays` alone."""
    return SceneArrays(scenes.image)
