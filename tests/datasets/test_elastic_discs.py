"""Discs in a box: hand-computed contacts, a reference disc by disc, and the laws of mechanics."""

import numpy as np
import pytest

from tfobj.datasets.generators import balls, elastic_discs


def run(position, velocity, radius, mass, box=15.0, num_frames=2):
    """One clip, without its leading axis."""
    arrays = (np.array([values], np.float64) for values in (position, velocity, radius, mass))
    return tuple(values[0] for values in elastic_discs.simulate(*arrays, box, num_frames))


def reference(position, velocity, radius, mass, box, num_frames):
    """The rules, one disc and one pair after the other; absent discs are left out beforehand."""
    x = [np.array(p, float) for p in position]
    v = [np.array(u, float) for u in velocity]
    frames = [(np.array(x), np.array(v), np.zeros(len(x), bool))]
    for _ in range(num_frames - 1):
        met = np.zeros(len(x), bool)
        for k, r in enumerate(radius):
            x[k] = x[k] + v[k]
            for axis in (0, 1):
                if x[k][axis] < r:
                    x[k][axis] = r
                    v[k][axis] = abs(v[k][axis])
                elif x[k][axis] > box - r:
                    x[k][axis] = box - r
                    v[k][axis] = -abs(v[k][axis])
        for i in range(len(x)):
            for j in range(i):
                d = np.linalg.norm(x[i] - x[j])
                reach = radius[i] + radius[j]
                if d >= reach:
                    continue
                met[[i, j]] = True
                w = (x[i] - x[j]) / d
                x[i] = x[i] + w * (reach - d) / 2
                x[j] = x[j] - w * (reach - d) / 2
                a = w @ v[i]
                b = w @ v[j]
                new_b = (2 * mass[i] * a + (mass[j] - mass[i]) * b) / (mass[i] + mass[j])
                v[i] = v[i] + w * (new_b + b - a - a)
                v[j] = v[j] + w * (new_b - b)
        frames.append((np.array(x), np.array(v), met))

    return tuple(np.stack(values) for values in zip(*frames, strict=True))


def pair_distances(position, radius):
    """Returns the gaps between all pairs of discs, [n, T, pairs], infinite for absent discs.

    The position is [n, T, M, 2], the radius [n, M].
    """
    i, j = np.tril_indices(radius.shape[1], -1)
    gap = (
        np.linalg.norm(position[:, :, i] - position[:, :, j], axis=-1)
        - (radius[:, i] + radius[:, j])[:, None]
    )
    return np.where(((radius[:, i] > 0) & (radius[:, j] > 0))[:, None], gap, np.inf)


@pytest.fixture(scope="module")
def eight():
    """200 frames of 60 clips of 6 to 8 balls: the start, and (position, velocity, collision)."""
    state = balls.initial_state(np.arange(60), seed=3, variant="balls678_binary")
    return state, elastic_discs.simulate(
        state["position"], state["velocity"], state["radius"], state["mass"], 15.0, 200
    )


def test_equal_discs_exchange_their_velocities():
    """Gap 0.1, approach 0.3 per frame: 0.2 overlap, half of it for each."""
    position, velocity, collision = run(
        [[4.0, 5.0], [6.5, 5.0]], [[0.2, 0.05], [-0.1, 0.0]], [1.2, 1.2], [1.0, 1.0], num_frames=3
    )
    # From the second to the first, after the move.
    w = np.array([4.2 - 6.4, 0.05]) / np.hypot(2.2, 0.05)

    np.testing.assert_allclose(
        position[1],
        [
            [4.2, 5.05] + w * (2.4 - np.hypot(2.2, 0.05)) / 2,
            [6.4, 5.0] - w * (2.4 - np.hypot(2.2, 0.05)) / 2,
        ],
    )
    np.testing.assert_allclose(np.linalg.norm(position[1, 0] - position[1, 1]), 2.4)

    before = velocity[0] @ w
    after = velocity[1] @ w
    np.testing.assert_allclose(after, before[::-1], rtol=1e-12)
    np.testing.assert_allclose(
        velocity[1] - after[:, None] * w, velocity[0] - before[:, None] * w, atol=1e-12
    )
    np.testing.assert_array_equal(collision, [[False, False], [True, True], [False, False]])
    np.testing.assert_allclose(position[2], position[1] + velocity[1])


def test_a_heavy_disc_goes_on():
    """A mass of 6 that hits a resting mass of 1 keeps 5/7 of its speed and gives it 12/7.

    The overlap is halved whatever the masses.
    """
    position, velocity, _ = run(
        [[5.0, 5.0], [7.7, 5.0]], [[0.2, 0.0], [0.0, 0.0]], [1.5, 1.2], [6.0, 1.0]
    )
    np.testing.assert_allclose(velocity[1], [[1 / 7, 0.0], [2.4 / 7, 0.0]], atol=1e-15)
    np.testing.assert_allclose(position[1], [[5.1, 5.0], [7.8, 5.0]])


def test_walls_stop_and_reflect():
    position, velocity, collision = run(
        [[1.3, 13.7], [8.0, 2.0]], [[-0.3, 0.4], [0.1, -0.7]], [1.2, 1.5], [1.0, 6.0], num_frames=3
    )
    np.testing.assert_allclose(position[1], [[1.2, 13.8], [8.1, 1.5]])
    np.testing.assert_allclose(velocity[1], [[0.3, -0.4], [0.1, 0.7]])
    np.testing.assert_allclose(position[2], [[1.5, 13.4], [8.2, 2.2]])
    assert not collision.any()


def test_absent_discs_touch_nothing():
    position, velocity, collision = run(
        [[0.0, 0.0], [1.3, 1.3]], [[0.0, 0.0], [-0.15, -0.2]], [0.0, 1.2], [0.0, 1.0], num_frames=5
    )
    assert not position[:, 0].any()
    assert not velocity[:, 0].any()
    assert not collision.any()
    np.testing.assert_allclose(position[-1, 1], [1.65, 1.8])


def test_coincident_discs_are_parted():
    position, velocity, _ = run(
        [[5.0, 5.0], [5.0, 5.0]], [[0.0, 0.1], [0.0, 0.1]], [1.2, 1.2], [1.0, 1.0]
    )
    np.testing.assert_allclose(position[1], [[3.8, 5.1], [6.2, 5.1]])
    assert np.isfinite(velocity).all()


@pytest.mark.parametrize("variant", ["balls4_binary", "balls678_binary", "balls3_curtain"])
def test_reference(variant):
    box = balls.VARIANTS[variant].box
    state = balls.initial_state(np.arange(4), seed=1, variant=variant)
    actual = elastic_discs.simulate(
        state["position"], state["velocity"], state["radius"], state["mass"], box, 80
    )

    for clip in range(4):
        real = state["radius"][clip] > 0
        expected = reference(
            *(state[name][clip, real] for name in ("position", "velocity", "radius", "mass")),
            box,
            80,
        )
        for values, wanted in zip(actual, expected, strict=True):
            np.testing.assert_allclose(values[clip][:, real], wanted, atol=1e-7)
            assert not values[clip][:, ~real].any()

    assert actual[2].any()


def test_energy_is_kept(eight):
    state, (_, velocity, _) = eight
    energy = (state["mass"][:, None] * np.square(velocity).sum(-1)).sum(-1)  # [n, T]
    np.testing.assert_allclose(energy, np.broadcast_to(energy[:, :1], energy.shape), rtol=1e-12)


def test_momentum_changes_at_walls_alone():
    """A pair in a wide box, of random masses and angles, met once."""
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 2 * np.pi, 200)
    offset = rng.uniform(-1.5, 1.5, 200)
    towards = np.stack([np.cos(angle), np.sin(angle)], -1)
    aside = np.stack([-np.sin(angle), np.cos(angle)], -1)
    position = 50.0 + np.stack([3.0 * towards + offset[:, None] * aside, -3.0 * towards], 1)
    velocity = np.stack(
        [-rng.uniform(0.2, 0.6, (200, 1)) * towards, rng.uniform(0.0, 0.5, (200, 1)) * towards], 1
    )
    mass = rng.uniform(0.5, 8.0, (200, 2))
    _, velocity, collision = elastic_discs.simulate(
        position, velocity, np.full((200, 2), 1.2), mass, 100.0, 40
    )

    assert collision.any(axis=(1, 2)).mean() > 0.9
    momentum = (mass[:, None, :, None] * velocity).sum(2)
    energy = (mass[:, None] * np.square(velocity).sum(-1)).sum(-1)
    np.testing.assert_allclose(
        momentum, np.broadcast_to(momentum[:, :1], momentum.shape), atol=1e-12
    )
    np.testing.assert_allclose(energy, np.broadcast_to(energy[:, :1], energy.shape), rtol=1e-12)


def test_discs_stay_inside_and_apart(eight):
    """Only contacts of three bodies leave an overlap, or a disc slightly beyond a wall."""
    state, (position, velocity, collision) = eight
    exists = state["radius"][:, None, :, None] > 0
    low = state["radius"][:, None, :, None]
    high = 15.0 - state["radius"][:, None, :, None]
    over = np.where(exists, np.maximum(low - position, position - high), 0.0)
    assert over.max() < 0.5
    assert not (over[~np.broadcast_to(collision[..., None], over.shape)] > 1e-12).any()
    gaps = pair_distances(position, state["radius"])
    assert -0.5 < gaps.min() < 0
    assert (gaps < -1e-9).mean() < 1e-3


def test_no_disc_passes_another(eight):
    """In a step no pair approaches by the sum of its radii, so no disc tunnels through another."""
    state, (_, velocity, _) = eight
    i, j = np.tril_indices(state["radius"].shape[1], -1)
    approach = np.linalg.norm(velocity[:, :, i] - velocity[:, :, j], axis=-1)
    assert approach.max() < 2 * balls.RADII[0]


def test_a_collision_is_a_change_of_velocity(eight):
    state, (position, velocity, collision) = eight
    radius = state["radius"][:, None, :, None]
    moved = position[:, :-1] + velocity[:, :-1]
    at_wall = ((moved < radius) | (moved > 15.0 - radius)).any(-1)
    changed = np.abs(velocity[:, 1:] - velocity[:, :-1]).max(-1) > 1e-12
    np.testing.assert_array_equal(
        (changed | collision[:, 1:])[~at_wall], collision[:, 1:][~at_wall]
    )
    assert not collision[:, 0].any()
    assert 0.02 < collision.mean() < 0.2


def test_free_flight_is_reversible():
    state = balls.initial_state(np.arange(40), variant="balls4_binary")
    forward = elastic_discs.simulate(
        state["position"], state["velocity"], state["radius"], state["mass"], 15.0, 6
    )
    free = (np.abs(forward[1] - forward[1][:, :1]).max(axis=(1, 2, 3)) == 0) & ~forward[2].any(
        axis=(1, 2)
    )

    assert free.sum() >= 5
    back = elastic_discs.simulate(
        forward[0][free, -1],
        -forward[1][free, -1],
        state["radius"][free],
        state["mass"][free],
        15.0,
        6,
    )

    np.testing.assert_allclose(back[0][:, ::-1], forward[0][free], atol=1e-12)


def test_frames_are_a_number():
    with pytest.raises(ValueError, match="`num_frames` must be at least 1. Received: num_frames=0"):
        run([[5.0, 5.0]], [[0.0, 0.0]], [1.2], [1.0], num_frames=0)
    assert run([[5.0, 5.0]], [[0.1, 0.0]], [1.2], [1.0], num_frames=1)[0].shape == (1, 1, 2)
