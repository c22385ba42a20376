"""Edits as a user writes them: `move:slot=1,rows=5,columns=-8` is read into an `Edit`.

    edit = parse("move:slot=1,rows=5,columns=-8")
    edit.name, edit.options          # "move", {"slot": 1, "rows": 5.0, "columns": -8.0}

Slots and latents are counted from 1 here, as in all figures. `scene_edits` applies an `Edit`, and
`edit_tour` writes one edit of each kind.
"""

from typing import NamedTuple

import numpy as np

from tfobj.errors import UserError, unknown_name

TOUR = "tour"
"""Stands for one edit of each kind; has no options."""


def _joined_numbers(text):
    return [int(number) for number in text.split("+")]


_KINDS = {
    int: "a whole number",
    _joined_numbers: "whole numbers joined by +",
    float: "a number",
    str: "a word",
}

_KEYS = {
    "move": {"slot": int, "rows": float, "columns": float, "row": float, "column": float},
    "depth": {"slot": int, "to": str, "order": _joined_numbers},
    "swap": {"slots": _joined_numbers, "slot": int, "other": int, "part": str},
    "remove": {"slot": int, "slots": _joined_numbers},
    "insert": {"other": int, "row": float, "column": float},
    "duplicate": {"slot": int, "rows": float, "columns": float},
    "set": {"slot": int, "latent": int, "value": float, "part": str},
    "traverse": {
        "slot": int,
        "latent": int,
        "from": float,
        "to": float,
        "num": int,
        "part": str,
    },
    "interpolate": {"part": str, "slots": _joined_numbers, "num": int},
}
"""Edit -> key -> function that reads its value."""

EXAMPLES = {
    "move": "move:slot=1,rows=5,columns=-8",
    "depth": "depth:slot=1,to=front",
    "swap": "swap:slots=1+2,part=position",
    "remove": "remove:slot=1",
    "insert": "insert:other=2",
    "duplicate": "duplicate:slot=1,columns=10",
    "set": "set:slot=1,latent=3,value=1.5",
    "traverse": "traverse:slot=1,latent=3",
    "interpolate": "interpolate:part=appearance",
}


class Edit(NamedTuple):
    """One edit as the user wrote it, with the questions that its application asks."""

    name: str
    options: dict
    text: str

    def needs_other(self):
        """Returns whether it takes objects from a second scene."""
        if self.name == "interpolate":
            return "slots" not in self.options
        return "other" in self.options

    def require(self, key, alternative=None):
        """Returns the value of an option.

        Args:
          key: name of the option.
          alternative: name of an option that could have been given instead, for the message.

        Raises:
          UserError: the option is missing.
        """
        if key not in self.options:
            keys = f"`{key}`"
            if alternative:
                keys += f" (or `{alternative}`)"
            raise UserError(
                f"{keys} of --edit={self.name} is missing, as in {EXAMPLES[self.name]}. "
                f"Received: {self.text}."
            )
        return self.options[key]

    def check_exclusive(self, key, *others):
        """Raises a `UserError` if the option `key` is given together with one of `others`."""
        for other in others:
            if other in self.options:
                raise UserError(
                    f"`--edit={self.name}` must have {key}= or {other}=, not both. "
                    f"Received: {self.text}."
                )

    def mistake(self, key, expected, received):
        """Returns the `UserError` for an option out of range."""
        return UserError(
            f"`{key}` of --edit={self.name} must be {expected}. Received: {key}={received}."
        )


def parse(text):
    """Reads an edit.

    Args:
      text: "name:key=value,key=value", or "tour".

    Returns:
      An `Edit`.

    Raises:
      UserError: names the edit and the key, and says which are valid.
    """
    name, _, rest = text.strip().partition(":")
    if name == TOUR and not rest:
        return Edit(TOUR, {}, TOUR)
    if name not in _KEYS:
        raise unknown_name("edit", name, [*_KEYS, TOUR])

    options = {}
    for item in filter(None, rest.split(",")):
        key, value = _parse_option(name, item)
        if key in options:
            raise UserError(f"`{key}` of --edit={name} must be given once. Received: {text!r}.")
        options[key] = _read_value(name, key, value)
    return Edit(name, options, text.strip())


def check_second_scene(edit):
    """Raises a `UserError` if an edit takes objects from a second scene; call it without one."""
    if edit.needs_other():
        raise UserError(
            f"`--edit={edit.text}` needs a second scene: give --other=NUMBER, or a second picture."
        )


def _parse_option(name, item):
    """Returns the key and the text of the value of `key=value`."""
    key, equals, value = (part.strip() for part in item.partition("="))
    if not equals:
        raise UserError(
            f"`--edit={name}` must have options key=value, joined by commas, "
            f"as in {EXAMPLES[name]}. Received: {item!r}."
        )
    if key not in _KEYS[name]:
        raise unknown_name(f"key of --edit={name}", key, _KEYS[name])
    return key, value


def _read_value(name, key, text):
    kind = _KEYS[name][key]
    mistake = UserError(f"`{key}` of --edit={name} must be {_KINDS[kind]}. Received: {key}={text}.")
    if not text:
        raise mistake
    try:
        value = kind(text)
    except ValueError:
        raise mistake from None

    # Python reads "inf" and "nan" as numbers, but no edit can use them.
    if kind is float and not np.isfinite(value):
        raise mistake
    return value
