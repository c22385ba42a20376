"""Discs that move freely in a square box and collide elastically, one step per frame.

A step of the positions x and velocities v of discs of radius r and mass m:

1.  x <- x + v.
2.  Walls, per axis: if x < r, x <- r and v <- |v|; if x > box - r, x <- box - r and v <- -|v|.
3.  For i = 0, 1 ... and j = 0 ... i - 1: if d = |x_i - x_j| < r_i + r_j, with w = (x_i - x_j) / d,
        x_i <- x_i + w (r_i + r_j - d) / 2,  x_j <- x_j - w (r_i + r_j - d) / 2,
        a = w.v_i,  b = w.v_j,  b' = (2 m_i a + (m_j - m_i) b) / (m_i + m_j),  a' = b' + b - a,
        v_i <- v_i + w (a' - a),  v_j <- v_j + w (b' - b).

Kinetic energy is kept, in pairs momentum too. Contacts of three bodies may leave an overlap, or push a disc a little
over a wall, until the next step.

Source: the program of Sutskever, Hinton, Taylor 2008 as van Steenkiste et al. 2018 changed it: positions are corrected
at walls and contacts, by half the overlap each whatever the masses, and the step is a whole frame. Measured on the
latter's animations, which do not tell in which order they take walls and pairs.
"""

import numpy as np


def simulate(position, velocity, radius, mass, box, num_frames):
    """Lets discs move and collide.

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
      collision: bool [n, T, M], whether the disc met another in the step that led to the frame; False in frame 0.

    Raises:
      ValueError: if `num_frames` is below 1.
    """
    if num_frames < 1:
        raise ValueError(f"`num_frames` must be at least 1. Received: num_frames={num_frames}.")
    # Clips last: all that is done to a disc is done to contiguous numbers.
    x, v = (
        np.moveaxis(np.asarray(values, np.float64), 0, -1).copy() for values in (position, velocity)
    )  # [M, 2, n]
    radius, mass = (np.asarray(values, np.float64).T.copy() for values in (radius, mass))  # [M, n]
    num_discs, num_clips = radius.shape
    reach = np.where(radius > 0, radius, -np.inf)
    limits = {
        (i, j): np.square(np.maximum(reach[i] + reach[j], 0.0))
        for i in range(num_discs)
        for j in range(i)
    }
    low, high = radius[:, None], box - radius[:, None]
    positions, velocities = np.empty((2, num_frames, *x.shape))
    collisions = np.zeros((num_frames, num_discs, num_clips), bool)
    positions[0], velocities[0] = x, v
    for t in range(1, num_frames):
        x += v
        np.copyto(v, np.abs(v), where=x < low)
        np.copyto(v, -np.abs(v), where=x > high)
        np.clip(x, low, high, out=x)
        for (i, j), limit in limits.items():
            dx, dy = x[i] - x[j]
            clips = np.flatnonzero(dx * dx + dy * dy < limit)
            if clips.size:
                _collide(x, v, mass, radius, i, j, clips)
                collisions[t, i, clips] = collisions[t, j, clips] = True
        positions[t], velocities[t] = x, v
    return tuple(
        np.ascontiguousarray(np.moveaxis(values, -1, 0))
        for values in (positions, velocities, collisions)
    )


def _collide(x, v, mass, radius, i, j, clips):
    """Pushes discs i and j of some clips apart and exchanges their momentum, in place; shapes as in `simulate`."""
    along = x[i][:, clips] - x[j][:, clips]  # [2, hits]
    distance = np.sqrt(along[0] ** 2 + along[1] ** 2)
    along[0, distance == 0.0] = 1.0  # coincident centres have no direction of their own
    along /= np.where(distance == 0.0, 1.0, distance)
    push = along * (0.5 * (radius[i][clips] + radius[j][clips] - distance))
    x[i][:, clips] += push
    x[j][:, clips] -= push
    mass_i, mass_j = mass[i][clips], mass[j][clips]
    before_i = along[0] * v[i, 0, clips] + along[1] * v[i, 1, clips]
    before_j = along[0] * v[j, 0, clips] + along[1] * v[j, 1, clips]
    after_j = (2.0 * mass_i * before_i + (mass_j - mass_i) * before_j) / (mass_i + mass_j)
    after_i = after_j + before_j - before_i
    v[i][:, clips] += along * (after_i - before_i)
    v[j][:, clips] += along * (after_j - before_j)
