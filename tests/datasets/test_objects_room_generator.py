"""Objects Room: geometry of room, camera and solids, rules of its variants, determinism."""

import hashlib

import numpy as np
import pytest

from tfobj.datasets.generators import room_pictures, rooms

FAR = np.tan(np.pi / 6) / 32  # of a pixel of 64, at depth 1


def room(azimuth=0.0, pitch=0.0, objects=(), **changes):
    """Factors of one picture with objects (shape, size, x, y)."""
    rows = np.array([(0, 0, 0, 0), *objects], np.float64)
    names = ("shape", "size", "x", "y")
    factors = {name: rows[None, :, i] for i, name in enumerate(names)} | {
        "rotation": np.zeros((1, len(rows)))
    }
    factors |= {
        "color": np.ones((1, len(rows), 3)),
        "wall_color": np.full((1, 3), 0.8),
        "floor_color": np.full((1, 3), 0.5),
    }
    return {**factors, "azimuth": np.array([azimuth]), "pitch": np.array([pitch]), **changes}


@pytest.fixture(scope="module")
def scenes():
    return rooms.scenes(np.arange(80), seed=1)


@pytest.fixture(scope="module")
def many():
    return {
        variant: rooms.factors(np.arange(200 if "_" in variant else 3000), variant=variant)
        for variant in rooms.VARIANTS
    }


def test_an_empty_room_by_hand():
    """From (3, 0, 1.5) towards -x: the far side of the wall is 6.5 away.

    Its top is 1.5 above the camera, its foot 1.5 below.
    """
    parts = rooms.render(room())["parts"][0]
    half = 1.5 / 6.5 / FAR
    column = parts[:, 32]
    expected = np.full(64, rooms.OTHER_WALL)
    centres = np.arange(64) + 0.5
    expected[centres < 32 - half] = rooms.SKY
    expected[centres > 32 + half] = rooms.FLOOR

    np.testing.assert_array_equal(column, expected)

    # The sides at y = 3.5 (to the right, of the first half) and y = -3.5 begin at the corners.
    corner = 3.5 / 6.5 / FAR
    np.testing.assert_array_equal(parts[32] == rooms.WALL, centres > 32 + corner)
    assert (parts[32] == rooms.WALL).sum() == 2
    assert (parts[32, :62] == rooms.OTHER_WALL).all()


def test_colours_by_hand():
    image = rooms.render(room())["image"][0]
    sun = np.array([0.40, 0.25, np.sqrt(1 - 0.40**2 - 0.25**2)])
    for pixel, color, normal in (
        ((60, 32), 0.5, (0, 0, 1)),
        ((32, 32), 0.8, (1, 0, 0)),
        ((32, 63), 0.8, (0, -1, 0)),
        ((32, 0), 0.8, (0, 1, 0)),
    ):
        np.testing.assert_array_equal(
            image[pixel], np.rint(255 * color * (0.3 + 0.35 * (1 + sun @ normal)))
        )

    np.testing.assert_array_equal(image[2, 5], np.rint(255 * np.array(room_pictures.SKY_COLOR)))


def test_pitch_turns_the_picture_up():
    """The horizon is at row 32 + tan(pitch) / pixel; a camera that looks up is lower."""
    for pitch in rooms.PITCH_RANGE:
        coords = room_pictures.pixel_coords(
            np.array([[[0, 0, 1.5], [-1e6, 0, 0]]]), np.zeros(1), np.array([pitch]), 64
        )[0]
        np.testing.assert_allclose(coords[0], [32, 32, 3 / np.cos(pitch)], atol=1e-9)
        assert coords[1, 1] == pytest.approx(32 + np.tan(pitch) / FAR, abs=1e-3)
    up, down = (rooms.render(room(pitch=pitch))["parts"][0] for pitch in rooms.PITCH_RANGE[::-1])
    assert (up == rooms.SKY).sum() > (down == rooms.SKY).sum() > 0
    assert (down == rooms.FLOOR).sum() > (up == rooms.FLOOR).sum() > 0


@pytest.mark.parametrize(
    "azimuth, pitch, x, y", [(0.0, 0.0, 0.0, 0.0), (1.0, -0.3, 0.8, -0.5), (4.0, 0.2, -1.0, 1.0)]
)
def test_a_sphere_is_a_cone_of_rays(azimuth, pitch, x, y):
    """A pixel shows the sphere if its ray is within asin(radius / distance) of the centre."""
    factors = room(azimuth, pitch, [(1, 0.5, x, y)])
    drawn = rooms.render(factors)
    eye = np.array([3 * np.cos(azimuth), 3 * np.sin(azimuth), 1.5 - 3 * np.tan(pitch)])
    forward = np.array([0, 0, 1.5]) - eye
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, (0, 0, 1))
    right /= np.linalg.norm(right)
    up = np.cross(right, forward)
    row, column = np.mgrid[:64, :64] + 0.5
    rays = forward + (column[..., None] - 32) * FAR * right + (32 - row[..., None]) * FAR * up
    toward = np.array([x, y, 0.5]) - eye
    distance = np.linalg.norm(toward)
    cosine = rays @ toward / distance / np.linalg.norm(rays, axis=-1)
    expected = cosine > np.sqrt(1 - (0.5 / distance) ** 2)

    assert (drawn["mask"][0].astype(bool) != expected).sum() <= 1  # float32
    np.testing.assert_array_equal(drawn["amodal_masks"][0, 1], drawn["mask"][0])
    assert room_pictures.distance(
        np.array([[[x, y, 0.5]]]), np.array([azimuth]), np.array([pitch])
    )[0, 0] == pytest.approx(distance)


def test_nearer_objects_hide_farther_ones():
    """The larger one stands behind: whichever is drawn last."""
    for objects, numbers in (
        ([(3, 0.3, 1.0, 0), (3, 0.55, -1.0, 0)], (1, 2)),
        ([(3, 0.55, -1.0, 0), (3, 0.3, 1.0, 0)], (2, 1)),
    ):
        drawn = rooms.render(room(0.0, 0.2, objects))
        near, far = (drawn["amodal_masks"][0, number].astype(bool) for number in numbers)
        assert (near & far).sum() > 20
        np.testing.assert_array_equal(
            drawn["mask"][0], np.where(near, numbers[0], np.where(far, numbers[1], 0))
        )


def test_shadows_fall_away_from_the_sun():
    """Floor is dark where the ray to the sun passes within the sphere's radius of its centre.

    The sun is on the right.
    """
    azimuth = np.arctan2(0.25, 0.4) - np.pi / 2
    pitch = -0.4
    sun = np.array([0.40, 0.25, np.sqrt(1 - 0.40**2 - 0.25**2)])
    drawn = rooms.render(room(azimuth, pitch, [(1, 0.4, 0.0, 0.0)]))
    bare = rooms.render(room(azimuth, pitch))
    (right, up, forward), eye = room_pictures._axes(azimuth, pitch)[::-1]
    row, column = np.mgrid[:64, :64] + 0.5
    rays = forward + (column[..., None] - 32) * FAR * right + (32 - row[..., None]) * FAR * up
    floor = (drawn["parts"][0] == rooms.FLOOR) & (bare["parts"][0] == rooms.FLOOR)
    point = eye + (eye[2] / -rays[floor][:, 2:]) * rays[floor]
    expected = np.linalg.norm(np.cross(point - (0, 0, 0.4), sun), axis=-1) < 0.4
    ratio = (drawn["image"][0, ..., 0] / bare["image"][0, ..., 0])[floor]

    assert ratio.min() == pytest.approx(0.65, abs=0.01)
    assert expected.sum() > 40
    assert column[floor][expected].mean() < 28
    # A pixel of the outline shows the mean of four points.
    assert ((ratio < 0.825) != expected).mean() < 0.01
    assert (ratio[~expected] > 0.99).mean() > 0.95


def test_laws_of_pictures(scenes):
    mask, parts, amodal_masks = (scenes[name] for name in ("mask", "parts", "amodal_masks"))
    np.testing.assert_array_equal(mask, np.maximum(parts.astype(int) - 3, 0))
    assert parts.max() <= 6
    assert amodal_masks[:, 0].all()
    assert scenes["image"].shape == (80, 64, 64, 3)
    owned = np.take_along_axis(amodal_masks, mask[:, None], axis=1)
    assert owned.all()
    # Solids hide the room, never the other way round.
    assert not ((mask == 0)[:, None] & (amodal_masks[:, 1:] == 1)).any()
    assert {"one", "both"} == {"both" if {2, 3} <= set(np.unique(p)) else "one" for p in parts}


def test_amodal_masks_are_the_objects_alone(scenes):
    for entity in (1, 2, 3):
        alone = {name: values[:10].copy() for name, values in scenes.items()}
        alone["shape"][:, np.arange(4) != entity] = 0
        np.testing.assert_array_equal(
            rooms.render(alone)["mask"], entity * scenes["amodal_masks"][:10, entity]
        )


def test_centres_lie_in_the_middle_of_their_objects(scenes):
    rows, columns = np.mgrid[:64, :64] + 0.5
    checked = 0
    for coords, masks in zip(scenes["pixel_coords"], scenes["amodal_masks"], strict=True):
        for place, mask in zip(coords[1:], masks[1:], strict=True):
            whole = mask.any() and not (mask[[0, -1]].any() or mask[:, [0, -1]].any())
            if whole:
                middle = columns[mask == 1].mean(), rows[mask == 1].mean()
                np.testing.assert_allclose(middle, place[:2], atol=1.5)
                checked += 1
    assert checked > 40


@pytest.mark.parametrize("variant", rooms.VARIANTS)
def test_rules_of_a_set(many, variant):
    factors = many[variant]
    rules = rooms.VARIANTS[variant]
    exists = factors["visibility"] > 0
    count = exists[:, 1:].sum(axis=1)

    assert exists[:, 0].all()
    assert set(count) == set(range(rules.min_objects, rules.max_objects + 1))
    for name in ("shape", "size", "x", "y", "rotation", "color", "pixel_coords", "depth"):
        absent = ~exists
        absent[:, 0] = True
        assert not factors[name][absent].any()
        assert factors[name].dtype == np.float32

    assert np.degrees(factors["pitch"].min()) >= -25.001
    assert np.degrees(factors["pitch"].max()) <= 22.001
    if not rules.max_objects:
        return

    like_first = (factors["color"][:, 1:] == factors["color"][:, 1:2]).all(axis=-1)
    expected = 1 if rules.one_color else pytest.approx(0.25, abs=0.1)
    assert like_first[exists[:, 1:]].mean() == expected

    # No two stand in each other: not even the balls around them, cut at their height.
    reach_in_sizes = np.array([0, 1, 1, 0.2 + 0.8 * np.sqrt(2)])
    reach = reach_in_sizes[factors["shape"].astype(int)] * factors["size"]
    distance = np.hypot(*(factors[name][:, :, None] - factors[name][:, None] for name in "xy"))
    gap = distance - reach[:, :, None] - reach[:, None]
    objects = factors["shape"] > 0
    pairs = objects[:, :, None] & objects[:, None] & ~np.eye(objects.shape[1], dtype=bool)

    assert 0.0999 < gap[pairs].min() < 0.12
    assert np.hypot(factors["x"], factors["y"]).max() <= 1.7501


def test_ranges_are_filled(many):
    factors = many["train"]
    pitch = np.degrees(factors["pitch"])
    assert pitch.min() < -24.8
    assert pitch.max() > 21.8
    assert abs(pitch.mean() + 1.5) < 1

    frequency = np.histogram(factors["azimuth"], bins=8, range=(0, 2 * np.pi))[0] / 3000
    np.testing.assert_allclose(frequency, 1 / 8, atol=0.03)

    objects = factors["shape"] > 0
    np.testing.assert_allclose(
        [(factors["shape"][objects] == k).mean() for k in (1, 2, 3)], 1 / 3, atol=0.03
    )
    assert 0.3 <= factors["size"][objects].min() < 0.301
    assert 0.549 < factors["size"].max() <= 0.5501

    value = factors["color"][objects].max(axis=-1)
    chroma = np.ptp(factors["color"][objects], axis=-1)
    assert value.min() >= 0.5
    assert (chroma / value).min() >= 0.5 - 1e-6


@pytest.mark.parametrize("variant", ["train", "six_objects"])
def test_flights(variant):
    flights = rooms.factors(np.arange(60), variant=variant, num_frames=16)
    stills = rooms.factors(np.arange(60), variant=variant)
    few = rooms.factors(np.arange(60), variant=variant, num_frames=3)
    for name, values in flights.items():
        moves = name in ("azimuth", "pitch", "pixel_coords", "depth")
        np.testing.assert_array_equal(few[name], values[:, :3] if moves else values)
        np.testing.assert_array_equal(stills[name], values[:, 0] if moves else values)

    for name in ("azimuth", "pitch"):
        steps = np.diff(flights[name], axis=1)
        np.testing.assert_allclose(steps, steps[:, :1].repeat(15, axis=1), atol=2e-6)
        assert len(np.unique(steps[:, 0])) == 60

    assert np.abs(np.diff(flights["azimuth"], axis=1)).max() <= np.pi / 2 / 15 + 1e-5
    assert np.degrees(flights["pitch"]).min() >= -25.001
    assert np.degrees(flights["pitch"]).max() <= 22.001

    # Every frame has the centre of an object.
    coords = flights["pixel_coords"]
    inside = ((coords[..., :2] > 0) & (coords[..., :2] < 64)).all(axis=-1)
    assert (inside & (coords[..., 2] > 0)).any(axis=-1).all()
    assert not inside[..., 1:].all()


def test_clips_are_their_frames():
    clips = rooms.clips([5, 2], num_frames=4, size=32)
    assert clips["video"].shape == (2, 4, 32, 32, 3)
    assert clips["mask"].shape == clips["parts"].shape == (2, 4, 32, 32)
    assert "amodal_masks" not in clips
    assert "image" not in clips

    for t in range(4):
        frame = {
            name: values[:, t] if name in ("azimuth", "pitch") else values
            for name, values in clips.items()
        }
        drawn = rooms.render(frame, 32)
        np.testing.assert_array_equal(drawn["image"], clips["video"][:, t])
        np.testing.assert_array_equal(drawn["parts"], clips["parts"][:, t])

    np.testing.assert_array_equal(rooms.scenes([2], size=32)["image"][0], clips["video"][1, 0])


def test_scene_is_a_function_of_seed_and_index(scenes):
    order = np.array([70, 3, 41])
    for name, values in rooms.scenes(order, seed=1).items():
        np.testing.assert_array_equal(values, scenes[name][order])
    assert (rooms.factors(np.arange(80), seed=2)["azimuth"] != scenes["azimuth"]).all()
    first, second = (
        rooms.factors(np.arange(20), variant=variant)["azimuth"]
        for variant in ("train", "empty_room")
    )
    assert (first != second).all()


def test_golden_factors():
    """A change would make another dataset under the same name and version.

    Values are rounded, because libraries differ in the last bits of a sine.
    """
    values = rooms.factors(np.arange(59_990, 60_010), variant="six_objects", num_frames=2)
    content = b"".join(
        np.rint(1e3 * values[name]).astype(np.int64).tobytes() for name in sorted(values)
    )
    assert hashlib.sha256(content).hexdigest()[:16] == "543d6bdbd184fb4a"


def test_golden_picture(scenes):
    mean = scenes["image"][:4].mean(axis=(1, 2)).round(1)
    np.testing.assert_allclose(
        mean,
        [[138.2, 135.4, 154.6], [110.1, 123.9, 113.3], [114.9, 158.4, 141.3], [81.3, 153.7, 137.9]],
        atol=0.15,
    )


def test_no_scenes_and_gaps_among_entities():
    assert rooms.scenes([])["image"].shape == (0, 64, 64, 3)
    assert rooms.clips([], num_frames=2)["video"].shape == (0, 2, 64, 64, 3)
    drawn = rooms.render(room(0, 0, [(0, 0, 0, 0), (1, 0.5, 0, 0)]))
    assert set(np.unique(drawn["mask"])) == {0, 2}
    assert drawn["parts"].max() == rooms.FIRST_OBJECT + 1
    assert not drawn["amodal_masks"][0, 1].any()


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda: rooms.factors([0], variant="empty"),
            "`variant` must be one of train, six_objects, .* Received: 'empty'",
        ),
        (
            lambda: rooms.factors([0], num_frames=17),
            "`num_frames` must be in 1 ... 16. Received: num_frames=17",
        ),
        (lambda: rooms.clips([0], num_frames=0), "`num_frames` must be in 1 ... 16"),
        (lambda: rooms.scenes([0], size=8), "`size` must be at least 16 pixels. Received: size=8"),
        (lambda: rooms.render(room(objects=[(4, 0.5, 0, 0)])), "`shape` must be 0, 1, 2 or 3"),
        (lambda: rooms.factors([-1]), "`indices` must be in"),
    ],
)
def test_errors_name_the_argument(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
