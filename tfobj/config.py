"""Typed, frozen, printable settings: dataclasses with dotted overrides and helpful errors.

A setting's type states its bounds, which are checked whenever a configuration is made:

    latent_size: PositiveInt = 64
    beta: NonNegative = 1.0
    momentum: Annotated[float, Bounds(low=0, below=1)] = 0.9
    hidden: tuple[PositiveInt, ...] = (128, 128)
    clip_norm: Positive | None = None
"""

import ast
import contextlib
import dataclasses
import hashlib
import json
import math
import numbers
import types
import typing
from typing import Annotated

from tfobj.errors import UserError, unknown_name
from tfobj.files import excerpt


@dataclasses.dataclass(frozen=True)
class Bounds:
    """Limits of a number, for use in `Annotated`.

    NaN is never within the limits, infinity only where `finite` is False.
    """

    low: float | None = None
    """Smallest allowed value."""
    above: float | None = None
    """Largest value that is too small."""
    high: float | None = None
    """Largest allowed value."""
    below: float | None = None
    """Smallest value that is too large."""
    finite: bool = True
    """Whether infinity is outside the limits."""

    def allow(self, value):
        """Returns whether the number `value` is within the limits."""
        # Integers may be too large for `isfinite`.
        if not isinstance(value, numbers.Integral):
            allowed = math.isfinite(value) or (math.isinf(value) and not self.finite)
            if not allowed:
                return False
        return (
            (self.low is None or value >= self.low)
            and (self.above is None or value > self.above)
            and (self.high is None or value <= self.high)
            and (self.below is None or value < self.below)
        )

    def __str__(self):
        """Returns the limits in words: "at least 1", "positive", "in [0, 1)"."""
        has_lower = self.low is not None or self.above is not None
        has_upper = self.high is not None or self.below is not None
        if has_lower and has_upper:
            left = f"[{self.low:g}" if self.above is None else f"({self.above:g}"
            right = f"{self.high:g}]" if self.below is None else f"{self.below:g})"
            return f"in {left}, {right}"

        if self.above == 0:
            return "positive"
        if self.above is not None:
            return f"above {self.above:g}"
        if self.low is not None:
            return f"at least {self.low:g}"
        if self.below is not None:
            return f"below {self.below:g}"
        if self.high is not None:
            return f"at most {self.high:g}"
        return "finite"


PositiveInt = Annotated[int, Bounds(low=1)]
NonNegativeInt = Annotated[int, Bounds(low=0)]
Positive = Annotated[float, Bounds(above=0)]
NonNegative = Annotated[float, Bounds(low=0)]
Fraction = Annotated[float, Bounds(low=0, high=1)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Base of every configuration.

    Subclasses are frozen, keyword-only dataclasses whose fields all have defaults. Types are
    checked where values enter (`from_dict`, `override`), bounds whenever a configuration is made,
    so that a wrong value never reaches a place where it would fail obscurely. Subclasses with
    checks of their own call `super().__post_init__()` first.
    """

    prefix = ""
    """Prefix of the settings on the command line, such as "model."; errors use the full names."""

    def __post_init__(self):
        for name, hint in self.field_types().items():
            _check_bounds(getattr(self, name), hint, self.prefix + name)

    def to_dict(self):
        """Returns nested dicts of plain lists, numbers and strings; `from_dict` inverts it."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def from_dict(cls, values, prefix=""):
        """Builds the configuration from nested `values`; absent keys keep their defaults.

        Raises:
          UserError: an unknown key (names the nearest valid one) or a value of another type.
        """
        types_of = cls.field_types()
        for key in values:
            cls._check_key(key, prefix)
        return cls(**{k: _convert(v, types_of[k], prefix + k) for k, v in values.items()})

    @classmethod
    def field_types(cls):
        """Returns field name -> annotated type, including its bounds."""
        hints = typing.get_type_hints(cls, include_extras=True)
        return {f.name: hints[f.name] for f in dataclasses.fields(cls)}

    @classmethod
    def _check_key(cls, key, prefix):
        valid = cls.field_types()
        if key not in valid:
            raise unknown_name("setting", prefix + key, [prefix + name for name in valid])

    def replace(self, **changes):
        """Returns a copy with checked `changes` of direct fields."""
        return self.override(changes)

    def override(self, changes, prefix=""):
        """Returns a copy with dotted `changes`: {"train.steps": 3000} or {"train.steps": "3000"}.

        Text is parsed by the type of the field ("1e-3", "true", "none", "64,64").
        """
        types_of = self.field_types()
        direct = {}
        nested = {}
        for key, value in changes.items():
            head, _, rest = key.partition(".")
            self._check_key(head, prefix)
            if not rest:
                direct[head] = _convert(value, types_of[head], prefix + head)
            elif isinstance(getattr(self, head), Config):
                nested.setdefault(head, {})[rest] = value
            else:
                raise UserError(f"`{prefix}{head}` has no parts. Received: {prefix}{key}.")

        # Last, so that a whole group and parts of it can be changed together.
        for head, changes_below in nested.items():
            group = direct.get(head, getattr(self, head))
            direct[head] = group.override(changes_below, prefix=f"{prefix}{head}.")
        return dataclasses.replace(self, **direct)

    def fingerprint(self):
        """Returns twelve hexadecimal digits that change with any setting."""
        text = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def require(condition, field, expectation, value):
    """Raises a `UserError` for a setting unless `condition` holds; for use in `__post_init__`."""
    if not condition:
        raise UserError(f"`{field}` must be {expectation}. Received: {field}={value!r}.")


def parse_overrides(texts):
    """Turns ["model.num_slots=11", ...] into a dict for `Config.override`.

    Raises:
      UserError: if an entry has no "=" or a key appears twice with different values.
    """
    changes = {}
    for text in texts:
        key, equals, value = text.partition("=")
        key = key.strip()
        if not equals or not key:
            raise UserError(
                f"`--set` expects name=value, e.g. --set train.steps=3000. Received: {text!r}."
            )

        value = value.strip()
        if changes.setdefault(key, value) != value:
            raise UserError(f"`--set` gives `{key}` twice: {changes[key]!r} and {value!r}.")
    return changes


def differences(old, new, prefix=""):
    """Lists the settings that differ between two results of `to_dict`, as "key: old -> new"."""
    lines = []
    for key in sorted(set(old) | set(new)):
        before = old.get(key, "(absent)")
        after = new.get(key, "(absent)")
        if isinstance(before, dict) and isinstance(after, dict):
            lines += differences(before, after, f"{prefix}{key}.")
        elif before != after:
            lines.append(f"{prefix}{key}: {before!r} -> {after!r}")
    return lines


def _check_bounds(value, hint, name):
    """Raises a `UserError` if a number, or an entry of a tuple, is outside its type's bounds."""
    expectation = _violated(value, hint)
    require(expectation is None, name, expectation, value)


def _violated(value, hint):
    """Returns in words the bounds in a type that `value` violates, or None."""
    origin = typing.get_origin(hint)
    args = typing.get_args(hint)

    if origin is Annotated:
        if not isinstance(value, numbers.Real):
            return "a number"
        return next((str(bounds) for bounds in args[1:] if not bounds.allow(value)), None)

    if origin in (typing.Union, types.UnionType) and value is not None:
        inner = _violated(value, next(a for a in args if a is not type(None)))
        return inner and f"{inner}, or none"

    if origin is tuple:
        if not isinstance(value, tuple | list):
            return "a list of values"
        hints = args[:1] * len(value)
        if args[-1] is not Ellipsis:
            hints = args
        if len(hints) != len(value):
            return f"{len(hints)} values"
        violated = (_violated(v, h) for v, h in zip(value, hints, strict=True))
        return next((f"numbers, each {v}" for v in violated if v), None)
    return None


def _convert(value, hint, name):
    """Returns `value` as the type `hint`; text is parsed, anything lossy is refused."""
    origin = typing.get_origin(hint)
    args = typing.get_args(hint)

    if origin is Annotated:
        return _convert(value, args[0], name)

    if origin in (typing.Union, types.UnionType):
        if type(None) in args and str(value).lower() in ("none", "null"):
            return None
        return _convert(value, next(a for a in args if a is not type(None)), name)

    if origin is typing.Literal:
        if value in args:
            return value
        raise unknown_name(f"value for `{name}`:", value, args)

    if origin is tuple:
        return _convert_tuple(value, args, name)
    if isinstance(hint, type) and issubclass(hint, Config):
        return _convert_group(value, hint, name)
    if hint is bool:
        return _convert_bool(value, name)
    if hint in (int, float):
        return _convert_number(value, hint, name)
    if hint is str and isinstance(value, str):
        return value
    if hint is typing.Any or (isinstance(hint, type) and isinstance(value, hint)):
        return value
    raise UserError(f"`{name}` must be {getattr(hint, '__name__', hint)}. Received: {value!r}.")


def _convert_group(value, hint, name):
    """Returns `value`, a dict or a configuration, as the configuration class `hint`."""
    if isinstance(value, hint):
        return value
    if isinstance(value, dict):
        return hint.from_dict(value, prefix=name + ".")
    example = next(iter(hint.field_types()))
    raise UserError(
        f"`{name}` must be a group of settings; set its parts, e.g. {name}.{example}. "
        f"Received: {value!r}."
    )


def _convert_tuple(value, args, name):
    """Returns `value` as a tuple; `args` are the types of its entries, all the same."""
    entry_type = args[0] if args else typing.Any
    if isinstance(value, str):
        if entry_type is str:
            value = _parse_names(value)
        else:
            value = _parse_list(value, typing.get_origin(entry_type) is tuple, name)
    if not isinstance(value, (tuple, list)):
        value = (value,)

    if args and args[-1] is not Ellipsis and len(value) != len(args):
        raise UserError(f"`{name}` must have {len(args)} entries. Received: {value!r}.")
    return tuple(_convert(v, entry_type, name) for v in value)


def _parse_names(text):
    """Returns the names in a text such as "x,y" or "['x', 'y']", with or without quotes."""
    parts = [part.strip(" '\"") for part in text.strip("()[] ").split(",")]
    return [part for part in parts if part]


def _parse_list(text, nested, name):
    """Returns the tuple in a text such as "64,64" or, if `nested`, "(100000, 1), (200000, 0)"."""
    inner = text.strip() if nested else text.strip("()[] ")
    try:
        value = ast.literal_eval(f"({inner},)" if inner else "()")
        if nested:
            # Parentheses around the whole list are optional.
            while len(value) == 1 and value[0] and isinstance(value[0][0], (tuple, list)):
                value = value[0]
            if value == ((),):
                value = ()
    except (ValueError, SyntaxError, TypeError) as e:
        raise UserError(f"`{name}` must be a list such as 64,64. Received: {text!r}.") from e
    return value


def _convert_bool(value, name):
    """Returns `value`, a boolean or a word for one, as a boolean."""
    text = str(value).lower()
    if text in ("true", "1", "yes", "on"):
        return True
    if text in ("false", "0", "no", "off"):
        return False
    raise UserError(f"`{name}` must be true or false. Received: {value!r}.")


def _convert_number(value, kind, name):
    """Returns `value`, a number or a text, as the `kind` int or float."""
    expected = "an integer" if kind is int else "a number"
    mistake = UserError(f"`{name}` must be {expected}. Received: {excerpt(value)}.")
    if isinstance(value, bool):
        raise mistake
    if kind is int:
        return _convert_integer(value, mistake)
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError) as e:
        raise mistake from e


def _convert_integer(value, mistake):
    """Returns `value`, a number or a text, as an integer of 64 bits, or raises the `mistake`."""
    number = None
    # Not through a float, which is inexact above 2**53.
    with contextlib.suppress(TypeError, ValueError, OverflowError):
        if int(value) == value or isinstance(value, str):
            number = int(value)

    if number is None:
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError) as e:
            raise mistake from e
        if not number.is_integer():
            raise mistake
    if not abs(number) < 2**63:
        raise mistake
    return int(number)
