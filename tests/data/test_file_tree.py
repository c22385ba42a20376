"""Files below a folder: links, loops, pipes, hidden and unreadable places."""

import os

import pytest

from tfobj.data.file_tree import list_files
from tfobj.errors import UserError


def make(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def names(root, **options):
    return [path.relative_to(root).as_posix() for path in list_files(root, **options)]


def test_class_folders_and_files_that_are_links(tmp_path):
    make(tmp_path / "store", "cats/1.png", "cats/2.png", "dog.png")
    root = tmp_path / "root"
    make(root, "bird/3.png")
    (root / "cat").symlink_to("../store/cats")
    (root / "dog.png").symlink_to(tmp_path / "store" / "dog.png")
    assert names(root) == ["bird/3.png", "cat/1.png", "cat/2.png", "dog.png"]

    (tmp_path / "link").symlink_to("root")
    assert names(tmp_path / "link") == names(root)


def test_two_links_to_one_folder_are_two_folders(tmp_path):
    make(tmp_path / "store", "1.png")
    root = tmp_path / "root"
    root.mkdir()
    (root / "a").symlink_to("../store")
    (root / "b").symlink_to("../store")
    assert names(root) == ["a/1.png", "b/1.png"]


@pytest.mark.parametrize("target", [".", "..", "../..", "/"])
def test_links_to_a_folder_above_are_not_followed(tmp_path, target):
    root = tmp_path / "above" / "root"
    make(root, "1.png", "sub/2.png")
    (root / "sub" / "loop").symlink_to(target)
    assert names(root) == ["1.png", "sub/2.png"]


def test_folders_that_link_to_one_another_end(tmp_path):
    """In every order, twelve of them would be walked in half a billion ways."""
    folders = [f"f{i}" for i in range(12)]
    make(tmp_path, *(f"{folder}/1.png" for folder in folders))
    for folder in folders:
        for other in folders:
            if other != folder:
                (tmp_path / folder / f"to_{other}").symlink_to(tmp_path / other)
    found = names(tmp_path)
    assert set(found) >= {f"{folder}/1.png" for folder in folders}
    assert len(found) <= 12 + 12 * 11


def test_hidden_places_pipes_and_links_to_nowhere(tmp_path):
    make(tmp_path, "1.png", ".hidden/2.png", ".3.png", "a.b/4.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "lost.png").symlink_to("nowhere")
    (tmp_path / "self.png").symlink_to("self.png")
    # Links that lead nowhere are listed, so that whoever reads them names them.
    assert names(tmp_path) == ["1.png", "a.b/4.png", "lost.png", "self.png"]


def test_names_of_any_bytes(tmp_path):
    odd = [b"two\nlines.png", b"\xff\xfe.png", "猫 $x$.png".encode()]
    for name in odd:
        with open(os.path.join(os.fsencode(tmp_path), name), "wb"):
            pass
    assert {os.fsencode(path.name) for path in list_files(tmp_path)} == set(odd)


@pytest.fixture
def closed(tmp_path, monkeypatch):
    """A folder whose subfolder `closed` cannot be listed, also by the superuser."""
    make(tmp_path, "1.png", "closed/2.png", "open/3.png")
    scandir = os.scandir

    def guarded(path):
        if os.path.basename(path) == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    return tmp_path


def test_a_subfolder_that_cannot_be_listed_is_named(closed):
    with pytest.raises(UserError, match=r"closed` cannot be listed \(Permission denied\)"):
        list_files(closed)
    failures = []
    assert names(closed, failures=failures) == ["1.png", "open/3.png"]
    assert len(failures) == 1
    assert "closed` cannot be listed" in str(failures[0])


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("", "Received: ''"),
        ("nowhere", r"nowhere \(no such folder\)"),
        ("pipe", r"pipe \(neither file nor folder\)"),
        ("empty", "empty, which has no files"),
        ("n" * 300, "no such folder"),
    ],
)
def test_what_holds_no_files_is_refused(tmp_path, monkeypatch, path, message):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    os.mkdir("empty")
    with pytest.raises(UserError, match=f"`path` must .*{message}"):
        list_files(path)
