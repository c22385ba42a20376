"""What `train.memory=low` chooses; that its choices make the same update is tested elsewhere."""

import keras
import pytest

from tfobj.nn.batch_norm import BatchNorm
from tfobj.training.experiment import resolve
from tfobj.training.memory import plan_memory


class Empty(keras.Model):
    """Stands for a model, of whose layers only batch norms count."""


def plan(model, dataset, preset="paper", replicas=1, built=None, **train):
    overrides = {f"train.{name}": value for name, value in {"memory": "low", **train}.items()}
    return plan_memory(resolve(model, dataset, preset, overrides), built or Empty(), replicas)


@pytest.mark.parametrize(
    "model, dataset, batch_size, replicas, micro_batches",
    [
        ("slot_attention", "tetris", 32, 1, 4),  # 8 scenes of 4 x 35 x 35
        ("slot_attention", "tetris", 32, 2, 2),
        ("slot_attention", "tetris", 7, 1, 1),  # divided by 1 and 7 alone, and one is too few
        ("slot_attention", "clevr_with_masks", 4, 1, 4),
        ("monet", "multi_dsprites", 8, 1, 4),
        ("iodine", "tetris", 2, 1, 1),
    ],
)
def test_parts_keep_enough_pixels(model, dataset, batch_size, replicas, micro_batches):
    chosen = plan(model, dataset, replicas=replicas, batch_size=batch_size)
    assert (chosen.micro_batches, chosen.rematerialise) == (micro_batches, False)
    assert f"train.micro_batches={micro_batches}" in chosen.reason


def test_clips_are_recomputed():
    chosen = plan("video_decomposition", "bouncing_balls")
    assert (chosen.micro_batches, chosen.rematerialise) == (1, True)
    assert "train.rematerialise=true" in chosen.reason


def test_batch_norms_see_whole_batches():
    built = Empty()
    built.norm = BatchNorm()
    chosen = plan("genesis", "multi_dsprites", built=built)
    assert (chosen.micro_batches, chosen.rematerialise) == (1, False)
    assert "batch norms" in chosen.reason


@pytest.mark.parametrize("given", [{"micro_batches": 2}, {"rematerialise": True}])
def test_given_settings_stay(given):
    chosen = plan("iodine", "multi_dsprites", **given)
    assert (chosen.micro_batches, chosen.rematerialise) == (
        given.get("micro_batches", 1),
        given.get("rematerialise", False),
    )
    assert not chosen.reason


def test_nothing_changes_by_default():
    assert plan("monet", "multi_dsprites", memory="default") == (1, False, "")
