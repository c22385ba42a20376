"""Decoders of foreign files: their errors become one line each, and their warnings none."""

import contextlib
import logging
import threading
import warnings

from tfobj.errors import UserError, first_line, printable


class Unreadable(UserError):
    """A file that cannot be read as what it should be; others may still be readable."""


@contextlib.contextmanager
def foreign_decoder(path, where="", what="is not a picture that can be read"):
    """The border to Pillow: whatever it throws for a foreign file names that file.

    Mutated files end in OSError, SyntaxError, ValueError, IndexError, KeyError, struct.error,
    NotImplementedError, RecursionError, MemoryError and others, depending on the format: there is
    no list to catch.

    Args:
      path: of the file.
      where: words before the reason.
      what: what is wrong with the file.

    Raises:
      Unreadable: in place of any error but a `UserError`.
    """
    try:
        with _quiet:
            yield
    except UserError:
        raise
    except Exception as error:
        reason = _reason(error)
        raise Unreadable(f"`{printable(path)}` {what} ({where}{reason}).") from error


def _reason(error):
    """Returns why a decoder failed, in a few words."""
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return "of no known format"
    return printable(getattr(error, "strerror", None) or first_line(error)).rstrip(".")


class _Quiet:
    """Silences Pillow's warnings and log while any thread decodes.

    `warnings.catch_warnings` changes the process, and threads that enter and leave it in turn would
    restore one another's filters: the first one in changes them, the last one out restores them.
    """

    def __init__(self):
        self._lock = threading.Lock()
        self._depth = 0
        self._filters = None
        self._logger = logging.getLogger("PIL")
        self._level = None

    def __enter__(self):
        with self._lock:
            if not self._depth:
                self._filters = warnings.catch_warnings()
                self._filters.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\b")
                self._level = self._logger.level
                self._logger.setLevel(logging.CRITICAL)
            self._depth += 1

    def __exit__(self, *exception):
        with self._lock:
            self._depth -= 1
            if not self._depth:
                self._filters.__exit__(*exception)
                self._logger.setLevel(self._level)


_quiet = _Quiet()
