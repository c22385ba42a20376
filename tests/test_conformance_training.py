"""The battery of `test_conformance.py`, continued: replicas, restarts, export."""

import numpy as np
import pytest
import tensorflow as tf
from conformance import (
    MODELS,
    NUM_UPDATES,
    assert_same_updates,
    batches,
    image_like,
    make_trainer,
    model_of,
    scenes,
    seed,
    updates,
    weights_of,
    whole_run,
)

from tfobj import random
from tfobj.serving.export import export_model

each_model = pytest.mark.parametrize("case", [c for c in MODELS if not c.name], ids=lambda c: c.id)


@pytest.mark.slow
@each_model
def test_two_replicas_equal_one(case, two_replicas):
    """With clipping, and noise that belongs to scenes: a replica's noise and its share both matter.

    The default tests have replicas together with all other dials, in
    `test_conformance_execution.py`.
    """
    whole = whole_run(case)
    parts = updates(case, two_replicas)
    assert_same_updates(parts, (whole.weights_halfway, whole.terms_halfway))


@each_model
def test_resumed_run_is_the_same_bit_for_bit(case):
    """2n updates in one go equal n, a save, new objects, a restore, and n more."""
    whole = whole_run(case)
    again = make_trainer(case, tf.distribute.OneDeviceStrategy("/cpu:0"))
    state = tf.train.Checkpoint(model=again.model, optimizer=again.optimizer)
    state.restore(whole.checkpoint).assert_existing_objects_matched()

    done = NUM_UPDATES // 2
    assert int(again.optimizer.iterations.numpy()) == done
    again.step.run(iter(batches(case.config, start=done)), NUM_UPDATES - done)
    for a, b, variable in zip(
        whole.weights, weights_of(again.model), again.model.variables, strict=True
    ):
        np.testing.assert_array_equal(a, b, err_msg=variable.path)


@each_model
def test_exported_model_is_the_same(case, tmp_path):
    """Reloaded with TensorFlow's loader; a clean process does it in tests/serving."""
    model = model_of(case)
    image = scenes(case.config, batch=2)
    loaded = tf.saved_model.load(export_model(model, tmp_path / "model"))
    got = loaded.signatures["serving_float"](image=tf.constant(image))
    with random.shared_by_scenes():
        expected = image_like(model(image, seed=seed(0, 0, 0)))
    for name in set(expected) & set(got):
        np.testing.assert_allclose(
            got[name], expected[name], atol=1e-4 * (1 + np.abs(expected[name]).max()), err_msg=name
        )
    assert {"masks", "recon"} <= set(got)
