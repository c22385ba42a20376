"""The files below a folder: links followed, loops ended, and what cannot be listed named."""

import os
import pathlib

from tfobj.errors import UserError, printable


def list_files(path, failures=None):
    """Returns the files below `path`, sorted and without hidden ones, or `path` if it is a file.

    Names that begin with a dot are hidden, with all that is below. Links to files and folders are
    followed, each once; a link to a folder that it lies in, which would never end, is not. Pipes,
    sockets and devices are left out. Links that lead nowhere are listed: whoever reads them says
    so.

    Args:
      path: folder, or file.
      failures: list that gets a `UserError` for every folder that cannot be listed; without it, the
        first such error is raised.

    Raises:
      UserError: there is no such folder, or no file in it; or see `failures`.
    """
    if not str(path).strip():
        raise UserError(f"`path` must be a folder of pictures, or a picture. Received: {path!r}.")
    path = pathlib.Path(path).expanduser()
    if os.path.isfile(path):
        return [path]
    if not os.path.isdir(path):
        reason = "no such folder"
        if os.path.exists(path):
            reason = "neither file nor folder"
        raise UserError(
            "`path` must be a folder of pictures, or a picture. "
            f"Received: {printable(path)} ({reason})."
        )

    found, errors = _walk(path)
    if errors and failures is None:
        raise errors[0]
    if errors:
        failures += errors
    if not found and not errors:
        raise UserError(
            "`path` must hold at least one picture. "
            f"Received: {printable(path)}, which has no files."
        )
    return sorted(found)


def _walk(root):
    """Returns (paths of the files below a folder, a `UserError` per folder without access)."""
    found = []
    errors = []
    # Links that were followed, by their real places: folders that link to one another in turn would
    # otherwise be walked in every order.
    followed = set()
    # Each folder with the real paths of itself and of those that it was reached through.
    folders = [(root, (pathlib.Path(os.path.realpath(root)),))]
    while folders:
        folder, above = folders.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            errors.append(UserError(f"`{printable(folder)}` cannot be listed ({error.strerror})."))
            continue

        for entry in entries:
            path = folder / entry.name
            if entry.name.startswith("."):
                continue
            if not os.path.isdir(path):
                if os.path.isfile(path) or not os.path.exists(path):
                    found.append(path)
                continue

            real = pathlib.Path(os.path.realpath(path))
            if entry.is_symlink():
                link = above[-1] / entry.name
                leads_back = any(place.is_relative_to(real) for place in above)
                if link in followed or leads_back:
                    continue
                followed.add(link)
            folders.append((path, (*above, real)))
    return found, errors
