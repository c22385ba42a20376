"""Generates scenes in several processes and hands them on in order.

It pays for generators that take far longer than sending their scenes does. `tfobj.processes` says
how the processes are started, and why so.
"""

import collections
import concurrent.futures
import contextlib
import os
import queue

from tfobj.errors import UserError
from tfobj.processes import Child, ChildDied

VARIABLE = "TFOBJ_PROCESSES"
"""Environment variable: how many processes generate scenes; 1 generates in the program itself."""

_AHEAD = 2
"""Results held ready per process, so that none waits for a slow consumer."""

_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""There is one process per core."""


def default_processes():
    """Returns the number of processes: $TFOBJ_PROCESSES, or the cores that this program may use.

    Raises:
      UserError: if the variable is no positive number.
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
      function: picklable, of a module that a fresh interpreter can import; its results must be
        picklable.
      items: sequence of picklable items.
      num_processes: None is `default_processes()`; 1, or a single item, stays in this process.

    Raises:
      Exception: whatever `function` raises, at the item that it raised it for, with the traceback
        of its process as a note.
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
        for _ in range(num_processes):
            # Left before the threads are: the end of a child frees the thread that waits for it.
            idle.put(stack.enter_context(Child(environment=_ONE_THREAD, keep_output=False)))

        def run(item):
            child = idle.get()
            try:
                return child.run(function, item)
            except ChildDied as e:
                raise _killed(e.status) from e
            finally:
                idle.put(child)

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


def _killed(status):
    return UserError(
        f"A process that generates scenes ended with status {status} (-9: the memory was full). "
        f"Set {VARIABLE} to a smaller number of processes than {default_processes()}."
    )
