"""launch/export_step.py, run_step.py and import_state.py: mistakes, and a run through all three."""

import json
import os
import pathlib
import subprocess
import sys

import command
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    "name, arguments, message",
    [
        (
            "run_step",
            ["--artifact=none", "--workdir=out"],
            "`none` must be a folder made by launch/export_step.py. It has no manifest.json.",
        ),
        (
            "run_step",
            ["--artifact=none", "--workdir=out", "--step=3"],
            "Unknown flag 'step'. Did you mean 'steps'?",
        ),
        (
            "run_step",
            ["--artifact=none", "--workdir=out", "--minutes=-1"],
            "`--minutes` must be positive. Received: -1.0.",
        ),
        ("export_step", ["--to=out", "--append"], "`--append` and `--from_step=N` go together."),
        (
            "export_step",
            ["--to=out", "--workdir=none"],
            "`--workdir` must be the folder of a run. Received: none, which has no config.json.",
        ),
        (
            "export_step",
            ["--to=out", "--workdir=none", "--model=iodine"],
            "`--workdir` brings the settings of its run. Received also: --model.",
        ),
        ("import_state", ["--state=none", "--workdir=out"], "`none` must be a folder"),
    ],
)
def test_mistakes_are_one_line(tmp_path, name, arguments, message):
    if name == "run_step":  # needs no TensorFlow, so it starts quickly; has a parser of its own
        process = command.run_process(name, *arguments, cwd=tmp_path)
    else:
        process = command.run(name, *arguments, cwd=tmp_path)
    errors = [line for line in process.stderr.splitlines() if line.startswith("error:")]
    assert process.returncode == 2 and len(errors) == 1, process.stderr
    assert errors[0].startswith(f"error: {message}") and "Traceback" not in process.stderr
    assert list(tmp_path.iterdir()) == []


def test_help_needs_no_jax(tmp_path):
    code = (
        "import runpy, sys; sys.modules['jax'] = None; sys.argv = ['run_step.py', '--help']; "
        f"runpy.run_path({os.fspath(ROOT / 'launch' / 'run_step.py')!r}, run_name='__main__')"
    )
    process = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True)
    assert (
        process.returncode == 0
        and "--artifact FOLDER" in process.stdout
        and "absl" not in process.stderr
    )


@pytest.mark.slow
def test_there_and_back(tmp_path):
    """Trains two steps with TensorFlow, two with JAX, one more with TensorFlow; then scores."""
    pytest.importorskip(
        "jax", reason="exporting and running a step need JAX: pip install 'tfobj[jax]'"
    )
    settings = [
        "--set=data.num_train=40",
        "--set=data.num_test=8",
        "--set=train.batch_size=4",
        "--set=train.log_every=1",
        "--set=train.cooldown_steps=0",
        "--set=train.checkpoint_every=2",
        "--set=eval.batch_size=8",
        "--set=model.num_steps=1",
    ]
    model, data = (
        ["--model=slot_attention", "--dataset=tetris", "--preset=quick"],
        f"--data_dir={tmp_path / 'tfds'}",
    )

    def succeed(name, *arguments):
        process = command.run_process(name, *arguments, cwd=tmp_path)
        assert process.returncode == 0, process.stderr
        return process

    succeed("train", *model, *settings, "--set=train.steps=2", "--workdir=first", data)
    succeed(
        "export_step",
        "--workdir=first",
        "--set=train.steps=4",
        "--with_data=40",
        "--to=artifact",
        data,
    )
    assert succeed("run_step", "--artifact=artifact", "--workdir=out").stdout.startswith(
        "Trained 4 steps in out."
    )
    assert (
        "Imported step 4 of slot_attention to back."
        in succeed("import_state", "--state=out", "--workdir=back").stdout
    )
    succeed("evaluate", "--workdir=back", data)
    scores, host = (
        json.loads((tmp_path / folder / "evaluation.json").read_text())
        for folder in ("back", "out")
    )
    assert scores["step"] == 4 and "JAX" in scores["software"]
    for name in ("mse", "fg_ari", "ari"):
        assert scores[name] == pytest.approx(host[name], abs=1e-4)
    succeed("train", *model, *settings, "--set=train.steps=5", "--workdir=back", data)
    rows = [
        json.loads(line) for line in (tmp_path / "back" / "metrics.jsonl").read_text().splitlines()
    ]
    assert [row["step"] for row in rows if row["split"] == "train"] == [3, 4, 5]
