"""Configurations: round trips, types, bounds, and errors that name the nearest setting."""

import dataclasses
import json
from typing import Annotated, Literal

import pytest

from tfobj import config
from tfobj.config import Bounds, Config, Positive, PositiveInt
from tfobj.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inner(Config):
    width: int = 3
    names: tuple[str, ...] = ("a", "b")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outer(Config):
    steps: int = 10
    rate: float = 1e-3
    clip: float | None = 5.0
    kind: Literal["linear", "constant"] = "linear"
    size: tuple[int, int] = (35, 35)
    channels: tuple[int, ...] = (64, 64)
    verbose: bool = False
    name: str = "run"
    inner: Inner = Inner()

    def __post_init__(self):
        config.require(self.steps >= 1, "steps", "positive", self.steps)


def test_dict_round_trip():
    original = Outer(steps=3, clip=None, inner=Inner(width=7, names=()))
    assert Outer.from_dict(original.to_dict()) == original


def test_dict_holds_plain_values_only():
    assert Outer().to_dict()["size"] == [35, 35]
    assert Outer().to_dict()["inner"] == {"width": 3, "names": ["a", "b"]}


def test_absent_keys_keep_their_defaults():
    assert Outer.from_dict({"inner": {"width": 4}}) == Outer(inner=Inner(width=4))


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("steps", "3000", 3000),
        ("steps", "1e3", 1000),
        ("steps", "9007199254740993", 9007199254740993),  # a float would round it to ...992
        ("rate", "1e-3", 1e-3),
        ("rate", "3", 3.0),
        ("clip", "none", None),
        ("clip", "2.5", 2.5),
        ("kind", "constant", "constant"),
        ("size", "64,48", (64, 48)),
        ("channels", "[32, 32, 32]", (32, 32, 32)),
        ("channels", "32", (32,)),
        ("channels", "", ()),
        ("verbose", "true", True),
        ("verbose", "0", False),
        ("name", "7", "7"),
    ],
)
def test_text_is_parsed_by_the_type_of_the_field(key, text, value):
    got = getattr(Outer().override({key: text}), key)
    assert got == value and type(got) is type(value)


@pytest.mark.parametrize("text", ["x,y", "('x', 'y')", '["x", "y"]'])
def test_text_of_a_list_of_names(text):
    """Names without quotes were refused once."""
    assert Outer().override({"inner.names": text}).inner.names == ("x", "y")


def test_dotted_override_reaches_the_part_and_leaves_the_rest():
    changed = Outer().override({"inner.width": "5", "steps": 4})
    assert changed == Outer(steps=4, inner=Inner(width=5))
    assert Outer() == Outer(inner=Inner())


def test_whole_group_and_part_of_it_in_one_override():
    """The group was dropped once."""
    changed = Outer().override({"inner": {"names": ["z"]}, "inner.width": 5})
    assert changed.inner == Inner(width=5, names=("z",))


def test_replace_checks():
    assert Outer().replace(steps=5).steps == 5
    with pytest.raises(UserError, match="`steps` must be an integer. Received: 1.5."):
        Outer().replace(steps=1.5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"stepz": 3},
            "Unknown setting 'stepz'. Did you mean 'steps'? "
            "Valid: channels, clip, inner, kind, name, rate, size, steps, verbose.",
        ),
        (
            {"inner.widht": 3},
            "Unknown setting 'inner.widht'. Did you mean 'inner.width'? "
            "Valid: inner.names, inner.width.",
        ),
        ({"steps.x": 3}, "`steps` has no parts. Received: steps.x."),
        ({"steps": "many"}, "`steps` must be an integer. Received: 'many'."),
        ({"steps": True}, "`steps` must be an integer. Received: True."),
        ({"steps": 2.5}, "`steps` must be an integer. Received: 2.5."),
        ({"steps": float("nan")}, "`steps` must be an integer. Received: nan."),
        ({"steps": "inf"}, "`steps` must be an integer. Received: 'inf'."),
        ({"steps": None}, "`steps` must be an integer. Received: None."),
        ({"rate": "fast"}, "`rate` must be a number. Received: 'fast'."),
        (
            {"kind": "linaer"},
            "Unknown value for `kind`: 'linaer'. Did you mean 'linear'? Valid: constant, linear.",
        ),
        ({"size": "1,2,3"}, "`size` must have 2 entries. Received: (1, 2, 3)."),
        ({"size": "a,b"}, "`size` must be a list such as 64,64. Received: 'a,b'."),
        ({"channels": "1.5"}, "`channels` must be an integer. Received: 1.5."),
        ({"verbose": "maybe"}, "`verbose` must be true or false. Received: 'maybe'."),
        ({"name": 3}, "`name` must be str. Received: 3."),
        (
            {"inner": 3},
            "`inner` must be a group of settings; set its parts, e.g. inner.width. Received: 3.",
        ),
        ({"steps": 0}, "`steps` must be positive. Received: steps=0."),
    ],
)
def test_error_texts(changes, message):
    with pytest.raises(UserError) as error:
        Outer().override(changes)
    assert str(error.value) == message


def test_error_of_from_dict_names_the_whole_path():
    with pytest.raises(UserError, match="Unknown setting 'inner.with'. Did you mean 'inner.width'"):
        Outer.from_dict({"inner": {"with": 3}})


def test_parse_overrides():
    assert config.parse_overrides(["a.b = 3", "c=x=y", "a.b=3"]) == {"a.b": "3", "c": "x=y"}


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["steps"], "`--set` expects name=value, e.g. --set train.steps=3000. Received: 'steps'."),
        (["=3"], "`--set` expects name=value, e.g. --set train.steps=3000. Received: '=3'."),
        (["a=1", "a=2"], "`--set` gives `a` twice: '1' and '2'."),
    ],
)
def test_parse_overrides_errors(texts, message):
    with pytest.raises(UserError) as error:
        config.parse_overrides(texts)
    assert str(error.value) == message


def test_differences():
    old = Outer().to_dict()
    new = Outer(steps=3, inner=Inner(width=9)).to_dict()
    assert config.differences(old, new) == ["inner.width: 3 -> 9", "steps: 10 -> 3"]
    assert config.differences(old, old) == []
    assert config.differences({"a": 1}, {}) == ["a: 1 -> '(absent)'"]


def test_fingerprint_changes_with_any_setting():
    prints = [
        Outer().fingerprint(),
        Outer(steps=3).fingerprint(),
        Outer(inner=Inner(width=9)).fingerprint(),
    ]
    assert len(set(prints)) == 3
    assert prints[0] == Outer().fingerprint() and len(prints[0]) == 12


def test_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Outer().steps = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pairs(Config):
    curriculum: tuple[tuple[int, int], ...] = ()


@pytest.mark.parametrize(
    "text, pairs",
    [
        ("(100, 1)", ((100, 1),)),
        ("(100, 1), (200, 0)", ((100, 1), (200, 0))),
        ("((100, 1), (200, 0))", ((100, 1), (200, 0))),
        ("[[100, 1]]", ((100, 1),)),
        ("", ()),
        ("()", ()),
    ],
)
def test_pairs_from_text(text, pairs):
    config = Pairs().override({"curriculum": text})
    assert (
        config.curriculum == pairs
        and Pairs.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    )


@pytest.mark.parametrize("text", ["100, 1", "(100,)", "(100, 1, 2)", "(a, 1)"])
def test_what_is_no_list_of_pairs(text):
    with pytest.raises(UserError, match="`curriculum` must "):
        Pairs().override({"curriculum": text})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bounded(Config):
    prefix = "part."

    size: PositiveInt = 3
    rate: Annotated[float, Bounds(low=0, below=1)] = 0.5
    clip: Positive | None = None
    widths: tuple[PositiveInt, ...] = (8,)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 0}, "`part.size` must be at least 1. Received: part.size=0."),
        ({"rate": 1.0}, r"`part.rate` must be in \[0, 1\). Received: part.rate=1.0."),
        ({"rate": float("nan")}, r"`part.rate` must be in \[0, 1\). Received: part.rate=nan."),
        ({"clip": 0.0}, "`part.clip` must be positive, or none. Received: part.clip=0.0."),
        ({"clip": float("inf")}, "`part.clip` must be positive, or none. Received: part.clip=inf."),
        ({"widths": (4, 0)}, r"`part.widths` must be numbers, each at least 1. .*\(4, 0\)."),
    ],
)
def test_bounds_in_types_are_checked_when_a_config_is_made(changes, message):
    with pytest.raises(UserError, match=message):
        Bounded(**changes)
    with pytest.raises(UserError, match=message):
        Bounded().override(changes)


def test_values_on_the_bounds_are_allowed():
    assert Bounded(size=1, rate=0.0, clip=1e-30, widths=()).override({"clip": "none"}).clip is None


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        (Bounds(low=2), "at least 2"),
        (Bounds(above=0), "positive"),
        (Bounds(above=1), "above 1"),
        (Bounds(high=4), "at most 4"),
        (Bounds(below=4), "below 4"),
        (Bounds(low=0, high=1), "in [0, 1]"),
        (Bounds(above=0, below=1), "in (0, 1)"),
    ],
)
def test_bounds_in_words(bounds, words):
    assert str(bounds) == words


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"widths": 8}, "`part.widths` must be a list of values. Received: part.widths=8."),
        ({"size": None}, "`part.size` must be a number. Received: part.size=None."),
        ({"clip": "5"}, "`part.clip` must be a number, or none. Received: part.clip='5'."),
    ],
)
def test_values_of_another_type_are_named_where_a_config_is_made_directly(changes, message):
    with pytest.raises(UserError, match=message):
        Bounded(**changes)


def test_integers_have_no_largest_size():
    assert Bounded(size=10**400).size == 10**400
