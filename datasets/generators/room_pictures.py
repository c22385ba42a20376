"""The room of `rooms`: where a camera on the ring looks, and one picture of what it sees.

Surfaces are matt under one sun: brightness 0.3 + 0.7 (1 + cos angle) / 2, on the floor 0.65 of that in the shadow of a
solid. Parts come from one ray through each pixel's centre, colours are the mean of four rays.

Time: 9 ms of a core for a picture of three solids at 64 x 64.

Axes: M solids, H x W pixels of five rays: the centre's and four more; vectors of m rays are arrays [3, m].
"""

import numpy as np

from . import raycast

SKY, FLOOR, WALL, OTHER_WALL, FIRST_OBJECT = 0, 1, 2, 3, 4
"""Numbers of the parts of a picture."""
SKY_COLOR = (0.53, 0.75, 0.92)

_HALF_WIDTH, _WALL_HEIGHT = 3.5, 3.0
_RING, _AIM = 3.0, 1.5
_FIELD = 2 * np.tan(np.pi / 6)
_SUN = np.array([0.40, 0.25, np.sqrt(1 - 0.40**2 - 0.25**2)])
_SHADOW = 0.65

# What a ray meets, besides solids: sky, floor, and the sides of the wall at +x, +y, -x, -y. Their inward normals.
_NORMALS = np.array(
    [(0, 0, 1), (0, 0, 1), (-1, 0, 0), (0, -1, 0), (1, 0, 0), (0, 1, 0)], np.float64
)
_PART_OF_FACE = np.array([SKY, FLOOR, WALL, WALL, OTHER_WALL, OTHER_WALL], np.uint8)

# Where rays pass, in pixels from the centre: the centre for the parts, a rotated grid for the colours.
_RAYS = np.array(
    [(0, 0), (-0.125, -0.375), (0.375, -0.125), (0.125, 0.375), (-0.375, 0.125)], np.float32
)


def pixel_coords(centre, azimuth, pitch, size):
    """Where points of the room are in the picture.

    Args:
      centre: [n, M, 3].
      azimuth: [n] or [n, T], of the camera on its ring, radians.
      pitch: the same of its pitch, upwards.
      size: side of the picture in pixels.

    Returns:
      [n, (T,) M, 3]: column, row, and depth along the optical axis.
    """
    position, axes = _axes(azimuth, pitch)
    centre = centre if azimuth.ndim == 1 else centre[:, None]
    offset = centre - position[..., None, :]
    right, up, depth = ((axes[..., None, i, :] * offset).sum(axis=-1) for i in range(3))
    step = depth * (_FIELD / size)
    return np.stack([size / 2 + right / step, size / 2 - up / step, depth], axis=-1)


def distance(centre, azimuth, pitch):
    """Distances [n, (T,) M] of points from the camera; arguments as of `pixel_coords`."""
    position, _ = _axes(azimuth, pitch)
    centre = centre if azimuth.ndim == 1 else centre[:, None]
    return np.sqrt(((centre - position[..., None, :]) ** 2).sum(axis=-1))


def picture(solids, rgb, wall_color, floor_color, azimuth, pitch, size):
    """Draws one picture.

    Args:
      solids: `raycast.Solids` on the floor, within the ring.
      rgb: [M, 3], RGB in [0, 1], as of the next two.
      wall_color: [3].
      floor_color: [3].
      azimuth: of the camera on its ring, radians.
      pitch: of the camera, radians, upwards.
      size: side of the picture in pixels.

    Returns:
      image: uint8 [H, W, 3].
      parts: uint8 [H, W], `SKY`, `FLOOR`, `WALL`, `OTHER_WALL`, or `FIRST_OBJECT` + index of the visible solid.
      amodal: bool [M, H, W], all of each solid, hidden or not.
    """
    camera = raycast.Camera(*_axes(np.float64(azimuth), np.float64(pitch)), _FIELD)
    step = np.float32(_FIELD / size)
    right, up, forward = camera.axes[:, :, None, None, None].astype(np.float32)
    columns, rows = (
        np.float32(0.5 - size / 2) + np.arange(size, dtype=np.float32) + _RAYS[:, axis, None]
        for axis in (0, 1)
    )
    rays = (
        forward + right * (step * columns[:, None, :]) - up * (step * rows[:, :, None])
    )  # [3, 5, H, W]
    origin = camera.position[:, None].astype(np.float32)
    face, depth = (
        values.reshape(rays.shape[1:]) for values in _background(origin, rays.reshape(3, -1))
    )

    owner = np.zeros(face.shape, np.uint8)
    amodal = np.zeros((len(solids), size, size), bool)
    for index in range(len(solids)):
        window = _window(camera, size, solids.bounding_corners(index))
        inner = rays[:, :, *window]
        if not inner.size:
            continue
        t = solids.first_hit(index, origin, inner.reshape(3, -1)).reshape(inner.shape[1:])
        amodal[index][window] = np.isfinite(t[0])
        closer = t < depth[:, *window]
        depth[:, *window][closer] = t[closer]
        owner[:, *window][closer] = index + 1

    parts = np.where(owner[0] > 0, FIRST_OBJECT - 1 + owner[0], _PART_OF_FACE[face[0]])
    rays, face, depth, owner = rays[:, 1:], face[1:], depth[1:], owner[1:]
    faces = np.array([SKY_COLOR, floor_color, *4 * [wall_color]])
    faces[1:] *= _brightness(_NORMALS[1:].T)[:, None]
    color = faces[face]  # [4, H, W, 3]
    floor = (face == 1) & (owner == 0)
    color[floor] *= np.where(
        _in_shadow(solids, origin + depth[floor] * rays[:, floor]), _SHADOW, 1
    )[:, None]
    for index in range(len(solids)):
        own = owner == index + 1
        normal = solids.normal(index, origin + depth[own] * rays[:, own])
        color[own] = rgb[index] * _brightness(normal)[:, None]
    return np.rint(255 * color.mean(axis=0)).astype(np.uint8), parts, amodal


def _axes(azimuth, pitch):
    """Position and axes (right, up, forward) of the camera: [..., 3] and [..., 3, 3]."""
    cos, sin, zero = np.cos(azimuth), np.sin(azimuth), np.zeros_like(azimuth)
    position = np.stack([_RING * cos, _RING * sin, _AIM - _RING * np.tan(pitch)], axis=-1)
    right = np.stack([-sin, cos, zero], axis=-1)
    up = np.stack([cos * np.sin(pitch), sin * np.sin(pitch), np.cos(pitch)], axis=-1)
    forward = np.stack([-cos * np.cos(pitch), -sin * np.cos(pitch), np.sin(pitch)], axis=-1)
    return position, np.stack([right, up, forward], axis=-2)


def _brightness(normal):
    """Brightness [m] of surfaces of unit normals [3, m] in the sun."""
    return 0.3 + 0.35 * (1 + _SUN.astype(normal.dtype) @ normal)


def _background(origin, rays):
    """What rays [3, m] from a point [3, 1] inside meet in an empty room: number of the face uint8 [m] and depth [m]."""
    with np.errstate(divide="ignore"):
        to_x, to_y = (
            (np.float32(_HALF_WIDTH) - np.sign(rays[i]) * origin[i]) / np.abs(rays[i])
            for i in (0, 1)
        )
    depth = np.minimum(to_x, to_y)
    side = np.where(to_x < to_y, 0, 1)
    face = (2 + side + 2 * (np.where(side == 0, rays[0], rays[1]) < 0)).astype(np.uint8)
    height = origin[2] + depth * rays[2]
    face[height > _WALL_HEIGHT] = 0
    depth[height > _WALL_HEIGHT] = np.inf
    low = height < 0
    face[low], depth[low] = 1, -origin[2] / rays[2][low]
    return face, depth


def _window(camera, size, corners):
    """Slices of the rows and columns of pixels that may see a part of a box with these corners [3, 8]."""
    column, row, depth = camera.project(raycast.Frame.whole(size, size), corners)
    if depth.min() <= 1e-3:  # it reaches behind the camera
        return (slice(None), slice(None)) if depth.max() > 0 else (slice(0), slice(0))
    ends = ((np.floor(place.min()), np.ceil(place.max())) for place in (row, column))
    return tuple(slice(*np.clip(end, 0, size).astype(int)) for end in ends)


def _in_shadow(solids, point):
    """Whether points [3, m] of the floor lie in the shadow of a solid: bool [m]."""
    shaded = np.zeros(point.shape[1], bool)
    point = np.stack([point[0], point[1], np.zeros_like(point[0])])
    sun = _SUN[:, None].astype(point.dtype)
    for index in range(len(solids)):
        # The ball around the solid throws an ellipse, whose longer half is its radius over the sun's height.
        aside = solids.position[index][:2] - _SUN[:2] * (solids.position[index][2] / _SUN[2])
        reach = solids.bounding_radius(index) / _SUN[2]
        near = np.flatnonzero((point[0] - aside[0]) ** 2 + (point[1] - aside[1]) ** 2 < reach**2)
        hit = solids.first_hit(index, point[:, near], np.broadcast_to(sun, (3, near.size)))
        shaded[near[np.isfinite(hit)]] = True
    return shaded
