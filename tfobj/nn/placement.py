"""Places small canvases into a frame by maps of positions, and cuts them out again.

A map theta [H, W] holds, for every pixel, the probability that an object on an M x M canvas is
centred there. With c = M // 2 (Anciukevicius et al. 2020, Eq. 4),

    place(v, theta)[p]   = sum_q theta[q] v[p - q + (c, c)]     convolution: canvas -> frame [H, W]
    extract(x, theta)[u] = sum_q theta[q] x[q + u - (c, c)]     correlation: frame -> canvas [M, M]

with zeros outside canvas and frame. The two are adjoint,

    <place(v, theta), w> = <v, extract(w, theta)>

and linear in theta, so that a loss has a gradient in every position at once. Canvas pixel (c, c)
lands on the position. Both are products of spectra. Sides of at least H + max(c, M - 1 - c)
suffice: values that wrap around then fall on rows that are cut away.

`place_at` and `extract_at` are the same for maps that are one at a single pixel.
"""

import numpy as np
import tensorflow as tf


def transform_length(size, canvas_size):
    """Returns the side of the transform of a frame of `size` pixels.

    It is the least even number without a prime factor above 5 that keeps wrap-around off the frame.
    """
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
      [..., H, W, C]; zero outside the objects, up to rounding (1e-7).
    """
    canvas = tf.convert_to_tensor(canvas)
    positions = tf.convert_to_tensor(positions)
    size = positions.shape[-2:]
    canvas_size = canvas.shape[-2]
    lengths = _lengths(size, canvas_size)
    centre = canvas_size // 2

    @tf.custom_gradient
    def placed(canvas, positions):
        of_positions = tf.signal.rfft2d(positions, lengths)[..., None, :, :]
        of_canvas = tf.signal.rfft2d(_channels_first(canvas), lengths)

        def gradient(upstream):
            # The adjoints in closed form cost as much as the forward pass; autodiff would transform
            # the padding, and the map's part once per channel.
            of_upstream = tf.signal.rfft2d(_channels_first(upstream), lengths)
            to_canvas = of_upstream * tf.math.conj(of_positions)
            to_canvas = _window(to_canvas, lengths, -centre, (canvas_size, canvas_size))
            to_positions = tf.reduce_sum(of_upstream * tf.math.conj(of_canvas), axis=-3)
            to_positions = _window(to_positions, lengths, -centre, size)
            return _channels_last(to_canvas), to_positions

        frame = _window(of_positions * of_canvas, lengths, centre, size)
        return _channels_last(frame), gradient

    return placed(canvas, positions)


def extract(image, positions, canvas_size):
    """Cuts canvases out of frames.

    Args:
      image: float32 [..., H, W, C].
      positions: float32 [..., H, W], maps of the same leading axes.
      canvas_size: M.

    Returns:
      [..., M, M, C].
    """
    image = tf.convert_to_tensor(image)
    positions = tf.convert_to_tensor(positions)
    lengths = _lengths(positions.shape[-2:], canvas_size)

    of_image = tf.signal.rfft2d(_channels_first(image), lengths)
    of_positions = tf.math.conj(tf.signal.rfft2d(positions, lengths))
    spectrum = of_image * of_positions[..., None, :, :]
    canvas = _window(spectrum, lengths, -(canvas_size // 2), (canvas_size, canvas_size))
    return _channels_last(canvas)


def place_at(canvas, centres, size):
    """Places every canvas at one position; see `place`.

    Args:
      canvas: [..., M, M, C].
      centres: int32 [..., 2], row and column of the centre; may lie outside the frame.
      size: (H, W) of the frame.

    Returns:
      [..., H, W, C], exact.
    """
    rows, columns = _selections(centres, size, canvas.shape[-2], canvas.dtype)
    return tf.einsum("...pu,...qv,...uvc->...pqc", rows, columns, canvas)


def extract_at(image, centres, canvas_size):
    """Cuts one canvas out of every frame; see `extract`.

    Args:
      image: [..., H, W, C].
      centres: int32 [..., 2], row and column of the centre.
      canvas_size: M.

    Returns:
      [..., M, M, C], exact; zeros outside the frame.
    """
    rows, columns = _selections(centres, image.shape[-3:-1], canvas_size, image.dtype)
    return tf.einsum("...pu,...qv,...pqc->...uvc", rows, columns, image)


def _selections(centres, size, canvas_size, dtype):
    """Returns 0/1 matrices [..., H, M] and [..., W, M]: which canvas row a frame row shows."""
    matrices = []
    for axis, length in enumerate(size):
        centre = centres[..., axis, None, None]
        shown = np.arange(length)[:, None] - centre + canvas_size // 2
        matrices.append(tf.cast(shown == np.arange(canvas_size), dtype))
    return matrices


def _lengths(size, canvas_size):
    return [transform_length(side, canvas_size) for side in size]


def _window(spectrum, lengths, start, size):
    """Returns rows and columns start, start + 1, ... of the periodic signal with a spectrum.

    `size` is their number; `start` may be negative.
    """
    x = tf.signal.irfft2d(spectrum, lengths)
    if start < 0:
        x = tf.roll(x, [-start, -start], axis=[-2, -1])
        start = 0
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
