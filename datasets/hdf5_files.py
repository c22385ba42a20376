"""Opens the HDF5 files of published datasets."""

import contextlib
import math

import h5py

from tfobj.errors import UserError, first_line, printable

LARGEST_CHUNK = 1 << 30
"""Bytes of an unpacked chunk; the published ones have at most a few hundred million."""


@contextlib.contextmanager
def opened(path, link):
    """Opens an HDF5 file for reading.

    Args:
      path: path of the file.
      link: where users download the file, for the message.

    Yields:
      The `h5py.File`.

    Raises:
      UserError: one line that names the file, if HDF5 cannot open it, or fails to read from it
        while it is open.
    """
    try:
        with h5py.File(str(path), "r") as file:
            yield file
    except UserError:
        raise
    # Damaged files surface as OSError, RuntimeError, KeyError, ValueError, TypeError, ...
    except Exception as error:
        if not h5py.is_hdf5(str(path)):
            raise UserError(
                f"`{path}` must be an HDF5 file. Received: {first_line(error)}."
            ) from error
        raise UserError(
            f"`{path}` is damaged or was not downloaded completely: {first_line(error)}. "
            f"Download it again from {link}"
        ) from error


def names(group):
    """Returns the names in a file or group for a message."""
    return printable(", ".join(map(str, group))) or "nothing"


def check_chunk(data, path):
    """Raises a `UserError` for a data set whose chunks are too large to unpack.

    HDF5 unpacks whole chunks, and one of gigabytes may take a few megabytes of the file.
    """
    size = math.prod(data.chunks or ()) * data.dtype.itemsize
    if data.chunks and size > LARGEST_CHUNK:
        raise UserError(
            f"{data.name} of `{path}` must have chunks of at most {LARGEST_CHUNK:,} bytes. "
            f"Received: {size:,}."
        )
