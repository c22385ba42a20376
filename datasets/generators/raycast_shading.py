"""Lamps and materials of the ray caster: the radiance that leaves a surface towards the viewer.

Radiometry follows a path tracer with one diffuse bounce: lamps have powers in watts, surfaces
reflect

    ground   diffuse, reflectivity rho:  rho / pi E
    rubber   (1 - F_1.2) [(1 - F_1.4) + F_1.4 / 2] colour / pi E  +  F_1.2 0.8 G_0.35
    metal    colour sum_k w_k G_k,  lobes (weight w, GGX width alpha): (0.6, 0.01) and (0.4, 0.2)

with F_n the Fresnel reflectance of a dielectric with index n towards the viewer, E the irradiance
(lamps with soft shadows, and a closed-form bounce off the ground, the back wall and the other
solids) and G_alpha the light from the mirrored direction blurred by a GGX lobe: highlights of the
lamps in closed form; for metal, secondary rays into the scene. Ground and backdrop are the only
environment; the sky is black.

Axes: vectors of m points are arrays [3, m] in float32; the "owner" of a point is 0 for the ground
and 1 + index for a solid.

Source: the material graphs, lamps and world of the CLEVR base scene (Johnson et al. 2017). Chosen
here: the closed-form bounce, the sun's width (0.1), half a diffuse lobe in place of velvet, round
instead of slightly stretched highlights.
"""

import dataclasses

import numpy as np

from . import raycast_shapes as shapes
from .raycast_shapes import dot, norm

RUBBER = 1
METAL = 2
MATERIAL_NAMES = ("rubber", "metal")
"""Names of material ids 1, 2, the codes of CLEVR with masks."""

METAL_LOBES = ((0.6, 0.01), (0.4, 0.2))
"""(weight, GGX width) of CLEVR's metal."""
SATIN_LOBES = ((0.6, 0.40), (0.4, 0.42))
"""The rougher metal of CLEVR-3."""

# Reflectivity and width of rubber's glossy lobe.
_RUBBER_GLOSS = 0.8
_RUBBER_WIDTH = 0.35
# Lobes narrower than this would let a lamp's highlight fall between two pixels.
_LEAST_WIDTH = 0.04
# Wider lobes are sampled with several rays, narrower ones with one in the mirrored direction.
_MIRROR_WIDTH = 0.05
_GLOSSY_RAYS = 4
# Share of the light that a GGX lobe of width alpha loses to facets that mirror downwards, over
# alpha**2 (measured: 0.05 at 0.2, 0.22 at 0.4).
_LOST = 1.35
# A neighbour reflects like a ball of this radius (in sizes), lit by this share of the ground's
# irradiance.
_BALL = 1.1
_BALL_GLOW = 0.55
# Irradiance of level ground from the wall, relative to the radiosity of ground in the middle;
# fitted to the ground in images by Cycles: constant up to a position along the ground's axis, then
# rising towards the wall.
_WALL_SHARE = np.float32(0.047)
_WALL_RISE = np.float32(0.0077)
_WALL_FROM = -2
_WALL_REACH = 15
# Distance assigned to the sun, beyond all solids.
_FAR = np.float32(60.0)
# Secondary rays start this far above the surface.
_SURFACE_OFFSET = np.float32(2e-3)


@dataclasses.dataclass(frozen=True)
class AreaLight:
    """A square lamp that emits from one side.

    Attributes:
      position: [3], centre.
      power: watts; the radiance is power / (pi side**2).
      color: RGB [3].
      side: length of the side.
      aim: [3], the point that the lamp faces.
    """

    position: tuple
    power: float
    color: tuple = (1.0, 1.0, 1.0)
    side: float = 0.5
    aim: tuple = (0.0, 0.0, 0.0)

    def toward(self, point):
        """Returns the lamp as seen from points [3, m].

        Returns:
          direction: [3, m], unit vectors to the lamp.
          distance: [m].
          irradiance: [m], of a surface that faces the lamp.
        """
        offset = _column(self.position) - point
        distance = norm(offset)
        direction = offset / distance
        facing = -dot(_unit(np.subtract(self.aim, self.position)), direction)
        irradiance = np.float32(self.power / np.pi) * np.maximum(facing, 0) / (distance * distance)
        return direction, distance, irradiance

    def spread(self, distance):
        """Returns the tangent of the angular radius: half the side over the distance."""
        return np.float32(0.5 * self.side) / distance


@dataclasses.dataclass(frozen=True)
class SunLight:
    """A lamp at infinity.

    Attributes:
      direction: [3], towards the sun.
      strength: irradiance of a surface that faces the sun.
      color: RGB [3].
      radius: tangent of the angular radius.
    """

    direction: tuple
    strength: float
    color: tuple = (1.0, 1.0, 1.0)
    radius: float = 0.1

    def toward(self, point):
        """Returns the same as `AreaLight.toward`, for a sun far away."""
        count = point.shape[1]
        direction = np.broadcast_to(_unit(self.direction), (3, count))
        return direction, np.full(count, _FAR), np.full(count, self.strength, np.float32)

    def spread(self, distance):
        """Returns the tangent of the angular radius, whatever the distance."""
        return np.full_like(distance, self.radius)


@dataclasses.dataclass(frozen=True)
class Scene:
    """Solids, their materials and the light.

    Attributes:
      solids: `raycast_shapes.Solids`, M of them.
      material: int [M], `RUBBER` or `METAL`.
      rgb: [M, 3], linear RGB in [0, 1].
      lights: sequence of `AreaLight` and `SunLight`.
      ground_reflectivity: diffuse reflectivity of the ground in [0, 1].
      metal_lobes: pairs (weight, GGX width) of all metal.
    """

    solids: shapes.Solids
    material: np.ndarray
    rgb: np.ndarray
    lights: tuple
    ground_reflectivity: float = 0.8
    metal_lobes: tuple = METAL_LOBES


def radiance(scene, point, normal, view, owner, reflections=True):
    """Returns the linear RGB radiance of points towards the viewer.

    Args:
      scene: a `Scene`.
      point: float32 [3, m], points on surfaces.
      normal: float32 [3, m], outward unit normals.
      view: float32 [3, m], unit directions to the viewer.
      owner: int [m], 0 ground, 1 + index of a solid.
      reflections: whether metal reflects the scene, by secondary rays, or only a far environment.

    Returns:
      float32 [3, m], at least 0.
    """
    palette = np.vstack([np.full((1, 3), scene.ground_reflectivity), scene.rgb]).astype(np.float32)
    color = palette[owner].T
    material = np.concatenate([[0], scene.material])[owner]
    offsets = [_column(position) - point for position in scene.solids.position]
    lobes = {RUBBER: ((1.0, _RUBBER_WIDTH),), METAL: scene.metal_lobes}
    points_of = {kind: np.flatnonzero(material == kind) for kind in lobes}

    # The bounce, then for every lamp its direct light and its highlights on rubber and metal.
    irradiance = _bounced_irradiance(scene, offsets, point, normal, owner)
    gloss = {kind: np.zeros((3, chosen.size), np.float32) for kind, chosen in points_of.items()}
    for light in scene.lights:
        direction, distance, arriving = light.toward(point)
        spread = light.spread(distance)
        arriving = arriving * np.maximum(dot(normal, direction), 0)
        arriving *= _visibility(
            scene.solids, offsets, owner, arriving > 0, direction, distance, spread
        )
        tint = _column(light.color)
        irradiance += tint * arriving
        for kind, chosen in points_of.items():
            if chosen.size:
                vectors = (normal[:, chosen], direction[:, chosen], view[:, chosen])
                highlight = _highlight(*vectors, lobes[kind], spread[chosen])
                gloss[kind] += tint * (arriving[chosen] * highlight)

    result = color * irradiance / np.float32(np.pi)
    rubber = points_of[RUBBER]
    if rubber.size:
        surface = (point[:, rubber], normal[:, rubber], view[:, rubber], owner[rubber])
        result[:, rubber] = _rubber(scene, result[:, rubber], gloss[RUBBER], *surface)

    metal = points_of[METAL]
    if metal.size:
        surface = (point[:, metal], normal[:, metal], view[:, metal], owner[metal])
        mirrored = _reflected(scene, *surface, rays=reflections)
        result[:, metal] = color[:, metal] * (gloss[METAL] + mirrored)
    return result


def nearest_hit(scene, origin, direction, owner):
    """Finds the first surface that rays hit: parameters t [m] (infinite if none), owners int [m].

    A ray that starts on a solid cannot hit it again, because all solids are convex.
    """
    nearest = shapes.ground_hit(origin, direction)
    found = np.zeros(direction.shape[1], np.int64)
    for index in range(len(scene.solids)):
        others = np.flatnonzero(owner != index + 1)
        t = scene.solids.first_hit(index, origin[:, others], direction[:, others])
        closer = t < nearest[others]
        nearest[others[closer]] = t[closer]
        found[others[closer]] = index + 1
    return nearest, found


def surface_normal(scene, point, owner):
    """Returns outward unit normals [3, m] at points [3, m] on the surfaces of owners [m]."""
    normal = shapes.ground_normal(point)
    for index in range(len(scene.solids)):
        own = np.flatnonzero(owner == index + 1)
        if own.size:
            normal[:, own] = scene.solids.normal(index, point[:, own])
    return normal


def _visibility(solids, offsets, owner, lit, direction, distance, spread):
    """Returns the share [m] of a lamp that points see past the solids.

    The solids' centres are at `offsets` from the points. Past an edge at an angle c beside the
    centre of a lamp with angular radius `spread` [m], (1 + c / spread) / 2 of it is visible.
    Several solids are assumed to hide independent parts.
    """
    seen = np.ones_like(distance)
    for index, offset in enumerate(offsets):
        # Solids whose bounding ball lies off the cone from the point to the lamp hide nothing.
        along = dot(offset, direction)
        aside = dot(offset, offset) - along * along
        radius = np.float32(solids.bounding_radius(index))
        reach = radius + spread * np.maximum(along, 0)
        near = np.flatnonzero(
            (aside < reach * reach)
            & lit
            & (owner != index + 1)
            & (along > -radius)
            & (along < distance)
        )

        # Every solid contains the ball with its size as radius: cones inside that are all dark.
        inner = np.float32(solids.size[index]) - spread[near] * along[near]
        dark = (along[near] > 0) & (inner > 0) & (aside[near] < inner * inner)
        seen[near[dark]] = 0

        near = near[seen[near] > 0]
        if near.size:
            clearance = solids.clearance(index, -offset[:, near], direction[:, near])
            seen[near] *= np.clip((1 + clearance / spread[near]) / 2, 0, 1)
    return seen


def _stage_irradiance(scene):
    """Returns the irradiance RGB [3, 1] of level ground in the middle, without solids."""
    total = np.zeros((3, 1), np.float32)
    for light in scene.lights:
        direction, _, strength = light.toward(np.zeros((3, 1), np.float32))
        total += _column(light.color) * (strength * np.maximum(direction[2], 0))
    return total


def _bounced_irradiance(scene, offsets, point, normal, owner):
    """Returns the irradiance [3, m] after one bounce, in closed form.

    The ground fills the share (1 - n_z) / 2 of the view of a surface with normal n, darker near the
    foot of a solid (its own shadow); the wall behind contributes more to closer points and to those
    that face it; another solid is a ball with form factor R**2 / d**2 that occludes the rest and
    reflects its colour, less at close range, where little light reaches it.
    """
    arriving = _stage_irradiance(scene)
    glow = np.float32(scene.ground_reflectivity) * arriving
    to_wall = _column(shapes.GROUND_AXIS)
    wall = _WALL_SHARE + _WALL_RISE * np.clip(dot(to_wall, point) - _WALL_FROM, 0, _WALL_REACH)
    wall = (1 + dot(to_wall, normal)) * wall
    own_shadow = np.float32(0.5) * _near_foot(scene, point, owner)
    below = (1 - normal[2]) / 2 * (1 - own_shadow) * (owner > 0)

    irradiance = np.zeros_like(point)
    open_share = np.ones_like(below)
    for index, offset in enumerate(offsets):
        square = dot(offset, offset)
        radius = np.float32(scene.solids.size[index] * _BALL)
        share = radius * radius / np.maximum(square, radius * radius)
        factor = share * np.maximum(dot(offset, normal), 0) / np.sqrt(square + np.float32(1e-6))
        factor *= owner != index + 1

        open_share *= 1 - factor
        emitted = np.float32(_BALL_GLOW) * _column(scene.rgb[index]) * arriving
        irradiance += emitted * (factor * (1 - share))
    return irradiance + glow * (open_share * (wall + below))


def _far_radiance(scene, direction):
    """Returns RGB [3, m] of ground, wall and black sky in a direction, without the solids."""
    glow = np.float32(scene.ground_reflectivity / np.pi) * _stage_irradiance(scene)
    to_wall = dot(_column(shapes.GROUND_AXIS), direction)
    low = np.clip(np.float32(0.5) - 3 * direction[2], 0, 1)
    wall = np.float32(0.35) * np.clip(3 * to_wall - direction[2], 0, 1)
    return glow * (low + (1 - low) * wall)


def _fresnel(cosine, index):
    """Returns the reflectance [m] of a dielectric with refractive index `index` at cosines [m]."""
    cosine = np.clip(cosine, 0, 1)
    g = np.sqrt(np.float32(index * index - 1) + cosine * cosine)
    a = (g - cosine) / (g + cosine)
    b = (cosine * (g + cosine) - 1) / (cosine * (g - cosine) + 1)
    return a * a * (1 + b * b) / 2


def _rubber(scene, diffuse, gloss, point, normal, view, owner):
    """Returns the radiance of rubber from its diffuse radiance and the highlights, [3, m] each."""
    cosine = dot(normal, view)
    sheen = _fresnel(cosine, 1.4)
    coat = _fresnel(cosine, 1.2)
    mirrored = 2 * cosine * normal - view
    foot = _near_foot(scene, point, owner)
    environment = (1 - foot * foot) * _far_radiance(scene, mirrored)
    glossy = np.float32(_RUBBER_GLOSS) * (gloss + environment)
    return (1 - coat) * (1 - sheen / 2) * diffuse + coat * glossy


def _near_foot(scene, point, owner):
    """Returns weights [m] that fall from 1 on the ground to 0 high up, at the solid's scale."""
    size = np.concatenate([[1.0], scene.solids.size]).astype(np.float32)[owner]
    return np.exp(-np.maximum(point[2], 0) / size)


def _highlight(normal, direction, view, lobes, spread):
    """Returns the reflectance [m] of a material's lobes for a lamp of angular radius `spread` [m].

    The lamp widens a lobe of half vectors by half its radius. Lobes narrower than a lamp take its
    shape, approximated by Beckmann's density, which has no tails; the others are GGX.

    Source: Walter et al. 2007, Eq. 20, 25, 33, 34.
    """
    half = direction + view
    half /= np.maximum(norm(half), np.float32(1e-6))
    square = np.clip(dot(normal, half), np.float32(1e-3), 1) ** 2
    cos_light = np.maximum(dot(normal, direction), 0)
    cos_view = np.maximum(dot(normal, view), 0)

    pi = np.float32(np.pi)
    total = np.zeros_like(square)
    for weight, width in lobes:
        variance = np.float32(width) ** 2 + spread * spread / 4
        if width < _MIRROR_WIDTH:
            variance = np.maximum(variance, np.float32(_LEAST_WIDTH) ** 2)
            density = np.exp((1 - 1 / square) / variance) / (pi * variance * square * square)
        else:
            density = variance / (pi * (square * (variance - 1) + 1) ** 2)

        # Smith's shadowing of both directions, in which 4 cos_light cos_view has cancelled.
        own = np.float32(width * width)
        light_side = cos_light + np.sqrt(own + (1 - own) * cos_light * cos_light)
        view_side = cos_view + np.sqrt(own + (1 - own) * cos_view * cos_view)
        total += np.float32(weight) * density / (light_side * view_side)
    return total


def _reflected(scene, point, normal, view, owner, rays):
    """Returns RGB [3, m] of the scene that metal mirrors, without the lamps' highlights."""
    mirrored = 2 * dot(normal, view) * normal - view
    if not rays:
        return _far_radiance(scene, mirrored)

    weights = []
    directions = []
    for number, (weight, width) in enumerate(scene.metal_lobes):
        if width < _MIRROR_WIDTH:
            weights.append(weight)
            directions.append(mirrored)
            continue

        # The same few facets for every point: faint ghosts are less conspicuous than grain.
        for ray in range(_GLOSSY_RAYS):
            u = (ray + 0.5) / _GLOSSY_RAYS
            v = (ray * 0.618034 + number * 0.5 / _GLOSSY_RAYS) % 1
            weights.append(weight / _GLOSSY_RAYS * (1 - _LOST * width**2))
            directions.append(_glossy_direction(normal, view, width, u, v))

    origin = np.tile(point + _SURFACE_OFFSET * normal, len(weights))
    seen = _seen(scene, origin, np.concatenate(directions, axis=1), np.tile(owner, len(weights)))
    seen = seen.reshape(3, len(weights), -1)
    return (seen * np.array(weights, np.float32)[:, None]).sum(axis=1)


def _glossy_direction(normal, view, width, u, v):
    """Returns directions [3, m] mirrored at the GGX microfacet of numbers u, v in [0, 1).

    Source: Walter et al. 2007, Eq. 35; the tangent frame is that of Duff et al. 2017.
    """
    cosine = np.float32(np.sqrt((1 - u) / (1 + (width * width - 1) * u)))
    sine = np.sqrt(1 - cosine * cosine)

    sign = np.where(normal[2] < 0, np.float32(-1), np.float32(1))
    a = -1 / (sign + normal[2])
    b = normal[0] * normal[1] * a
    across = np.stack([1 + sign * normal[0] ** 2 * a, sign * b, -sign * normal[0]])
    upward = np.stack([b, sign + normal[1] ** 2 * a, -normal[1]])

    angle = 2 * np.pi * v
    facet = cosine * normal + sine * (
        np.float32(np.cos(angle)) * across + np.float32(np.sin(angle)) * upward
    )
    direction = 2 * dot(facet, view) * facet - view
    # A direction into the solid is mirrored back out of it.
    return direction - 2 * np.minimum(dot(direction, normal), 0) * normal


def _seen(scene, origin, direction, owner):
    """Returns RGB [3, m] along rays that leave metal; black sky where they hit nothing.

    Metal that they hit reflects only the far environment, so the recursion ends there.
    """
    t, found = nearest_hit(scene, origin, direction, owner)
    result = np.zeros_like(origin)
    hit = np.flatnonzero(np.isfinite(t))
    if hit.size:
        point = origin[:, hit] + t[hit] * direction[:, hit]
        normal = surface_normal(scene, point, found[hit])
        result[:, hit] = radiance(
            scene, point, normal, -direction[:, hit], found[hit], reflections=False
        )
    return result


def _column(vector):
    """Returns a vector of three numbers as float32 [3, 1]."""
    return np.asarray(vector, np.float32).reshape(3, 1)


def _unit(vector):
    """Returns a vector of three numbers normalised, as float32 [3, 1]."""
    vector = np.asarray(vector, np.float64)
    return _column(vector / np.linalg.norm(vector))
