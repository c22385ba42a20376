"""Opens the HDF5 files of published datasets."""

import contextlib

import h5py

from tfobj.errors import UserError, first_line


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
    except (OSError, RuntimeError) as error:
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
    return ", ".join(group) or "nothing"
