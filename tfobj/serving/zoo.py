"""Exported models by name or folder, as functions from NumPy to NumPy.

    decomposer = zoo.load("saved_models/iodine_tetris")   # or a name of saved_models/index.json
    result = decomposer.decompose(images, num_slots=5)    # images [B, H, W, C], uint8 or float
    result.segmentation, result.masks, result.slot_recons

Needs no code of the models, and TensorFlow only to load and to run one: `find` has none.
"""

import contextlib
import hashlib
import pathlib
import re
from typing import NamedTuple

import numpy as np

from tfobj import files
from tfobj.errors import UserError, failed_assertion, first_line, unknown_name

INDEX = "index.json"
METADATA = "metadata.json"
HEADLINE_SCORES = ("fg_ari", "fg_ari_frame", "ari", "msc", "miou", "aiou", "dpa_30", "mse", "psnr")
"""Metric names of `evaluation.json` that cards and the model index show, in this order."""
POSTERIOR = "posterior_"
"""Prefix of the results of `decompose` that are parameters of q(z | x)."""

MAX_VERSION = 2**63 - 1
"""TensorFlow Serving reads versions as int64."""

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

    def scene(self, index):
        """Returns the `Decomposition` of one of the scenes alone, with B = 1."""
        only = slice(index, index + 1)
        arrays = {name: x[only] for name, x in self._asdict().items() if isinstance(x, np.ndarray)}
        posterior = {name: value[only] for name, value in self.posterior.items()}
        return self._replace(**arrays, posterior=posterior)


class Rendering(NamedTuple):
    """Arrays of B scenes at the model's own size; fields as in `Decomposition`."""

    recon: np.ndarray
    masks: np.ndarray
    slot_recons: np.ndarray


class Decomposer:
    """A trained model, exported or not.

    Attributes:
      metadata: content of `metadata.json`: name, image_size, num_slots, limits, scores, ...
      folder: its version folder, or that of the run it comes from.
      image_size: (H, W) inside the model; inputs of other sizes are stretched to it, results back.
      channels: 3, or 1 for gray.
      num_slots: default of `decompose`.
      num_steps: default of `decompose`.
      has_prior: whether `sample` is available.
      is_video: whether it is a video model, which has `track` instead of `decompose` and `encode`.
    """

    def __init__(self, functions, metadata, folder):
        self.folder = pathlib.Path(folder)
        self.metadata = metadata
        self.image_size = tuple(self.metadata["image_size"])
        self.channels = self.metadata["channels"]
        self.num_slots = self.metadata["num_slots"]
        self.num_steps = self.metadata["num_steps"]
        self.has_prior = self.metadata["has_prior"]
        # Exports that are older than video models lack the key.
        self.is_video = self.metadata.get("is_video", False)
        self._functions = functions

    def __repr__(self):
        """Says which model it is, what it takes and how well it scored."""
        size = "x".join(map(str, (*self.image_size, self.channels)))
        kind = "clips" if self.is_video else "images"
        facts = [self.metadata["model"], f"{kind} of {size}", f"{self.num_slots} slots"]
        evaluation = self.metadata.get("evaluation") or {}
        if evaluation.get("fg_ari") is not None:
            facts.append(f"foreground ARI {evaluation['fg_ari']:.3f}")
        return f"<{self.metadata['name']}: {', '.join(facts)}; {self.folder}>"

    def decompose(self, images, num_slots=None, num_steps=None, seed=0):
        """Takes images apart into their objects.

        Args:
          images: [B, H, W, C], or one image [H, W, C]; uint8, or float in [0, 1]. Gray images are
            converted for RGB models, and the reverse.
          num_slots: K, if the model allows another number than its own; None uses the default.
          num_steps: refinement steps, likewise.
          seed: of the noise. All images of a batch get the same noise, so the results of an image
            do not depend on the others.

        Returns:
          `Decomposition`, with B = 1 for one image.

        Raises:
          UserError: a value out of range, or pixels that are not finite or not in [0, 1].
        """
        arrays = self._run(
            "decompose",
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
            "encode",
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
            "init_state",
            np.int32(1),
            self._count("num_slots", num_slots),
            _int32("seed", seed),
        )
        for frame in frames:
            arrays = self._run("step", self._batch(frame), **state)
            state = {name: arrays.pop(name) for name in state}
            yield Decomposition(**arrays, posterior={})

    def decode(self, slots):
        """Renders latents [B, K, D], e.g. edited ones of `encode`, as a `Rendering`."""
        size = self.metadata["slot_size"]
        slots = _floats("slots", slots)
        if slots.ndim != 3 or slots.shape[-1] != size:
            raise UserError(f"`slots` must have shape [B, K, {size}]. Received: {slots.shape}.")
        return Rendering(**self._run("decode", slots))

    def sample(self, num=1, num_slots=None, seed=0):
        """Samples `num` scenes from the prior, as a `Rendering`."""
        if not self.has_prior:
            raise UserError(
                "`sample` needs a model with a prior. "
                f"Received: {self.metadata['name']} ({self.metadata['model']})."
            )

        arrays = self._run(
            "sample",
            _int32("num", num),
            self._count("num_slots", num_slots),
            _int32("seed", seed),
        )
        return Rendering(**arrays)

    def _run(self, function, *arguments, **named):
        """Calls the saved function of a name with arrays; returns its results, name -> array.

        Raises:
          UserError: there is no such function, or a check in the graph failed, with its message.
        """
        import tensorflow as tf

        saved = getattr(self._functions, function, None)
        if not callable(saved):
            raise UserError(f"`{self.folder}` is damaged (it has no function `{function}`).")
        arguments = [tf.convert_to_tensor(value) for value in arguments]
        named = {name: tf.convert_to_tensor(value) for name, value in named.items()}

        try:
            results = saved(*arguments, **named)
        except tf.errors.ResourceExhaustedError as e:
            raise UserError(
                f"The memory is too small for this many scenes at once ({first_line(e)})."
            ) from e
        except tf.errors.InvalidArgumentError as e:
            message = failed_assertion(e)
            if message is None:
                raise
            raise UserError(message) from e

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
        images = _array("images", images)
        if images.ndim == 3:
            images = images[None]
        if images.ndim != 4 or images.shape[-1] not in (1, 3):
            raise UserError(
                f"`images` must have shape [B, H, W, 1 or 3]. Received: {images.shape}."
            )
        if images.dtype != np.uint8:
            # Integers of other types may mean 0 ... 1, 0 ... 255 or 0 ... 65535.
            if not np.issubdtype(images.dtype, np.floating):
                raise UserError(
                    f"`images` must be uint8, or floats in [0, 1]. Received: dtype {images.dtype}."
                )
            images = _floats("images", images)

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
    folder, metadata = find(name_or_path)
    return Decomposer(_load_functions(folder, metadata), metadata, folder)


def find(name_or_path):
    """Returns (version folder, content of its `metadata.json`) of an exported model.

    Arguments and errors as of `load`; TensorFlow is not needed.
    """
    name = str(name_or_path)
    path = _as_path(name)
    if path is None or not path.is_dir():
        path = _folder_in_index(name)
    found = version_folders(path)
    folder = path
    if found:
        folder = found[max(found)]
    if not (folder / "saved_model.pb").is_file():
        raise UserError(
            "`saved_model` must be the folder of an exported model. "
            f"Received: {path}, which holds no saved_model.pb."
        )
    return folder, read_metadata(folder)


def _as_path(name):
    """Returns the path that a name stands for; None if it cannot be one."""
    try:
        path = pathlib.Path(name).expanduser()
        path.exists()
    except (OSError, RuntimeError, ValueError):  # too long, no such user, a null character
        return None
    return path


def _folder_in_index(name):
    """Returns the folder of a model that ships with the package."""
    index = read_index(_SHIPPED / INDEX)
    if name in index:
        files.check_keys(index[name], f"`{_SHIPPED / INDEX}`, {name}", {"folder": str})
        return _SHIPPED / index[name]["folder"]

    # Names have no slashes: this was meant as a path.
    path = _as_path(name)
    if path is not None and (path.exists() or path.name != name):
        raise UserError(
            "`saved_model` must be the folder of an exported model. "
            f"Received: {name} (no such folder)."
        )
    raise unknown_name("saved model", name, [*index, "PATH/TO/FOLDER"])


def version_folders(directory):
    """Returns the version folders of a model, number -> path, by ascending number.

    A name is that of a version if TensorFlow Serving reads it as one: decimal digits, with leading
    zeros or without, of a number in int64. Of two names of one number, the shorter counts.

    Raises:
      UserError: the folder cannot be read.
    """
    directory = pathlib.Path(directory)
    if not directory.is_dir():
        return {}
    try:
        children = [child for child in directory.iterdir() if child.is_dir()]
    except OSError as e:
        raise UserError(f"`{directory}` cannot be read ({e.strerror or e}).") from e

    found = {}
    for child in sorted(children, key=lambda child: len(child.name), reverse=True):
        # Leading zeros aside, int64 has 19 digits; Python refuses to convert 5,000.
        digits = re.fullmatch("0*([0-9]{1,19})", child.name)
        if digits and int(digits[1]) <= MAX_VERSION:
            found[int(digits[1])] = child
    return dict(sorted(found.items()))


def versions(directory):
    """Returns the version numbers in the folder of a model, ascending."""
    return list(version_folders(directory))


def index_entry(folder):
    """Returns what an index says about a version folder.

    It is a dict of folder, version, model, protocol, scores and bytes.
    """
    folder = pathlib.Path(folder)
    metadata = read_metadata(folder)
    experiment = metadata.get("experiment") or {}
    evaluation = metadata.get("evaluation") or {}
    trained_on = (experiment.get("data") or {}).get("protocol")
    scores = {name: evaluation.get(name) for name in HEADLINE_SCORES}
    return {
        "folder": folder.parent.name,
        "version": metadata.get("version"),
        "model": experiment.get("model_name", metadata["model"]),
        "protocol": evaluation.get("protocol") or trained_on,
        "scores": {name: score for name, score in scores.items() if score is not None},
        "bytes": sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()),
    }


def read_index(path=_SHIPPED / INDEX):
    """Returns the models of a zoo: those of its index, then all others in its folder.

    A zoo is a folder with an `index.json` beside the folders of its models. The index lists those
    that ship; what a user exports beside them is found without it.

    Returns:
      dict of names to dicts with folder, version, model, protocol, scores and bytes; empty if there
      is no index.

    Raises:
      UserError: a damaged index.
    """
    path = pathlib.Path(path)
    index = read_index_file(path)
    if index is None:
        return {}

    known = {entry["folder"] for entry in index.values()}
    for directory in sorted(path.parent.iterdir()):
        found = version_folders(directory)
        if directory.name in known or not found:
            continue
        # A folder that is no model, or a damaged one, has no place in a list.
        with contextlib.suppress(UserError, AttributeError, OSError):
            entry = index_entry(found[max(found)])
            index.setdefault(directory.name, entry)
    return index


def read_index_file(path):
    """Returns the content of an `index.json`; None if there is no such file.

    Raises:
      UserError: a damaged file.
    """
    path = pathlib.Path(path)
    if not path.exists():
        return None
    index = files.read_json(path)
    for name, entry in index.items():
        folder = entry.get("folder") if isinstance(entry, dict) else None
        if not isinstance(folder, str):
            raise UserError(f"`{path}` is damaged ({name!r} has no folder).")
        if pathlib.PurePath(folder).name != folder:
            raise UserError(f"`{path}` is damaged ({folder!r} is not a folder beside it).")
    return index


def read_metadata(folder):
    """Returns the `metadata.json` of a version folder.

    Raises:
      UserError: a SavedModel from elsewhere, or a damaged file.
    """
    path = pathlib.Path(folder, METADATA)
    if not path.exists():
        raise UserError(
            f"`{folder}` is a SavedModel, but not one that `launch/export.py` wrote: "
            f"{METADATA} is missing."
        )
    metadata = files.read_json(path)
    for key, (is_valid, expected) in _METADATA_FIELDS.items():
        if not is_valid(metadata.get(key)):
            raise UserError(
                f"`{path}` is damaged (`{key}` must be {expected}, but is "
                f"{shortened(metadata.get(key))})."
            )
    return metadata


def digests(folder):
    """Returns the SHA-256 of every file of a version folder but its metadata, by relative path."""
    folder = pathlib.Path(folder)
    return {
        path.relative_to(folder).as_posix(): _digest(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != METADATA
    }


def _digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _load_functions(folder, metadata):
    """Returns the object with the saved functions.

    Raises:
      UserError: a file is damaged or missing.
    """
    # TensorFlow's reader believes what it reads: a flipped bit can end in an error of any kind, in
    # a crash, or in other weights. Exports that are older than the digests lack the key.
    for name, expected in (metadata.get("files") or {}).items():
        text = name if name.isprintable() else repr(name)
        try:
            found = _digest(folder / name)
        except FileNotFoundError as e:
            raise UserError(f"`{folder}` is damaged ({text} is missing).") from e
        except (OSError, ValueError) as e:
            raise UserError(
                f"`{folder}` is damaged ({text} cannot be read: {first_line(e)})."
            ) from e
        if found != expected:
            raise UserError(f"`{folder}` is damaged ({text} is not as it was exported).")

    import tensorflow as tf

    try:
        return tf.saved_model.load(str(folder))
    # The border to TensorFlow's reader: damage that no digest shows ends in IndexError, KeyError,
    # AttributeError, DecodeError, OpError and others.
    except Exception as e:
        raise UserError(f"`{folder}` is damaged ({first_line(e)}).") from e


def _is_count(value):
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_size(value):
    return isinstance(value, list) and len(value) == 2 and all(map(_is_count, value))


def _is_index(value):
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_slot_or_none(value):
    # -1 is the last slot.
    return value is None or (isinstance(value, int) and not isinstance(value, bool))


def _are_slot_parts(value):
    if value is None:
        return True
    return isinstance(value, dict) and all(
        isinstance(part, list) and len(part) == 2 and all(map(_is_index, part))
        for part in value.values()
    )


def _is_one_of(*types):
    return lambda value: isinstance(value, types)


_METADATA_FIELDS = {
    "name": (_is_one_of(str), "a name"),
    "version": (lambda value: value is None or _is_count(value), "a positive integer"),
    "model": (_is_one_of(str), "a name"),
    "image_size": (_is_size, "two positive integers"),
    "channels": (lambda value: _is_count(value) and value in (1, 3), "1 or 3"),
    "num_slots": (_is_count, "a positive integer"),
    "num_steps": (_is_count, "a positive integer"),
    "slot_size": (_is_count, "a positive integer"),
    "has_prior": (_is_one_of(bool), "true or false"),
    "is_video": (_is_one_of(bool, type(None)), "true or false"),
    "slot_parts": (_are_slot_parts, "ranges by name"),
    "background_slot": (_is_slot_or_none, "an index or null"),
    "limits": (_is_one_of(dict, type(None)), "an object"),
    "experiment": (_is_one_of(dict, type(None)), "an object or null"),
    "evaluation": (_is_one_of(dict, type(None)), "an object or null"),
    "files": (_is_one_of(dict, type(None)), "an object"),
}
"""Key of `metadata.json` -> (whether a value is valid, what is).

Missing keys are None: that is valid for those that older exports lack."""


def shortened(value, length=60):
    """Returns the text of a value from a file, on one line of bounded length."""
    text = repr(value)
    if len(text) > length:
        text = f"{text[:length]}..."
    return text


def _array(name, value):
    """Returns a value as an array."""
    try:
        return np.asarray(value)
    except (TypeError, ValueError) as e:  # lists of unequal lengths
        raise UserError(f"`{name}` must be an array ({first_line(e)}).") from e


def _floats(name, value):
    """Returns a value as a float32 array; what float32 cannot hold becomes infinite."""
    array = _array(name, value)
    is_number = np.issubdtype(array.dtype, np.integer) or np.issubdtype(array.dtype, np.floating)
    if not is_number:
        raise UserError(f"`{name}` must be numbers. Received: dtype {array.dtype}.")
    with np.errstate(over="ignore"):
        return array.astype(np.float32)


def _int32(name, value):
    is_integer = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not is_integer or not -(2**31) <= value < 2**31:
        raise UserError(f"`{name}` must be an integer. Received: {name}={value!r}.")
    return np.int32(value)
