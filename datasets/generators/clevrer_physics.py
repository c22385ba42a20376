"""Bodies that slide on level ground and hit each other: discs and squares in the plane.

A sphere and a standing cylinder are discs, a cube is a square with rounded edges; all touch each other at the same
height, so that the plane is exact. Bodies have mass 1. Every step of 1 / `steps_per_frame` frames

  * slows bodies by friction on the ground. Force and torque lie on the ellipsoid of Howe and Cutkosky 1996, wherefore
    what spins slides further, and both motions end about together;
  * moves them;
  * lets pairs that overlap push each other, first along the contact's normal with restitution, then along its tangent
    with Coulomb friction (sequential impulses, Catto 2006), and moves them apart. Neither impulse can add energy.

Plain floats and not arrays: with six bodies NumPy would take five times as long.

Axes: T frames, M bodies.
"""

import dataclasses
import itertools
import math

import numpy as np

from . import raycast_shapes as shapes

_CUBE_CORE = 0.8
"""Half the side of the square whose rounding by 1 - 0.8 gives a cube's outline, in sizes; as it is drawn."""
# Moment of inertia about the vertical axis, in mass times size**2.
_INERTIA = {shapes.SPHERE: 2 / 5, shapes.CYLINDER: 1 / 2, shapes.CUBE: 2 / 3}
# Mean distance of the touching surface from its centre, in sizes: torque of friction over its force. A ball touches
# in a point; the number is what its slight flattening may be.
_GRIP = {shapes.SPHERE: 0.2, shapes.CYLINDER: 2 / 3, shapes.CUBE: 0.765}
# Slower bodies do not bounce (units per second), and what touches again within these frames is one collision.
_LEAST_BOUNCE, _SAME_COLLISION = 0.05, 4
# Corners as near as this to the nearest one (in sizes) bear the contact together: faces meet flat.
_FLUSH = 0.03
_SEPARATIONS = 8
"""At most so many rounds of moving overlapping pairs apart."""


@dataclasses.dataclass(frozen=True)
class Physics:
    """Laws of a world.

    Attributes:
      deceleration: of a body that slides without spinning, units per second**2: friction coefficient times gravity.
      restitution: of speeds along the normal, in [0, 1].
      friction: coefficient between two bodies.
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
    """What M bodies did in T frames.

    Attributes:
      position: float64 [T, M, 2]; frame 0 is the initial state.
      velocity: float64 [T, M, 2], units per second.
      angle: float64 [T, M], radians, not reduced.
      spin: float64 [T, M], radians per second.
      collisions: list of (frame, i, j), i < j: the pair met between the frame before and this one.
    """

    position: np.ndarray
    velocity: np.ndarray
    angle: np.ndarray
    spin: np.ndarray
    collisions: list


class _Body:
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
        self.angle, self.spin, self.start = float(angle), float(spin), float(start)
        self.square = shape == shapes.CUBE
        self.core = _CUBE_CORE * size if self.square else 0.0
        self.radius = size - self.core
        self.reach = self.radius + math.sqrt(2) * self.core
        self.inertia, self.grip = _INERTIA[shape] * size**2, _GRIP[shape] * size

    def corners(self):
        """Four points of a square's core."""
        a, b = self.core * math.cos(self.angle), self.core * math.sin(self.angle)
        return (
            (self.x + a - b, self.y + b + a),
            (self.x - a - b, self.y - b + a),
            (self.x - a + b, self.y - b - a),
            (self.x + a + b, self.y + b - a),
        )

    def nearest(self, x, y):
        """The point of the core nearest to (x, y)."""
        if not self.square:
            return self.x, self.y
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        dx, dy = x - self.x, y - self.y
        a = min(max(cos * dx + sin * dy, -self.core), self.core)
        b = min(max(cos * dy - sin * dx, -self.core), self.core)
        return self.x + cos * a - sin * b, self.y + sin * a + cos * b

    def slow(self, change):
        """Friction on the ground; `change` is the speed that it takes from a body that only slides."""
        speed = math.sqrt(self.vx**2 + self.vy**2 + (self.grip * self.spin) ** 2)
        if speed == 0:
            return
        slide = max(0.0, 1 - change / speed)
        self.vx, self.vy = self.vx * slide, self.vy * slide
        self.spin *= max(0.0, 1 - change / speed * self.grip**2 / self.inertia)


def simulate(shape, size, position, velocity, angle, spin, num_frames, start=None, physics=None):
    """Moves bodies.

    Args:
      shape: int [M], `raycast_shapes.SPHERE`, `CYLINDER` or `CUBE`.
      size: radius of discs, half the side of squares.
      position: [M, 2] at frame 0.
      velocity: [M, 2], units per second.
      angle: [M], radians.
      spin: [M], radians per second.
      num_frames: T.
      start: [M], seconds from which on the ground slows a body; None is from the beginning.
      physics: a `Physics`; None is the default one.

    Returns:
      a `Motion`.
    """
    physics = physics or Physics()
    start = np.zeros(len(shape)) if start is None else start
    bodies = [
        _Body(int(kind), float(size), *state)
        for kind, *state in zip(shape, position, velocity, angle, spin, start, strict=True)
    ]
    step = 1 / (physics.frame_rate * physics.steps_per_frame)
    states, collisions, last_contact = [_state(bodies)], [], {}
    for frame in range(1, num_frames):
        for part in range(physics.steps_per_frame):
            time = ((frame - 1) * physics.steps_per_frame + part) * step
            for body in bodies:
                if time >= body.start:
                    body.slow(physics.deceleration * step)
                body.x += body.vx * step
                body.y += body.vy * step
                body.angle += body.spin * step
            for pair, approach in _collide(bodies, physics):
                if (
                    approach > _LEAST_BOUNCE
                    and frame - last_contact.get(pair, -_SAME_COLLISION) >= _SAME_COLLISION
                ):
                    collisions.append((frame, *pair))
                last_contact[pair] = frame
        states.append(_state(bodies))
    states = np.array(states).reshape(num_frames, len(bodies), 6)
    return Motion(states[..., :2], states[..., 2:4], states[..., 4], states[..., 5], collisions)


def gaps(shape, size, position, angle):
    """Distances [M, M] between the outlines of bodies, negative where they overlap; infinite on the diagonal."""
    still = np.zeros(2)
    bodies = [
        _Body(int(kind), float(size), place, still, turn, 0, 0)
        for kind, place, turn in zip(shape, position, angle, strict=True)
    ]
    result = np.full((len(bodies), len(bodies)), np.inf)
    for i, j in itertools.combinations(range(len(bodies)), 2):
        result[i, j] = result[j, i] = _contact(bodies[i], bodies[j])[0]
    return result


def _state(bodies):
    return [(body.x, body.y, body.vx, body.vy, body.angle, body.spin) for body in bodies]


def _collide(bodies, physics):
    """Pushes and separates the pairs that overlap; yields (pair, speed of approach)."""
    for _ in range(_SEPARATIONS):
        touched = False
        for (i, first), (j, second) in itertools.combinations(enumerate(bodies), 2):
            reach = first.reach + second.reach
            if (
                abs(second.x - first.x) > reach
                or (second.x - first.x) ** 2 + (second.y - first.y) ** 2 > reach * reach
            ):
                continue
            gap, normal, point = _contact(first, second)
            if gap >= 0:
                continue
            touched = True
            yield (i, j), _push(first, second, normal, point, physics)
            for body, share in ((first, gap / 2), (second, -gap / 2)):
                body.x += share * normal[0]
                body.y += share * normal[1]
        if not touched:
            return


def _contact(first, second):
    """Gap, unit normal from first to second, and point of contact of two bodies."""
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
    if distance < 1e-9:  # cores overlap, as no pair does that had been apart
        ax, ay, bx, by = first.x, first.y, second.x, second.y
        away = math.hypot(bx - ax, by - ay) or 1.0
        return (
            -(first.radius + second.radius),
            ((bx - ax) / away, (by - ay) / away),
            ((ax + bx) / 2, (ay + by) / 2),
        )
    normal = ((bx - ax) / distance, (by - ay) / distance)
    limit = distance + _FLUSH * (first.radius + first.core)
    # On the first body's outline; both outlines where they just touch.
    points = [a for (a, _), other in zip(pairs, distances, strict=True) if other <= limit]
    x = sum(point[0] for point in points) / len(points) + first.radius * normal[0]
    y = sum(point[1] for point in points) / len(points) + first.radius * normal[1]
    return distance - first.radius - second.radius, normal, (x, y)


def _push(first, second, normal, point, physics):
    """Changes the velocities of two bodies that touch; returns the speed at which they approached each other."""
    nx, ny = normal
    ax, ay = point[0] - first.x, point[1] - first.y
    bx, by = point[0] - second.x, point[1] - second.y

    def relative(dx, dy):
        """Velocity of the second body's point along a direction, as the first one's sees it."""
        vx = second.vx - second.spin * by - first.vx + first.spin * ay
        vy = second.vy + second.spin * bx - first.vy - first.spin * ax
        return vx * dx + vy * dy

    def yielding(dx, dy):
        """Change of that velocity per impulse."""
        return (
            2 + (ax * dy - ay * dx) ** 2 / first.inertia + (bx * dy - by * dx) ** 2 / second.inertia
        )

    def apply(impulse, dx, dy):
        first.vx, first.vy = first.vx - impulse * dx, first.vy - impulse * dy
        second.vx, second.vy = second.vx + impulse * dx, second.vy + impulse * dy
        first.spin -= impulse * (ax * dy - ay * dx) / first.inertia
        second.spin += impulse * (bx * dy - by * dx) / second.inertia

    approach = -relative(nx, ny)
    if approach <= 0:
        return 0.0
    bounce = 1 + (physics.restitution if approach > _LEAST_BOUNCE else 0.0)
    push = bounce * approach / yielding(nx, ny)
    apply(push, nx, ny)
    tx, ty = -ny, nx
    limit = physics.friction * push
    apply(min(max(-relative(tx, ty) / yielding(tx, ty), -limit), limit), tx, ty)
    return approach
