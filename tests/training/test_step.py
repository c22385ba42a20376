"""The compiled step and the inner loop."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfobj.data.pipeline import BatchStream
from tfobj.training.experiment import build_model
from tfobj.training.optimizer import make_optimizer
from tfobj.training.step import TrainStep


def trained(experiment, scenes, calls, strategy=None, seed=0):
    """Returns (weights, terms of the last call, first bad step) after `calls`, a list of step counts."""
    strategy = strategy or tf.distribute.OneDeviceStrategy("/cpu:0")
    with strategy.scope():
        model, optimizer = build_model(experiment), make_optimizer(experiment.train)
    step = TrainStep(strategy, model, optimizer, seed)
    iterator = iter(strategy.experimental_distribute_dataset(BatchStream(scenes, experiment.train.batch_size).dataset()))
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
        np.testing.assert_allclose(together[name], (first[name] + second[name]) / 2, rtol=1e-6, err_msg=name)


def test_noise_depends_on_the_seed_of_the_run(tiny, scenes):
    assert trained(tiny(), scenes, [1], seed=0)[1]["loss"] != trained(tiny(), scenes, [1], seed=1)[1]["loss"]


def test_gradient_norm_is_that_before_clipping(tiny, scenes):
    free = trained(tiny(), scenes, [1])[1]["grad_norm"]
    assert trained(tiny(**{"train.clip_norm": 1e-3}), scenes, [1])[1]["grad_norm"] == pytest.approx(free, rel=1e-6)


class FailsAtStepThree(keras.Model):
    """One weight, and a loss that is infinite from step 3 on."""

    def __init__(self):
        super().__init__()
        self.weight = self.add_weight(shape=(), initializer="ones")

    def loss_and_gradients(self, batch, seed, step, loss_scale=1.0):
        loss = tf.where(step >= 3, float("inf"), tf.reduce_mean(batch["image"]))
        return None, {"loss": loss}, [tf.zeros([])]


@pytest.mark.parametrize("calls, expected", [([3], -1), ([5], 3), ([3, 2], 3), ([4, 1], 4)])
def test_first_step_that_is_not_finite(tiny, scenes, calls, expected):
    strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
    with strategy.scope():
        model, optimizer = FailsAtStepThree(), make_optimizer(tiny().train)
    step = TrainStep(strategy, model, optimizer, 0)
    iterator = iter(strategy.experimental_distribute_dataset(BatchStream(scenes, 4).dataset()))
    assert [step.run(iterator, count)[1] for count in calls][-1] == expected


def test_fit_gives_the_weights_of_the_loop(tiny, scenes):
    """Equal bit for bit: fit makes the same update on the same batches with the same noise."""
    experiment = tiny(**{"train.clip_norm": 0.05})
    ours, _, _ = trained(experiment, scenes, [6])
    model = build_model(experiment)
    model.compile(optimizer=make_optimizer(experiment.train))
    history = model.fit(BatchStream(scenes, 4).dataset(0), steps_per_epoch=3, epochs=2, shuffle=False, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    for variable, expected in zip(model.variables, ours, strict=True):
        np.testing.assert_array_equal(variable.numpy(), expected, err_msg=variable.path)


def test_the_graph_can_be_looked_at(tiny, scenes):
    strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
    with strategy.scope():
        model, optimizer = build_model(tiny()), make_optimizer(tiny().train)
    step = TrainStep(strategy, model, optimizer, 0)
    iterator = iter(strategy.experimental_distribute_dataset(BatchStream(scenes, 4).dataset()))
    assert any(op.type == "IteratorGetNext" for op in step.trace(iterator).graph.get_operations())
    assert int(optimizer.iterations.numpy()) == 0
