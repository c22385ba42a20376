"""From names to an experiment; every mistake is one line with the nearest name."""

import math

import keras
import numpy as np
import pytest

from tfobj.errors import UserError
from tfobj.training.experiment import (
    ExperimentConfig,
    build_model,
    expected_duration,
    open_scenes,
    resolve,
)


def test_overrides_change_the_paper_preset():
    experiment = resolve(
        "iodine", "tetris", overrides={"train.steps": "3000", "model.num_slots": 7}, seed=3
    )
    assert (
        experiment.model_name,
        experiment.data.protocol,
        experiment.preset,
        experiment.seed,
    ) == ("iodine", "tetris", "paper", 3)
    assert (experiment.train.steps, experiment.model.num_slots, experiment.train.clip_norm) == (
        3000,
        7,
        5.0,
    )


def test_names_may_be_spelled_in_several_ways():
    assert resolve("Slot-Attention", "tetris") == resolve("slot_attention", "tetris")


def test_dataset_stands_for_its_default_protocol_and_protocols_can_be_named():
    assert resolve("iodine", "multi_dsprites").data.protocol == "multi_dsprites"
    binarized = resolve("iodine", "multi_dsprites_binarized")
    assert (binarized.data.protocol, binarized.model.channels, binarized.model.image_size) == (
        "multi_dsprites_binarized",
        1,
        (64, 64),
    )


def test_a_folder_of_pictures_is_a_dataset():
    experiment = resolve("slot_attention", "folder:some/pictures")
    assert experiment.data.protocol == "folder:some/pictures"
    assert experiment.model.image_size == (
        64,
        64,
    )


@pytest.mark.parametrize(
    "model, preset, size",
    [("vae", "conv", (128, 128)), ("vae", "conv", (64, 96)), ("iodine", "quick", (40, 56))],
)
def test_presets_and_the_size_of_own_pictures_are_checked_together(model, preset, size):
    """A preset need not fit the size in the model's defaults, which nobody asked for."""
    overrides = {"model.image_size": size, "train.steps": 3}
    experiment = resolve(model, "folder:pictures", preset, overrides)
    assert experiment.model.image_size == size
    assert experiment.train.steps == 3
    with pytest.raises(UserError, match="Unknown setting 'model.image_sizes'"):
        resolve(model, "folder:pictures", preset, {"model.image_sizes": size})


def test_a_decoder_that_does_not_reach_the_image_names_its_setting():
    experiment = resolve(
        "slot_attention", "folder:pictures", "quick", {"model.image_size": (128, 128)}
    )
    with pytest.raises(UserError, match="`model.decoder_grid` must suit .* that does is .64, 64."):
        build_model(experiment)


def test_experiments_survive_plain_values():
    experiment = resolve(
        "iodine", "multi_dsprites", preset="release", overrides={"data.num_train": 10}
    )
    assert ExperimentConfig.from_dict(experiment.to_dict()) == experiment


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("iodin", "tetris"), "Unknown model 'iodin'. Did you mean 'iodine'?"),
        (("iodine", "tetriss"), "Unknown dataset 'tetriss'. Did you mean 'tetris'?"),
        (
            ("iodine", "tetris", "papper"),
            "Unknown preset for iodine on tetris 'papper'. Did you mean 'paper'?",
        ),
    ],
)
def test_unknown_names_get_the_nearest(arguments, message):
    with pytest.raises(UserError) as e:
        resolve(*arguments)
    assert str(e.value).startswith(message)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    "overrides, message",
    [
        (
            {"model.num_slot": 3},
            "Unknown setting 'model.num_slot'. Did you mean 'model.num_slots'?",
        ),
        ({"trian.steps": 3}, "Unknown setting 'trian'. Did you mean 'train'?"),
        ({"model.num_slots": 1}, "`num_slots` must be at least 2. Received: num_slots=1."),
        ({"model.num_slots": "many"}, "`model.num_slots` must be an integer. Received: 'many'."),
        ({"model.num_steps": 0}, "`num_steps` must be at least 1. Received: num_steps=0."),
        ({"train.steps": 0}, "`train.steps` must be at least 1."),
        ({"train.batch_size": -1}, "`train.batch_size` must be at least 1."),
        ({"train.learning_rate": 0}, "`train.learning_rate` must be positive."),
        ({"train.learning_rate": math.nan}, "`train.learning_rate` must be positive"),
        ({"train.learning_rate": math.inf}, "`train.learning_rate` must be positive"),
        ({"train.clip_norm": math.nan}, "`train.clip_norm` must be positive"),
        ({"train.clip_norm": 0}, "`train.clip_norm` must be positive, or none."),
        ({"train.decay_rate": math.nan}, "`train.decay_rate` must be"),
        ({"train.adam_beta_1": 1.0}, "`train.adam_beta_1` must be"),
        ({"train.adam_epsilon": -1.0}, "`train.adam_epsilon` must be"),
        (
            {"train.precision": "bfloat15"},
            "Unknown value for `train.precision`: 'bfloat15'. Did you mean 'bfloat16'?",
        ),
        ({"train.warmup_steps": -1}, "`train.warmup_steps` must be at least 0."),
        (
            {"eval.best_metric": "fg_arj"},
            "Unknown value for `eval.best_metric`: 'fg_arj'. Did you mean 'fg_ari'?",
        ),
        ({"eval.num_scenes": 0}, "`eval.num_scenes` must be at least 1."),
        ({"data.num_train": 0}, "`data.num_train` must be at least 1, or none."),
        ({"seed": -1}, "`seed` must be in 0"),
    ],
)
def test_settings_out_of_range_are_refused(overrides, message):
    with pytest.raises(UserError) as e:
        resolve("slot_attention", "tetris", overrides=overrides)
    assert str(e.value).startswith(message)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    "arguments, overrides, duration",
    [
        (("iodine", "clevr6"), {}, "about a week on 8 GPUs"),
        (("vae", "tetris", "quick"), {}, "about 5 minutes on two CPU cores"),
        (("genesis", "folder:pictures"), {}, "days on one GPU"),
        (("genesis", "tetris"), {"train.steps": 100}, ""),
        (("slot_mlp", "tetris", "quick"), {}, ""),
    ],
)
def test_duration_is_that_of_the_preset_as_long_as_its_steps_are(arguments, overrides, duration):
    assert expected_duration(resolve(*arguments, overrides=overrides)) == duration


def test_seed_decides_the_weights(tiny):
    first, again = ([v.numpy() for v in build_model(tiny()).variables] for _ in range(2))
    other = [v.numpy() for v in build_model(tiny(seed=1)).variables]
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert any((a != b).any() for a, b in zip(first, other, strict=True))


def test_building_leaves_the_policy_of_keras_alone(tiny):
    before = keras.config.dtype_policy()
    model = build_model(tiny(**{"train.precision": "bfloat16"}))
    assert keras.config.dtype_policy() == before
    assert all(v.dtype == "float32" for v in model.trainable_variables)


def test_image_size_must_be_that_of_the_data(tiny, tmp_path):
    with pytest.raises(UserError, match=r"`model.image_size` must be that of the data, \(35, 35\)"):
        open_scenes(tiny(), "train", tmp_path)


def test_the_first_scenes_of_a_dataset_can_be_opened(tmp_path):
    experiment = resolve(
        "slot_attention", "tetris", overrides={"data.num_train": 12, "data.num_test": 4}
    )
    scenes, description = open_scenes(experiment, "train", tmp_path)
    assert len(scenes) == 12
    assert description.startswith(
        "tetris_12_4/train: scenes 0-11 of tetris/generated_12_4 split train"
    )


def test_a_folder_that_is_not_there_is_named(tmp_path):
    experiment = resolve("slot_attention", f"folder:{tmp_path / 'nowhere'}")
    with pytest.raises(UserError, match="nowhere"):
        open_scenes(experiment, "train")
