"""The loop without TensorFlow.

It makes TensorFlow's losses and weights, the same after a kill, and tells mistakes in one line.
"""

import json
import pathlib
import shutil
import signal

import numpy as np
import pytest
from portable_host import jax_only, rows, run_step, small

from tfobj.errors import UserError
from tfobj.portable import artifact, exporting, program, records, runner
from tfobj.training.workdir import locked


def tensorflow_run(model, steps):
    """Returns (rows of terms, name -> array) of the same run by TensorFlow, compiled by XLA."""
    import tensorflow as tf

    from tfobj.portable import scenes
    from tfobj.training.experiment import build_model
    from tfobj.training.optimizer import make_optimizer
    from tfobj.training.stage_batches import StageBatches
    from tfobj.training.step import make_train_step

    experiment = small(model)
    strategy = tf.distribute.get_strategy()
    network = build_model(experiment)
    optimizer = make_optimizer(experiment.train)
    step = make_train_step(strategy, network, optimizer, experiment, xla=True)
    train = scenes.generate(scenes.protocol_of(experiment.data.to_dict()), "train")
    batches = StageBatches(train, experiment.train, network.stages(), experiment.seed, strategy)
    terms = [step.run(batches.iterator(i), 1)[0] for i in range(steps)]
    return terms, {v.path: v.numpy() for v in [*network.weights, *optimizer.variables]}


@pytest.mark.parametrize(
    "model, rtol",
    [
        ("slot_attention", 1e-5),
        ("sequential_iodine", 1e-5),
        pytest.param("iodine", 1e-5, marks=pytest.mark.slow),
        # Rounding grows along the chain of cells.
        pytest.param("video_decomposition", 1e-4, marks=pytest.mark.slow),
    ],
)
def test_twenty_steps_equal_tensorflow(model, rtol, finished):
    folder = finished(model)
    expected, weights = tensorflow_run(model, 20)
    got = rows(folder)
    assert [row["step"] for row in got] == list(range(1, 21))
    assert min(row["grad_norm"] for row in got) > 1.0  # clipping was active
    for row, terms in zip(got, expected, strict=True):
        for name, value in terms.items():
            np.testing.assert_allclose(
                row[name],
                value,
                rtol=rtol if name != "grad_norm" else 1e-4,
                err_msg=f"{name} of step {row['step']}",
            )
    summary, state = records.newest_state(folder)
    assert summary["step"] == 20
    assert state.keys() == weights.keys()
    for name, value in weights.items():
        # Adam divides by the root of tiny second moments, which magnifies rounding to a part of the
        # learning rate, 1e-3.
        np.testing.assert_allclose(state[name], value, rtol=1e-4, atol=1e-4, err_msg=name)


def test_models_of_images_train_on_frames_of_clips(finished, tmp_path):
    folder = tmp_path / "artifact"
    exporting.export(small("iodine", dataset="balls4_color_32", eval__num_frames=3), folder)
    manifest = artifact.read_manifest(folder)
    train, evaluation = runner.open_data(folder, manifest)
    assert train.image.shape == (48 * 51, 32, 32, 3)
    assert evaluation.num_frames == 51
    (entry,) = manifest["steps"]
    assert entry["params"][0]["shape"] == [4, 32, 32, 3]
    assert entry["forward"]["params"][0]["shape"] == [8, 3, 32, 32, 3]
    assert entry["forward"]["outputs"][0]["shape"] == [8, 3, 5, 32, 32, 1]


def test_scores_are_written(finished):
    evaluation = json.loads((finished("slot_attention") / "evaluation.json").read_text())
    assert evaluation["num_scenes"] == 12
    assert evaluation["step"] == 20
    assert evaluation["split"] == "test"
    assert {
        "mse",
        "mse_std",
        "fg_ari",
        "fg_ari_std",
        "ari",
        "ari_std",
    } < evaluation.keys()
    assert "JAX" in evaluation["software"]
    (row,) = rows(finished("slot_attention"), "test")
    assert {name: row[name] for name in ("mse", "fg_ari", "ari")} == {
        name: evaluation[name] for name in ("mse", "fg_ari", "ari")
    }


@pytest.mark.parametrize(
    "model, number, saved",
    [
        ("slot_attention", signal.SIGKILL, {10}),
        pytest.param("slot_attention", signal.SIGTERM, set(range(12, 20)), marks=pytest.mark.slow),
        pytest.param(
            "sequential_iodine", signal.SIGTERM, set(range(12, 20)), marks=pytest.mark.slow
        ),
    ],
)
def test_stopped_and_resumed_equals_uninterrupted(
    model, number, saved, exported, finished, tmp_path
):
    arguments = [f"--artifact={exported(model)}", f"--workdir={tmp_path / 'run'}"]
    process = jax_only(*arguments)
    for line in process.stderr:  # one line per step
        if line.startswith("step       12"):
            process.send_signal(number)
            break
    said = process.stderr.read()
    _ = process.stdout.read()
    assert process.wait() == (-number if number == signal.SIGKILL else 0)
    assert number == signal.SIGKILL or "Stopped by SIGTERM at step" in said
    process.stderr.close(), process.stdout.close()
    assert records.newest_state(tmp_path / "run")[0]["step"] in saved

    status, errors = run_step(*arguments)
    assert status == 0, errors
    assert "Resuming at step" in errors, errors
    (_, once), (_, twice) = (
        records.newest_state(finished(model)),
        records.newest_state(tmp_path / "run"),
    )
    for name, value in once.items():
        np.testing.assert_array_equal(twice[name], value, err_msg=name)
    ones = rows(finished(model))
    twos = rows(tmp_path / "run")
    assert [(r["step"], r["loss"], r["learning_rate"]) for r in ones] == [
        (r["step"], r["loss"], r["learning_rate"]) for r in twos
    ]
    assert len(list((tmp_path / "run" / "state").iterdir())) == records.KEPT_STATES


def options(**changes):
    return runner.Options(**{"platform": "cpu", **changes})


@pytest.fixture
def folder(exported, tmp_path):
    """A copy that may be damaged."""
    return shutil.copytree(exported("slot_attention"), tmp_path / "artifact")


def fails(folder, workdir, message, **changes):
    with pytest.raises(UserError, match=message):
        runner.run(folder, workdir, options(**changes))


def test_damaged_folders_are_named(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(
        program, "start_jax", lambda platform=None: pytest.fail("the folder is checked first")
    )
    (folder / "state" / "part_000.npz").rename(tmp_path / "part")
    fails(folder, tmp_path / "a", "part_000.npz` is missing")
    (tmp_path / "part").rename(folder / "state" / "part_000.npz")
    manifest = json.loads((folder / "manifest.json").read_text())
    name = next(iter(manifest["variables"]))
    manifest["variables"][name]["shape"] = [99]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    fails(folder, tmp_path / "a", f"'{name}' must be float32 .99.")


def test_data_that_does_not_fit_is_refused(exported, tmp_path):
    manifest = artifact.read_manifest(exported("slot_attention"))
    np.savez(tmp_path / "small.npz", image=np.zeros((50, 20, 20, 3), np.uint8))
    np.savez(tmp_path / "few.npz", image=np.zeros((3, 35, 35, 3), np.uint8))
    for name, message in (
        ("small.npz", r"Training scenes must be images of shape \[35, 35, 3\]"),
        ("few.npz", "at least the batch of 4.*Received: 3"),
        ("none", "is missing"),
    ):
        with pytest.raises(UserError, match=message):
            runner.open_data(exported("slot_attention"), manifest, str(tmp_path / name))


def test_another_experiment_in_the_folder_is_refused(folder, tmp_path):
    old = json.loads((folder / "manifest.json").read_text())
    (tmp_path / "run").mkdir()
    changed = json.loads(json.dumps(old))
    changed["steps"][0]["config"]["train"]["learning_rate"] = 0.5
    (tmp_path / "run" / "manifest.json").write_text(json.dumps(changed))
    fails(
        folder,
        tmp_path / "run",
        r"holds a run with other settings: train.learning_rate: 0.5 -> 0.001",
    )


def test_other_scenes_than_before_are_refused(folder, finished, tmp_path, monkeypatch):
    shutil.copytree(finished("slot_attention"), tmp_path / "run")
    np.savez(tmp_path / "other.npz", image=np.zeros((48, 35, 35, 3), np.uint8))
    monkeypatch.setattr(
        program, "start_jax", lambda platform=None: None
    )  # the scenes are compared before anything is compiled
    fails(folder, tmp_path / "run", "was trained on other scenes", data=str(tmp_path / "other.npz"))


def test_a_folder_in_use_is_refused(folder, tmp_path):
    with locked(tmp_path / "run"):
        fails(folder, tmp_path / "run", "in use by another run")


@pytest.mark.parametrize("version", ["0.4.38", "0.10.1", "0.9"])
def test_old_jax_is_refused(version):
    with pytest.raises(UserError, match=rf"JAX must be at least 0.10.2.*Received: JAX {version}"):
        program.check_version(version)
    for newer in ("0.10.2", "0.12.0.1", "1.0.0rc1"):
        program.check_version(newer)


@pytest.mark.parametrize("name", ["steps", "save_every", "minutes"])
def test_options_are_positive(name):
    with pytest.raises(UserError, match=f"`--{name}` must be positive. Received: -1"):
        runner.Options(**{name: -1})


def test_loss_that_is_not_finite_stops_with_its_step(folder, tmp_path):
    _, state = artifact.read_state(folder / "state")
    name = next(
        n for n in state if n.startswith("SlotAttentionAutoencoder") and n.endswith("kernel")
    )
    artifact.write_state(folder / "state", 0, {**state, name: np.full_like(state[name], np.nan)})
    status, errors = run_step(
        f"--artifact={folder}", f"--workdir={tmp_path / 'run'}", "--log_every=5"
    )
    assert status == 2
    assert (
        "error: The loss is not finite since step 0 (not finite in this step: grad_norm, loss, mse)"
        in errors
    )
    assert not pathlib.Path(tmp_path / "run" / "state").exists()


@pytest.mark.slow
def test_minutes_stop_in_time(exported, tmp_path):
    status, errors = run_step(
        f"--artifact={exported('slot_attention')}",
        f"--workdir={tmp_path / 'run'}",
        "--steps=1000000",
        "--minutes=0.4",
        "--log_every=100",
    )
    assert status == 0, errors
    assert "before its time was over" in errors, errors
    assert records.newest_state(tmp_path / "run")[0]["step"] > 0
