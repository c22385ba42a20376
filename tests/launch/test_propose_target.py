"""launch/propose_target.py: from an existing run, from a run of its own, one-line errors."""

import json
import pathlib

import command
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SMALL = [
    "model.encoder_channels=4",
    "model.encoder_kernels=3",
    "model.encoder_strides=2",
    "model.decoder=small",
    "model.decoder_channels=4,4,4",
    "model.latent_size=4",
    "model.num_layers=1",
    "model.num_steps=0",
    "train.batch_size=2",
    "data.num_train=8",
    "data.num_test=2",
]


def propose(*arguments, cwd):
    """Runs the command in this process."""
    return command.run("propose_target", *arguments, cwd=cwd)


def make_run(folder, model, **overrides):
    """Writes config and metrics of a run whose NLL fell to -1.1 nats per pixel and channel."""
    from tfobj.training.experiment import resolve

    folder.mkdir()
    experiment = resolve(
        model,
        "tetris",
        "quick",
        overrides={"model.likelihood_scale": 0.3, "train.steps": 20_000, **overrides},
    )
    (folder / "config.json").write_text(json.dumps(experiment.to_dict()))
    rows = [{"step": 100 * (i + 1), "split": "train", "nll": -1.1 * 35 * 35 * 3} for i in range(30)]
    rows.append({"step": 3_000, "split": "validation", "fg_ari": 0.9})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_from_a_run_that_is_there(tmp_path):
    make_run(tmp_path / "run", "efficient_morl", **{"model.geco_target": -1.224})
    process = propose("--workdir=run", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    lines = process.stdout.splitlines()
    assert lines[-1] == "--set model.geco_target=-1.1"
    assert any(line.split()[:2] == ["steps", "3,000"] for line in lines) and any(
        line.split()[:2] == ["floor", "-1.20397"] for line in lines
    )
    (warning,) = [line for line in lines if line.startswith("warning:")]
    assert "model.geco_target=-1.224 is below the least negative log likelihood" in warning
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"config.json", "metrics.jsonl"}


@pytest.mark.slow
def test_with_a_run_of_its_own(tmp_path):
    command = [
        "--model=efficient_morl",
        "--preset=quick",
        "--steps=6",
        "--out=short",
        "--data_dir=data",
        *[f"--set={s}" for s in SMALL],
        "--set=model.geco_target=-1.0",
        "--strategy=cpu",
    ]
    process = propose(*command, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert process.stdout.splitlines()[-1].startswith("--set model.geco_target=")
    assert "The run made 6 of " in process.stdout
    config = json.loads((tmp_path / "short" / "config.json").read_text())
    assert config["model"]["geco_target"] is None and config["train"]["steps"] == 6
    again = propose(*command, cwd=tmp_path)
    # The same run, continued; the first time the dataset was built before.
    assert again.returncode == 0 and again.stdout and process.stdout.endswith(again.stdout)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--workdir=nowhere"], "`--workdir` must be the folder of a run. Received: nowhere"),
        (
            ["--workdir=nowhere", "--steps=100", "--model=genesis"],
            "`--workdir` names an existing run; leave it out to train a short one.",
        ),
        (["--model=slot_attention"], "`model` must be one with GECO"),
        (["--step=3"], "Unknown flag 'step'. Did you mean 'steps'?"),
        (["--steps=2"], "flag --steps=2"),
    ],
)
def test_mistakes_are_one_line(tmp_path, arguments, message):
    process = propose(*arguments, cwd=tmp_path)
    errors = [line for line in process.stderr.splitlines() if line.startswith("error:")]
    assert (
        process.returncode == 2 and len(errors) == 1 and errors[0].startswith(f"error: {message}")
    ), process.stderr
    assert list(tmp_path.iterdir()) == []


def test_help_teaches(tmp_path):
    process = propose("--help", cwd=tmp_path)
    assert (
        "python launch/propose_target.py --workdir=" in process.stdout
        and "MSE at the target" in process.stdout
    )
