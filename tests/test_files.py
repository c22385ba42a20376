"""Files appear complete or not at all, and generated text goes between its markers."""

import os
import subprocess
import sys

import pytest

from tfobj import files
from tfobj.errors import UserError


def test_partial_files_of_killed_processes_are_removed(tmp_path):
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    below = tmp_path / "figures"
    below.mkdir()
    dead = below / f".a.{ended.pid}.partial.png"
    alive = below / f".b.{os.getpid()}.partial.png"
    mine = below / ".notes.partial.txt"
    for path in (dead, alive, mine):
        path.write_text("half")
    with pytest.raises(KeyboardInterrupt), files.atomic_path(below / "c.json") as partial:
        assert files._PARTIAL.fullmatch(partial.name)[1] == str(os.getpid())
        raise KeyboardInterrupt
    files.remove_partial_files(tmp_path)
    assert sorted(below.iterdir()) == sorted([alive, mine])


def test_a_mistake_leaves_the_old_file(tmp_path):
    path = tmp_path / "new folder" / "a.txt"
    files.write_text(path, "old")
    with pytest.raises(RuntimeError), files.atomic_path(path) as partial:
        partial.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old" and [p.name for p in path.parent.iterdir()] == ["a.txt"]


def test_fill_replaces_only_what_stands_between_the_markers(tmp_path):
    path = tmp_path / "page.md"
    path.write_text("before\n<!-- a -->\nold\n<!-- b -->\nafter\n")
    with pytest.raises(UserError, match="page.md is not up to date; run `make page`"):
        files.fill_between(path, "<!-- a -->", "<!-- b -->", "new", check=True, command="make page")
    assert "old" in path.read_text()
    assert files.fill_between(path, "<!-- a -->", "<!-- b -->", "new")
    assert path.read_text() == "before\n<!-- a -->\nnew\n<!-- b -->\nafter\n"
    assert not files.fill_between(path, "<!-- a -->", "<!-- b -->", "new", check=True)


@pytest.mark.parametrize("text", ["no markers", "<!-- a -->\n", "<!-- b -->\n<!-- a -->"])
def test_fill_needs_both_markers_in_order(text, tmp_path):
    path = tmp_path / "page.md"
    path.write_text(text)
    with pytest.raises(UserError, match="page.md must have the lines"):
        files.fill_between(path, "<!-- a -->", "<!-- b -->", "new")


def test_a_folder_appears_whole_and_replaces_nothing_but_an_empty_one(tmp_path):
    (tmp_path / "new").mkdir()
    with files.atomic_folder(tmp_path / "new") as partial:
        (partial / "file").write_text("first")
        assert not list((tmp_path / "new").iterdir())

    with (
        pytest.raises(UserError, match="new` cannot be written .Directory not empty"),
        files.atomic_folder(tmp_path / "new") as partial,
    ):
        (partial / "file").write_text("second")
    assert (tmp_path / "new" / "file").read_text() == "first" and [
        p.name for p in tmp_path.iterdir()
    ] == ["new"]


def test_a_folder_takes_the_place_of_another_where_it_may(tmp_path):
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "old").touch()
    with files.atomic_folder(tmp_path / "new", replace=True) as partial:
        (partial / "file").touch()
    assert [str(p.relative_to(tmp_path)) for p in sorted(tmp_path.rglob("*"))] == [
        "new",
        "new/file",
    ]
