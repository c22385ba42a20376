"""Multi-dSprites: squares, ellipses and hearts that cover each other, in four colourings.

Lengths are given for images of 64x64 pixels and scale with the side. With the centre of a sprite
at column 16 + 32 x and row 16 + 32 y, a pixel (i, j) with centre (j + 1/2, i + 1/2) has

    dx = j + 1/2 - (16 + 32 x)        u = cos(o) dx - sin(o) dy
    dy = i + 1/2 - (16 + 32 y)        v = sin(o) dx + cos(o) dy

and lies inside a sprite of scale s if

    square:   max(|u|, |v|) <= 9.6 s
    ellipse:  (u / 12.8 s)**2 + (v / 7.2 s)**2 <= 1
    heart:    inside  u = 9.6 s sin(t)**3,
                      v = -s (2/3 (13 cos t - 5 cos 2t - 2 cos 3t - cos 4t) + 1.4)

Binary, without antialiasing; a sprite never leaves the image. Unlike in Tetris, `x` is the column.

Axes: n scenes, N entities (0 is the background; later entities lie on top).

Source: Kabra et al. 2019 (multi_object_datasets) for contents and ranges; geometry measured on
the dSprites images (Matthey et al. 2017). Undocumented there and chosen here: continuous scale,
orientation and position; gray levels over [0, 1]; saturation and value over [0.5, 1], which the
published count of bright green squares supports (0.1826 of images, 0.1829 by this rule).

The fourth colouring, colored_on_black, is the unpublished dataset of Anciukevicius et al. 2020 (2-4
sprites of uniform RGB on black, in random depth order). Its sprites lie on the grid of dSprites'
own images: 6 scales, 40 orientations, 32 x 32 positions. Chosen here: colours too dark to
distinguish from the background are resampled.
"""

import dataclasses

import numpy as np

from . import counter_rng

DEFAULT_SIZE = 64
"""Side of the published images in pixels."""
MIN_SIZE = 16
"""Below it, a sprite of the smallest scale is a handful of pixels."""

SQUARE, ELLIPSE, HEART = 1, 2, 3
SHAPE_NAMES = ("square", "ellipse", "heart")
"""Names of shape ids 1, 2, 3."""
SCALE_RANGE = (0.5, 1.0)
SCALES = np.linspace(*SCALE_RANGE, 6)
ORIENTATIONS = np.linspace(0.0, 2 * np.pi, 40)
POSITIONS = np.linspace(0.0, 1.0, 32)
"""Grid of dSprites, for variants that lie on it.

As in dSprites, the first and the last orientation show the same image.
"""
MIN_BRIGHTNESS = 0.2
"""Least value of a colour's largest channel on black; 0.8 % of uniform colours are darker."""

# Largest distance of a sprite's pixel from its centre over the image side: the half diagonal of
# the square, 9.6 * sqrt(2) / 64.
_MAX_EXTENT = 13.6 / 64

# Separates this generator's random numbers from those of the others under the same seed.
_STREAM = 0x73707274
_WORDS_PER_ENTITY = 8


@dataclasses.dataclass(frozen=True)
class Variant:
    """One colouring of Multi-dSprites.

    Attributes:
      name: as in the published file `multi_dsprites_<name>.tfrecords`.
      min_sprites: least number of sprites; the number is uniform.
      max_sprites: greatest number of sprites.
      channels: image channels.
      published: whether there is a published file.
      on_grid: whether scale, orientation and position lie on dSprites' grid or are continuous.
      has_depth: whether `factors()` returns `depth` and `scenes()` amodal masks, which no published
        file has.
    """

    name: str
    min_sprites: int
    max_sprites: int
    channels: int
    published: bool = True
    on_grid: bool = False
    has_depth: bool = False

    @property
    def num_entities(self):
        """Length of the entity axis: background and `max_sprites`."""
        return 1 + self.max_sprites


VARIANTS = {
    variant.name: variant
    for variant in (
        Variant("binarized", 2, 3, channels=1),
        Variant("colored_on_grayscale", 2, 5, channels=3),
        Variant("colored_on_colored", 1, 4, channels=3),
        Variant(
            "colored_on_black", 2, 4, channels=3, published=False, on_grid=True, has_depth=True
        ),
    )
}


def get_variant(name):
    """Returns the `Variant` called `name`, or raises a ValueError that lists the valid names."""
    if name not in VARIANTS:
        raise ValueError(f"`variant` must be one of {', '.join(VARIANTS)}. Received: {name!r}.")
    return VARIANTS[name]


def factors(indices, seed=0, variant="colored_on_grayscale"):
    """Samples the contents of the scenes, which do not depend on the image size.

    Scene i has the same sprites in all variants, except for their number and colours, and for the
    grid of colored_on_black.

    Args:
      indices: integer array [n], scene numbers.
      seed: dataset seed in [0, 2**64).
      variant: name of a `Variant`.

    Returns:
      dict of float32 arrays; zeros for the background and for absent entities:
        x, y: [n, N] in [0, 1], centre; column and row 16 + 32 x, 16 + 32 y of 64.
        shape: [n, N], 1 square, 2 ellipse, 3 heart.
        orientation: [n, N], radians in [0, 2 pi].
        scale: [n, N] in [0.5, 1].
        color: [n, N, C] in [0, 1].
        visibility: [n, N], 1 if the entity exists (it may still be covered), also for entity 0.
        depth: [n, N], 1 for the nearest sprite, 2 for the next; only if the variant `has_depth`.
        background: [n, C] in [0, 1]; the only array that is not aligned with the entities.

    Raises:
      ValueError: if the variant is unknown, or an index or the seed is out of range.
    """
    variant = get_variant(variant)
    words = counter_rng.random_words(
        indices, _WORDS_PER_ENTITY * variant.num_entities, seed=seed, stream=_STREAM
    )
    words = words.reshape(len(words), variant.num_entities, _WORDS_PER_ENTITY)
    background_words = words[:, 0]
    sprite_words = words[:, 1:]

    choices = variant.max_sprites - variant.min_sprites + 1
    count = variant.min_sprites + counter_rng.integers(background_words[:, 0], choices)
    exists = np.arange(variant.max_sprites) < count[:, None]

    color, background = _colors(variant, sprite_words[..., 5:8], background_words[:, 1:4])
    if variant.name == "colored_on_black":
        color = _resample_dark_colors(color, indices, seed)

    sprites = {
        **_poses(variant, sprite_words),
        "shape": 1 + counter_rng.integers(sprite_words[..., 2], len(SHAPE_NAMES)),
        "color": color,
    }
    if variant.has_depth:
        # Later entities lie on top.
        sprites["depth"] = count[:, None] - np.arange(variant.max_sprites)

    sampled = {name: _with_background(values, exists) for name, values in sprites.items()}
    visibility = np.pad(exists, ((0, 0), (1, 0)), constant_values=True)
    sampled["visibility"] = visibility.astype(np.float32)
    sampled["background"] = background.astype(np.float32)
    return sampled


def render(factors, size=DEFAULT_SIZE, amodal=False):
    """Renders scenes from their factors, entity 1 first and later entities over it.

    The arithmetic is float64 on the float32 factors, so that stored factors reproduce the stored
    image bit for bit.

    Args:
      factors: dict as `factors()` returns it, for any number N of entities; an entity with `shape`
        0 is not rendered.
      size: image side in pixels, at least `MIN_SIZE`.
      amodal: whether to return amodal masks too.

    Returns:
      image: uint8 [n, size, size, C], the colours times 255, rounded.
      mask: uint8 [n, size, size], number of the visible entity, 0 for the background. A completely
        covered sprite has no pixel.
      amodal_masks: if `amodal`, uint8 {0, 1} [n, N, size, size], all pixels of each entity, visible
        or covered; ones for the background, zeros for an entity that is not rendered.

    Raises:
      ValueError: if the size is too small or a shape is unknown.
    """
    if size < MIN_SIZE:
        raise ValueError(f"`size` must be at least {MIN_SIZE} pixels. Received: size={size}.")
    shape = np.asarray(factors["shape"])
    if not np.isin(shape, (0, SQUARE, ELLIPSE, HEART)).all():
        raise ValueError(f"`shape` must be 0, 1, 2 or 3. Received: {np.unique(shape)}.")

    num_scenes, num_entities = shape.shape
    mask = np.zeros((num_scenes, size, size), np.uint8)
    # They take N times the memory of `mask`: only on demand.
    amodal_masks = None
    if amodal:
        amodal_masks = np.zeros((num_scenes, num_entities, size, size), np.uint8)
        amodal_masks[:, 0] = 1

    for entity in range(1, num_entities):
        scene = np.flatnonzero(shape[:, entity])
        entity_factors = [
            np.asarray(factors[name])[scene, entity].astype(np.float64)
            for name in ("shape", "x", "y", "orientation", "scale")
        ]
        sprite, row, column = _covered_pixels(*entity_factors, size)
        mask[scene[sprite], row, column] = entity
        if amodal:
            amodal_masks[scene[sprite], entity, row, column] = 1

    color = np.array(factors["color"], np.float64)
    color[:, 0] = factors["background"]
    palette = np.rint(255.0 * color).astype(np.uint8)  # [n, N, C]
    image = palette[np.arange(num_scenes)[:, None, None], mask]
    return (image, mask, amodal_masks) if amodal else (image, mask)


def scenes(indices, seed=0, variant="colored_on_grayscale", size=DEFAULT_SIZE):
    """Generates scenes: `factors()`, and image and masks of `render()`, in one dict.

    Only variants with `has_depth` have `amodal_masks`.
    """
    sampled = factors(indices, seed, variant)
    amodal = get_variant(variant).has_depth
    image, mask, *amodal_masks = render(sampled, size, amodal)

    rendered = {"image": image, "mask": mask}
    if amodal:
        rendered["amodal_masks"] = amodal_masks[0]
    return {**rendered, **sampled}


def _poses(variant, sprite_words):
    """Returns `x`, `y`, `orientation` and `scale` of the sprites, [n, S] each, in a dict."""
    values = {}
    for name, word, grid in (
        ("x", 0, POSITIONS),
        ("y", 1, POSITIONS),
        ("orientation", 3, ORIENTATIONS),
        ("scale", 4, SCALES),
    ):
        words = sprite_words[..., word]
        if variant.on_grid:
            values[name] = grid[counter_rng.integers(words, len(grid))]
        else:
            values[name] = counter_rng.uniform(words, grid[0], grid[-1])
    return values


def _colors(variant, sprite_words, background_words):
    """Returns sprite colours [n, S, C] and background colours [n, C], float64 in [0, 1]."""
    if variant.name == "binarized":
        return np.ones((*sprite_words.shape[:2], 1)), np.zeros((len(background_words), 1))

    if variant.name == "colored_on_black":
        return counter_rng.uniform(sprite_words), np.zeros((len(background_words), 3))

    if variant.name == "colored_on_colored":
        return counter_rng.uniform(sprite_words), counter_rng.uniform(background_words)

    # Saturation and value of at least 1/2 agree with the published count of bright green squares.
    hue = counter_rng.uniform(sprite_words[..., 0])
    saturation = counter_rng.uniform(sprite_words[..., 1], 0.5, 1.0)
    value = counter_rng.uniform(sprite_words[..., 2], 0.5, 1.0)
    gray = np.repeat(counter_rng.uniform(background_words[:, :1]), 3, axis=1)
    return hsv_to_rgb(hue, saturation, value), gray


def _resample_dark_colors(color, indices, seed):
    """Resamples colours [n, S, 3] until none is darker than `MIN_BRIGHTNESS`."""
    indices = counter_rng.checked_indices(indices)
    color = color.copy()
    attempt = 0
    while True:
        scene, sprite = np.nonzero(color.max(axis=-1) < MIN_BRIGHTNESS)
        if not scene.size:
            return color

        # Laid out as in the first attempt, where words 5-7 of an entity are its colour.
        attempt += 1
        words = counter_rng.random_words(
            indices[scene],
            _WORDS_PER_ENTITY * (1 + color.shape[1]),
            seed=seed,
            stream=_STREAM,
            attempt=attempt,
        ).reshape(len(scene), -1, _WORDS_PER_ENTITY)
        color[scene, sprite] = counter_rng.uniform(words[np.arange(len(scene)), 1 + sprite, 5:8])


def hsv_to_rgb(hue, saturation, value):
    """Converts hue, saturation and value in [0, 1] to RGB [..., 3] in [0, 1].

    channel(k) = value (1 - saturation clip(min(k, 4 - k), 0, 1)),  k = (offset + 6 hue) mod 6,
    with offsets 5, 3, 1 for red, green, blue.
    """
    k = (np.array([5.0, 3.0, 1.0]) + 6.0 * hue[..., None]) % 6.0
    return value[..., None] * (1.0 - saturation[..., None] * np.clip(np.minimum(k, 4.0 - k), 0, 1))


def _covered_pixels(shape, x, y, orientation, scale, size):
    """Finds the pixels inside each of m sprites, from factors [m].

    Returns:
      sprite, row, column: integer arrays of equal length, one entry per covered pixel.
    """
    # Only a window around the centre is tested: 29x29 of 64x64 pixels.
    radius = int(np.ceil(_MAX_EXTENT * size))
    window = np.arange(2 * radius + 1)
    centre_x = size / 4 + size / 2 * x
    centre_y = size / 4 + size / 2 * y
    left = np.floor(centre_x - radius).astype(np.int64)
    top = np.floor(centre_y - radius).astype(np.int64)
    dx = (left[:, None] + window + 0.5 - centre_x[:, None])[:, None, :]  # [m, 1, w]
    dy = (top[:, None] + window + 0.5 - centre_y[:, None])[:, :, None]  # [m, w, 1]

    # Lengths in units of the sprite: one unit is `scale` pixels in an image of 64.
    unit = scale * (size / 64)
    cos = (np.cos(orientation) / unit)[:, None, None]
    sin = (np.sin(orientation) / unit)[:, None, None]
    u = cos * dx - sin * dy  # [m, w, w]
    v = sin * dx + cos * dy

    inside = np.zeros(u.shape, bool)
    for shape_id, test in ((SQUARE, _in_square), (ELLIPSE, _in_ellipse), (HEART, _in_heart)):
        chosen = shape == shape_id
        inside[chosen] = test(u[chosen], v[chosen])

    sprite, row, column = np.nonzero(inside)
    return sprite, top[sprite] + row, left[sprite] + column


def _in_square(u, v):
    """Tells which points lie in the square of scale 1; u and v as in the module docstring."""
    return np.maximum(np.abs(u), np.abs(v)) <= 9.6


def _in_ellipse(u, v):
    """Tells which points lie in the ellipse of scale 1."""
    return (u / 12.8) ** 2 + (v / 7.2) ** 2 <= 1.0


def _in_heart(u, v):
    """Tells which points lie in the heart of scale 1, without a polygon.

    The curve meets each vertical line |u| < 9.6 exactly twice, at t and pi - t, because
    u = 9.6 sin(t)**3 fixes sin t and leaves the sign of c = cos t. With the multiple angles
    written in c, the two heights are `middle -+ half`:

        13 c - 5 cos 2t - 2 cos 3t - cos 4t = (4 - 2 c**2 - 8 c**4) + (19 c - 8 c**3)
    """
    # Without the bound, c_squared would be negative beyond |u| = 9.6.
    sine_squared = np.cbrt(np.minimum(np.abs(u) / 9.6, 1.0)) ** 2
    c_squared = 1.0 - sine_squared
    middle = -(2 / 3 * (4.0 - c_squared * (2.0 + 8.0 * c_squared)) + 1.4)
    half = 2 / 3 * np.sqrt(c_squared) * (19.0 - 8.0 * c_squared)
    return (np.abs(u) <= 9.6) & (np.abs(v - middle) <= half)


def _with_background(values, exists):
    """Zeroes absent sprites of [n, S, ...], prepends an entity of zeros, converts to float32."""
    values = values * exists.reshape(exists.shape + (1,) * (values.ndim - 2))
    return np.concatenate([np.zeros_like(values[:, :1]), values], axis=1).astype(np.float32)
