"""CLEVR scenes: three to ten spheres, cylinders and cubes of rubber or metal before a gray backdrop.

The scenes follow the rules of the published generator; pictures, masks, amodal masks and depth come
from the ray caster of this folder (`raycast`). Of a scene

  * the number of objects is uniform, camera (0.5 per coordinate) and the three lamps (1.0) are jittered;
  * an object has uniform size, shape, material, colour and azimuth, and a place x, y ~ U(-3, 3) that leaves
    a gap of 0.25 to the other objects and 0.4 along each of the camera's two ground axes. After 50 places
    that do not fit, all objects are drawn anew;
  * all objects are drawn anew until each of them, and the background, shows a least number of pixels in
    the camera's full picture. Published subsets are crops of that picture: an object may lie outside.

Axes: n scenes, N = 1 + greatest number of objects (0 is the background).

Source: Johnson et al. 2017 (scenes, lamps, materials); Kabra et al. 2019 (codes of the factors);
Greff 2019 (crop, CLEVR6); Anciukevicius et al. 2020 (CLEVR-3, CLEVR-5, varied background). Where the
program differs from its description (gap between discs and not centres; 200 pixels; cubes as large as
spheres), the program is followed. Its azimuth slip, degrees used as radians, leaves the azimuth all but
uniform; `rotation` is what is drawn.
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
"""Below, a small object has hardly a pixel."""
MAX_RESTARTS = 5000
"""Scenes whose objects do not fit or hide each other are drawn anew so many times before giving up."""

_PLACES = 50
_HALF_WIDTH = 3.0
_GAP = 0.25
_MARGIN = 0.4
_CAMERA_JITTER = 0.5
_LAMP_JITTER = 1.0
_CAMERA = np.array([7.48113, -6.50764, 5.34367])
# The published program reads these axes before the camera's jitter takes effect.
_RIGHT, _BEHIND = np.array([0.6563, 0.7545]), np.array([-0.7545, 0.6563])
_LAMPS = np.array(
    [[6.44671, -2.90517, 4.25840], [-4.67112, -4.01360, 3.01122], [-1.16850, 2.64602, 5.81574]]
)
_LAMP_PARAMETERS = (
    dict(power=78.54, color=(1.0, 0.93231, 0.81666), side=0.5),
    dict(power=23.562, color=(0.76167, 0.81772, 1.0), side=0.5),
    dict(power=39.27, color=(1.0, 1.0, 1.0), side=1.0),
)
_SUN = raycast.SunLight(direction=(0.4146, -0.1945, 0.8890), strength=0.45)

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
    """Draws what is in the scenes.

    Args:
      indices: integer array [n], scene numbers.
      seed: dataset seed in [0, 2**64).
      variant: name of a `Variant`, or one of your own.

    Returns:
      dict of float32 arrays. Per entity, zeros for the background and absent objects:
        color: [n, N], 1 red, 2 cyan, 3 green, 4 blue, 5 brown, 6 gray, 7 purple, 8 yellow.
        shape: [n, N], 1 sphere, 2 cylinder, 3 cube.
        material: [n, N], 1 rubber, 2 metal.
        size: [n, N], 1 large, 2 small.
        x, y, z: [n, N], centre in the world; z is the height and equals the object's scale.
        rotation: [n, N], azimuth in radians in [0, 2 pi) (the published files hold 0 ... 360).
        rgb: [n, N, 3], linear RGB in [0, 1].
        pixel_coords: [n, N, 3], column and row of the centre in the camera's full picture (pixel 0
          spans [0, 1)) and its depth along the optical axis.
        depth: [n, N], distance from the camera to the centre.
        visibility: [n, N], 1 if the entity exists, also for the background.
      Per scene:
        camera: [n, 3], position; it faces the origin.
        lights: [n, 3, 3], positions of the key, fill and back lamp, which face the origin.
        ground_reflectivity: [n].

    Raises:
      ValueError: for an unknown variant or a bad index, or if a variant's objects find no room.
    """
    variant = get_variant(variant)
    indices = counter_rng.checked_indices(indices)
    result = {
        name: np.zeros(
            (len(indices), variant.num_entities, *(3,) * (name in ("rgb", "pixel_coords"))),
            np.float32,
        )
        for name in _FACTOR_NAMES
    }
    result["visibility"][:, 0] = 1
    result |= _staging(variant, indices, seed)
    for row, index in enumerate(indices):
        objects = _draw_scene(variant, int(index), seed, result["camera"][row])
        for name, values in objects.items():
            result[name][row, 1 : 1 + len(values)] = values
    return result


def render(factors, variant="clevr6", size=None):
    """Draws scenes from their factors.

    Colours are taken from `rgb`, objects with `shape` 0 are not drawn, any number N of entities will do.

    Args:
      factors: dict as `factors()` gives it; `color`, `pixel_coords`, `depth` are not needed.
      variant: name of a `Variant`, or one of your own; gives frame, sizes, metal and channels.
      size: image side in pixels, at least `MIN_SIZE`; None is the variant's default.

    Returns:
      dict with
        image: uint8 [n, size, size, C], sRGB, or its luma.
        mask: uint8 [n, size, size], number of the visible entity, 0 for the background.
        amodal_masks: uint8 {0, 1} [n, N, size, size], all of each entity, hidden or not; ones for the
          background, zeros for absent objects.
        depth_map: float16 [n, size, size], depth along the optical axis.

    Raises:
      ValueError: if the size is too small or a code is unknown.
    """
    variant = get_variant(variant)
    size = _checked_size(variant.default_size if size is None else size)
    shape = np.asarray(factors["shape"])
    for name, names in (
        ("shape", shapes.SHAPE_NAMES),
        ("material", raycast_shading.MATERIAL_NAMES),
        ("size", SIZE_NAMES),
    ):
        codes = np.asarray(factors[name])[shape != 0]
        if not np.isin(codes, np.arange(1, 1 + len(names))).all():
            raise ValueError(
                f"`{name}` must be in 1 ... {len(names)} ({', '.join(names)}). Received: {np.unique(codes)}."
            )

    count, num_entities = shape.shape
    image = np.zeros((count, size, size, variant.channels), np.uint8)
    mask = np.zeros((count, size, size), np.uint8)
    amodal_masks = np.zeros((count, num_entities, size, size), np.uint8)
    amodal_masks[:, 0] = 1
    depth_map = np.zeros((count, size, size), np.float16)
    for row in range(count):
        entity = np.flatnonzero(shape[row])
        scene, camera = _scene(variant, factors, row, entity)
        drawn, hits = raycast.render(scene, camera, variant.frame, (size, size))
        image[row] = drawn if variant.channels == 3 else luma(drawn)
        mask[row] = np.concatenate([[0], entity]).astype(np.uint8)[hits.owner]
        amodal_masks[row, entity] = hits.amodal
        depth_map[row] = hits.depth
    return {"image": image, "mask": mask, "amodal_masks": amodal_masks, "depth_map": depth_map}


def scenes(indices, seed=0, variant="clevr6", size=None):
    """Draws scenes: `factors()` and `render()` in one dict."""
    variant = get_variant(variant)
    _checked_size(variant.default_size if size is None else size)  # before minutes of sampling
    drawn = factors(indices, seed, variant)
    return {**render(drawn, variant, size), **drawn}


def keep_objects(factors, keep):
    """Factors of the same scenes with some of their objects only; the others become absent.

    Args:
      factors: dict as `factors()` gives it.
      keep: bool [n, N], or integers [n] or one integer, the number of the only entity to keep.

    Returns:
      a new dict; entities keep their numbers, the background stays.
    """
    exists = np.asarray(factors["visibility"]) > 0
    keep = np.asarray(keep)
    if keep.dtype != bool:
        if keep.ndim > 1 or not np.issubdtype(keep.dtype, np.integer):
            raise ValueError(
                f"`keep` must be bool [n, N] or integers [n]. Received: shape={keep.shape}, dtype={keep.dtype}."
            )
        keep = np.arange(exists.shape[1]) == np.broadcast_to(keep, len(exists))[:, None]
    if keep.shape != exists.shape:
        raise ValueError(
            f"`keep` must have the shape {exists.shape} of the entities. Received: shape={keep.shape}."
        )
    keep = keep & exists
    kept = dict(factors)
    for name in _FACTOR_NAMES:
        if name in factors:
            values = np.asarray(factors[name])
            kept[name] = values * keep.reshape(keep.shape + (1,) * (values.ndim - 2)).astype(
                values.dtype
            )
    kept["visibility"][:, 0] = 1
    return kept


def luma(image):
    """Luma uint8 [..., 1] of sRGB images uint8 [..., 3]: 0.299 R + 0.587 G + 0.114 B (Rec. 601), rounded."""
    return np.rint(image @ np.array([0.299, 0.587, 0.114]))[..., None].astype(np.uint8)


def _checked_size(size):
    if not isinstance(size, int | np.integer) or size < MIN_SIZE:
        raise ValueError(f"`size` must be at least {MIN_SIZE} pixels. Received: size={size}.")
    return int(size)


def _stream(variant):
    return _STREAM + variant.stream


def _staging(variant, indices, seed):
    """What a scene keeps when its objects are drawn anew: camera, lamps and ground."""
    words = counter_rng.random_words(indices, _SCENE_WORDS, seed=seed, stream=_stream(variant))
    jitter = counter_rng.uniform(words[:, 1:13], -1.0, 1.0).reshape(-1, 4, 3)
    reflectivity = np.array(variant.reflectivities)[
        counter_rng.integers(words[:, 13], len(variant.reflectivities))
    ]
    return {
        "camera": (_CAMERA + _CAMERA_JITTER * jitter[:, 0]).astype(np.float32),
        "lights": (_LAMPS + _LAMP_JITTER * jitter[:, 1:]).astype(np.float32),
        "ground_reflectivity": reflectivity.astype(np.float32),
    }


def _draw_scene(variant, index, seed, camera_position):
    """Objects of one scene: dict of float32 arrays [objects, ...]."""
    camera = raycast.Camera.looking_at(camera_position)
    whole = raycast.Frame.whole(variant.frame.height, variant.frame.width)
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
        objects = _draw_objects(
            variant, words[4:].reshape(variant.max_objects, _OBJECT_WORDS)[:count]
        )
        if objects is None:
            continue
        solids = _solids(variant, objects)
        owner = raycast.cast(solids, camera, whole, (whole.height, whole.width), ground=False).owner
        if np.bincount(owner.ravel(), minlength=count + 1).min() < variant.min_pixels:
            continue
        if variant.excluded and _excluded(variant, objects).any():
            # The whole scene is left out, its number of objects too, as in a filtered file.
            count = None
            continue
        centre = np.stack([objects["x"], objects["y"], objects["z"]]).astype(np.float64)
        objects["pixel_coords"] = np.stack(camera.project(whole, centre), axis=-1)
        objects["depth"] = shapes.norm(centre - camera.position[:, None])
        return objects
    raise ValueError(
        f"No place was found for {count or variant.max_objects} objects of scales {variant.sizes} in {MAX_RESTARTS} tries (scene {index}). "
        f"Lower `max_objects`, `sizes` or `min_pixels` of variant {variant.name!r}."
    )


def _draw_objects(variant, words):
    """Objects from words [objects, _OBJECT_WORDS], or None if one of them finds no place."""
    count = len(words)
    size = counter_rng.integers(words[:, 0], len(SIZE_NAMES))
    scale = np.array(variant.sizes)[size]
    places = counter_rng.uniform(words[:, 5:], -_HALF_WIDTH, _HALF_WIDTH).reshape(count, _PLACES, 2)
    position = np.zeros((count, 2))
    for number in range(count):
        offset = places[number][:, None] - position[:number]  # [places, earlier objects, 2]
        gap = np.hypot(offset[..., 0], offset[..., 1]) - scale[number] - scale[:number]
        margin = np.minimum(np.abs(offset @ _RIGHT), np.abs(offset @ _BEHIND))
        fits = ((gap >= _GAP) & (margin >= _MARGIN)).all(axis=1)
        if not fits.any():
            return None
        position[number] = places[number][np.argmax(fits)]
    allowed = np.array([1 + COLOR_NAMES.index(name) for name in variant.colors])
    color = allowed[counter_rng.integers(words[:, 3], len(allowed))]
    drawn = {
        "size": 1 + size,
        "shape": 1 + counter_rng.integers(words[:, 1], len(shapes.SHAPE_NAMES)),
        "material": 1 + counter_rng.integers(words[:, 2], len(raycast_shading.MATERIAL_NAMES)),
        "color": color,
        "rgb": variant.palette[color],
        "rotation": counter_rng.uniform(words[:, 4], 0.0, 360.0) % (2 * np.pi),
        "x": position[:, 0],
        "y": position[:, 1],
        "z": scale,
        "visibility": np.ones(count),
    }
    return {name: values.astype(np.float32) for name, values in drawn.items()}


def _excluded(variant, objects):
    color, shape = variant.excluded
    return (objects["color"] == 1 + COLOR_NAMES.index(color)) & (
        objects["shape"] == 1 + shapes.SHAPE_NAMES.index(shape)
    )


def _solids(variant, objects):
    """`raycast.Solids` of objects, a dict of arrays [objects]."""
    values = {name: np.asarray(objects[name], np.float64) for name in ("x", "y", "z", "rotation")}
    return raycast.Solids(
        shape=np.asarray(objects["shape"]).astype(np.int64),
        size=np.array(variant.sizes)[np.asarray(objects["size"]).astype(np.int64) - 1],
        position=np.stack([values["x"], values["y"], values["z"]], axis=-1),
        rotation=shapes.rotation_about_z(values["rotation"]),
    )


def _scene(variant, factors, row, entity):
    """The ray caster's scene and camera of one row of `factors`, objects `entity` only."""
    objects = {
        name: np.asarray(factors[name])[row, entity]
        for name in ("shape", "size", "material", "rgb", "x", "y", "z", "rotation")
    }
    lamps = [
        raycast.AreaLight(position=tuple(float(value) for value in position), **parameters)
        for position, parameters in zip(
            np.asarray(factors["lights"])[row], _LAMP_PARAMETERS, strict=True
        )
    ]
    scene = raycast.Scene(
        solids=_solids(variant, objects),
        material=objects["material"].astype(np.int64),
        rgb=np.asarray(objects["rgb"], np.float64),
        lights=(*lamps, _SUN),
        ground_reflectivity=float(np.asarray(factors["ground_reflectivity"])[row]),
        metal_lobes=variant.metal_lobes,
    )
    return scene, raycast.Camera.looking_at(np.asarray(factors["camera"])[row])
