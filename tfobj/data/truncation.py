"""Finds files that end before their own structure does, or whose checksums are wrong.

Decoders of pictures and videos often take a file that was cut short for a shorter one: FFmpeg ends
the video there, and Pillow the animation. Nothing is decoded here: containers are walked by the
lengths that they state. JPEG, TIFF, BMP and others state none; their decoders report a cut.
"""

import contextlib
import os
import struct
import zlib

_PNG = b"\x89PNG\r\n\x1a\n"
_EBML = b"\x1a\x45\xdf\xa3"
_SEGMENT = b"\x18\x53\x80\x67"
_BLOCK = 1 << 20
"""Bytes of a PNG chunk that are checked at a time."""

_UNKNOWN_SIZES = (0, 0xFFFFFFFF)
"""What live recorders write where they do not know the length yet."""


def find_damage(source):
    """Returns what is wrong with the structure of a file, in a few words, or None.

    Args:
      source: path, or a seekable binary file object, which is left at its start.

    Raises:
      OSError: the file cannot be opened.
    """
    with contextlib.ExitStack() as stack:
        file = source
        if not hasattr(source, "read"):
            file = stack.enter_context(open(source, "rb"))
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        head = file.read(12)
        try:
            _walk(file, head, size)
        except _Damage as damage:
            return str(damage)
        finally:
            file.seek(0)
    return None


class _Damage(Exception):
    """What is wrong, in a few words."""

    def __init__(self, what="the file ends too early"):
        super().__init__(what)


def _walk(file, head, size):
    """Walks the structure of a file, which its first bytes tell; raises `_Damage`."""
    if head.startswith(_PNG):
        _walk_png(file, size)
    elif head.startswith((b"GIF87a", b"GIF89a")):
        _walk_gif(file, size)
    elif head.startswith(b"RIFF"):
        _walk_riff(file, size)
    elif head.startswith(_EBML):
        _walk_ebml(file, size)
    elif head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        _walk_boxes(file, size)


def _read(file, count):
    """Returns the next `count` bytes."""
    content = file.read(count)
    if len(content) < count:
        raise _Damage
    return content


def _skip(file, count, size):
    """Skips `count` bytes, which must lie within the file."""
    if file.seek(count, os.SEEK_CUR) > size:
        raise _Damage


def _walk_png(file, size):
    """Walks the chunks of a PNG file up to its end chunk, and checks the sum of each."""
    file.seek(len(_PNG))
    kind = b""
    while kind != b"IEND":
        length, kind = struct.unpack(">I4s", _read(file, 8))
        if file.tell() + length + 4 > size:
            raise _Damage

        checksum = zlib.crc32(kind)
        for start in range(0, length, _BLOCK):
            checksum = zlib.crc32(_read(file, min(_BLOCK, length - start)), checksum)
        if checksum != int.from_bytes(_read(file, 4), "big"):
            raise _Damage(f"a checksum is wrong before byte {file.tell():,}")


def _walk_gif(file, size):
    """Walks the blocks of a GIF file up to its trailer."""
    file.seek(6)
    _skip_palette(file, _read(file, 7)[4], size)
    while True:
        kind = _read(file, 1)
        if kind == b";":
            return
        if kind == b"!":
            _skip(file, 1, size)
        elif kind == b",":
            _skip_palette(file, _read(file, 9)[8], size)
            _skip(file, 1, size)
        elif kind == b"\0":
            # Some writers leave an empty block between others.
            continue
        else:
            raise _Damage(f"unknown content before byte {file.tell():,}")

        length = -1
        while length:
            length = _read(file, 1)[0]
            _skip(file, length, size)


def _skip_palette(file, flags, size):
    """Skips the palette that the flags of a GIF block announce."""
    if flags & 0x80:
        _skip(file, 3 << ((flags & 7) + 1), size)


def _walk_riff(file, size):
    """Walks the RIFF chunks of a WebP or AVI file; long AVI files have several."""
    file.seek(0)
    while True:
        header = file.read(8)
        if len(header) < 8 or not header.startswith(b"RIFF"):
            return
        length = int.from_bytes(header[4:], "little")
        if length in _UNKNOWN_SIZES:
            return
        # Some writers count this header as well.
        _skip(file, max(0, length - 8), size)
        # Chunks begin at even places; the last one may lack its pad byte.
        file.seek(min(length, 8) + length % 2, os.SEEK_CUR)


def _walk_boxes(file, size):
    """Walks the outer boxes of an MP4, MOV, M4V or AVIF file."""
    file.seek(0)
    while True:
        start = file.tell()
        header = file.read(8)
        # Some writers end with a few zeros.
        if not any(header):
            return
        if len(header) < 8:
            raise _Damage
        length, kind = struct.unpack(">I4s", header)
        if length == 0 or not kind.isalnum():
            # Up to the end of the file, or no box at all.
            return
        if length == 1:
            length = int.from_bytes(_read(file, 8), "big")
        if length < 8:
            raise _Damage(f"unknown content at byte {start:,}")
        if start + length > size:
            raise _Damage
        file.seek(start + length)


def _walk_ebml(file, size):
    """Compares the length of a Matroska or WebM file with what its segment states."""
    file.seek(len(_EBML))
    header = _read_length(file)
    if header is None:
        return
    _skip(file, header, size)
    if _read(file, 4) != _SEGMENT:
        return
    length = _read_length(file)
    if length is not None:
        _skip(file, length, size)


def _read_length(file):
    """Returns the next length in EBML's variable form; None is one that was not known."""
    first = _read(file, 1)[0]
    if not first:
        return None
    width = 9 - first.bit_length()
    rest = _read(file, width - 1)
    value = int.from_bytes(bytes([first & (0xFF >> width)]) + rest, "big")
    if value == (1 << 7 * width) - 1:
        return None
    return value
