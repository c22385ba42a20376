"""launch/export.py: from the folder of a run to a served model with its scores."""

import json
import pathlib

import command
import numpy as np
import pytest

from tfobj import random
from tfobj.serving import zoo
from tfobj.training import checkpoint, experiment, optimizer, run_folder
from tfobj.training.workdir import locked

ROOT = pathlib.Path(__file__).resolve().parents[2]
TINY = {
    "model.image_size": (16, 16),
    "model.num_slots": 3,
    "model.slot_size": 8,
    "model.encoder_channels": (8,),
    "model.encoder_kernels": (3,),
    "model.decoder_channels": (8,),
    "model.decoder_kernels": (3, 3),
}


def export(*arguments, cwd):
    """Runs the command in this process."""
    return command.run("export", *arguments, cwd=cwd)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Folder of a run that stopped after its third step, and its model."""
    workdir = tmp_path_factory.mktemp("project") / "runs" / "tiny"
    chosen = experiment.resolve("slot_attention", "tetris", overrides=TINY)
    model = experiment.build_model(chosen)
    with locked(workdir):
        run_folder.write_or_check_config(workdir, chosen)
        adam = optimizer.make_optimizer(chosen.train)
        adam.build(model.trainable_variables)
        adam.iterations.assign(3)
        checkpoint.RunState(workdir, model, adam, keep=1).save()
    return workdir, model


def test_run_to_served_model(run):
    workdir, model = run
    project = workdir.parents[1]
    facts = {
        "protocol": "tetris/test: scenes 0-319",
        "num_scenes": 320,
        "fg_ari": 0.5,
        "fg_ari_std": 0.1,
    }
    (workdir / "evaluation.json").write_text(json.dumps({**facts, "step": 3}))
    (project / "saved_models").mkdir()
    (project / "saved_models" / "index.json").write_text("{}")
    process = export("--workdir=runs/tiny", cwd=project)
    assert process.returncode == 0, process.stderr
    assert "Exported step 3 to saved_models/tiny/1" in process.stdout
    decomposer = zoo.load(project / "saved_models" / "tiny")
    images = np.random.default_rng(0).random((2, 16, 16, 3)).astype(np.float32)
    with random.shared_by_scenes():
        expected = model(images, seed=random.make_seed(0)).recon
    np.testing.assert_allclose(decomposer.decompose(images).recon, expected, atol=1e-5)
    assert decomposer.metadata["experiment"]["data"]["protocol"] == "tetris"
    index = project / "saved_models" / "index.json"
    assert zoo.read_index(index)["tiny"]["scores"] == {"fg_ari": 0.5}
    assert index.read_text() == "{}"
    assert "| fg_ari | 0.5 | 0.1 |" in (project / "saved_models" / "tiny" / "README.md").read_text()

    # Only what is asked for enters the index.
    process = export("--workdir=runs/tiny", "--version=1", "--overwrite", "--register", cwd=project)
    assert process.returncode == 0, process.stderr
    assert json.loads(index.read_text())["tiny"]["scores"] == {"fg_ari": 0.5}

    # Scores of other weights are left out.
    (workdir / "evaluation.json").write_text(json.dumps({**facts, "step": 2}))
    process = export("--workdir=runs/tiny", "--to=elsewhere/tiny", "--version=4", cwd=project)
    assert process.returncode == 0
    assert "was measured at step 2, but step 3 is exported" in process.stderr
    assert "Not evaluated." in (project / "elsewhere" / "tiny" / "README.md").read_text()


@pytest.mark.parametrize(
    "content",
    ["[]", "null", "{", "[" * 100_000, '{"step": 3}', '{"protocol": "x", "num_scenes": "many"}'],
    ids=["list", "null", "cut", "deep", "empty", "wrong type"],
)
def test_a_damaged_evaluation_is_named(run, content):
    workdir, _ = run
    (workdir / "evaluation.json").write_text(content)
    try:
        process = export("--workdir=runs/tiny", "--to=other/tiny", cwd=workdir.parents[1])
    finally:
        (workdir / "evaluation.json").unlink()
    assert process.returncode == 2
    assert "evaluation.json` is damaged" in process.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workdir=nowhere"], "`--workdir` must be the folder of a run. Received: nowhere"),
        (["--workdir=runs/tiny", "extra"], "Unexpected argument 'extra'"),
    ],
)
def test_mistakes_are_one_line(run, arguments, message):
    process = export(*arguments, cwd=run[0].parents[1])
    assert process.returncode == 2
    assert [
        message in line for line in process.stderr.splitlines() if line.startswith("error:")
    ] == [True], process.stderr
