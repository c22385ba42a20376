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


def fill_between(path, begin, end, text, check=False, command=""):
    """Replaces what stands between two marker lines of a document by generated `text`.

    Args:
      path: the document.
      begin, end: the marker lines, which stay.
      text: what to put there.
      check: change nothing.
      command: what makes `text`, for the messages.

    Returns:
      Whether the document was changed.

    Raises:
      UserError: a marker is missing; or `check`, and the document is not up to date.
    """
    path = pathlib.Path(path)
    old = path.read_text(encoding="utf-8")
    before, found_begin, rest = old.partition(begin)
    _, found_end, after = rest.partition(end)
    if not found_begin or not found_end:
        raise UserError(f"{path.name} must have the lines {begin!r} and {end!r}.")
    new = f"{before}{begin}\n{text}\n{end}{after}"
    if new == old:
        return False
    if check:
        raise UserError(f"{path.name} is not up to date; run `{command}`.")
    write_text(path, new)
    return True
