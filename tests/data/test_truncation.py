"""Files that end early by their own structure, and those that are only unusual."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from tfobj.data.truncation import find_damage


def box(kind, content):
    return struct.pack(">I4s", 8 + len(content), kind) + content


def riff(content, extra=0):
    return b"RIFF" + struct.pack("<I", len(content) + extra) + content


MP4 = box(b"ftyp", b"isom" * 4) + box(b"moov", bytes(40))
LARGE_BOX = struct.pack(">I4sQ", 1, b"mdat", 16 + 50) + bytes(50)
EBML = b"\x1a\x45\xdf\xa3\x84webm\x18\x53\x80\x67"

WHOLE = {
    "boxes": MP4 + box(b"mdat", bytes(100)),
    "a box with a long length": MP4 + LARGE_BOX,
    "a box up to the end": MP4 + struct.pack(">I4s", 0, b"mdat") + bytes(100),
    "zeros at the end": MP4 + bytes(4),
    "riff": riff(b"AVI " + bytes(60)),
    "riff of odd length": riff(b"WEBP" + bytes(61)),
    "riff that counts its header": riff(b"AVI " + bytes(60), 8),
    "riff of a recorder": riff(b"AVI " + bytes(60), -64),
    "two riffs": riff(b"AVI " + bytes(60)) + riff(b"AVIX" + bytes(60)),
    "matroska": EBML + b"\x40\x64" + bytes(100),
    "matroska of unknown length": EBML + b"\x01" + b"\xff" * 7 + bytes(100),
    "other files": b"\xff\xd8\xff" + bytes(100),
    "nothing": b"",
}
CUT = ("boxes", "a box with a long length", "riff", "two riffs", "matroska")


def test_whole_files_have_no_damage(tmp_path):
    for name, content in WHOLE.items():
        assert find_damage(io.BytesIO(content)) is None, name
    (tmp_path / "a").write_bytes(WHOLE["boxes"])
    assert find_damage(tmp_path / "a") is None


@pytest.mark.parametrize("name", CUT)
def test_files_that_were_cut_end_too_early(name):
    content = WHOLE[name]
    for missing in (9, 20, 40):
        file = io.BytesIO(content[:-missing])
        assert find_damage(file) == "the file ends too early"
        assert file.tell() == 0


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_every_cut_of_a_picture_is_found(kind):
    buffer = io.BytesIO()
    frames = [
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (6, 6, 3), np.uint8))
        for i in range(2)
    ]
    frames[0].save(buffer, kind, save_all=True, append_images=frames[1:])
    content = buffer.getvalue()
    assert find_damage(io.BytesIO(content)) is None
    assert find_damage(io.BytesIO(content + b"more")) is None
    for length in range(8, len(content)):
        assert find_damage(io.BytesIO(content[:length])) is not None, length
