"""The folder in which a run travels, and how arrays are stored in it. It needs NumPy alone.

    manifest.json               settings, programs with their parameters and outputs, file names
    step_000000.stablehlo       the training step from step 0 on; a curriculum has one per stage
    forward_000000.stablehlo    images -> masks and reconstructions, for scoring; one per export
    state/                      weights and optimizer at the first step
    data/                       scenes, if they travel with the run

Arrays are stored in numbered .npz files below `PART_BYTES`, since many ways into a closed host
limit the size of a file.
"""

import hashlib
import json
import pathlib
import re
import shutil
import zipfile
import zlib

import numpy as np

from tfobj import files
from tfobj.errors import UserError

FORMAT = 2
"""Version of the manifest and of the files beside it; another version is refused."""

PROGRAM = ".stablehlo"
MANIFEST = "manifest.json"
STATE = "state"
DATA = "data"
_SUMMARY = "state.json"

PART_BYTES = 15_000_000
"""Bytes of arrays in a file, at most.

Compression never adds the million that is left to 16 MB.
"""

_KEYS = {
    "format": int,
    "tfobj": str,
    "seed": int,
    "image_shape": list,
    "num_frames": (int, type(None)),
    "protocol": (str, type(None)),
    "batch_size": int,
    "variables": dict,
    "steps": list,
    "data": dict,
}
_STEP_KEYS = {
    "from_step": int,
    "file": str,
    "sha256": str,
    "model": str,
    "metrics": list,
    "schedule": dict,
    "config": dict,
    "counter": str,
    "batch_size": int,
    "num_frames": (int, type(None)),
    "stream_start": int,
    "params": list,
    "outputs": list,
    "forward": dict,
}
_FORWARD_KEYS = {
    "file": str,
    "sha256": str,
    "batch_size": int,
    "num_frames": (int, type(None)),
    "seed": int,
    "params": list,
    "outputs": list,
}
_CONFIG_KEYS = {
    "data": {
        "protocol": str,
        "num_train": (int, type(None)),
        "num_test": (int, type(None)),
    },
    "train": {"steps": int, "log_every": int, "eval_every": int, "checkpoint_every": int},
}
"""What a run reads from the settings of a step."""

_FILE_NAME = re.compile(r"\w[\w.-]*")


def write_manifest(folder, manifest):
    """Writes `manifest.json`, whole or not at all; last, since it makes the folder valid."""
    files.write_text(pathlib.Path(folder) / MANIFEST, json.dumps(manifest, indent=1) + "\n")


def read_manifest(folder):
    """Reads and checks `manifest.json`.

    Raises:
      UserError: there is none, it is damaged, or it is of another format.
    """
    path = pathlib.Path(folder) / MANIFEST
    try:
        manifest = files.read_json(path)
    except FileNotFoundError as e:
        raise UserError(
            f"`{folder}` must be a folder made by launch/export_step.py. It has no {MANIFEST}."
        ) from e

    files.check_keys(manifest, f"`{path}`", {"format": int})
    if manifest["format"] != FORMAT:
        writer = files.excerpt(manifest.get("tfobj", "?")).strip("'")
        raise UserError(
            f"`{path}` must be of format {FORMAT}, which this tfobj reads. "
            f"Received: format {files.excerpt(manifest['format'])}, written by tfobj {writer}. "
            "Use one version of tfobj on both hosts."
        )
    _check_manifest(manifest, f"`{path}`")
    return manifest


def _check_manifest(manifest, name):
    """Raises a `UserError` unless all that a run reads from the manifest is there."""
    files.check_keys(manifest, name, _KEYS)
    files.check_keys(manifest["data"], f"{name}, data", {"train": list, "evaluation": list})
    _check_variables(manifest["variables"], name)
    if not manifest["steps"]:
        raise UserError(f"{name} is damaged (without steps).")

    for number, entry in enumerate(manifest["steps"]):
        place = f"{name}, step {number}"
        _check_object(entry, place, _STEP_KEYS)
        _check_object(entry["forward"], f"{place}, forward", _FORWARD_KEYS)
        for group, keys in _CONFIG_KEYS.items():
            _check_object(entry["config"].get(group), f"{place}, config.{group}", keys)
        for program in (entry, entry["forward"]):
            _check_file_name(program["file"], place)
        if entry["counter"] not in manifest["variables"]:
            raise UserError(f"{place} is damaged (its counter is no variable).")
    if manifest["steps"][0]["from_step"] != 0:
        raise UserError(f"{name} is damaged (its first step does not begin at 0).")


def _check_object(value, name, keys):
    if not isinstance(value, dict):
        raise UserError(
            f"{name} is damaged (it must be an object. Received: {files.excerpt(value)})."
        )
    files.check_keys(value, name, keys)


def _check_variables(variables, name):
    """Raises a `UserError` unless it is a result of `describe_variables`."""
    for variable, description in variables.items():
        place = f"{name}, variable {variable!r}"
        _check_object(description, place, {"shape": list, "dtype": str})
        if not all(files.is_json(size, int) and size >= 0 for size in description["shape"]):
            raise UserError(
                f"{place} is damaged (its shape must be sizes. "
                f"Received: {files.excerpt(description['shape'])})."
            )


def _check_file_name(file, name):
    # A path could lead out of the folder, which was received from somewhere.
    if not _FILE_NAME.fullmatch(file):
        raise UserError(
            f"{name} is damaged (`file` must be the name of a file in the folder. "
            f"Received: {files.excerpt(file)})."
        )


def program_at(manifest, step):
    """Finds the program in force after `step` updates.

    Returns:
      (entry, end): an entry of `manifest["steps"]`, and the step at which the next takes over, or
      None.
    """
    begun = [entry for entry in manifest["steps"] if entry["from_step"] <= step]
    later = [entry["from_step"] for entry in manifest["steps"] if entry["from_step"] > step]
    return begun[-1], min(later, default=None)


def read_program(folder, entry):
    """Returns the bytes of the program that an entry of the manifest names.

    Raises:
      UserError: it is missing or damaged.
    """
    path = pathlib.Path(folder) / entry["file"]
    try:
        data = path.read_bytes()
    except FileNotFoundError as e:
        raise UserError(f"`{path}` is missing; copy the folder again, all of it.") from e
    except OSError as e:
        raise UserError(f"`{path}` cannot be read ({e.strerror or e}).") from e
    if hashlib.sha256(data).hexdigest() != entry["sha256"]:
        raise UserError(f"`{path}` is damaged (other bytes than were exported). Copy it again.")
    return data


def write_arrays(folder, stem, arrays):
    """Writes named arrays to `<stem>_000.npz`, `<stem>_001.npz`, ... in an existing folder.

    An array too large for one part is cut into pieces of its flat form, "name#0", "name#1", ...

    Returns:
      The number of parts.
    """
    parts = [{}]
    size = 0

    for name, array in arrays.items():
        for key, piece in _pieces(name, array):
            if parts[-1] and size + piece.nbytes > PART_BYTES:
                parts.append({})
                size = 0
            parts[-1][key] = piece
            size += piece.nbytes

    for number, part in enumerate(parts):
        write_npz(pathlib.Path(folder) / f"{stem}_{number:03d}.npz", part)
    return len(parts)


def _pieces(name, array):
    """Returns [(name, array)], or the array in pieces that fit a part."""
    most = PART_BYTES // array.itemsize
    if array.size <= most:
        return [(name, array)]
    flat = array.reshape(-1)
    starts = range(0, flat.size, most)
    return [(f"{name}#{i}", flat[start : start + most]) for i, start in enumerate(starts)]


def read_arrays(folder, stem, num_parts, shapes):
    """Reads what `write_arrays` wrote; `shapes` is name -> {"shape", "dtype"}.

    Raises:
      UserError: a part is missing or damaged, or an array is absent or of another shape.
    """
    pieces = {}
    for number in range(num_parts):
        pieces |= read_npz(pathlib.Path(folder) / f"{stem}_{number:03d}.npz")

    # What was copied by hand may be incomplete or mixed up.
    arrays = {}
    for name, expected in shapes.items():
        array = _join(pieces, name)
        if array is None:
            raise UserError(f"`{folder}` has no array {name!r}; its files do not belong together.")

        size = np.prod(expected["shape"], dtype=np.int64)
        if array.size != size or str(array.dtype) != expected["dtype"]:
            raise UserError(
                f"`{folder}`: {name!r} must be {expected['dtype']} {expected['shape']}. "
                f"Received: {array.dtype} {list(array.shape)}."
            )
        arrays[name] = array.reshape(expected["shape"])
    return arrays


def _join(pieces, name):
    """Returns the array, put together from its pieces; None if there is none."""
    if name in pieces:
        return pieces[name]
    keys = [f"{name}#{i}" for i in range(len(pieces))]
    found = [pieces[key] for key in keys if key in pieces]
    if not found:
        return None
    return np.concatenate(found)


def write_npz(path, arrays):
    """Writes a compressed .npz file, whole or not at all."""
    with files.atomic_path(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, **arrays)


def read_npz(path):
    """Returns the arrays of an .npz file as a dict.

    Raises:
      UserError: it is missing or damaged.
    """
    try:
        with pathlib.Path(path).open("rb") as file:
            # Checksums come first, before NumPy parses what may be anything.
            with zipfile.ZipFile(file) as members:
                bad = members.testzip()
                if bad is not None:
                    raise zipfile.BadZipFile(f"bad checksum of {bad}")

            file.seek(0)
            with np.load(file, allow_pickle=False) as arrays:
                return dict(arrays)
    except FileNotFoundError as e:
        raise UserError(f"`{path}` is missing; copy the folder again, all of it.") from e
    except (OSError, ValueError, EOFError, zlib.error, zipfile.BadZipFile) as e:
        raise UserError(f"`{path}` is damaged ({e}). Copy it again.") from e


def describe_variables(state):
    """Returns name -> {"shape", "dtype"} of a dict of arrays, as manifests hold it."""
    return {
        name: {"shape": list(array.shape), "dtype": str(array.dtype)}
        for name, array in state.items()
    }


def write_state(folder, step, state, **facts):
    """Writes a state, whole or not at all.

    It is arrays in parts, and `state.json` with step, shapes and `facts`.
    """
    with files.atomic_folder(folder) as partial:
        num_parts = write_arrays(partial, "part", state)
        summary = {
            "format": FORMAT,
            "step": step,
            "num_parts": num_parts,
            **facts,
            "variables": describe_variables(state),
        }
        files.write_text(partial / _SUMMARY, json.dumps(summary, indent=1) + "\n")

        # The new folder takes the place of the old one when the block is left.
        shutil.rmtree(folder, ignore_errors=True)


def read_state(folder):
    """Reads a state; returns (summary, arrays): the contents of `state.json`, and name -> array.

    Raises:
      UserError: a file is missing or damaged, or the state is of another format.
    """
    path = pathlib.Path(folder) / _SUMMARY
    try:
        summary = files.read_json(path)
    except FileNotFoundError as e:
        raise UserError(f"`{path}` is missing; copy the folder again, all of it.") from e

    files.check_keys(summary, f"`{path}`", {"format": int})
    if summary["format"] != FORMAT:
        raise UserError(
            f"`{path}` must be of format {FORMAT}. Received: format "
            f"{files.excerpt(summary['format'])}; use one version of tfobj on both hosts."
        )
    files.check_keys(summary, f"`{path}`", {"step": int, "num_parts": int, "variables": dict})
    _check_variables(summary["variables"], f"`{path}`")
    return summary, read_arrays(folder, "part", summary["num_parts"], summary["variables"])


def check_same_variables(expected, received, where):
    """Compares two results of `describe_variables`.

    Raises:
      UserError: names the first difference.
    """
    for name in sorted({*expected, *received}):
        if name not in received:
            raise UserError(f"{where} has no variable {name!r}, which the model has.")
        if name not in expected:
            raise UserError(f"{where} has a variable {name!r}, which the model does not have.")
        if expected[name] != received[name]:
            wanted = "{dtype} {shape}".format(**expected[name])
            found = "{dtype} {shape}".format(**received[name])
            raise UserError(f"{where}: {name!r} must be {wanted}. Received: {found}.")
