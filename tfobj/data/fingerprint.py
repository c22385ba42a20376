"""What a run was trained on: enough to tell whether the data are still the same.

The fingerprint of a folder of pictures has the content of every picture, under its name below the
folder: the folder itself may be moved or renamed. That of a data set has its version, the number
of its scenes, and a checksum of scenes spread evenly over it.
"""

import concurrent.futures
import hashlib
import os
import pathlib
import zlib

import numpy as np

from tfobj import files
from tfobj.data import file_tree, own_files
from tfobj.data.decoding import Unreadable, foreign_decoder
from tfobj.errors import UserError

_SAMPLE = 256
"""Scenes of a data set that are compared: 3 MB of 64 x 64 pixels."""
_SAMPLE_BYTES = 1 << 25
"""Bytes of them at most; long clips are fewer, but never less than `_SMALLEST_SAMPLE`."""
_SMALLEST_SAMPLE = 16
_SHOWN = 3
"""Names of files in a message."""
_BLOCK = 1 << 20


def of_folder(path):
    """Returns the fingerprint of a folder of pictures, or of one picture.

    Files that Pillow does not take for pictures, and results of this package, are left out, as when
    pictures are read.
    """
    path = pathlib.Path(path).expanduser()
    paths = own_files.leave_out(file_tree.list_files(path))
    # Pillow reads headers and hashlib blocks without Python's lock, so threads serve all cores.
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        digests = list(pool.map(_digest_of_picture, paths))
    root = path if path.is_dir() else path.parent
    pictures = {
        file.relative_to(root).as_posix(): digest
        for file, digest in zip(paths, digests, strict=True)
        if digest is not None
    }
    return {"kind": "folder", "pictures": pictures}


def of_scenes(scenes):
    """Returns the fingerprint of `SceneArrays` of a data set."""
    count = len(scenes)
    affordable = max(_SAMPLE_BYTES // scenes.image[0].nbytes, _SMALLEST_SAMPLE)
    size = min(count, _SAMPLE, affordable)
    chosen = np.unique(np.linspace(0, count - 1, size).astype(np.int64))
    checksum = 0
    for index in chosen:
        checksum = zlib.crc32(np.ascontiguousarray(scenes.image[index]), checksum)
    return {
        "kind": "data set",
        "source": scenes.source,
        "scenes": count,
        "shape": list(scenes.image.shape[1:]),
        "checksum": f"{checksum:08x}",
    }


def difference(old, new):
    """Returns what differs between two fingerprints in words, or None if nothing does."""
    if old == new:
        return None
    if old["kind"] != new["kind"]:
        return f"a {old['kind']} before, a {new['kind']} now"
    if old["kind"] == "folder":
        return _difference_of_pictures(old["pictures"], new["pictures"])

    changed = [
        f"{name} {old[name]} before, {new[name]} now"
        for name in ("source", "scenes", "shape")
        if old[name] != new[name]
    ]
    return ", ".join(changed or ["other pictures in as many scenes"])


def read(path):
    """Returns the fingerprint in a file that `tfobj.training` wrote.

    Raises:
      FileNotFoundError: there is none.
      UserError: the file is damaged.
    """
    content = files.read_json(path, keys={"kind": str})
    kinds = {
        "folder": {"pictures": dict},
        "data set": {"source": str, "scenes": int, "shape": list, "checksum": str},
    }
    if content["kind"] not in kinds:
        raise UserError(f"`{path}` is damaged (unknown kind {files.excerpt(content['kind'])}).")
    files.check_keys(content, f"`{path}`", kinds[content["kind"]])
    return content


def _difference_of_pictures(old, new):
    groups = {
        "added": [name for name in new if name not in old],
        "removed": [name for name in old if name not in new],
        "changed": [name for name in new if old.get(name, new[name]) != new[name]],
    }
    return ", ".join(
        f"{len(names):,} {group} ({_shortened(names)})" for group, names in groups.items() if names
    )


def _shortened(names):
    shown = [files.excerpt(name) for name in sorted(names)[:_SHOWN]]
    return ", ".join(shown + ["..."] * (len(names) > _SHOWN))


def _digest_of_picture(path):
    """Returns 32 hexadecimal digits of a file's content; None if it is no picture."""
    from PIL import Image

    try:
        with foreign_decoder(path), Image.open(path):
            pass
    except Unreadable:
        return None

    digest = hashlib.blake2b(digest_size=16)
    try:
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    except OSError as e:
        raise UserError(f"`{path}` cannot be read ({e.strerror or e}).") from e
    return digest.hexdigest()
