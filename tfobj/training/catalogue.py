"""The presets and settings to choose from, read from where they are written down.

Descriptions have one home, the source. None of this needs TensorFlow, which takes seconds to load.
"""

import ast
import dataclasses
import inspect
import textwrap
import types
import typing
from typing import NamedTuple

from tfobj import registry
from tfobj.config import Config


class Setting(NamedTuple):
    """One name for `--set`."""

    name: str
    value: str
    """Its value in the words of `--set`."""
    kind: str
    """The values that it takes: "integer", "number or none", "float32 | bfloat16", ..."""
    text: str
    """Its meaning, as its source says; may be empty where the name says it."""


def settings(config, prefix=""):
    """Returns the `Setting`s of a configuration, those of its groups with dotted names."""
    texts = _field_texts(type(config))
    hints = config.field_types()
    found = []

    for field in dataclasses.fields(config):
        name = prefix + field.name
        value = getattr(config, field.name)
        if isinstance(value, Config):
            found += settings(value, name + ".")
        else:
            kind = _kind(hints[field.name])
            found.append(Setting(name, _value(value), kind, texts.get(field.name, "")))
    return found


def preset_descriptions(model):
    """Returns (preset, dataset) -> description of a model's presets."""
    return {key: preset.description for key, preset in registry.model_presets(model).items()}


def preset_durations(model):
    """Returns (preset, dataset) -> duration of a model's presets, where it is known."""
    presets = registry.model_presets(model).items()
    return {key: preset.duration for key, preset in presets if preset.duration}


def _field_texts(config_class):
    """Returns field -> the string below it in the source, those of base classes included."""
    texts = {}
    for base in reversed([c for c in config_class.__mro__ if issubclass(c, Config)]):
        body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0].body
        for field, below in zip(body, body[1:], strict=False):
            is_text = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
            if isinstance(field, ast.AnnAssign) and is_text:
                texts[field.target.id] = " ".join(str(below.value.value).split())
    return texts


def _value(value):
    if isinstance(value, tuple):
        return ",".join(map(_entry, value)) or "()"
    text = str(value)
    if value is None or isinstance(value, bool):
        return text.lower()
    return text


def _entry(value):
    return f"({_value(value)})" if isinstance(value, tuple) else _value(value)


def _kind(hint):
    """Returns what a setting takes: "two integers, each at least 1" or "positive number"."""
    origin = typing.get_origin(hint)
    args = typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        kinds = ["none" if a is type(None) else _kind(a) for a in args]
        # "integer at least 1, or none", since none is not a bound.
        return ", or ".join(kinds) if " at least " in kinds[0] else " or ".join(kinds)
    if origin is typing.Literal:
        return " | ".join(map(str, args))
    if origin is tuple:
        return _kind_of_tuple(args)

    # Bounds are told after their type, but for "positive number".
    if origin is typing.Annotated:
        kind = _kind(args[0])
        bounds = " ".join(map(str, args[1:]))
        if bounds == "positive":
            return f"{bounds} {kind}"
        return f"{kind} {bounds}"
    return _WORDS.get(hint, ("anything", "entries"))[0]


def _kind_of_tuple(args):
    entry = args[0]
    if typing.get_origin(entry) is tuple:
        return f"pairs of {_kind_of_tuple((typing.get_args(entry)[0], ...))}"

    bounds = "".join(f", each {bound}" for bound in getattr(entry, "__metadata__", ()))
    plural = _WORDS.get(getattr(entry, "__origin__", entry), ("anything", "entries"))[1]
    if args[-1] is Ellipsis:
        return f"{plural}{bounds}"
    count = {2: "two", 3: "three"}.get(len(args), str(len(args)))
    return f"{count} {plural}{bounds}"


_WORDS = {
    int: ("integer", "integers"),
    float: ("number", "numbers"),
    bool: ("true or false", "truth values"),
    str: ("name", "names"),
}
"""Type -> what one value is called, what several are."""
