"""Placing canvases in the frame, and its mirror image, crops of the frame around positions.

Anciukevicius et al. 2020, Eqs. 7 and 8, and "Attentive encoding" in section 4.
"""

from typing import Any, NamedTuple

import tensorflow as tf

from tfobj.nn.placement import extract, extract_at, place, place_at


class Positions(NamedTuple):
    """Where the objects of scenes are."""

    logits: Any
    """[B, J, H, W]."""
    maps: Any
    """[B, J, H, W], relaxed samples; None where positions are modes."""
    centres: Any
    """int32 [B, J, 2], row and column of the mode."""


class Layers(NamedTuple):
    """Objects in the frame, before they are composited."""

    alphas: Any
    """[B, J, H, W, 1]."""
    colours: Any
    """[B, J, H, W, C]."""


def place_canvases(canvas, positions, image_size, premultiplied):
    """Places canvases at the positions of their objects.

    Args:
      canvas: [B, J, M, M, C + 1], colour and alpha in (0, 1).
      positions: `Positions`.
      image_size: (H, W).
      premultiplied: whether to place alpha x instead of x.

    Returns:
      `Layers`.
    """
    if premultiplied:
        canvas = tf.concat([canvas[..., :-1] * canvas[..., -1:], canvas[..., -1:]], axis=-1)

    # Fourier transforms leave +- 1e-7 beyond [0, 1].
    if positions.maps is None:
        placed = place_at(canvas, positions.centres, image_size)
    else:
        placed = tf.clip_by_value(place(canvas, positions.maps), 0.0, 1.0)

    colours = placed[..., :-1]
    alphas = placed[..., -1:]
    if premultiplied:
        colours = tf.clip_by_value(colours / (alphas + 1e-6), 0.0, 1.0)
    return Layers(alphas, colours)


def crop_around(image, positions, canvas_size, features):
    """Returns the surroundings of the objects' positions, [B, J, M, M, C].

    Args:
      image: [B, H, W, C].
      positions: `Positions`.
      canvas_size: M.
      features: "attentive" or "both".
    """
    repeated = tf.repeat(image[:, None], positions.centres.shape[1], axis=1)
    if positions.maps is None:
        return extract_at(repeated, positions.centres, canvas_size)

    # Beside global features, crops are there for detail. With their gradients as well, positions go
    # where both objects can be read.
    maps = positions.maps
    if features == "both":
        maps = tf.stop_gradient(maps)
    return extract(repeated, maps, canvas_size)
