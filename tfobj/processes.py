"""Python processes of our own that run functions for this program.

    with Child("the measurement") as child:
        child.run(function, *arguments)         # function(*arguments) there, its result here

        child.make(Job, *arguments)             # makes an object that stays there: Job(*arguments)
        child.call(*more)                       # calls it

Functions, arguments and results travel as pickles, so a function must be importable by its module's
name. Two children work at the same time between `start` and `result`, the two halves of `run`.

A child is a fresh interpreter with the import path of this one. It is not forked, because the
threads of TensorFlow do not survive a fork; and it is not started by `multiprocessing`, which would
run the program's main module again in each child (TensorFlow in `tfds build`, everything in a
script without a `__main__` guard).

It ends with the `with` block, however the block is left, and with the pipe that feeds it, whatever
ended this program. This module imports no TensorFlow, and so neither does a child whose functions
need none.
"""

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import traceback

from tfobj.errors import UserError

_PATIENCE = 5.0
"""Seconds that a child has to end after it closed its output or wrote what is no answer."""


class ChildDied(UserError):
    """A child ended before it answered.

    Attributes:
      status: its exit status; -9 is a process that was killed, often because the memory was full.
      output: everything that it printed; empty if its output was not kept aside.
    """

    def __init__(self, message, status, output):
        super().__init__(message)
        self.status = status
        self.output = output


class Child:
    """A process that runs one function after another.

    Args:
      name: how messages call it. It precedes the text of every error raised there; None leaves
        errors as they are.
      environment: variable -> text, beside the variables of this process; None removes a variable.
      keep_output: keep everything that the child prints aside, because libraries narrate their
        start, and show it on stderr only if the child dies or fails unexpectedly. Otherwise the
        child prints to this process's stderr.
    """

    def __init__(self, name=None, environment=None, keep_output=True):
        self.name = name
        self._ended = False
        self._log = tempfile.TemporaryFile() if keep_output else None  # noqa: SIM115 (`end` does)
        self._process = subprocess.Popen(
            # -P: no folder but those of the parent's path, not even the current one.
            [sys.executable, "-P", "-c", f"from {__name__} import serve; serve()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=_child_environment(environment or {}),
        )

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.end()

    def run(self, function, *arguments, timeout=None):
        """Returns `function(*arguments)`, computed by the child; see `start` and `result`."""
        self.start(function, *arguments)
        return self.result(timeout)

    def start(self, function, *arguments):
        """Starts `function(*arguments)`; `result` must follow before the next start."""
        # In two layers, so that a function that cannot be imported there is an error of its call.
        request = pickle.dumps(pickle.dumps((function, arguments)))
        with contextlib.suppress(OSError):  # It died; `result` says so.
            self._process.stdin.write(request)
            self._process.stdin.flush()

    def result(self, timeout=None):
        """Waits for the function that was started last and returns its result.

        Args:
          timeout: seconds to wait, counted from this call; None waits for ever.

        Raises:
          ChildDied: the process ended.
          TimeoutError: it did not answer in time, and was ended.
          UserError: the function raised one; or, in a child with a name, anything else, whose
            traceback and output are shown on stderr.
          Exception: what the function raised in a child without a name, with the traceback of the
            child as a note. One that cannot be pickled becomes a `RuntimeError`.
        """
        expired = threading.Event()

        def give_up():
            expired.set()
            self._process.kill()

        with _timer(timeout, give_up):
            try:
                result, error, where = pickle.load(self._process.stdout)
            except (EOFError, OSError, pickle.UnpicklingError) as e:
                if expired.is_set():
                    raise TimeoutError(f"stopped after {timeout:.0f} s") from e
                raise self._died() from e

        if error is None:
            return result

        if isinstance(error, UserError):
            # The mistake is the user's: how the child came upon it is of no interest.
            raise error if self.name is None else UserError(f"{self.name}: {error}")
        self._show_output()
        if self.name is None:
            error.add_note(where)
            raise error
        sys.stderr.write(where)
        raise UserError(f"{self.name}: {type(error).__name__}: {error}") from error

    def make(self, job, *arguments):
        """Makes `job(*arguments)` in the child, for `call`; returns its `facts`, if it has any."""
        return self.run(_make_job, job, arguments)

    def call(self, *arguments):
        """Calls the object that `make` made; returns the result."""
        return self.run(_call_job, arguments)

    def end(self):
        """Ends the process at once; harmless if it has ended."""
        self._ended = True
        self._process.kill()
        self._process.wait()
        for file in (self._process.stdin, self._process.stdout, self._log):
            if file is not None:
                with contextlib.suppress(OSError):  # Requests not sent are not needed any more.
                    file.close()

    def _died(self):
        try:
            status = self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            # It lives, but what it wrote is no answer.
            self._process.kill()
            status = self._process.wait()
        output = self._show_output()
        name = "A child process" if self.name is None else f"The process of `{self.name}`"
        reason = " (killed; is the memory full?)" if status == -signal.SIGKILL else ""
        return ChildDied(f"{name} ended with status {status}{reason}.", status, output)

    def _show_output(self):
        """Writes the output kept aside to stderr and returns it."""
        # A thread that waits for a child hears of its end when the block is left early.
        if self._log is None or self._ended:
            return ""
        self._log.seek(0)
        output = self._log.read().decode(errors="replace")
        sys.stderr.write(output)
        return output


def _child_environment(changes):
    """Returns this process's environment with `changes` and with its import path."""
    path = os.pathsep.join(os.path.abspath(folder) for folder in sys.path)
    environment = {**os.environ, **changes, "PYTHONPATH": path}
    return {name: value for name, value in environment.items() if value is not None}


@contextlib.contextmanager
def _timer(seconds, function):
    """Calls `function` after `seconds` unless the block has been left; None never does."""
    if seconds is None:
        yield
        return

    timer = threading.Timer(max(seconds, 0.0), function)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


# What follows runs in the child.

_job = None


def _make_job(job, arguments):
    global _job
    _job = job(*arguments)
    return getattr(_job, "facts", None)


def _call_job(arguments):
    return _job(*arguments)


def serve():
    """Reads requests from standard input and writes answers to standard output until input ends."""
    # Ctrl-C reaches all processes of a terminal; the first one decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    # Prints of functions and libraries must not get between the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)

    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            answer = _answer(pickle.load(sys.stdin.buffer))
            sys.stdout.flush()  # Nothing is lost when the child is ended after this answer.
            answers.write(answer)
            answers.flush()


def _answer(request):
    """Returns the pickled (result, None, None) of a request, or (None, error, its traceback)."""
    try:
        function, arguments = pickle.loads(request)
        return pickle.dumps((function(*arguments), None, None), pickle.HIGHEST_PROTOCOL)
    except Exception as error:  # Whatever it is, it is the caller's.
        return _pickled_error(error)


def _pickled_error(error):
    where = "".join(traceback.format_exception(error))
    try:
        answer = pickle.dumps((None, error, where))
        # Exceptions with arguments of their own may be written and not read.
        pickle.loads(answer)
        return answer
    except Exception:
        return pickle.dumps((None, RuntimeError(f"{type(error).__name__}: {error}"), where))
