"""The factorised first layer of the broadcast decoder equals the plain convolution everywhere."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfobj.errors import UserError
from tfobj.nn import broadcast_decoder, coordinates
from tfobj.nn.broadcast_decoder import BroadcastConv2D, BroadcastDecoder, BroadcastGrid

LATENT = 3


def positioned(layer, latents):
    """Tiles `latents` over the layer's grid and appends or adds positions, as the papers do."""
    height, width = layer.size
    tiled = tf.tile(latents[:, None, None], [1, height, width, 1])
    if layer.positions == "append":
        grid = tf.tile(
            coordinates.linear_grid(height, width)[None], [tf.shape(latents)[0], 1, 1, 1]
        )
        return tf.concat([tiled, grid], axis=-1)

    projection = layer.projection
    return (
        tiled
        + coordinates.border_grid(height, width) @ projection.kernel.value
        + projection.bias.value
    )


def plain(layer, latents):
    p = layer.padding
    padding = p.upper() if isinstance(p, str) else [[0, 0], [p, p], [p, p], [0, 0]]
    convolved = tf.nn.conv2d(positioned(layer, latents), layer.kernel.value, 1, padding)
    return layer.activation(convolved + layer.bias.value)


def randomise(layer, seed=0):
    rng = np.random.default_rng(seed)
    for weight in layer.trainable_weights:
        weight.assign(rng.normal(0, 0.4, weight.shape))
    return layer


def make_layer(size, kernel_size, positions, activation=None, **kwargs):
    layer = BroadcastConv2D(
        4, kernel_size, size, positions=positions, activation=activation, **kwargs
    )
    layer.build((None, LATENT))
    return randomise(layer)


def make_latents(count=2):
    return tf.constant(np.random.default_rng(1).normal(size=(count, LATENT)), tf.float32)


def value_and_gradients(layer, function, latents, seed=2):
    """Returns [output, gradients of a random linear function of it]: latents, trained weights."""
    cotangent = tf.constant(
        np.random.default_rng(seed).normal(size=(latents.shape[0], *layer.output_size, 4)),
        tf.float32,
    )
    with tf.GradientTape() as tape:
        tape.watch(latents)
        y = tf.cast(function(latents), tf.float32)
        loss = tf.reduce_sum(y * cotangent)
    return [y, *tape.gradient(loss, [latents, *(v.value for v in layer.trainable_weights)])]


def assert_close(got, expected, tolerance=1e-5):
    """Largest deviation relative to the largest value."""
    for g, e in zip(got, expected, strict=True):
        np.testing.assert_allclose(g, e, rtol=0, atol=tolerance * max(np.abs(e).max(), 1e-3))


@pytest.mark.parametrize("positions", ["append", "add"])
@pytest.mark.parametrize("kernel_size", [1, 3, 5])
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (2, 3), (3, 5), (5, 4), (4, 6), (7, 12)], ids=str)
def test_same_values_and_gradients_equal_the_plain_convolution(size, kernel_size, positions):
    """Sizes below, at and above the kernel size, where border classes begin to overlap."""
    layer = make_layer(size, kernel_size, positions)
    latents = make_latents()
    assert layer.output_size == size
    assert len(layer.trainable_weights) == {"append": 2, "add": 4}[positions]
    assert_close(
        value_and_gradients(layer, layer, latents),
        value_and_gradients(layer, lambda z: plain(layer, z), latents),
    )


@pytest.mark.parametrize("positions", ["append", "add"])
@pytest.mark.parametrize(
    "size, kernel_size, padding, output",
    [
        ((3, 3), 3, "valid", (1, 1)),
        ((3, 9), 3, "valid", (1, 7)),
        ((8, 5), 3, "valid", (6, 3)),
        ((5, 5), 5, "valid", (1, 1)),
        ((6, 11), 5, "valid", (2, 7)),
        ((4, 5), 4, "valid", (1, 2)),
        ((4, 6), 1, "valid", (4, 6)),
        ((3, 4), 5, 1, (1, 2)),
        ((7, 9), 5, 1, (5, 7)),
        ((2, 3), 3, 2, (4, 5)),
        ((6, 4), 3, 0, (4, 2)),
    ],
    ids=str,
)
def test_other_paddings_equal_the_plain_convolution(size, kernel_size, padding, output, positions):
    """VALID at the smallest grid and above, an even kernel, fewer and more zeros than SAME."""
    layer = make_layer(size, kernel_size, positions, padding=padding)
    latents = make_latents()
    assert layer.output_size == output
    assert_close(
        value_and_gradients(layer, layer, latents),
        value_and_gradients(layer, lambda z: plain(layer, z), latents),
    )


def test_valid_padding_is_one_product():
    border_sums, position_map = make_layer((9, 8), 3, "append", padding="valid").weight_terms()
    assert border_sums.shape == (1, 1, LATENT, 4)
    assert position_map.shape == (1, 7, 6, 4)


@pytest.mark.parametrize("padding", ["same", "valid", 1])
def test_activation_shape_and_precomputed_weight_terms(padding):
    layer = make_layer((6, 7), 5, "append", activation="elu", padding=padding)
    latents = make_latents()
    got = layer(latents)
    np.testing.assert_allclose(got, plain(layer, latents), atol=1e-5)
    assert layer.compute_output_shape((None, LATENT))[1:] == got.shape[1:]
    assert layer.compute_output_shape((2, LATENT)) == got.shape
    np.testing.assert_array_equal(layer(latents, weight_terms=layer.weight_terms()), got)


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_eager_graph_and_xla_agree_for_every_batch_size(padding, dtype):
    layer = make_layer((6, 7), 3, "add", padding=padding, dtype=dtype)
    signature = [tf.TensorSpec([None, LATENT])]
    graph, xla = (
        tf.function(
            lambda z: tf.cast(layer(z), tf.float32), input_signature=signature, jit_compile=jit
        )
        for jit in (False, True)
    )

    tolerance = 1e-5 if dtype == "float32" else 0.01
    for count in (1, 5):
        latents = make_latents(count)
        expected = plain(layer, latents) if dtype == "float32" else layer(latents)
        expected = tf.cast(expected, tf.float32)
        for function in (layer, graph, xla):
            assert_close([tf.cast(function(latents), tf.float32)], [expected], tolerance)


@pytest.mark.parametrize("positions", ["append", "add"])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_bfloat16_is_within_rounding(padding, positions):
    """Gradients too, which sum over 1,000 pixels; rounding is 2**-9 = 0.002 per operation."""
    latents = make_latents(8)
    results = []
    for dtype in ("float32", "mixed_bfloat16"):
        layer = make_layer((32, 36), 5, positions, padding=padding, dtype=dtype)
        assert layer(latents).dtype == layer.compute_dtype
        results.append(value_and_gradients(layer, layer, latents))
    for expected, got in zip(*results, strict=True):
        assert got.dtype == tf.float32
        assert np.linalg.norm(got - expected) < 0.01 * np.linalg.norm(expected)


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_bfloat16_layers_expand_in_bfloat16(padding):
    """No tensor with batch and pixels is float32, whose cost would exceed the gain of bfloat16."""
    layer = make_layer(
        (6, 7), 3, "append", padding=padding, activation="relu", dtype="mixed_bfloat16"
    )
    graph = (
        tf.function(lambda z, weight_terms: layer(z, weight_terms=weight_terms))
        .get_concrete_function(
            tf.TensorSpec([11, LATENT]),
            [tf.TensorSpec(t.shape, t.dtype) for t in layer.weight_terms()],
        )
        .graph
    )
    images = [
        t
        for op in graph.get_operations()
        for t in op.outputs
        if t.shape.rank == 4 and t.shape[0] == 11
    ]

    assert len(images) > 2 and {t.dtype for t in images} == {tf.bfloat16}


def test_border_classes():
    taps, repeats = broadcast_decoder._border_classes(7, 3, 1)
    np.testing.assert_array_equal(taps, [[0, 1, 1], [1, 1, 1], [1, 1, 0]])
    assert repeats == [1, 5, 1]
    assert broadcast_decoder._border_classes(2, 5, 2)[1] == [1, 1]
    taps, repeats = broadcast_decoder._border_classes(9, 5, 1)
    np.testing.assert_array_equal(taps, [[0, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 1, 1, 0]])
    assert repeats == [1, 5, 1]
    taps, repeats = broadcast_decoder._border_classes(7, 3, 0)
    assert taps.tolist() == [[1, 1, 1]] and repeats == [5]


@pytest.mark.parametrize(
    "kernel_size, settings, message",
    [
        (4, {}, '`kernel_size` must be odd under padding="same". Received: kernel_size=4.'),
        (
            5,
            {"padding": "valid"},
            "A 5x5 kernel with padding='valid' does not fit into a grid of 4x6.",
        ),
        (
            3,
            {"padding": "vaild"},
            '`padding` must be "same", "valid" or a number from 0 to kernel_size - 1 = 2. '
            "Received: padding='vaild'.",
        ),
        (
            3,
            {"padding": 3},
            '`padding` must be "same", "valid" or a number from 0 to kernel_size - 1 = 2. '
            "Received: padding=3.",
        ),
        (
            3,
            {"positions": "apend"},
            "Unknown `positions` 'apend'. Did you mean 'append'? Valid: add, append.",
        ),
    ],
)
def test_mistakes_are_named(kernel_size, settings, message):
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        BroadcastConv2D(4, kernel_size, (4, 6), **{"positions": "append", **settings})


def plain_decoder(decoder, latents):
    first = decoder.first
    x = positioned(first, latents) if isinstance(first, BroadcastGrid) else plain(first, latents)
    return decoder.stack(x)[:, : decoder.size[0], : decoder.size[1]]


@pytest.mark.parametrize("positions", ["append", "add"])
@pytest.mark.parametrize(
    ("size", "strides", "grid"),
    [
        ((6, 9), 1, None),
        ((8, 12), (2, 2, 1), (2, 3)),
        ((7, 10), (2, 2, 1), (2, 3)),
        ((8, 8), (1, 2, 2), (2, 2)),
        ((3, 3), (1, 1, 2), (2, 2)),
    ],
)
def test_decoder_variants(size, strides, grid, positions):
    """Full resolution, enlarging from a small grid, enlarging later, and cropping to the image."""
    decoder = BroadcastDecoder(
        size, (5, 4, 2), (5, 3, 3), strides, grid_size=grid, positions=positions
    )
    decoder.build((None, LATENT))
    randomise(decoder)
    got = decoder(make_latents())

    assert got.shape == (2, *size, 2) and got.dtype == tf.float32
    np.testing.assert_allclose(got, plain_decoder(decoder, make_latents()), atol=2e-5)
    np.testing.assert_allclose(
        decoder(make_latents(), weight_terms=decoder.weight_terms()), got, atol=1e-6
    )
    assert got.numpy().min() < 0, "the last layer is linear"


@pytest.mark.parametrize(
    "size, grid", [((128, 128), (8, 8)), ((96, 96), (6, 6)), ((64, 64), (4, 4))], ids=str
)
def test_size_of_the_sixteenfold_decoder(size, grid):
    decoder = BroadcastDecoder(
        size,
        (1, 1, 1, 1, 1, 4),
        (5, 5, 5, 5, 5, 3),
        (2, 2, 2, 2, 1, 1),
        grid_size=grid,
        positions="add",
    )
    decoder.build((None, 2))
    assert decoder(tf.zeros([1, 2])).shape == (1, *size, 4)


@pytest.mark.parametrize("positions", ["append", "add"])
@pytest.mark.parametrize(
    ("kernels", "padding", "strides", "grid", "expected_grid", "reached"),
    [
        ((3, 3, 3, 3, 1), "valid", 1, None, (14, 17), (6, 9)),  # MONet, GENESIS
        ((3, 3, 3, 3, 3), "valid", 1, None, (16, 19), (6, 9)),  # EfficientMORL, "iodine"
        ((5, 5, 5, 3), 1, 1, None, (12, 15), (6, 9)),  # EfficientMORL, "small"
        ((3, 3, 1), "valid", 1, (12, 13), (12, 13), (8, 9)),  # beyond the image: cropped
        ((5, 3, 3), "valid", (2, 1, 1), None, (4, 5), (7, 9)),  # 2 * 4 + 3 - 4, 2 * 5 + 3 - 4
        ((3, 5, 3), "same", (1, 2, 1), None, (3, 5), (6, 10)),
    ],
    ids=str,
)
def test_decoders_of_enlarged_grids(
    kernels, padding, strides, grid, expected_grid, reached, positions
):
    channels = (5, 4, 4, 3)[: len(kernels) - 1] + (2,)
    decoder = BroadcastDecoder(
        (6, 9), channels, kernels, strides, padding=padding, grid_size=grid, positions=positions
    )
    decoder.build((None, LATENT))
    randomise(decoder)

    assert decoder.first.size == expected_grid
    assert decoder.stack(decoder.first(make_latents())).shape == (2, *reached, 2)

    got = decoder(make_latents())
    assert got.shape == (2, 6, 9, 2)
    assert_close(
        [got, decoder(make_latents(), weight_terms=decoder.weight_terms())],
        [plain_decoder(decoder, make_latents())] * 2,
    )


@pytest.mark.parametrize(
    "latent, channels, kernels, padding, positions, parameters",
    [
        (16, (32, 32, 32, 32, 4), (3, 3, 3, 3, 1), "valid", "append", 33_092),  # MONet
        (64, (64, 64, 64, 64, 4), 3, "valid", "add", 150_340),
    ],
)  # EfficientMORL, "iodine"
def test_published_decoders(latent, channels, kernels, padding, positions, parameters):
    decoder = BroadcastDecoder((12, 16), channels, kernels, padding=padding, positions=positions)
    decoder.build((None, latent))
    assert sum(np.prod(w.shape) for w in decoder.trainable_weights) == parameters
    assert decoder.stack(decoder.first(tf.zeros([1, latent]))).shape == (1, 12, 16, 4), (
        "the default grid is exact"
    )
    assert decoder(tf.zeros([1, latent])).shape == (1, 12, 16, 4)


def test_layers_that_share_an_initializer_differ():
    """Keras gives layers of one shape the same values if they share an instance."""
    shared = keras.initializers.VarianceScaling(4e-4, "fan_avg", "untruncated_normal")
    decoder = BroadcastDecoder((4, 4), (3, 3, 3, 2), 3, positions="add", initializer=shared)
    decoder.build((None, 3))
    kernels = [decoder.first.kernel, decoder.stack.stages[0].kernel, decoder.stack.stages[1].kernel]
    assert len({float(k[0, 0, 0, 0]) for k in kernels}) == 3
    assert np.abs(decoder.first.projection.kernel).max() < 0.1, (
        "the projection has the initializer too"
    )


@pytest.mark.parametrize(
    "settings, message",
    [
        (
            {"strides": (2, 1), "grid_size": (2, 2)},
            "The decoder grid (2, 2) reaches 4x4 pixels (kernels (3, 3), strides (2, 1), "
            "padding='same', pixel_shuffle=1); "
            "the image has 5x4. The smallest grid that does is (3, 2).",
        ),
        (
            {"padding": "valid", "grid_size": (9, 7)},
            "The decoder grid (9, 7) reaches 5x3 pixels (kernels (3, 3), strides (1, 1), "
            "padding='valid', pixel_shuffle=1); "
            "the image has 5x4. The smallest grid that does is (9, 8).",
        ),
        (
            {"padding": "valid", "grid_size": (4, 1)},
            "The decoder grid (4, 1) reaches 0x0 pixels (kernels (3, 3), strides (1, 1), "
            "padding='valid', pixel_shuffle=1); "
            "the image has 5x4. The smallest grid that does is (9, 8).",
        ),
        (
            {"padding": 1, "strides": (1, 2)},
            '`padding` must be "same" or "valid" where a layer enlarges. '
            "Received: padding=1, stride=2.",
        ),
    ],
)
def test_decoder_refuses_a_grid_that_does_not_reach_the_image(settings, message):
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        BroadcastDecoder((5, 4), (3, 3), 3, positions="add", **settings)


def test_grid_is_a_weight_but_not_trained():
    layer = make_layer((3, 4), 3, "append")
    assert [tuple(w.shape) for w in layer.non_trainable_weights] == [(3, 4, 2)]
    assert isinstance(layer.grid, keras.Variable)
