"""Exported models by name or folder, as functions from NumPy to NumPy. Needs TensorFlow, no model code.

decomposer = zoo.load("saved_models/iodine_tetris")    # or a name of saved_models/index.json
result = decomposer.decompose(images, num_slots=5)     # images [B, H, W, C], uint8 or floats in [0, 1]
result.segmentation, result.masks, result.slot_recons
"""

import json
import pathlib
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfobj.errors import UserError, first_line, unknown_name

INDEX = "index.json"
METADATA = "metadata.json"

_CHECKOUT_ZOO = pathlib.Path(__file__).resolve().parents[2] / "saved_models"


class Decomposition(NamedTuple):
    """Arrays of B scenes; image-shaped ones have the size of the pictures."""

    segmentation: np.ndarray
    """uint8 [B, H, W], the slot with the largest share of every pixel."""
    masks: np.ndarray
    """[B, K, H, W, 1], shares that sum to one over K."""
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
    """[B, K, 2], row and column of every slot's centre in pixels of the picture; models that place their objects only."""


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
      image_size, channels: what the model works on; pictures of other sizes are stretched to it and back.
      num_slots, num_steps: defaults of `decompose`.
      has_prior: whether `sample` exists.
      is_video: whether the model takes clips: `track` then, and not `decompose`, `encode`.
    """

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.metadata = read_metadata(self.folder)
        self.image_size, self.channels = (
            tuple(self.metadata["image_size"]),
            self.metadata["channels"],
        )
        self.num_slots, self.num_steps = self.metadata["num_slots"], self.metadata["num_steps"]
        self.has_prior, self.is_video = (
            self.metadata["has_prior"],
            self.metadata.get("is_video", False),
        )
        try:
            self._loaded = tf.saved_model.load(str(self.folder))
        except (OSError, ValueError, tf.errors.OpError) as e:
            raise UserError(f"`{self.folder}` is damaged ({first_line(e)}).") from e

    def decompose(self, images, num_slots=None, num_steps=None, seed=0):
        """Takes pictures apart.

        Args:
          images: [B, H, W, C], or one picture [H, W, C]; uint8, or floats in [0, 1]. Gray pictures serve
            models of colour, and the reverse.
          num_slots, num_steps: other than the model's own, where it allows that.
          seed: of the noise. A scene's noise depends on its place in the batch as well.

        Returns:
          `Decomposition`, B = 1 for one picture.

        Raises:
          UserError: a value out of range, or pixels that are no pixels.
        """
        arrays = self._run(
            self._loaded.decompose,
            self._pictures(images),
            self._count("num_slots", num_slots),
            self._count("num_steps", num_steps),
            _seed(seed),
        )
        posterior = {
            name.removeprefix("posterior_"): arrays.pop(name)
            for name in list(arrays)
            if name.startswith("posterior_")
        }
        return Decomposition(**arrays, posterior=posterior)

    def encode(self, images, num_slots=None, num_steps=None, seed=0):
        """Returns the latents [B, K, D] of pictures; arguments as in `decompose`."""
        return self._run(
            self._loaded.encode,
            self._pictures(images),
            self._count("num_slots", num_slots),
            self._count("num_steps", num_steps),
            _seed(seed),
        )["slots"]

    def track(self, frames, num_slots=None, seed=0):
        """Follows objects through a clip, frame by frame; memory does not grow with its length.

        Args:
          frames: iterable of pictures [H, W, C] of one size, uint8 or floats in [0, 1].
          num_slots, seed: as for `decompose`.

        Yields:
          a `Decomposition` with B = 1 per frame; a slot stays with its object.
        """
        if not self.is_video:
            raise UserError(
                f"`track` needs a model of clips. Received: {self.metadata['name']} ({self.metadata['model']})."
            )
        state = self._run(
            self._loaded.init_state, np.int32(1), self._count("num_slots", num_slots), _seed(seed)
        )
        for frame in frames:
            arrays = self._run(self._loaded.step, self._picture(frame), **state)
            state = {name: arrays.pop(name) for name in state}
            yield Decomposition(**arrays, posterior={})

    def decode(self, slots):
        """Renders latents [B, K, D], e.g. those of `encode` with one of them moved, as a `Rendering`."""
        slots, size = np.asarray(slots, np.float32), self.metadata["slot_size"]
        if slots.ndim != 3 or slots.shape[-1] != size:
            raise UserError(f"`slots` must have shape [B, K, {size}]. Received: {slots.shape}.")
        return Rendering(**self._run(self._loaded.decode, slots))

    def sample(self, num=1, num_slots=None, seed=0):
        """Draws `num` scenes from the prior, as a `Rendering`."""
        if not self.has_prior:
            raise UserError(
                f"`sample` needs a model with a prior. Received: {self.metadata['name']} ({self.metadata['model']})."
            )
        return Rendering(
            **self._run(
                self._loaded.sample,
                _integer("num", num),
                self._count("num_slots", num_slots),
                _seed(seed),
            )
        )

    def _run(self, function, *arguments, **named):
        """Calls a saved function; failed checks of its graph become `UserError`s."""
        try:
            results = function(
                *map(tf.convert_to_tensor, arguments),
                **{name: tf.convert_to_tensor(value) for name, value in named.items()},
            )
        except tf.errors.InvalidArgumentError as e:
            _, found, message = str(e).partition("assertion failed: [")
            if not found:
                raise
            raise UserError(message.splitlines()[0].replace("] [", " ").rstrip("] ")) from e
        return {name: value.numpy() for name, value in results.items()}

    def _pictures(self, images):
        """Returns images as `_picture` does, for functions that models of clips do not have."""
        if self.is_video:
            raise UserError(
                f"`{self.metadata['name']}` takes clips frame by frame: `track`. Received: pictures."
            )
        return self._picture(images)

    def _picture(self, images):
        """Returns images as uint8 or float32 [B, H, W, C] with the model's number of channels."""
        images = np.asarray(images)
        images = images[None] if images.ndim == 3 else images
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
        gray = images @ np.float32([0.299, 0.587, 0.114])  # luma of ITU-R 601, as Pillow converts
        return (np.rint(gray) if images.dtype == np.uint8 else gray)[..., None].astype(images.dtype)

    def _count(self, name, value):
        return _integer(name, self.metadata[name] if value is None else value)


def load(name_or_path):
    """Loads an exported model.

    Args:
      name_or_path: name in `saved_models/index.json`, folder of a model (its greatest version is taken), or
        a version folder.

    Returns:
      `Decomposer`.

    Raises:
      UserError: no such name, or a folder that holds no exported model.
    """
    path = pathlib.Path(name_or_path).expanduser()
    if not path.is_dir():
        index = read_index(_CHECKOUT_ZOO / INDEX)
        if str(name_or_path) not in index:
            if path.exists() or path.name != str(name_or_path):
                raise UserError(
                    f"`saved_model` must be the folder of an exported model. Received: {name_or_path} (no such folder)."
                )
            raise unknown_name("saved model", name_or_path, [*index, "PATH/TO/FOLDER"])
        path = _CHECKOUT_ZOO / index[str(name_or_path)]["folder"]
    found = versions(path)
    folder = path / str(max(found)) if found else path
    if not (folder / "saved_model.pb").is_file():
        raise UserError(
            f"`saved_model` must be the folder of an exported model. Received: {path}, which holds no saved_model.pb."
        )
    return Decomposer(folder)


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


def read_index(path=_CHECKOUT_ZOO / INDEX):
    """Returns the index of a zoo, name -> dict with folder, model, protocol, scores, bytes; empty where there is none."""
    path = pathlib.Path(path)
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError as e:
        raise UserError(f"`{path}` is damaged ({e}).") from e


def read_metadata(folder):
    """Returns the `metadata.json` of a version folder.

    Raises:
      UserError: a SavedModel from elsewhere, or a damaged file.
    """
    path = pathlib.Path(folder, METADATA)
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as e:
        raise UserError(
            f"`{folder}` is a SavedModel, but not one that `launch/export.py` wrote: {METADATA} is missing."
        ) from e
    except ValueError as e:
        raise UserError(f"`{path}` is damaged ({e}).") from e


def _integer(name, value):
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, np.integer))
        or not -(2**31) <= value < 2**31
    ):
        raise UserError(f"`{name}` must be an integer. Received: {name}={value!r}.")
    return np.int32(value)


def _seed(value):
    return _integer("seed", value)
