"""HDF5 files of other people: whatever goes wrong is one line, and chunks have a bound."""

import h5py
import numpy as np
import pytest

from tfobj.datasets import hdf5_files
from tfobj.errors import UserError


@pytest.fixture
def path(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["small"] = np.zeros(3, np.uint8)
        shape = (1 << 16, 1 << 15)
        file.create_dataset("large", shape, np.uint8, chunks=shape, compression="gzip")
        file.create_dataset("plain", (1 << 20, 1 << 20), np.uint8)
    return tmp_path / "a.h5"


@pytest.mark.parametrize("error", [KeyError("x"), OSError("a\nb"), TypeError(), ValueError("y")])
def test_errors_while_a_file_is_open_name_it(path, error):
    message = "a.h5` is damaged or was not downloaded completely: .*again from https://"
    with pytest.raises(UserError, match=message) as raised, hdf5_files.opened(path, "https://x"):
        raise error
    assert "\n" not in str(raised.value)


def test_our_own_refusals_stay_as_they_are(path):
    with pytest.raises(UserError, match="^mine$"), hdf5_files.opened(path, "https://x"):
        raise UserError("mine")


def test_chunks_that_unpack_to_gigabytes_are_refused(path):
    with hdf5_files.opened(path, "https://x") as file:
        hdf5_files.check_chunk(file["small"], path)
        # Without chunks, no more is read than is asked for.
        hdf5_files.check_chunk(file["plain"], path)
        message = "/large of `.*a.h5` must have chunks of at most .* Received: 2,147,483,648"
        with pytest.raises(UserError, match=message):
            hdf5_files.check_chunk(file["large"], path)
