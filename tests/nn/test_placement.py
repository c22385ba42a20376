"""Placing by maps of positions: worked cases, a direct sum, adjoints, gradients, one position."""

import numpy as np
import pytest
import tensorflow as tf

from tfobj.nn.placement import extract, extract_at, place, place_at, transform_length

CANVAS = np.array([[1, 2], [3, 4]], np.float32)


def direct(canvas, positions):
    """sum_q theta[q] v[p - q + (c, c)], one term at a time."""
    size = canvas.shape[0]
    height, width = positions.shape
    frame = np.zeros((height, width, canvas.shape[-1]))
    for q_row, q_column in np.ndindex(height, width):
        for u_row, u_column in np.ndindex(size, size):
            row = q_row + u_row - size // 2
            column = q_column + u_column - size // 2
            if 0 <= row < height and 0 <= column < width:
                frame[row, column] += positions[q_row, q_column] * canvas[u_row, u_column]
    return frame


def one_hot(size, *places):
    """Mass spread evenly over `places` of a frame."""
    positions = np.zeros(size, np.float32)
    for place_ in places:
        positions[place_] += 1.0 / len(places)
    return positions


def example(size, canvas_size, seed=0):
    rng = np.random.default_rng(seed)
    draw = lambda *shape: rng.random(shape, np.float32)
    return (
        draw(canvas_size, canvas_size, 3),
        draw(*size) / np.float32(np.prod(size)),
        draw(*size, 3),
    )


@pytest.mark.parametrize(
    "places, expected",
    [
        ([(2, 1)], [[0, 0, 0, 0], [1, 2, 0, 0], [3, 4, 0, 0], [0, 0, 0, 0]]),
        ([(0, 0)], [[4, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]),
        ([(2, 1), (2, 2)], [[0, 0, 0, 0], [0.5, 1.5, 1, 0], [1.5, 3.5, 2, 0], [0, 0, 0, 0]]),
    ],
)
def test_worked_cases(places, expected):
    placed = place(tf.constant(CANVAS[..., None]), tf.constant(one_hot((4, 4), *places)))
    np.testing.assert_allclose(placed[..., 0], expected, atol=1e-6)


@pytest.mark.parametrize("size, canvas_size", [((8, 8), 4), ((9, 7), 5), ((6, 10), 6), ((5, 5), 2)])
def test_against_the_direct_sum(size, canvas_size):
    canvas, positions, _ = example(size, canvas_size)
    np.testing.assert_allclose(place(canvas, positions), direct(canvas, positions), atol=2e-6)


@pytest.mark.parametrize("size, canvas_size", [((8, 8), 4), ((9, 7), 5)])
def test_extraction_is_the_adjoint_of_placement(size, canvas_size):
    canvas, positions, image = map(tf.constant, example(size, canvas_size))
    forward = tf.reduce_sum(place(canvas, positions) * image)
    np.testing.assert_allclose(
        forward, tf.reduce_sum(canvas * extract(image, positions, canvas_size)), rtol=1e-5
    )


def test_gradients_are_those_of_the_direct_sum():
    """Placement is linear in either argument, so unit vectors give the whole Jacobian."""
    canvas, positions, image = example((6, 5), 3)
    inputs = tf.constant(canvas), tf.constant(positions)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        value = tf.reduce_sum(place(*inputs) * image)
    d_canvas, d_positions = tape.gradient(value, inputs)
    expected = np.zeros_like(positions)
    for q in np.ndindex(*positions.shape):
        expected[q] = (direct(canvas, one_hot(positions.shape, q)) * image).sum()
    np.testing.assert_allclose(d_positions, expected, atol=1e-5)
    np.testing.assert_allclose(d_canvas, extract(image, positions, 3), atol=1e-5)


def test_extraction_has_gradients():
    canvas, positions, image = example((6, 5), 3)
    positions = tf.constant(positions)
    with tf.GradientTape() as tape:
        tape.watch(positions)
        value = tf.reduce_sum(extract(tf.constant(image), positions, 3) * canvas)
    np.testing.assert_allclose(
        tape.gradient(value, positions)[2, 3],
        np.sum(direct(canvas, one_hot((6, 5), (2, 3))) * image),
        rtol=1e-4,
    )


@pytest.mark.parametrize("canvas_size", [4, 5])
@pytest.mark.parametrize("centre", [(4, 3), (0, 0), (7, 6)])
def test_one_position(canvas_size, centre):
    canvas, _, image = example((8, 7), canvas_size)
    positions = one_hot((8, 7), centre)
    np.testing.assert_array_equal(
        place_at(canvas, tf.constant(centre), (8, 7)), direct(canvas, positions).astype(np.float32)
    )
    np.testing.assert_allclose(
        extract_at(image, tf.constant(centre), canvas_size),
        extract(image, positions, canvas_size),
        atol=1e-6,
    )


def test_positions_outside_of_the_frame():
    canvas = np.arange(16, dtype=np.float32).reshape(4, 4, 1)
    np.testing.assert_array_equal(
        place_at(canvas, tf.constant([-1, 2]), (5, 5))[0, :4, 0], canvas[3, :, 0]
    )
    assert not np.any(place_at(canvas, tf.constant([-9, 2]), (5, 5)))


def test_an_object_inside_comes_back():
    canvas, _, _ = example((12, 12), 4)
    positions = tf.constant(one_hot((12, 12), (5, 6)))
    np.testing.assert_allclose(extract(place(canvas, positions), positions, 4), canvas, atol=1e-6)


def test_mass_is_kept_and_leading_axes_are_free():
    canvas, positions, _ = example((12, 12), 4)
    positions[:3] = positions[-3:] = positions[:, :3] = positions[:, -3:] = 0.0
    many = place(
        tf.constant(np.stack([canvas] * 6).reshape(2, 3, 4, 4, 3)),
        tf.constant(np.stack([positions] * 6).reshape(2, 3, 12, 12)),
    )
    assert many.shape == (2, 3, 12, 12, 3)
    np.testing.assert_allclose(
        tf.reduce_sum(many[1, 2], [0, 1]), canvas.sum((0, 1)) * positions.sum(), rtol=1e-5
    )


def test_shorter_transforms_wrap_around():
    """One row less than `transform_length` may lose is seen in the frame: the bound is tight."""
    size = 8
    canvas_size = 4
    canvas, positions, _ = example((size, size), canvas_size)
    least = size + max(canvas_size // 2, canvas_size - 1 - canvas_size // 2)
    assert least <= transform_length(size, canvas_size) < 2 * least

    def placed(length):
        spectrum = np.fft.rfft2(positions, (length, length))[..., None] * np.fft.rfft2(
            canvas, (length, length), axes=(0, 1)
        )
        periodic = np.fft.irfft2(spectrum, (length, length), axes=(0, 1))
        rows = canvas_size // 2 + np.arange(size)
        return periodic.take(rows, axis=0, mode="wrap").take(rows, axis=1, mode="wrap")

    expected = direct(canvas, positions)
    np.testing.assert_allclose(placed(least), expected, atol=1e-6)
    assert np.abs(placed(least - 1) - expected).max() > 1e-3


@pytest.mark.parametrize(
    "size, canvas_size, length", [(96, 40, 120), (64, 24, 80), (64, 32, 80), (4, 2, 6)]
)
def test_transform_length(size, canvas_size, length):
    assert transform_length(size, canvas_size) == length
