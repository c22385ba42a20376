"""Overlapping polygons: two filled regular polygons on black, most of them partly overlapping.

Lengths are given for images of 64x64 pixels and scale with the side. A polygon with e edges,
circumradius r and rotation o around the centre (column x, row y) has the corners

    column = x + r cos(o + 2 pi k / e)        row = y - r sin(o + 2 pi k / e)        k = 0 ... e - 1

(at o = 0 a corner points to the right; o > 0 turns counter-clockwise on the screen), and contains
the points with

    cos(a) (column - x) - sin(a) (row - y) <= r cos(pi / e)        for all a = o + (2 k + 1) pi / e.

Masks are binary: a pixel (i, j) belongs to a polygon if its centre (column j + 1/2, row i + 1/2)
does. The image is the mean of 4 x 4 samples per pixel, each of which shows the nearest polygon that
contains it: edges are antialiased, and follow the same lines as the masks. `x` is the column, `y`
the row.

Axes: n scenes, N = 3 entities (0 is the background, 1 the farther polygon, 2 the nearer one).

Source: Anciukevicius et al. 2020, section 4 (overlapping-polygons): number of edges, radius, colour
and position, rendered back to front. Left open there and chosen here: regular polygons, uniform
rotation, antialiasing.
"""

import numpy as np

from . import counter_rng

NUM_POLYGONS = 2
NUM_ENTITIES = NUM_POLYGONS + 1
DEFAULT_SIZE = 64
"""Side of the paper's images in pixels."""
MIN_SIZE = 16
"""Below it, a polygon of the smallest radius is a handful of pixels."""

EDGES_RANGE = (3, 6)
"""Least and greatest number of edges."""
RADIUS_RANGE = (7.5, 12.5)
"""Range of the circumradius, of 64."""
MAX_SHIFT = 5.0
"""Largest distance of a centre from the centre of the image along each axis, of 64."""

# Separates this generator's random numbers from those of the others under the same seed.
_STREAM = 0x706F6C79
_WORDS_PER_ENTITY = 8

# Positions of the 4 x 4 samples relative to a pixel's centre, rows first, [16] each.
_SAMPLE_ROW, _SAMPLE_COLUMN = (
    axis.ravel() for axis in np.meshgrid(*[(np.arange(4) + 0.5) / 4 - 0.5] * 2, indexing="ij")
)
_NUM_SAMPLES = 16
_SAMPLE_BITS = (1 << np.arange(_NUM_SAMPLES)).astype(np.uint16)
_ALL_SAMPLES = np.uint16(0xFFFF)
# The signed distance to an edge's line is 1-Lipschitz: if a pixel's centre is farther from the
# outline than its outermost sample is from the centre, all samples lie on the centre's side.
_SAMPLE_REACH = 0.375 * np.sqrt(2.0) + 1e-6

# Scenes rendered at a time: working arrays of a few megabytes. The speed hardly depends on it.
_CHUNK = 128


def factors(indices, seed=0):
    """Samples the contents of the scenes, which do not depend on the image size.

    Args:
      indices: integer array [n], scene numbers.
      seed: dataset seed in [0, 2**64).

    Returns:
      dict of float32 arrays; zeros for the background except `visibility`:
        x: [n, 3], column of the centre, of 64, in [27, 37].
        y: [n, 3], row of the centre, of 64, in [27, 37].
        edges: [n, 3], 3 to 6.
        radius: [n, 3], circumradius, of 64, in [7.5, 12.5].
        rotation: [n, 3], radians in [0, 2 pi], counter-clockwise.
        color: [n, 3, 3], RGB in [0, 1].
        depth: [n, 3], 1 for the nearer polygon (entity 2), 2 for the farther one (entity 1).
        visibility: [n, 3], 1 for every entity; the farther polygon may still be fully hidden.

    Raises:
      ValueError: if an index or the seed is out of range.
    """
    words = counter_rng.random_words(
        indices, _WORDS_PER_ENTITY * NUM_POLYGONS, seed=seed, stream=_STREAM
    )
    words = words.reshape(len(words), NUM_POLYGONS, _WORDS_PER_ENTITY)

    centre = DEFAULT_SIZE / 2
    num_choices = EDGES_RANGE[1] - EDGES_RANGE[0] + 1
    polygons = {
        "x": counter_rng.uniform(words[..., 0], centre - MAX_SHIFT, centre + MAX_SHIFT),
        "y": counter_rng.uniform(words[..., 1], centre - MAX_SHIFT, centre + MAX_SHIFT),
        "edges": EDGES_RANGE[0] + counter_rng.integers(words[..., 2], num_choices),
        "radius": counter_rng.uniform(words[..., 3], *RADIUS_RANGE),
        "rotation": counter_rng.uniform(words[..., 4], 0.0, 2 * np.pi),
        "color": counter_rng.uniform(words[..., 5:8]),
        "depth": np.broadcast_to(np.arange(NUM_POLYGONS, 0, -1), words.shape[:2]),
    }

    sampled = {name: _with_background(values) for name, values in polygons.items()}
    sampled["visibility"] = np.ones((len(words), NUM_ENTITIES), np.float32)
    return sampled


def render(factors, size=DEFAULT_SIZE):
    """Renders scenes from their factors, far polygons first.

    The arithmetic is float64 on the float32 factors, so that stored factors reproduce the stored
    image bit for bit.

    Args:
      factors: dict as `factors()` returns it (`visibility` is not needed), for any number N of
        entities and any number of edges; an entity with `edges` 0 is not rendered, and polygons are
        clipped to the image. Of entities at equal `depth` the later one is nearer.
      size: image side in pixels, at least `MIN_SIZE`.

    Returns:
      image: uint8 [n, size, size, 3], the mean colours times 255, rounded.
      mask: uint8 [n, size, size], number of the visible entity, 0 for the background. A completely
        hidden polygon has no pixel.
      amodal_masks: uint8 {0, 1} [n, N, size, size], all pixels of each entity, visible or hidden;
        ones for the background, zeros for an entity that is not rendered.

    Raises:
      ValueError: if the size is too small, a number of edges is not one of a polygon, or a depth
        is not finite.
    """
    edges = np.asarray(factors["edges"])
    _check_polygons(edges, np.asarray(factors["depth"]), size)

    num_scenes, num_entities = edges.shape
    arrays = {
        name: np.asarray(factors[name], np.float64)
        for name in ("x", "y", "edges", "radius", "rotation", "color", "depth")
    }
    for name in ("x", "y", "radius"):
        arrays[name] = arrays[name] * (size / DEFAULT_SIZE)

    image = np.zeros((num_scenes, size, size, 3), np.uint8)
    mask = np.zeros((num_scenes, size, size), np.uint8)
    amodal_masks = np.zeros((num_scenes, num_entities, size, size), np.uint8)
    for start in range(0, num_scenes, _CHUNK):
        chunk = slice(start, start + _CHUNK)
        _render_chunk(
            {name: values[chunk] for name, values in arrays.items()},
            image[chunk],
            mask[chunk],
            amodal_masks[chunk],
        )
    amodal_masks[:, 0] = 1
    return image, mask, amodal_masks


def scenes(indices, seed=0, size=DEFAULT_SIZE):
    """Generates scenes: `factors()`, and image and masks of `render()`, in one dict."""
    sampled = factors(indices, seed)
    image, mask, amodal_masks = render(sampled, size)
    return {"image": image, "mask": mask, "amodal_masks": amodal_masks, **sampled}


def _check_polygons(edges, depth, size):
    """Raises a ValueError if `render` cannot render polygons with these factors [n, N]."""
    if size < MIN_SIZE:
        raise ValueError(f"`size` must be at least {MIN_SIZE} pixels. Received: size={size}.")
    if not np.isin(edges, (0, *range(3, 1 + int(edges.max(initial=0))))).all():
        raise ValueError(
            f"`edges` must be 0 or an integer of at least 3. Received: {np.unique(edges)}."
        )

    if not np.isfinite(depth[edges > 0]).all():
        raise ValueError(
            "`depth` must be finite for every rendered polygon. Received: NaN or infinity."
        )


def _render_chunk(factors, image, mask, amodal_masks):
    """Renders a few scenes into arrays of zeros, from float64 factors with lengths in pixels."""
    edges = factors["edges"].copy()
    edges[:, 0] = 0
    if not edges.any():
        return

    # Nothing lies outside the bounding box of all polygons: a third of the image for scenes of
    # `factors()`.
    rows, columns = _bounding_box(factors, edges > 0, mask.shape[-1])
    image = image[:, rows, columns]
    mask = mask[:, rows, columns]
    amodal_masks = amodal_masks[:, :, rows, columns]

    # Bit s of a pixel: whether its sample s lies inside.
    samples = np.zeros(amodal_masks.shape, np.uint16)
    outline = np.zeros(mask.shape, bool)
    for count in np.unique(edges[edges > 0]).astype(int):
        scene, entity = np.nonzero(edges == count)
        radius, rotation, x, y = (
            factors[name][scene, entity] for name in ("radius", "rotation", "x", "y")
        )
        _cover(
            count,
            radius,
            rotation,
            x - columns.start,
            y - rows.start,
            scene,
            entity,
            amodal_masks,
            samples,
            outline,
        )

    color = 255.0 * factors["color"]
    color[:, 0] = 0.0
    far_to_near = 1 + np.argsort(-factors["depth"][:, 1:], axis=1, kind="stable").T  # [N - 1, n]
    _paint_pixels(far_to_near, color, amodal_masks, image, mask)
    _paint_outlines(far_to_near, color, samples, outline, image)


def _bounding_box(factors, exists, size):
    """Returns slices of the rows and columns that the polygons `exists` [n, N] may touch."""
    reach = factors["radius"][exists] + _SAMPLE_REACH
    box = []
    for name in ("y", "x"):
        centre = factors[name][exists]
        first, end = np.clip(
            [np.floor((centre - reach).min()), np.ceil((centre + reach).max())], 0, size
        )
        box.append(slice(int(first), int(end)))
    return box


def _paint_pixels(far_to_near, color, amodal_masks, image, mask):
    """Fills `image` and `mask` by the painter's algorithm on whole pixels."""
    every = np.arange(len(mask))
    for entity in far_to_near:
        np.copyto(
            mask,
            entity[:, None, None].astype(np.uint8),
            where=amodal_masks[every, entity].view(bool),
        )
    image[:] = np.rint(color).astype(np.uint8)[every[:, None, None], mask]


def _paint_outlines(far_to_near, color, samples, outline, image):
    """Replaces the pixels of `outline` in `image` by the mean colour of their samples."""
    scene, row, column = np.nonzero(outline)
    free = np.full(len(scene), _ALL_SAMPLES)  # samples outside all nearer polygons
    mean = np.zeros((len(scene), 3))

    # Front to back, a sample counts for the first polygon that contains it.
    for entity in far_to_near[::-1]:
        entity = entity[scene]
        visible = samples[scene, entity, row, column] & free
        free &= ~visible
        mean += color[scene, entity] * (_COUNT_BITS[visible][:, None] / _NUM_SAMPLES)
    image[scene, row, column] = np.rint(mean).astype(np.uint8)


def _cover(edges, radius, rotation, x, y, scene, entity, amodal_masks, samples, outline):
    """Marks the pixels of m polygons with the same number of edges.

    Args:
      edges: number of edges of all m polygons.
      radius, rotation, x, y: [m], lengths in pixels of the window that the arrays below show.
      scene, entity: [m], indices of the polygons in these arrays.
      amodal_masks: [n, N, h, w], set to 1 where a pixel's centre lies inside.
      samples: uint16 [n, N, h, w], set to the samples that lie inside.
      outline: bool [n, h, w], set where a pixel may have samples on either side.
    """
    # Only a window around the centre is tested, wide enough for the outermost samples.
    reach = int(np.ceil(radius.max() + _SAMPLE_REACH))
    window = np.arange(2 * reach + 1)
    left = np.floor(x - reach).astype(np.int64)
    top = np.floor(y - reach).astype(np.int64)
    dx = left[:, None] + window + 0.5 - x[:, None]  # [m, w]
    dy = top[:, None] + window + 0.5 - y[:, None]

    distance = _outside_distance(
        edges, radius, rotation, dx[:, None, :], dy[:, :, None]
    )  # [m, w, w]

    # `row` and `column` count within a polygon's window, `pixel` within the image.
    polygon, row, column = np.nonzero(distance <= _SAMPLE_REACH)
    height, width = outline.shape[1:]
    image_row = row + top[polygon]
    image_column = column + left[polygon]
    kept = (image_row >= 0) & (image_row < height) & (image_column >= 0) & (image_column < width)
    polygon, row, column = (values[kept] for values in (polygon, row, column))
    pixel = (scene[polygon], entity[polygon], image_row[kept], image_column[kept])
    distance = distance[polygon, row, column]
    amodal_masks[pixel] = distance <= 0.0

    # All samples of the other pixels lie inside, see `_SAMPLE_REACH`.
    near = distance >= -_SAMPLE_REACH
    polygon, row, column = (values[near] for values in (polygon, row, column))
    inside = (
        _outside_distance(
            edges,
            radius[polygon],
            rotation[polygon],
            dx[polygon, column][:, None] + _SAMPLE_COLUMN,
            dy[polygon, row][:, None] + _SAMPLE_ROW,
        )
        <= 0.0
    )
    bits = np.full(len(distance), _ALL_SAMPLES)
    bits[near] = inside @ _SAMPLE_BITS
    samples[pixel] = bits

    scene, _, row, column = (values[near] for values in pixel)
    outline[scene, row, column] = True


def _outside_distance(edges, radius, rotation, dx, dy):
    """Returns the largest signed distance to the lines of the edges, positive outside the polygon.

    Args:
      edges: number of edges of all m polygons.
      radius: [m].
      rotation: [m].
      dx: column minus the centre's, [m, ...].
      dy: row minus the centre's, [m, ...].

    Returns:
      [m, ...] of the broadcast shape of `dx` and `dy`.
    """
    expand = (slice(None),) + (None,) * (dx.ndim - 1)

    # In place: this is the inner loop of rendering.
    largest = None
    for k in range(edges):
        normal = rotation + (2 * k + 1) * np.pi / edges
        distance = np.cos(normal)[expand] * dx - np.sin(normal)[expand] * dy
        if largest is None:
            largest = distance
        else:
            np.maximum(largest, distance, out=largest)

    apothem = (radius * np.cos(np.pi / edges))[expand]
    return np.subtract(largest, apothem, out=largest)


def _count_bits():
    """Returns the number of ones in every 16-bit number, uint8 [65536]."""
    numbers = np.arange(1 << _NUM_SAMPLES, dtype=np.uint16)
    return np.unpackbits(numbers.view(np.uint8).reshape(-1, 2), axis=1).sum(axis=1, dtype=np.uint8)


_COUNT_BITS = _count_bits()


def _with_background(values):
    """Prepends an entity of zeros to [n, 2, ...] and converts to float32."""
    return np.concatenate([np.zeros_like(values[:, :1]), values], axis=1).astype(np.float32)
