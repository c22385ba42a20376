"""Objects Room: solids on the floor of a square open room, as still images and camera flights.

The room is 7 wide, its walls are 3 high, and it has no ceiling. Wall and floor have one colour
each, sampled per scene; the wall consists of two halves of two adjacent sides, of which a camera
sees one or both. Objects are spheres, cylinders and cubes with rounded edges, each of one colour,
that do not touch, at most 1.75 from the middle.

The camera is on a ring of radius 3 around the middle and faces the point 1.5 above the middle; its
height gives it a pitch of -25 to 22 degrees. Its field of view is 60 degrees wide. In a flight,
azimuth and pitch change by the same amount from frame to frame. Objects are resampled until each of
the 16 frames of the scene's flight shows the centre of at least one of them. A still image is the
first frame of the flight with the same number.

Lengths are in the room's unit, z is up, pixel (row i, column j) spans [i, i + 1) x [j, j + 1).
`room_pictures` renders the images.

Axes: n scenes, T frames, N = 1 + greatest number of objects (0 is the background: sky, floor and
wall).

Source: Burgess et al. 2019 (MONet) and Greff et al. 2019, appendix B.5, for room, ring, pitch,
numbers of objects and flights; Kabra et al. 2019 for the variants and the parts of the background.
Left open there and chosen here: dimensions, shapes, colours and light; the images only resemble the
published ones.
"""

import dataclasses

import numpy as np

from . import counter_rng, room_pictures
from . import raycast_shapes as solid_shapes
from .room_pictures import FIRST_OBJECT, FLOOR, OTHER_WALL, SKY, WALL
from .sprites import hsv_to_rgb

__all__ = [
    "FIRST_OBJECT",
    "FLOOR",
    "OTHER_WALL",
    "SKY",
    "VARIANTS",
    "WALL",
    "Variant",
    "clips",
    "factors",
    "get_variant",
    "render",
    "scenes",
]

DEFAULT_SIZE = 64
"""Side of the published images in pixels."""
MIN_SIZE = 16
"""Below it, a far object is a handful of pixels."""
NUM_FRAMES = 16
"""Greatest number of frames of a flight: beyond it, the pitch would leave its range."""

SHAPE_NAMES = solid_shapes.SHAPE_NAMES
"""Names of shape ids 1, 2, 3."""
PITCH_RANGE = np.deg2rad((-25.0, 22.0))
"""Range of the camera's pitch, in radians upwards."""

# Greatest distance of an object's centre from the middle, and least gap between objects.
_PLACE_RADIUS = 1.75
_GAP = 0.1
_SIZE_RANGE = (0.3, 0.55)
# Greatest change of the azimuth during a flight, in radians.
_LARGEST_TURN = np.pi / 2
# Horizontal reach of each shape, in sizes; that of a cube is along its diagonal.
_REACH = np.array([0.0, 1.0, 1.0, 0.2 + 0.8 * np.sqrt(2)])

_STREAM = 0x726F6F00
_SCENE_WORDS = 12
_OBJECT_WORDS = 8


@dataclasses.dataclass(frozen=True)
class Variant:
    """One dataset of rooms.

    Attributes:
      name: as in the published files.
      min_objects: least number of objects; the number is uniform.
      max_objects: greatest number of objects.
      stream: separates the random numbers of the variants.
      one_color: whether all objects of a scene have the same colour.
    """

    name: str
    min_objects: int
    max_objects: int
    stream: int
    one_color: bool = False

    @property
    def num_entities(self):
        """Length of the entity axis: background and `max_objects`."""
        return 1 + self.max_objects


VARIANTS = {
    variant.name: variant
    for variant in (
        Variant("train", 3, 3, stream=0),
        Variant("six_objects", 4, 6, stream=1),
        Variant("empty_room", 0, 0, stream=2),
        Variant("identical_color", 4, 6, stream=3, one_color=True),
    )
}


def get_variant(name):
    """Returns the `Variant` called `name`, or raises a ValueError that lists the valid names."""
    if name not in VARIANTS:
        raise ValueError(f"`variant` must be one of {', '.join(VARIANTS)}. Received: {name!r}.")
    return VARIANTS[name]


def factors(indices, seed=0, variant="train", num_frames=None):
    """Samples the contents of the scenes, which do not depend on the image size.

    Args:
      indices: integer array [n], scene numbers.
      seed: dataset seed in [0, 2**64).
      variant: name of a `Variant`.
      num_frames: T in 1 ... 16, frames of a flight; None for still images, without the axis T.

    Returns:
      dict of float32 arrays. Per entity, zeros for the background and absent objects:
        shape: [n, N], 1 sphere, 2 cylinder, 3 cube.
        size: [n, N], radius of sphere and cylinder, half the height of any shape; 0.3 to 0.55.
        x, y: [n, N], position on the floor.
        rotation: [n, N], about the vertical axis, radians in [0, 2 pi].
        color: [n, N, 3], RGB in [0, 1].
        visibility: [n, N], 1 if the entity exists (it may be out of view), also for entity 0.
        pixel_coords: [n, (T,) N, 3], column and row of the centre in an image of 64x64, and its
          depth along the optical axis.
        depth: [n, (T,) N], distance of the centre from the camera.
      Per scene:
        wall_color, floor_color: [n, 3], RGB in [0, 1].
        azimuth: [n, (T)], of the camera on its ring, radians.
        pitch: [n, (T)], of the camera, radians, upwards.

    Raises:
      ValueError: if the variant is unknown, or an index, the seed or `num_frames` is out of range.
    """
    variant = get_variant(variant)
    if num_frames is not None and not 1 <= num_frames <= NUM_FRAMES:
        raise ValueError(
            f"`num_frames` must be in 1 ... {NUM_FRAMES}. Received: num_frames={num_frames}."
        )

    indices = counter_rng.checked_indices(indices)
    scene_words = _words(variant, indices, seed, attempt=0)[:, :_SCENE_WORDS]
    choices = variant.max_objects - variant.min_objects + 1
    count = variant.min_objects + counter_rng.integers(scene_words[:, 0], choices)
    exists = np.arange(variant.max_objects) < count[:, None]
    azimuth, pitch = _camera_path(scene_words)
    object_words = _accepted_words(variant, indices, seed, exists, azimuth, pitch)

    # A still image is the first frame; the index removes the axis of frames.
    frames = 0 if num_frames is None else slice(num_frames)
    azimuth = azimuth[:, frames]
    pitch = pitch[:, frames]
    solids = _solids(object_words)
    pixel_coords = room_pictures.pixel_coords(_centre(solids), azimuth, pitch, DEFAULT_SIZE)
    depth = room_pictures.distance(_centre(solids), azimuth, pitch)

    color = _colors(object_words[..., 5:8], (0.5, 1), (0.5, 1))
    if variant.one_color:
        color = color[:, :1].repeat(variant.max_objects, axis=1)
    per_entity = {**solids, "color": color}

    result = {name: _with_background(values, exists, axis=1) for name, values in per_entity.items()}
    shown = exists if num_frames is None else exists[:, None]
    shown = np.broadcast_to(shown, pixel_coords.shape[:-1])
    result["pixel_coords"] = _with_background(pixel_coords, shown, axis=-2)
    result["depth"] = _with_background(depth, shown, axis=-1)
    result["visibility"] = np.pad(exists, ((0, 0), (1, 0)), constant_values=True)

    result["wall_color"] = _colors(scene_words[:, 5:8], (0.2, 0.9), (0.5, 1))
    result["floor_color"] = _colors(scene_words[:, 8:11], (0.2, 0.9), (0.5, 1))
    result["azimuth"] = azimuth
    result["pitch"] = pitch
    return {name: values.astype(np.float32) for name, values in result.items()}


def render(factors, size=DEFAULT_SIZE):
    """Renders still images or flights from their factors.

    Args:
      factors: dict as `factors()` returns it, for any number N of entities and T of frames;
        `visibility`, `pixel_coords` and `depth` are not needed. An entity with `shape` 0 is not
        rendered.
      size: image side in pixels, at least `MIN_SIZE`.

    Returns:
      dict with
        image: uint8 [n, (T,) size, size, 3].
        mask: uint8 [n, (T,) size, size], number of the visible object, 0 for the background.
        parts: uint8 [n, (T,) size, size], numbered like the entities of the published files: `SKY`,
          `FLOOR`, `WALL`, `OTHER_WALL`, or `FIRST_OBJECT` - 1 + the number in `mask`.
        amodal_masks: uint8 {0, 1} [n, (T,) N, size, size], all pixels of each entity, visible or
          hidden; ones for the background.

    Raises:
      ValueError: if the size is too small or a shape is unknown.
    """
    if size < MIN_SIZE:
        raise ValueError(f"`size` must be at least {MIN_SIZE} pixels. Received: size={size}.")

    arrays = {name: np.asarray(values, np.float64) for name, values in factors.items()}
    shape = arrays["shape"].astype(np.int64)
    if not np.isin(shape, range(1 + len(SHAPE_NAMES))).all():
        raise ValueError(f"`shape` must be 0, 1, 2 or 3. Received: {np.unique(shape)}.")

    axes = arrays["azimuth"].shape  # (n,) or (n, T)
    parts = np.zeros((*axes, size, size), np.uint8)
    image = np.zeros((*parts.shape, 3), np.uint8)
    amodal_masks = np.zeros((*axes, shape.shape[1], size, size), np.uint8)
    amodal_masks[..., 0, :, :] = 1
    for place in np.ndindex(axes):
        scene = place[0]
        entity = np.flatnonzero(shape[scene])
        position = np.stack([arrays[name][scene, entity] for name in ("x", "y", "size")], axis=-1)
        rotation = solid_shapes.rotation_about_z(arrays["rotation"][scene, entity])
        solids = solid_shapes.Solids(
            shape[scene, entity], arrays["size"][scene, entity], position, rotation
        )

        image[place], part, amodal = room_pictures.render(
            solids,
            arrays["color"][scene, entity],
            arrays["wall_color"][scene],
            arrays["floor_color"][scene],
            arrays["azimuth"][place],
            arrays["pitch"][place],
            size,
        )

        # `room_pictures` numbers the rendered solids without gaps.
        numbers = np.concatenate([np.arange(FIRST_OBJECT), FIRST_OBJECT - 1 + entity])
        parts[place] = numbers[part]
        for number, mask in zip(entity, amodal, strict=True):
            amodal_masks[(*place, number)] = mask

    mask = np.maximum(parts, FIRST_OBJECT - 1) - np.uint8(FIRST_OBJECT - 1)
    return {"image": image, "mask": mask, "parts": parts, "amodal_masks": amodal_masks}


def scenes(indices, seed=0, variant="train", size=DEFAULT_SIZE):
    """Generates still images: the results of `factors()` and `render()` in one dict."""
    sampled = factors(indices, seed, variant)
    return {**render(sampled, size), **sampled}


def clips(indices, seed=0, variant="train", num_frames=NUM_FRAMES, size=DEFAULT_SIZE):
    """Generates flights: the result of `factors()` and the rendered clips in one dict.

    Rendered are `video` uint8 [n, T, size, size, 3], and `mask` and `parts` uint8
    [n, T, size, size] as in `render()`.
    """
    sampled = factors(indices, seed, variant, num_frames)
    rendered = render(sampled, size)
    return {
        "video": rendered["image"],
        "mask": rendered["mask"],
        "parts": rendered["parts"],
        **sampled,
    }


def _words(variant, indices, seed, attempt):
    """Returns the random words of scenes: first those of the scene, then those of its objects."""
    return counter_rng.random_words(
        indices,
        _SCENE_WORDS + _OBJECT_WORDS * variant.max_objects,
        seed=seed,
        stream=_STREAM + variant.stream,
        attempt=attempt,
    )


def _camera_path(scene_words):
    """Returns azimuth and pitch of the camera in all frames of a flight, float64 [n, 16] each."""

    def uniform(word, low, high):
        return counter_rng.uniform(scene_words[:, word], low, high)[:, None]

    time = np.arange(NUM_FRAMES) / (NUM_FRAMES - 1)
    azimuth = uniform(1, 0, 2 * np.pi) + uniform(4, -_LARGEST_TURN, _LARGEST_TURN) * time
    # Between two pitches within the range, so that no frame leaves it.
    pitch = uniform(2, *PITCH_RANGE) * (1 - time) + uniform(3, *PITCH_RANGE) * time
    return azimuth, pitch


def _accepted_words(variant, indices, seed, exists, azimuth, pitch):
    """Resamples the words [n, M, 8] of objects until no scene is rejected."""
    object_words = np.zeros((len(indices), variant.max_objects, _OBJECT_WORDS), np.uint32)
    # An empty room has no object to show and would be rejected forever.
    pending = np.arange(len(indices) if variant.max_objects else 0)
    attempt = 0
    while pending.size:
        words = _words(variant, indices[pending], seed, attempt)[:, _SCENE_WORDS:]
        object_words[pending] = words.reshape(len(pending), -1, _OBJECT_WORDS)

        solids = _solids(object_words[pending])
        rejected = _rejected(solids, exists[pending], azimuth[pending], pitch[pending])
        pending = pending[rejected]
        attempt += 1
    return object_words


def _solids(words):
    """Returns a dict of `shape`, `size`, `x`, `y` and `rotation` [n, M] from words [n, M, 8]."""
    # The square root makes the position uniform in a disc.
    radius = _PLACE_RADIUS * np.sqrt(counter_rng.uniform(words[..., 2]))
    angle = counter_rng.uniform(words[..., 3], 0, 2 * np.pi)
    return {
        "shape": 1 + counter_rng.integers(words[..., 0], len(SHAPE_NAMES)),
        "size": counter_rng.uniform(words[..., 1], *_SIZE_RANGE),
        "x": radius * np.cos(angle),
        "y": radius * np.sin(angle),
        "rotation": counter_rng.uniform(words[..., 4], 0, 2 * np.pi),
    }


def _centre(solids):
    """Returns the centres [n, M, 3] of solids; the size is half the height."""
    return np.stack([solids["x"], solids["y"], solids["size"]], axis=-1)


def _colors(words, saturation, value):
    """Maps words [..., 3] to RGB [..., 3]: uniform hue, saturation and value in their ranges."""
    uniform = counter_rng.uniform
    return hsv_to_rgb(
        uniform(words[..., 0]), uniform(words[..., 1], *saturation), uniform(words[..., 2], *value)
    )


def _rejected(solids, exists, azimuth, pitch):
    """Tells whether objects are too close to each other, or a frame has none in view: bool [n]."""
    reach = _REACH[solids["shape"]] * solids["size"]
    distance = np.hypot(*(solids[name][:, :, None] - solids[name][:, None] for name in ("x", "y")))
    close = distance < reach[:, :, None] + reach[:, None] + _GAP
    pairs = exists[:, :, None] & exists[:, None] & ~np.eye(exists.shape[1], dtype=bool)
    rejected = (close & pairs).any(axis=(1, 2))

    # Projecting all frames takes longer: only where the positions are accepted.
    rest = np.flatnonzero(~rejected)
    coords = room_pictures.pixel_coords(
        _centre(solids)[rest], azimuth[rest], pitch[rest], DEFAULT_SIZE
    )
    in_window = ((coords[..., :2] > 0) & (coords[..., :2] < DEFAULT_SIZE)).all(axis=-1)
    in_view = in_window & (coords[..., 2] > 0)
    rejected[rest] = ~(in_view & exists[rest, None]).any(axis=2).all(axis=1)
    return rejected


def _with_background(values, exists, axis):
    """Zeroes absent objects of [..., M, ...] and prepends an entity of zeros along `axis`."""
    values = values * exists.reshape(exists.shape + (1,) * (values.ndim - exists.ndim))
    return np.insert(values, 0, 0, axis=axis)
