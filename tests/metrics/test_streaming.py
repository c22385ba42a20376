"""Keras metrics equal the host scores, average by scene, and survive configs and `fit`."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfobj.metrics import clustering, matching, overlap, reconstruction, streaming


def batch(seed=0, num_scenes=6):
    rng = np.random.default_rng(seed)
    true = rng.integers(0, 5, (num_scenes, 12, 12)).astype(np.uint8)
    true[0] = 0
    masks = rng.dirichlet(np.ones(4), (num_scenes, 12, 12)).astype(np.float32)
    masks = np.moveaxis(masks, -1, 1)[..., None]
    masks = 0.3 * masks + 0.7 * np.moveaxis(np.eye(4, dtype=np.float32)[true % 4], -1, 1)[..., None]
    return true, masks


HOST = {
    streaming.ForegroundARI: lambda t, p: clustering.adjusted_rand_index(
        t, p, foreground_only=True
    ),
    streaming.AdjustedRandIndex: clustering.adjusted_rand_index,
    streaming.MeanSegmentationCovering: overlap.segmentation_covering,
    streaming.MeanMatchedIoU: matching.mean_matched_iou,
}


@pytest.mark.parametrize("metric_class", HOST, ids=lambda c: c.__name__)
def test_equals_the_host_over_uneven_batches(metric_class):
    true, masks = batch()
    metric = metric_class(num_true=5)
    update = tf.function(metric.update_state)
    update(true[:4], masks[:4])
    update(true[4:], masks[4:])
    expected = np.nanmean(HOST[metric_class](true, clustering.segment_ids(masks)))
    np.testing.assert_allclose(metric.result(), expected, atol=1e-5)
    metric.reset_state()
    assert float(metric.result()) == 0.0


def test_undefined_and_padded_scenes_do_not_count():
    true, masks = batch()
    metric = streaming.ForegroundARI(num_true=5)
    metric.update_state(true, masks, sample_weight=[1, 1, 1, 1, 0, 0])
    assert float(metric.count) == 3.0
    expected = clustering.adjusted_rand_index(
        true, clustering.segment_ids(masks), foreground_only=True
    )[1:4].mean()
    np.testing.assert_allclose(metric.result(), expected, atol=1e-5)


def test_reconstruction_error_of_half_precision_images():
    rng = np.random.default_rng(1)
    image, recon = rng.random((2, 3, 8, 8, 3)).astype(np.float32)
    metric = streaming.ReconstructionError()
    metric.update_state(image, recon)
    np.testing.assert_allclose(
        metric.result(), reconstruction.mean_squared_error(image, recon).mean(), rtol=1e-6
    )


def test_config_round_trip():
    metric = streaming.ForegroundARI(num_true=7, name="score")
    clone = streaming.ForegroundARI.from_config(metric.get_config())
    assert (clone.num_true, clone.name) == (7, "score")


TWO_REPLICAS = """
import numpy as np
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from tfobj.metrics import adjusted_rand_index, segment_ids, streaming
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
rng = np.random.default_rng(0)
true = rng.integers(0, 4, (5, 8, 8)).astype(np.uint8)
true[0] = 0
ids = np.where(rng.random(true.shape) < 0.6, true, 0)
masks = np.moveaxis(np.eye(4, dtype=np.float32)[ids], -1, 1)[..., None]
with strategy.scope():
    metric = streaming.ForegroundARI(num_true=4)
batches = tf.data.Dataset.from_tensor_slices((true, masks)).batch(3)
step = tf.function(lambda batch: strategy.run(metric.update_state, args=batch))
for batch in strategy.experimental_distribute_dataset(batches):
    step(batch)
expected = np.nanmean(adjusted_rand_index(true, segment_ids(masks), foreground_only=True))
np.testing.assert_allclose(metric.result(), expected, atol=1e-6)
"""


def test_two_replicas_average_by_scene():
    """Replicas see 2, 1, 1 and 1 of five scenes, one of them without objects."""
    subprocess.run([sys.executable, "-c", TWO_REPLICAS], check=True, timeout=120)


def test_compile_and_evaluate():
    """The metric sees masks as `y_pred` in an ordinary Keras model."""
    true, masks = batch()
    inputs = keras.Input(masks.shape[1:])
    model = keras.Model(inputs, keras.layers.Activation("linear")(inputs))
    no_loss = lambda y_true, y_pred: tf.zeros(tf.shape(y_pred)[0])  # noqa: E731
    model.compile(loss=no_loss, metrics=[streaming.AdjustedRandIndex(num_true=5)])
    results = model.evaluate(masks, true, batch_size=4, verbose=0, return_dict=True)
    expected = clustering.adjusted_rand_index(true, clustering.segment_ids(masks)).mean()
    np.testing.assert_allclose(results["ari"], expected, atol=1e-5)
