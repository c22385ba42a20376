"""launch/show.py draws what it says, and names mistakes."""

import pathlib

import command
import numpy as np
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


def test_scenes_of_a_large_data_set_are_not_built(tmp_path):
    process = run(
        "--dataset=tetris",
        "--num_scenes=6",
        f"--data_dir={tmp_path / 'data'}",
        f"--out={tmp_path / 'a.png'}",
    )
    assert process.returncode == 0, process.stderr
    assert "a.png: 6 of tetris/train: scenes 0-59999" in process.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_a_folder_with_any_name_and_with_other_files(tmp_path):
    folder = tmp_path / "$x_{ $ `y`"
    folder.mkdir()
    for number in range(4):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / f"{number}.png")
    (folder / "1.png").write_text("words")
    user = tmp_path / f"{folder.name}_train.png"
    Image.fromarray(np.eye(8, dtype=np.uint8)).save(user)
    before = user.read_bytes()

    arguments = (f"--dataset=folder:{folder}", "--num_scenes=2")
    process = command.run("show", *arguments, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert process.stdout.startswith(f"{folder.name}_train_2.png: 2 of 3 pictures of ")
    (line,) = [line for line in process.stderr.splitlines() if "skipped" in line]
    assert line.startswith("note: 1 of 4 files are no pictures and were skipped, the first: ")
    assert user.read_bytes() == before

    process = command.run("show", *arguments, "--first=4", cwd=tmp_path)
    command.assert_mistake(process, "`--first` must be in 0 ... 3. Received: 4.")
