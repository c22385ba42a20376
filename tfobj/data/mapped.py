"""Files mapped to memory: one that becomes shorter ends the program with a line, not a signal.

Reading beyond the new end of a mapped file raises SIGBUS in whatever thread reads, mostly one of
TensorFlow, and ends the process without a word. Checking sizes cannot prevent it, since threads
read ahead at any time; reading through system calls would need a Python function in the input
pipeline, which can hang (see `pipeline`). So the signal is answered: nothing is done, and nothing
costs time, until it comes.
"""

import contextlib
import ctypes
import os
import signal
import threading

_sizes = {}
"""Path -> bytes of the files that are mapped."""
_kept = []
"""The handler, which C code calls, and the library; they live as long as the process."""
_lock = threading.Lock()
_answering = threading.Lock()

_STATUS = 2
"""Exit status, that of a mistake that a user can correct."""


def watch(paths):
    """Has the program name any of these files if it becomes shorter while it is read.

    Python runs handlers of signals in the main thread, which waits for the very thread that cannot
    go on. This one is called where the signal is raised.
    """
    if not hasattr(signal, "SIGBUS"):
        return
    with _lock:
        for path in paths:
            _sizes[os.fspath(path)] = os.path.getsize(path)
        if _kept:
            return
        library = ctypes.CDLL(None, use_errno=True)
        library.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
        library.signal.restype = ctypes.c_void_p
        handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(_answer)
        _kept.extend([handler, library])
        library.signal(signal.SIGBUS, ctypes.cast(handler, ctypes.c_void_p))


def shortened():
    """Returns the watched files that have become shorter."""
    found = []
    for path, size in _sizes.items():
        with contextlib.suppress(OSError):
            if os.path.getsize(path) < size:
                found.append(path)
    return found


def _answer(number):
    # Several threads may read at once; the first one speaks and ends the process.
    with _answering:
        paths = shortened()
        if paths:
            _end(paths[0])
        # Something else is wrong: the next attempt at the same instruction ends the process.
        _kept[1].signal(number, None)


def _end(path):
    text = (
        f"\nerror: `{path}` became shorter while it was read: another program changed it, or the "
        f"disk failed. Checkpoints are intact. Delete the folder {os.path.dirname(path)} to have "
        "it made again, and rerun the same command.\n"
    )
    os.write(2, text.encode())
    os._exit(_STATUS)
