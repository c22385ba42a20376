"""Bodies that slide and collide: laws of mechanics, contacts, friction."""

import dataclasses
import math

import numpy as np
import pytest

from tfobj.datasets.generators import clevrer_physics
from tfobj.datasets.generators.clevrer_physics import Physics, gaps, simulate
from tfobj.datasets.generators.raycast_shapes import CUBE, CYLINDER, SPHERE

IDEAL = Physics(deceleration=0.0, restitution=1.0, friction=0.0)
R = 0.5


def inertia(shape):
    return np.array([clevrer_physics._INERTIA[kind] * R**2 for kind in shape])


def energy(shape, motion):
    return 0.5 * (motion.velocity**2).sum(axis=(1, 2)) + 0.5 * (
        inertia(shape) * motion.spin**2
    ).sum(axis=1)


def crowd(seed, kinds=(SPHERE, CYLINDER, CUBE), count=6):
    """Arguments of `simulate`: bodies on a ring that head for its middle."""
    rng = np.random.default_rng(seed)

    turn = 2 * np.pi * np.arange(count) / count
    position = np.stack([np.cos(turn), np.sin(turn)], axis=-1) * rng.uniform(2, 4, (count, 1))
    velocity = -position * rng.uniform(0.6, 1.2, (count, 1)) + 0.3 * rng.normal(size=(count, 2))

    return dict(
        shape=rng.choice(kinds, count),
        size=R,
        position=position,
        velocity=velocity,
        angle=rng.uniform(0, 6, count),
        spin=rng.uniform(-2, 2, count),
    )


def alone(shape=SPHERE, velocity=(1.0, 0.0), spin=0.0, num_frames=60, **physics):
    return simulate(
        [shape], R, [(0, 0)], [velocity], [0.3], [spin], num_frames, physics=Physics(**physics)
    )


def pair(shapes, positions, velocities, angles=(0, 0), physics=IDEAL, num_frames=60):
    return simulate(shapes, R, positions, velocities, angles, [0, 0], num_frames, physics=physics)


def test_equal_discs_that_meet_head_on_exchange_their_velocities():
    motion = pair([SPHERE, CYLINDER], [(-1, 0), (1, 0)], [(2, 0), (-1, 0)])
    np.testing.assert_allclose(motion.velocity[-1], [(-1, 0), (2, 0)], atol=1e-12)
    # At a speed of 3, they close the gap of 1 between their outlines in frame ceil(25.6 / 3) = 9.
    assert motion.collisions == [(9, 0, 1)]


def test_a_glancing_hit_sends_equal_discs_off_at_a_right_angle():
    """Without friction, the one that was hit leaves along the line of centres."""
    motion = pair([SPHERE, SPHERE], [(-2, 0), (0, 0.6)], [(2, 0), (0, 0)])
    first, second = motion.velocity[-1]
    assert abs(first @ second) < 1e-12
    # At contact the centres are one diameter apart, 0.6 of it across: the line of centres rises by
    # asin(0.6), up to the motion within one step.
    np.testing.assert_allclose(math.atan2(second[1], second[0]), math.asin(0.6), atol=0.02)
    np.testing.assert_allclose((first**2).sum() + (second**2).sum(), 4, rtol=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_ideal_discs_conserve_momentum_and_energy(seed):
    start = crowd(seed, kinds=(SPHERE, CYLINDER))
    motion = simulate(**start, num_frames=128, physics=IDEAL)
    assert len(motion.collisions) >= 3
    momentum = motion.velocity.sum(axis=1)
    np.testing.assert_allclose(momentum - momentum[0], 0, atol=1e-9)
    np.testing.assert_allclose(
        energy(start["shape"], motion), energy(start["shape"], motion)[0], rtol=1e-9
    )
    np.testing.assert_allclose(motion.spin - motion.spin[0], 0, atol=1e-12)


@pytest.mark.parametrize(
    "physics",
    [
        dataclasses.replace(IDEAL, friction=0.5),
        dataclasses.replace(IDEAL, restitution=0.4, friction=0.3),
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_collisions_conserve_momentum_and_angular_momentum_of_all_shapes(seed, physics):
    """Impulses act at one point along one line, and separation shifts bodies along the normal."""
    start = crowd(seed, count=2)
    start["velocity"] = -start["position"]
    motion = simulate(**start, num_frames=128, physics=physics)
    assert motion.collisions
    np.testing.assert_allclose(
        motion.velocity.sum(axis=1) - motion.velocity[0].sum(axis=0), 0, atol=1e-9
    )

    position = motion.position
    velocity = motion.velocity
    orbital = (position[..., 0] * velocity[..., 1] - position[..., 1] * velocity[..., 0]).sum(
        axis=1
    )
    total = orbital + (inertia(start["shape"]) * motion.spin).sum(axis=1)

    # Bodies move by up to half a step before they are separated.
    assert np.abs(total - total[0]).max() < 0.05


@pytest.mark.parametrize("seed", range(8))
def test_energy_never_grows_and_bodies_never_overlap(seed):
    start = crowd(seed)
    motion = simulate(**start, num_frames=128)
    assert len(motion.collisions) >= 2
    change = np.diff(energy(start["shape"], motion))
    assert change.max() <= 1e-12
    assert energy(start["shape"], motion)[0] > 1
    least = min(
        gaps(start["shape"], R, motion.position[frame], motion.angle[frame]).min()
        for frame in range(128)
    )
    assert least > -1e-3


@pytest.mark.parametrize("seed", range(3))
def test_energy_never_grows_with_bouncing_and_much_friction(seed):
    """Sequential impulses add no energy to bodies hit off their centre.

    Newton's restitution with friction can.
    """
    start = crowd(seed, kinds=(CUBE,))
    motion = simulate(
        **start, num_frames=128, physics=Physics(deceleration=0.0, restitution=1.0, friction=2.0)
    )
    assert len(motion.collisions) >= 3
    assert np.diff(energy(start["shape"], motion)).max() <= 1e-12


def test_friction_stops_a_body_after_the_distance_of_the_textbook():
    motion = alone(velocity=(1.5, 2.0), num_frames=100)
    distance = np.linalg.norm(motion.position[-1, 0])
    np.testing.assert_allclose(distance, 2.5**2 / 2, rtol=0.01)  # v**2 / (2 a)
    assert (motion.velocity[-1] == 0).all()
    assert (motion.velocity[60, 0] != 0).all()
    np.testing.assert_allclose(motion.position[-1, 0] / distance, [0.6, 0.8], atol=1e-12)


@pytest.mark.parametrize("shape", [CUBE, CYLINDER])
def test_what_spins_slides_further_and_stops_turning_and_sliding_together(shape):
    straight = alone(shape, num_frames=128)
    spinning = alone(shape, spin=6.0, num_frames=128)
    assert spinning.position[-1, 0, 0] > 1.2 * straight.position[-1, 0, 0]
    moving = np.count_nonzero(np.linalg.norm(spinning.velocity[:, 0], axis=-1) > 1e-3)
    turning = np.count_nonzero(np.abs(spinning.spin[:, 0]) * R > 1e-3)
    assert abs(moving - turning) < 30
    assert spinning.spin[-1, 0] == 0


def test_the_ground_slows_from_the_start_time_on():
    motion = simulate([SPHERE], R, [(-4, 0)], [(2, 0)], [0], [0], 128, start=[2.0])
    np.testing.assert_allclose(motion.velocity[: int(2 * 25.6), 0, 0], 2, rtol=1e-12)
    np.testing.assert_allclose(motion.position[51, 0, 0], -4 + 2 * 51 / 25.6, rtol=1e-12)
    assert motion.velocity[-1, 0, 0] < 0.5


def test_restitution_and_friction_of_one_hit():
    """A disc hits another one at rest, centre to centre: 1 + e of half the speed goes over."""
    motion = pair(
        [SPHERE, SPHERE],
        [(-2, 0), (0, 0)],
        [(2, 0), (0, 0)],
        physics=dataclasses.replace(IDEAL, restitution=0.6),
    )
    np.testing.assert_allclose(motion.velocity[-1, :, 0], [0.4, 1.6], rtol=1e-12)

    spun = simulate(
        [SPHERE, SPHERE],
        R,
        [(-2, 0), (0, 0)],
        [(2, 0), (0, 0)],
        [0, 0],
        [1.0, 0],
        60,
        physics=dataclasses.replace(IDEAL, friction=0.3),
    )
    # The surface that moves upwards drags the other one along.
    assert spun.velocity[-1, 1, 1] > 0 > spun.velocity[-1, 0, 1]
    assert abs(spun.spin[-1, 0]) < 1
    assert spun.spin[-1, 1] < 0


def test_faces_that_meet_flat_do_not_turn():
    motion = pair([CUBE, CUBE], [(-1.5, 0), (1.5, 0)], [(1, 0), (-1, 0)])
    np.testing.assert_allclose(motion.spin[-1], 0, atol=1e-12)
    np.testing.assert_allclose(motion.velocity[-1], [(-1, 0), (1, 0)], atol=1e-12)


def test_a_hit_beside_the_centre_turns_a_cube():
    motion = pair([SPHERE, CUBE], [(-2, 0.4), (0, 0)], [(2, 0), (0, 0)])
    assert motion.spin[-1, 1] < -0.3
    assert motion.spin[-1, 0] == 0


@pytest.mark.parametrize(
    "shapes, positions, angles, expected",
    [
        ([SPHERE, CYLINDER], [(0, 0), (3, 4)], [0, 0], 5 - 2 * R),
        ([SPHERE, CUBE], [(0, 0), (2, 0)], [0, 0], 2 - 2 * R),
        # The corner of a rounded square: 0.8 R sqrt(2) + 0.2 R from its centre.
        ([SPHERE, CUBE], [(0, 0), (2, 0)], [0, np.pi / 4], 2 - R - 0.8 * R * np.sqrt(2) - 0.2 * R),
        ([CUBE, CUBE], [(0, 0), (2, 0)], [0, 0], 2 - 2 * R),
        ([CUBE, CUBE], [(0, 0), (2, 0)], [np.pi / 4, 0], 2 - R - 0.8 * R * np.sqrt(2) - 0.2 * R),
        # Corner to corner: the cores' corners are 2 - 2 * 0.8 R apart on both axes.
        ([CUBE, CUBE], [(0, 0), (2, 2)], [0, 0], (2 - 1.6 * R) * np.sqrt(2) - 0.4 * R),
        ([SPHERE, SPHERE], [(0, 0), (0.75, 0)], [0, 0], -0.25),
    ],
)
def test_gaps(shapes, positions, angles, expected):
    result = gaps(shapes, R, positions, angles)
    np.testing.assert_allclose(result[0, 1], expected, rtol=1e-12)
    np.testing.assert_allclose(
        gaps(shapes[::-1], R, positions[::-1], angles[::-1])[0, 1], expected, rtol=1e-12
    )
    assert result[0, 1] == result[1, 0]
    assert np.isinf(np.diag(result)).all()


def test_bodies_in_one_place_are_moved_apart():
    motion = pair(
        [CUBE, CUBE], [(0, 0), (0.05, 0)], [(0, 0), (0, 0)], physics=Physics(), num_frames=10
    )
    assert np.isfinite(motion.position).all()
    assert gaps([CUBE, CUBE], R, motion.position[-1], motion.angle[-1])[0, 1] >= 0


def test_lasting_contact_is_one_collision():
    motion = pair(
        [CYLINDER, CYLINDER],
        [(-1.2, 0), (0, 0)],
        [(3, 0), (0, 0)],
        physics=Physics(restitution=0.0),
        num_frames=60,
    )
    assert len(motion.collisions) == 1


def test_motion_does_not_depend_on_anything_else():
    start = crowd(3)
    first, second = (simulate(**start, num_frames=50) for _ in range(2))
    for name in ("position", "velocity", "angle", "spin"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    longer = simulate(**start, num_frames=60)
    np.testing.assert_array_equal(longer.position[:50], first.position)


def test_no_bodies_and_one_frame():
    motion = simulate([], R, np.zeros((0, 2)), np.zeros((0, 2)), [], [], 3)
    assert motion.position.shape == (3, 0, 2)
    assert motion.collisions == []
    assert alone(num_frames=1).angle.tolist() == [[0.3]]
