"""Moving averages of weights: exact, kept, used where models are judged and nowhere else."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfobj.training.checkpoint import RunState, load_run
from tfobj.training.evaluation import Evaluator
from tfobj.training.experiment import TrainConfig, build_model
from tfobj.training.optimizer import make_optimizer
from tfobj.training.workdir import read_metrics


def weights_of(values):
    return [keras.Variable(np.float32(value)) for value in values]


def update(optimizer, variables, seed):
    rng = np.random.default_rng(seed)
    gradients = [tf.constant(rng.normal(size=v.shape), tf.float32) for v in variables]
    optimizer.apply_gradients(zip(gradients, variables, strict=True))


@pytest.mark.parametrize("name", ["adam", "rmsprop"])
def test_averages_follow_the_weights_that_are_trained(name):
    """The second weight alone is trained at first, as in a stage of training."""
    config = TrainConfig(optimizer=name, learning_rate=0.1, ema_decay=0.3)
    optimizer = make_optimizer(config)
    variables = weights_of([[1.0, 2.0], [[3.0], [4.0]]])
    optimizer.build(variables)
    expected = [v.numpy().astype(np.float64) for v in variables]

    for t in range(1, 8):
        trained = variables[1:] if t <= 3 else variables
        update(optimizer, trained, seed=t)
        share = 1 - min(0.3, (1 + t) / (10 + t))
        for i, variable in enumerate(variables):
            expected[i] += share * (variable.numpy() - expected[i])

    for (_, average), value in zip(optimizer.averages, expected, strict=True):
        np.testing.assert_allclose(average.numpy(), value, rtol=1e-6)


def test_averages_take_the_weights_place_for_a_while():
    optimizer = make_optimizer(TrainConfig(learning_rate=0.1, ema_decay=0.9))
    variables = weights_of([[1.0, 2.0]])
    optimizer.build(variables)
    for seed in range(3):
        update(optimizer, variables, seed)
    ((weight, average),) = optimizer.averages
    before = weight.numpy()
    assert not np.allclose(before, average.numpy())

    with pytest.raises(KeyError), optimizer.averaged():
        np.testing.assert_array_equal(weight.numpy(), average.numpy())
        raise KeyError
    np.testing.assert_array_equal(weight.numpy(), before)


def test_without_decay_nothing_is_kept():
    optimizer = make_optimizer(TrainConfig())
    variables = weights_of([[1.0]])
    optimizer.build(variables)
    assert len(optimizer.variables) == 3  # counter and two moments
    with optimizer.averaged():
        assert variables[0].numpy() == [1.0]


def test_replicas_have_the_averages_of_one_device():
    gradient = tf.constant([1.0, -2.0])

    def averages(strategy):
        with strategy.scope():
            (variable,) = weights_of([[1.0, 2.0]])
            optimizer = make_optimizer(TrainConfig(learning_rate=0.1, ema_decay=0.5))
            optimizer.build([variable])
        step = tf.function(
            lambda: strategy.run(lambda: optimizer.apply_gradients([(gradient, variable)]))
        )
        for _ in range(3):
            step()
        with optimizer.averaged():
            return variable.numpy()

    one = averages(tf.distribute.OneDeviceStrategy("/cpu:0"))
    two = averages(tf.distribute.MirroredStrategy(["cpu:0", "cpu:1"]))
    np.testing.assert_allclose(one, two, rtol=1e-6)


@pytest.fixture(scope="module")
def decay():
    return {"train.ema_decay": 0.5, "train.learning_rate": 0.01}


def test_a_run_is_judged_and_loaded_by_its_averages(tmp_path, train_tiny, tiny, scenes, decay):
    train_tiny(tmp_path, **decay)
    loaded = load_run(tmp_path).model

    model = build_model(tiny(**decay))
    optimizer = make_optimizer(tiny(**decay).train)
    optimizer.build(model.trainable_variables)
    assert RunState(tmp_path, model, optimizer, keep=3).restore() == 6
    for (_, average), weight in zip(optimizer.averages, loaded.trainable_variables, strict=True):
        np.testing.assert_array_equal(weight.numpy(), average.numpy())

    (row,) = [r for r in read_metrics(tmp_path) if r["split"] == "validation" and r["step"] == 6]
    by_average = Evaluator(loaded, 4).score(scenes.take(4)).summary()["mse"]
    by_weight = Evaluator(model, 4).score(scenes.take(4)).summary()["mse"]
    assert row["mse"] == pytest.approx(by_average, rel=1e-5)
    assert abs(by_weight - by_average) > 1e-4 * by_average


def test_a_run_that_begins_with_weights_averages_from_there(tmp_path, train_tiny, tiny, decay):
    train_tiny(tmp_path / "first", **decay)
    train_tiny(tmp_path / "second", init_from=tmp_path / "first", **decay, **{"train.steps": 1})
    first = load_run(tmp_path / "first").model.trainable_variables
    second = load_run(tmp_path / "second").model.trainable_variables
    fresh = build_model(tiny(**decay)).trainable_variables
    moved = sum(float(np.abs(a - b).sum()) for a, b in zip(first, second, strict=True))
    apart = sum(float(np.abs(a - b).sum()) for a, b in zip(first, fresh, strict=True))
    assert moved < 0.5 * apart
