"""Tetrominoes ("Tetris"): three shaded four-cell pieces on black, without overlap.

The rules below re-render the published images bit for bit from their factors. A cell is 5x5
pixels and carries a fixed shading; a piece lies on the pixel grid (not on a grid of cells), wholly
inside; a scene is resampled until no two pieces share a pixel.

Coordinates follow the published files, not the usual convention: `x` is the ROW and `y` the COLUMN
of the top-left corner of a piece's bounding box, in pixels.

Axes: n scenes, N = 4 entities (entity 0 is the background, 1-3 the pieces in draw order).

Source: Kabra et al. 2019 (multi_object_datasets), Greff 2019, appendix A. That documentation
counts 17 shapes; the files contain 19, all rotations of the one-sided tetrominoes.
"""

import numpy as np

from . import counter_rng

NUM_PIECES = 3
NUM_ENTITIES = NUM_PIECES + 1
CELL = 5
"""Side of a cell in pixels."""
DEFAULT_SIZE = 35
"""Side of the published images in pixels."""
MIN_SIZE = 24
"""Below it, pieces fit so rarely that rejection takes hundreds of attempts.

Scenes per second: 6 at a size of 20, 1,100 at 24.
"""

SHAPES = (
    "####",
    "#/#/#/#",
    "###/#..",
    "#../###",
    "..#/###",
    "###/..#",
    "##/.#/.#",
    ".#/.#/##",
    "##/#./#.",
    "#./#./##",
    "##./.##",
    ".##/##.",
    ".#/##/#.",
    "#./##/.#",
    ".#./###",
    "###/.#.",
    ".#/##/.#",
    "#./##/#.",
    "##/##",
)
"""Patterns of shape ids 1-19, rows separated by `/`. Ids 11-14 are the Z and S pieces."""

NUM_SHAPES = len(SHAPES)
ZS_SHAPES = (11, 12, 13, 14)

COLORS = np.array(
    [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 0]], dtype=np.float32
)
"""Red, green, blue, cyan, magenta, yellow as RGB in {0, 1}, [6, 3]."""

CELL_SHADING = np.array(
    [
        [191, 255, 255, 255, 223],
        [127, 159, 159, 159, 191],
        [127, 159, 159, 159, 191],
        [127, 159, 159, 159, 191],
        [95, 63, 63, 63, 127],
    ],
    dtype=np.uint8,
)
"""Brightness of a cell's pixels, the same for all cells: it does not rotate with the piece."""


def _cell_table():
    """Returns row and column of each shape's cells, [NUM_SHAPES + 1, 4, 2]; row 0 is unused."""
    table = np.zeros((NUM_SHAPES + 1, 4, 2), dtype=np.int64)
    for shape_id, pattern in enumerate(SHAPES, start=1):
        rows = pattern.split("/")
        table[shape_id] = [
            (r, c) for r, row in enumerate(rows) for c, cell in enumerate(row) if cell == "#"
        ]
    return table


_CELLS = _cell_table()  # [20, 4, 2] in cells
_EXTENT = CELL * (_CELLS.max(axis=1) + 1)  # [20, 2] height and width in pixels

# Separates this generator's random numbers from those of the others under the same seed.
_STREAM = 0x74657472


def factors(indices, seed=0, size=DEFAULT_SIZE):
    """Samples the contents of the scenes.

    The whole scene is resampled while two pieces overlap. Resampling only the positions may never
    end (two horizontal bars can leave no room for a vertical one), and counts of the published
    images (object-centric-library's subsets) agree with this rule only.

    Args:
      indices: integer array [n], scene numbers.
      seed: dataset seed in [0, 2**64).
      size: image side in pixels, at least `MIN_SIZE`.

    Returns:
      dict of arrays aligned with the entities; zeros for the background except `visibility`:
        x: float32 [n, 4], row of the bounding box's top-left corner, 0 ... size - height.
        y: float32 [n, 4], column of the same, 0 ... size - width.
        shape: float32 [n, 4], 1-19 as in `SHAPES`.
        color: float32 [n, 4, 3], RGB in {0, 1}, one of `COLORS`.
        visibility: float32 [n, 4], 1 for every entity.

    Raises:
      ValueError: if the size is too small, or an index or the seed is out of range.
    """
    if size < MIN_SIZE:
        raise ValueError(f"`size` must be at least {MIN_SIZE} pixels. Received: size={size}.")

    indices = counter_rng.checked_indices(indices)
    shape = np.zeros((len(indices), NUM_PIECES), np.int64)
    corner = np.zeros((len(indices), NUM_PIECES, 2), np.int64)
    color = np.zeros((len(indices), NUM_PIECES), np.int64)

    pending = np.arange(len(indices))
    attempt = 0
    while pending.size:
        words = counter_rng.random_words(
            indices[pending], 4 * NUM_PIECES, seed=seed, stream=_STREAM, attempt=attempt
        ).reshape(-1, NUM_PIECES, 4)
        sampled = 1 + counter_rng.integers(words[..., 0], NUM_SHAPES)
        shape[pending] = sampled
        corner[pending] = counter_rng.integers(words[..., 1:3], size - _EXTENT[sampled] + 1)
        color[pending] = counter_rng.integers(words[..., 3], len(COLORS))

        pending = pending[_any_overlap(shape[pending], corner[pending])]
        attempt += 1

    return {
        "x": _with_background(corner[..., 0]),
        "y": _with_background(corner[..., 1]),
        "shape": _with_background(shape),
        "color": _with_background(COLORS[color]),
        "visibility": np.ones((len(indices), NUM_ENTITIES), np.float32),
    }


def render(factors, size=DEFAULT_SIZE):
    """Renders scenes from their factors.

    Args:
      factors: dict with `x`, `y`, `shape` [n, N] and `color` [n, N, 3] as `factors()` returns them,
        for any number N of entities; an entity with `shape` 0 is not rendered.
      size: image side in pixels.

    Returns:
      image: uint8 [n, size, size, 3].
      mask: uint8 [n, size, size], 0 for the background, otherwise the entity's number.

    Raises:
      ValueError: if a shape is unknown or a piece does not lie inside the image.
    """
    shape, row, column = (
        np.asarray(factors[name]).astype(np.int64) for name in ("shape", "x", "y")
    )
    color = np.asarray(factors["color"])

    # From here on one entry per piece, whatever its scene.
    scene, entity = np.nonzero(shape)
    shape = shape[scene, entity]
    row = row[scene, entity]
    column = column[scene, entity]
    _check_pieces(shape, row, column, scene, entity, size)

    num_scenes = len(color)
    offset = np.arange(CELL)
    rows = (row[:, None] + CELL * _CELLS[shape][..., 0])[..., None, None] + offset[:, None]
    columns = (column[:, None] + CELL * _CELLS[shape][..., 1])[..., None, None] + offset
    pixel = (scene[:, None, None, None] * size + rows) * size + columns  # [pieces, 4, 5, 5]

    mask = np.zeros(num_scenes * size * size, np.uint8)
    mask[pixel] = entity[:, None, None, None]
    image = np.zeros((num_scenes * size * size, 3), np.uint8)
    shaded = CELL_SHADING[..., None] * color[scene, entity][:, None, None, :]  # [pieces, 5, 5, 3]
    image[pixel] = shaded.astype(np.uint8)[:, None]
    return image.reshape(num_scenes, size, size, 3), mask.reshape(num_scenes, size, size)


def scenes(indices, seed=0, size=DEFAULT_SIZE):
    """Generates scenes: `factors()`, and `image` and `mask` of `render()`, in one dict."""
    sampled = factors(indices, seed, size)
    image, mask = render(sampled, size)
    return {"image": image, "mask": mask, **sampled}


def _check_pieces(shape, row, column, scene, entity, size):
    """Raises a ValueError if a shape is unknown or a piece does not lie inside; arrays [pieces]."""
    if shape.size and not (shape.min() > 0 and shape.max() <= NUM_SHAPES):
        raise ValueError(
            f"`shape` must be in [0, {NUM_SHAPES}]. Received: values from {shape.min()} to "
            f"{shape.max()}."
        )

    height, width = _EXTENT[shape].T
    inside = (row >= 0) & (column >= 0) & (row + height <= size) & (column + width <= size)
    if not inside.all():
        first = np.argmin(inside)
        raise ValueError(
            f"Pieces must lie inside the {size}x{size} image. Received: x={row[first]}, "
            f"y={column[first]} for a piece of {height[first]}x{width[first]} pixels (scene "
            f"{scene[first]}, entity {entity[first]})."
        )


def _any_overlap(shape, corner):
    """Tells where two pieces share a pixel: bool [n] from shape [n, 3] and corner [n, 3, 2]."""
    cells = corner[:, :, None, :] + CELL * _CELLS[shape]  # [n, 3, 4, 2]
    overlap = np.zeros(len(shape), bool)
    for first in range(NUM_PIECES):
        for second in range(first + 1, NUM_PIECES):
            distance = np.abs(cells[:, first, :, None] - cells[:, second, None])  # [n, 4, 4, 2]
            # Squares of equal size share a pixel if and only if their distance along both axes is
            # less than their side.
            overlap |= (distance < CELL).all(axis=-1).any(axis=(1, 2))
    return overlap


def _with_background(values):
    """Prepends an entity of zeros to [n, 3, ...] and converts to float32."""
    background = np.zeros_like(values[:, :1])
    return np.concatenate([background, values], axis=1).astype(np.float32)
