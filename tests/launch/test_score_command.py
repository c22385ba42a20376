"""`launch/score.py`: the table, its files, its refusals, and a process without TensorFlow."""

import csv
import json
import subprocess
import sys

import command
import numpy as np
import pytest
from command import assert_mistake

TRUE = np.array([[[1, 1, 0], [0, 2, 2]], [[0, 0, 0], [0, 0, 0]], [[1, 1, 1], [2, 2, 2]]], np.uint8)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Truth, perfect label maps, and masks that are NaN in the last of three scenes."""
    folder = tmp_path_factory.mktemp("score")
    masks = np.moveaxis(np.eye(3, dtype=np.float32)[TRUE], -1, 1)
    masks[2] = np.nan
    np.save(folder / "truth.npy", TRUE)
    np.save(folder / "ids.npy", 3 * TRUE)
    np.savez(folder / "masks.npz", masks=masks)
    return folder


def run(files, *arguments, predictions="masks.npz"):
    return command.run(
        "score", f"--predictions={predictions}", "--truth=truth.npy", *arguments, cwd=files
    )


def test_table_and_files(files):
    finished = run(files, "--json=scores.json", "--csv=scenes.csv")
    assert finished.returncode == 0, finished.stderr
    lines = {line.split()[0]: line for line in finished.stdout.splitlines() if line}
    assert lines["failed_scenes"].split() == ["failed_scenes", "1"]
    assert "over 2 of 3 scenes (1 undefined" in lines["fg_ari"]
    assert "1 failed, counted as -0.5" in lines["fg_ari"]
    assert "all true ids but 0" in lines["objects"]

    result = json.loads((files / "scores.json").read_text())
    assert result["fg_ari"] == pytest.approx((1 - 0.5) / 2)
    assert result["ari"] == pytest.approx((1 + 1 - 0.5) / 3)
    assert result["miou"] == 0.5
    assert (result["failed_scenes"], result["failed_miou"], result["undefined_miou"]) == (1, 1, 1)
    rows = list(csv.DictReader((files / "scenes.csv").read_text().splitlines()))
    assert [row["scene"] for row in rows] == ["scene 0", "scene 1", "scene 2"]
    assert [row["failed"] for row in rows] == ["0", "0", "1"]


def test_an_infinite_error_is_null(files):
    image = np.zeros((3, 2, 3, 1), np.float32)
    recon = image.copy()
    recon[0] = np.inf
    np.save(files / "image.npy", image)
    np.save(files / "recon.npy", recon)
    finished = run(files, "--images=image.npy", "--recons=recon.npy", "--json=null.json")
    assert finished.returncode == 0, finished.stderr
    text = (files / "null.json").read_text()
    result = json.loads(text, parse_constant=pytest.fail)
    assert result["mse"] is None and result["failed_mse"] == 1
    assert result["failed_scenes"] == 2


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--predictions_key=mask"], "`--predictions_key` must name an array of masks.npz: masks"),
        (["--recons=truth.npy"], "`--recons` and `--images` must be given together"),
        (["--ignore_id=x"], "`--ignore_id` must be a whole number"),
        (["--predictions=nowhere"], "Received: nowhere, which is not"),
        (["extra"], "Unexpected argument 'extra'"),
        (["--truht=x"], "Did you mean 'truth'"),
    ],
)
def test_mistakes_are_named(files, arguments, message):
    assert_mistake(run(files, *arguments), message)


def test_conditions_that_look_wrong_are_said(files):
    np.save(files / "voc.npy", np.where(TRUE == 0, 255, TRUE))
    finished = command.run("score", "--predictions=ids.npy", "--truth=voc.npy", cwd=files)
    assert "give --ignore_id=255" in finished.stdout
    assert "occurs in no scene: is --background_id right?" in finished.stdout


def test_a_process_without_tensorflow(files):
    """As a user of another framework starts it."""
    code = (
        "import sys; sys.modules['tensorflow'] = None; sys.modules['keras'] = None\n"
        "from tfobj import commands\n"
        "import tfobj.launch.score as command\n"
        "sys.argv = ['score.py', '--predictions=ids.npy', '--truth=truth.npy']\n"
        "commands.run(command.main)"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code],
        cwd=files,
        text=True,
        capture_output=True,
        timeout=300,
        env={"PYTHONPATH": str(command.LAUNCH.parent)},
    )
    assert finished.returncode == 0, finished.stderr
    assert "miou_micro" in finished.stdout
