"""Slot Attention against a NumPy iteration written by hand, the GRU included, and its laws."""

import numpy as np
import pytest
import tensorflow as tf

from tfobj.nn.slot_attention import SlotAttention

BATCH = 2
TOKENS = 11
CHANNELS = 5
SLOTS = 3
SIZE = 4
HIDDEN = 6


def make_layer(**kwargs):
    layer = SlotAttention(SIZE, HIDDEN, **kwargs)
    layer.build((None, TOKENS, CHANNELS))
    rng = np.random.default_rng(0)
    for weight in layer.trainable_weights:
        weight.assign(rng.normal(0, 0.7, weight.shape))
    return layer


def make_inputs(num_slots=SLOTS, seed=1):
    rng = np.random.default_rng(seed)
    return (
        rng.normal(size=(BATCH, TOKENS, CHANNELS)).astype(np.float32),
        rng.normal(size=(BATCH, num_slots, SIZE)).astype(np.float32),
    )


def layer_norm(x, layer):
    centred = x - x.mean(-1, keepdims=True)
    return (
        centred / np.sqrt(x.var(-1, keepdims=True) + 1e-3) * layer.gamma.numpy()
        + layer.beta.numpy()
    )


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gru(x, h, cell):
    """new = z h + (1 - z) tanh(x W + b + r * (h U + c)); r, z = sigmoid(x W + h U + biases)."""
    wx = np.split(x @ cell.kernel.numpy() + cell.bias.numpy()[0], 3, axis=-1)
    uh = np.split(h @ cell.recurrent_kernel.numpy() + cell.bias.numpy()[1], 3, axis=-1)
    z = sigmoid(wx[0] + uh[0])
    r = sigmoid(wx[1] + uh[1])
    return z * h + (1 - z) * np.tanh(wx[2] + r * uh[2])


def reference(layer, tokens, slots, num_steps, attention_override=None):
    tokens = layer_norm(tokens.astype(np.float64), layer.norm_inputs)
    keys = tokens @ layer.project_key.kernel.numpy()
    values = tokens @ layer.project_value.kernel.numpy()
    slots = slots.astype(np.float64)
    for _ in range(num_steps):
        queries = layer_norm(slots, layer.norm_slots) @ layer.project_query.kernel.numpy()
        logits = np.einsum("bnd,bkd->bnk", keys, queries) / np.sqrt(SIZE)
        attention = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        weights = (attention + 1e-8) / (attention + 1e-8).sum(1, keepdims=True)
        np.testing.assert_allclose(weights.sum(1), 1)
        slots = gru(np.einsum("bnk,bnd->bkd", weights, values), slots, layer.gru)
        first, second = layer.mlp.stages
        hidden = np.maximum(
            layer_norm(slots, layer.norm_mlp) @ first.kernel.numpy() + first.bias.numpy(), 0
        )
        slots = slots + hidden @ second.kernel.numpy() + second.bias.numpy()

    return slots, attention


@pytest.mark.parametrize("num_steps", [1, 3])
def test_equals_numpy(num_steps):
    layer = make_layer()
    inputs = make_inputs()
    slots, attention = layer(*inputs, num_steps=num_steps)
    expected_slots, expected_attention = reference(layer, *inputs, num_steps)
    np.testing.assert_allclose(slots, expected_slots, atol=2e-5)
    np.testing.assert_allclose(attention, expected_attention, atol=2e-5)


def test_attention_sums_to_one_over_slots():
    _, attention = make_layer()(*make_inputs())
    np.testing.assert_allclose(
        tf.reduce_sum(attention, axis=-1), np.ones((BATCH, TOKENS)), atol=1e-6
    )


def test_order_of_tokens_does_not_matter():
    layer = make_layer()
    tokens, slots = make_inputs()
    order = np.random.default_rng(3).permutation(TOKENS)
    expected, attention = layer(tokens, slots)
    got, shuffled_attention = layer(tokens[:, order], slots)
    np.testing.assert_allclose(got, expected, atol=1e-5)
    np.testing.assert_allclose(shuffled_attention, tf.gather(attention, order, axis=1), atol=1e-5)


def test_permuted_slots_stay_permuted():
    layer = make_layer()
    tokens, slots = make_inputs()
    order = [2, 0, 1]
    np.testing.assert_allclose(
        layer(tokens, slots[:, order])[0],
        tf.gather(layer(tokens, slots)[0], order, axis=1),
        atol=1e-5,
    )


def test_one_slot_takes_the_mean_of_all_values():
    layer = make_layer()
    tokens, slots = make_inputs(num_slots=1)
    got, attention = layer(tokens, slots, num_steps=1)
    np.testing.assert_array_equal(attention, np.ones((BATCH, TOKENS, 1)))
    values = layer.project_value(layer.norm_inputs(tokens)).numpy()
    state = gru(values.mean(1), slots[:, 0], layer.gru)
    expected = state + layer.mlp(layer.norm_mlp(state)).numpy()
    np.testing.assert_allclose(got[:, 0], expected, atol=1e-5)


def test_identical_slots_stay_identical():
    layer = make_layer()
    tokens, slots = make_inputs()
    slots[:, 1] = slots[:, 0]
    got, _ = layer(tokens, slots, num_steps=5)
    np.testing.assert_array_equal(got[:, 0], got[:, 1])
    assert np.abs(got[:, 0] - got[:, 2]).max() > 1e-3


def test_another_number_of_slots_uses_the_same_weights():
    layer = make_layer()
    count = len(layer.weights)
    inputs = make_inputs(num_slots=7)
    np.testing.assert_allclose(layer(*inputs)[0], reference(layer, *inputs, 3)[0], atol=2e-5)
    assert len(layer.weights) == count


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_steps_as_tensor_equal_steps_as_number(dtype):
    """Under bfloat16 the slots entered the loop as bfloat16 and left it as float32 once."""
    layer = make_layer(dtype=dtype)
    inputs = make_inputs()
    loop = tf.function(lambda tokens, slots, num_steps: layer(tokens, slots, num_steps=num_steps))
    for num_steps in (1, 3):
        got = loop(*inputs, tf.constant(num_steps))
        expected = layer(*inputs, num_steps=num_steps)
        for a, b in zip(got, expected, strict=True):
            assert a.dtype == b.dtype == tf.float32
            tolerance = (1e-6 if dtype == "float32" else 0.01) * (1 + np.abs(b).max())
            np.testing.assert_allclose(a, b, atol=tolerance)


def test_bfloat16_is_close():
    inputs = make_inputs()
    expected = make_layer()(*inputs)
    got = make_layer(dtype="mixed_bfloat16")(*inputs)
    np.testing.assert_allclose(got[1], expected[1], atol=0.05)
    np.testing.assert_allclose(tf.reduce_sum(got[1], -1), np.ones((BATCH, TOKENS)), atol=1e-6)


def test_gradient_is_finite_where_attention_saturates():
    layer = make_layer()
    tokens, slots = make_inputs()
    layer.project_query.kernel.assign(layer.project_query.kernel * 1e4)
    with tf.GradientTape() as tape:
        out, attention = layer(tokens, slots)
        loss = tf.reduce_sum(tf.square(out))
    assert attention.numpy().max() == 1.0
    assert all(np.isfinite(g).all() for g in tape.gradient(loss, layer.trainable_variables))
