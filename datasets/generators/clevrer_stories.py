"""Stories of CLEVRER-like clips: their objects, how these start and move, and the kept frames.

`clevrer_clips` states the rules and renders the clips; `clevrer_physics` simulates the motion.

Axes: T frames, M objects.
"""

import dataclasses

import numpy as np

from . import clevr_scenes, clevrer_physics, counter_rng, raycast, raycast_shading
from . import raycast_shapes as shapes
from .clevr_variants import COLOR_NAMES, COLORS

NUM_SIMULATED = 128
"""Number of frames of a published clip of 5 seconds."""
FRAME_RATE = 25.6
"""Simulated frames per second."""
CAMERA = raycast.Camera.looking_at(clevr_scenes.CAMERA_POSITION)
FRAME = raycast.Frame(320, 480, (0, 320), (80, 400))
"""The camera's image and the square of it that is rendered."""
SIZE = 0.5
"""Radius of all spheres and cylinders, half the side of all cubes."""
MIN_TRIMMED = 40
"""Number of frames in which all objects of a trimmed clip are in view."""
MAX_ATTEMPTS = 2000
"""Greatest number of attempts at a clip that follows the rules."""

_PHYSICS = clevrer_physics.Physics(frame_rate=FRAME_RATE)
_PALETTE = np.array([(0, 0, 0), *COLORS.values()]) / 255
_STREAM = 0x636C7600 + 0x80  # beside those of `clevr_scenes`
_CLIP_WORDS = 4
_OBJECT_WORDS = 16
# Resting objects lie in a disc of this radius, and all objects start with this gap between them.
_REST_RADIUS = 2.8
_REST_GAP = 0.3
# Segments where objects enter, outside the camera's image: (column, row) of both ends.
_ENTRANCES = np.array(
    [[(-50, 110), (-50, 290)], [(530, 110), (530, 290)], [(60, 390), (420, 390)]], np.float64
)
# Range of the seconds at which they enter, by whether the clip is trimmed.
_ENTRANCE_TIMES = {False: (-0.6, 2.5), True: (-1.0, 1.5)}
# An entering object aims this close to a resting one, or at a point this close to the middle.
_AIM_PROBABILITY = 0.75
_AIM_ERROR = 0.6
_AIM_RADIUS = 2.0
# Range of the distance that it would slide beyond its target.
_OVERSHOOT = (0.5, 6.0)
# Greatest initial spin, radians per second.
_SPIN = 1.0
# Least number of simulated frames in which every object is in view.
_LEAST_VIEW = 12
# Greatest height of the ground under an object in view: the backdrop rises into a wall.
_LEVEL = 0.15


@dataclasses.dataclass(frozen=True)
class Variant:
    """One dataset of clips.

    Attributes:
      min_objects: least number of objects, at least 2; the number is uniform.
      max_objects: greatest number of objects.
      stride: every `stride`-th simulated frame is kept.
      trimmed: whether clips show the time when all objects are in view, or begin with the
        simulation.
      num_frames: default number of kept frames; other numbers and other strides keep frames of the
        same clips.
      stream: variants with the same number share their random numbers.
    """

    min_objects: int = 3
    max_objects: int = 6
    stride: int = 3
    trimmed: bool = False
    num_frames: int = 40
    stream: int = 0

    @property
    def num_entities(self):
        """Length of the entity axis: background and `max_objects`."""
        return 1 + self.max_objects

    @property
    def most_frames(self):
        """Greatest possible number of kept frames."""
        available = MIN_TRIMMED if self.trimmed else NUM_SIMULATED
        return 1 + (available - 1) // self.stride


VARIANTS = {
    "clevrer": Variant(),
    "clevrer345": Variant(3, 5, stride=1, trimmed=True, stream=1),
    "clevrer6": Variant(6, 6, stride=1, trimmed=True, stream=2),
}


def get_variant(variant):
    """Returns the `Variant` of a name, or the argument if it is a `Variant`.

    Raises:
      ValueError: if the name is unknown; the message lists the valid ones.
    """
    if isinstance(variant, Variant):
        return variant
    if variant not in VARIANTS:
        raise ValueError(f"`variant` must be one of {', '.join(VARIANTS)}. Received: {variant!r}.")
    return VARIANTS[variant]


def trimmed(in_view, min_length=MIN_TRIMMED):
    """Finds the frames in which all objects are in view, as published test clips are trimmed.

    The first run of such frames counts; frame 127, the last one, is never part of it.

    Args:
      in_view: bool [T, objects].
      min_length: least number of frames.

    Returns:
      (first, end) of the frames, or None if the run is shorter than `min_length`.

    Example: all in view in frames 10 ... 79 of 128 -> (10, 80); in frames 100 ... 127 -> None,
    because 27 < 40.

    Source: Zablotskaia et al. 2020, released program.
    """
    all_in_view = np.asarray(in_view, bool).all(axis=1)
    if not all_in_view.any():
        return None

    first = int(np.argmax(all_in_view))
    missing = np.flatnonzero(~all_in_view[first:])
    # Without a missing frame the released program ends at the last one and leaves it out.
    end = len(all_in_view) - 1
    if missing.size:
        end = first + int(missing[0])
    return (first, end) if end - first >= min_length else None


def partners(collisions, kept, count):
    """Tells which object each object has collided with, frame by frame.

    Args:
      collisions: (frame, i, j) of objects i and j that collided between the previous frame and this
        one.
      kept: int [T], increasing numbers of the kept frames.
      count: number of objects.

    Returns:
      float64 [T, count], 1 + the number of the last object that this one has collided with since
      the previous kept frame, or 0.
    """
    result = np.zeros((len(kept), count))
    for frame, first, second in collisions:
        if kept[0] <= frame <= kept[-1]:
            row = np.searchsorted(kept, frame)
            result[row, first] = 1 + second
            result[row, second] = 1 + first
    return result


def sample(variant, num_frames, index, seed):
    """Samples one clip.

    Args:
      variant: a `Variant`.
      num_frames: T.
      index: number of the clip.
      seed: dataset seed in [0, 2**64).

    Returns:
      objects: dict of arrays [M, ...]; see `clevrer_clips.factors` for all names.
      tracks: dict of arrays [T, M, ...].
      first: number of the first kept frame.

    Raises:
      ValueError: if no clip fits the rules.
    """
    # The number of objects survives rejections, otherwise clips of few objects would prevail.
    count = None
    for attempt in range(MAX_ATTEMPTS):
        words = counter_rng.random_words(
            [index],
            _CLIP_WORDS + _OBJECT_WORDS * variant.max_objects,
            seed=seed,
            stream=_STREAM + variant.stream,
            attempt=attempt,
        )[0]
        if count is None:
            choices = variant.max_objects - variant.min_objects + 1
            count = variant.min_objects + int(counter_rng.integers(words[0], choices))

        object_words = words[_CLIP_WORDS:].reshape(variant.max_objects, _OBJECT_WORDS)[:count]
        objects = _sample_objects(object_words)
        start = _sample_start(words[1], object_words, variant.trimmed)
        gaps = clevrer_physics.gaps(objects["shape"], SIZE, start["position"], start["angle"])
        if (gaps < _REST_GAP).any():
            continue

        motion = clevrer_physics.simulate(
            objects["shape"], SIZE, **start, num_frames=NUM_SIMULATED, physics=_PHYSICS
        )
        accepted = _tracks(variant, motion, num_frames)
        if accepted is not None:
            tracks, first = accepted
            return objects, tracks, first

    raise ValueError(
        f"No motion of {count} objects met the rules of {variant} in {MAX_ATTEMPTS} tries "
        f"(clip {index}). Use fewer objects."
    )


def _sample_objects(words):
    """Samples M objects, no two alike, from words [M, _OBJECT_WORDS]: dict of arrays [M, ...]."""
    num_materials = len(raycast_shading.MATERIAL_NAMES)
    num_shapes = len(shapes.SHAPE_NAMES)

    # Sampling without replacement.
    combinations = list(range(len(COLOR_NAMES) * num_materials * num_shapes))
    chosen = np.array(
        [
            combinations.pop(int(counter_rng.integers(word, len(combinations))))
            for word in words[:, 0]
        ]
    )
    color, rest = np.divmod(chosen, num_materials * num_shapes)
    material, shape = np.divmod(rest, num_shapes)
    return {
        "color": 1 + color,
        "material": 1 + material,
        "shape": 1 + shape,
        "rgb": _PALETTE[1 + color],
        "visibility": np.ones(len(words)),
    }


def _sample_start(clip_word, words, trimmed):
    """Samples how M objects start: arguments of `clevrer_physics.simulate` in a dict."""

    def uniform(column, low, high):
        return counter_rng.uniform(words[:, column], low, high)

    count = len(words)
    resting = np.arange(count) < 1 + counter_rng.integers(clip_word, count - 1)
    position = _in_disc(uniform(2, 0, 1), uniform(3, 0, 2 * np.pi), _REST_RADIUS)

    # Where the others enter, and at which target they aim.
    side = counter_rng.integers(words[:, 4], len(_ENTRANCES))
    share = uniform(5, 0, 1)[:, None]
    entrance = on_ground((1 - share) * _ENTRANCES[side, 0] + share * _ENTRANCES[side, 1])
    victim = position[counter_rng.integers(words[:, 7], resting.sum())]
    victim = victim + _in_disc(uniform(8, 0, 1), uniform(9, 0, 2 * np.pi), _AIM_ERROR)
    spot = _in_disc(uniform(8, 0, 1), uniform(9, 0, 2 * np.pi), _AIM_RADIUS)
    aims_at_object = (uniform(10, 0, 1) < _AIM_PROBABILITY)[:, None]
    path = np.where(aims_at_object, victim, spot) - entrance

    # v**2 = 2 a s: friction would stop the object `_OVERSHOOT` beyond its target.
    length = np.linalg.norm(path, axis=1)
    speed = np.sqrt(2 * _PHYSICS.deceleration * (length + uniform(11, *_OVERSHOOT)))
    direction = path / length[:, None]

    # Before its entrance an object slides without friction towards it; if it entered before frame
    # 0, friction has slowed it since.
    time = uniform(6, *_ENTRANCE_TIMES[trimmed])
    elapsed = np.maximum(-time, 0)
    slowed = speed * elapsed - _PHYSICS.deceleration * elapsed**2 / 2
    travelled = np.where(time > 0, -speed * time, slowed)
    entering_speed = np.where(resting, 0, speed - _PHYSICS.deceleration * elapsed)
    return {
        "position": np.where(resting[:, None], position, entrance + travelled[:, None] * direction),
        "velocity": entering_speed[:, None] * direction,
        "angle": uniform(1, 0, 2 * np.pi),
        "spin": np.where(resting, 0, uniform(12, -_SPIN, _SPIN)),
        "start": np.maximum(time, 0),
    }


def _tracks(variant, motion, num_frames):
    """Returns the kept part of a motion, or None if it breaks the rules.

    Returns:
      tracks: dict of arrays [num_frames, M, ...].
      first: number of the first kept frame.
    """
    height = _ground_height(motion.position)
    position = np.concatenate([motion.position, SIZE + height[..., None]], axis=-1)
    in_view = visible(position)

    first = 0
    end = NUM_SIMULATED
    if variant.trimmed:
        window = trimmed(in_view)
        if window is None:
            return None
        first = window[0]
        end = first + MIN_TRIMMED

    # Every object is in view long enough, on level ground, and two of them collide in view.
    seen = in_view[first:end]
    if seen.sum(axis=0).min() < _LEAST_VIEW or (height[first:end] * seen).max() > _LEVEL:
        return None
    collisions = [
        (frame, i, j)
        for frame, i, j in motion.collisions
        if in_view[frame, i] and in_view[frame, j]
    ]
    if not any(first <= frame < end for frame, _, _ in collisions):
        return None

    kept = first + variant.stride * np.arange(num_frames)
    partner = partners(collisions, kept, position.shape[1])
    vertical_speed = np.gradient(position[..., 2], axis=0) * FRAME_RATE
    velocity = np.concatenate([motion.velocity, vertical_speed[..., None]], axis=-1)
    tracks = {
        "position": position[kept],
        "velocity": velocity[kept],
        "angle": motion.angle[kept] % (2 * np.pi),
        "in_view": in_view[kept],
        "collision": partner > 0,
        "partner": partner,
    }
    return tracks, first


def _in_disc(share, angle, radius):
    """Returns points [M, 2] uniform in a disc, from uniform numbers in [0, 1) and angles."""
    return (radius * np.sqrt(share) * np.stack([np.cos(angle), np.sin(angle)])).T


def on_ground(pixel):
    """Returns positions [M, 2] of objects whose centres appear at (column, row) [M, 2].

    The pixels count in the camera's full image; centres are `SIZE` above the ground.
    """
    direction = CAMERA.directions(FRAME, pixel[:, 0], pixel[:, 1])
    return (CAMERA.position[:, None] + (SIZE - CAMERA.position[2]) / direction[2] * direction)[:2].T


def _ground_height(position):
    """Returns heights [...] of the ground at positions [..., 2]; 0 beyond its near edge."""
    origin = np.concatenate([position.reshape(-1, 2).T, np.full((1, position[..., 0].size), 100.0)])
    height = 100 - shapes.ground_hit(origin, np.array([[0.0], [0.0], [-1.0]]) + 0 * origin)
    return np.where(np.isfinite(height), height, 0.0).reshape(position.shape[:-1])


def visible(position, margin=0):
    """Tells which centres [..., 3] lie inside the rendered square: bool [...].

    The square is enlarged by `margin` pixels on all sides.
    """
    column, row, depth = (
        axis.reshape(position.shape[:-1])
        for axis in CAMERA.project(FRAME, position.reshape(-1, 3).T)
    )
    inside = depth > 0
    for coordinate, (first, end) in ((row, FRAME.rows), (column, FRAME.columns)):
        inside &= (first - margin <= coordinate) & (coordinate < end + margin)
    return inside
