"""The run folder: one configuration, checkpoints that survive damage and full disks."""

import errno
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfobj import files
from tfobj.errors import UserError
from tfobj.training.checkpoint import RunState, load_run, read_config, write_or_check_config
from tfobj.training.optimizer import GlobalAdam


def make_state(workdir, keep=3):
    """Returns (state, variable, optimizer) of a model with one weight."""
    model = keras.Sequential(
        [keras.layers.Dense(1, use_bias=False, name="layer")], name="model"
    )  # states go by names
    model.build((None, 1))
    optimizer = GlobalAdam(0.1, name="adam")
    optimizer.build(model.trainable_variables)
    return RunState(workdir, model, optimizer, keep), model.trainable_variables[0], optimizer


def save_steps(workdir, steps, keep=3):
    """Saves states whose weight is the step."""
    state, variable, optimizer = make_state(workdir, keep)
    for step in steps:
        variable.assign([[step]])
        optimizer.iterations.assign(step)
        state.save()
    return state


def data_file(workdir, step):
    (path,) = (workdir / "checkpoints").glob(f"step-{step}.data*")
    return path


def test_restores_the_newest_and_keeps_the_last_few(tmp_path):
    save_steps(tmp_path, [1, 2, 3, 4])
    state, variable, _ = make_state(tmp_path)
    assert state.restore() == state.step == 4
    assert variable.numpy() == [[4.0]]
    assert {path.stem for path in (tmp_path / "checkpoints").glob("*.index")} == {
        "step-2",
        "step-3",
        "step-4",
    }


def test_an_empty_folder_is_step_zero(tmp_path):
    assert make_state(tmp_path)[0].restore() == 0


@pytest.mark.parametrize("damage", ["truncated", "removed"])
def test_damaged_file_falls_back_to_the_one_before(tmp_path, damage):
    save_steps(tmp_path, [1, 2])
    path = data_file(tmp_path, 2)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        path.unlink()
    state, variable, _ = make_state(tmp_path)
    assert state.restore() == 1
    assert variable.numpy() == [[1.0]]


def test_nothing_readable_is_an_error_that_changes_nothing(tmp_path):
    save_steps(tmp_path, [1, 2])
    for path in (tmp_path / "checkpoints").glob("step-*"):
        path.write_bytes(b"")
    before = sorted((tmp_path / "checkpoints").iterdir())
    with pytest.raises(
        UserError, match="No checkpoint of .* can be read: .*step-2.*step-1.* Nothing was changed."
    ) as e:
        make_state(tmp_path)[0].restore()
    assert "\n" not in str(e.value)
    assert sorted((tmp_path / "checkpoints").iterdir()) == before


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        tf.errors.ResourceExhaustedError(None, None, "No space left on device\nmore text"),
    ],
)
def test_full_disk_is_one_line_and_leaves_earlier_states(tmp_path, monkeypatch, error):
    state = save_steps(tmp_path, [1, 2])
    state.optimizer.iterations.assign(3)

    def full(*args, **kwargs):
        raise error

    monkeypatch.setattr(tf.train.Checkpoint, "_write", full)
    monkeypatch.setattr(tf.train.Checkpoint, "write", full)
    monkeypatch.setattr(tf.train.CheckpointManager, "save", full)
    with pytest.raises(
        UserError,
        match="checkpoint of step 3 could not be written .*No space left on device.*step-2",
    ) as e:
        state.save()
    assert "\n" not in str(e.value)
    monkeypatch.undo()
    assert make_state(tmp_path)[0].restore() == 2


def test_save_of_a_saved_step_does_nothing(tmp_path):
    state = save_steps(tmp_path, [1])
    before = data_file(tmp_path, 1).stat().st_mtime_ns
    state.save()
    assert data_file(tmp_path, 1).stat().st_mtime_ns == before


def test_best_is_the_highest_score_so_far_and_survives_a_restart(tmp_path):
    state, variable, optimizer = make_state(tmp_path)
    kept = []
    for step, score in [(1, 0.3), (2, 0.7), (3, 0.7), (4, float("nan")), (5, 0.5)]:
        optimizer.iterations.assign(step)
        variable.assign([[step]])
        kept.append(state.save_best(score))
        state.save()
    assert kept == [True, True, False, False, False]
    assert [path.stem for path in (tmp_path / "best").glob("*.index")] == ["step-2"]
    again, _, _ = make_state(tmp_path)
    again.restore()
    assert not again.save_best(0.6)
    assert float(again.best_score.numpy()) == 0.7


def test_atomic_writing_leaves_no_partial_file(tmp_path):
    files.write_text(tmp_path / "a.json", "old")
    files.write_text(tmp_path / "a.json", "new")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.json", "new")]


def test_changed_setting_is_refused_with_the_difference(tmp_path, tiny):
    write_or_check_config(tmp_path, tiny())
    before = (tmp_path / "config.json").read_text()
    with pytest.raises(
        UserError,
        match=r"train.learning_rate: 0.001 -> 0.002; train.precision: 'float32' -> 'bfloat16'. "
        "Repeat the old",
    ):
        write_or_check_config(
            tmp_path,
            tiny(train__learning_rate=2e-3, train__precision="bfloat16", train__log_every=7),
        )
    assert (tmp_path / "config.json").read_text() == before


@pytest.mark.parametrize(
    "change",
    [
        {"train.steps": 8},
        {"train.steps_per_call": 1},
        {"train.log_every": 1},
        {"train.eval_every": 1},
        {"train.checkpoint_every": 1},
        {"train.keep_checkpoints": 1},
        {"eval.num_scenes": 2},
        {"eval.best_metric": "mse"},
    ],
)
def test_settings_that_do_not_change_the_weights_may_change(tmp_path, tiny, change):
    write_or_check_config(tmp_path, tiny())
    write_or_check_config(tmp_path, tiny(**change))
    assert read_config(tmp_path) == tiny(**change)


def test_more_steps_are_refused_where_the_rate_ends_with_them(tmp_path, tiny):
    write_or_check_config(tmp_path, tiny(**{"train.cooldown_steps": 2}))
    with pytest.raises(UserError, match="train.steps: 6 -> 8"):
        write_or_check_config(tmp_path, tiny(**{"train.cooldown_steps": 2, "train.steps": 8}))


def test_another_model_in_the_folder_is_refused(tmp_path, tiny):
    from tfobj.training.experiment import resolve

    write_or_check_config(tmp_path, tiny())
    with pytest.raises(UserError, match="model_name: 'slot_attention' -> 'iodine'"):
        write_or_check_config(tmp_path, resolve("iodine", "tetris"))


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"model_name": "slot_attention"}', "\xff"])
def test_a_damaged_config_is_named(tmp_path, text):
    (tmp_path / "config.json").write_text(text, encoding="latin-1")
    with pytest.raises(UserError, match="config.json` is damaged"):
        read_config(tmp_path)


def test_config_of_another_version_names_the_setting(tmp_path, tiny):
    values = tiny().to_dict()
    values["train"]["momentum"] = 0.9
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(UserError, match="Unknown setting 'train.momentum'"):
        read_config(tmp_path)


def test_folders_that_hold_no_run_are_refused(tmp_path, tiny):
    with pytest.raises(UserError, match="`--workdir` must be the folder of a run"):
        load_run(tmp_path)
    write_or_check_config(tmp_path, tiny())
    for which in ("latest", "best"):
        with pytest.raises(UserError, match=f"has no {which} checkpoint yet"):
            load_run(tmp_path, which)
    with pytest.raises(UserError, match="Unknown checkpoint 'bets'. Did you mean 'best'"):
        load_run(tmp_path, "bets")


def test_a_checkpoint_that_does_not_fit_the_config_is_refused(tmp_path, tiny):
    write_or_check_config(tmp_path, tiny())
    save_steps(tmp_path, [1])
    with pytest.raises(UserError, match="step-1 cannot be read") as e:
        load_run(tmp_path)
    assert "\n" not in str(e.value)


def test_every_weight_comes_back(tmp_path, train_tiny, weights):
    in_memory = {}

    def keep(evaluation):
        in_memory.update({v.path.partition("/")[2]: v.numpy() for v in evaluation.model.variables})

    train_tiny(tmp_path, actions=[keep])
    assert load_run(tmp_path).step == 6
    for name, value in weights(tmp_path).items():
        np.testing.assert_array_equal(value, in_memory[name], err_msg=name)
