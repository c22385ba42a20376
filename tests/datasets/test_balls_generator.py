"""Bouncing balls: initial states, rendering by pixel, curtain, colours, determinism."""

import numpy as np
import pytest

from tfobj.datasets.generators import balls

SETS = list(balls.VARIANTS)


def reference_frame(position, radius, box, size):
    """Renders one frame pixel by pixel: numbers of the balls, of which the lowest wins."""
    labels = np.zeros((size, size), np.uint8)
    for row in range(size):
        for column in range(size):
            centre = (np.array([column, row]) + 0.5) * box / size
            inside = np.linalg.norm(centre - position, axis=-1) < radius
            labels[row, column] = np.argmax(inside) if inside.any() else 0
    return labels


def drawn(position, radius, variant="balls4_binary", size=64, **factors):
    """Renders one frame of balls at given positions; returns arrays without the axes n and T."""
    position = np.array(position, np.float64)
    radius = np.array(radius, np.float64)
    position = np.concatenate([np.zeros((1, 2)), position])[None, None]
    radius = np.concatenate([[0.0], radius])[None]
    color = np.concatenate([np.zeros((1, 3)), np.ones((radius.shape[1] - 1, 3))])[None]
    result = balls.render(
        {"position": position, "radius": radius, "color": color, **factors}, variant, size
    )
    return {name: values[0, 0] for name, values in result.items()}


@pytest.mark.parametrize("variant", SETS)
def test_shapes(variant):
    facts = balls.VARIANTS[variant]
    clips = balls.clips(np.arange(3), variant=variant, num_frames=5, size=32)
    n = facts.num_entities
    shapes = {
        "video": (3, 5, 32, 32, facts.channels),
        "mask": (3, 5, 32, 32),
        "radius": (3, n),
        "mass": (3, n),
        "color": (3, n, 3),
        "visibility": (3, n),
        "position": (3, 5, n, 2),
        "velocity": (3, 5, n, 2),
        "collision": (3, 5, n),
    }
    if facts.curtain:
        shapes |= {"full_mask": (3, 5, 32, 32), "curtain": (3, 2)}
    assert {name: values.shape for name, values in clips.items()} == shapes

    for name, values in clips.items():
        rendered = name in ("video", "mask", "full_mask")
        assert values.dtype == (np.uint8 if rendered else np.float32), name

    absent = clips["visibility"] == 0
    assert clips["visibility"][:, 0].all()
    for name in ("radius", "mass", "color"):
        assert not clips[name][absent].any()
        assert not clips[name][:, 0].any()
        assert clips[name][:, 1:][~absent[:, 1:]].any(axis=-1).all()

    for name in ("position", "velocity", "collision"):
        tracks = np.moveaxis(clips[name], 1, 2)
        assert not tracks[absent].any()
        assert not tracks[:, 0].any()


@pytest.mark.parametrize("variant", SETS)
def test_starts(variant):
    facts = balls.VARIANTS[variant]
    state = balls.initial_state(np.arange(300), seed=5, variant=variant)
    exists = state["radius"] > 0
    position = state["position"][exists]

    assert position.min() >= 2.0
    assert position.max() <= facts.box - 2.0
    assert position.min() < 2.1
    assert position.max() > facts.box - 2.1
    np.testing.assert_allclose(np.square(state["velocity"]).sum((1, 2)), 0.25, rtol=1e-14)

    for i in range(facts.max_balls):
        for j in range(i):
            both = exists[:, i] & exists[:, j]
            distance = np.linalg.norm(state["position"][:, i] - state["position"][:, j], axis=-1)
            assert (distance >= state["radius"][:, i] + state["radius"][:, j])[both].all()

    kinds = set(zip(state["radius"][exists], state["mass"][exists], strict=True))
    assert kinds == ({(1.2, 1.0)} if facts.curtain else {(1.2, 1.0), (1.5, 6.0)})

    counts = exists.sum(1)
    assert set(counts) == set(range(facts.min_balls, facts.max_balls + 1))
    assert (np.diff(exists.astype(int), axis=1) <= 0).all(), "absent balls come last"
    assert not state["position"][~exists].any()
    assert not state["velocity"][~exists].any()
    assert not state["mass"][~exists].any()


def test_velocities_are_normalised_normal_vectors():
    """All 8 components are a uniform point of a sphere with squared radius s = 1/4.

    In d dimensions, E v^2 = s / d, E v^4 = 3 s^2 / (d (d + 2)) and E v^2 w^2 = s^2 / (d (d + 2)).
    """
    velocity = balls.initial_state(np.arange(4000), seed=2)["velocity"].reshape(-1, 8)
    np.testing.assert_allclose(velocity.mean(0), 0.0, atol=0.015)  # 5 standard errors
    np.testing.assert_allclose(np.square(velocity).mean(0), 0.25 / 8, rtol=0.1)
    np.testing.assert_allclose((velocity**4).mean(), 3 * 0.0625 / (8 * 10), rtol=0.05)
    np.testing.assert_allclose(
        (velocity[:, 0] ** 2 * velocity[:, 1] ** 2).mean(), 0.0625 / (8 * 10), rtol=0.15
    )
    np.testing.assert_allclose(
        (velocity[:, 0] ** 2 * velocity[:, 7] ** 2).mean(), 0.0625 / (8 * 10), rtol=0.15
    )
    np.testing.assert_allclose(np.cov(velocity.T), np.eye(8) * 0.25 / 8, atol=0.003)


def test_kinds_and_numbers_are_equally_frequent():
    state = balls.initial_state(np.arange(3000), variant="balls678_binary")
    exists = state["radius"] > 0
    np.testing.assert_allclose(np.bincount(exists.sum(1))[6:] / 3000, 1 / 3, atol=0.05)
    # Heavy balls overlap more, which redraws places but not kinds.
    np.testing.assert_allclose((state["mass"] == 6.0).sum() / exists.sum(), 0.5, atol=0.02)


@pytest.mark.parametrize(
    "variant, size", [("balls4_binary", 64), ("balls678_color8", 41), ("balls3_curtain", 64)]
)
def test_drawing_pixel_by_pixel(variant, size):
    facts = balls.VARIANTS[variant]
    clips = balls.clips(np.arange(2), seed=9, variant=variant, num_frames=3, size=size)
    labels = clips["full_mask"] if facts.curtain else clips["mask"]
    for clip, frame in ((0, 0), (1, 2)):
        expected = reference_frame(
            clips["position"][clip, frame].astype(float),
            clips["radius"][clip].astype(float),
            facts.box,
            size,
        )
        np.testing.assert_array_equal(labels[clip, frame], expected)


@pytest.mark.parametrize("variant", SETS)
def test_factors_give_back_the_video(variant):
    clips = balls.clips(np.arange(6), seed=1, variant=variant, num_frames=4)
    again = balls.render(
        {
            name: values
            for name, values in clips.items()
            if name not in ("video", "mask", "full_mask")
        },
        variant,
    )
    for name, values in again.items():
        np.testing.assert_array_equal(values, clips[name])


@pytest.mark.parametrize(
    "radius, box, area, tolerance", [(1.2, 15, 82.35, 5), (1.5, 15, 128.68, 7), (1.2, 10, 185.3, 7)]
)
def test_areas(radius, box, area, tolerance):
    """About pi r^2 pixels, and exactly so many on average over places."""
    centres = np.random.default_rng(0).uniform(3, box - 3, (1, 400, 1, 2))
    position = np.concatenate([np.zeros_like(centres), centres], 2)
    factors = {
        "position": position,
        "radius": np.array([[0, radius]]),
        "color": np.ones((1, 2, 3)),
        "curtain": np.array([[100, 100]]),
    }
    variant = "balls3_curtain" if box == 10 else "balls4_binary"
    areas = (balls.render(factors, variant)["mask"] > 0).sum((0, 2, 3))

    assert np.abs(areas - area).max() <= tolerance
    np.testing.assert_allclose(areas.mean(), area, rtol=0.002)


def test_fraction_of_white_pixels():
    shares = {}
    for variant in ("balls4_binary", "balls678_binary", "balls3_curtain"):
        clips = balls.clips(np.arange(60), variant=variant, num_frames=20)
        share = (clips.get("full_mask", clips["mask"]) > 0).mean(axis=(1, 2, 3))
        for count in (3, 4, 6, 8):
            chosen = clips["visibility"].sum(1) - 1 == count
            if chosen.any():
                shares[count] = share[chosen].mean()
    for count, expected in {3: 0.136, 4: 0.10, 6: 0.15, 8: 0.21}.items():
        np.testing.assert_allclose(shares[count], expected, atol=0.01, err_msg=str(count))


def test_lower_numbers_win():
    frame = drawn([[7.0, 7.0], [8.0, 7.0]], [1.5, 1.5])
    assert frame["mask"][29, 32] == 1
    assert frame["mask"][29, 38] == 2
    assert (frame["mask"] == 1).sum() > (frame["mask"] == 2).sum() > 0


def test_balls_may_lie_outside():
    mask = drawn([[0.0, 7.5], [-5.0, 7.0], [1e6, -1e6], [15.0, 15.0]], [1.5, 1.5, 1.2, 1.2])["mask"]
    assert not np.isin(mask, (2, 3)).any()
    np.testing.assert_array_equal(np.flatnonzero((mask == 1).any(1)), np.arange(26, 38))
    assert (mask == 1).any(0).nonzero()[0].max() == 5
    assert (mask[:, :1] == 1).any()
    assert (mask == 4).sum() == pytest.approx(np.pi * 5.12**2 / 4, abs=5)


def test_absent_balls_are_not_drawn():
    frame = drawn([[7.0, 7.0], [8.0, 7.0]], [0.0, 1.5])
    assert set(np.unique(frame["mask"])) == {0, 2}
    assert not drawn([[7.0, 7.0]], [0.0])["mask"].any()


@pytest.mark.parametrize("size", [64, 48, 100])
def test_curtain(size):
    clips = balls.clips(np.arange(40), variant="balls3_curtain", num_frames=6, size=size)
    centres = (np.arange(size) + 0.5) * 64 / size
    behind = 0
    for clip in range(40):
        row, column = clips["curtain"][clip]
        assert 0 <= row <= 36
        assert 0 <= column <= 36
        assert row == int(row)
        rows = (row <= centres) & (centres < row + 28)
        columns = (column <= centres) & (centres < column + 28)
        hidden = rows[:, None] & columns
        if size == 64:
            assert hidden.sum() == 28 * 28
            assert hidden[int(row), int(column)]
            assert hidden[int(row) + 27, int(column) + 27]
        for frame in range(6):
            assert not clips["video"][clip, frame, hidden].any()
            assert not clips["mask"][clip, frame, hidden].any()
            np.testing.assert_array_equal(
                clips["mask"][clip, frame, ~hidden], clips["full_mask"][clip, frame, ~hidden]
            )
            behind += clips["full_mask"][clip, frame, hidden].any()

    np.testing.assert_array_equal(clips["video"][..., 0], np.where(clips["mask"] > 0, 255, 0))
    assert behind > 100
    assert len(np.unique(clips["curtain"], axis=0)) > 35


def test_colours():
    """Zablotskaia et al. 2020: ball k has colour k of the list, of four or of eight."""
    listed = [
        (227, 206, 166),
        (180, 120, 31),
        (138, 223, 178),
        (44, 160, 51),
        (153, 154, 251),
        (28, 26, 227),
        (111, 191, 253),
        (0, 127, 255),
    ]

    for variant, number in (("balls4_color", 4), ("balls678_color4", 4), ("balls678_color8", 8)):
        clips = balls.clips(np.arange(8), variant=variant, num_frames=2)
        assert not clips["video"][clips["mask"] == 0].any()
        for ball in range(balls.VARIANTS[variant].max_balls):
            pixels = clips["video"][clips["mask"] == 1 + ball]
            assert len(pixels)
            assert (pixels == listed[ball % number]).all()

    visible = clips["visibility"] > 0
    np.testing.assert_allclose(
        (255 * clips["color"])[visible][:3], [(0, 0, 0), *listed[:2]], rtol=1e-6
    )


def test_colours_do_not_change_the_clips():
    for first, second in (
        ("balls4_binary", "balls4_color"),
        ("balls678_binary", "balls678_color8"),
    ):
        one, two = (
            balls.clips(np.arange(3), seed=4, variant=name, num_frames=4)
            for name in (first, second)
        )
        np.testing.assert_array_equal(one["mask"], two["mask"])
        np.testing.assert_array_equal(one["video"][..., 0], np.where(two["mask"] > 0, 255, 0))
        assert (one["color"][:, 1:5] == 1).all()


@pytest.mark.parametrize("variant", SETS)
def test_a_clip_depends_on_seed_and_number_alone(variant):
    together = balls.clips(np.arange(70_000, 70_009), seed=2**63 + 7, variant=variant, num_frames=4)
    for order in ([70_003], [70_008, 70_001], [70_005, 70_005]):
        for name, values in balls.clips(
            np.array(order), seed=2**63 + 7, variant=variant, num_frames=4
        ).items():
            np.testing.assert_array_equal(values, together[name][np.array(order) - 70_000])
    other = balls.clips(np.arange(70_000, 70_009), seed=3, variant=variant, num_frames=4)
    assert not (other["position"][:, 0, 1] == together["position"][:, 0, 1]).any()
    assert len(np.unique(together["video"].reshape(9, -1), axis=0)) == 9


def test_more_frames_only_go_on():
    short, long = (balls.factors(np.arange(3), num_frames=frames) for frames in (10, 60))
    for name in ("position", "velocity", "collision"):
        np.testing.assert_array_equal(short[name], long[name][:, :10])
    assert balls.clips(np.arange(0))["video"].shape == (0, 51, 64, 64, 1)


def test_bits():
    """Clip 0 of seed 0 must never change: data on disk and scores depend on it."""
    state = balls.initial_state(np.array([0]))
    np.testing.assert_array_equal(state["radius"][0], [1.5, 1.2, 1.2, 1.2])
    np.testing.assert_array_equal(state["position"][0, 0], [7.544399338425137, 6.958487324765883])
    np.testing.assert_array_equal(
        state["velocity"][0, 0], [0.048534524966779465, 0.04199300372635048]
    )
    np.testing.assert_array_equal(
        balls.factors(np.array([0]))["position"][0, 50, 1],
        np.float32([8.386046409606934, 11.737899780273438]),
    )


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda: balls.clips([0], variant="balls5"),
            "`variant` must be one of balls4_binary, .*Received: 'balls5'",
        ),
        (lambda: balls.clips([0], size=8), "`size` must be at least 16 pixels. Received: size=8"),
        (lambda: balls.clips([0], num_frames=0), "`num_frames` must be at least 1"),
        (lambda: balls.clips([0.5]), "`indices` must be a one-dimensional array of integers"),
        (lambda: balls.clips([0], seed=-1), "`seed` must be in"),
        (lambda: drawn([[np.nan, 1.0]], [1.2]), "`position` must be finite"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
