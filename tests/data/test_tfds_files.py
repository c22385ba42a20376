"""Data sets on disk: any format, any state in which a killed build or half a copy leaves them."""

import errno
import json
import os
import pathlib
import shutil

import numpy as np
import pytest

from tfobj.data import packed, protocols, tfds_files
from tfobj.datasets.generators import tetris
from tfobj.errors import UserError

SMALL = protocols.get("tetris").with_sizes(num_train=40, num_test=20)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A data folder with the small data set."""
    path = tmp_path_factory.mktemp("data")
    packed._prepared_builder(SMALL, path)
    return path


@pytest.fixture
def data_dir(built, tmp_path):
    """A copy of it."""
    shutil.copytree(built, tmp_path / "data")
    return tmp_path / "data"


def version_folder(data_dir):
    return pathlib.Path(data_dir, "tetris", SMALL.config, "1.0.0")


def builder_in(data_dir):
    """Returns a builder of the small data set, whether or not it is there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tfds_files, "prepare", lambda make, folder: make())
        return packed._prepared_builder(SMALL, data_dir)


@pytest.mark.parametrize("file_format", ["array_record", "parquet"])
def test_every_file_format_gives_the_same_scenes(tmp_path, file_format, monkeypatch):
    pytest.importorskip(tfds_files._PACKAGES[file_format])
    monkeypatch.setattr(tfds_files, "_BATCH", 16)
    builder_in(tmp_path).download_and_prepare(file_format=file_format)
    (file,) = version_folder(tmp_path).glob(f"tetris-train.{file_format}-*")

    arrays = packed.open_split(SMALL, "train", tmp_path)
    expected = tetris.scenes(np.arange(40))
    np.testing.assert_array_equal(arrays.image, expected["image"])
    np.testing.assert_array_equal(arrays.mask, expected["mask"])
    np.testing.assert_array_equal(arrays.factors["x"], expected["x"])

    shutil.rmtree(version_folder(tmp_path) / "packed")
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="is damaged .* Delete the folder") as error:
        packed.open_split(SMALL, "train", tmp_path)
    assert str(file) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("file_format", ["riegeli", "parquet", "array_record"])
def test_a_format_that_cannot_be_read_here_is_named_before_anything_starts(
    data_dir, monkeypatch, file_format
):
    info = version_folder(data_dir) / "dataset_info.json"
    content = json.loads(info.read_text())
    info.write_text(json.dumps({**content, "fileFormat": file_format}))
    monkeypatch.setattr(tfds_files.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=f"in the format {file_format}, which needs the package"):
        packed.open_split(SMALL, "train", data_dir)
    assert not (version_folder(data_dir) / "packed").exists()


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"[" * 100_000, b"\xff\xfe"], ids=len
)
def test_a_damaged_description_is_one_line(data_dir, content):
    (version_folder(data_dir) / "dataset_info.json").write_bytes(content)
    with pytest.raises(UserError, match=f"{SMALL.config}` cannot be opened.*Delete") as error:
        packed.open_split(SMALL, "train", data_dir)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("missing", ["dataset_info.json", None])
def test_half_a_copy_is_built_again_and_kept_aside(data_dir, missing, capsys):
    folder = version_folder(data_dir)
    if missing is None:
        shutil.rmtree(folder)
        folder.mkdir()
    else:
        (folder / missing).unlink()
    left = sorted(os.listdir(folder))
    assert len(packed.open_split(SMALL, "train", data_dir)) == 40
    assert sorted(os.listdir(folder.with_name("1.0.0.broken1"))) == left
    assert "is no complete data set" in capsys.readouterr().err


def test_what_killed_builds_left_is_removed_and_a_running_one_is_not(tmp_path, monkeypatch):
    parent = version_folder(tmp_path).parent
    old, running = parent / "incomplete.AAAAAA_1.0.0", parent / "incomplete.BBBBBB_1.0.0"
    for folder in (old, running):
        folder.mkdir(parents=True)
        (folder / "part").write_text("half")
        for path in (folder / "part", folder):
            os.utime(path, (1, 1))
    with (running / "part").open("a"):
        assert len(packed.open_split(SMALL, "test", tmp_path)) == 20
    assert not old.exists()
    assert running.exists()
    os.utime(running)
    assert tfds_files._is_in_use(running)  # just changed


def test_a_build_that_fails_leaves_nothing_in_the_way(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(tfds.core.DatasetInfo, "write_to_directory", full)
        with pytest.raises(UserError, match="cannot be built in .*No space left on device"):
            packed.open_split(SMALL, "test", tmp_path)
    assert list(version_folder(tmp_path).parent.iterdir()) == []
    assert len(packed.open_split(SMALL, "test", tmp_path)) == 20


def cannot_write_below(root):
    """Returns what `packed._can_write` answers where `root` is read-only."""
    can_write = packed._can_write
    return lambda folder: not folder.is_relative_to(root) and can_write(folder)


def test_a_data_set_that_cannot_be_written_to_is_unpacked_in_the_cache(
    data_dir, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv(packed.CACHE, str(tmp_path / "cache"))
    monkeypatch.setattr(packed, "_can_write", cannot_write_below(data_dir))
    before = sorted(data_dir.rglob("*"))
    arrays = packed.open_split(SMALL, "train", data_dir)
    np.testing.assert_array_equal(arrays.image, tetris.scenes(np.arange(40))["image"])
    assert sorted(data_dir.rglob("*")) == before
    (folder,) = (tmp_path / "cache" / "packed").iterdir()
    assert str(folder) in capsys.readouterr().err

    # Found again, also where the cache itself is read-only by now.
    with monkeypatch.context() as patch:
        patch.setattr(packed, "_can_write", lambda folder: False)
        patch.setattr(packed, "_pack", lambda *arguments: pytest.fail("unpacked again"))
        assert len(packed.open_split(SMALL, "train", data_dir)) == 40

    # A data set that was built again is another one.
    info = version_folder(data_dir) / "dataset_info.json"
    os.utime(info, (1, 1))
    packed.open_split(SMALL, "train", data_dir)
    assert len(list((tmp_path / "cache" / "packed").iterdir())) == 2


def test_neither_data_set_nor_cache_can_be_written_to(data_dir, monkeypatch):
    monkeypatch.setattr(packed, "_can_write", lambda folder: False)
    with pytest.raises(UserError, match="cannot be written to, nor can the cache.*TFOBJ_CACHE"):
        packed.open_split(SMALL, "train", data_dir)


@pytest.mark.parametrize(
    "variables, expected",
    [
        ({"TFOBJ_CACHE": "/a/b", "XDG_CACHE_HOME": "/c"}, "/a/b"),
        ({"TFOBJ_CACHE": "~/b"}, "/user/b"),
        ({"TFOBJ_CACHE": "", "XDG_CACHE_HOME": "/c"}, "/c/tfobj"),
        ({"XDG_CACHE_HOME": "relative"}, "/user/.cache/tfobj"),
        ({}, "/user/.cache/tfobj"),
    ],
)
def test_the_cache_lies_where_the_system_has_it(monkeypatch, variables, expected):
    for name in ("TFOBJ_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "/user", **variables}.items():
        monkeypatch.setenv(name, value)
    assert packed.cache_folder() == pathlib.Path(expected)


@pytest.mark.parametrize(
    "number, answer", [(errno.EROFS, False), (errno.EACCES, False), (errno.EPERM, False)]
)
def test_read_only_folders_are_told_from_full_disks(tmp_path, monkeypatch, number, answer):
    assert packed._can_write(tmp_path / "new") is True
    assert list((tmp_path / "new").iterdir()) == []

    def refuse(*arguments, **options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(packed.tempfile, "mkdtemp", refuse)
    assert packed._can_write(tmp_path) is answer
    number = errno.ENOSPC
    with pytest.raises(UserError, match="cannot be written .No space left on device"):
        packed._can_write(tmp_path)


def test_a_disk_that_is_full_while_scenes_are_unpacked_is_one_line(data_dir, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(packed._NpyWriter, "append", full)
        with pytest.raises(UserError, match="train_35x35x3` cannot be written .No space left"):
            packed.open_split(SMALL, "train", data_dir)
    assert os.listdir(version_folder(data_dir) / "packed") == []
    assert len(packed.open_split(SMALL, "train", data_dir)) == 40


def test_leftovers_of_killed_unpacking_are_removed(data_dir):
    old = version_folder(data_dir) / "packed" / ".incomplete_train_35x35x3_abc"
    old.mkdir(parents=True)
    packed.open_split(SMALL, "train", data_dir)
    assert os.listdir(old.parent) == ["train_35x35x3"]
