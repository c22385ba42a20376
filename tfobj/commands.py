"""Shared by all commands: quiet start, errors in one line, exit codes."""

import contextlib
import os
import pathlib
import sys
import tempfile

MISTAKE = 2
"""Exit status after a `UserError`."""


@contextlib.contextmanager
def quiet_start():
    """Hides the dozen lines that TensorFlow's C++ code prints while it loads.

    On a machine with an NVIDIA driver they are shown after all if no GPU was found: they say why.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
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

        if pathlib.Path("/dev/nvidia0").exists() and not tf.config.list_physical_devices("GPU"):
            captured.seek(0)
            sys.stderr.write(captured.read().decode(errors="replace"))


def load_tensorflow():
    """Imports TensorFlow quietly and lets it look for devices; for the start of a command."""
    with quiet_start():
        import tensorflow as tf

        tf.config.list_physical_devices()


def run(main):
    """Runs `main(argv)` under absl; a `UserError` is printed as one line and gives status 2."""
    from absl import app, flags, logging

    from tfobj.errors import UserError, unknown_name

    def guarded(argv):
        if not flags.FLAGS["verbosity"].present:
            # Libraries narrate their file handling at INFO.
            logging.set_verbosity(logging.ERROR)
        try:
            return main(argv)
        except UserError as e:
            print(f"error: {e}", file=sys.stderr)
        except OSError as e:
            if e.filename is None:
                raise
            print(f"error: `{e.filename}`: {e.strerror}.", file=sys.stderr)
        return MISTAKE

    def parse(argv):
        try:
            return flags.FLAGS(argv)
        except flags.UnrecognizedFlagError as e:
            own = [flag.name for flag in flags.FLAGS.get_key_flags_for_module(argv[0])]
            mistake = unknown_name("flag", e.flagname, own)
        except flags.Error as e:
            mistake = " ".join(str(e).split())
        print(f"error: {mistake}", file=sys.stderr)
        sys.exit(MISTAKE)

    app.run(guarded, flags_parser=parse)


def refuse_arguments(argv):
    """Raises a `UserError` for words that are not flags, e.g. after a forgotten `--`."""
    from tfobj.errors import UserError

    if len(argv) > 1:
        raise UserError(
            f"Unexpected argument {argv[1]!r}; settings are given as --flag=value, see --help."
        )
