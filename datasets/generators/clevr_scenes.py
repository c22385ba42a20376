"""CLEVR scenes: three to ten spheres, cylinders and cubes of rubber or metal on a gray backdrop.

The scenes follow the rules of the published generator; images, masks, amodal masks and depth come
from the ray caster of this folder (`raycast`). In a scene

  * the number of objects is uniform; the camera (0.5 per coordinate) and the three lamps (1.0) are
    jittered;
  * an object has uniform size, shape, material, colour and azimuth, and a position x, y ~ U(-3, 3)
    with a gap of 0.25 to the other objects and of 0.4 along each of the camera's two ground axes.
    After 50 positions that do not fit, all objects are resampled;
  * all objects are resampled until each of them, and the background, shows a least number of pixels
    in the camera's full image. Published subsets are crops of that image and may miss an object.

Axes: n scenes, N = 1 + greatest number of objects (0 is the background).

Source: Johnson et al. 2017 (scenes, lamps, materials); Kabra et al. 2019 (codes of the factors);
Greff 2019 (crop, CLEVR6); Anciukevicius et al. 2020 (CLEVR-3, CLEVR-5, varied background). Where
the program differs from its description (gap between discs and not centres; 200 pixels; cubes as
large as spheres), this module follows the program. The program uses degrees as radians, which
leaves the azimuth nearly uniform; `rotation` is the rendered azimuth.
"""

import numpy as np

from . import counter_rng, raycast, raycast_shading
from . import raycast_shapes as shapes
from .clevr_variants import COLOR_NAMES, SIZE_NAMES, VARIANTS, Variant, get_variant

__all__ = [
    "COLOR_NAMES",
    "SIZE_NAMES",
    "VARIANTS",
    "Variant",
    "factors",
    "get_variant",
    "keep_objects",
    "luma",
    "render",
    "scenes",
]

MIN_SIZE = 16
"""Below it, a small object has hardly a pixel."""
MAX_RESTARTS = 5000
"""Greatest number of attempts at a scene whose objects do not fit or hide each other."""

CAMERA_POSITION = np.array([7.48113, -6.50764, 5.34367])
"""Position of the camera without jitter."""
LAMP_POSITIONS = np.array(
    [[6.44671, -2.90517, 4.25840], [-4.67112, -4.01360, 3.01122], [-1.16850, 2.64602, 5.81574]]
)
"""Positions of the key, fill and back lamp without jitter, [3, 3]."""
LAMP_PARAMETERS = (
    dict(power=78.54, color=(1.0, 0.93231, 0.81666), side=0.5),
    dict(power=23.562, color=(0.76167, 0.81772, 1.0), side=0.5),
    dict(power=39.27, color=(1.0, 1.0, 1.0), side=1.0),
)
"""Arguments of `raycast.AreaLight` for the key, fill and back lamp."""
SUN = raycast.SunLight(direction=(0.4146, -0.1945, 0.8890), strength=0.45)

_CAMERA_JITTER = 0.5
_LAMP_JITTER = 1.0
# Positions tried per object.
_PLACES = 50
_HALF_WIDTH = 3.0
_GAP = 0.25
_MARGIN = 0.4
# The published program reads these axes before the camera's jitter takes effect.
_RIGHT = np.array([0.6563, 0.7545])
_BEHIND = np.array([-0.7545, 0.6563])

_STREAM = 0x636C7600
_SCENE_WORDS = 16
_OBJECT_WORDS = 5 + 2 * _PLACES

_FACTOR_NAMES = (
    "color",
    "shape",
    "material",
    "size",
    "x",
    "y",
    "z",
    "rotation",
    "rgb",
    "pixel_coords",
    "depth",
    "visibility",
)


def factors(indices, seed=0, variant="clevr6"):
    """Samples the contents of the scenes.

    Args:
      indices: integer array [n], scene numbers.
      seed: dataset seed in [0, 2**64).
      variant: name of a variant, or a `Variant` of your own.

    Returns:
      dict of float32 arrays. Per entity, zeros for the background and absent objects:
        color: [n, N], 1 red, 2 cyan, 3 green, 4 blue, 5 brown, 6 gray, 7 purple, 8 yellow.
        shape: [n, N], 1 sphere, 2 cylinder, 3 cube.
        material: [n, N], 1 rubber, 2 metal.
        size: [n, N], 1 large, 2 small.
        x, y, z: [n, N], world coordinates of the centre; z is the height and equals the scale.
        rotation: [n, N], azimuth in radians in [0, 2 pi) (the published files hold 0 ... 360).
        rgb: [n, N, 3], linear RGB in [0, 1].
        pixel_coords: [n, N, 3], column and row of the centre in the camera's full image (pixel 0
          spans [0, 1)) and its depth along the optical axis.
        depth: [n, N], distance from the camera to the centre.
        visibility: [n, N], 1 if the entity exists, also for the background.
      Per scene:
        camera: [n, 3], position; it faces the origin.
        lights: [n, 3, 3], positions of the key, fill and back lamp, which face the origin.
        ground_reflectivity: [n].

    Raises:
      ValueError: if the variant is unknown, an index or the seed is out of range, or the objects
        of a scene find no room.
    """
    variant = get_variant(variant)
    indices = counter_rng.checked_indices(indices)
    result = {}
    for name in _FACTOR_NAMES:
        components = (3,) if name in ("rgb", "pixel_coords") else ()
        result[name] = np.zeros((len(indices), variant.num_entities, *components), np.float32)
    result["visibility"][:, 0] = 1
    result |= _staging(variant, indices, seed)

    for row, index in enumerate(indices):
        objects = _sample_scene(variant, int(index), seed, result["camera"][row])
        for name, values in objects.items():
            result[name][row, 1 : 1 + len(values)] = values
    return result


def render(factors, variant="clevr6", size=None):
    """Renders scenes from their factors.

    Args:
      factors: dict as `factors()` returns it, for any number N of entities; `color`, `pixel_coords`
        and `depth` are not needed. Colours come from `rgb`; an object with `shape` 0 is not
        rendered.
      variant: name of a variant, or a `Variant` of your own; determines frame, sizes, metal and
        channels.
      size: image side in pixels, at least `MIN_SIZE`; None for the variant's default.

    Returns:
      dict with
        image: uint8 [n, size, size, C], sRGB or its luma.
        mask: uint8 [n, size, size], number of the visible entity, 0 for the background.
        amodal_masks: uint8 {0, 1} [n, N, size, size], all pixels of each entity, visible or hidden;
          ones for the background, zeros for absent objects.
        depth_map: float16 [n, size, size], depth along the optical axis.

    Raises:
      ValueError: if the size is too small or a code is unknown.
    """
    variant = get_variant(variant)
    size = _checked_size(variant.default_size if size is None else size)
    shape = np.asarray(factors["shape"])
    exists = shape != 0
    check_codes("shape", factors, exists, shapes.SHAPE_NAMES)
    check_codes("material", factors, exists, raycast_shading.MATERIAL_NAMES)
    check_codes("size", factors, exists, SIZE_NAMES)

    count, num_entities = shape.shape
    image = np.zeros((count, size, size, variant.channels), np.uint8)
    mask = np.zeros((count, size, size), np.uint8)
    amodal_masks = np.zeros((count, num_entities, size, size), np.uint8)
    amodal_masks[:, 0] = 1
    depth_map = np.zeros((count, size, size), np.float16)

    for row in range(count):
        entity = np.flatnonzero(shape[row])
        scene, camera = _scene(variant, factors, row, entity)
        rgb, hits = raycast.render(scene, camera, variant.frame, (size, size))
        image[row] = rgb if variant.channels == 3 else luma(rgb)
        # The ray caster numbers the rendered objects without gaps.
        mask[row] = np.concatenate([[0], entity]).astype(np.uint8)[hits.owner]
        amodal_masks[row, entity] = hits.amodal
        depth_map[row] = hits.depth
    return {"image": image, "mask": mask, "amodal_masks": amodal_masks, "depth_map": depth_map}


def scenes(indices, seed=0, variant="clevr6", size=None):
    """Generates scenes: the results of `factors()` and `render()` in one dict."""
    variant = get_variant(variant)
    # A wrong size shows before minutes of sampling.
    size = _checked_size(variant.default_size if size is None else size)
    sampled = factors(indices, seed, variant)
    return {**render(sampled, variant, size), **sampled}


def keep_objects(factors, keep):
    """Removes all but some objects from scenes.

    Args:
      factors: dict as `factors()` returns it.
      keep: bool [n, N], the entities to keep; or integers [n] or one integer, the number of the
        only entity to keep.

    Returns:
      a new dict, in which the other objects are absent; entities keep their numbers, and the
      background stays.

    Raises:
      ValueError: if `keep` has a wrong type or shape.
    """
    exists = np.asarray(factors["visibility"]) > 0
    keep = np.asarray(keep)
    if keep.dtype != bool:
        if keep.ndim > 1 or not np.issubdtype(keep.dtype, np.integer):
            raise ValueError(
                "`keep` must be bool [n, N] or integers [n]. "
                f"Received: shape={keep.shape}, dtype={keep.dtype}."
            )
        keep = np.arange(exists.shape[1]) == np.broadcast_to(keep, len(exists))[:, None]
    if keep.shape != exists.shape:
        raise ValueError(
            f"`keep` must have the shape {exists.shape} of the entities. "
            f"Received: shape={keep.shape}."
        )

    keep = keep & exists
    kept = dict(factors)
    for name in _FACTOR_NAMES:
        if name in factors:
            values = np.asarray(factors[name])
            weight = keep.reshape(keep.shape + (1,) * (values.ndim - 2)).astype(values.dtype)
            kept[name] = values * weight
    kept["visibility"][:, 0] = 1
    return kept


def luma(image):
    """Returns the luma uint8 [..., 1] of sRGB images uint8 [..., 3].

    It is 0.299 R + 0.587 G + 0.114 B (Rec. 601), rounded.
    """
    return np.rint(image @ np.array([0.299, 0.587, 0.114]))[..., None].astype(np.uint8)


def check_codes(name, factors, exists, names):
    """Raises a ValueError if an existing object has a code outside 1 ... len(names) in a factor."""
    codes = np.asarray(factors[name])[exists]
    if not np.isin(codes, np.arange(1, 1 + len(names))).all():
        raise ValueError(
            f"`{name}` must be in 1 ... {len(names)} ({', '.join(names)}). "
            f"Received: {np.unique(codes)}."
        )


def _checked_size(size):
    """Returns an image side as an int, or raises a ValueError."""
    if not isinstance(size, int | np.integer) or size < MIN_SIZE:
        raise ValueError(f"`size` must be at least {MIN_SIZE} pixels. Received: size={size}.")
    return int(size)


def _stream(variant):
    """Returns the number of a variant's random stream."""
    return _STREAM + variant.stream


def _staging(variant, indices, seed):
    """Samples camera, lamps and ground, which remain when objects are resampled."""
    words = counter_rng.random_words(indices, _SCENE_WORDS, seed=seed, stream=_stream(variant))
    jitter = counter_rng.uniform(words[:, 1:13], -1.0, 1.0).reshape(-1, 4, 3)
    choice = counter_rng.integers(words[:, 13], len(variant.reflectivities))
    reflectivity = np.array(variant.reflectivities)[choice]
    return {
        "camera": (CAMERA_POSITION + _CAMERA_JITTER * jitter[:, 0]).astype(np.float32),
        "lights": (LAMP_POSITIONS + _LAMP_JITTER * jitter[:, 1:]).astype(np.float32),
        "ground_reflectivity": reflectivity.astype(np.float32),
    }


def _sample_scene(variant, index, seed, camera_position):
    """Samples the objects of one scene: dict of float32 arrays [objects, ...]."""
    camera = raycast.Camera.looking_at(camera_position)
    whole = raycast.Frame.whole(variant.frame.height, variant.frame.width)

    # The number of objects survives rejections, otherwise scenes of few objects would prevail.
    count = None
    for attempt in range(1, 1 + MAX_RESTARTS):
        words = counter_rng.random_words(
            [index],
            4 + _OBJECT_WORDS * variant.max_objects,
            seed=seed,
            stream=_stream(variant),
            attempt=attempt,
        )[0]
        if count is None:
            choices = variant.max_objects - variant.min_objects + 1
            count = variant.min_objects + int(counter_rng.integers(words[0], choices))

        object_words = words[4:].reshape(variant.max_objects, _OBJECT_WORDS)[:count]
        objects = _sample_objects(variant, object_words)
        if objects is None or _hides_something(variant, objects, camera, whole):
            continue
        if variant.excluded and _excluded(variant, objects).any():
            # As in a filtered file, a new scene has a new number of objects.
            count = None
            continue

        centre = np.stack([objects["x"], objects["y"], objects["z"]]).astype(np.float64)
        objects["pixel_coords"] = np.stack(camera.project(whole, centre), axis=-1)
        objects["depth"] = shapes.norm(centre - camera.position[:, None])
        return objects
    raise ValueError(
        f"No place was found for {count or variant.max_objects} objects of scales {variant.sizes} "
        f"in {MAX_RESTARTS} tries (scene {index}). Lower `max_objects`, `sizes` or `min_pixels` of "
        f"variant {variant.name!r}."
    )


def _hides_something(variant, objects, camera, whole):
    """Tells whether an object, or the background, shows too few pixels of the full image."""
    solids = _solids(variant, objects)
    owner = raycast.cast(solids, camera, whole, (whole.height, whole.width), ground=False).owner
    pixels = np.bincount(owner.ravel(), minlength=1 + len(solids))
    return pixels.min() < variant.min_pixels


def _sample_objects(variant, words):
    """Samples objects from words [objects, _OBJECT_WORDS]; None if one finds no position."""
    size = counter_rng.integers(words[:, 0], len(SIZE_NAMES))
    scale = np.array(variant.sizes)[size]
    position = _sample_positions(words[:, 5:], scale)
    if position is None:
        return None

    allowed = np.array([1 + COLOR_NAMES.index(name) for name in variant.colors])
    color = allowed[counter_rng.integers(words[:, 3], len(allowed))]
    sampled = {
        "size": 1 + size,
        "shape": 1 + counter_rng.integers(words[:, 1], len(shapes.SHAPE_NAMES)),
        "material": 1 + counter_rng.integers(words[:, 2], len(raycast_shading.MATERIAL_NAMES)),
        "color": color,
        "rgb": variant.palette[color],
        "rotation": counter_rng.uniform(words[:, 4], 0.0, 360.0) % (2 * np.pi),
        "x": position[:, 0],
        "y": position[:, 1],
        "z": scale,
        "visibility": np.ones(len(words)),
    }
    return {name: values.astype(np.float32) for name, values in sampled.items()}


def _sample_positions(words, scale):
    """Places objects of `scale` [objects] in turn: [objects, 2], or None if one finds no place."""
    count = len(scale)
    places = counter_rng.uniform(words, -_HALF_WIDTH, _HALF_WIDTH).reshape(count, _PLACES, 2)
    position = np.zeros((count, 2))
    for number in range(count):
        offset = places[number][:, None] - position[:number]  # [places, earlier objects, 2]
        gap = np.hypot(offset[..., 0], offset[..., 1]) - scale[number] - scale[:number]
        margin = np.minimum(np.abs(offset @ _RIGHT), np.abs(offset @ _BEHIND))
        fits = ((gap >= _GAP) & (margin >= _MARGIN)).all(axis=1)
        if not fits.any():
            return None
        position[number] = places[number][np.argmax(fits)]
    return position


def _excluded(variant, objects):
    """Tells which objects have the colour and shape that the variant excludes: bool [objects]."""
    color, shape = variant.excluded
    same_color = objects["color"] == 1 + COLOR_NAMES.index(color)
    return same_color & (objects["shape"] == 1 + shapes.SHAPE_NAMES.index(shape))


def _solids(variant, objects):
    """Returns the `raycast.Solids` of objects, a dict of arrays [objects]."""
    values = {name: np.asarray(objects[name], np.float64) for name in ("x", "y", "z", "rotation")}
    return raycast.Solids(
        shape=np.asarray(objects["shape"]).astype(np.int64),
        size=np.array(variant.sizes)[np.asarray(objects["size"]).astype(np.int64) - 1],
        position=np.stack([values["x"], values["y"], values["z"]], axis=-1),
        rotation=shapes.rotation_about_z(values["rotation"]),
    )


def _scene(variant, factors, row, entity):
    """Returns the ray caster's scene and camera for objects `entity` of one row of `factors`."""
    objects = {
        name: np.asarray(factors[name])[row, entity]
        for name in ("shape", "size", "material", "rgb", "x", "y", "z", "rotation")
    }
    lamps = [
        raycast.AreaLight(position=tuple(float(value) for value in position), **parameters)
        for position, parameters in zip(
            np.asarray(factors["lights"])[row], LAMP_PARAMETERS, strict=True
        )
    ]

    scene = raycast.Scene(
        solids=_solids(variant, objects),
        material=objects["material"].astype(np.int64),
        rgb=np.asarray(objects["rgb"], np.float64),
        lights=(*lamps, SUN),
        ground_reflectivity=float(np.asarray(factors["ground_reflectivity"])[row]),
        metal_lobes=variant.metal_lobes,
    )
    return scene, raycast.Camera.looking_at(np.asarray(factors["camera"])[row])
