"""The run folder: one configuration, checkpoints that survive damage and full disks."""

import errno
import json
import resource
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfobj import files
from tfobj.errors import UserError
from tfobj.training.checkpoint import RunState, load_run, load_weights
from tfobj.training.experiment import build_model
from tfobj.training.optimizer import GlobalAdam
from tfobj.training.run_folder import check_config, read_config, write_or_check_config
from tfobj.training.schedule import schedule_of


def make_state(workdir, keep=3, say=print):
    """Returns (state, variable, optimizer) of a model with one weight."""
    model = keras.Sequential(
        [keras.layers.Dense(1, use_bias=False, name="layer")], name="model"
    )  # states go by names
    model.build((None, 1))
    optimizer = GlobalAdam(0.1, name="adam")
    optimizer.build(model.trainable_variables)
    return RunState(workdir, model, optimizer, keep, say), model.trainable_variables[0], optimizer


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


@pytest.mark.parametrize(
    "content", [None, b"", b"\0" * 350, b"garbled {", b'model_checkpoint_path: "step-9"\n']
)
def test_the_state_file_of_tensorflow_is_no_obstacle(tmp_path, content):
    """It decided where a run goes on: without it, a run began again and lost its states."""
    save_steps(tmp_path, [1, 2])
    path = tmp_path / "checkpoints" / "checkpoint"
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    state, variable, optimizer = make_state(tmp_path)
    assert state.restore() == 2
    optimizer.iterations.assign(3)
    state.save()
    assert {file.stem for file in path.parent.glob("*.index")} == {"step-1", "step-2", "step-3"}
    assert tf.train.latest_checkpoint(path.parent) == str(path.parent / "step-3")


def damage(path, kind):
    """Damages a file as disks and kills do."""
    content = path.read_bytes()
    if kind == "removed":
        path.unlink()
    elif kind == "flipped":
        middle = len(content) // 2
        flipped = bytes([content[middle] ^ 0xFF])
        path.write_bytes(content[:middle] + flipped + content[middle + 1 :])
    else:
        path.write_bytes({"empty": b"", "cut": content[: len(content) // 2]}[kind])


@pytest.mark.parametrize("kind", ["removed", "empty", "cut", "flipped"])
@pytest.mark.parametrize("ending", ["index", "data-00000-of-00001"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_serves(tmp_path, kind, ending):
    save_steps(tmp_path, [1, 2, 3])
    damage(tmp_path / "checkpoints" / f"step-3.{ending}", kind)
    said = []
    state, variable, optimizer = make_state(tmp_path, say=said.append)
    assert state.restore() == 2
    assert variable.numpy() == [[2.0]]
    (line,) = said
    assert line.startswith("warning: ") and line.endswith("; falling back to step 2.")
    assert f"{tmp_path}/checkpoints/step-3 cannot be read (" in line

    # It takes no place among those that are kept, and is written again when its step is reached.
    before = sorted(path.name for path in (tmp_path / "checkpoints").glob("step-3*"))
    for step in (2, 3):
        optimizer.iterations.assign(step)
        variable.assign([[step]])
        state.save()
        names = {path.name for path in (tmp_path / "checkpoints").glob("step-[12].index")}
        assert names == {"step-1.index", "step-2.index"}
        if step == 2:
            assert sorted(p.name for p in (tmp_path / "checkpoints").glob("step-3*")) == before
    again, variable, _ = make_state(tmp_path, say=said.append)
    assert again.restore() == 3
    assert len(said) == 1


def test_damaged_checkpoints_never_push_good_ones_out(tmp_path):
    save_steps(tmp_path, [10, 20, 30])
    for step in (20, 30):
        damage(data_file(tmp_path, step), "cut")
    state, variable, optimizer = make_state(tmp_path, keep=2, say=lambda line: None)
    assert state.restore() == 10
    for step in (12, 14, 25):
        optimizer.iterations.assign(step)
        state.save()
        again, _, _ = make_state(tmp_path, say=lambda line: None)
        assert again.restore() == step
    indices = {path.stem for path in (tmp_path / "checkpoints").glob("*.index")}
    assert indices == {"step-14", "step-20", "step-25", "step-30"}


def test_what_killed_writes_left_is_completed_or_removed(tmp_path):
    save_steps(tmp_path, [1, 2])
    folder = tmp_path / "checkpoints"
    half = folder / "step-3_temp"
    half.mkdir()
    (half / "step-3.data-00000-of-00001").write_bytes(b"half")
    (folder / "step-4_temp_0123456789abcdef").mkdir()  # TensorFlow's own name

    # Killed between the two files of step 2, as of a first checkpoint.
    (folder / "step-2_temp").mkdir()
    (folder / "step-2.index").replace(folder / "step-2_temp" / "step-2.index")
    state, variable, _ = make_state(tmp_path)
    state.recover()
    assert list(folder.glob("*_temp*")) == []
    assert state.restore() == 2
    assert variable.numpy() == [[2.0]]


def test_reading_a_run_leaves_writes_in_progress_alone(finished_run, tmp_path):
    shutil.copytree(finished_run, tmp_path / "run")
    busy = tmp_path / "run" / "checkpoints" / "step-8_temp"
    busy.mkdir()
    (busy / "step-8.index").write_text("half")
    assert load_run(tmp_path / "run").step == 6
    state, _, _ = make_state(tmp_path / "run")
    with pytest.raises(UserError):  # another model's
        state.restore()
    assert busy.exists()


def test_a_checkpoint_whose_index_is_lost_is_no_beginning(tmp_path):
    save_steps(tmp_path, [1])
    (tmp_path / "checkpoints" / "step-1.index").unlink()
    with pytest.raises(UserError, match="step-1 cannot be read .step-1.index is missing"):
        make_state(tmp_path)[0].restore()
    assert data_file(tmp_path, 1).exists()


@pytest.mark.parametrize("kind", ["removed", "cut", None])
def test_the_best_state_serves_if_no_recent_one_can_be_read(tmp_path, kind):
    state, variable, optimizer = make_state(tmp_path)
    for step in (1, 2):
        optimizer.iterations.assign(step)
        variable.assign([[step]])
        state.save_best(step)
        state.save()
    if kind is None:
        shutil.rmtree(tmp_path / "checkpoints")
    else:
        for step in (1, 2):
            damage(tmp_path / "checkpoints" / f"step-{step}.index", kind)

    said = []
    state, variable, optimizer = make_state(tmp_path, say=said.append)
    assert state.restore() == 2
    assert variable.numpy() == [[2.0]]
    assert said[-1] == "warning: going on from the best state, that of step 2."
    assert make_state(tmp_path)[0].restore(2) == 2  # as the other workers do
    state.save()
    assert make_state(tmp_path, say=said.append)[0].restore() == 2
    assert len(said) == (1 if kind is None else 2)


def test_files_of_others_in_the_folder_are_left_alone(tmp_path):
    save_steps(tmp_path, [1])
    folder = tmp_path / "checkpoints"
    for name in ("step-x.index", "mystep-7.index", "step-5.index.bak", "step-6.txt"):
        (folder / name).write_text("mine")
    state, _, optimizer = make_state(tmp_path, keep=1)
    assert state.restore() == 1
    optimizer.iterations.assign(2)
    state.save()
    assert {path.name for path in folder.iterdir()} == {
        *("step-x.index", "mystep-7.index", "step-5.index.bak", "step-6.txt"),
        *("checkpoint", "step-2.index", "step-2.data-00000-of-00001"),
    }


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


def test_a_disk_that_is_full_in_the_middle_leaves_the_last_state(tmp_path):
    state = save_steps(tmp_path, [1, 2])
    before = {path: path.read_bytes() for path in (tmp_path / "checkpoints").iterdir()}
    state.optimizer.iterations.assign(3)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Python ignores the signal, so that writing beyond the limit fails, as on a full disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(UserError, match="checkpoint of step 3 could not be written .*step-2"):
            state.save()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {path: path.read_bytes() for path in (tmp_path / "checkpoints").iterdir()} == before
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


def pretend_reached(workdir, step):
    """Makes a folder look like that of a run with a checkpoint."""
    (workdir / "checkpoints").mkdir()
    (workdir / "checkpoints" / f"step-{step}.index").write_bytes(b"")


@pytest.mark.parametrize(
    "cooldown, reached, before, after, allowed",
    [
        (0, 6, 6, 8, True),
        (0, 6, 6, 100, True),
        (0, 4, 6, 4, True),
        (0, 5, 6, 4, False),
        (2, 0, 6, 8, True),
        (2, 5, 6, 8, True),
        (2, 6, 6, 8, False),
        (2, 5, 8, 6, True),
        (2, 6, 8, 6, False),
        (10, 1, 6, 8, True),
        (10, 2, 6, 8, False),
    ],
)
def test_steps_may_change_where_no_step_that_was_made_would_be_another(
    tmp_path, tiny, cooldown, reached, before, after, allowed
):
    old = tiny(**{"train.cooldown_steps": cooldown, "train.steps": before})
    new = tiny(**{"train.cooldown_steps": cooldown, "train.steps": after})
    rates = [[schedule_of(e.train).at(step) for step in range(reached)] for e in (old, new)]
    assert (rates[0] == rates[1] and after >= reached) == allowed

    write_or_check_config(tmp_path, old)
    pretend_reached(tmp_path, reached)
    if allowed:
        write_or_check_config(tmp_path, new)
        assert read_config(tmp_path) == new
        return
    with pytest.raises(UserError, match=f"train.steps: {before} -> {after}"):
        write_or_check_config(tmp_path, new)
    assert read_config(tmp_path) == old


def test_a_refused_number_of_steps_says_how_to_go_on(tmp_path, tiny):
    write_or_check_config(tmp_path, tiny(**{"train.cooldown_steps": 2}))
    pretend_reached(tmp_path, 6)
    with pytest.raises(UserError, match="Repeat train.steps=6, or .*--init_from=") as error:
        check_config(tmp_path, tiny(**{"train.cooldown_steps": 2, "train.steps": 8}))
    assert str(tmp_path) in str(error.value)
    with pytest.raises(UserError, match="`train.steps` must be at least 6, which .* has reached"):
        check_config(tmp_path, tiny(**{"train.cooldown_steps": 2, "train.steps": 5}))
    # Other settings are named first.
    with pytest.raises(UserError, match="train.learning_rate: 0.001 -> 0.5. Repeat the old"):
        check_config(tmp_path, tiny(**{"train.learning_rate": 0.5, "train.cooldown_steps": 2}))


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


@pytest.mark.parametrize("which, folder", [("latest", "checkpoints"), ("best", "best")])
def test_a_run_is_loaded_from_the_newest_readable_state(finished_run, tmp_path, which, folder):
    workdir = tmp_path / "run"
    shutil.copytree(finished_run, workdir)
    (newest,) = (workdir / folder).glob("step-6.index")
    (workdir / folder / "checkpoint").write_text("garbled")
    assert load_run(workdir, which).step == 6

    # An older state beside it, as a best one is between the two writes.
    for path in list((workdir / folder).glob("step-6.*")):
        shutil.copyfile(path, path.with_name(path.name.replace("step-6", "step-5")))
    damage(newest, "cut")
    said = []
    loaded = load_run(workdir, which, say=said.append)
    assert loaded.step == 5
    assert len(said) == 1 and "step-6 cannot be read" in said[0] and "to step 5" in said[0]

    damage(workdir / folder / "step-5.index", "empty")
    with pytest.raises(UserError, match=f"No checkpoint of .*{folder}` can be read"):
        load_run(workdir, which)


def test_a_new_model_takes_the_weights_of_a_run(finished_run, tiny, tmp_path):
    model = build_model(tiny(seed=1))
    assert load_weights(model, finished_run) == 6
    for new, old in zip(model.weights, load_run(finished_run).model.weights, strict=True):
        np.testing.assert_array_equal(new.numpy(), old.numpy())
    with pytest.raises(UserError, match="No checkpoint of .* can be read"):
        load_weights(build_model(tiny(**{"model.slot_size": 5})), finished_run)
    with pytest.raises(UserError, match="has no latest checkpoint yet"):
        load_weights(model, tmp_path)


def test_every_weight_comes_back(tmp_path, train_tiny, weights):
    in_memory = {}

    def keep(evaluation):
        in_memory.update({v.path.partition("/")[2]: v.numpy() for v in evaluation.model.variables})

    train_tiny(tmp_path, actions=[keep])
    assert load_run(tmp_path).step == 6
    for name, value in weights(tmp_path).items():
        np.testing.assert_array_equal(value, in_memory[name], err_msg=name)
