"""The compiled step and the inner loop."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfobj.data.pipeline import BatchStream
from tfobj.models.base import Stage
from tfobj.structs import SceneOutputs
from tfobj.training.experiment import TrainConfig, build_model
from tfobj.training.optimizer import make_optimizer
from tfobj.training.step import TrainStep


def trained(experiment, scenes, calls, strategy=None, seed=0):
    """Returns (weights, terms of the last call, first bad step) after `calls`, step counts."""
    strategy = strategy or tf.distribute.OneDeviceStrategy("/cpu:0")
    with strategy.scope():
        model = build_model(experiment)
        optimizer = make_optimizer(experiment.train)
    step = TrainStep(strategy, model, optimizer, seed)
    iterator = iter(
        strategy.experimental_distribute_dataset(
            BatchStream(scenes, experiment.train.batch_size).dataset()
        )
    )
    results = [step.run(iterator, count) for count in calls]
    assert int(optimizer.iterations.numpy()) == sum(calls)
    return [v.numpy() for v in model.variables], *results[-1]


def test_weights_do_not_depend_on_the_steps_per_call(tiny, scenes):
    whole, _, _ = trained(tiny(), scenes, [6])
    parts, _, _ = trained(tiny(), scenes, [1, 2, 3])
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(a, b)


def test_terms_are_means_over_the_call(tiny, scenes):
    _, together, _ = trained(tiny(), scenes, [2])
    _, first, _ = trained(tiny(), scenes, [1])
    _, second, _ = trained(tiny(), scenes, [1, 1])
    assert set(together) >= {"loss", "grad_norm"}
    for name in together:
        np.testing.assert_allclose(
            together[name], (first[name] + second[name]) / 2, rtol=1e-6, err_msg=name
        )


def test_noise_depends_on_the_seed_of_the_run(tiny, scenes):
    assert (
        trained(tiny(), scenes, [1], seed=0)[1]["loss"]
        != trained(tiny(), scenes, [1], seed=1)[1]["loss"]
    )


def test_gradient_norm_is_that_before_clipping(tiny, scenes):
    free = trained(tiny(), scenes, [1])[1]["grad_norm"]
    assert trained(tiny(**{"train.clip_norm": 1e-3}), scenes, [1])[1]["grad_norm"] == pytest.approx(
        free, rel=1e-6
    )


class FailsAtStepThree(keras.Model):
    """One weight, and a loss that is infinite from step 3 on."""

    has_state = False

    def __init__(self):
        super().__init__()
        self.weight = self.add_weight(shape=(), initializer="ones")

    def stages(self):
        return ((0, Stage(1)),)

    def trained_variables(self, stage):
        return self.trainable_variables

    def loss_and_gradients(self, batch, seed, step, loss_scale=1.0, stage=None):
        loss = tf.where(step >= 3, float("inf"), tf.reduce_mean(batch["image"]))
        return SceneOutputs(None, None, None, None), {"loss": loss}, [tf.zeros([])]


@pytest.mark.parametrize("calls, expected", [([3], -1), ([5], 3), ([3, 2], 3), ([4, 1], 4)])
def test_the_first_step_that_is_not_finite_is_told(tiny, scenes, calls, expected):
    strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
    with strategy.scope():
        model = FailsAtStepThree()
        optimizer = make_optimizer(tiny().train)
    step = TrainStep(strategy, model, optimizer, 0)
    iterator = iter(strategy.experimental_distribute_dataset(BatchStream(scenes, 4).dataset()))
    assert [step.run(iterator, count)[1] for count in calls][-1] == expected


def test_fit_gives_the_weights_of_the_loop(tiny, scenes):
    """Equal bit for bit: fit makes the same update on the same batches with the same noise."""
    experiment = tiny(**{"train.clip_norm": 0.05})
    ours, _, _ = trained(experiment, scenes, [6])
    model = build_model(experiment)
    model.compile(optimizer=make_optimizer(experiment.train))
    history = model.fit(
        BatchStream(scenes, 4).dataset(0), steps_per_epoch=3, epochs=2, shuffle=False, verbose=0
    )
    assert np.isfinite(history.history["loss"]).all()
    for variable, expected in zip(model.variables, ours, strict=True):
        np.testing.assert_array_equal(variable.numpy(), expected, err_msg=variable.path)


def test_the_graph_can_be_looked_at(tiny, scenes):
    strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
    with strategy.scope():
        model = build_model(tiny())
        optimizer = make_optimizer(tiny().train)
    step = TrainStep(strategy, model, optimizer, 0)
    iterator = iter(strategy.experimental_distribute_dataset(BatchStream(scenes, 4).dataset()))
    assert any(op.type == "IteratorGetNext" for op in step.trace(iterator).graph.get_operations())
    assert int(optimizer.iterations.numpy()) == 0


class Recorder(keras.Model):
    """Remembers what it was trained with.

    These are refinement steps per trace, and as state the sum of (term, statistic, step) over
    updates.
    """

    has_state = True

    def __init__(self, stages):
        super().__init__()
        self.given_stages = stages
        self.traced = []
        self.weight = self.add_weight(shape=(), initializer="ones")
        self.resting = self.add_weight(shape=(), initializer="ones")
        self.seen = self.add_weight(
            name="seen",
            shape=(3,),
            initializer="zeros",
            trainable=False,
            aggregation="only_first_replica",
        )

    def stages(self):
        return self.given_stages

    def trained_variables(self, stage):
        return [self.resting] if stage.part == "resting" else [self.weight]

    def loss_and_gradients(self, batch, seed, step, loss_scale=1.0, stage=None):
        self.traced.append(stage)
        loss = tf.reduce_mean(batch["image"])
        outputs = SceneOutputs(
            None, None, None, None, statistics={"square": tf.reduce_mean(batch["image"] ** 2)}
        )
        of_stage = {"part": tf.constant(1.0)} if stage.part != "all" else {}
        return (
            outputs,
            {"loss": loss, "refinements": tf.constant(float(stage.num_steps)), **of_stage},
            [tf.constant(loss_scale)],
        )

    def update_state(self, terms, statistics, step):
        self.seen.assign_add(
            tf.stack([terms["loss"], statistics["square"], tf.cast(step, tf.float32)])
        )


ONE_STAGE = ((0, Stage(1)),)


def recorded(images, calls, stages=ONE_STAGE, strategy=None, micro_batches=1):
    """Returns (model, results of `run`) after `calls` updates on `images` [steps, B, ...]."""
    strategy = strategy or tf.distribute.OneDeviceStrategy("/cpu:0")
    with strategy.scope():
        model = Recorder(stages)
        optimizer = make_optimizer(TrainConfig())
    step = TrainStep(strategy, model, optimizer, 0, micro_batches=micro_batches)
    iterator = iter(
        strategy.experimental_distribute_dataset(
            tf.data.Dataset.from_tensor_slices({"image": images})
        )
    )
    return model, [step.run(iterator, count) for count in calls]


def test_refinement_steps_follow_the_schedule_with_one_trace_each():
    images = np.random.default_rng(0).random((9, 4, 2, 2, 1)).astype(np.float32)
    model, results = recorded(images, [2, 4, 3], ((0, Stage(3)), (3, Stage(1)), (7, Stage(3))))
    assert sorted(model.traced) == [Stage(1), Stage(3)]
    means = [terms["refinements"] for terms, _ in results]
    np.testing.assert_allclose(means, [3.0, (3 + 1 + 1 + 1) / 4, (1 + 3 + 3) / 3], rtol=1e-6)
    np.testing.assert_allclose(
        results[1][0]["loss"], images[2:6].mean(), rtol=1e-5
    )  # weighted by the number of steps


def test_stages_train_their_own_weights():
    """Weights that rest do not move, not even by Adam's momentum.

    Terms of one stage are means over its own updates.
    """
    images = np.random.default_rng(0).random((8, 4, 2, 2, 1)).astype(np.float32)
    model, results = recorded(images, [2, 4], ((0, Stage(1)), (3, Stage(1, "resting"))))
    assert model.weight.numpy() < 1.0
    assert model.resting.numpy() < 1.0
    assert "part" not in results[0][0]
    assert results[1][0]["part"] == 1.0
    only_first, _ = recorded(images, [3])
    assert model.weight.numpy() == only_first.weight.numpy()
    assert only_first.resting.numpy() == 1.0


@pytest.mark.parametrize("engine", ["one", "two_replicas", "micro_batches"])
def test_state_follows_means_over_the_global_batch(engine, two_replicas):
    images = np.random.default_rng(0).random((5, 4, 2, 2, 1)).astype(np.float32)
    options = {
        "one": {},
        "two_replicas": {"strategy": two_replicas},
        "micro_batches": {"micro_batches": 2},
    }[engine]
    model, _ = recorded(images, [2, 3], **options)
    np.testing.assert_allclose(
        model.seen.numpy(),
        [images.mean((1, 2, 3, 4)).sum(), (images**2).mean((1, 2, 3, 4)).sum(), 10.0],
        rtol=1e-5,
    )
