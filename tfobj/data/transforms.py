"""Pure functions on arrays of scenes, in NumPy: crop, resize, masks to labels and to bits.

Every function takes any number of leading axes and leaves its argument untouched.
"""

import numpy as np

from tfobj.errors import UserError


def crop(array, rows, columns, *, axis=-3):
    """Cuts out a window of rows `rows[0]` ... `rows[1]` - 1, and columns likewise.

    Args:
      array: [..., H, W, ...].
      rows: (first, end) with 0 <= first < end <= H.
      columns: (first, end) with 0 <= first < end <= W.
      axis: the axis of H, which that of W follows; -3 for images [..., H, W, C], -2 for label maps
        [..., H, W].

    Returns:
      A view of `array`.

    Raises:
      UserError: if the window leaves the array.
    """
    axis = axis % array.ndim
    height, width = array.shape[axis : axis + 2]
    for name, (first, end), size in (("rows", rows, height), ("columns", columns, width)):
        if not 0 <= first < end <= size:
            raise UserError(
                f"`{name}` must lie in 0 ... {size}. Received: {name}=({first}, {end})."
            )
    window = (slice(*rows), slice(*columns))
    return array[(slice(None),) * axis + window]


def resize_images(images, size):
    """Resizes bilinearly, with half-pixel centres and no antialiasing, as `tf.image.resize` does.

    Args:
      images: [..., H, W, C], uint8 or float.
      size: (height, width) of the result.

    Returns:
      [..., height, width, C] in the dtype of `images`; uint8 is rounded to nearest.

    Source: the resize of Locatello 2020 (TF 2); Greff 2019 used TF 1's, without half-pixel centres.
    """
    result = images.astype(np.float32)
    for axis, length in ((-3, size[0]), (-2, size[1])):
        axis = axis % images.ndim
        low, high, weight = _bilinear_taps(images.shape[axis], length)
        weight = weight.reshape((length,) + (1,) * (images.ndim - 1 - axis))
        below = np.take(result, low, axis)
        above = np.take(result, high, axis)
        result = below + (above - below) * weight

    if np.issubdtype(images.dtype, np.integer):
        result = np.rint(result)
    return result.astype(images.dtype)


def resize_labels(labels, size):
    """Resizes label maps [..., H, W] to the nearest neighbour, with half-pixel centres.

    No new label appears, and a one-hot mask stays one-hot.

    Returns:
      [..., height, width] in the dtype of `labels`.
    """
    height, width = labels.shape[-2:]
    rows = _nearest_taps(height, size[0])
    columns = _nearest_taps(width, size[1])
    return labels[..., rows[:, None], columns]


def labels_from_entity_masks(masks):
    """Turns exclusive masks per entity into one label map.

    Args:
      masks: uint8 [..., N, H, W] with values 0 and 255 that cover every pixel exactly once.

    Returns:
      uint8 [..., H, W], the number of the entity that owns the pixel.

    Raises:
      ValueError: if a value is neither 0 nor 255, or a pixel has no or several owners.

    Example: N = 2, H = 1, W = 3: [[[255, 0, 255]], [[0, 255, 0]]] -> [[0, 1, 0]].
    """
    owned = masks == 255
    if not (owned | (masks == 0)).all():
        raise ValueError("`masks` must hold 0 and 255 only. Received: other values.")
    owners = owned.sum(axis=-3)
    if not (owners == 1).all():
        raise ValueError(
            "`masks` must give every pixel exactly one owner. Received: pixels with "
            f"{owners.min()} to {owners.max()} owners."
        )
    return np.argmax(owned, axis=-3).astype(np.uint8)


def entity_masks_from_labels(labels, num_entities):
    """Turns a label map [..., H, W] into uint8 masks [..., N, H, W] with values 0 and 255."""
    entities = np.arange(num_entities, dtype=labels.dtype)[:, None, None]
    return np.where(labels[..., None, :, :] == entities, np.uint8(255), np.uint8(0))


def pack_masks(masks):
    """Packs binary masks, eight pixels of a row per byte.

    Args:
      masks: [..., H, W], bool or of values 0 and 1.

    Returns:
      uint8 [..., H, ceil(W / 8)]; the leftmost pixel is the highest bit, and rows are padded with
      zeros.

    Example: the row [1, 0, 0, 0, 0, 0, 0, 0, 1] -> [128, 128].
    """
    return np.packbits(masks, axis=-1)


def unpack_masks(packed, width):
    """Inverts `pack_masks`.

    Args:
      packed: uint8 [..., H, ceil(W / 8)].
      width: W.

    Returns:
      uint8 {0, 1} [..., H, W].

    Raises:
      ValueError: if rows of `width` pixels do not take that many bytes.
    """
    row_bytes = -(-width // 8)
    if packed.shape[-1] != row_bytes:
        raise ValueError(
            f"`packed` must hold rows of {row_bytes} bytes for {width} pixels. "
            f"Received: {packed.shape[-1]} bytes."
        )
    return np.unpackbits(packed, axis=-1, count=width)


def _bilinear_taps(size_in, size_out):
    """Returns both source positions and the weight of the second, each [size_out]."""
    position = np.maximum((np.arange(size_out) + 0.5) * (size_in / size_out) - 0.5, 0.0)
    low = np.minimum(np.floor(position).astype(np.int64), size_in - 1)
    high = np.minimum(low + 1, size_in - 1)
    return low, high, (position - low).astype(np.float32)


def _nearest_taps(size_in, size_out):
    """Returns the source position of every output position, [size_out]."""
    position = np.floor((np.arange(size_out) + 0.5) * (size_in / size_out)).astype(np.int64)
    return np.minimum(position, size_in - 1)
