"""Discs that move freely in a square box and collide elastically, one step per frame.

One step updates the positions x and velocities v of discs with radius r and mass m:

1.  x <- x + v.
2.  Walls, per axis: if x < r, x <- r and v <- |v|; if x > box - r, x <- box - r and v <- -|v|.
3.  For i = 0, 1 ... and j = 0 ... i - 1: if d = |x_i - x_j| < r_i + r_j, with w = (x_i - x_j) / d,
        x_i <- x_i + w (r_i + r_j - d) / 2,  x_j <- x_j - w (r_i + r_j - d) / 2,
        a = w.v_i,  b = w.v_j,  b' = (2 m_i a + (m_j - m_i) b) / (m_i + m_j),  a' = b' + b - a,
        v_i <- v_i + w (a' - a),  v_j <- v_j + w (b' - b).

Collisions conserve kinetic energy, and those of a pair conserve momentum. Contacts of three bodies
may leave an overlap, or push a disc slightly beyond a wall, until the next step.

Source: the program of Sutskever, Hinton, Taylor 2008 as changed by van Steenkiste et al. 2018:
positions are corrected at walls and contacts, by half the overlap each whatever the masses, and a
step is a whole frame. Measured on the latter's animations, which do not reveal the order of walls
and pairs.
"""

import numpy as np


def simulate(position, velocity, radius, mass, box, num_frames):
    """Simulates the motion and the collisions of discs.

    Args:
      position: [n, M, 2], (x, y) of the centres in frame 0.
      velocity: [n, M, 2], per frame.
      radius: [n, M]; 0 for an absent disc, which touches nothing.
      mass: [n, M].
      box: side of the box.
      num_frames: number T of frames, at least 1.

    Returns:
      position: float64 [n, T, M, 2].
      velocity: float64 [n, T, M, 2].
      collision: bool [n, T, M], whether the disc collided in the step that led to the frame; False
        in frame 0.

    Raises:
      ValueError: if `num_frames` is below 1.
    """
    if num_frames < 1:
        raise ValueError(f"`num_frames` must be at least 1. Received: num_frames={num_frames}.")

    # Clips are the last axis, so that all operations on a disc run over contiguous numbers.
    position, velocity = (
        np.moveaxis(np.asarray(values, np.float64), 0, -1).copy() for values in (position, velocity)
    )  # [M, 2, n]
    radius, mass = (np.asarray(values, np.float64).T.copy() for values in (radius, mass))  # [M, n]
    squared_reach = _squared_reach(radius)

    num_discs, num_clips = radius.shape
    positions, velocities = np.empty((2, num_frames, *position.shape))
    collisions = np.zeros((num_frames, num_discs, num_clips), bool)
    positions[0] = position
    velocities[0] = velocity

    for frame in range(1, num_frames):
        position += velocity
        _reflect_at_walls(position, velocity, radius, box)

        for (i, j), limit in squared_reach.items():
            dx, dy = position[i] - position[j]
            clips = np.flatnonzero(dx * dx + dy * dy < limit)
            if clips.size:
                _collide(position, velocity, mass, radius, i, j, clips)
                collisions[frame, i, clips] = True
                collisions[frame, j, clips] = True

        positions[frame] = position
        velocities[frame] = velocity

    return tuple(
        np.ascontiguousarray(np.moveaxis(values, -1, 0))
        for values in (positions, velocities, collisions)
    )


def _squared_reach(radius):
    """Returns {(i, j): [n]}, the squared distance below which discs i > j touch.

    It is 0 if a disc is absent. The radius is [M, n].
    """
    reach = np.where(radius > 0, radius, -np.inf)
    return {
        (i, j): np.square(np.maximum(reach[i] + reach[j], 0.0))
        for i in range(len(radius))
        for j in range(i)
    }


def _reflect_at_walls(position, velocity, radius, box):
    """Applies step 2 in place to position and velocity [M, 2, n] of discs with radius [M, n]."""
    low = radius[:, None]
    high = box - radius[:, None]
    np.copyto(velocity, np.abs(velocity), where=position < low)
    np.copyto(velocity, -np.abs(velocity), where=position > high)
    np.clip(position, low, high, out=position)


def _collide(position, velocity, mass, radius, i, j, clips):
    """Applies step 3 in place to discs i and j of some clips; arrays as in `simulate`."""
    normal = position[i][:, clips] - position[j][:, clips]  # [2, collisions], w of step 3
    distance = np.sqrt(normal[0] ** 2 + normal[1] ** 2)
    normal[0, distance == 0.0] = 1.0  # coincident centres define no direction
    normal /= np.where(distance == 0.0, 1.0, distance)

    push = normal * (0.5 * (radius[i][clips] + radius[j][clips] - distance))
    position[i][:, clips] += push
    position[j][:, clips] -= push

    mass_i = mass[i][clips]
    mass_j = mass[j][clips]
    before_i = normal[0] * velocity[i, 0, clips] + normal[1] * velocity[i, 1, clips]
    before_j = normal[0] * velocity[j, 0, clips] + normal[1] * velocity[j, 1, clips]
    after_j = (2.0 * mass_i * before_i + (mass_j - mass_i) * before_j) / (mass_i + mass_j)
    # Energy conservation: the relative speed along the normal only changes its sign.
    after_i = after_j + before_j - before_i

    velocity[i][:, clips] += normal * (after_i - before_i)
    velocity[j][:, clips] += normal * (after_j - before_j)
