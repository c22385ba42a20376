"""The factorised first layer of the broadcast decoder equals the plain convolution of the tiled latent, borders included."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfobj.nn import broadcast_decoder, coordinates
from tfobj.nn.broadcast_decoder import BroadcastConv2D, BroadcastDecoder, BroadcastGrid

LATENT = 3


def positioned(layer, latents):
    """Tiles `latents` over the layer's grid and appends or adds positions: what the papers convolve."""
    height, width = layer.size
    tiled = tf.tile(latents[:, None, None], [1, height, width, 1])
    if layer.positions == "append":
        grid = tf.tile(coordinates.linear_grid(height, width)[None], [tf.shape(latents)[0], 1, 1, 1])
        return tf.concat([tiled, grid], axis=-1)
    projection = layer.projection
    return tiled + coordinates.border_grid(height, width) @ projection.kernel.value + projection.bias.value


def plain(layer, latents):
    convolved = tf.nn.conv2d(positioned(layer, latents), layer.kernel.value, 1, "SAME")
    return layer.activation(convolved + layer.bias.value)


def randomise(layer, seed=0):
    rng = np.random.default_rng(seed)
    for weight in layer.trainable_weights:
        weight.assign(rng.normal(0, 0.4, weight.shape))
    return layer


def make_layer(size, kernel_size, positions, activation=None, **kwargs):
    layer = BroadcastConv2D(4, kernel_size, size, positions=positions, activation=activation, **kwargs)
    layer.build((None, LATENT))
    return randomise(layer)


def make_latents(count=2):
    return tf.constant(np.random.default_rng(1).normal(size=(count, LATENT)), tf.float32)


@pytest.mark.parametrize("positions", ["append", "add"])
@pytest.mark.parametrize("kernel_size", [1, 3, 5])
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (2, 3), (3, 5), (5, 4), (4, 6), (7, 12)], ids=str)
def test_values_and_gradients_equal_the_plain_convolution(size, kernel_size, positions):
    """Sizes below, at and above 2 * (kernel_size // 2) + 1 = kernel_size, where border classes begin to overlap."""
    layer, latents = make_layer(size, kernel_size, positions), make_latents()
    cotangent = np.random.default_rng(2).normal(size=(2, *size, 4)).astype(np.float32)
    results = []
    for function in (layer, lambda z: plain(layer, z)):
        with tf.GradientTape() as tape:
            tape.watch(latents)
            y = function(latents)
            loss = tf.reduce_sum(y * cotangent)
        weights = [v.value for v in layer.trainable_weights]
        results.append([y, *tape.gradient(loss, [latents, *weights])])
    for got, expected in zip(*results, strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-5 * (1 + np.abs(expected).max()))


def test_activation_and_precomputed_operators():
    layer, latents = make_layer((6, 5), 3, "append", activation="elu"), make_latents()
    np.testing.assert_allclose(layer(latents), plain(layer, latents), atol=1e-5)
    np.testing.assert_array_equal(layer(latents, operators=layer.operators()), layer(latents))


@pytest.mark.parametrize("positions", ["append", "add"])
def test_bfloat16_is_close(positions):
    layer = make_layer((7, 8), 3, positions)
    low = make_layer((7, 8), 3, positions, dtype="mixed_bfloat16")
    got = low(make_latents())
    assert got.dtype == tf.bfloat16
    expected = layer(make_latents())
    np.testing.assert_allclose(tf.cast(got, tf.float32), expected, atol=0.02 * np.abs(expected).max())


def test_border_classes():
    taps, repeats = broadcast_decoder._border_classes(7, 3)
    np.testing.assert_array_equal(taps, [[0, 1, 1], [1, 1, 1], [1, 1, 0]])
    assert repeats == [1, 5, 1]
    assert broadcast_decoder._border_classes(2, 5)[1] == [1, 1]
    with pytest.raises(ValueError, match="`kernel_size` must be odd. Received: kernel_size=4."):
        broadcast_decoder._border_classes(7, 4)


def plain_decoder(decoder, latents):
    first = decoder.first
    x = positioned(first, latents) if isinstance(first, BroadcastGrid) else plain(first, latents)
    return decoder.stack(x)[:, : decoder.size[0], : decoder.size[1]]


@pytest.mark.parametrize("positions", ["append", "add"])
@pytest.mark.parametrize(
    ("size", "strides", "grid"),
    [((6, 9), 1, None), ((8, 12), (2, 2, 1), (2, 3)), ((7, 10), (2, 2, 1), (2, 3)), ((8, 8), (1, 2, 2), (2, 2)), ((3, 3), (1, 1, 2), (2, 2))],
)
def test_decoder_variants(size, strides, grid, positions):
    """Full resolution, enlarging from a small grid, enlarging later, and cropping what goes beyond the image."""
    decoder = BroadcastDecoder(size, (5, 4, 2), (5, 3, 3), strides, grid_size=grid, positions=positions)
    decoder.build((None, LATENT))
    randomise(decoder)
    got = decoder(make_latents())
    assert got.shape == (2, *size, 2) and got.dtype == tf.float32
    np.testing.assert_allclose(got, plain_decoder(decoder, make_latents()), atol=2e-5)
    np.testing.assert_allclose(decoder(make_latents(), operators=decoder.operators()), got, atol=1e-6)
    assert got.numpy().min() < 0, "the last layer is linear"


@pytest.mark.parametrize("size, grid", [((128, 128), (8, 8)), ((96, 96), (6, 6)), ((64, 64), (4, 4))], ids=str)
def test_size_of_the_sixteenfold_decoder(size, grid):
    decoder = BroadcastDecoder(size, (1, 1, 1, 1, 1, 4), (5, 5, 5, 5, 5, 3), (2, 2, 2, 2, 1, 1), grid_size=grid, positions="add")
    decoder.build((None, 2))
    assert decoder(tf.zeros([1, 2])).shape == (1, *size, 4)


def test_decoder_refuses_a_grid_that_does_not_reach_the_image():
    with pytest.raises(ValueError, match=r"grid \(2, 2\) with strides \(2, 1\) reaches 4x4 pixels; the image has 5x4"):
        BroadcastDecoder((5, 4), (3, 3), 3, (2, 1), grid_size=(2, 2), positions="add")


def test_grid_is_a_weight_but_not_trained():
    layer = make_layer((3, 4), 3, "append")
    assert [tuple(w.shape) for w in layer.non_trainable_weights] == [(3, 4, 2)]
    assert isinstance(layer.grid, keras.Variable)
