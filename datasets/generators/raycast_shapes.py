"""Solids and ground of the ray caster: intersections with rays, and surface normals.

All three solids are a ball of radius r swept over a convex core, in units of the solid's size:

    sphere     core: the centre                        r = 1
    cylinder   core: radius 0.92, |z| <= 0.92          r = 0.08   (a rounded rim)
    cube       core: |x|, |y|, |z| <= 0.8              r = 0.2    (rounded edges and corners)

so that a point p with nearest core point q lies at signed distance |p - q| - r from the surface
and the outward normal is (p - q) / |p - q|. Along a ray that distance is a convex function, so
Newton's method from outside approaches the first intersection without ever passing it. A ray whose
direction no longer approaches the core has missed.

The ground is CLEVR's backdrop: flat where objects stand, then rising to a wall, unbounded sideways.

Axes: vectors of m rays or points are arrays [3, m], component first.

Source: Johnson et al. 2017 (CLEVR) for the scene; the proportions of the rounded cube and cylinder
are those of its meshes (bevels of 0.2 and 0.08), the profile of the ground is a fit to its mesh.
"""

import dataclasses

import numpy as np

SPHERE = 1
CYLINDER = 2
CUBE = 3
SHAPE_NAMES = ("sphere", "cylinder", "cube")
"""Names of shape ids 1, 2, 3, the codes of CLEVR with masks."""

_CORE = {SPHERE: 0.0, CYLINDER: 0.92, CUBE: 0.8}
BOUNDING_RADIUS = {SPHERE: 1.0, CYLINDER: 0.08 + 0.92 * np.sqrt(2), CUBE: 0.2 + 0.8 * np.sqrt(3)}
"""Largest distance of a solid's point from its centre, in sizes."""

# Newton steps for the rounded solids. Three to five suffice except for rays that graze the outline,
# whose error only halves with each step; `_HIT_TOLERANCE` (in sizes) decides on the latter.
_NEWTON_STEPS = 12
_HIT_TOLERANCE = 1e-4
# Golden-section steps for `Solids.clearance`: the last interval is 1 / 130 of the first.
_SECTION_STEPS = 10
_GOLDEN = (np.sqrt(5) - 1) / 2

GROUND_AXIS = np.array([-0.9032, 0.4292, 0.0]) / np.hypot(0.9032, 0.4292)
"""Horizontal direction in which the backdrop rises."""
GROUND_EDGE = -9.5467
"""Position of the ground's edge towards the camera, along `GROUND_AXIS`."""
# Height of the wall's top.
_GROUND_TOP = 23.2149


@dataclasses.dataclass(frozen=True)
class Solids:
    """M solids in the world.

    Attributes:
      shape: int [M], `SPHERE`, `CYLINDER` or `CUBE`.
      size: [M], radius of spheres and cylinders, half the height of cylinders and cubes.
      position: [M, 3], centres.
      rotation: [M, 3, 3], columns are the solid's own axes in the world.
    """

    shape: np.ndarray
    size: np.ndarray
    position: np.ndarray
    rotation: np.ndarray

    def __len__(self):
        return len(self.shape)

    def bounding_radius(self, index):
        """Returns the radius of the ball around the centre that contains solid `index`."""
        return BOUNDING_RADIUS[int(self.shape[index])] * float(self.size[index])

    def bounding_corners(self, index):
        """Returns the corners [3, 8] of the box around solid `index`."""
        signs = np.array(np.meshgrid(*[(-1.0, 1.0)] * 3)).reshape(3, 8)
        return self.position[index][:, None] + self.rotation[index] @ (self.size[index] * signs)

    def first_hit(self, index, origin, direction):
        """Returns the parameters of the first intersections of rays with solid `index`.

        Args:
          index: number of the solid.
          origin: [3, 1] or [3, m], outside the solid.
          direction: [3, m], any length.

        Returns:
          [m], parameter t >= 0 of origin + t direction, infinite where the ray misses.
        """
        local_origin, local_direction = self._to_local(index, origin, direction)
        if self.shape[index] == SPHERE:
            return _hit_unit_sphere(local_origin, local_direction)
        return _hit_rounded(int(self.shape[index]), local_origin, local_direction)

    def clearance(self, index, offset, direction):
        """Returns the sine of the angle by which rays clear solid `index`.

        sin(angle) = min over t > 0 of  signed distance to the solid at offset + t direction  /  t

        A cone with that half angle around the ray just touches the solid; it is negative for rays
        that hit the solid. The distance to a convex body over t has a single minimum, found by
        golden-section search.

        Args:
          index: number of the solid.
          offset: [3, m], origins of the rays, outside the solid, relative to its centre.
          direction: [3, m], unit vectors.

        Returns:
          [m].
        """
        dtype = direction.dtype
        rotation = self.rotation[index].T.astype(dtype)
        origin = rotation @ offset / dtype.type(self.size[index])
        direction = rotation @ direction
        shape = int(self.shape[index])
        if shape == SPHERE:
            return _sphere_clearance(origin, direction)
        return _rounded_clearance(shape, origin, direction)

    def normal(self, index, point):
        """Returns outward unit normals [3, m] at surface points [3, m] of solid `index`."""
        rotation = self.rotation[index].astype(point.dtype)
        local = rotation.T @ (point - self.position[index].astype(point.dtype)[:, None])
        local /= point.dtype.type(self.size[index])
        outward = local - _nearest_of_core(int(self.shape[index]), local)
        outward /= np.maximum(norm(outward), point.dtype.type(1e-9))
        return rotation @ outward

    def _to_local(self, index, origin, direction):
        """Returns rays in the solid's own frame and unit, with unchanged ray parameters."""
        dtype = direction.dtype
        to_local = (self.rotation[index].T / self.size[index]).astype(dtype)
        offset = origin - self.position[index][:, None].astype(dtype)
        return to_local @ offset, to_local @ direction


def dot(a, b):
    """Returns scalar products [m] of [3, m] and [3, m] (either may be [3, 1])."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def norm(a):
    """Returns lengths [m] of vectors [3, m]."""
    return np.sqrt(dot(a, a))


def rotation_about_z(angle):
    """Returns rotations [..., 3, 3] by angles [...] in radians about the vertical axis."""
    cos = np.cos(angle)
    sin = np.sin(angle)
    zero = np.zeros_like(cos)
    one = np.ones_like(cos)
    rows = [[cos, -sin, zero], [sin, cos, zero], [zero, zero, one]]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def _hit_unit_sphere(origin, direction):
    """Solves |origin + t direction| = 1 for the smaller t, infinite where there is none."""
    a = dot(direction, direction)
    b = dot(origin, direction)
    discriminant = b * b - a * (dot(origin, origin) - 1)
    t = (-b - np.sqrt(np.maximum(discriminant, 0))) / a
    return np.where((discriminant >= 0) & (t >= 0), t, np.inf)


def _nearest_of_core(shape, point):
    """Returns the points [3, m] of the core nearest to points [3, m], in sizes."""
    extent = point.dtype.type(_CORE[shape])
    if shape == CUBE:
        return np.clip(point, -extent, extent)
    if shape == CYLINDER:
        radius = np.sqrt(point[0] * point[0] + point[1] * point[1])
        shrink = extent / np.maximum(radius, extent)
        return np.stack([point[0] * shrink, point[1] * shrink, np.clip(point[2], -extent, extent)])
    return np.zeros_like(point)


def _signed_distance(shape, point):
    """Returns signed distances [m] of points [3, m] from the surface, in sizes.

    They are convex along rays even through the core, as the search for a minimum requires.
    """
    extent = point.dtype.type(_CORE[shape])
    if shape == CYLINDER:
        radial = np.sqrt(point[0] * point[0] + point[1] * point[1]) - extent
        axial = np.abs(point[2]) - extent
        outside = np.hypot(np.maximum(radial, 0), np.maximum(axial, 0))
        inside = np.maximum(radial, axial)
    else:
        beyond = np.abs(point) - extent
        outside = norm(np.maximum(beyond, 0))
        inside = beyond.max(axis=0)
    return outside + np.minimum(inside, 0) - (1 - extent)


def _hit_rounded(shape, origin, direction):
    """Computes `Solids.first_hit` for a cylinder or a cube, in the solid's own frame and unit."""
    dtype = direction.dtype
    hit = np.full(direction.shape[1], np.inf, dtype)

    # Rays that miss the bounding ball are excluded; the others start where they enter it.
    a = dot(direction, direction)
    b = dot(origin, direction)
    bound = dtype.type(BOUNDING_RADIUS[shape])
    discriminant = b * b - a * (dot(origin, origin) - bound * bound)
    rays = np.flatnonzero((discriminant > 0) & (b < 0))
    if not rays.size:
        return hit
    if origin.shape[1] == 1:
        origin = np.broadcast_to(origin, direction.shape)
    a = np.broadcast_to(a, discriminant.shape)[rays]
    t = np.maximum((-b[rays] - np.sqrt(discriminant[rays])) / a, 0)
    origin = origin[:, rays]
    direction = direction[:, rays]

    radius = dtype.type(1 - _CORE[shape])
    for step in range(_NEWTON_STEPS):
        point = origin + t * direction
        outward = point - _nearest_of_core(shape, point)
        distance = norm(outward)
        gap = distance - radius
        settled = gap < _HIT_TOLERANCE
        hit[rays[settled]] = t[settled]

        # Rate at which the ray approaches: minus the derivative of the distance.
        approach = -dot(outward, direction) / np.maximum(distance, dtype.type(1e-9))
        moving = ~settled & (approach > 0)
        if step == _NEWTON_STEPS - 1 or not moving.any():
            break
        t = t[moving] + gap[moving] / approach[moving]
        rays = rays[moving]
        origin = origin[:, moving]
        direction = direction[:, moving]
    return hit


def _sphere_clearance(origin, direction):
    """Computes `Solids.clearance` for the unit sphere around 0, in closed form."""
    middle = -dot(origin, direction)
    square = dot(origin, origin)
    to_centre = np.arctan2(np.sqrt(np.maximum(square - middle * middle, 0)), middle)
    angular_radius = np.arcsin(np.sqrt(1 / np.maximum(square, 1)))
    return np.sin(np.clip(to_centre - angular_radius, -np.pi / 2, np.pi / 2))


def _rounded_clearance(shape, origin, direction):
    """Computes `Solids.clearance` for a cylinder or a cube, in the solid's own frame and unit.

    Each step of the golden-section search narrows the bracket around the minimum and evaluates one
    new ray parameter, `probe`.
    """

    def ratio(t):
        return _signed_distance(shape, origin + t * direction) / t

    dtype = direction.dtype
    bound = dtype.type(BOUNDING_RADIUS[shape])
    middle = -dot(origin, direction)
    low = np.maximum(middle - bound, 1e-3)
    high = np.maximum(middle + bound, 2e-3)

    golden = dtype.type(_GOLDEN)
    span = golden * (high - low)
    left = high - span
    right = low + span
    at_left = ratio(left)
    at_right = ratio(right)
    least = np.minimum(at_left, at_right)
    for _ in range(_SECTION_STEPS):
        span *= golden
        lower = at_left < at_right  # the minimum lies below `right`
        low = np.where(lower, low, left)
        probe = low + np.where(lower, (1 - golden) / golden * span, span)
        at_probe = ratio(probe)

        left, right = np.where(lower, probe, right), np.where(lower, left, probe)
        at_left, at_right = (
            np.where(lower, at_probe, at_right),
            np.where(lower, at_left, at_probe),
        )
        least = np.minimum(least, at_probe)
    return least


def _ground_profile():
    """Returns positions along `GROUND_AXIS`, heights and slopes of the ground, [257] each."""
    t = np.linspace(0.0, 1.0, 257)
    along = np.polyval([-17.3834, 79.4671, -126.9611, 92.5144, 14.009 - 23.5557], t)
    height = _GROUND_TOP * t**4
    slope = (
        4 * _GROUND_TOP * t**3 / np.polyval([-4 * 17.3834, 3 * 79.4671, -2 * 126.9611, 92.5144], t)
    )
    return along, height, slope


_ALONG, _HEIGHT, _SLOPE = _ground_profile()


def ground_hit(origin, direction):
    """Intersects rays from above with the ground.

    The ground is a convex function of the position along `GROUND_AXIS`, so the ray's height above
    it is concave and Newton's method from beyond decreases towards the intersection. The initial
    guess is the nearer intersection with the plane below and with the tangent plane at the wall's
    top.

    Args:
      origin: [3, 1] or [3, m], above the ground.
      direction: [3, m], any length.

    Returns:
      [m], parameter t >= 0 of origin + t direction, infinite where the ray misses.
    """
    dtype = direction.dtype
    axis = GROUND_AXIS.astype(dtype)
    along = axis[0] * origin[0] + axis[1] * origin[1]
    along_rate = axis[0] * direction[0] + axis[1] * direction[1]

    t = np.full(direction.shape[1], np.inf, dtype)
    for start, height, slope in ((0.0, 0.0, 0.0), (_ALONG[-1], _HEIGHT[-1], _SLOPE[-1])):
        gap = origin[2] - dtype.type(height) - dtype.type(slope) * (along - dtype.type(start))
        closing = dtype.type(slope) * along_rate - direction[2]
        with np.errstate(divide="ignore", invalid="ignore"):
            t = np.where(closing > 1e-6, np.minimum(t, gap / closing), t)
    reach = t < 1e4
    t = np.where(reach, t, 0)

    for _ in range(6):
        height, slope = _ground_height(along + t * along_rate)
        gap = origin[2] + t * direction[2] - height
        closing = slope * along_rate - direction[2]
        t = t + np.where(closing > 1e-6, gap / np.maximum(closing, dtype.type(1e-6)), 0)

    end = along + t * along_rate
    inside = (end > GROUND_EDGE) & (origin[2] + t * direction[2] < _GROUND_TOP)
    return np.where(reach & inside, np.maximum(t, 0), np.inf).astype(dtype, copy=False)


def ground_normal(point):
    """Returns upward unit normals [3, m] of the ground under points [3, m]."""
    axis = GROUND_AXIS.astype(point.dtype)
    slope = _ground_height(axis[0] * point[0] + axis[1] * point[1])[1]
    scale = 1 / np.sqrt(1 + slope * slope)
    return np.stack([-axis[0] * slope * scale, -axis[1] * slope * scale, scale])


def _ground_height(along):
    """Returns height and slope [m] of the ground, extrapolated linearly beyond the wall's top."""
    beyond = np.maximum(along - _ALONG[-1], 0)
    height = np.interp(along, _ALONG, _HEIGHT) + _SLOPE[-1] * beyond
    return height.astype(along.dtype), np.interp(along, _ALONG, _SLOPE).astype(along.dtype)
