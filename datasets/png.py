"""PNG encoding without an imaging library, for builders that write tens of thousands of images."""

import struct
import zlib

_SIGNATURE = b"\x89PNG\r\n\x1a\n"

_COLOR_TYPES = {1: 0, 3: 2}
"""Number of channels -> PNG colour type, grayscale or RGB."""


def encode(image, level=3):
    """Encodes an image losslessly.

    Rows are stored unfiltered, which is close to the best choice for flat-coloured scenes. A 35x35
    Tetris image takes 16 microseconds (Pillow: 66) and 231 bytes (Pillow: 253).

    Args:
      image: uint8 [H, W, C] with one or three channels.
      level: zlib level, 0-9.

    Returns:
      The bytes of a PNG file.

    Raises:
      ValueError: if the image has another dtype or number of channels.
    """
    height, width, channels = image.shape
    if image.dtype != "uint8" or channels not in _COLOR_TYPES:
        raise ValueError(
            "`image` must be uint8 with 1 or 3 channels. "
            f"Received: dtype={image.dtype}, shape={image.shape}."
        )

    # Every row starts with the number of its filter; 0 is none.
    rows = image.reshape(height, width * channels)
    unfiltered = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", width, height, 8, _COLOR_TYPES[channels], 0, 0, 0)
    chunks = (
        _chunk(b"IHDR", header),
        _chunk(b"IDAT", zlib.compress(unfiltered, level)),
        _chunk(b"IEND", b""),
    )
    return b"".join((_SIGNATURE, *chunks))


def _chunk(kind, payload):
    length = struct.pack(">I", len(payload))
    checksum = struct.pack(">I", zlib.crc32(kind + payload))
    return length + kind + payload + checksum
