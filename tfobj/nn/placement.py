"""Placing small canvases into a frame by maps of positions, and cutting them out again (Anciukevicius et al. 2020, Eq. 4).

A map theta [H, W] holds the probability of every pixel to be the centre of an object on an M x M canvas, c = M // 2:

    place(v, theta)[p]   = sum_q theta[q] v[p - q + (c, c)]        convolution: canvas [M, M] -> frame [H, W]
    extract(x, theta)[u] = sum_q theta[q] x[q + u - (c, c)]        correlation: frame [H, W] -> canvas [M, M]

with zeros outside of canvas and frame. They are adjoint in the picture, <place(v, theta), w> = <v, extract(w, theta)>, and linear in
theta, so a loss has a gradient in every position at once. Canvas pixel (c, c) lands on the position. Both are products of spectra:
sides of at least H + max(c, M - 1 - c) suffice, because what wraps around then falls on rows that are cut away.

`place_at` and `extract_at` are the same for maps that are one at one pixel.
"""

import numpy as np
import tensorflow as tf


def transform_length(size, canvas_size):
    """Returns the side of the transform: the least number with no prime factor above 5 that keeps wrap-around off the frame, and even."""
    centre = canvas_size // 2
    length = size + max(centre, canvas_size - 1 - centre)
    while length % 2 or not _is_smooth(length):
        length += 1
    return length


def place(canvas, positions):
    """Places canvases into frames.

    Args:
      canvas: float32 [..., M, M, C].
      positions: float32 [..., H, W], maps of the same leading axes.

    Returns:
      [..., H, W, C]; outside of the objects zero up to rounding (1e-7).
    """
    canvas, positions = tf.convert_to_tensor(canvas), tf.convert_to_tensor(positions)
    size, canvas_size = positions.shape[-2:], canvas.shape[-2]
    lengths, centre = _lengths(size, canvas_size), canvas_size // 2

    @tf.custom_gradient
    def placed(canvas, positions):
        of_positions = tf.signal.rfft2d(positions, lengths)[..., None, :, :]
        of_canvas = tf.signal.rfft2d(_channels_first(canvas), lengths)

        def gradient(upstream):
            """The adjoints in closed form, for the price of the forward pass: autodiff transforms padding, and the map's part once per channel."""
            of_upstream = tf.signal.rfft2d(_channels_first(upstream), lengths)
            d_canvas = _window(
                of_upstream * tf.math.conj(of_positions),
                lengths,
                -centre,
                (canvas_size, canvas_size),
            )
            d_positions = _window(
                tf.reduce_sum(of_upstream * tf.math.conj(of_canvas), axis=-3),
                lengths,
                -centre,
                size,
            )
            return _channels_last(d_canvas), d_positions

        return _channels_last(_window(of_positions * of_canvas, lengths, centre, size)), gradient

    return placed(canvas, positions)


def extract(image, positions, canvas_size):
    """Cuts canvases out of frames: float32 [..., H, W, C], maps [..., H, W] -> [..., M, M, C], M = `canvas_size`."""
    image, positions = tf.convert_to_tensor(image), tf.convert_to_tensor(positions)
    lengths = _lengths(positions.shape[-2:], canvas_size)
    spectrum = (
        tf.signal.rfft2d(_channels_first(image), lengths)
        * tf.math.conj(tf.signal.rfft2d(positions, lengths))[..., None, :, :]
    )
    return _channels_last(
        _window(spectrum, lengths, -(canvas_size // 2), (canvas_size, canvas_size))
    )


def place_at(canvas, centres, size):
    """`place` for one position each.

    Args:
      canvas: [..., M, M, C].
      centres: int32 [..., 2], row and column of the centre; may lie outside of the frame.
      size: (H, W) of the frame.

    Returns:
      [..., H, W, C], exact.
    """
    rows, columns = _selections(centres, size, canvas.shape[-2], canvas.dtype)
    return tf.einsum("...pu,...qv,...uvc->...pqc", rows, columns, canvas)


def extract_at(image, centres, canvas_size):
    """`extract` for one position each: [..., H, W, C], int32 [..., 2] -> [..., M, M, C], exact; zeros outside of the frame."""
    rows, columns = _selections(centres, image.shape[-3:-1], canvas_size, image.dtype)
    return tf.einsum("...pu,...qv,...pqc->...uvc", rows, columns, image)


def _selections(centres, size, canvas_size, dtype):
    """Returns two matrices [..., H, M] and [..., W, M] with a one where a row (column) of the frame shows one of the canvas."""
    return [
        tf.cast(
            np.arange(length)[:, None] - centres[..., axis, None, None] + canvas_size // 2
            == np.arange(canvas_size),
            dtype,
        )
        for axis, length in enumerate(size)
    ]


def _lengths(size, canvas_size):
    return [transform_length(side, canvas_size) for side in size]


def _window(spectrum, lengths, start, size):
    """Rows start, ..., start + size[0] - 1 of the periodic signal with a spectrum, and columns alike; `start` may be negative."""
    x = tf.signal.irfft2d(spectrum, lengths)
    if start < 0:
        x, start = tf.roll(x, [-start, -start], axis=[-2, -1]), 0
    return x[..., start : start + size[0], start : start + size[1]]


def _channels_first(x):
    rank = x.shape.rank
    return tf.transpose(x, [*range(rank - 3), rank - 1, rank - 3, rank - 2])


def _channels_last(x):
    rank = x.shape.rank
    return tf.transpose(x, [*range(rank - 3), rank - 2, rank - 1, rank - 3])


def _is_smooth(number):
    for prime in (2, 3, 5):
        while number % prime == 0:
            number //= prime
    return number == 1
