"""Processes that wait for their turn.

    with Team() as team:
        worker = team.start("a name", Job, *arguments)   # makes Job(*arguments) in a process of its own
        worker.facts                                     # its attribute `facts`
        worker.call()                                    # job() there, its result here

`Job` must be importable, its arguments and results picklable. A job that raises a `UserError` raises it here; one that
dies raises one that says so, after the text that it had printed.
"""

import contextlib
import os
import pickle
import subprocess
import sys
import tempfile

from tfobj.errors import UserError

_PATIENCE = 10.0
"""Seconds that a process has to leave after it was told to."""


class Team:
    """Starts workers one after the other, and ends them all when the block is left, however it is left."""

    def __init__(self):
        self._workers = []

    def start(self, name, job, *arguments):
        """Returns the `Worker` of `job(*arguments)`, once it is made."""
        print(f"starting {name}", file=sys.stderr, flush=True)
        worker = Worker(name)
        self._workers.append(worker)
        worker.make(job, arguments)
        return worker

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        for worker in self._workers:
            worker.end()


class Worker:
    """The near end of a process. What it prints is kept aside: libraries narrate their start."""

    def __init__(self, name):
        self.name, self.facts = name, None
        self._log = tempfile.TemporaryFile()
        environment = {
            "TF_FORCE_GPU_ALLOW_GROWTH": "true",
            **os.environ,  # several processes share the GPU
            "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tfobj.bench.workers"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment,
        )

    def make(self, job, arguments):
        """Has the process make its job."""
        self.facts = self._exchange((job, arguments))

    def call(self):
        """Runs the job once; returns its result."""
        return self._exchange(None)

    def end(self):
        """Ends the process."""
        with contextlib.suppress(OSError):
            self._process.stdin.close()  # it reads the end of its input
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._log.close()

    def _exchange(self, request):
        try:
            pickle.dump(request, self._process.stdin)
            self._process.stdin.flush()
            result, mistake = pickle.load(self._process.stdout)
        except (EOFError, BrokenPipeError) as e:
            status = self._process.wait()
            self._log.seek(0)
            sys.stderr.write(self._log.read().decode(errors="replace"))
            reason = " (killed; is the memory full?)" if status == -9 else ""
            raise UserError(
                f"The process of `{self.name}` ended with status {status}{reason}."
            ) from e
        if mistake is not None:
            raise UserError(f"{self.name}: {mistake}")
        return result


def serve(requests, answers):
    """Reads (job, arguments) and then calls from a binary stream, and writes (result, mistake) to another, until the first one ends."""
    with contextlib.suppress(EOFError, KeyboardInterrupt):
        try:
            job, arguments = pickle.load(requests)
            made = job(*arguments)
            result = made.facts
            while True:
                pickle.dump((result, None), answers)
                answers.flush()
                pickle.load(requests)
                result = made()
        except UserError as e:
            pickle.dump((None, str(e)), answers)
            answers.flush()


if __name__ == "__main__":
    with os.fdopen(os.dup(1), "wb") as answers_to_parent:
        os.dup2(2, 1)  # whatever libraries print must not get between the answers
        serve(sys.stdin.buffer, answers_to_parent)
