"""Files and folders that appear complete or not at all; JSON that is checked when it is read."""

import contextlib
import json
import os
import pathlib
import re
import shutil

import tfobj
from tfobj.errors import UserError, first_line

_KINDS = {
    dict: "an object",
    list: "a list",
    str: "a text",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    type(None): "null",
}
"""Python type -> what JSON calls its values."""

_PARTIAL = re.compile(r"\..*\.(\d+)\.partial.*")
"""Names of the temporary files of `atomic_path`, with the number of the process."""

_LONGEST_EXCERPT = 60
"""Characters of a wrong value that a message repeats."""


def read_json(path, kind=dict, keys=None):
    """Returns the content of a JSON file.

    Args:
      path: the file.
      kind: type of the content, dict or list.
      keys: key -> type, or tuple of types, of entries that the object must have.

    Raises:
      FileNotFoundError: there is no such file.
      UserError: it cannot be read, is no JSON, or holds something else; names the file.
    """
    path = pathlib.Path(path)
    try:
        text = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as e:
        raise FileNotFoundError(e.errno, "No such file", os.fspath(path)) from e
    except OSError as e:
        raise UserError(f"`{path}` cannot be read ({e.strerror or e}).") from e
    return parse_json(text, f"`{path}`", kind, keys)


def parse_json(text, name, kind=dict, keys=None):
    """Returns the content of a JSON text; arguments as for `read_json`.

    Args:
      text: str, or bytes in UTF-8.
      name: what the text is, for the message.
      kind: type of the content; None allows any.
      keys: as for `read_json`.

    Raises:
      UserError: the text is no JSON (NaN and Infinity are none), or holds something else.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8-sig")
        content = json.loads(text, parse_constant=_refuse_constant)
    except RecursionError as e:
        raise UserError(f"{name} is damaged (it is nested too deeply).") from e
    # Broken JSON, bytes that are not UTF-8, numbers of more than 4,300 digits.
    except ValueError as e:
        raise UserError(f"{name} is damaged ({first_line(e)}).") from e

    if kind is not None and not is_json(content, kind):
        raise UserError(
            f"{name} is damaged (it must hold {describe_kind(kind)}. "
            f"Received: {describe_kind(type(content))})."
        )
    if keys:
        check_keys(content, name, keys)
    return content


def check_keys(content, name, keys):
    """Checks that an object of JSON has entries of given types.

    Args:
      content: dict.
      name: what the object is, for the message.
      keys: key -> type, or tuple of types; int is no bool, and float is any number.

    Raises:
      UserError: an entry is missing or of another type; names it.
    """
    missing = [key for key in keys if key not in content]
    if missing:
        raise UserError(f"{name} is damaged (without {', '.join(missing)}).")
    for key, kind in keys.items():
        if not is_json(content[key], kind):
            raise UserError(
                f"{name} is damaged (`{key}` must be {describe_kind(kind)}. "
                f"Received: {excerpt(content[key])})."
            )


def is_json(value, kind):
    """Returns whether a value of JSON is of a type, or of one of several.

    Unlike in Python, true is no number, and an integer serves as a float.
    """
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if isinstance(value, bool):
        return bool in kinds
    if float in kinds and isinstance(value, int):
        return True
    return isinstance(value, kinds)


def describe_kind(kind):
    """Returns a type, or several, in words: "an object", "a number or null"."""
    kinds = kind if isinstance(kind, tuple) else (kind,)
    return " or ".join(_KINDS[k] for k in kinds)


def excerpt(value):
    """Returns a value as one line of bounded length."""
    try:
        text = repr(value)
    # Nested more deeply than Python prints, or a number of more than 4,300 digits.
    except (RecursionError, ValueError):
        text = type(value).__name__
    if len(text) > _LONGEST_EXCERPT:
        text = f"{text[:_LONGEST_EXCERPT]}..."
    return text


def _refuse_constant(name):
    raise ValueError(f"{name} is no number of JSON")


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


def remove_partial_files(folder):
    """Removes what killed processes of this machine left in a folder, instead of `atomic_path`."""
    for path in pathlib.Path(folder).rglob(".*.partial*"):
        match = _PARTIAL.fullmatch(path.name)
        if match and not _is_alive(int(match[1])):
            with contextlib.suppress(OSError):
                path.unlink()


def _is_alive(process):
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # Of another user.
        return True
    return True


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
