"""launch/show.py draws what it says, and names mistakes."""

import pathlib

import command
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parents[2]


def run(*arguments):
    """Runs the command in this process."""
    return command.run("show", *arguments, cwd=ROOT)


def test_polygons_and_mistakes(tmp_path):
    common = [
        "--dataset=overlapping_polygons",
        "--num_train=6",
        "--num_test=4",
        f"--data_dir={tmp_path}",
        f"--out={tmp_path / 'sheet.png'}",
    ]
    process = run(*common, "--split=test", "--num_scenes=12")
    assert process.returncode == 0, process.stderr
    assert (
        "4 of overlapping_polygons_6_4/test: scenes 0-3 of" in process.stdout
        and "objects are visible on average" in process.stdout
    )
    with Image.open(tmp_path / "sheet.png") as sheet:
        width, height = sheet.size
    assert width > 1.5 * height  # four scenes side by side, a row of pictures and a row of truth
    process = run(*common, "--first=4", "--split=test")
    assert (
        process.returncode == 2
        and "error: `--first` must be in 0 ... 3. Received: 4." in process.stderr
    )
