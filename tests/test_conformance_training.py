"""The battery of `test_conformance.py`, continued: replicas, restarts, export."""

import numpy as np
import pytest
import tensorflow as tf
from conformance import BATCH, MODELS, build, image_like, scenes, seed

from tfobj.execution import Execution
from tfobj.serving.export import export_model
from tfobj.training.experiment import TrainConfig
from tfobj.training.optimizer import make_optimizer
from tfobj.training.step import TrainStep

REPLICA_TOLERANCE = 1e-5
"""Largest difference of weights after three updates at a rate of 1e-3: Adam moves a weight by 3e-3, whatever its gradient's size."""
STEPS = 4

each_model = pytest.mark.parametrize("case", [c for c in MODELS if not c.name], ids=lambda c: c.id)


def batches(config, start=0):
    """Returns an endless dataset that is a function of the step."""
    images = np.stack([scenes(config, seed=s) for s in range(STEPS)])
    return tf.data.Dataset.from_tensor_slices({"image": images}).skip(start)


def trainer(case, strategy, xla=False):
    """Returns (model, optimizer, step) with clipping that is always active."""
    config = TrainConfig(learning_rate=1e-3, clip_norm=1e-2, steps=STEPS, batch_size=BATCH)
    with strategy.scope():
        model, optimizer = build(case), make_optimizer(config)
    return (
        model,
        optimizer,
        TrainStep(strategy, model, optimizer, run_seed=3, execution=Execution(xla=xla)),
    )


def run(case, strategy, num_steps, xla=False):
    model, optimizer, step = trainer(case, strategy, xla)
    before = [np.asarray(v.numpy()) for v in model.variables]
    iterator = iter(strategy.experimental_distribute_dataset(batches(case.config)))
    terms, bad = step.run(iterator, num_steps)
    assert (
        bad == -1 and int(optimizer.iterations.numpy()) == num_steps and terms["grad_norm"] > 1e-2
    )
    after = [
        np.asarray(v.numpy()) for v in model.variables
    ]  # with the state that no gradient trains
    assert any(np.abs(a - b).max() > 1e-3 for a, b in zip(before, after, strict=True))
    return after, terms


@each_model
def test_two_replicas_equal_one(case, two_replicas):
    """With clipping, and noise that belongs to scenes: a replica's noise and its share of the mean both matter."""
    one, one_terms = run(case, tf.distribute.OneDeviceStrategy("/cpu:0"), 3)
    two, two_terms = run(case, two_replicas, 3)
    for name, value in one_terms.items():
        np.testing.assert_allclose(two_terms[name], value, rtol=1e-4, err_msg=name)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_allclose(b, a, atol=REPLICA_TOLERANCE, rtol=REPLICA_TOLERANCE)


@each_model
def test_resumed_run_is_the_same_bit_for_bit(case, tmp_path):
    """2n updates in one go equal n, a save, a new process' worth of new objects, a restore, and n more."""
    strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
    whole, optimizer, step = trainer(case, strategy)
    iterator = iter(batches(case.config))
    step.run(iterator, STEPS // 2)
    path = tf.train.Checkpoint(model=whole, optimizer=optimizer).save(tmp_path / "state")
    step.run(iterator, STEPS // 2)

    again, optimizer, step = trainer(case, strategy)
    tf.train.Checkpoint(model=again, optimizer=optimizer).restore(
        path
    ).assert_existing_objects_matched()
    assert int(optimizer.iterations.numpy()) == STEPS // 2
    step.run(iter(batches(case.config, start=STEPS // 2)), STEPS // 2)
    for a, b in zip(whole.variables, again.variables, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy(), err_msg=a.path)


@each_model
def test_exported_model_is_the_same(case, tmp_path):
    """Reloaded with TensorFlow's loader; a clean process does it in tests/serving."""
    model, image = build(case), scenes(case.config, batch=2)
    loaded = tf.saved_model.load(export_model(model, tmp_path / "model"))
    got = loaded.signatures["serving_float"](image=tf.constant(image))
    expected = image_like(model(image, seed=seed(0, 0, 0)))
    for name in set(expected) & set(got):
        np.testing.assert_allclose(
            got[name], expected[name], atol=1e-4 * (1 + np.abs(expected[name]).max()), err_msg=name
        )
    assert {"masks", "recon"} <= set(got)
