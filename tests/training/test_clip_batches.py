"""The batches of a run on clips, stage by stage."""

import numpy as np
import pytest
import tensorflow as tf

from tfobj.data.packed import SceneArrays
from tfobj.models.base import Stage
from tfobj.training.experiment import TrainConfig
from tfobj.training.stage_batches import StageBatches

STAGES = (
    (0, Stage(1, num_frames=2)),
    (2, Stage(1, num_frames=4)),
    (4, Stage(1, part="another", num_frames=4)),
)


def batches(stages=STAGES, frames=8):
    image = np.arange(3 * frames, dtype=np.uint8).reshape(3, frames, 1, 1, 1)
    scenes = SceneArrays(image if frames > 1 else image[:, 0])
    return StageBatches(
        scenes, TrainConfig(batch_size=4), stages, 5, tf.distribute.OneDeviceStrategy("/cpu:0")
    )


def seen(run, steps):
    return [
        np.rint(255 * next(run.iterator(step))["image"].numpy()[..., 0, 0, 0]).astype(int).tolist()
        for step in steps
    ]


@pytest.mark.parametrize("cut", [1, 2, 3, 4, 5])
def test_a_resumed_run_sees_the_same_batches(cut):
    """Also from a stage that has the clips of the one before."""
    assert seen(batches(), range(cut, 7)) == seen(batches(), range(7))[cut:]


def test_longer_clips_come_in_smaller_batches_until_the_next_stage():
    run = batches()
    shapes = [np.shape(batch) for batch in seen(run, range(5))]
    assert shapes == [(4, 2)] * 2 + [(2, 4)] * 3
    assert run.batch_size == 2
    assert [run.steps_left(step) for step in (0, 1, 2, 4, 9)] == [(2,), (1,), (2,), (), ()]


def test_images_have_one_stream_for_all_stages():
    stages = ((0, Stage(1)), (2, Stage(1, part="another")))
    assert seen(batches(stages, frames=1), range(4)) == seen(
        batches(stages[:1], frames=1), range(4)
    )
