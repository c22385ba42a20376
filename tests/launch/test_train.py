"""launch/train.py: one-line errors. (Runs are in tests/training/test_resume.py.)"""

import json
import pathlib

import command
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


def train(*arguments, cwd):
    """Runs the command in this process."""
    return command.run("train", *arguments, cwd=cwd)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            ["--model=slot_atention"],
            "Unknown model 'slot_atention'. Did you mean 'slot_attention'?",
        ),
        (["--dataset=tetrs"], "Unknown dataset 'tetrs'. Did you mean 'tetris'?"),
        (
            ["--preset=papr"],
            "Unknown preset for slot_attention on tetris 'papr'. Did you mean 'paper'?",
        ),
        (["--stratgy=cpu"], "Unknown flag 'stratgy'. Did you mean 'strategy'?"),
        (["--seed=none"], "flag --seed=none"),
        (["--set=train.stepz=3"], "Unknown setting 'train.stepz'. Did you mean 'train.steps'?"),
        (["--set=model.num_slots=1"], "`num_slots` must be at least 2. Received: num_slots=1."),
        (["--set=train.learning_rate=nan"], "`train.learning_rate` must be positive."),
        (
            ["--strategy=tpus", "--set=train.steps=1"],
            "Unknown strategy 'tpus'. Did you mean 'tpu'?",
        ),
    ],
)
def test_mistakes_are_one_line(tmp_path, arguments, message):
    process = train(*arguments, cwd=tmp_path)
    errors = [line for line in process.stderr.splitlines() if line.startswith("error:")]
    assert process.returncode == 2 and len(errors) == 1, process.stderr
    assert errors[0].startswith(f"error: {message}") and "Traceback" not in process.stderr
    assert list(tmp_path.iterdir()) == []


def test_print_config_is_json_and_starts_nothing(tmp_path):
    process = train("--model=iodine", "--print_config", "--set=train.steps=7", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert json.loads(process.stdout)["train"]["steps"] == 7
    assert list(tmp_path.iterdir()) == []
