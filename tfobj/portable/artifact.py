"""The folder in which a run travels, and how arrays are stored in it. It needs NumPy alone.

    manifest.json               settings, programs with their parameters and outputs, file names
    step_000000.stablehlo       the training step from step 0 on; a curriculum has one per stage
    forward_000000.stablehlo    images -> masks and reconstructions, for scoring; one per stage too
    state/                      weights and optimizer at the first step
    data/                       scenes, if they travel with the run

Arrays are stored in numbered .npz files below `PART_BYTES`, since many ways into a closed host
limit the size of a file.
"""

import hashlib
import json
import pathlib
import shutil
import zipfile
import zlib

import numpy as np

from tfobj import files
from tfobj.errors import UserError

FORMAT = 1
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

_KEYS = (
    "format",
    "tfobj",
    "seed",
    "image_shape",
    "protocol",
    "batch_size",
    "variables",
    "steps",
    "data",
)
_STEP_KEYS = (
    "from_step",
    "file",
    "sha256",
    "model",
    "metrics",
    "schedule",
    "config",
    "counter",
    "params",
    "outputs",
    "forward",
)


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
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as e:
        raise UserError(
            f"`{folder}` must be a folder made by launch/export_step.py. It has no {MANIFEST}."
        ) from e
    except (json.JSONDecodeError, UnicodeDecodeError) as e:
        raise UserError(f"`{path}` is damaged ({e}). Copy it again.") from e

    if not isinstance(manifest, dict) or "format" not in manifest:
        raise UserError(f"`{path}` is damaged (no format). Copy it again.")
    if manifest["format"] != FORMAT:
        raise UserError(
            f"`{path}` must be of format {FORMAT}, which this tfobj reads. "
            f"Received: format {manifest['format']!r}, written by tfobj "
            f"{manifest.get('tfobj', '?')}. Use one version of tfobj on both hosts."
        )
    missing = _missing_keys(manifest)
    if missing:
        raise UserError(f"`{path}` is damaged (without {', '.join(missing)}). Copy it again.")
    return manifest


def _missing_keys(manifest):
    missing = [key for key in _KEYS if key not in manifest]
    if missing:
        return missing
    if not manifest["steps"]:
        return ["steps"]
    return [key for entry in manifest["steps"] for key in _STEP_KEYS if key not in entry]


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
        summary = json.loads(path.read_text(encoding="utf-8"))
        if summary["format"] != FORMAT:
            raise UserError(
                f"`{path}` must be of format {FORMAT}. Received: format {summary['format']!r}; "
                "use one version of tfobj on both hosts."
            )

        return summary, read_arrays(folder, "part", summary["num_parts"], summary["variables"])
    except FileNotFoundError as e:
        raise UserError(f"`{path}` is missing; copy the folder again, all of it.") from e
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as e:
        raise UserError(f"`{path}` is damaged ({e!r}). Copy it again.") from e


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
