"""CLEVRER-like clips: spheres, cylinders and cubes that enter, slide, collide and leave.

Images and masks come from the ray caster of this folder, motion from rigid bodies in the plane
(`clevrer_physics`). In a clip

  * all objects have the same size, and no two share colour, material and shape;
  * at least one object rests near the middle, and at least one enters. Objects enter from beyond
    the left, right or lower edge of the camera's image, each at a random time, three in four
    towards a resting object; some are already moving when the clip begins. Friction stops them.
    Resting objects have the lower entity numbers;
  * 128 frames, 5 seconds, are simulated, and every `stride`-th is kept; or, in a trimmed variant,
    the first 40 frames of the time when all objects are in view. Clips are resampled until every
    object is in view for half a second and two of them collide in view.

The rendered image is the middle square of the camera's 480 x 320. Camera, lamps, materials and
ground are those of CLEVR without jitter.

Axes: n clips, T frames, N = 1 + greatest number of objects (0 is the background).

Source: Yi et al. 2020 (objects, length, image size); Zablotskaia et al. 2020 (middle square,
trimmed clips, datasets of 3-5 and of 6 objects); Kabra et al. 2019 (codes of the factors). Neither
CLEVRER's scenes nor its physics are published. Chosen here: CLEVR's camera, in which objects of
radius 0.5 look as large as CLEVRER's and motion along the ground is foreshortened alike; equal
masses; restitution, friction and speeds for looks. Lengths are CLEVR's; those of CLEVRER's
annotations are about 2.4 times shorter.
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
"""Side of the square images in pixels."""
MIN_SIZE = 16
"""Below it, an object has hardly a pixel."""

_LIGHTS = (
    *(
        raycast.AreaLight(position=tuple(place), **parameters)
        for place, parameters in zip(
            clevr_scenes.LAMP_POSITIONS.tolist(), clevr_scenes.LAMP_PARAMETERS, strict=True
        )
    ),
    clevr_scenes.SUN,
)
# Objects so many pixels (of the camera's image) outside the kept square change it by at most one
# grey level of 255.
_OFFSTAGE = 150


def factors(indices, seed=0, variant="clevrer", num_frames=None):
    """Samples the objects of the clips and simulates their motion.

    Args:
      indices: integer array [n], clip numbers.
      seed: dataset seed in [0, 2**64).
      variant: name of a variant, or a `Variant` of your own.
      num_frames: T; None for the variant's default.

    Returns:
      dict of float32 arrays, zeros for the background and absent objects. Per entity:
        color: [n, N], 1 red, 2 cyan, 3 green, 4 blue, 5 brown, 6 gray, 7 purple, 8 yellow.
        shape: [n, N], 1 sphere, 2 cylinder, 3 cube.
        material: [n, N], 1 rubber, 2 metal.
        rgb: [n, N, 3], linear RGB in [0, 1].
        visibility: [n, N], 1 if the entity exists (it may be out of view), also for entity 0.
      Per frame and entity:
        position: [n, T, N, 3], world coordinates of the centre, z upwards.
        velocity: [n, T, N, 3], units per second.
        angle: [n, T, N], azimuth in radians in [0, 2 pi).
        in_view: [n, T, N], 1 if the centre lies inside the image, visible or hidden.
        collision: [n, T, N], 1 if the object has collided since the previous kept frame.
        partner: [n, T, N], number of the (last) entity that it collided with, or 0.
      Per clip:
        first_frame: [n], number of the first kept frame among the simulated ones.

    Raises:
      ValueError: if the variant is unknown, an index, the seed or `num_frames` is out of range, or
        no clip fits the rules.
    """
    variant = get_variant(variant)
    num_frames = _checked_frames(variant, num_frames)
    indices = counter_rng.checked_indices(indices)
    per_entity = (len(indices), variant.num_entities)
    per_frame = (len(indices), num_frames, variant.num_entities)
    layout = {
        "color": per_entity,
        "shape": per_entity,
        "material": per_entity,
        "visibility": per_entity,
        "rgb": (*per_entity, 3),
        "position": (*per_frame, 3),
        "velocity": (*per_frame, 3),
        "angle": per_frame,
        "in_view": per_frame,
        "collision": per_frame,
        "partner": per_frame,
        "first_frame": (len(indices),),
    }
    result = {name: np.zeros(axes, np.float32) for name, axes in layout.items()}
    result["visibility"][:, 0] = 1

    for row, index in enumerate(indices):
        objects, tracks, first = clevrer_stories.sample(variant, num_frames, int(index), seed)
        count = len(objects["shape"])
        for name, values in objects.items():
            result[name][row, 1 : 1 + count] = values
        for name, values in tracks.items():
            result[name][row, :, 1 : 1 + count] = values
        result["first_frame"][row] = first
    return result


def render(factors, size=DEFAULT_SIZE):
    """Renders clips from their factors.

    Args:
      factors: dict as `factors()` returns it, of which `shape`, `material`, `rgb`, `position` and
        `angle` are needed; an object with `shape` 0 is not rendered.
      size: image side in pixels, at least `MIN_SIZE`.

    Returns:
      dict with
        video: uint8 [n, T, size, size, 3], sRGB.
        mask: uint8 [n, T, size, size], number of the visible entity, 0 for the background.

    Raises:
      ValueError: if the size is too small or a code is unknown.
    """
    exists = np.asarray(factors["shape"]) != 0
    clevr_scenes.check_codes("shape", factors, exists, shapes.SHAPE_NAMES)
    clevr_scenes.check_codes("material", factors, exists, raycast_shading.MATERIAL_NAMES)
    stage = _stage(_checked_size(size))

    count, num_frames = np.asarray(factors["position"]).shape[:2]
    video = np.zeros((count, num_frames, size, size, 3), np.uint8)
    mask = np.zeros((count, num_frames, size, size), np.uint8)
    for row in range(count):
        objects = {name: np.asarray(factors[name])[row] for name in ("shape", "material", "rgb")}
        position = np.asarray(factors["position"])[row]
        angle = np.asarray(factors["angle"])[row]
        _render_clip(stage, objects, position, angle, video[row], mask[row])
    return {"video": video, "mask": mask}


def clips(indices, seed=0, variant="clevrer", num_frames=None, size=DEFAULT_SIZE):
    """Generates clips: the results of `factors()` and `render()` in one dict."""
    # A wrong size shows before minutes of sampling.
    _checked_size(size)
    sampled = factors(indices, seed, variant, num_frames)
    return {**render(sampled, size), **sampled}


@functools.lru_cache(maxsize=2)
def _stage(size):
    """Returns the camera's stage, whose rays are computed once per image size."""
    return raycast_stage.Stage(CAMERA, FRAME, (size, size))


def _render_clip(stage, objects, position, angle, video, mask):
    """Renders one clip into `video` [T, H, W, 3] and `mask` [T, H, W].

    Objects is a dict of arrays [N, ...], position [T, N, 3], angle [T, N].
    """
    previous = None
    for frame in range(len(video)):
        entity = np.flatnonzero(objects["shape"])
        near = clevrer_stories.visible(position[frame, entity].astype(np.float64), _OFFSTAGE)
        entity = entity[near]

        # Where nothing moves, the frame repeats.
        state = [
            values.tobytes() for values in (entity, position[frame, entity], angle[frame, entity])
        ]
        if state == previous:
            video[frame] = video[frame - 1]
            mask[frame] = mask[frame - 1]
            continue
        previous = state

        # The ray caster numbers the rendered objects without gaps.
        video[frame], owner = stage.render(_scene(objects, position[frame], angle[frame], entity))
        mask[frame] = np.concatenate([[0], entity]).astype(np.uint8)[owner]


def _checked_size(size):
    """Returns an image side as an int, or raises a ValueError."""
    if not isinstance(size, int | np.integer) or size < MIN_SIZE:
        raise ValueError(f"`size` must be at least {MIN_SIZE} pixels. Received: size={size}.")
    return int(size)


def _checked_frames(variant, num_frames):
    """Returns the number of frames as an int, or raises a ValueError."""
    if num_frames is None:
        num_frames = variant.num_frames
    if not 1 <= num_frames <= variant.most_frames:
        raise ValueError(
            f"`num_frames` must be in 1 ... {variant.most_frames} for this variant. "
            f"Received: num_frames={num_frames}."
        )
    return int(num_frames)


def _scene(objects, position, angle, entity):
    """Returns the ray caster's scene for objects `entity` of one frame."""
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
