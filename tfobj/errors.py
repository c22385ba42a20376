"""The one exception for mistakes that a user can correct, and the one warning beside it."""

import difflib
import re

_OPERATION = re.compile(r"^\{\{[^{}]*\}\}|\s*\[Op:\w+\].*$")


class UserError(ValueError):
    """A wrong argument, name, file or setting; the message is one line that says what to change.

    Commands print only the message and exit with status 2; users of the library see a ValueError.
    """


class UserNote(UserWarning):
    """What a user should know although the work goes on, such as skipped files; one line.

    Commands print only the message.
    """


def unknown_name(kind, name, valid):
    """Returns the `UserError` for an unknown name; it gives the nearest and all valid ones.

    Args:
      kind: kind of the name, such as "model" or "dataset".
      name: the unknown name.
      valid: the valid names.
    """
    valid = sorted(map(str, valid))
    nearest = difflib.get_close_matches(str(name), valid, n=1, cutoff=0.5)
    hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
    return UserError(f"Unknown {kind} {name!r}.{hint} Valid: {', '.join(valid)}.")


def first_line(error):
    """Returns the first line of another library's error, or its class if the message is empty.

    What TensorFlow adds about the operation is left out.
    """
    text = str(error).strip() or type(error).__name__
    line = text.splitlines()[0]
    return _OPERATION.sub("", line).strip() or line


def failed_assertion(error):
    """Returns the message of an assertion that failed in a graph, or None for another error.

    An `Assert` op prints its message and its values as "assertion failed: [m] [v] [v]".
    """
    _, found, message = str(error).partition("assertion failed: [")
    if not found:
        return None
    line = message.splitlines()[0]
    return line.replace("] [", " ").rstrip("] ")


def printable(name):
    """Returns a name or text for a message: what would break the line or the output is escaped.

    File names may hold line breaks, and bytes that are no UTF-8.
    """
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in str(name)
    )
