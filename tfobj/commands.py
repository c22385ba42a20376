"""Shared by all commands: the program `tfobj`, quiet start, errors in one line, exit codes.

`tfobj train --model=iodine` is `python launch/train.py --model=iodine`: every file of launch/ is a
subcommand, whichever way it is started.
"""

import ast
import contextlib
import os
import pathlib
import re
import runpy
import sys
import tempfile
import warnings

import tfobj
from tfobj import files, lean_import

MISTAKE = 2
"""Exit status after a `UserError`."""

_NOT_COMMANDS = ("__init__", "shared_flags")
_is_program = False
"""Whether this process was started as `tfobj`, and speaks of its commands so."""

_USAGE = """tfobj takes pictures and videos apart into their objects, without labels.

usage: tfobj COMMAND [ARGUMENTS]

{commands}

`tfobj COMMAND --help` explains a command. The same commands run from a checkout as
`python launch/COMMAND.py`, and where scripts are not on the path as `python -m tfobj COMMAND`."""


def main(argv=None):
    """Runs the program `tfobj`: the subcommand that the first argument names.

    Args:
      argv: words after the program's name; None takes those of the process.

    Returns:
      The exit status, if no command was started; commands end the process.
    """
    global _is_program
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["help"] and len(words) > 1:
        words = [words[1], "--help"]
    if not words or words[0] in ("help", "--help", "-h", "--helpfull"):
        lines = [f"  {name:<16}{text}" for name, text in summaries().items()]
        print(_USAGE.format(commands="\n".join(lines)))
        return 0
    if words[0] in ("--version", "version"):
        print(f"tfobj {tfobj.__version__}")
        return 0

    name = words[0].replace("-", "_")
    if name not in summaries():
        from tfobj.errors import unknown_name

        print(f"error: {unknown_name('command', words[0], summaries())}", file=sys.stderr)
        return MISTAKE
    _is_program = True
    sys.argv = [sys.argv[0], *words[1:]]
    # As the main module, so that absl takes its flags and its docstring for those of the program.
    runpy.run_module(f"tfobj.launch.{name}", run_name="__main__", alter_sys=True)
    return 0


def summaries():
    """Returns command -> the first sentence of its help, from the files of launch/."""
    found = {}
    for path in sorted(files.shipped("launch").glob("*.py")):
        if path.stem not in _NOT_COMMANDS:
            text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            found[path.stem] = re.split(r"[.;:](?:\s|$)", text, maxsplit=1)[0]
    return found


def spoken(command):
    """Returns what a user types for a command, the way this process was started.

    Example: "train" -> "tfobj train" or "python launch/train.py".
    """
    if _is_program:
        return f"tfobj {command}"
    return f"python launch/{command}.py"


def _speak_as_program(text):
    """Returns help with `tfobj train` in place of `python launch/train.py`."""
    return re.sub(r"(?:python )?launch/(\w+)\.py", lambda match: spoken(match[1]), text)


@contextlib.contextmanager
def quiet_start():
    """Hides the dozen lines that TensorFlow's C++ code prints while it loads.

    On a machine with an NVIDIA driver they are shown after all if no GPU was found: they say why.
    """
    # Errors stay visible where there is a driver. Elsewhere they are about the GPU that is not
    # there and kernels that a processor lacks, and what fails is a Python error all the same.
    has_driver = pathlib.Path("/dev/nvidia0").exists()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2" if has_driver else "3")
    if not any(pathlib.Path("/dev").glob("accel*")) and not pathlib.Path("/dev/vfio").exists():
        # No TPU here: while it is imported, tensorflow-tpu would for many minutes ask a cloud's
        # metadata service for one.
        os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")

    # The file descriptor, because C++ does not write to `sys.stderr`.
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as captured:
        os.dup2(captured.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)

        import tensorflow as tf

        if has_driver and not tf.config.list_physical_devices("GPU"):
            captured.seek(0)
            sys.stderr.write(captured.read().decode(errors="replace"))


def load_tensorflow(model=None):
    """Imports TensorFlow quietly and lets it look for devices.

    It takes a second or two: a command first refuses everything that can be refused without it.

    Args:
      model: name of a model whose code is imported as well.
    """
    with quiet_start():
        lean_import.load_tensorflow(model)
        import tensorflow as tf

        tf.config.list_physical_devices()


def run(main):
    """Runs `main(argv)` under absl; a `UserError` is printed as one line and gives status 2."""
    from absl import app, flags, logging

    if _is_program:
        command = sys.modules["__main__"]
        command.__doc__ = _speak_as_program(command.__doc__)

    from tfobj.errors import UserError, printable, unknown_name

    def guarded(argv):
        if not flags.FLAGS["verbosity"].present:
            # Libraries narrate their file handling at INFO.
            logging.set_verbosity(logging.ERROR)
        try:
            with _notes_as_lines():
                return main(argv)
        except UserError as e:
            print(f"error: {printable(e)}", file=sys.stderr)
        except OSError as e:
            if e.filename is None:  # A broken pipe, for example.
                raise
            print(f"error: `{printable(e.filename)}`: {e.strerror}.", file=sys.stderr)
        return MISTAKE

    def parse(argv):
        try:
            return flags.FLAGS(argv)
        except SystemExit:
            # absl has printed the help that was asked for, which it counts as a failure.
            sys.exit(0)
        except flags.UnrecognizedFlagError as e:
            own = [flag.name for flag in flags.FLAGS.get_key_flags_for_module(argv[0])]
            mistake = unknown_name("flag", e.flagname, own)
        except flags.Error as e:
            mistake = " ".join(str(e).split())
        print(f"error: {mistake}", file=sys.stderr)
        sys.exit(MISTAKE)

    try:
        app.run(guarded, flags_parser=parse)
    except BrokenPipeError:
        # The reader of our output has left, as in `tfobj list | head`. Python would complain once
        # more while it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(MISTAKE)


@contextlib.contextmanager
def _notes_as_lines():
    """Prints every `UserNote` as a line, without the place in the code that Python adds."""
    from tfobj.errors import UserNote, printable

    with warnings.catch_warnings():
        warnings.simplefilter("always", UserNote)
        usual = warnings.showwarning

        def show(message, category, *place, **more):
            if issubclass(category, UserNote):
                print(f"note: {printable(message)}", file=sys.stderr)
            else:
                usual(message, category, *place, **more)

        warnings.showwarning = show
        yield


def refuse_arguments(argv):
    """Raises a `UserError` for words that are not flags, e.g. after a forgotten `--`."""
    from tfobj.errors import UserError

    if len(argv) > 1:
        raise UserError(
            f"Unexpected argument {argv[1]!r}; settings are given as --flag=value, see --help."
        )
