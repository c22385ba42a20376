"""Typed, frozen, printable settings: dataclasses with dotted overrides and errors that name the nearest key.

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
import types
import typing
from typing import Annotated

from tfobj.errors import UserError, unknown_name


@dataclasses.dataclass(frozen=True)
class Bounds:
    """Limits of a number, for use in `Annotated`. NaN is within no limits, infinity only where `finite` is False."""

    low: float | None = None
    """Smallest allowed value."""
    above: float | None = None
    """Largest value that is too small."""
    high: float | None = None
    """Largest allowed value."""
    below: float | None = None
    """Smallest value that is too large."""
    finite: bool = True

    def allow(self, value):
        """Returns whether the number `value` is within the limits."""
        if not (math.isfinite(value) or (math.isinf(value) and not self.finite)):
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
        if self.above is not None:
            return "positive" if self.above == 0 else f"above {self.above:g}"
        if self.low is not None:
            return f"at least {self.low:g}"
        if self.below is not None:
            return f"below {self.below:g}"
        return f"at most {self.high:g}" if self.high is not None else "finite"


PositiveInt = Annotated[int, Bounds(low=1)]
NonNegativeInt = Annotated[int, Bounds(low=0)]
Positive = Annotated[float, Bounds(above=0)]
NonNegative = Annotated[float, Bounds(low=0)]
Fraction = Annotated[float, Bounds(low=0, high=1)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Base of every configuration. Subclasses are frozen, keyword-only dataclasses whose fields all have defaults.

    Types are checked where values enter (`from_dict`, `override`), bounds whenever a configuration is
    made, so that a wrong value never travels to the place where it would fail obscurely.
    Subclasses with checks of their own call `super().__post_init__()` first.
    """

    prefix = ""
    """How the settings' names begin on the command line, such as "model."; errors use the full names."""

    def __post_init__(self):
        for name, hint in self.field_types().items():
            _check_bounds(getattr(self, name), hint, self.prefix + name)

    def to_dict(self):
        """Returns nested plain dicts, lists, numbers and strings; `from_dict` inverts it."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def from_dict(cls, values, prefix=""):
        """Builds the configuration from (nested) `values`; keys left out keep their defaults.

        Raises:
          UserError: unknown key (with the nearest valid one) or a value of another type.
        """
        fields = cls.field_types()
        for key in values:
            if key not in fields:
                raise unknown_name("setting", prefix + key, [prefix + f for f in fields])
        return cls(**{k: _convert(v, fields[k], prefix + k) for k, v in values.items()})

    @classmethod
    def field_types(cls):
        """Returns field name -> annotated type, its bounds included."""
        hints = typing.get_type_hints(cls, include_extras=True)
        return {f.name: hints[f.name] for f in dataclasses.fields(cls)}

    def replace(self, **changes):
        """Returns a copy with checked `changes` of direct fields."""
        return self.override({k: v for k, v in changes.items()})

    def override(self, changes, prefix=""):
        """Returns a copy with dotted `changes` applied: {"train.steps": 3000} or {"train.steps": "3000"}.

        Text is parsed by the type of the field ("1e-3", "true", "none", "64,64").
        """
        nested, direct = {}, {}
        for key, value in changes.items():
            head, _, rest = key.partition(".")
            if head not in self.field_types():
                raise unknown_name(
                    "setting", prefix + head, [prefix + f for f in self.field_types()]
                )
            if rest:
                if not isinstance(getattr(self, head), Config):
                    raise UserError(f"`{prefix}{head}` has no parts. Received: {prefix}{key}.")
                nested.setdefault(head, {})[rest] = value
            else:
                direct[head] = _convert(value, self.field_types()[head], prefix + head)
        for head, changes_below in nested.items():
            group = direct.get(head, getattr(self, head))
            direct[head] = group.override(changes_below, prefix=f"{prefix}{head}.")
        return dataclasses.replace(self, **direct)

    def fingerprint(self):
        """Returns twelve hexadecimal digits that change with any setting."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()[:12]


def require(condition, field, expectation, value):
    """Raises the house's `UserError` for a setting unless `condition` holds; for use in `__post_init__`."""
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
        if key in changes and changes[key] != value.strip():
            raise UserError(f"`--set` gives `{key}` twice: {changes[key]!r} and {value.strip()!r}.")
        changes[key] = value.strip()
    return changes


def differences(old, new, prefix=""):
    """Lists the settings that differ between two dicts of `to_dict`, one "key: old -> new" each."""
    lines = []
    for key in sorted(set(old) | set(new)):
        a, b = old.get(key, "(absent)"), new.get(key, "(absent)")
        if isinstance(a, dict) and isinstance(b, dict):
            lines += differences(a, b, f"{prefix}{key}.")
        elif a != b:
            lines.append(f"{prefix}{key}: {a!r} -> {b!r}")
    return lines


def _check_bounds(value, hint, name):
    """Raises a `UserError` if a number, or an entry of a tuple, is outside the bounds in its type."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        for bounds in args[1:]:
            require(bounds.allow(value), name, str(bounds), value)
    elif origin in (typing.Union, types.UnionType) and value is not None:
        inner = [a for a in args if a is not type(None)]
        for bounds in [b for a in inner for b in getattr(a, "__metadata__", ())]:
            require(bounds.allow(value), name, f"{bounds}, or none", value)
    elif origin is tuple and value:
        entries = args[:1] * len(value) if args[-1] is Ellipsis else args
        for entry, entry_hint in zip(value, entries, strict=True):
            for bounds in getattr(entry_hint, "__metadata__", ()):
                require(bounds.allow(entry), name, f"numbers, each {bounds}", value)


def _convert(value, hint, name):
    """Returns `value` as the type `hint`; text is parsed, anything lossy is refused."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _convert(value, args[0], name)
    if origin in (typing.Union, types.UnionType):
        if value is None or (isinstance(value, str) and value.lower() in ("none", "null")):
            if type(None) in args:
                return None
        return _convert(value, next(a for a in args if a is not type(None)), name)
    if origin is typing.Literal:
        if value in args:
            return value
        raise unknown_name(f"value for `{name}`:", value, args)
    if origin is tuple:
        return _convert_tuple(value, args, name)
    if isinstance(hint, type) and issubclass(hint, Config):
        if isinstance(value, hint):
            return value
        if isinstance(value, dict):
            return hint.from_dict(value, prefix=name + ".")
        raise UserError(
            f"`{name}` must be a group of settings; set its parts, e.g. {name}.{next(iter(hint.field_types()))}. Received: {value!r}."
        )
    if hint is bool:
        return _convert_bool(value, name)
    if hint in (int, float):
        return _convert_number(value, hint, name)
    if hint is str and isinstance(value, str):
        return value
    if hint is typing.Any or (isinstance(hint, type) and isinstance(value, hint)):
        return value
    raise UserError(f"`{name}` must be {getattr(hint, '__name__', hint)}. Received: {value!r}.")


def _convert_tuple(value, args, name):
    if isinstance(value, str) and args and args[0] is str:
        value = [
            part.strip(" '\"") for part in value.strip("()[] ").split(",") if part.strip(" '\"")
        ]
    if isinstance(value, str):
        nested = (
            bool(args) and typing.get_origin(args[0]) is tuple
        )  # pairs: (100000, 1), (200000, 0)
        text = value.strip() if nested else value.strip("()[] ")
        try:
            value = ast.literal_eval(f"({text},)" if text else "()")
            while (
                nested and len(value) == 1 and value[0] and isinstance(value[0][0], (tuple, list))
            ):
                value = value[0]
            value = () if nested and value == ((),) else value
        except (ValueError, SyntaxError, TypeError) as e:
            raise UserError(f"`{name}` must be a list such as 64,64. Received: {value!r}.") from e
    if not isinstance(value, (tuple, list)):
        value = (value,)
    if args and args[-1] is not Ellipsis and len(value) != len(args):
        raise UserError(f"`{name}` must have {len(args)} entries. Received: {value!r}.")
    return tuple(_convert(v, args[0] if args else typing.Any, name) for v in value)


def _convert_bool(value, name):
    text = str(value).lower()
    if text in ("true", "1", "yes", "on"):
        return True
    if text in ("false", "0", "no", "off"):
        return False
    raise UserError(f"`{name}` must be true or false. Received: {value!r}.")


def _convert_number(value, kind, name):
    article = "an integer" if kind is int else "a number"
    if isinstance(value, bool):
        raise UserError(f"`{name}` must be {article}. Received: {value!r}.")
    if kind is int:
        with contextlib.suppress(TypeError, ValueError, OverflowError):
            if int(value) == value or isinstance(value, str):
                return int(value)  # exact above 2**53 too, where floats are not
    try:
        number = float(value)
    except (TypeError, ValueError) as e:
        raise UserError(f"`{name}` must be {article}. Received: {value!r}.") from e
    if kind is float:
        return number
    if not number.is_integer():
        raise UserError(f"`{name}` must be {article}. Received: {value!r}.")
    return int(number)
