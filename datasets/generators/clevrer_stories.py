"""What happens in CLEVRER-like clips: which objects there are, how they start and move, which frames are kept.

The rules stand in `clevrer_clips`, which draws the clips; the motion is that of `clevrer_physics`.

Axes: T frames, M objects.
"""

import dataclasses

import numpy as np

from . import clevr_scenes, clevrer_physics, counter_rng, raycast, raycast_shading
from . import raycast_shapes as shapes
from .clevr_variants import COLOR_NAMES, COLORS

NUM_SIMULATED = 128
"""Frames of a published clip, of 5 seconds."""
FRAME_RATE = 25.6
"""Of the simulation, frames per second."""
CAMERA = raycast.Camera.looking_at(clevr_scenes.CAMERA_POSITION)
FRAME = raycast.Frame(320, 480, (0, 320), (80, 400))
"""The camera's picture, and the square of it that is kept."""
SIZE = 0.5
"""Radius of all objects, half the side of cubes."""
MIN_TRIMMED = 40
"""Frames in which all objects are in view, of trimmed clips."""
MAX_ATTEMPTS = 2000
"""Clips that break the rules are drawn anew so many times before giving up."""

_PHYSICS = clevrer_physics.Physics(frame_rate=FRAME_RATE)
_PALETTE = np.array([(0, 0, 0), *COLORS.values()]) / 255
_STREAM = 0x636C7600 + 0x80  # beside those of `clevr_scenes`
_CLIP_WORDS, _OBJECT_WORDS = 4, 16
_REST_RADIUS, _REST_GAP = 2.8, 0.3
# Where objects come from: (column, row) from ... to in the camera's picture, out of its sight.
_ENTRANCES = np.array(
    [[(-50, 110), (-50, 290)], [(530, 110), (530, 290)], [(60, 390), (420, 390)]], np.float64
)
# Seconds at which they do, in whole clips and in trimmed ones.
_ENTRANCE_TIMES = {False: (-0.6, 2.5), True: (-1.0, 1.5)}
_AIM_ERROR, _AIM_RADIUS = 0.6, 2.0
_OVERSHOOT = (0.5, 6.0)
_SPIN = 1.0
# Simulated frames in which every object is in view, at least; and the greatest height of the ground under an object
# in view: the backdrop rises into a wall.
_LEAST_VIEW, _LEVEL = 12, 0.15


@dataclasses.dataclass(frozen=True)
class Variant:
    """One set of clips.

    Attributes:
      min_objects: least number of objects, at least 2; the number is uniform.
      max_objects: greatest number of objects.
      stride: every `stride`-th simulated frame is kept.
      trimmed: whether clips begin when all objects are in view, and show that; else with the simulation.
      num_frames: default number of kept frames; others, and other strides, keep frames of the same clips.
      stream: sets of the same number draw the same random numbers.
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
        """The greatest number of frames that a clip may have."""
        return 1 + ((MIN_TRIMMED if self.trimmed else NUM_SIMULATED) - 1) // self.stride


VARIANTS = {
    "clevrer": Variant(),
    "clevrer345": Variant(3, 5, stride=1, trimmed=True, stream=1),
    "clevrer6": Variant(6, 6, stride=1, trimmed=True, stream=2),
}


def get_variant(variant):
    """Returns the `Variant` of a name (or the one given); a ValueError lists the valid names."""
    if isinstance(variant, Variant):
        return variant
    if variant not in VARIANTS:
        raise ValueError(f"`variant` must be one of {', '.join(VARIANTS)}. Received: {variant!r}.")
    return VARIANTS[variant]


def trimmed(in_view, min_length=MIN_TRIMMED):
    """First and end of the frames in which all objects are in view, as published clips are trimmed for tests.

    The first run of such frames counts, and frame 127, the last one, never does. None if the run is shorter than
    `min_length`.

    Args:
      in_view: bool [T, objects].
      min_length: least number of frames.

    Returns:
      (first, end) or None.

    Example: all in view in frames 10 ... 79 of 128 -> (10, 80); in frames 100 ... 127 -> None, for 27 < 40.

    Source: Zablotskaia et al. 2020, released program.
    """
    everything = np.asarray(in_view, bool).all(axis=1)
    if not everything.any():
        return None
    first = int(np.argmax(everything))
    missing = np.flatnonzero(~everything[first:])
    end = first + int(missing[0]) if missing.size else len(everything) - 1
    return (first, end) if end - first >= min_length else None


def partners(collisions, kept, count):
    """Who met whom, frame by frame.

    Args:
      collisions: (frame, i, j) of objects i and j that met between the frame before and this one.
      kept: int [T], increasing numbers of the frames that are kept.
      count: number of objects.

    Returns:
      float64 [T, count], 1 + the number of an object that this one has met since the kept frame before, or 0. Of
      several, the last one.
    """
    result = np.zeros((len(kept), count))
    for frame, first, second in collisions:
        if kept[0] <= frame <= kept[-1]:
            row = np.searchsorted(kept, frame)
            result[row, first], result[row, second] = 1 + second, 1 + first
    return result


def draw(variant, num_frames, index, seed):
    """Draws one clip.

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
            count = variant.min_objects + int(
                counter_rng.integers(words[0], variant.max_objects - variant.min_objects + 1)
            )
        objects, start = _draw_start(
            words[1],
            words[_CLIP_WORDS:].reshape(variant.max_objects, _OBJECT_WORDS)[:count],
            variant.trimmed,
        )
        if (
            clevrer_physics.gaps(objects["shape"], SIZE, start["position"], start["angle"])
            < _REST_GAP
        ).any():
            continue
        motion = clevrer_physics.simulate(
            objects["shape"], SIZE, **start, num_frames=NUM_SIMULATED, physics=_PHYSICS
        )
        height = _ground_height(motion.position)
        position = np.concatenate([motion.position, SIZE + height[..., None]], axis=-1)
        in_view = visible(position)
        window = trimmed(in_view) if variant.trimmed else (0, NUM_SIMULATED)
        if window is None:
            continue
        first, end = window[0], window[0] + MIN_TRIMMED if variant.trimmed else NUM_SIMULATED
        meetings = [
            (frame, i, j)
            for frame, i, j in motion.collisions
            if in_view[frame, i] and in_view[frame, j]
        ]
        seen = in_view[first:end]
        if seen.sum(axis=0).min() < _LEAST_VIEW or (height[first:end] * seen).max() > _LEVEL:
            continue
        if not any(first <= frame < end for frame, _, _ in meetings):
            continue
        kept = first + variant.stride * np.arange(num_frames)
        partner = partners(meetings, kept, count)
        rise = np.gradient(position[..., 2], axis=0) * FRAME_RATE
        tracks = {
            "position": position[kept],
            "velocity": np.concatenate([motion.velocity, rise[..., None]], axis=-1)[kept],
            "angle": motion.angle[kept] % (2 * np.pi),
            "in_view": in_view[kept],
            "collision": partner > 0,
            "partner": partner,
        }
        return objects, tracks, first
    raise ValueError(
        f"No motion of {count} objects met the rules of {variant} in {MAX_ATTEMPTS} tries (clip {index}). Fewer objects will do."
    )


def _draw_start(clip_word, words, early):
    """Objects, and the arguments of `clevrer_physics.simulate` that set them in motion, from words [M, _OBJECT_WORDS]."""
    count = len(words)
    combinations = list(
        range(len(COLOR_NAMES) * len(raycast_shading.MATERIAL_NAMES) * len(shapes.SHAPE_NAMES))
    )
    chosen = np.array(
        [
            combinations.pop(int(counter_rng.integers(word, len(combinations))))
            for word in words[:, 0]
        ]
    )
    color, rest = np.divmod(chosen, len(raycast_shading.MATERIAL_NAMES) * len(shapes.SHAPE_NAMES))
    material, shape = np.divmod(rest, len(shapes.SHAPE_NAMES))
    objects = {
        "color": 1 + color,
        "material": 1 + material,
        "shape": 1 + shape,
        "rgb": _PALETTE[1 + color],
        "visibility": np.ones(count),
    }

    def uniform(column, low, high):
        return counter_rng.uniform(words[:, column], low, high)

    resting = np.arange(count) < 1 + counter_rng.integers(clip_word, count - 1)
    position = _in_disc(uniform(2, 0, 1), uniform(3, 0, 2 * np.pi), _REST_RADIUS)
    # Those that come in: where, when, at what they aim, how far they would slide.
    side, share = counter_rng.integers(words[:, 4], len(_ENTRANCES)), uniform(5, 0, 1)[:, None]
    entrance = on_ground((1 - share) * _ENTRANCES[side, 0] + share * _ENTRANCES[side, 1])
    victim = position[counter_rng.integers(words[:, 7], resting.sum())]
    victim = victim + _in_disc(uniform(8, 0, 1), uniform(9, 0, 2 * np.pi), _AIM_ERROR)
    spot = _in_disc(uniform(8, 0, 1), uniform(9, 0, 2 * np.pi), _AIM_RADIUS)
    way = np.where((uniform(10, 0, 1) < 0.75)[:, None], victim, spot) - entrance
    length = np.linalg.norm(way, axis=1)
    speed = np.sqrt(2 * _PHYSICS.deceleration * (length + uniform(11, *_OVERSHOOT)))
    time = uniform(6, *_ENTRANCE_TIMES[early])
    # Until its time an object slides without friction; if that has passed, friction has had its part already.
    passed = np.maximum(-time, 0)
    gone = np.where(time > 0, -speed * time, speed * passed - _PHYSICS.deceleration * passed**2 / 2)
    direction = way / length[:, None]
    start = {
        "position": np.where(resting[:, None], position, entrance + gone[:, None] * direction),
        "velocity": np.where(resting, 0, speed - _PHYSICS.deceleration * passed)[:, None]
        * direction,
        "angle": uniform(1, 0, 2 * np.pi),
        "spin": np.where(resting, 0, uniform(12, -_SPIN, _SPIN)),
        "start": np.maximum(time, 0),
    }
    return objects, start


def _in_disc(share, angle, radius):
    """Points [M, 2] uniform in a disc, from uniform numbers in [0, 1) and angles."""
    return (radius * np.sqrt(share) * np.stack([np.cos(angle), np.sin(angle)])).T


def on_ground(pixel):
    """Places [M, 2] of objects whose centres are seen at (column, row) [M, 2] of the camera's picture."""
    direction = CAMERA.directions(FRAME, pixel[:, 0], pixel[:, 1])
    return (CAMERA.position[:, None] + (SIZE - CAMERA.position[2]) / direction[2] * direction)[:2].T


def _ground_height(position):
    """Heights [...] of the ground under places [..., 2]; 0 beyond its near edge."""
    origin = np.concatenate([position.reshape(-1, 2).T, np.full((1, position[..., 0].size), 100.0)])
    height = 100 - shapes.ground_hit(origin, np.array([[0.0], [0.0], [-1.0]]) + 0 * origin)
    return np.where(np.isfinite(height), height, 0.0).reshape(position.shape[:-1])


def visible(position, margin=0):
    """Whether centres [..., 3] lie in the kept square of the picture, or at most `margin` pixels beside it: bool [...]."""
    column, row, depth = (
        axis.reshape(position.shape[:-1])
        for axis in CAMERA.project(FRAME, position.reshape(-1, 3).T)
    )
    inside = depth > 0
    for place, (first, end) in ((row, FRAME.rows), (column, FRAME.columns)):
        inside &= (first - margin <= place) & (place < end + margin)
    return inside
