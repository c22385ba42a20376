"""Files that appear whole or not at all."""

import contextlib
import os
import pathlib

from tfobj.errors import UserError


@contextlib.contextmanager
def whole(path):
    """Yields a temporary path beside `path` to write to, which then takes its place; makes the folder if need be.

    A reader, or a kill, finds the old file or the new one. The temporary name keeps the suffix, which decides
    the format for some writers.

    Raises:
      UserError: the file cannot be written (read-only, full, not a folder).
    """
    path = pathlib.Path(path)
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        os.replace(partial, path)
    except OSError as e:
        raise UserError(f"`{path}` cannot be written ({e.strerror or e}).") from e
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def write_text(path, text):
    """Writes `text` to `path`, whole or not at all."""
    with whole(path) as partial:
        partial.write_text(text, encoding="utf-8")
