"""GENESIS-V2: clustering by stochastic stick breaking, features of a cluster, decoded masks."""

import conformance
import numpy as np
import pytest
import tensorflow as tf

from tfobj import random
from tfobj.errors import UserError
from tfobj.models.genesis import Genesis, GenesisConfig
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
    embedded = network.clustering.embeddings(tf.nn.relu(network.encoder(image)))
    np.testing.assert_array_equal(embedded[..., :-2], np.zeros((4, 120, 6)))
    np.testing.assert_array_equal(
        embedded[0, :, -2:], np.reshape(network.clustering.grid, (120, 2))
    )
    _, _, grads = conformance.gradients(model, image)
    by_path = dict(zip([v.path for v in model.trainable_variables], grads, strict=True))
    assert abs(float(by_path["Genesis/network/clustering/gain"])) > 0


def test_size_of_the_full_model():
    """U-Net of 5 blocks; the count is ours, see the module."""
    model = Genesis(GenesisConfig(variant="genesis_v2"))
    assert len(model.network.encoder.down) == 5 and model.network.decoder.broadcast.size == (4, 4)
    assert model.count_trainable() == 2_695_566


def test_widths_must_suit_the_groups():
    with pytest.raises(UserError, match="`model.v2_features` must be a multiple of 8. Received"):
        GenesisConfig(v2_features=12)
