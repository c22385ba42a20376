"""GENESIS-V2: clustering by stochastic stick breaking, features of a cluster, decoded masks."""

import conformance
import numpy as np
import pytest
import tensorflow as tf

from tfobj import random
from tfobj.errors import UserError
from tfobj.models.genesis import Genesis, GenesisConfig
from tfobj.models.genesis.components import lstm_cell
from tfobj.models.genesis.genesis_v2 import PixelClustering


def tiny(**changes):
    case = next(c for c in conformance.MODELS if c.id == "genesis-v2")
    return conformance.build(case, **changes), conformance.scenes(case.config.override(changes))


def clustering(features, gain, num_slots=3):
    config = GenesisConfig(
        variant="genesis_v2", num_slots=num_slots, v2_embedding_size=4, v2_embedding_gain=gain
    )
    layer = PixelClustering(config)
    layer.build(features.shape)
    layer.embedding.kernel.assign(np.eye(features.shape[-1], 4)[None, None])
    return layer


def priorities(batch, pixels):
    return random.uniform(random.make_seed(3), "test", [batch, pixels])


def test_masks_share_the_scope_and_sum_to_one():
    model, image = tiny(num_slots=4)
    outputs = model(image, seed=conformance.seed())
    scopes = outputs.history["scopes"].numpy()
    masks = outputs.history["stick_masks"].numpy()
    np.testing.assert_allclose(masks.sum(1), np.ones((4, 10, 12, 1)), atol=1e-5)
    np.testing.assert_allclose(scopes[:, 1:], 1 - np.cumsum(masks, 1)[:, :-1], atol=1e-5)
    shares = masks[:, :-1] / scopes[:, :-1]
    assert shares.min() >= 0.0099 and shares.max() <= 0.9901
    assert np.abs(masks - outputs.masks).max() > 0.01  # the likelihood has the decoded masks


def test_pixels_of_equal_features_are_one_cluster():
    """Three regions of far-apart features: a step takes the region of its seed, none twice."""
    regions = np.repeat([0, 1, 2], 20).reshape(1, 6, 10)
    features = tf.constant(np.eye(4)[regions], tf.float32)
    layer = clustering(features, gain=10.0)
    layer.grid.assign(tf.zeros_like(layer.grid))
    log_masks, _ = layer(features, priorities(1, 60), num_slots=3)
    masks = np.exp(log_masks[0, ..., 0])
    owners = [set(regions[0][mask > 0.5]) for mask in masks]
    assert all(len(owner) == 1 for owner in owners) and set.union(*owners) == {0, 1, 2}


def test_seeds_are_the_greatest_of_noise_times_scope():
    features = tf.zeros([2, 5, 6, 4])
    layer = clustering(features, gain=0.0)
    u = priorities(2, 30)
    log_masks, log_scopes = layer(features, u, num_slots=3)

    rows, columns = np.meshgrid(np.linspace(-1, 1, 5), np.linspace(-1, 1, 6), indexing="ij")
    where = np.stack([rows.ravel(), columns.ravel()], -1)
    scope = np.ones((2, 30))
    for k in range(2):
        seed = np.argmax(u * scope, axis=1)
        distance = np.square(where[None] - where[seed][:, None]).sum(-1)
        share = np.clip(np.exp(-distance * 3 * np.log(2)), 0.01, 0.99)
        np.testing.assert_allclose(np.exp(log_masks[:, k]).reshape(2, 30), scope * share, rtol=1e-4)
        scope = scope * (1 - share)
        np.testing.assert_allclose(np.exp(log_scopes[:, k + 1]).reshape(2, 30), scope, rtol=1e-4)


def test_gradient_passes_the_bounds_of_the_shares():
    features = tf.constant(np.eye(4)[np.repeat([0, 1, 2], 20).reshape(1, 6, 10)], tf.float32)
    layer = clustering(features, gain=1.5)
    layer.grid.assign(tf.zeros_like(layer.grid))
    with tf.GradientTape() as tape:
        tape.watch(features)
        log_masks, _ = layer(features, priorities(1, 60), num_slots=3)
        total = tf.reduce_sum(
            tf.exp(log_masks[:, 0]) * tf.reshape(tf.range(1.0, 61.0), [1, 6, 10, 1])
        )

    gradient = tape.gradient(total, features)
    far = np.exp(log_masks[0, 0, ..., 0]) < 0.0101
    assert far.any() and np.isfinite(gradient).all()
    assert (np.abs(gradient).max(-1)[0][far] > 0).all()


def test_latents_describe_the_mean_features_of_their_pixels():
    model, _ = tiny()
    network = model.network
    features = tf.nn.relu(random.normal(random.make_seed(), "test", [2, 10, 12, 16]))
    attention = tf.nn.softmax(random.normal(random.make_seed(1), "test", [2, 3, 10, 12, 1]), axis=1)
    q = network.posterior(features, attention)

    heads = network.head_output(network.head(features))
    for k in range(3):
        share = attention[:, k]
        mean = tf.reduce_sum(share * heads, [1, 2]) / tf.reduce_sum(share, [1, 2])
        expected = network.mlp(network.norm(mean))[:, : q.loc.shape[-1]]
        np.testing.assert_allclose(q.loc[:, k], expected, atol=1e-5)

    # However little attention a slot has, its mean is one.
    little = tf.exp(tf.math.log(attention) - [[[[[0.0]]], [[[60.0]]], [[[0.0]]]]])
    np.testing.assert_allclose(network.posterior(features, little).loc, q.loc, atol=1e-4)


def test_slots_change_at_call_time():
    model, image = tiny()
    outputs = model(image, num_slots=6, seed=conformance.seed())
    assert outputs.masks.shape[1] == outputs.slots.shape[1] == 6 and outputs.slots.shape[2] == 5
    assert model.sample(2, conformance.seed(), num_slots=4).masks.shape == (2, 4, 10, 12, 1)
    decoded = model.decode(outputs.slots)
    np.testing.assert_allclose(tf.reduce_sum(decoded.masks, 1), np.ones((4, 10, 12, 1)), atol=1e-5)


def test_embeddings_begin_as_places_and_learn_from_the_image():
    model, image = tiny(v2_embedding_gain=0.0)
    network = model.network
    embedded = network.clustering.embeddings(network.segmentation_head(network.encoder(image)))
    np.testing.assert_array_equal(embedded[..., :-2], np.zeros((4, 120, 6)))
    np.testing.assert_array_equal(
        embedded[0, :, -2:], np.reshape(network.clustering.grid, (120, 2))
    )
    _, _, grads = conformance.gradients(model, image)
    by_path = dict(zip([v.path for v in model.trainable_variables], grads, strict=True))
    assert abs(float(by_path["Genesis/network/clustering/gain"])) > 0


def convolve(image, kernel):
    """3 x 3 convolution [H, W, C] -> [H, W, F] with one zero around the image."""
    height, width, _ = image.shape
    padded = np.pad(image, [(1, 1), (1, 1), (0, 0)])
    windows = [
        padded[i : i + height, j : j + width] @ kernel[i, j] for i in range(3) for j in range(3)
    ]
    return sum(windows)


def test_segmentation_head_equals_numpy():
    """Convolution without bias, 8 groups, epsilon 1e-5, gain and bias per channel, ReLU."""
    model, _ = tiny()
    head = model.network.segmentation_head
    rng = np.random.default_rng(0)
    for weight in head.trainable_weights:
        weight.assign(rng.normal(0.3, 0.5, weight.shape))
    assert [w.path.split("/")[-1] for w in head.trainable_weights] == ["kernel", "gamma", "beta"]

    features = rng.normal(size=(10, 12, 16))
    x = convolve(features, np.float64(head.convolution.kernel))
    groups = x.reshape(10, 12, 8, 2)
    moments = {"axis": (0, 1, 3), "keepdims": True}
    x = (groups - groups.mean(**moments)) / np.sqrt(groups.var(**moments) + 1e-5)
    x = x.reshape(10, 12, 16) * np.float64(head.norm.gamma) + np.float64(head.norm.beta)
    found = head(tf.constant(features[None], tf.float32))[0]
    np.testing.assert_allclose(found, np.maximum(x, 0.0), atol=2e-5)


def test_embeddings_see_the_segmentation_head_and_latents_do_not():
    model, image = tiny()
    network = model.network
    before = model(image, seed=conformance.seed())
    features = network.encoder(image)
    assert features.shape[-1] == 16 and float(tf.reduce_min(features)) == 0.0

    embedded = network.clustering.embedding(network.segmentation_head(features))
    network.segmentation_head.norm.gamma.assign(-network.segmentation_head.norm.gamma)
    after = model(image, seed=conformance.seed())
    assert np.abs(before.history["stick_masks"] - after.history["stick_masks"]).max() > 0.01
    negated = network.clustering.embedding(network.segmentation_head(features))
    assert np.abs(embedded - negated).max() > 0.01

    attention = before.history["stick_masks"]
    expected = network.posterior(features, attention).loc
    np.testing.assert_allclose(before.slots, expected, atol=1e-5)


def test_slots_after_a_long_stick_are_finite():
    """Each of 48 slots leaves one percent of an even picture: 0.01 ** 47 is zero in float32."""
    model, image = tiny()
    model.network.clustering.log_scale.assign(8.0)
    with tf.GradientTape() as tape:
        outputs = model(tf.zeros_like(image), num_slots=48, seed=conformance.seed())
        loss, _ = model.objective(outputs, tf.constant(0, tf.int64))
    assert float(tf.reduce_sum(outputs.history["stick_masks"][:, -1])) == 0.0
    assert np.isfinite(outputs.recon).all() and np.isfinite(outputs.slots).all()
    weights = [v.value for v in model.trainable_variables]
    for gradient in tape.gradient(loss, weights, unconnected_gradients="zero"):
        assert np.isfinite(gradient).all()


def test_second_bias_of_the_prior_adds_to_the_first():
    rng = np.random.default_rng(1)
    ours = lstm_cell(5, "cell", recurrent_bias=True)
    keras_cell = lstm_cell(5, "cell")
    ours.build((None, 3))
    keras_cell.build((None, 3))
    assert np.abs(ours.bias - ours.recurrent_bias).max() > 0.01

    total = ours.bias + ours.recurrent_bias
    keras_cell.set_weights([ours.kernel, ours.recurrent_kernel, total])
    x, h, c = (tf.constant(rng.normal(size=(2, n)), tf.float32) for n in (3, 5, 5))
    found = tf.nest.flatten(ours(x, [h, c]))
    expected = tf.nest.flatten(keras_cell(x, [h, c]))
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_size_of_the_released_model():
    """By part, at 64 x 64: the sum is that of the released code's parameters."""
    model = Genesis(GenesisConfig(variant="genesis_v2"))
    network = model.network
    assert len(network.encoder.down) == 5 and network.decoder.broadcast.size == (4, 4)

    def count(*parts):
        return sum(int(tf.size(w)) for part in parts for w in part.trainable_weights)

    assert count(network.encoder) == 1_836_864
    assert count(network.segmentation_head) == 9 * 64 * 64 + 2 * 64
    assert count(network.clustering) == 64 * 8 + 8 + 2
    assert count(network.head, network.head_output) == 36_992 + 64 * 128 + 128
    assert count(network.norm, network.mlp) == 2 * 128 + 2 * (128 * 128 + 128)
    assert count(network.decoder) == 66 * 64 * 25 + 3 * 64 * 64 * 25 + 4 * 3 * 64 + 65 * 4
    assert count(network.prior_network) == 4 * 256 * (64 + 256 + 2) + 256 * 128 + 128
    assert model.count_trainable() == 2_729_422


def test_widths_must_suit_the_groups():
    with pytest.raises(UserError, match="`model.v2_features` must be a multiple of 8. Received"):
        GenesisConfig(v2_features=12)
