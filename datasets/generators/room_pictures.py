"""The room of `rooms`: its camera on a ring, and a renderer for one image.

Surfaces are matt under one sun: brightness 0.3 + 0.7 (1 + cos angle) / 2; the shadow of a solid on
the floor has 0.65 of that. Parts come from one ray through each pixel's centre, colours are the
mean of four rays.

Time: 9 ms on one core for an image of three solids at 64 x 64.

Axes: M solids, H x W pixels of five rays: through the centre and four more; vectors of m rays are
arrays [3, m].
"""

import numpy as np

from . import raycast

SKY = 0
FLOOR = 1
WALL = 2
OTHER_WALL = 3
FIRST_OBJECT = 4
"""Number of the first object in `parts`, after those of sky, floor and the halves of the wall."""
SKY_COLOR = (0.53, 0.75, 0.92)

_HALF_WIDTH = 3.5
_WALL_HEIGHT = 3.0
# Radius of the camera's ring, and height of the point above the middle that it faces.
_RING = 3.0
_AIM = 1.5
# Width of the field of view at depth 1.
_FIELD = 2 * np.tan(np.pi / 6)
_SUN = np.array([0.40, 0.25, np.sqrt(1 - 0.40**2 - 0.25**2)])
_SHADOW = 0.65

# Faces that a ray meets besides solids: sky, floor, and the sides of the wall at +x, +y, -x, -y.
_SKY_FACE = 0
_FLOOR_FACE = 1
_FIRST_WALL_FACE = 2
# Inward normals of the faces.
_NORMALS = np.array(
    [(0, 0, 1), (0, 0, 1), (-1, 0, 0), (0, -1, 0), (1, 0, 0), (0, 1, 0)], np.float64
)
_PART_OF_FACE = np.array([SKY, FLOOR, WALL, WALL, OTHER_WALL, OTHER_WALL], np.uint8)

# Offsets (x, y) of a pixel's rays from its centre, in pixels: the centre for the parts, a rotated
# grid for the colours.
_RAYS = np.array(
    [(0, 0), (-0.125, -0.375), (0.375, -0.125), (0.125, 0.375), (-0.375, 0.125)], np.float32
)


def pixel_coords(centre, azimuth, pitch, size):
    """Projects points of the room into the image.

    Args:
      centre: [n, M, 3].
      azimuth: [n] or [n, T], of the camera on its ring, radians.
      pitch: [n] or [n, T], of the camera, radians, upwards.
      size: image side in pixels.

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
    """Returns distances [n, (T,) M] from the camera to points; arguments as in `pixel_coords`."""
    position, _ = _axes(azimuth, pitch)
    centre = centre if azimuth.ndim == 1 else centre[:, None]
    return np.sqrt(((centre - position[..., None, :]) ** 2).sum(axis=-1))


def render(solids, rgb, wall_color, floor_color, azimuth, pitch, size):
    """Renders one image.

    Args:
      solids: `raycast.Solids` on the floor, within the ring.
      rgb: [M, 3], colours of the solids as RGB in [0, 1].
      wall_color: [3], RGB in [0, 1].
      floor_color: [3], RGB in [0, 1].
      azimuth: of the camera on its ring, radians.
      pitch: of the camera, radians, upwards.
      size: image side in pixels.

    Returns:
      image: uint8 [H, W, 3].
      parts: uint8 [H, W], `SKY`, `FLOOR`, `WALL`, `OTHER_WALL`, or `FIRST_OBJECT` + index of the
        visible solid.
      amodal: bool [M, H, W], all pixels of each solid, visible or hidden.
    """
    camera = raycast.Camera(*_axes(np.float64(azimuth), np.float64(pitch)), _FIELD)
    origin = camera.position[:, None].astype(np.float32)
    rays = _rays(camera, size)
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

    # The ray through the centre decides on the part, the other four on the colour.
    parts = np.where(owner[0] > 0, FIRST_OBJECT - 1 + owner[0], _PART_OF_FACE[face[0]])
    face_colors = np.array([SKY_COLOR, floor_color, *4 * [wall_color]])
    color = _colors(solids, rgb, face_colors, origin, rays[:, 1:], face[1:], depth[1:], owner[1:])
    return np.rint(255 * color.mean(axis=0)).astype(np.uint8), parts, amodal


def _rays(camera, size):
    """Returns the directions of all rays, of depth 1: float32 [3, 5, H, W]."""
    step = np.float32(_FIELD / size)
    right, up, forward = camera.axes[:, :, None, None, None].astype(np.float32)
    columns, rows = (
        np.float32(0.5 - size / 2) + np.arange(size, dtype=np.float32) + _RAYS[:, axis, None]
        for axis in (0, 1)
    )
    return forward + right * (step * columns[:, None, :]) - up * (step * rows[:, :, None])


def _colors(solids, rgb, face_colors, origin, rays, face, depth, owner):
    """Returns RGB [4, H, W, 3] along rays [3, 4, H, W]; face, depth and owner are [4, H, W]."""
    face_colors = face_colors.copy()
    face_colors[1:] *= _brightness(_NORMALS[1:].T)[:, None]
    color = face_colors[face]

    floor = (face == _FLOOR_FACE) & (owner == 0)
    shaded = _in_shadow(solids, origin + depth[floor] * rays[:, floor])
    color[floor] *= np.where(shaded, _SHADOW, 1)[:, None]

    for index in range(len(solids)):
        own = owner == index + 1
        normal = solids.normal(index, origin + depth[own] * rays[:, own])
        color[own] = rgb[index] * _brightness(normal)[:, None]
    return color


def _axes(azimuth, pitch):
    """Returns position and axes (right, up, forward) of the camera: [..., 3] and [..., 3, 3]."""
    cos = np.cos(azimuth)
    sin = np.sin(azimuth)
    zero = np.zeros_like(azimuth)
    position = np.stack([_RING * cos, _RING * sin, _AIM - _RING * np.tan(pitch)], axis=-1)
    right = np.stack([-sin, cos, zero], axis=-1)
    up = np.stack([cos * np.sin(pitch), sin * np.sin(pitch), np.cos(pitch)], axis=-1)
    forward = np.stack([-cos * np.cos(pitch), -sin * np.cos(pitch), np.sin(pitch)], axis=-1)
    return position, np.stack([right, up, forward], axis=-2)


def _brightness(normal):
    """Returns the brightness [m] of sunlit surfaces with unit normals [3, m]."""
    return 0.3 + 0.35 * (1 + _SUN.astype(normal.dtype) @ normal)


def _background(origin, rays):
    """Intersects rays [3, m] from a point [3, 1] inside with the empty room.

    Returns:
      face: uint8 [m], index into `_PART_OF_FACE`.
      depth: [m], infinite for the sky.
    """
    # With walls of infinite height, a ray meets the nearer of the two planes ahead.
    with np.errstate(divide="ignore"):
        to_x, to_y = (
            (np.float32(_HALF_WIDTH) - np.sign(rays[i]) * origin[i]) / np.abs(rays[i])
            for i in (0, 1)
        )
    depth = np.minimum(to_x, to_y)
    side = np.where(to_x < to_y, 0, 1)
    backward = np.where(side == 0, rays[0], rays[1]) < 0
    face = (_FIRST_WALL_FACE + side + 2 * backward).astype(np.uint8)

    height = origin[2] + depth * rays[2]
    above = height > _WALL_HEIGHT
    face[above] = _SKY_FACE
    depth[above] = np.inf

    below = height < 0
    face[below] = _FLOOR_FACE
    depth[below] = -origin[2] / rays[2][below]
    return face, depth


def _window(camera, size, corners):
    """Returns slices of the rows and columns that may see a box with these corners [3, 8]."""
    column, row, depth = camera.project(raycast.Frame.whole(size, size), corners)
    if depth.max() <= 0:
        return slice(0), slice(0)
    if depth.min() <= 1e-3:
        # The projection of a box that reaches behind the camera is unbounded.
        return slice(None), slice(None)

    ends = ((np.floor(place.min()), np.ceil(place.max())) for place in (row, column))
    return tuple(slice(*np.clip(end, 0, size).astype(int)) for end in ends)


def _in_shadow(solids, point):
    """Tells which points [3, m] of the floor lie in the shadow of a solid: bool [m]."""
    shaded = np.zeros(point.shape[1], bool)
    point = np.stack([point[0], point[1], np.zeros_like(point[0])])
    sun = _SUN[:, None].astype(point.dtype)

    for index in range(len(solids)):
        # The bounding ball casts an elliptic shadow; its long semi-axis is the ball's radius over
        # the sine of the sun's elevation.
        centre = solids.position[index][:2] - _SUN[:2] * (solids.position[index][2] / _SUN[2])
        reach = solids.bounding_radius(index) / _SUN[2]
        near = np.flatnonzero((point[0] - centre[0]) ** 2 + (point[1] - centre[1]) ** 2 < reach**2)

        hit = solids.first_hit(index, point[:, near], np.broadcast_to(sun, (3, near.size)))
        shaded[near[np.isfinite(hit)]] = True
    return shaded
