"""Gated convolutions: the gate, the norms, and full-map kernels as matrix products."""

import numpy as np
import pytest
import tensorflow as tf

from tfobj.errors import UserError
from tfobj.nn.gated_conv import (
    GatedConv2D,
    GatedConvStack,
    GatedMapToVector,
    GatedVectorToMap,
    gate,
)


def maps(*shape, seed=0):
    return tf.constant(np.random.default_rng(seed).normal(size=shape), tf.float32)


def built(layer, shape):
    layer.build(shape)
    layer.bias.assign(maps(*layer.bias.shape, seed=1))
    return layer


def test_gate_opens_and_closes_and_leaves_h_alone():
    x = maps(2, 5, 6, 3)
    h = maps(2, 5, 6, 4, seed=1)
    np.testing.assert_allclose(gate(tf.concat([h, h * 0 + 60], -1)), h)
    np.testing.assert_allclose(gate(tf.concat([h, h * 0 - 60], -1)), h * 0, atol=1e-20)
    layer = GatedConv2D(4, 3, norm="none")
    layer.build(x.shape)
    layer.convolution.bias.assign(np.repeat([0.0, 60.0], 4))
    y, _ = layer(x)
    linear = tf.nn.conv2d(x, layer.convolution.kernel.value[..., :4], 1, "SAME")
    np.testing.assert_allclose(y, linear, atol=1e-5)
    assert float(tf.reduce_min(linear)) < -0.1  # which an activation on h would cut


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_both_halves_are_normed_by_themselves(norm):
    x = maps(3, 5, 6, 2)
    layer = GatedConv2D(4, 3, norm=norm)
    layer.build(x.shape)
    y, statistics = layer(x, training=True)
    raw = layer.convolution(x)
    axes = {"batch": [0, 1, 2], "instance": [1, 2]}[norm]
    halves = []
    for half in tf.split(raw, 2, axis=-1):
        mean, variance = tf.nn.moments(half, axes, keepdims=True)
        halves.append((half - mean) / tf.sqrt(variance + 1e-5))

    np.testing.assert_allclose(y, halves[0] * tf.sigmoid(halves[1]), atol=1e-5)
    assert len(statistics) == (norm == "batch")


def test_unknown_norm_is_refused():
    with pytest.raises(UserError, match="batch"):
        GatedConv2D(4, 3, norm="btach")


@pytest.mark.parametrize("size", [(10, 12), (9, 7), (35, 35)])
def test_stacks_shrink_and_enlarge(size):
    down = GatedConvStack((4, 4), 5, (1, 2))
    up = GatedConvStack((4, 3), 5, (2, 1), transposed=True)
    x = maps(2, *size, 3)
    for layer in (down, up):
        layer.build(x.shape)
        x, statistics = layer(x, training=True)
        assert len(statistics) == len(layer.batch_norms()) == 2 and set(statistics) == {
            norm.key for norm in layer.batch_norms()
        }
    assert x.shape == (2, size[0] + size[0] % 2, size[1] + size[1] % 2, 3)


def test_kernel_as_large_as_the_map_is_a_matrix_product():
    x = maps(3, 5, 4, 6)
    layer = built(GatedMapToVector(7), x.shape)
    convolved = gate(tf.nn.conv2d(x, layer.kernel.value, 1, "VALID") + layer.bias.value)
    np.testing.assert_allclose(layer(x), convolved[:, 0, 0], atol=1e-5)


def test_transposed_kernel_as_large_as_the_map_is_a_matrix_product():
    x = maps(3, 6)
    layer = built(GatedVectorToMap(7, (5, 4)), x.shape)
    convolved = tf.nn.conv2d_transpose(
        x[:, None, None], layer.kernel.value, [3, 5, 4, 14], 1, "VALID"
    )
    np.testing.assert_allclose(layer(x), gate(convolved + layer.bias.value), atol=1e-5)


@pytest.mark.parametrize(
    "layer",
    [
        lambda: GatedMapToVector(7, dtype="mixed_bfloat16"),
        lambda: GatedVectorToMap(7, (5, 4), dtype="mixed_bfloat16"),
    ],
)
def test_products_compute_in_bfloat16(layer):
    x = maps(3, 5, 4, 6) if isinstance(layer(), GatedMapToVector) else maps(3, 6)
    low = built(layer(), x.shape)
    full = built(type(low)(7, *([(5, 4)] if isinstance(low, GatedVectorToMap) else [])), x.shape)
    full.set_weights(low.get_weights())
    y = low(x)
    assert y.dtype == tf.bfloat16 and all(w.dtype == "float32" for w in low.weights)
    np.testing.assert_allclose(tf.cast(y, tf.float32), full(x), atol=0.1)
