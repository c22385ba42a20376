"""Shapes: overlapping outlines of squares and triangles, white on black, 28x28.

A glyph is one of three bitmaps; its pixels of 0 are transparent. Its top-left corner is uniform
over the positions where it lies wholly inside, independently of the other glyphs: they overlap
freely, and the image is their union. Where two or more
overlap, the image does not tell which glyph a pixel belongs to: such pixels are `SHARED` in the
mask and not scored. The amodal masks contain all pixels of each glyph.

Unlike in Tetris, `x` is the column and `y` the row of the corner.

Axes: n scenes, N = 1 + number of glyphs (entity 0 is the background; the others have no order).

Source: Reichert and Serre 2013 (glyphs, size); Greff et al. 2016 (Binding, its notebook draws these
bitmaps), 2017 (N-EM). The same rules on 20x20 give the dataset of Tagger (Greff et al. 2016b).
"""

import numpy as np

from . import counter_rng

NUM_GLYPHS = 3
"""Glyphs per image in the papers."""
MAX_GLYPHS = 254
"""Masks hold entity numbers as bytes, and 255 is `SHARED`."""
DEFAULT_SIZE = 28
"""Side of the papers' images in pixels."""
SHARED = 255
"""Label of pixels that two or more glyphs cover; metrics ignore them."""

SQUARE, UP_TRIANGLE, DOWN_TRIANGLE = 1, 2, 3
SHAPE_NAMES = ("square", "up triangle", "down triangle")
"""Names of shape ids 1, 2, 3."""

_SQUARE = ("#######", "#######", "##...##", "##...##", "##...##", "#######", "#######")
_TRIANGLE = (
    ".....##.....",
    "....####....",
    "...######...",
    "..###..###..",
    ".###....###.",
    "############",
    "############",
)
BITMAPS = {
    shape: np.array([[cell == "#" for cell in row] for row in rows], np.uint8)
    for shape, rows in (
        (SQUARE, _SQUARE),
        (UP_TRIANGLE, _TRIANGLE),
        (DOWN_TRIANGLE, _TRIANGLE[::-1]),
    )
}
"""Shape id -> uint8 {0, 1} [height, width]: 7x7 with 40 pixels, 7x12 with 48."""

MIN_SIZE = 12
"""The triangles' width."""

# Height and width of every shape id; 0 is none.
_EXTENT = np.array([(0, 0), *(BITMAPS[shape].shape for shape in sorted(BITMAPS))])

# Separates this generator's random numbers from those of the others under the same seed.
_STREAM = 0x73686170
_WORDS_PER_GLYPH = 4


def factors(indices, seed=0, num_shapes=NUM_GLYPHS, size=DEFAULT_SIZE):
    """Samples the contents of the scenes; fewer glyphs are the first ones of a larger number.

    Args:
      indices: integer array [n], scene numbers.
      seed: dataset seed in [0, 2**64).
      num_shapes: glyphs per scene, N - 1.
      size: image side in pixels, at least `MIN_SIZE`.

    Returns:
      dict of float32 arrays [n, N]; zeros for the background except `visibility`:
        x: column of the glyph's top-left corner, 0 ... size - width.
        y: row of the same, 0 ... size - height.
        shape: 1 square, 2 up triangle, 3 down triangle.
        visibility: 1 for every entity.

    Raises:
      ValueError: if an index, the seed, the size or the number of glyphs is out of range.
    """
    _check_size(size)
    if not 1 <= num_shapes <= MAX_GLYPHS:
        raise ValueError(
            f"`num_shapes` must be in 1 ... {MAX_GLYPHS}. Received: num_shapes={num_shapes}."
        )

    words = counter_rng.random_words(
        indices, _WORDS_PER_GLYPH * num_shapes, seed=seed, stream=_STREAM
    )
    words = words.reshape(len(words), num_shapes, _WORDS_PER_GLYPH)
    shape = 1 + counter_rng.integers(words[..., 0], len(BITMAPS))
    corner = counter_rng.integers(words[..., 1:3], size - _EXTENT[shape] + 1)

    return {
        "x": _with_background(corner[..., 1]),
        "y": _with_background(corner[..., 0]),
        "shape": _with_background(shape),
        "visibility": np.ones((len(words), 1 + num_shapes), np.float32),
    }


def render(factors, size=DEFAULT_SIZE):
    """Renders scenes from their factors.

    Args:
      factors: dict with `x`, `y` and `shape` [n, N] as `factors()` returns them, for any number N
        of entities; an entity with `shape` 0 is not rendered.
      size: image side in pixels, at least `MIN_SIZE`.

    Returns:
      image: uint8 {0, 255} [n, size, size, 1].
      mask: uint8 [n, size, size], number of the only entity that covers the pixel, 0 if there is
        none, `SHARED` if there are several.
      amodal_masks: uint8 {0, 1} [n, N, size, size], all pixels of each entity; ones for the
        background.

    Raises:
      ValueError: if the size is too small, a shape is unknown or a glyph leaves the image.
    """
    _check_size(size)
    shape, row, column = (
        np.asarray(factors[name]).astype(np.int64) for name in ("shape", "y", "x")
    )
    _check_glyphs(shape, row, column, size)

    amodal_masks = np.zeros((*shape.shape, size, size), np.uint8)
    for shape_id, bitmap in BITMAPS.items():
        scene, entity = np.nonzero(shape == shape_id)
        rows, columns = np.nonzero(bitmap)
        amodal_masks[
            scene[:, None],
            entity[:, None],
            row[scene, entity][:, None] + rows,
            column[scene, entity][:, None] + columns,
        ] = 1
    amodal_masks[:, 0] = 0

    # Where one glyph covers a pixel, the sum of entity numbers over glyphs is its number.
    num_covering = amodal_masks.sum(axis=1, dtype=np.uint8)
    number = np.arange(shape.shape[1], dtype=np.uint8)
    single = np.einsum("nehw,e->nhw", amodal_masks, number)
    mask = np.where(num_covering > 1, np.uint8(SHARED), single)
    image = np.where(num_covering > 0, np.uint8(255), np.uint8(0))[..., None]

    amodal_masks[:, 0] = 1
    return image, mask, amodal_masks


def scenes(indices, seed=0, num_shapes=NUM_GLYPHS, size=DEFAULT_SIZE):
    """Generates scenes: `factors()`, and image and masks of `render()`, in one dict."""
    sampled = factors(indices, seed, num_shapes, size)
    image, mask, amodal_masks = render(sampled, size)
    return {"image": image, "mask": mask, "amodal_masks": amodal_masks, **sampled}


def _check_size(size):
    """Raises a ValueError if the image side is too small."""
    if size < MIN_SIZE:
        raise ValueError(f"`size` must be at least {MIN_SIZE} pixels. Received: size={size}.")


def _check_glyphs(shape, row, column, size):
    """Raises a ValueError if a shape is unknown or a glyph does not lie inside; arrays [n, N]."""
    if not np.isin(shape, (0, *BITMAPS)).all():
        raise ValueError(f"`shape` must be 0, 1, 2 or 3. Received: {np.unique(shape)}.")

    inside = (
        (row >= 0)
        & (column >= 0)
        & (row + _EXTENT[shape, 0] <= size)
        & (column + _EXTENT[shape, 1] <= size)
    )
    outside = ~inside & (shape != 0)
    if outside.any():
        scene, entity = np.argwhere(outside)[0]
        raise ValueError(
            f"Glyphs must lie inside the {size}x{size} image. Received: "
            f"x={column[scene, entity]}, y={row[scene, entity]} for the "
            f"{SHAPE_NAMES[shape[scene, entity] - 1]} (scene {scene}, entity {entity})."
        )


def _with_background(values):
    """Prepends an entity of zeros to [n, N - 1] and converts to float32."""
    return np.concatenate([np.zeros_like(values[:, :1]), values], axis=1).astype(np.float32)
