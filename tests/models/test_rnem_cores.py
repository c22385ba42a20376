"""The parts of R-NEM and its relatives: sizes, norms, recurrent cores, relations."""

import numpy as np
import pytest
import tensorflow as tf

from tfobj.models.rnem import RNem, RNemConfig
from tfobj.models.rnem.cores import LSTMCore, RecurrentCore, RelationalCore
from tfobj.models.rnem.networks import JointNorm
from tfobj.models.rnn_nem import RnnEM, RnnEMConfig

STATIC = {
    "encoder_channels": (),
    "encoder_hidden": (),
    "decoder_hidden": (),
    "decoder_channels": (),
    "layer_norm_epsilon": None,
}


def normalised(x, norm):
    x = x - x.mean(-1, keepdims=True)
    return (
        x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-12) * norm.gain.numpy()
        + norm.offset.numpy()
    )


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def affine(layer, x):
    return x @ layer.kernel.numpy() + layer.bias.numpy()


def randomised(layer, *shape):
    layer.build(*shape)
    rng = np.random.default_rng(1)
    for weight in layer.weights:
        weight.assign(rng.normal(0.2, 0.7, weight.shape))
    return layer


def test_parameters():
    """Counted by hand from the tables: encoder, core, decoder."""
    model = RNem(RNemConfig())

    parts = [
        sum(int(np.prod(w.shape)) for w in part.trainable_weights)
        for part in (model.encoder, model.core, model.decoder)
    ]
    assert parts == [2_140_240, 531_401, 2_280_337] and model.count_trainable() == 4_951_978
    assert model.decoder.sizes == ((8, 8), (16, 16), (32, 32), (64, 64))


def test_parameters_of_relatives():
    assert RnnEM(RnnEMConfig()).count_trainable() == 4_611_827
    core = randomised(LSTMCore(250, 1e-12), 512)
    assert sum(int(np.prod(w.shape)) for w in core.weights) == (512 + 250) * 1000 + 5 * 500
    shapes = {"image_size": (28, 28), **STATIC}
    assert (
        RnnEM(RnnEMConfig().override(shapes)).count_trainable()
        == (784 + 250) * 250 + 250 + 250 * 784 + 784
    )
    assert RNem(RNemConfig(image_size=(28, 28), variant="nem")).count_trainable() == 784 * 250 + 1


def test_joint_norm():
    """One norm per map: faint maps are scaled without rounding error, constant ones are zero."""
    norm = JointNorm(3, 1e-12)
    x = np.random.default_rng(0).normal(3.0, 2.0, (2, 4, 5, 3)).astype(np.float32)
    y = norm(x).numpy()
    np.testing.assert_allclose(
        y, (x - x.mean((1, 2, 3), keepdims=True)) / x.std((1, 2, 3), keepdims=True), atol=1e-5
    )
    assert [tuple(w.shape) for w in norm.weights] == [(3,), (3,)]

    faint = np.float32(1e-5) * y[:1]
    np.testing.assert_allclose(
        norm(0.5 + faint), (0.5 + faint - (0.5 + faint).mean()) / (0.5 + faint).std(), atol=0.02
    )
    np.testing.assert_array_equal(norm(np.zeros_like(x)), np.zeros_like(x))


def test_recurrent_cores_equal_their_formulas():
    rng = np.random.default_rng(2)
    features, cell, hidden = (
        rng.normal(size=(2, 3, size)).astype(np.float32) for size in (7, 6, 6)
    )
    core = randomised(RecurrentCore(6, 1e-12), 7)
    g = affine(core.state, np.concatenate([features, hidden], axis=-1))
    got = core(features, (hidden, cell))
    for x, expected in zip(got, (sigmoid(g), sigmoid(normalised(g, core.norm))), strict=True):
        np.testing.assert_allclose(x, expected, atol=1e-5)

    core = randomised(LSTMCore(6, 1e-12), 7)
    parts = np.split(
        np.concatenate([features, hidden], axis=-1) @ core.gates.kernel.numpy(), 4, axis=-1
    )
    i, j, f, o = (normalised(part, norm) for part, norm in zip(parts, core.norms, strict=False))
    new_cell = normalised(sigmoid(f + 1) * cell + sigmoid(i) * np.tanh(j), core.norms[4])
    for x, expected in zip(
        core(features, (cell, hidden)), (new_cell, sigmoid(o) * np.tanh(new_cell)), strict=True
    ):
        np.testing.assert_allclose(x, expected, atol=1e-5)


@pytest.mark.parametrize("attention_size", [4, None])
def test_relations_equal_a_double_loop(attention_size):
    core = randomised(RelationalCore(6, 5, attention_size, 1e-12), 7)
    rng = np.random.default_rng(2)
    features = rng.normal(size=(2, 4, 7)).astype(np.float32)
    hidden = rng.uniform(size=(2, 4, 6)).astype(np.float32)

    def block(layer, x, activation):
        return activation(normalised(affine(layer.linear, x), layer.norm))

    def relu(x):
        return np.maximum(x, 0)

    slots = block(core.slot, hidden, relu)
    effects = np.zeros((2, 4, 5))
    for b in range(2):
        for k in range(4):
            for i in range(4):
                if i != k:
                    pair = block(core.pair, np.concatenate([slots[b, k], slots[b, i]]), relu)
                    weight = 1.0
                    if attention_size is not None:
                        weight = sigmoid(affine(core.gate, block(core.attention, pair, np.tanh)))
                    effects[b, k] += weight * block(core.effect, pair, relu)
    np.testing.assert_allclose(
        core.effects(tf.constant(slots, tf.float32)), effects, rtol=1e-4, atol=1e-5
    )

    g = affine(core.state, np.concatenate([slots, effects, features], axis=-1))
    got_hidden, got_output = core(features, (hidden, np.zeros_like(hidden)))
    np.testing.assert_allclose(got_hidden, sigmoid(g), atol=1e-5)
    np.testing.assert_allclose(got_output, sigmoid(normalised(g, core.norm)), atol=1e-5)


def test_two_slots_have_one_relation_each():
    core = randomised(RelationalCore(6, 5, None, 1e-12), 7)
    slots = np.random.default_rng(2).uniform(size=(1, 2, 6)).astype(np.float32)
    for k in (0, 1):
        pair = np.concatenate([slots[:, k], slots[:, 1 - k]], axis=-1)
        np.testing.assert_allclose(
            core.effects(tf.constant(slots))[:, k],
            core.effect(core.pair(pair)),
            rtol=1e-4,
            atol=1e-5,
        )
