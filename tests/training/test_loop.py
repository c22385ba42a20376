"""The outer loop: what it writes when, how it stops, and what it leaves behind."""

import dataclasses
import json
import os
import shutil
import signal

import numpy as np
import pytest

from tfobj.errors import UserError
from tfobj.training.checkpoint import load_run
from tfobj.training.loop import TrainingDiverged
from tfobj.training.run_folder import check_config
from tfobj.training.step import TrainStep
from tfobj.training.workdir import locked, read_metrics


def steps_on_disk(workdir, folder="checkpoints"):
    return {int(path.stem.rpartition("-")[2]) for path in (workdir / folder).glob("*.index")}


def with_pixels(scenes, value):
    """Scenes as floats (the pipeline divides by 255), the last one with a pixel of `value`."""
    image = scenes.image.astype(np.float32)
    image[-1, 0, 0, 0] = value
    return dataclasses.replace(scenes, image=image)


def test_run_writes_on_time(tmp_path, train_tiny):
    finished = train_tiny(tmp_path)
    assert (finished.step, finished.interrupted) == (6, False)
    rows = read_metrics(tmp_path)
    assert [row["step"] for row in rows if row["split"] == "train"] == [2, 4, 6]
    assert [row["step"] for row in rows if row["split"] == "validation"] == [3, 6]
    assert steps_on_disk(tmp_path) == {2, 4, 6}
    assert len(steps_on_disk(tmp_path, "best")) == 1
    train_row = next(row for row in rows if row["split"] == "train")
    assert {
        "loss",
        "grad_norm",
        "learning_rate",
        "steps_per_second",
        "images_per_second",
        "health/active_slots",
    } <= set(train_row)
    assert {"fg_ari", "mse"} <= set(rows[-1]) or {"fg_ari", "mse"} <= set(rows[-2])


def test_last_step_is_logged_scored_and_saved_whatever_the_intervals(tmp_path, train_tiny):
    train_tiny(
        tmp_path,
        **{
            "train.steps": 5,
            "train.log_every": 4,
            "train.eval_every": 100,
            "train.checkpoint_every": 100,
        },
    )
    assert [(row["step"], row["split"]) for row in read_metrics(tmp_path)] == [
        (4, "train"),
        (5, "train"),
        (5, "validation"),
    ]
    assert steps_on_disk(tmp_path) == {5}


@pytest.mark.parametrize(
    "settings",
    [{"model.early": ("4 num_slots=3",)}, {"train.ema_decay": 0.5, "train.learning_rate": 0.01}],
    ids=["early", "averages"],
)
@pytest.mark.parametrize("stop", [2, 4])
def test_a_restart_changes_nothing(settings, stop, tmp_path, train_tiny, weights):
    train_tiny(tmp_path / "whole", **settings)
    train_tiny(tmp_path / "parts", **settings, **{"train.steps": stop})
    train_tiny(tmp_path / "parts", **settings)
    for one, two in zip(
        weights(tmp_path / "whole").values(), weights(tmp_path / "parts").values(), strict=True
    ):
        np.testing.assert_array_equal(one, two)


def losses(workdir):
    return [row["loss"] for row in read_metrics(workdir) if row["split"] == "train"]


def test_averages_leave_training_alone_and_early_settings_do_not(tmp_path, train_tiny):
    train_tiny(tmp_path / "plain")
    train_tiny(tmp_path / "averages", **{"train.ema_decay": 0.5})
    train_tiny(tmp_path / "early", **{"model.early": ("4 num_slots=3",)})
    assert losses(tmp_path / "averages") == losses(tmp_path / "plain")
    assert losses(tmp_path / "early")[0] != losses(tmp_path / "plain")[0]


def test_steps_per_call_do_not_change_the_weights(tmp_path, train_tiny, weights):
    train_tiny(
        tmp_path / "one", **{"train.steps_per_call": 1, "train.log_every": 1, "train.eval_every": 6}
    )
    train_tiny(
        tmp_path / "many",
        **{
            "train.steps_per_call": 6,
            "train.log_every": 6,
            "train.eval_every": 6,
            "train.checkpoint_every": 6,
        },
    )
    one = weights(tmp_path / "one")
    many = weights(tmp_path / "many")
    for name in one:
        np.testing.assert_array_equal(one[name], many[name], err_msg=name)


def test_more_steps_go_on_from_the_last_one(tmp_path, train_tiny, weights):
    train_tiny(tmp_path / "whole", **{"train.steps": 8})
    train_tiny(tmp_path / "parts", **{"train.steps": 4})
    train_tiny(tmp_path / "parts", **{"train.steps": 8})
    whole = weights(tmp_path / "whole")
    parts = weights(tmp_path / "parts")
    for name in whole:
        np.testing.assert_array_equal(whole[name], parts[name], err_msg=name)


def test_finished_run_changes_nothing(tmp_path, train_tiny):
    train_tiny(tmp_path)
    rows = read_metrics(tmp_path)
    assert train_tiny(tmp_path).step == 6
    assert read_metrics(tmp_path) == rows


def test_changed_setting_leaves_the_run_alone(tmp_path, train_tiny):
    train_tiny(tmp_path, **{"train.steps": 2})
    before = {
        path: path.read_bytes()
        for path in tmp_path.rglob("*")
        if path.is_file() and path.name != ".lock"
    }
    with pytest.raises(UserError, match="train.learning_rate: 0.001 -> 0.5"):
        train_tiny(tmp_path, **{"train.steps": 2, "train.learning_rate": 0.5})
    assert {
        path: path.read_bytes()
        for path in tmp_path.rglob("*")
        if path.is_file() and path.name != ".lock"
    } == before


def make_run(finished_run, workdir):
    """Returns `workdir`, which becomes a copy of the finished run."""
    shutil.copytree(finished_run, workdir)
    return workdir


def test_other_data_are_refused_or_accepted_and_noted(
    tmp_path, train_tiny, finished_run, scenes, capsys
):
    workdir = make_run(finished_run, tmp_path / "run")
    before = (workdir / "data.json").read_bytes()
    settings = {"train.eval_every": 6, "train.checkpoint_every": 6}
    with pytest.raises(
        UserError,
        match="not those that .* was trained on: other pictures in as many scenes.*"
        "--accept_new_data",
    ):
        train_tiny(workdir, with_pixels(scenes, 7), **settings)
    with pytest.raises(UserError, match="scenes 8 before, 7 now"):
        train_tiny(workdir, scenes.take(7), **settings)
    assert (workdir / "data.json").read_bytes() == before

    assert train_tiny(workdir, scenes.take(7), accept_new_data=True, **settings).step == 6
    assert "Continuing with new data: scenes 8 before, 7 now." in capsys.readouterr().err
    record = json.loads((workdir / "data.json").read_text())
    assert record["accepted"] == [{"step": 6, "difference": "scenes 8 before, 7 now"}]
    assert train_tiny(workdir, scenes.take(7), **settings).step == 6  # as a matter of course
    assert json.loads((workdir / "data.json").read_text()) == record


def test_a_start_that_fails_leaves_no_run_behind(tmp_path, train_tiny, tiny, monkeypatch):
    with pytest.raises(UserError, match="`model.decoder_grid` must suit `model.image_size`"):
        train_tiny(tmp_path, **{"model.decoder_grid": (2, 2)})

    def fail(*arguments):
        raise ValueError("shapes do not fit")

    monkeypatch.setattr(TrainStep, "run", fail)
    with pytest.raises(ValueError, match="shapes do not fit"):
        train_tiny(tmp_path)
    assert not {"config.json", "data.json", "machine.json"} & set(os.listdir(tmp_path))
    check_config(tmp_path, tiny(**{"train.learning_rate": 0.5}))


def test_a_new_run_begins_with_the_weights_of_another(
    tmp_path, train_tiny, finished_run, monkeypatch, capsys
):
    seen = []

    def stop(step_function, *arguments):
        seen.extend(variable.numpy() for variable in step_function.model.weights)
        raise KeyboardInterrupt

    monkeypatch.setattr(TrainStep, "run", stop)
    with pytest.raises(KeyboardInterrupt):
        train_tiny(tmp_path, init_from=finished_run, seed=3)
    expected = load_run(finished_run).model.weights
    for value, variable in zip(seen, expected, strict=True):
        np.testing.assert_array_equal(value, variable.numpy())
    assert f"Beginning with the weights of {finished_run}." in capsys.readouterr().err
    with pytest.raises(UserError, match="has no latest checkpoint yet"):
        train_tiny(tmp_path, init_from=tmp_path / "nothing")


def test_what_is_done_after_the_last_step_is_said(finished_run, tmp_path, train_tiny, capsys):
    workdir = make_run(finished_run, tmp_path / "run")
    settings = {"train.eval_every": 6, "train.checkpoint_every": 6}
    with (workdir / "metrics.jsonl").open("ab") as file:
        file.write(b"broken\n")
    (workdir / "checkpoints" / "checkpoint").unlink()
    assert train_tiny(workdir, **{**settings, "train.steps": 8}).step == 8
    said = capsys.readouterr().err
    assert "metrics.jsonl are dropped: 5." in said
    assert "Resuming at step 6 of 8." in said
    assert "All 8 steps are done. Scoring 4 validation scenes" in said
    assert [row["step"] for row in read_metrics(workdir) if row["split"] == "train"] == [2, 4, 6, 8]


def test_a_folder_in_use_is_refused(tmp_path, train_tiny):
    with locked(tmp_path), pytest.raises(UserError, match="is in use by another run"):
        train_tiny(tmp_path)


def test_a_folder_below_a_file_is_refused(tmp_path, train_tiny):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="`--workdir` must be a folder that can be written"):
        train_tiny(tmp_path / "file" / "run")


def test_a_batch_that_replicas_cannot_share_is_refused(tmp_path, tiny):
    import tensorflow as tf

    from tfobj.training.loop import train

    strategy = tf.distribute.MirroredStrategy(["cpu:0", "cpu:1"])
    with pytest.raises(
        UserError, match="`train.batch_size` must be a multiple of the 2 replicas. Received: 3"
    ):
        train(tiny(**{"train.batch_size": 3}), tmp_path, strategy)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_broken_pixels_stop_the_run_and_leave_the_checkpoint(
    tmp_path, train_tiny, scenes, value, weights
):
    settings = {"train.checkpoint_every": 1, "train.eval_every": 100, "train.log_every": 100}
    train_tiny(tmp_path, **settings, **{"train.steps": 2})
    before = weights(tmp_path)
    with pytest.raises(
        TrainingDiverged,
        match=r"not finite since step [23] \(.*loss.*\). "
        "The last checkpoint, from before, is intact",
    ) as e:
        train_tiny(
            tmp_path,
            with_pixels(scenes, value),
            accept_new_data=True,
            **settings,
            **{"train.steps": 6},
        )
    assert "\n" not in str(e.value)
    assert "grad_norm" in str(e.value)
    after = weights(tmp_path)
    step = load_run(tmp_path).step
    assert step in (2, 3)
    assert all(np.isfinite(array).all() for array in after.values())
    assert step == 3 or all((before[name] == array).all() for name, array in after.items())


def test_sigterm_saves_and_the_same_command_resumes(tmp_path, train_tiny, weights):
    before = signal.getsignal(signal.SIGTERM)
    settings = {"train.eval_every": 2, "train.checkpoint_every": 100}
    finished = train_tiny(
        tmp_path / "parts",
        actions=[lambda evaluation: os.kill(os.getpid(), signal.SIGTERM)],
        **settings,
    )
    assert finished.interrupted
    assert finished.step == 2
    assert steps_on_disk(tmp_path / "parts") == {2}
    assert signal.getsignal(signal.SIGTERM) is before
    assert train_tiny(tmp_path / "parts", **settings).step == 6
    train_tiny(tmp_path / "whole", **settings)
    whole = weights(tmp_path / "whole")
    parts = weights(tmp_path / "parts")
    for name in whole:
        np.testing.assert_array_equal(whole[name], parts[name], err_msg=name)


def test_second_interrupt_acts_at_once(tmp_path, train_tiny):
    def impatient(evaluation):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train_tiny(tmp_path, actions=[impatient])


def test_actions_get_the_evaluation(tmp_path, train_tiny):
    seen = []
    train_tiny(tmp_path, actions=[seen.append])
    assert [evaluation.step for evaluation in seen] == [3, 6]
    assert "fg_ari" in seen[0].summary
    assert len(seen[0].scenes) == 4
    assert seen[0].workdir == tmp_path


def test_a_run_without_labels_is_scored_by_its_mse(tmp_path, train_tiny, scenes):
    train_tiny(tmp_path, dataclasses.replace(scenes, mask=None))
    row = [row for row in read_metrics(tmp_path) if row["split"] == "validation"][-1]
    assert row["mse"] > 0
    assert row.get("fg_ari") is None
    assert len(steps_on_disk(tmp_path, "best")) == 1
