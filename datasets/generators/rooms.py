"""Objects Room: solids on the floor of a square room under the sky, seen from a ring; still pictures and camera flights.

The room is 7 wide, its walls are 3 high, and it is open above. Wall and floor have a colour each, drawn per scene; the
wall comes in two halves of two adjacent sides, of which a camera sees one or both. Objects are spheres, cylinders and
cubes with rounded edges, of one colour each, that stand apart from each other, at most 1.75 from the middle. The camera
is on a ring of radius 3 around the middle, at a height from which it faces the point 1.5 above the middle at a pitch
of -25 to 22 degrees; its field is 60 degrees wide. In a flight, azimuth and pitch change by the same amount from frame
to frame. Objects are drawn anew until each of the 16 frames of the scene's flight has the centre of one of them
within the picture. A still picture is the first frame of the flight of the same number.

Lengths are in the room's unit, z is up, pixel (row i, column j) spans [i, i + 1) x [j, j + 1). How a picture is drawn stands
in `room_pictures`.

Axes: n scenes, T frames, N = 1 + greatest number of objects (0 is the background: sky, floor and wall).

Source: Burgess et al. 2019 (MONet) and Greff et al. 2019, appendix B.5, for room, ring, pitch, numbers of objects and
flights; Kabra et al. 2019 for the variants and the parts of the background. They say no more: measures, shapes, colours
and light were chosen here, and the pictures are alike in kind only.
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
"""Side of the published pictures."""
MIN_SIZE = 16
"""Below, a far object is a handful of pixels."""
NUM_FRAMES = 16
"""Frames of a flight, at most: beyond, the pitch would leave its range."""

SHAPE_NAMES = solid_shapes.SHAPE_NAMES
"""Names of shape ids 1, 2, 3."""
PITCH_RANGE = np.deg2rad((-25.0, 22.0))

_PLACE_RADIUS, _GAP = 1.75, 0.1
_SIZE_RANGE = (0.3, 0.55)
_LARGEST_TURN = np.pi / 2
# Horizontal reach of a solid in sizes: of a cube along its diagonal.
_REACH = np.array([0.0, 1.0, 1.0, 0.2 + 0.8 * np.sqrt(2)])

_STREAM = 0x726F6F00
_SCENE_WORDS, _OBJECT_WORDS = 12, 8


@dataclasses.dataclass(frozen=True)
class Variant:
    """One set of rooms.

    Attributes:
      name: as in the published files.
      min_objects: least number of objects; the number is uniform.
      max_objects: greatest number of objects.
      stream: separates the random numbers of the sets.
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
    """Returns the `Variant` of a name; a ValueError lists the valid ones."""
    if name not in VARIANTS:
        raise ValueError(f"`variant` must be one of {', '.join(VARIANTS)}. Received: {name!r}.")
    return VARIANTS[name]


def factors(indices, seed=0, variant="train", num_frames=None):
    """Draws what is in the scenes; nothing here depends on the size of the pictures.

    Args:
      indices: integer array [n], scene numbers.
      seed: dataset seed in [0, 2**64).
      variant: name of a `Variant`.
      num_frames: T in 1 ... 16, frames of a flight; None: still pictures, without an axis of frames.

    Returns:
      dict of float32 arrays. Per entity, zeros for the background and absent objects:
        shape: [n, N], 1 sphere, 2 cylinder, 3 cube.
        size: [n, N], radius of sphere and cylinder, half the height of all; 0.3 to 0.55.
        x, y: [n, N], where it stands.
        rotation: [n, N], about the vertical axis, radians in [0, 2 pi].
        color: [n, N, 3], RGB in [0, 1].
        visibility: [n, N], 1 if the entity exists (it may be out of view), also for entity 0.
        pixel_coords: [n, (T,) N, 3], column and row of the centre in a picture of 64, depth along the optical axis.
        depth: [n, (T,) N], distance of the centre from the camera.
      Per scene:
        wall_color, floor_color: [n, 3], RGB in [0, 1].
        azimuth: [n, (T)], of the camera on its ring, radians.
        pitch: [n, (T)], of the camera, radians, upwards.
    """
    variant = get_variant(variant)
    if num_frames is not None and not 1 <= num_frames <= NUM_FRAMES:
        raise ValueError(
            f"`num_frames` must be in 1 ... {NUM_FRAMES}. Received: num_frames={num_frames}."
        )
    indices = counter_rng.checked_indices(indices)
    draw = lambda chosen, attempt: counter_rng.random_words(
        chosen,
        _SCENE_WORDS + _OBJECT_WORDS * variant.max_objects,
        seed=seed,
        stream=_STREAM + variant.stream,
        attempt=attempt,
    )
    scene_words = draw(indices, 0)[:, :_SCENE_WORDS]
    uniform = lambda word, low, high: counter_rng.uniform(scene_words[:, word], low, high)
    count = variant.min_objects + counter_rng.integers(
        scene_words[:, 0], variant.max_objects - variant.min_objects + 1
    )
    exists = np.arange(variant.max_objects) < count[:, None]
    time = np.arange(NUM_FRAMES) / (NUM_FRAMES - 1)
    azimuth = (
        uniform(1, 0, 2 * np.pi)[:, None]
        + uniform(4, -_LARGEST_TURN, _LARGEST_TURN)[:, None] * time
    )
    pitch = (
        uniform(2, *PITCH_RANGE)[:, None] * (1 - time) + uniform(3, *PITCH_RANGE)[:, None] * time
    )

    objects = np.zeros((len(indices), variant.max_objects, _OBJECT_WORDS), np.uint32)
    pending, attempt = np.arange(len(indices) if variant.max_objects else 0), 0
    while pending.size:
        objects[pending] = draw(indices[pending], attempt)[:, _SCENE_WORDS:].reshape(
            len(pending), -1, _OBJECT_WORDS
        )
        bad = _refused(_solids(objects[pending]), exists[pending], azimuth[pending], pitch[pending])
        pending, attempt = pending[bad], attempt + 1

    frames = 0 if num_frames is None else slice(num_frames)
    azimuth, pitch = azimuth[:, frames], pitch[:, frames]
    solids = _solids(objects)
    coords = room_pictures.pixel_coords(_centre(solids), azimuth, pitch, DEFAULT_SIZE)
    depth = room_pictures.distance(_centre(solids), azimuth, pitch)
    color = _colors(objects[..., 5:8], (0.5, 1), (0.5, 1))
    per_entity = {
        **solids,
        "color": color[:, :1].repeat(variant.max_objects, axis=1) if variant.one_color else color,
    }
    drawn = {name: _with_background(values, exists, axis=1) for name, values in per_entity.items()}
    shown = np.broadcast_to(exists if num_frames is None else exists[:, None], coords.shape[:-1])
    drawn["pixel_coords"] = _with_background(coords, shown, axis=-2)
    drawn["depth"] = _with_background(depth, shown, axis=-1)
    drawn["visibility"] = np.pad(exists, ((0, 0), (1, 0)), constant_values=True)
    surroundings = {
        "wall_color": _colors(scene_words[:, 5:8], (0.2, 0.9), (0.5, 1)),
        "floor_color": _colors(scene_words[:, 8:11], (0.2, 0.9), (0.5, 1)),
        "azimuth": azimuth,
        "pitch": pitch,
    }
    return {name: values.astype(np.float32) for name, values in {**drawn, **surroundings}.items()}


def render(factors, size=DEFAULT_SIZE):
    """Draws still pictures or flights from their factors.

    Args:
      factors: dict as `factors()` gives it; `visibility`, `pixel_coords` and `depth` are not needed. Any number N of
        entities and T of frames will do; an entity with `shape` 0 is not drawn.
      size: side of the pictures in pixels, at least `MIN_SIZE`.

    Returns:
      dict with
        image: uint8 [n, (T,) size, size, 3].
        mask: uint8 [n, (T,) size, size], number of the visible object, 0 for the background.
        parts: uint8 [n, (T,) size, size], numbered as the entities of the published files: `SKY`, `FLOOR`, `WALL`,
          `OTHER_WALL`, or `FIRST_OBJECT` - 1 + the number in `mask`.
        amodal_masks: uint8 {0, 1} [n, (T,) N, size, size], all of each entity that lies in the picture, hidden or not; ones
          for the background.

    Raises:
      ValueError: if the size is too small or a shape is unknown.
    """
    if size < MIN_SIZE:
        raise ValueError(f"`size` must be at least {MIN_SIZE} pixels. Received: size={size}.")
    arrays = {name: np.asarray(values, np.float64) for name, values in factors.items()}
    shape = arrays["shape"].astype(np.int64)
    if not np.isin(shape, range(1 + len(SHAPE_NAMES))).all():
        raise ValueError(f"`shape` must be 0, 1, 2 or 3. Received: {np.unique(shape)}.")
    azimuth, pitch = arrays["azimuth"], arrays["pitch"]
    parts = np.zeros((*azimuth.shape, size, size), np.uint8)
    image = np.zeros((*parts.shape, 3), np.uint8)
    amodal_masks = np.zeros((*azimuth.shape, shape.shape[1], size, size), np.uint8)
    amodal_masks[..., 0, :, :] = 1
    for place in np.ndindex(azimuth.shape):
        row = place[0]
        entity = np.flatnonzero(shape[row])
        position = np.stack([arrays[name][row, entity] for name in ("x", "y", "size")], axis=-1)
        rotation = solid_shapes.rotation_about_z(arrays["rotation"][row, entity])
        solids = solid_shapes.Solids(
            shape[row, entity], arrays["size"][row, entity], position, rotation
        )
        surroundings = (
            arrays["wall_color"][row],
            arrays["floor_color"][row],
            azimuth[place],
            pitch[place],
        )
        image[place], own, amodal = room_pictures.picture(
            solids, arrays["color"][row, entity], *surroundings, size
        )
        # What is drawn has numbers without gaps.
        parts[place] = np.concatenate([np.arange(FIRST_OBJECT), FIRST_OBJECT - 1 + entity])[own]
        for number, mask in zip(entity, amodal, strict=True):
            amodal_masks[(*place, number)] = mask
    mask = np.maximum(parts, FIRST_OBJECT - 1) - np.uint8(FIRST_OBJECT - 1)
    return {"image": image, "mask": mask, "parts": parts, "amodal_masks": amodal_masks}


def scenes(indices, seed=0, variant="train", size=DEFAULT_SIZE):
    """Draws still pictures: `factors()` and `render()` in one dict."""
    drawn = factors(indices, seed, variant)
    return {**render(drawn, size), **drawn}


def clips(indices, seed=0, variant="train", num_frames=NUM_FRAMES, size=DEFAULT_SIZE):
    """Draws flights: `factors()` with `video` uint8 [n, T, H, W, 3], `mask` and `parts` uint8 [n, T, H, W] in one dict."""
    drawn = factors(indices, seed, variant, num_frames)
    rendered = render(drawn, size)
    return {
        "video": rendered["image"],
        "mask": rendered["mask"],
        "parts": rendered["parts"],
        **drawn,
    }


def _solids(words):
    """Returns shape, size, x, y and rotation of objects, [n, M] each, from their words [n, M, 8]."""
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
    return np.stack([solids["x"], solids["y"], solids["size"]], axis=-1)


def _colors(words, saturation, value):
    """Returns RGB [..., 3] from words [..., 3]: hue uniform, saturation and value uniform in their ranges."""
    uniform = counter_rng.uniform
    return hsv_to_rgb(
        uniform(words[..., 0]), uniform(words[..., 1], *saturation), uniform(words[..., 2], *value)
    )


def _refused(solids, exists, azimuth, pitch):
    """Whether objects stand too near to each other, or a frame has none in view: bool [n]."""
    reach = _REACH[solids["shape"]] * solids["size"]
    apart = np.hypot(*(solids[name][:, :, None] - solids[name][:, None] for name in ("x", "y")))
    near = apart < reach[:, :, None] + reach[:, None] + _GAP
    pairs = exists[:, :, None] & exists[:, None] & ~np.eye(exists.shape[1], dtype=bool)
    refused = (near & pairs).any(axis=(1, 2))
    rest = np.flatnonzero(~refused)
    coords = room_pictures.pixel_coords(
        _centre(solids)[rest], azimuth[rest], pitch[rest], DEFAULT_SIZE
    )
    inside = (coords[..., 2] > 0) & ((coords[..., :2] > 0) & (coords[..., :2] < DEFAULT_SIZE)).all(
        axis=-1
    )
    refused[rest] = ~(inside & exists[rest, None]).any(axis=2).all(axis=1)
    return refused


def _with_background(values, exists, axis):
    """Zeroes absent objects of [..., M, ...] and prepends an entity of zeros along `axis`, that of M."""
    values = values * exists.reshape(exists.shape + (1,) * (values.ndim - exists.ndim))
    return np.insert(values, 0, 0, axis=axis)
