"""Files and folders that appear complete or not at all."""

import contextlib
import os
import pathlib
import shutil

import tfobj
from tfobj.errors import UserError


def shipped(name):
    """Returns the folder `name` that comes with the package: "saved_models", "results", "datasets".

    In a checkout it stands beside `tfobj/`, installed inside.
    """
    places = [pathlib.Path(folder, name) for folder in tfobj.__path__]
    return next((place for place in places if place.is_dir()), places[0])


@contextlib.contextmanager
def atomic_path(path):
    """Yields a temporary path to write to, beside `path`, whose place it then takes.

    Readers find the old file or the new one, also after a kill. The folder of `path` is made if
    necessary. The temporary name keeps the suffix, from which some writers choose the format.

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


@contextlib.contextmanager
def atomic_folder(folder, replace=False):
    """Yields a temporary folder to fill, beside `folder`, whose place it then takes.

    The folders above are made if necessary.

    Args:
      folder: its place.
      replace: whether it replaces an existing folder; otherwise only an empty one is replaced.

    Raises:
      UserError: it cannot be written, or `folder` exists and is not replaced.
    """
    folder = pathlib.Path(folder)
    partial = folder.with_name(f".incomplete_{folder.name}_{os.getpid()}")
    replaced = partial.with_name(f"{partial.name}_replaced")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        yield partial
        if replace and folder.exists():
            folder.rename(replaced)
        partial.rename(folder)
    except OSError as e:
        raise UserError(f"`{folder}` cannot be written ({e.strerror or e}).") from e
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)


def write_text(path, text):
    """Writes `text` to `path`, completely or not at all."""
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8")


def fill_between(path, begin, end, text, check=False, command=""):
    """Replaces the lines between two marker lines of a document by generated `text`.

    Args:
      path: the document.
      begin: first marker line, which stays.
      end: second marker line, which stays.
      text: the new lines.
      check: whether to change nothing and only check that the document is up to date.
      command: command that makes `text`, for the message.

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
