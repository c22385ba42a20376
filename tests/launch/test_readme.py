"""launch/readme.py records runs, and the pages name only what exists."""

import json
import pathlib
import re

import pytest

from tfobj.errors import UserError
from tfobj.launch import readme

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_record_names_the_copies_by_the_evaluation(tmp_path):
    evaluation = {
        "model": "iodine",
        "preset": "quick",
        "protocol": "tetris_2000_320/test: scenes",
        "seed": 3,
    }
    figures = tmp_path / "run" / "figures"
    figures.mkdir(parents=True)
    (tmp_path / "run" / "evaluation.json").write_text(json.dumps(evaluation))
    for name in readme.FIGURES:
        (figures / name).write_bytes(b"picture")

    readme.record(tmp_path / "run", tmp_path / "results")
    assert sorted(p.name for p in (tmp_path / "results").iterdir()) == [
        f"iodine_tetris_quick_seed3{end}"
        for end in (".gif", ".json", ".png", "_filmstrip.png", "_layers.png")
    ]


def test_a_run_that_was_not_evaluated_is_refused(tmp_path):
    with pytest.raises(UserError, match="no evaluation.json"):
        readme.record(tmp_path, tmp_path / "results")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_pages_name_only_files_that_exist(page):
    text = page.read_text()
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if not target.startswith("https://"):
            assert (page.parent / target).exists(), target
    for script in re.findall(r"python (launch/\w+\.py)", text):
        assert (ROOT / script).exists(), script


def test_commands_of_the_readme_fit_into_100_columns():
    blocks = (ROOT / "README.md").read_text().split("```")[1::2]
    assert len(blocks) > 5
    assert [line for block in blocks for line in block.splitlines() if len(line) > 100] == []


def test_flags_of_the_commands_in_the_readme_exist():
    """In the file of the command, or where commands share flags."""
    text = (ROOT / "README.md").read_text()
    shared = (ROOT / "launch" / "shared_flags.py").read_text()
    for script, arguments in re.findall(r"python (launch/\w+\.py)([^\n`#]*)", text):
        source = (ROOT / script).read_text() + shared
        for flag in re.findall(r"--(\w+)", arguments):
            assert f'"{flag}"' in source, f"{script} --{flag}"
