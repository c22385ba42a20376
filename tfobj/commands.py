"""What all commands share: quiet start, errors in one line, exit codes."""

import os
import sys

# Before TensorFlow is imported: its start-up notes hide the lines that matter.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

MISTAKE = 2
"""Exit status after a `UserError`."""


def run(main):
    """Runs `main(argv)` under absl; a `UserError` is printed as one line and ends with status 2."""
    from absl import app, flags, logging

    from tfobj.errors import UserError

    def guarded(argv):
        if not flags.FLAGS["verbosity"].present:
            logging.set_verbosity(logging.ERROR)  # libraries narrate their file handling at INFO
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
            return app.parse_flags_with_usage(argv)
        except flags.Error as e:
            print(f"error: {e}", file=sys.stderr)
            sys.exit(MISTAKE)

    app.run(guarded, flags_parser=parse)


def refuse_arguments(argv):
    """Raises a `UserError` for words that are no flags, e.g. a forgotten `--`."""
    from tfobj.errors import UserError

    if len(argv) > 1:
        raise UserError(f"Unexpected argument {argv[1]!r}; settings are given as --flag=value, see --help.")
