"""CLEVRER-like clips: spheres, cylinders and cubes that rest on the ground, slide in from outside, collide, leave.

Pictures and masks come from the ray caster of this folder, motion from rigid bodies in the plane (`clevrer_physics`).
Of a clip

  * all objects have one size, and no two share colour, material and shape;
  * one to all but one of the objects rest near the middle. The others come from beyond the left, right or lower edge of
    the camera's picture, at a time of their own, three in four towards an object at rest; some are on their way
    when the clip begins. Friction stops them. Entities are numbered in that order;
  * 128 frames of 5 seconds are simulated, of which every `stride`-th is kept; or, of a trimmed set, the first 40 frames
    of the time when all objects are in view. Clips are drawn anew until every object is in view for half a second and
    two of them collide in view.

The stored picture is the middle square of the camera's 480 x 320. Camera, lamps, materials and ground are those of
CLEVR without jitter.

Axes: n clips, T frames, N = 1 + greatest number of objects (0 is the background).

Source: Yi et al. 2020 (objects, length, size of the picture); Zablotskaia et al. 2020 (middle square, trimmed clips,
sets of 3-5 and of 6 objects); Kabra et al. 2019 (codes of the factors). Neither CLEVRER's scenes nor its physics are
published. Chosen here: CLEVR's camera, for which objects of radius 0.5 look as large as CLEVRER's and motion along the
ground is foreshortened alike; all masses equal, restitution, friction and speeds for looks. Lengths are CLEVR's; those
of CLEVRER's annotations are about 2.4 times shorter.
"""

import functools

import numpy as np

from . import clevr_scenes, clevrer_stories, counter_rng, raycast, raycast_shading, raycast_stage
from . import raycast_shapes as shapes
from .clevrer_stories import (
    CAMERA,
    FRAME,
    FRAME_RATE,
    SIZE,
    VARIANTS,
    Variant,
    get_variant,
    partners,
    trimmed,
)

__all__ = [
    "DEFAULT_SIZE",
    "FRAME",
    "FRAME_RATE",
    "MIN_SIZE",
    "VARIANTS",
    "Variant",
    "clips",
    "factors",
    "get_variant",
    "partners",
    "render",
    "trimmed",
]

DEFAULT_SIZE = 64
MIN_SIZE = 16
"""Below, an object has hardly a pixel."""

_LIGHTS = (
    *(
        raycast.AreaLight(position=tuple(place), **parameters)
        for place, parameters in zip(
            clevr_scenes.LAMP_POSITIONS.tolist(), clevr_scenes.LAMP_PARAMETERS, strict=True
        )
    ),
    clevr_scenes.SUN,
)
# Objects so many pixels (of the camera's picture) beside the kept square change it by one grey level of 255 at most.
_OFFSTAGE = 150


def factors(indices, seed=0, variant="clevrer", num_frames=None):
    """Draws what is in the clips, and what it does.

    Args:
      indices: integer array [n], clip numbers.
      seed: dataset seed in [0, 2**64).
      variant: name of a `Variant`, or one of your own.
      num_frames: T; None is the variant's default.

    Returns:
      dict of float32 arrays, zeros for the background and absent objects. Per entity:
        color: [n, N], 1 red, 2 cyan, 3 green, 4 blue, 5 brown, 6 gray, 7 purple, 8 yellow.
        shape: [n, N], 1 sphere, 2 cylinder, 3 cube.
        material: [n, N], 1 rubber, 2 metal.
        rgb: [n, N, 3], linear RGB in [0, 1].
        visibility: [n, N], 1 if the entity exists, also for the background; an object may be out of view.
      Per frame and entity:
        position: [n, T, N, 3], centre in the world, z upwards.
        velocity: [n, T, N, 3], units per second.
        angle: [n, T, N], azimuth in radians in [0, 2 pi).
        in_view: [n, T, N], 1 if the centre lies in the picture, hidden or not.
        collision: [n, T, N], 1 if the object has met another one since the kept frame before.
        partner: [n, T, N], number of that entity (of several, the last one), or 0.
      Per clip:
        first_frame: [n], number of the first kept frame among the simulated ones.

    Raises:
      ValueError: for an unknown variant, a bad index, too many frames, or if no clip fits the rules.
    """
    variant = get_variant(variant)
    num_frames = _checked_frames(variant, num_frames)
    indices = counter_rng.checked_indices(indices)
    still, moving = (
        (len(indices), variant.num_entities),
        (len(indices), num_frames, variant.num_entities),
    )
    result = {
        name: np.zeros(still, np.float32) for name in ("color", "shape", "material", "visibility")
    }
    result["rgb"] = np.zeros((*still, 3), np.float32)
    result |= {name: np.zeros((*moving, 3), np.float32) for name in ("position", "velocity")}
    result |= {
        name: np.zeros(moving, np.float32) for name in ("angle", "in_view", "collision", "partner")
    }
    result["first_frame"] = np.zeros(len(indices), np.float32)
    result["visibility"][:, 0] = 1
    for row, index in enumerate(indices):
        objects, tracks, first = clevrer_stories.draw(variant, num_frames, int(index), seed)
        count = len(objects["shape"])
        for name, values in objects.items():
            result[name][row, 1 : 1 + count] = values
        for name, values in tracks.items():
            result[name][row, :, 1 : 1 + count] = values
        result["first_frame"][row] = first
    return result


def render(factors, size=DEFAULT_SIZE):
    """Draws clips from their factors.

    Needs `shape`, `material`, `rgb`, `position` and `angle`; objects with `shape` 0 are not drawn.

    Args:
      factors: dict as `factors()` gives it.
      size: side of the picture in pixels, at least `MIN_SIZE`.

    Returns:
      dict with
        video: uint8 [n, T, size, size, 3], sRGB.
        mask: uint8 [n, T, size, size], number of the visible entity, 0 for the background.

    Raises:
      ValueError: if the size is too small or a code is unknown.
    """
    shape = np.asarray(factors["shape"])
    for name, names in (
        ("shape", shapes.SHAPE_NAMES),
        ("material", raycast_shading.MATERIAL_NAMES),
    ):
        codes = np.asarray(factors[name])[shape != 0]
        if not np.isin(codes, np.arange(1, 1 + len(names))).all():
            raise ValueError(
                f"`{name}` must be in 1 ... {len(names)} ({', '.join(names)}). Received: {np.unique(codes)}."
            )
    stage = _stage(_checked_size(size))
    count, num_frames = np.asarray(factors["position"]).shape[:2]
    video = np.zeros((count, num_frames, size, size, 3), np.uint8)
    mask = np.zeros((count, num_frames, size, size), np.uint8)
    for row in range(count):
        objects = {name: np.asarray(factors[name])[row] for name in ("shape", "material", "rgb")}
        before = None
        for frame in range(num_frames):
            position, angle = (
                np.asarray(factors[name])[row, frame] for name in ("position", "angle")
            )
            entity = np.flatnonzero(objects["shape"])
            entity = entity[clevrer_stories.visible(position[entity].astype(np.float64), _OFFSTAGE)]
            now = [entity.tobytes(), position[entity].tobytes(), angle[entity].tobytes()]
            if now == before:  # nothing moves
                video[row, frame], mask[row, frame] = video[row, frame - 1], mask[row, frame - 1]
                continue
            before = now
            video[row, frame], owner = stage.draw(_scene(objects, position, angle, entity))
            mask[row, frame] = np.concatenate([[0], entity]).astype(np.uint8)[owner]
    return {"video": video, "mask": mask}


def clips(indices, seed=0, variant="clevrer", num_frames=None, size=DEFAULT_SIZE):
    """Draws clips: `factors()` and `render()` in one dict."""
    _checked_size(size)
    drawn = factors(indices, seed, variant, num_frames)
    return {**render(drawn, size), **drawn}


@functools.lru_cache(maxsize=2)
def _stage(size):
    return raycast_stage.Stage(CAMERA, FRAME, (size, size))


def _checked_size(size):
    if not isinstance(size, int | np.integer) or size < MIN_SIZE:
        raise ValueError(f"`size` must be at least {MIN_SIZE} pixels. Received: size={size}.")
    return int(size)


def _checked_frames(variant, num_frames):
    num_frames = variant.num_frames if num_frames is None else num_frames
    if not 1 <= num_frames <= variant.most_frames:
        raise ValueError(
            f"`num_frames` must be in 1 ... {variant.most_frames} for this variant. Received: num_frames={num_frames}."
        )
    return int(num_frames)


def _scene(objects, position, angle, entity):
    """The ray caster's scene of one frame, objects `entity` only."""
    solids = raycast.Solids(
        shape=objects["shape"][entity].astype(np.int64),
        size=np.full(len(entity), SIZE),
        position=position[entity].astype(np.float64),
        rotation=shapes.rotation_about_z(angle[entity].astype(np.float64)),
    )
    return raycast.Scene(
        solids,
        objects["material"][entity].astype(np.int64),
        objects["rgb"][entity].astype(np.float64),
        _LIGHTS,
    )
