"""The one exception for mistakes that the user can mend."""

import difflib


class UserError(ValueError):
    """A wrong argument, name, file or setting: the message is one line that says what to change.

    Commands print the message alone and exit with status 2; library users see an ordinary ValueError.
    """


def unknown_name(kind, name, valid):
    """Returns the `UserError` for an unknown `name` of a `kind` ("model", "dataset", ...): nearest and all valid names."""
    valid = sorted(map(str, valid))
    nearest = difflib.get_close_matches(str(name), valid, n=1, cutoff=0.5)
    hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
    return UserError(f"Unknown {kind} {name!r}.{hint} Valid: {', '.join(valid)}.")


def first_line(error):
    """Returns the first line of what another library's error says, or its kind if it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
