"""Processes that wait for their turn.

    with Team() as team:
        worker = team.start("a name", Job, *arguments)   # makes Job(*arguments) in a process of its own
        worker.facts                                     # its attribute `facts`
        worker.call()                                    # job() there, its result here

A job that raises a `UserError` raises it here; one that dies raises one that says so.
"""

import contextlib
import multiprocessing
import os
import sys

from tfobj.errors import UserError

_PATIENCE = 10.0
"""Seconds that a process has to leave after it was told to."""


class Team:
    """Starts workers one after the other, and ends them all when the block is left, however it is left."""

    def __init__(self):
        self._context = multiprocessing.get_context("spawn")  # a fork would share TensorFlow's threads and locks
        self._workers = []

    def start(self, name, job, *arguments):
        """Returns the `Worker` of `job(*arguments)`, once it is made."""
        print(f"starting {name}", file=sys.stderr, flush=True)
        here, there = self._context.Pipe()
        process = self._context.Process(target=_work, args=(there, job, arguments), name=name, daemon=True)
        process.start()
        there.close()  # so that the end of the process is the end of the pipe
        worker = Worker(process, here)
        self._workers.append(worker)
        worker.facts = worker.receive()
        return worker

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        for worker in self._workers:
            worker.end()


class Worker:
    """The near end of a process."""

    def __init__(self, process, connection):
        self._process, self._connection = process, connection
        self.facts = None

    def call(self):
        """Runs the job once; returns its result."""
        self._connection.send(True)
        return self.receive()

    def receive(self):
        """Returns what the process sends next."""
        try:
            value, error = self._connection.recv()
        except (EOFError, ConnectionResetError) as e:
            self._process.join(_PATIENCE)
            raise UserError(f"The process of `{self._process.name}` ended with status {self._process.exitcode}"
                            f"{' (killed: is the memory full?)' if self._process.exitcode == -9 else ''}.") from e
        if error is not None:
            raise UserError(f"{self._process.name}: {error}")
        return value

    def end(self):
        with contextlib.suppress(OSError):
            self._connection.close()  # the job reads the end of the pipe
        self._process.join(_PATIENCE)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _work(connection, job, arguments):
    """Runs in the process."""
    from absl import logging

    logging.set_verbosity(logging.ERROR)
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # several processes share the GPU
    with contextlib.suppress(EOFError, KeyboardInterrupt, BrokenPipeError):
        try:
            made = job(*arguments)
            connection.send((made.facts, None))
            while connection.recv():
                connection.send((made(), None))
        except UserError as e:
            connection.send((None, str(e)))
