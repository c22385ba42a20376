"""Arrays and manifests in files: what is read is what was written, and damage is named."""

import json

import numpy as np
import pytest

from tfobj.errors import UserError
from tfobj.portable import artifact


@pytest.fixture
def state():
    rng = np.random.default_rng(0)
    return {
        "model/kernel": rng.normal(size=(30, 40)).astype(np.float32),
        "model/bias": np.zeros([0], np.float32),
        "adam/iterations": np.array(7, np.int64),
        "model/large": rng.normal(size=(7, 500)).astype(np.float32),
    }


@pytest.mark.parametrize("part_bytes", [1_000, 5_000, 15_000_000])
def test_state_survives_any_size_of_part(tmp_path, state, monkeypatch, part_bytes):
    monkeypatch.setattr(artifact, "PART_BYTES", part_bytes)
    artifact.write_state(tmp_path / "state", 7, state, data={"num_train": 3})
    parts = list((tmp_path / "state").glob("part_*.npz"))
    assert len(parts) == {1_000: 19, 5_000: 4, 15_000_000: 1}[part_bytes]
    assert all(sum(a.nbytes for a in np.load(p).values()) <= part_bytes for p in parts)
    summary, arrays = artifact.read_state(tmp_path / "state")
    assert summary["step"] == 7
    assert summary["data"] == {"num_train": 3}
    assert arrays.keys() == state.keys()
    for name, value in state.items():
        assert arrays[name].dtype == value.dtype
        assert arrays[name].shape == value.shape
        np.testing.assert_array_equal(arrays[name], value)


def test_missing_and_damaged_parts_are_named(tmp_path, state, monkeypatch):
    monkeypatch.setattr(artifact, "PART_BYTES", 5_000)
    artifact.write_state(tmp_path, 7, state)
    part = tmp_path / "part_001.npz"
    data = part.read_bytes()
    for broken in (data[:-40], data[:200] + b"x" * 40 + data[240:], b""):
        part.write_bytes(broken)
        with pytest.raises(UserError, match=r"part_001.npz` is damaged"):
            artifact.read_state(tmp_path)
    part.unlink()
    with pytest.raises(UserError, match=r"part_001.npz` is missing"):
        artifact.read_state(tmp_path)
    (tmp_path / "state.json").write_text("{")
    with pytest.raises(UserError, match=r"state.json` is damaged"):
        artifact.read_state(tmp_path)


def test_parts_of_another_state_are_refused(tmp_path, state):
    artifact.write_state(tmp_path / "a", 7, state)
    artifact.write_state(tmp_path / "b", 7, {**state, "model/kernel": np.zeros((2, 2), np.float32)})
    (tmp_path / "b" / "part_000.npz").replace(tmp_path / "a" / "part_000.npz")
    with pytest.raises(
        UserError, match=r"'model/kernel' must be float32 \[30, 40\]. Received: float32 \[2, 2\]"
    ):
        artifact.read_state(tmp_path / "a")


@pytest.mark.parametrize(
    "text, message",
    [
        ("{", "is damaged"),
        ("[]", "is damaged"),
        ("null", "is damaged"),
        ('{"format": "1"}', "`format` must be an integer"),
        ('{"format": 99, "tfobj": "9.9"}', "Received: format 99, written by tfobj 9.9"),
        (json.dumps({"format": artifact.FORMAT}), "is damaged .without tfobj, seed"),
    ],
)
def test_manifests_that_cannot_be_used_are_refused(tmp_path, text, message):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(UserError, match=message):
        artifact.read_manifest(tmp_path)


@pytest.fixture
def manifest():
    """The least that a run reads."""
    config = {
        "data": {"protocol": "tetris", "num_train": None, "num_test": None},
        "train": {"steps": 4, "log_every": 1, "eval_every": 2, "checkpoint_every": 2},
    }
    program = {"file": "a.stablehlo", "sha256": "0", "params": [], "outputs": []}
    entry = {
        "from_step": 0,
        "model": "slot_attention",
        "metrics": ["loss"],
        "schedule": {},
        "config": config,
        "counter": "adam/iterations",
        "batch_size": 4,
        "num_frames": None,
        "stream_start": 0,
        "forward": {**program, "batch_size": 2, "num_frames": None, "seed": 0},
        **program,
    }
    return {
        "format": artifact.FORMAT,
        "tfobj": "0",
        "seed": 0,
        "image_shape": [8, 8, 3],
        "num_frames": None,
        "protocol": "tetris",
        "batch_size": 4,
        "variables": {"adam/iterations": {"shape": [], "dtype": "int64"}},
        "steps": [entry],
        "data": {"train": [], "evaluation": []},
    }


@pytest.mark.parametrize(
    "path, value, message",
    [
        (["seed"], "0", "`seed` must be an integer. Received: '0'"),
        (["seed"], True, "`seed` must be an integer. Received: True"),
        (["steps"], [], "without steps"),
        (["steps", 0], [], "step 0 is damaged .it must be an object. Received: "),
        (["steps", 0, "metrics"], "loss", "step 0 is damaged .`metrics` must be a list"),
        (["steps", 0, "from_step"], 3, "its first step does not begin at 0"),
        (["steps", 0, "counter"], "x", "its counter is no variable"),
        (["steps", 0, "config", "train"], None, "config.train is damaged"),
        (
            ["steps", 0, "config", "train", "steps"],
            1.5,
            "`steps` must be an integer. Received: 1.5",
        ),
        (["steps", 0, "file"], "../../secret", "must be the name of a file in the folder"),
        (["steps", 0, "file"], "/etc/passwd", "must be the name of a file in the folder"),
        (["steps", 0, "file"], "..", "must be the name of a file in the folder"),
        (["steps", 0, "forward", "file"], "..\\secret", "must be the name of a file in the folder"),
        (["variables", "adam/iterations", "shape"], [-1], "its shape must be sizes"),
        (["variables", "adam/iterations"], 7, "variable 'adam/iterations' is damaged"),
    ],
)
def test_wrong_entries_of_a_manifest_are_named(tmp_path, manifest, path, value, message):
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert artifact.read_manifest(tmp_path) == manifest
    *parents, last = path
    part = manifest
    for key in parents:
        part = part[key]
    part[last] = value
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=message) as error:
        artifact.read_manifest(tmp_path)
    assert "manifest.json" in str(error.value)


def test_a_folder_without_manifest_is_refused(tmp_path):
    with pytest.raises(UserError, match="made by launch/export_step.py"):
        artifact.read_manifest(tmp_path / "nothing")


def test_stages_follow_each_other():
    manifest = {"steps": [{"from_step": 0}, {"from_step": 10}, {"from_step": 30}]}
    found = [
        (entry["from_step"], end)
        for entry, end in (artifact.program_at(manifest, step) for step in (0, 9, 10, 29, 30, 99))
    ]
    assert found == [(0, 10), (0, 10), (10, 30), (10, 30), (30, None), (30, None)]


def test_programs_are_checked(tmp_path):
    (tmp_path / "p").write_bytes(b"program")
    with pytest.raises(UserError, match="is damaged"):
        artifact.read_program(tmp_path, {"file": "p", "sha256": "0"})
    with pytest.raises(UserError, match="is missing"):
        artifact.read_program(tmp_path, {"file": "q", "sha256": "0"})


def test_a_failed_save_leaves_the_old_state(tmp_path, state, monkeypatch):
    artifact.write_state(tmp_path / "state", 7, state)
    monkeypatch.setattr(
        artifact.json,
        "dumps",
        lambda *a, **k: (_ for _ in ()).throw(OSError(28, "No space left on device")),
    )
    with pytest.raises(UserError, match="cannot be written"):
        artifact.write_state(tmp_path / "state", 8, state)
    monkeypatch.undo()
    assert artifact.read_state(tmp_path / "state")[0]["step"] == 7
    assert [p.name for p in tmp_path.iterdir()] == ["state"]
    assert json.loads((tmp_path / "state" / "state.json").read_text())["num_parts"] == 1
