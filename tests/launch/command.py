"""Runs commands in the process of the tests; starting Python and TensorFlow takes five seconds."""

import contextlib
import importlib
import io
import os
import pathlib
import subprocess
import sys
from typing import NamedTuple

from absl import flags

from tfobj import commands

LAUNCH = pathlib.Path(__file__).resolve().parents[2] / "launch"


class Finished(NamedTuple):
    """What a command left behind, under the names of `subprocess.CompletedProcess`."""

    returncode: int
    stdout: str
    stderr: str


def run(name, *arguments, cwd):
    """Runs `python launch/<name>.py ARGUMENTS` in the folder `cwd`.

    Each run defines the command's flags anew, so that nothing is left of the runs before it, and so
    that several commands may have flags of one name.
    """
    stdout = io.StringIO()
    stderr = io.StringIO()
    # absl finds the flags that --help shows by the module's name, which for a script is
    # sys.argv[0].
    argv = [f"tfobj.launch.{name}", *map(str, arguments)]
    before = os.getcwd(), sys.argv
    os.chdir(cwd)
    sys.argv = argv
    try:
        with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
            status = _exit_status(name)
    finally:
        os.chdir(before[0])
        sys.argv = before[1]
    return Finished(status, stdout.getvalue(), stderr.getvalue())


def _exit_status(name):
    module_name = f"tfobj.launch.{name}"
    _forget_flags()
    sys.modules.pop(module_name, None)
    command = importlib.import_module(module_name)
    # absl looks here for the text that --help shows.
    main_module = sys.modules["__main__"]
    sys.modules["__main__"] = command
    try:
        commands.run(command.main)
    except SystemExit as e:
        if isinstance(e.code, str):
            print(e.code, file=sys.stderr)
            return 1
        return e.code or 0
    finally:
        sys.modules["__main__"] = main_module
    raise AssertionError("absl ends with SystemExit.")


def _forget_flags():
    """Removes the flags that commands have defined."""
    values = flags.FLAGS
    for module, defined in list(values.flags_by_module_dict().items()):
        if module.startswith(("tfobj.launch", "launch")) or module.endswith(".py"):
            for flag in list(defined):
                if flag.name in values:
                    delattr(values, flag.name)


def run_process(name, *arguments, cwd):
    """Runs a command as a user does, in a process of its own."""
    return subprocess.run(
        [sys.executable, str(LAUNCH / f"{name}.py"), *map(str, arguments)],
        cwd=cwd,
        text=True,
        capture_output=True,
        timeout=900,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )


def assert_mistake(finished, message):
    """Asserts that a command ended with status 2 and one line that contains `message`."""
    assert finished.returncode == 2, finished.stderr
    errors = [line for line in finished.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1, finished.stderr
    assert message in errors[0], finished.stderr
    assert "Traceback" not in finished.stderr
