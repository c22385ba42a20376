"""JSON that users hand in: whatever is in a file, the answer is its content or one line."""

import functools
import json

import pytest

from tfobj import files
from tfobj.errors import UserError
from tfobj.portable import artifact
from tfobj.training import results, workdir

DAMAGED = {
    "empty": b"",
    "cut": b'{"a": ',
    "list": b"[]",
    "null": b"null",
    "number": b"7",
    "text": b'"a"',
    "deep": b"[" * 1_000_000,
    "deep object": b'{"a":' * 1_000_000,
    "long number": b'{"step": ' + b"9" * 5_000 + b"}",
    "not a number": b'{"step": NaN}',
    "infinite": b'{"step": -Infinity}',
    "not UTF-8": b'{"a": "\xff\xfe"}',
    "zeros": b"\0" * 100,
    "two": b"{} {}",
    "without keys": b'{"unknown": 1}',
}


def read_config(path):
    from tfobj.training.run_folder import read_config

    return read_config(path.parent)


def read_metadata(path):
    from tfobj.serving import zoo

    return zoo.read_metadata(path.parent)


def read_index(path):
    from tfobj.serving import zoo

    return zoo.read_index(path)


READERS = {
    "config.json": read_config,
    "metadata.json": read_metadata,
    "index.json": read_index,
    "manifest.json": lambda path: artifact.read_manifest(path.parent),
    "state.json": lambda path: artifact.read_state(path.parent),
    "model_tetris_quick_seed0.json": lambda path: results.load(path.parent),
    "machine.json": files.read_json,
}
FREE = {"machine.json"}
"""Files whose entries are repeated and not interpreted."""


@pytest.mark.parametrize("name", READERS)
def test_damage_is_one_line_that_names_the_file(tmp_path, name):
    path = tmp_path / name
    for damage, content in DAMAGED.items():
        if damage == "without keys" and name in FREE:
            continue
        path.write_bytes(content)
        with pytest.raises(UserError, match="is damaged") as error:
            READERS[name](path)
        assert name in str(error.value), damage
        assert "\n" not in str(error.value), damage
        assert len(str(error.value)) < 500, damage
        assert path.read_bytes() == content


@pytest.mark.parametrize("name", READERS)
def test_a_folder_in_its_place_is_named(tmp_path, name):
    (tmp_path / name).mkdir()
    if name.startswith("model"):
        pytest.skip("read with others by a pattern")
    with pytest.raises(UserError, match=f"{name}` cannot be read .Is a directory"):
        READERS[name](tmp_path / name)


@pytest.mark.parametrize("damage", DAMAGED)
def test_annotations_of_videos_are_broken_and_not_fatal(damage):
    from tfobj.datasets.clevrer import annotations

    for parse in (annotations.parse, annotations.parse_proposals):
        with pytest.raises(annotations.Broken):
            parse(DAMAGED[damage])


def test_content_with_a_byte_order_mark_is_read(tmp_path):
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert files.read_json(tmp_path / "a.json") == {"a": 1}


@pytest.mark.parametrize(
    "value, kind, expected",
    [
        (1, int, True),
        (True, int, False),
        (True, bool, True),
        (1, float, True),
        (1.0, int, False),
        (None, (int, type(None)), True),
        ([], dict, False),
        (True, (int, bool), True),
    ],
)
def test_kinds_are_those_of_json(value, kind, expected):
    assert files.is_json(value, kind) is expected


def test_missing_files_stay_apart_from_damaged_ones(tmp_path):
    with pytest.raises(FileNotFoundError):
        files.read_json(tmp_path / "a.json")
    (tmp_path / "file").write_text("")
    with pytest.raises(FileNotFoundError):
        files.read_json(tmp_path / "file" / "a.json")


WRONG_VALUES = (None, True, 7.5, -1, 10**400, "x", "", [], [[]], {}, {"x": []}, "9" * 5_000)


def leaves(values, path=()):
    """Yields the paths of all entries of nested dicts."""
    for key, value in values.items():
        yield (*path, key)
        if isinstance(value, dict):
            yield from leaves(value, (*path, key))


def test_wrong_values_in_a_config_are_refused_by_name_or_make_a_config(tmp_path):
    from tfobj.training.experiment import ExperimentConfig, resolve
    from tfobj.training.run_folder import read_config

    original = resolve("iodine", "tetris").to_dict()
    refused = 0
    for path in leaves(original):
        for value in WRONG_VALUES:
            values = json.loads(json.dumps(original))
            part = functools.reduce(lambda group, key: group[key], path[:-1], values)
            part[path[-1]] = value
            (tmp_path / "config.json").write_text(json.dumps(values))
            try:
                assert isinstance(read_config(tmp_path), ExperimentConfig)
            except UserError as e:
                refused += 1
                assert str(tmp_path / "config.json") in str(e)
                assert path[-1].removesuffix("_name") in str(e), (path, value, e)
                assert "\n" not in str(e)
    assert refused > 500


@pytest.mark.parametrize(
    "change, message",
    [
        (
            {"model_name": ["iodine"]},
            "`model_name` must be a text. Received: model_name=.'iodine'.",
        ),
        ({"model": None}, "`model` must be an object. Received: model=None"),
        ({"train": {"steps": "many"}}, "`train.steps` must be an integer. Received: 'many'"),
        ({"train": []}, "`train` must be a group of settings"),
        ({"seed": -1}, "`seed` must be in 0 ... 2..31 - 1"),
        ({"data": {"protocol": 7}}, "`data.protocol` must be str"),
    ],
)
def test_the_wrong_field_of_a_config_is_named(tmp_path, change, message):
    from tfobj.training.experiment import resolve

    values = {**resolve("iodine", "tetris").to_dict(), **change}
    path = tmp_path / "config.json"
    path.write_text(json.dumps(values))
    with pytest.raises(UserError, match=message):
        read_config(path)


BROKEN_LINES = (
    b'{"step": 2, "split": "tra',
    b"null",
    b"[]",
    b'{"step": 2}',
    b'{"step": "2", "split": "train"}',
    b'{"step": true, "split": "train"}',
    b'{"step": -2, "split": "train"}',
    b'{"step": 2, "split": "train", "loss": "low"}',
    b'{"step": 2, "split": "train", "loss": ' + b"9" * 4_000 + b"}",
    b'{"step": 2, "split": "train", "loss": ' + b"9" * 5_000 + b"}",
    b'{"step": 2, "split": "train", "loss": NaN}',
    b'{"step": 2, "split": "train", "loss": 1e999}',
    b"[" * 100_000,
    b"\xff\xfe",
    b"\0" * 50,
)


@pytest.mark.parametrize("line", BROKEN_LINES, ids=range(len(BROKEN_LINES)))
def test_a_broken_line_of_metrics_is_dropped_and_counted(tmp_path, line):
    good = [{"step": step, "split": "train", "loss": 1.0 / step} for step in (1, 3)]
    first, last = (json.dumps(row).encode() + b"\n" for row in good)
    (tmp_path / workdir.METRICS).write_bytes(first + line + b"\n" + last)
    assert workdir.read_metrics(tmp_path) == good
    assert workdir.training_minutes(good) == 0.0

    rows = workdir.Rows(tmp_path, step=3)
    assert rows.dropped == [2]
    assert workdir.read_metrics(tmp_path) == good
    assert rows.path.read_bytes().count(b"\n") == 2


@pytest.mark.parametrize("rate", [0, None, -1.0])
def test_minutes_need_no_rate(rate):
    rows = [
        {"step": 60, "split": "train", "steps_per_second": rate},
        {"step": 120, "split": "train", "steps_per_second": 1.0},
    ]
    assert workdir.training_minutes(rows) == 1.0
