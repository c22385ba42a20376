"""Scenes from several processes, in order: for generators that take far longer than sending their scenes does.

The processes are fresh Python interpreters that import the generator's module alone. They are not forked, because
TensorFlow's threads do not survive a fork; and they are not started by `multiprocessing`, which would run the
program's main module again in each of them (TensorFlow in `tfds build`, everything in a script without a
`__main__` guard). They end with the pipe that feeds them, whatever ended the program at its other end.
"""

import collections
import concurrent.futures
import contextlib
import os
import pickle
import queue
import signal
import subprocess
import sys
import traceback

from tfobj.errors import UserError

VARIABLE = "TFOBJ_PROCESSES"
"""Environment variable: the number of processes that generate scenes; 1 generates in the program itself."""

_AHEAD = 2
"""Results held ready per process, so that none waits for a slow consumer."""


def default_processes():
    """Returns the number of processes: $TFOBJ_PROCESSES, or as many as there are cores for this program.

    Raises:
      UserError: if the variable is no positive number.
    """
    text = os.environ.get(VARIABLE)
    if not text:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if not text.isdecimal() or int(text) < 1:
        raise UserError(
            f"`{VARIABLE}` must be a number of processes, at least 1. Received: {VARIABLE}={text}."
        )
    return int(text)


def ordered_map(function, items, num_processes=None):
    """Yields function(item) in the order of `items`, computed by several processes.

    Args:
      function: picklable, of a module that a fresh interpreter can import; its results must be picklable.
      items: sequence of picklable items.
      num_processes: None is `default_processes()`; 1, or a single item, stays in this process.

    Raises:
      Whatever `function` raises, at the item that it raised it for, with the traceback of its process as a note.
      UserError: if a process was killed.
    """
    num_processes = min(default_processes() if num_processes is None else num_processes, len(items))
    if num_processes <= 1:
        yield from map(function, items)
        return
    with contextlib.ExitStack() as stack:
        threads = stack.enter_context(concurrent.futures.ThreadPoolExecutor(num_processes))
        idle = queue.SimpleQueue()
        for _ in range(num_processes):
            # Left before the threads are: a thread that waits for its process is freed by the process's end.
            idle.put(stack.enter_context(_Process(function)))

        def run(item):
            process = idle.get()
            try:
                return process.call(item)
            finally:
                idle.put(process)

        results = collections.deque()
        try:
            for item in items:
                results.append(threads.submit(run, item))
                if len(results) >= num_processes * _AHEAD:
                    yield results.popleft().result()
            while results:
                yield results.popleft().result()
        finally:
            for result in results:
                result.cancel()


class _Process:
    """A fresh interpreter that applies one function to one item after the other."""

    def __init__(self, function):
        path = os.pathsep.join(os.path.abspath(folder) for folder in sys.path)
        threads = dict.fromkeys(
            ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"
        )  # one process per core
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", f"from {__name__} import serve; serve()"],
            env={**os.environ, **threads, "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._function = function

    def call(self, item):
        try:
            # In two layers, so that a function that cannot be imported there is an error of this call.
            pickle.dump(pickle.dumps((self._function, item)), self._process.stdin)
            self._process.stdin.flush()
            result, error, where = pickle.load(self._process.stdout)
        except (EOFError, OSError, pickle.UnpicklingError) as e:
            status = self._process.wait()
            raise UserError(
                f"A process that generates scenes ended with status {status} (-9: the memory was full). "
                f"Set {VARIABLE} to a smaller number of processes than {default_processes()}."
            ) from e
        if error is not None:
            error.add_note(where)
            raise error
        return result

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):  # what was not sent is not needed any more
                pipe.close()


def serve():
    """The life of a process: reads a function and items from standard input, writes results to standard output."""
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches all processes of a terminal; the first one decides
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what the function prints must not get between the results
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            answer = _answer(pickle.load(sys.stdin.buffer))
            output.write(answer)
            output.flush()


def _answer(call):
    """Returns the pickled (result, None, None), or (None, error, its traceback), of a call."""
    try:
        function, item = pickle.loads(call)
        return pickle.dumps((function(item), None, None), pickle.HIGHEST_PROTOCOL)
    except Exception as error:  # whatever it is, it is the caller's
        return _pickled_error(error)


def _pickled_error(error):
    where = "".join(traceback.format_exception(error))
    try:
        answer = pickle.dumps((None, error, where))
        pickle.loads(answer)  # exceptions with arguments of their own may be written and not read
        return answer
    except Exception:
        return pickle.dumps((None, RuntimeError(f"{type(error).__name__}: {error}"), where))
