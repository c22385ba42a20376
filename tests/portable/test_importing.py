"""From the JAX host back to an ordinary run: its checkpoint is the state; nothing is replaced."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from portable_host import rows, run_step, small

from tfobj.errors import UserError
from tfobj.portable import artifact, exporting, importing, records
from tfobj.training.checkpoint import RunState
from tfobj.training.experiment import build_model
from tfobj.training.optimizer import make_optimizer
from tfobj.training.run_folder import read_config


def checkpoint(workdir):
    """Returns (step, name -> array) of a run's newest checkpoint, weights and optimizer."""
    experiment = read_config(workdir)
    model = build_model(experiment)
    optimizer = make_optimizer(experiment.train)
    optimizer.build(model.trainable_variables)
    step = RunState(workdir, model, optimizer, 3).restore()
    return step, {v.path: v.numpy() for v in [*model.weights, *optimizer.variables]}


def test_the_checkpoint_is_the_state(finished, tmp_path):
    folder = finished("slot_attention")
    workdir = tmp_path / "run"
    imported = importing.import_state(folder, workdir)
    _, state = records.newest_state(folder)
    step, values = checkpoint(workdir)
    assert step == imported.step == 20
    assert values.keys() == state.keys()
    for name, value in state.items():
        np.testing.assert_array_equal(values[name], value, err_msg=name)
    assert read_config(workdir) == small("slot_attention")
    assert (workdir / "metrics.jsonl").read_text() == (folder / "metrics.jsonl").read_text()
    assert "JAX" in json.loads((workdir / "machine.json").read_text())["software"]
    assert "launch/run_step.py" in json.loads((workdir / "machine.json").read_text())["command"]


def test_an_imported_run_resumes(finished, tmp_path, monkeypatch):
    from tfobj.portable import scenes
    from tfobj.training import loop

    importing.import_state(finished("slot_attention"), tmp_path / "run")
    monkeypatch.setattr(
        loop,
        "open_scenes",
        lambda experiment, split, data_dir=None: (
            scenes.generate(scenes.protocol_of(experiment.data.to_dict()), split),
            "drawn",
        ),
    )
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    config["train"] |= {"steps": 23, "cooldown_steps": 0}
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    done = loop.train(
        read_config(tmp_path / "run"), tmp_path / "run", tf.distribute.OneDeviceStrategy("/cpu:0")
    )
    assert done.step == 23
    assert [row["step"] for row in rows(tmp_path / "run")] == list(range(1, 24))
    losses = [row["loss"] for row in rows(tmp_path / "run")]
    assert max(losses[20:]) < 1.2 * max(losses[15:20])  # no jump where TensorFlow took over


def test_a_used_folder_is_left_alone(finished, tmp_path):
    (tmp_path / "config.json").write_text("mine")
    with pytest.raises(UserError, match="must be a new folder.*its files stay as they are"):
        importing.import_state(finished("slot_attention"), tmp_path)
    assert (tmp_path / "config.json").read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.fixture
def state(finished, tmp_path):
    """A copy of a finished run that may be damaged; its newest state alone."""
    folder = shutil.copytree(finished("slot_attention"), tmp_path / "state")
    shutil.rmtree(folder / "state" / "step_00000010")
    return folder


def test_states_that_do_not_fit_are_refused(state, tmp_path):
    newest = state / "state" / "step_00000020"
    summary, arrays = artifact.read_state(newest)
    name = next(n for n in arrays if n.endswith("kernel"))

    def refused(message):
        with pytest.raises(UserError, match=message):
            importing.import_state(state, tmp_path / "run")
        assert not (tmp_path / "run").exists()

    artifact.write_state(newest, 20, {k: v for k, v in arrays.items() if k != name})
    refused(f"has no variable '{name}', which the model has")
    artifact.write_state(newest, 20, {**arrays, "other": arrays[name]})
    refused("has a variable 'other', which the model does not have")
    artifact.write_state(newest, 20, {**arrays, name: np.zeros((2, 2), np.float32)})
    refused(rf"'{name}' must be float32 .*Received: float32 \[2, 2\]")
    artifact.write_state(newest, 21, arrays)
    refused("step 21 in its summary, 20 in the optimizer")
    manifest = json.loads((state / "manifest.json").read_text())
    manifest["steps"][0]["config"]["model"]["num_stepz"] = 3
    (state / "manifest.json").write_text(json.dumps(manifest))
    refused("Unknown setting 'model.num_stepz'")
    (state / "manifest.json").write_text(json.dumps({**manifest, "format": 99}))
    refused("Received: format 99")
    shutil.rmtree(state / "state")
    (state / "manifest.json").write_text(json.dumps(manifest))
    refused("holds no state")


def test_a_damaged_newest_state_gives_way_to_the_one_before(finished, tmp_path, capsys):
    folder = shutil.copytree(finished("slot_attention"), tmp_path / "state")
    (folder / "state" / "step_00000020" / "part_000.npz").write_bytes(b"")
    assert importing.import_state(folder, tmp_path / "run").step == 10
    assert "part_000.npz` is damaged" in capsys.readouterr().err


def test_export_refuses_a_used_folder_and_a_stage_that_does_not_fit(exported, tmp_path):
    with pytest.raises(UserError, match="must be a new folder"):
        exporting.export(small("slot_attention"), exported("slot_attention"))
    folder = shutil.copytree(exported("slot_attention"), tmp_path / "artifact")
    with pytest.raises(
        UserError,
        match="`--from_step` must be after the last stage, which begins at step 0. Received: 0",
    ):
        exporting.append(small("slot_attention"), folder, 0)
    for change, message in (
        ({"model__slot_size": 8}, "The new stage: .* must be"),
        ({"train__batch_size": 8}, "one batch size, 4. Received: 8"),
        ({"seed": 3}, "one seed, 0. Received: 3"),
    ):
        with pytest.raises(UserError, match=message):
            exporting.append(small("slot_attention", **change), folder, 10)
    assert len(artifact.read_manifest(folder)["steps"]) == 1


@pytest.mark.slow
def test_a_curriculum_survives_a_second_journey(exported, finished, tmp_path):
    """Three refinement steps from update 10 on; then out again from the imported checkpoint."""
    folder = shutil.copytree(exported("iodine"), tmp_path / "artifact")
    exporting.append(small("iodine", model__num_steps=3), folder, 10)
    status, errors = run_step(f"--artifact={folder}", f"--workdir={tmp_path / 'run'}")
    assert status == 0, errors
    one = rows(finished("iodine"))
    two = rows(tmp_path / "run")
    assert [r["loss"] for r in one[:10]] == [r["loss"] for r in two[:10]]
    assert one[10]["loss"] != two[10]["loss"]
    imported = importing.import_state(tmp_path / "run", tmp_path / "imported")
    assert imported.experiment.model.num_steps == 3
    exporting.export(
        imported.experiment.override({"train.steps": 24, "train.cooldown_steps": 0}),
        tmp_path / "again",
        tmp_path / "imported",
        num_scenes=48,
    )
    assert artifact.read_state(tmp_path / "again" / "state")[0]["step"] == 20
    status, errors = run_step(f"--artifact={tmp_path / 'again'}", f"--workdir={tmp_path / 'run2'}")
    assert status == 0, errors
    assert [row["step"] for row in rows(tmp_path / "run2")] == [21, 22, 23, 24], errors
