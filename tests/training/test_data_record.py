"""Fingerprints of data: equal where training sees the same, and else in words what differs."""

import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from tfobj.data import fingerprint, folder
from tfobj.data.packed import SceneArrays
from tfobj.errors import UserError
from tfobj.training.data_record import DataRecord
from tfobj.training.experiment import resolve
from tfobj.training.run_folder import check_config, read_config, write_or_check_config


def paint(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(path)


@pytest.fixture
def pictures(tmp_path):
    """A folder of four pictures, with files that are none."""
    for number, name in enumerate(["a.png", "b.png", "below/c.png", "below/d.png"]):
        paint(tmp_path / "pictures" / name, number)
    (tmp_path / "pictures" / "notes.txt").write_text("no picture")
    return tmp_path / "pictures"


def add_three_and_more(path):
    for number in range(5):
        paint(path / f"new{number}.png", number)


def swap(path):
    (path / "a.png").rename(path / "t.png")
    (path / "b.png").rename(path / "a.png")
    (path / "t.png").rename(path / "b.png")


CHANGES = {
    "added": (lambda path: paint(path / "e.png", 9), "1 added ('e.png')"),
    "many": (add_three_and_more, "5 added ('new0.png', 'new1.png', 'new2.png', ...)"),
    "removed": (lambda path: (path / "below/c.png").unlink(), "1 removed ('below/c.png')"),
    "renamed": (
        lambda path: (path / "b.png").rename(path / "x.png"),
        "1 added ('x.png'), 1 removed ('b.png')",
    ),
    "changed": (lambda path: paint(path / "b.png", 8), "1 changed ('b.png')"),
    "swapped": (swap, "2 changed ('a.png', 'b.png')"),
    "became one": (lambda path: paint(path / "notes.txt.png", 1), "1 added ('notes.txt.png')"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_what_changed_in_a_folder_is_said(pictures, case):
    change, expected = CHANGES[case]
    before = fingerprint.of_folder(pictures)
    change(pictures)
    assert fingerprint.difference(before, fingerprint.of_folder(pictures)) == expected


def change_without_a_trace(path):
    """Changes one pixel, and leaves size and date as they are."""
    file = path / "a.bmp"
    times = file.stat()
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_content_counts_and_not_size_or_date(pictures):
    paint(pictures / "a.bmp", 5)
    before = fingerprint.of_folder(pictures)
    os.utime(pictures / "b.png", (1, 1))
    assert fingerprint.of_folder(pictures) == before
    change_without_a_trace(pictures)
    assert fingerprint.difference(before, fingerprint.of_folder(pictures)) == "1 changed ('a.bmp')"


def test_folders_may_move_and_files_that_are_no_pictures_may_change(pictures, tmp_path):
    before = fingerprint.of_folder(pictures)
    assert len(before["pictures"]) == 4
    shutil.copytree(pictures, tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "notes.txt").write_text("changed")
    (tmp_path / "elsewhere" / "more.txt").write_text("new")
    after = fingerprint.of_folder(tmp_path / "elsewhere")
    assert fingerprint.difference(before, after) is None
    assert list(fingerprint.of_folder(pictures / "a.png")["pictures"]) == ["a.png"]


@pytest.mark.parametrize("index", [0, 500, 999])
def test_scenes_of_data_sets_are_compared_by_sample(index):
    images = np.random.default_rng(0).integers(0, 256, (1_000, 4, 5, 3), np.uint8)
    scenes = SceneArrays(images, source="tetris/generated/1.0.0")
    before = fingerprint.of_scenes(scenes)
    assert fingerprint.difference(before, fingerprint.of_scenes(scenes)) is None

    others = images.copy()
    sampled = np.linspace(0, 999, 256).astype(int)
    others[sampled[np.abs(sampled - index).argmin()]] += 1
    other = SceneArrays(others, source=scenes.source)
    expected = "other pictures in as many scenes"
    assert fingerprint.difference(before, fingerprint.of_scenes(other)) == expected

    newer = SceneArrays(images, source="tetris/generated/1.0.1")
    expected = "source tetris/generated/1.0.0 before, tetris/generated/1.0.1 now"
    assert fingerprint.difference(before, fingerprint.of_scenes(newer)) == expected


def experiment_on(path):
    return resolve("slot_attention", f"folder:{path}")


def open_folder(path):
    return folder.open_folder(path, (64, 64, 3), skip_unreadable=True)


@pytest.fixture
def run(pictures, tmp_path):
    """The folder of a run on the pictures."""
    workdir = tmp_path / "run"
    experiment = experiment_on(pictures)
    write_or_check_config(workdir, experiment)
    DataRecord(workdir, experiment, open_folder(pictures)).write(0)
    return workdir


@pytest.mark.filterwarnings("ignore:1 of")
def test_a_run_on_a_folder_that_moved_goes_on(run, pictures):
    moved = pictures.rename(pictures.with_name("moved"))
    experiment = experiment_on(moved)
    write_or_check_config(run, experiment)
    assert DataRecord(run, experiment, open_folder(moved)).difference is None
    assert read_config(run) == experiment
    with pytest.raises(UserError, match="data.protocol: 'folder:.*' -> 'tetris'"):
        check_config(run, resolve("slot_attention", "tetris"))


@pytest.mark.filterwarnings("ignore:1 of", "ignore:2 of")
def test_a_run_on_a_folder_that_changed_is_refused_or_notes_it(run, pictures):
    experiment = experiment_on(pictures)
    (pictures / "a.png").unlink()
    with pytest.raises(UserError, match=r"1 removed \('a.png'\).*--accept_new_data"):
        DataRecord(run, experiment, open_folder(pictures))

    record = DataRecord(run, experiment, open_folder(pictures), accept_new=True)
    record.write(step=70)
    paint(pictures / "z.png", 7)
    DataRecord(run, experiment, open_folder(pictures), accept_new=True).write(step=90)
    assert json.loads((run / "data.json").read_text())["accepted"] == [
        {"step": 70, "difference": "1 removed ('a.png')"},
        {"step": 90, "difference": "1 added ('z.png')"},
    ]
    assert DataRecord(run, experiment, open_folder(pictures)).difference is None


@pytest.mark.filterwarnings("ignore:1 of")
@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b'{"kind": 1}', b'{"kind": "x"}', b'{"kind": "folder"}', b"[" * 99_999],
    ids=len,
)
def test_a_damaged_record_is_named(run, pictures, content):
    (run / "data.json").write_bytes(content)
    with pytest.raises(UserError, match="data.json` is damaged"):
        DataRecord(run, experiment_on(pictures), open_folder(pictures))


@pytest.mark.filterwarnings("ignore:1 of")
def test_a_run_of_an_earlier_version_gets_a_record(run, pictures):
    (run / "data.json").unlink()
    with pytest.raises(UserError, match="data.protocol"):
        check_config(run, experiment_on(pictures.parent))
    record = DataRecord(run, experiment_on(pictures), open_folder(pictures))
    assert record.difference is None
    record.write(0)
    assert len(json.loads((run / "data.json").read_text())["pictures"]) == 4
