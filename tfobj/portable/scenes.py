"""Scenes on a host without TensorFlow: drawn anew from the seed, or read from packed files.

Drawn scenes are those that the dataset's builder writes, bit for bit, since both call
`datasets/generators` with the same numbers. It needs NumPy alone.
"""

import pathlib

import numpy as np

from tfobj.data import protocols
from tfobj.data.packed import SceneArrays
from tfobj.datasets.generators import balls, polygons, sprites, tetris
from tfobj.errors import UserError
from tfobj.portable import artifact

NUM_EVALUATION = 320
"""Scenes of the papers' test split."""

GENERATE = "generate"


def _draw_balls(indices, protocol):
    return balls.clips(
        indices,
        variant=_variant(protocol),
        num_frames=protocol.num_frames,
        size=protocol.image_size[0],
    )


def _draw_sprites(indices, protocol):
    return sprites.scenes(indices, variant=_variant(protocol).removeprefix("generated_"))


_DRAWN = {
    "bouncing_balls": _draw_balls,
    "multi_dsprites": _draw_sprites,
    "overlapping_polygons": lambda indices, protocol: polygons.scenes(indices),
    "tetris": lambda indices, protocol: tetris.scenes(indices),
}
"""Dataset -> function of scene numbers and the protocol."""
_CHUNK = 500
"""Images drawn at a time; larger chunks fall out of the processor's cache."""


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
        and not _variant(protocol).startswith("public")
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
        name = protocol.name if protocol else "a folder of pictures"
        raise UserError(
            f"`--data={GENERATE}` draws scenes from a seed, and {name} is not made so. Export with "
            "--with_data=N, and the scenes travel in the folder."
        )
    chosen = protocol.split(split)
    start = chosen.start
    if chosen.source == "test":
        start += protocol.test_start
    count = chosen.stop - chosen.start
    if num_scenes is not None:
        count = min(num_scenes, count)

    # Filled in place: a list of chunks and their concatenation would take twice the memory.
    frames = () if protocol.num_frames is None else (protocol.num_frames,)
    image = np.empty((count, *frames, *protocol.image_size), np.uint8)
    mask = None
    if with_masks:
        mask = np.empty(image.shape[:-1], np.uint8)

    chunk = max(1, _CHUNK // (protocol.num_frames or 1))
    for first in range(0, count, chunk):
        indices = np.arange(start + first, start + min(first + chunk, count))
        drawn = _DRAWN[protocol.dataset](indices, protocol)
        image[first : first + chunk] = drawn["image" if "image" in drawn else "video"]
        if with_masks:
            mask[first : first + chunk] = drawn["mask"]
    return SceneArrays(image, mask)


def _variant(protocol):
    """Returns the dataset's own config that the scenes are made with."""
    return protocol.base_config or protocol.config


def write(folder, stem, scenes):
    """Writes `SceneArrays` as `<stem>_000.npz`, ...

    A file has `image`, `mask` if there is one, and the numbers `first` and `total` of scenes.

    Returns:
      The names of the files.
    """
    per_scene = sum(getattr(scenes, name)[0].nbytes for name in scenes.fields)
    most = max(1, artifact.PART_BYTES // per_scene)
    names = []
    for number, first in enumerate(range(0, len(scenes), most)):
        part = scenes.gather(np.arange(first, min(first + most, len(scenes))))
        place = {"first": np.int64(first), "total": np.int64(len(scenes))}
        names.append(f"{stem}_{number:03d}.npz")
        artifact.write_npz(pathlib.Path(folder) / names[-1], {**part, **place})
    return names


def read(path, stem="train"):
    """Reads `SceneArrays` from one .npz file, or from the files `<stem>_*.npz` of a folder.

    Returns:
      `SceneArrays`, or None if a folder has none.

    Raises:
      UserError: no such path, a part is missing or damaged, or an array is not what it should be.
    """
    path = pathlib.Path(path).expanduser()
    paths = [path]
    if path.is_dir():
        paths = sorted(path.glob(f"{stem}_*.npz"))
    if not paths:
        return None

    parts = [artifact.read_npz(p) for p in paths]
    for part_path, part in zip(paths, parts, strict=True):
        _check_part(part_path, part)
    image = np.concatenate([part["image"] for part in parts])

    # A part that was not copied would otherwise be missed only by its scenes.
    total = int(parts[0].get("total", len(image)))
    if total != len(image):
        raise UserError(
            f"`{path}` must hold all parts of {total} scenes. Received: {len(image)} scenes in "
            f"{len(paths)} files; copy the folder again."
        )

    mask = None
    if all("mask" in part for part in parts):
        mask = np.concatenate([part["mask"] for part in parts])
    return SceneArrays(image, mask)


def _check_part(path, part):
    image = part.get("image")
    if image is None or image.dtype != np.uint8 or image.ndim not in (4, 5):
        received = "nothing" if image is None else f"{image.dtype} {image.shape}"
        raise UserError(
            f"`{path}` must hold `image`, uint8 [n, (T,) H, W, C]. Received: {received}."
        )

    mask = part.get("mask")
    if mask is not None and (mask.dtype != np.uint8 or mask.shape != image.shape[:-1]):
        raise UserError(
            f"`{path}`: `mask` must be uint8 {image.shape[:-1]}. "
            f"Received: {mask.dtype} {mask.shape}."
        )


def check(scenes, manifest, what):
    """Raises a `UserError` unless the scenes have the size for which the programs were made."""
    shape = manifest["image_shape"]
    kind = "images"
    if manifest["num_frames"] is not None:
        shape = [manifest["num_frames"], *shape]
        kind = "clips"
    if list(scenes.image.shape[1:]) != shape:
        raise UserError(
            f"{what} must be {kind} of shape {shape}, for which the step was "
            f"exported. Received: {list(scenes.image.shape[1:])}."
        )


def without_masks(scenes):
    """Returns the images of `SceneArrays` alone."""
    return SceneArrays(scenes.image)
