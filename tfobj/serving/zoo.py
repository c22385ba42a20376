"""Exported models by name or folder, as functions from NumPy to NumPy.

    decomposer = zoo.load("saved_models/iodine_tetris")   # or a name of saved_models/index.json
    result = decomposer.decompose(images, num_slots=5)    # images [B, H, W, C], uint8 or float
    result.segmentation, result.masks, result.slot_recons

Needs TensorFlow, but no code of the models.
"""

import pathlib
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfobj import files
from tfobj.errors import UserError, first_line, unknown_name

INDEX = "index.json"
METADATA = "metadata.json"
POSTERIOR = "posterior_"
"""Prefix of the results of `decompose` that are parameters of q(z | x)."""

_METADATA_KEYS = {
    "name": str,
    "model": str,
    "image_size": list,
    "channels": int,
    "num_slots": int,
    "num_steps": (int, type(None)),
    "has_prior": bool,
    "slot_size": int,
}
"""Entries that every `metadata.json` has."""

_OTHER_KEYS = {"version": int, "limits": dict, "is_video": bool, "signatures": dict}
"""Entries that exports of some versions lack."""

_LUMA = np.float32([0.299, 0.587, 0.114])
"""Weights of red, green and blue in gray (ITU-R 601), as in Pillow."""

_SHIPPED = files.shipped("saved_models")


class Decomposition(NamedTuple):
    """Arrays of B scenes; image-shaped ones have the size of the input."""

    segmentation: np.ndarray
    """uint8 [B, H, W], the slot with the largest mask at every pixel."""
    masks: np.ndarray
    """[B, K, H, W, 1], sum to one over K."""
    slot_recons: np.ndarray
    """[B, K, H, W, C], appearance before masking, in [0, 1] units (not clipped)."""
    recon: np.ndarray
    """[B, H, W, C]."""
    slots: np.ndarray
    """[B, K, D], latents, for `Decomposer.decode`."""
    posterior: dict
    """Parameters of q(z | x), name -> [B, K, ...]; empty for deterministic models."""
    amodal_masks: np.ndarray | None = None
    """[B, K, H, W, 1] in [0, 1], complete objects; models with depth only."""
    depths: np.ndarray | None = None
    """[B, K], smaller is nearer; models with depth only."""
    positions: np.ndarray | None = None
    """[B, K, 2], row and column of every slot's centre in pixels of the input.

    Only models that place their objects have them."""


class Rendering(NamedTuple):
    """Arrays of B scenes at the model's own size; fields as in `Decomposition`."""

    recon: np.ndarray
    masks: np.ndarray
    slot_recons: np.ndarray


class Decomposer:
    """An exported model.

    Attributes:
      metadata: content of `metadata.json`: name, image_size, num_slots, limits, scores, ...
      folder: its version folder.
      image_size: (H, W) inside the model; inputs of other sizes are stretched to it, results back.
      channels: 3, or 1 for gray.
      num_slots: default of `decompose`.
      num_steps: default of `decompose`.
      has_prior: whether `sample` is available.
      is_video: whether it is a video model, which has `track` instead of `decompose` and `encode`.
    """

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.metadata = read_metadata(self.folder)
        self.image_size = tuple(self.metadata["image_size"])
        self.channels = self.metadata["channels"]
        self.num_slots = self.metadata["num_slots"]
        self.num_steps = self.metadata["num_steps"]
        self.has_prior = self.metadata["has_prior"]
        # Exports that are older than video models lack the key.
        self.is_video = self.metadata.get("is_video", False)

        try:
            self._loaded = tf.saved_model.load(str(self.folder))
        except (OSError, ValueError, tf.errors.OpError) as e:
            raise UserError(f"`{self.folder}` is damaged ({first_line(e)}).") from e

    def decompose(self, images, num_slots=None, num_steps=None, seed=0):
        """Takes images apart into their objects.

        Args:
          images: [B, H, W, C], or one image [H, W, C]; uint8, or float in [0, 1]. Gray images are
            converted for RGB models, and the reverse.
          num_slots: K, if the model allows another number than its own; None uses the default.
          num_steps: refinement steps, likewise.
          seed: of the noise. A scene's noise depends on its place in the batch as well.

        Returns:
          `Decomposition`, with B = 1 for one image.

        Raises:
          UserError: a value out of range, or pixels that are not finite or not in [0, 1].
        """
        arrays = self._run(
            self._loaded.decompose,
            self._images(images),
            self._count("num_slots", num_slots),
            self._count("num_steps", num_steps),
            _int32("seed", seed),
        )

        # Which parameters a posterior has depends on the model; the other results are fields.
        posterior = {}
        for name in list(arrays):
            if name.startswith(POSTERIOR):
                posterior[name.removeprefix(POSTERIOR)] = arrays.pop(name)
        return Decomposition(**arrays, posterior=posterior)

    def encode(self, images, num_slots=None, num_steps=None, seed=0):
        """Returns the latents [B, K, D] of images; arguments as in `decompose`."""
        arrays = self._run(
            self._loaded.encode,
            self._images(images),
            self._count("num_slots", num_slots),
            self._count("num_steps", num_steps),
            _int32("seed", seed),
        )
        return arrays["slots"]

    def track(self, frames, num_slots=None, seed=0):
        """Follows objects through a clip, frame by frame; memory does not grow with its length.

        Args:
          frames: iterable of images [H, W, C] of one size, uint8 or float in [0, 1].
          num_slots: as for `decompose`.
          seed: as for `decompose`.

        Yields:
          A `Decomposition` with B = 1 per frame; a slot stays with its object.

        Raises:
          UserError: an image model, or a value out of range.
        """
        if not self.is_video:
            raise UserError(
                "`track` needs a video model. "
                f"Received: {self.metadata['name']} ({self.metadata['model']})."
            )

        state = self._run(
            self._loaded.init_state,
            np.int32(1),
            self._count("num_slots", num_slots),
            _int32("seed", seed),
        )
        for frame in frames:
            arrays = self._run(self._loaded.step, self._batch(frame), **state)
            state = {name: arrays.pop(name) for name in state}
            yield Decomposition(**arrays, posterior={})

    def decode(self, slots):
        """Renders latents [B, K, D], e.g. edited ones of `encode`, as a `Rendering`."""
        size = self.metadata["slot_size"]
        slots = np.asarray(slots, np.float32)
        if slots.ndim != 3 or slots.shape[-1] != size:
            raise UserError(f"`slots` must have shape [B, K, {size}]. Received: {slots.shape}.")
        return Rendering(**self._run(self._loaded.decode, slots))

    def sample(self, num=1, num_slots=None, seed=0):
        """Samples `num` scenes from the prior, as a `Rendering`."""
        if not self.has_prior:
            raise UserError(
                "`sample` needs a model with a prior. "
                f"Received: {self.metadata['name']} ({self.metadata['model']})."
            )

        arrays = self._run(
            self._loaded.sample,
            _int32("num", num),
            self._count("num_slots", num_slots),
            _int32("seed", seed),
        )
        return Rendering(**arrays)

    def _run(self, function, *arguments, **named):
        """Calls a saved function with arrays; returns its results, name -> array.

        Raises:
          UserError: a check in the graph failed; has its message.
        """
        arguments = [tf.convert_to_tensor(value) for value in arguments]
        named = {name: tf.convert_to_tensor(value) for name, value in named.items()}

        try:
            results = function(*arguments, **named)
        except tf.errors.InvalidArgumentError as e:
            # An `Assert` op prints its message and its values as "assertion failed: [m] [v] [v]".
            _, found, message = str(e).partition("assertion failed: [")
            if not found:
                raise
            line = message.splitlines()[0]
            raise UserError(line.replace("] [", " ").rstrip("] ")) from e

        return {name: value.numpy() for name, value in results.items()}

    def _images(self, images):
        """Returns the result of `_batch`; refuses video models, which do not take images alone."""
        if self.is_video:
            raise UserError(
                f"`{self.metadata['name']}` takes clips frame by frame: `track`. Received: images."
            )
        return self._batch(images)

    def _batch(self, images):
        """Returns images as uint8 or float32 [B, H, W, C] with the model's number of channels."""
        images = np.asarray(images)
        if images.ndim == 3:
            images = images[None]
        if images.ndim != 4 or images.shape[-1] not in (1, 3):
            raise UserError(
                f"`images` must have shape [B, H, W, 1 or 3]. Received: {images.shape}."
            )
        if images.dtype != np.uint8:
            if not np.issubdtype(images.dtype, np.floating):
                raise UserError(
                    f"`images` must be uint8, or floats in [0, 1]. Received: dtype {images.dtype}."
                )
            images = images.astype(np.float32)

        if images.shape[-1] == self.channels:
            return images
        if self.channels == 3:
            return np.repeat(images, 3, axis=-1)
        gray = images @ _LUMA
        if images.dtype == np.uint8:
            gray = np.rint(gray)
        return gray[..., None].astype(images.dtype)

    def _count(self, name, value):
        """Returns a number of slots or steps, or its default for None."""
        if value is None:
            value = self.metadata[name]
        return _int32(name, value)


def load(name_or_path):
    """Loads an exported model.

    Args:
      name_or_path: name in `saved_models/index.json`, folder of a model (its greatest version is
        loaded), or a version folder.

    Returns:
      `Decomposer`.

    Raises:
      UserError: no such name, or a folder without an exported model.
    """
    path = pathlib.Path(name_or_path).expanduser()
    if not path.is_dir():
        path = _folder_in_index(str(name_or_path))
    found = versions(path)
    folder = path
    if found:
        folder = path / str(max(found))
    if not (folder / "saved_model.pb").is_file():
        raise UserError(
            "`saved_model` must be the folder of an exported model. "
            f"Received: {path}, which holds no saved_model.pb."
        )
    return Decomposer(folder)


def _folder_in_index(name):
    """Returns the folder of a model that ships with the package."""
    index = read_index(_SHIPPED / INDEX)
    if name in index:
        files.check_keys(index[name], f"`{_SHIPPED / INDEX}`, {name}", {"folder": str})
        return _SHIPPED / index[name]["folder"]

    # Names have no slashes: this was meant as a path.
    path = pathlib.Path(name).expanduser()
    if path.exists() or path.name != name:
        raise UserError(
            "`saved_model` must be the folder of an exported model. "
            f"Received: {name} (no such folder)."
        )
    raise unknown_name("saved model", name, [*index, "PATH/TO/FOLDER"])


def versions(directory):
    """Returns the version numbers in the folder of a model, ascending."""
    directory = pathlib.Path(directory)
    if not directory.is_dir():
        return []
    return sorted(
        int(child.name)
        for child in directory.iterdir()
        if child.name.isdecimal() and child.is_dir()
    )


def read_index(path=_SHIPPED / INDEX):
    """Returns the index of a zoo; an empty dict if the file does not exist.

    It maps names of models to dicts with folder, version, model, protocol, scores and bytes.
    """
    path = pathlib.Path(path)
    try:
        index = files.read_json(path)
    except FileNotFoundError:
        return {}
    files.check_keys(index, f"`{path}`", dict.fromkeys(index, dict))
    return index


def read_metadata(folder):
    """Returns the `metadata.json` of a version folder.

    Raises:
      UserError: a SavedModel from elsewhere, or a damaged file.
    """
    path = pathlib.Path(folder, METADATA)
    try:
        metadata = files.read_json(path, keys=_METADATA_KEYS)
    except FileNotFoundError as e:
        raise UserError(
            f"`{folder}` is a SavedModel, but not one that `launch/export.py` wrote: "
            f"{METADATA} is missing."
        ) from e

    present = {key: kind for key, kind in _OTHER_KEYS.items() if key in metadata}
    files.check_keys(metadata, f"`{path}`", present)
    size = metadata["image_size"]
    if len(size) != 2 or not all(files.is_json(side, int) and side > 0 for side in size):
        raise UserError(
            f"`{path}` is damaged (`image_size` must be height and width. "
            f"Received: {files.excerpt(size)})."
        )
    return metadata


def _int32(name, value):
    is_integer = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not is_integer or not -(2**31) <= value < 2**31:
        raise UserError(f"`{name}` must be an integer. Received: {name}={value!r}.")
    return np.int32(value)
