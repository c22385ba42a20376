"""The battery, continued: no dial of `tfobj.execution` changes values or gradients."""

import numpy as np
import pytest
import tensorflow as tf
from conformance import (
    BATCH,
    MODELS,
    assert_same_updates,
    build,
    flat,
    gradients,
    scenes,
    seed,
    slow_if_named,
    updates,
    whole_run,
)

from tfobj import execution, registry
from tfobj.execution import Execution

TOLERANCE = 1e-5
"""Relative to the largest entry of the whole gradient."""

unnamed_models = pytest.mark.parametrize(
    "case", [c for c in MODELS if not c.name], ids=lambda c: c.id
)
on_both = pytest.mark.parametrize(
    "xla", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["graph", "xla"]
)
"""Compiling a loop and its gradient takes XLA ten seconds and more."""


def assert_same(got, expected, tolerance=TOLERANCE):
    (_, got_terms, got_gradients), (_, terms, grads) = got, expected
    for name, value in terms.items():
        np.testing.assert_allclose(got_terms[name], value, rtol=tolerance, atol=1e-6, err_msg=name)
    assert np.abs(flat(got_gradients) - flat(grads)).max() < tolerance * np.abs(flat(grads)).max()


@pytest.mark.parametrize(
    "case",
    slow_if_named(c for c in MODELS if registry.model_class(c.model).has_steps),
    ids=lambda c: c.id,
)
@on_both
def test_rematerialised(case, xla):
    model, image = build(case, num_steps=3), scenes(case.config)
    expected = gradients(model, image, compiled=xla)
    with execution.using(Execution(xla=xla, rematerialise=True)):
        got = gradients(model, image, compiled=xla)
    assert_same(got, expected)


@pytest.mark.slow
@unnamed_models
@pytest.mark.parametrize("xla", [False, True], ids=["graph", "xla"])
def test_micro_batches_equal_the_batch(case, xla):
    """Noise, the mean over scenes and clipping included."""
    one_device = tf.distribute.OneDeviceStrategy("/cpu:0")
    whole = updates(case, one_device, Execution(xla=xla))
    parts = updates(case, one_device, Execution(xla=xla), micro_batches=BATCH)
    assert_same_updates(parts, whole)


@unnamed_models
def test_two_replicas_with_every_dial_equal_one_without(case, two_replicas):
    """One claim for all: replicas, rematerialisation and micro-batches at once.

    What is wrong where it fails, the slow tests of replicas and of micro-batches alone can tell.
    """
    parts = updates(case, two_replicas, Execution(rematerialise=True), micro_batches=2)
    whole = whole_run(case)
    assert_same_updates(parts, (whole.weights_halfway, whole.terms_halfway))


def test_noise_of_a_part_is_that_of_its_scenes():
    from tfobj import random

    whole = random.normal(seed(), "place", [6, 5])
    np.testing.assert_array_equal(
        random.normal(random.later_scenes(seed(), tf.constant(4)), "place", [2, 5]), whole[4:]
    )
