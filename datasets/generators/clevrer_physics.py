"""Rigid bodies that slide on level ground and collide: discs and squares in the plane.

A sphere and a standing cylinder are discs, a cube is a square with rounded corners; all touch each
other at the same height, so the plane is exact. Bodies have mass 1. Each step of
1 / `steps_per_frame` frames

  * slows bodies by friction on the ground. Force and torque lie on the ellipsoid of Howe and
    Cutkosky 1996, so spinning bodies slide further, and both motions end at about the same time;
  * moves them;
  * resolves contacts of overlapping pairs, first along the contact normal with restitution, then
    along its tangent with Coulomb friction (sequential impulses, Catto 2006), and separates them.
    Neither impulse can add energy.

It uses plain floats, not arrays: with six bodies NumPy would take five times as long.

Axes: T frames, M bodies.
"""

import dataclasses
import itertools
import math

import numpy as np

from . import raycast_shapes as shapes

# A cube's outline is a square with half this side (in sizes) rounded by 1 - 0.8, as rendered.
_CUBE_CORE = 0.8
# Moment of inertia about the vertical axis, in mass times size**2.
_INERTIA = {shapes.SPHERE: 2 / 5, shapes.CYLINDER: 1 / 2, shapes.CUBE: 2 / 3}
# Mean distance of the ground contact from the axis, in sizes: torque of friction over its force. A
# sphere touches in a point; its value stands for a slight flattening.
_GRIP = {shapes.SPHERE: 0.2, shapes.CYLINDER: 2 / 3, shapes.CUBE: 0.765}
# Slower bodies do not bounce (units per second).
_LEAST_BOUNCE = 0.05
# Contacts of a pair within so many frames count as one collision.
_SAME_COLLISION = 4
# Corners that are closer to the contact than this (in sizes) share it: faces meet flat.
_FLUSH = 0.03
# Greatest number of rounds that separate overlapping pairs.
_SEPARATIONS = 8


@dataclasses.dataclass(frozen=True)
class Physics:
    """Constants of a world.

    Attributes:
      deceleration: of a body that slides without spinning, in units per second**2: coefficient of
        friction with the ground times gravity.
      restitution: ratio of normal speeds after and before a collision, in [0, 1].
      friction: coefficient of friction between two bodies.
      frame_rate: frames per second.
      steps_per_frame: simulation steps per frame.
    """

    deceleration: float = 1.0
    restitution: float = 0.6
    friction: float = 0.3
    frame_rate: float = 25.6
    steps_per_frame: int = 8


@dataclasses.dataclass(frozen=True)
class Motion:
    """Trajectories of M bodies over T frames.

    Attributes:
      position: float64 [T, M, 2]; frame 0 is the initial state.
      velocity: float64 [T, M, 2], units per second.
      angle: float64 [T, M], radians, not reduced to [0, 2 pi).
      spin: float64 [T, M], radians per second.
      collisions: list of (frame, i, j), i < j: the pair collided between the previous frame and
        this one.
    """

    position: np.ndarray
    velocity: np.ndarray
    angle: np.ndarray
    spin: np.ndarray
    collisions: list


class _Body:
    """State of one body; its outline is a core, a point or a square, rounded by `radius`."""

    __slots__ = (
        "x",
        "y",
        "vx",
        "vy",
        "angle",
        "spin",
        "start",
        "square",
        "core",
        "radius",
        "reach",
        "inertia",
        "grip",
    )

    def __init__(self, shape, size, position, velocity, angle, spin, start):
        self.x, self.y = map(float, position)
        self.vx, self.vy = map(float, velocity)
        self.angle = float(angle)
        self.spin = float(spin)
        self.start = float(start)

        self.square = shape == shapes.CUBE
        self.core = _CUBE_CORE * size if self.square else 0.0
        self.radius = size - self.core
        self.reach = self.radius + math.sqrt(2) * self.core
        self.inertia = _INERTIA[shape] * size**2
        self.grip = _GRIP[shape] * size

    def corners(self):
        """Returns the four corners of a square's core."""
        a = self.core * math.cos(self.angle)
        b = self.core * math.sin(self.angle)
        return (
            (self.x + a - b, self.y + b + a),
            (self.x - a - b, self.y - b + a),
            (self.x - a + b, self.y - b - a),
            (self.x + a + b, self.y + b - a),
        )

    def nearest(self, x, y):
        """Returns the point of the core nearest to (x, y)."""
        if not self.square:
            return self.x, self.y

        # Clamped in the body's own frame.
        cos = math.cos(self.angle)
        sin = math.sin(self.angle)
        dx = x - self.x
        dy = y - self.y
        a = min(max(cos * dx + sin * dy, -self.core), self.core)
        b = min(max(cos * dy - sin * dx, -self.core), self.core)
        return self.x + cos * a - sin * b, self.y + sin * a + cos * b

    def slow(self, change):
        """Applies friction on the ground; a body without spin loses the speed `change`."""
        speed = math.sqrt(self.vx**2 + self.vy**2 + (self.grip * self.spin) ** 2)
        if speed == 0:
            return
        slide = max(0.0, 1 - change / speed)
        self.vx *= slide
        self.vy *= slide
        self.spin *= max(0.0, 1 - change / speed * self.grip**2 / self.inertia)


def simulate(shape, size, position, velocity, angle, spin, num_frames, start=None, physics=None):
    """Simulates sliding and colliding bodies.

    Args:
      shape: int [M], `raycast_shapes.SPHERE`, `CYLINDER` or `CUBE`.
      size: radius of discs, half the side of squares.
      position: [M, 2] at frame 0.
      velocity: [M, 2], units per second.
      angle: [M], radians.
      spin: [M], radians per second.
      num_frames: T.
      start: [M], seconds after which friction on the ground slows a body; None for 0.
      physics: a `Physics`; None for the default one.

    Returns:
      a `Motion`.
    """
    physics = physics or Physics()
    if start is None:
        start = np.zeros(len(shape))
    bodies = [
        _Body(int(kind), float(size), *state)
        for kind, *state in zip(shape, position, velocity, angle, spin, start, strict=True)
    ]
    step = 1 / (physics.frame_rate * physics.steps_per_frame)

    states = [_state(bodies)]
    collisions = []
    last_contact = {}
    for frame in range(1, num_frames):
        for substep in range(physics.steps_per_frame):
            time = ((frame - 1) * physics.steps_per_frame + substep) * step
            _slide(bodies, time, step, physics)

            for pair, approach in _collide(bodies, physics):
                apart_since = frame - last_contact.get(pair, -_SAME_COLLISION)
                if approach > _LEAST_BOUNCE and apart_since >= _SAME_COLLISION:
                    collisions.append((frame, *pair))
                last_contact[pair] = frame
        states.append(_state(bodies))

    states = np.array(states).reshape(num_frames, len(bodies), 6)
    return Motion(states[..., :2], states[..., 2:4], states[..., 4], states[..., 5], collisions)


def gaps(shape, size, position, angle):
    """Returns the distances [M, M] between the outlines of bodies.

    They are negative where bodies overlap and infinite on the diagonal. Arguments are those of
    `simulate`.
    """
    still = np.zeros(2)
    bodies = [
        _Body(int(kind), float(size), place, still, turn, 0, 0)
        for kind, place, turn in zip(shape, position, angle, strict=True)
    ]
    result = np.full((len(bodies), len(bodies)), np.inf)
    for i, j in itertools.combinations(range(len(bodies)), 2):
        gap, _, _ = _contact(bodies[i], bodies[j])
        result[i, j] = gap
        result[j, i] = gap
    return result


def _state(bodies):
    """Returns the state of each body as a tuple of six numbers."""
    return [(body.x, body.y, body.vx, body.vy, body.angle, body.spin) for body in bodies]


def _slide(bodies, time, step, physics):
    """Moves bodies for `step` seconds from `time` on, without collisions."""
    for body in bodies:
        if time >= body.start:
            body.slow(physics.deceleration * step)
        body.x += body.vx * step
        body.y += body.vy * step
        body.angle += body.spin * step


def _collide(bodies, physics):
    """Pushes and separates overlapping pairs; yields (pair, speed of approach)."""
    for _ in range(_SEPARATIONS):
        touched = False
        for (i, first), (j, second) in itertools.combinations(enumerate(bodies), 2):
            if _far_apart(first, second):
                continue
            gap, normal, point = _contact(first, second)
            if gap >= 0:
                continue

            touched = True
            yield (i, j), _push(first, second, normal, point, physics)

            # Both move by half the overlap, along the normal: momentum is unchanged.
            for body, share in ((first, gap / 2), (second, -gap / 2)):
                body.x += share * normal[0]
                body.y += share * normal[1]

        if not touched:
            return


def _far_apart(first, second):
    """Tells whether the bounding circles of two bodies are disjoint; the cheap test comes first."""
    reach = first.reach + second.reach
    dx = second.x - first.x
    return abs(dx) > reach or dx**2 + (second.y - first.y) ** 2 > reach * reach


def _contact(first, second):
    """Returns gap, unit normal from first to second, and point of contact of two bodies."""
    # Pairs of points, one on each core: of two convex polygons the nearest pair has a corner.
    if first.square and second.square:
        pairs = [(corner, second.nearest(*corner)) for corner in first.corners()]
        pairs += [(first.nearest(*corner), corner) for corner in second.corners()]
    elif first.square:
        pairs = [(first.nearest(second.x, second.y), (second.x, second.y))]
    else:
        pairs = [((first.x, first.y), second.nearest(first.x, first.y))]

    distances = [math.hypot(b[0] - a[0], b[1] - a[1]) for a, b in pairs]
    distance = min(distances)
    (ax, ay), (bx, by) = pairs[distances.index(distance)]
    if distance < 1e-9:
        return _overlapping_cores(first, second)
    normal = ((bx - ax) / distance, (by - ay) / distance)

    # The point lies on the first body's outline; on both outlines if they just touch. Corners that
    # are almost as near share the contact, otherwise cubes whose faces meet flat would turn.
    limit = distance + _FLUSH * (first.radius + first.core)
    points = [a for (a, _), other in zip(pairs, distances, strict=True) if other <= limit]
    x = sum(point[0] for point in points) / len(points) + first.radius * normal[0]
    y = sum(point[1] for point in points) / len(points) + first.radius * normal[1]
    return distance - first.radius - second.radius, normal, (x, y)


def _overlapping_cores(first, second):
    """Computes `_contact` where the cores overlap, which only a bad initial state causes."""
    dx = second.x - first.x
    dy = second.y - first.y
    distance = math.hypot(dx, dy) or 1.0
    gap = -(first.radius + second.radius)
    normal = (dx / distance, dy / distance)
    return gap, normal, ((first.x + second.x) / 2, (first.y + second.y) / 2)


def _push(first, second, normal, point, physics):
    """Exchanges momentum between touching bodies; returns the speed at which they approached."""
    # Lever arms of the contact point.
    ax = point[0] - first.x
    ay = point[1] - first.y
    bx = point[0] - second.x
    by = point[1] - second.y

    def relative_speed(dx, dy):
        """Returns the second contact point's speed along a direction, relative to the first's."""
        vx = second.vx - second.spin * by - first.vx + first.spin * ay
        vy = second.vy + second.spin * bx - first.vy - first.spin * ax
        return vx * dx + vy * dy

    def inverse_mass(dx, dy):
        """Returns the change of that speed per impulse along the direction."""
        lever_a = ax * dy - ay * dx
        lever_b = bx * dy - by * dx
        return 2 + lever_a**2 / first.inertia + lever_b**2 / second.inertia

    def apply(impulse, dx, dy):
        """Applies an impulse along a direction to the second body, the opposite to the first."""
        first.vx -= impulse * dx
        first.vy -= impulse * dy
        second.vx += impulse * dx
        second.vy += impulse * dy
        first.spin -= impulse * (ax * dy - ay * dx) / first.inertia
        second.spin += impulse * (bx * dy - by * dx) / second.inertia

    nx, ny = normal
    approach = -relative_speed(nx, ny)
    if approach <= 0:
        return 0.0
    restitution = physics.restitution if approach > _LEAST_BOUNCE else 0.0
    push = (1 + restitution) * approach / inverse_mass(nx, ny)
    apply(push, nx, ny)

    # Coulomb friction: enough to stop the sliding, at most `friction` times the normal impulse.
    tx = -ny
    ty = nx
    limit = physics.friction * push
    rub = -relative_speed(tx, ty) / inverse_mass(tx, ty)
    apply(min(max(rub, -limit), limit), tx, ty)
    return approach
