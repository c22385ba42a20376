"""Generates scenes in several processes and yields them in order.

This pays for generators that take far longer than sending their scenes does.

The processes are fresh Python interpreters that import only the generator's module. They are not
forked, because TensorFlow's threads do not survive a fork. `multiprocessing` does not start them,
because it would run the program's main module again in each of them (TensorFlow in `tfds build`,
everything in a script without a `__main__` guard). They end when the pipe that feeds them closes,
however the program at its other end stopped.
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
"""Environment variable with the number of processes that generate scenes.

The value 1 generates them in the program itself.
"""

_AHEAD = 2
"""Results held ready per process, so that no process waits for a slow consumer."""

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def default_processes():
    """Returns $TFOBJ_PROCESSES, or by default the number of cores that this program may use.

    Raises:
      UserError: if the variable is not a positive number.
    """
    text = os.environ.get(VARIABLE)
    if text:
        if not text.isdecimal() or int(text) < 1:
            raise UserError(
                f"`{VARIABLE}` must be a number of processes, at least 1. "
                f"Received: {VARIABLE}={text}."
            )
        return int(text)

    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def ordered_map(function, items, num_processes=None):
    """Yields function(item) in the order of `items`, computed by several processes.

    Args:
      function: picklable function of a module that a fresh interpreter can import; its results must
        be picklable too.
      items: sequence of picklable items.
      num_processes: None selects `default_processes()`; 1, or a single item, stays in this process.

    Raises:
      Exception: whatever `function` raises, in place of the item's result, with the traceback of
        its process as a note.
      UserError: if a process was killed.
    """
    if num_processes is None:
        num_processes = default_processes()
    num_processes = min(num_processes, len(items))
    if num_processes <= 1:
        yield from map(function, items)
        return

    with contextlib.ExitStack() as stack:
        threads = stack.enter_context(concurrent.futures.ThreadPoolExecutor(num_processes))
        idle = queue.SimpleQueue()

        # The stack closes the processes before the threads: a thread that waits for its process
        # would otherwise keep the pool from closing.
        for _ in range(num_processes):
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
        # One process per core is enough: NumPy must not start threads of its own.
        threads = dict.fromkeys(_THREAD_VARIABLES, "1")
        path = os.pathsep.join(os.path.abspath(folder) for folder in sys.path)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", f"from {__name__} import serve; serve()"],
            env={**os.environ, **threads, "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._function = function

    def call(self, item):
        """Returns function(item), or raises its error."""
        try:
            # Pickled twice, so that a function that cannot be imported there is an error of this
            # call, and not of the process's loop.
            pickle.dump(pickle.dumps((self._function, item)), self._process.stdin)
            self._process.stdin.flush()
            result, error, where = pickle.load(self._process.stdout)
        except (EOFError, OSError, pickle.UnpicklingError) as e:
            status = self._process.wait()
            raise UserError(
                f"A process that generates scenes ended with status {status} (-9: out of memory). "
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
            # Closing sends what is still buffered, which nobody needs any more.
            with contextlib.suppress(OSError):
                pipe.close()


def serve():
    """Runs a worker: reads functions and items from standard input, writes results to output."""
    # Ctrl-C reaches all processes of a terminal, but only the main program decides what to do.
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    # Results go to the original standard output. What the function prints goes to standard error,
    # so that it cannot get between them.
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)

    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            answer = _answer(pickle.load(sys.stdin.buffer))
            output.write(answer)
            output.flush()


def _answer(call):
    """Returns (result, None, None) of a pickled call, or (None, error, traceback), pickled."""
    try:
        function, item = pickle.loads(call)
        return pickle.dumps((function(item), None, None), pickle.HIGHEST_PROTOCOL)
    except Exception as error:  # of any kind: `_Process.call` raises it again
        return _pickled_error(error)


def _pickled_error(error):
    where = "".join(traceback.format_exception(error))
    try:
        answer = pickle.dumps((None, error, where))

        # Exceptions whose `__init__` takes other arguments can be written but not read.
        pickle.loads(answer)
        return answer
    except Exception:
        return pickle.dumps((None, RuntimeError(f"{type(error).__name__}: {error}"), where))
