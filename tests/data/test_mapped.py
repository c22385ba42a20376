"""A mapped file that becomes shorter ends the program with one line."""

import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]

PROGRAM = """
import os, sys, threading
import numpy as np
from tfobj.data import mapped

folder, where = sys.argv[1:]
names = [os.path.join(folder, name) for name in ("image.npy", "other.npy")]
for name in names:
    np.save(name, np.ones((100, 100_000), np.uint8))
image, other = [np.load(name, mmap_mode="c") for name in names]
mapped.watch(names[:1])
assert mapped.shortened() == []

def read(array):
    for _ in range(3):
        array[50:].sum()

read(image)
if where == "thread":
    os.truncate(names[0], 5000)
    threads = [threading.Thread(target=read, args=[image]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
elif where == "main":
    os.truncate(names[0], 5000)
    read(image)
elif where == "longer":
    os.truncate(names[0], 100_000_000)
    read(image)
elif where == "unwatched":
    os.truncate(names[1], 5000)
    read(other)
print("survived")
"""


def run(tmp_path, where):
    """Runs the program; returns the finished process."""
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path), where],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("where", ["main", "thread"])
def test_a_file_that_becomes_shorter_is_named(tmp_path, where):
    process = run(tmp_path, where)
    assert process.returncode == 2
    assert process.stdout == ""
    (line,) = process.stderr.strip().splitlines()
    assert line.startswith(f"error: `{tmp_path}/image.npy` became shorter while it was read")
    assert f"Delete the folder {tmp_path} " in line


def test_other_faults_end_as_they_did(tmp_path):
    process = run(tmp_path, "unwatched")
    assert process.returncode == -7  # SIGBUS
    assert process.stderr == ""


def test_a_file_that_becomes_longer_is_read_on(tmp_path):
    process = run(tmp_path, "longer")
    assert (process.returncode, process.stdout) == (0, "survived\n")
