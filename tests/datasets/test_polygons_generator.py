"""Overlapping polygons: outlines, areas, depth order, amodal masks, ranges, determinism."""

import hashlib

import numpy as np
import pytest
from matplotlib.path import Path

from tfobj.datasets.generators import polygons


def digest(scenes):
    content = b"".join(np.ascontiguousarray(scenes[name]).tobytes() for name in sorted(scenes))
    return hashlib.sha256(content).hexdigest()[:16]


def polygon_factors(*entities):
    """Factors of one scene of polygons, each a dict that overrides a red hexagon in the middle."""
    usual = dict(x=32.0, y=32.0, edges=6, radius=10.0, rotation=0.1, color=(1, 0, 0), depth=1)
    rows = [{name: np.zeros_like(value) for name, value in usual.items()}] + [
        usual | entity for entity in entities
    ]
    return {name: np.array([[row[name] for row in rows]], np.float32) for name in usual}


def amodal_mask(size=64, **entity):
    """Mask [size, size] of one polygon."""
    return polygons.render(polygon_factors(entity), size)[2][0, 1]


def inside_by_corners(scenes, scene, entity, rows, columns):
    """Tests points against a polygon by matplotlib, from its corners; lengths are of 64."""
    x, y, edges, radius, rotation = (
        float(scenes[name][scene, entity]) for name in ("x", "y", "edges", "radius", "rotation")
    )
    angle = rotation + 2 * np.pi * np.arange(int(edges)) / edges
    corners = np.stack([x + radius * np.cos(angle), y - radius * np.sin(angle)], axis=-1)
    points = np.stack(np.broadcast_arrays(columns[None, :], rows[:, None]), axis=-1)
    return Path(corners).contains_points(points.reshape(-1, 2)).reshape(len(rows), len(columns))


@pytest.mark.parametrize("size", [64, 48])
def test_masks_equal_a_point_in_polygon_test_at_pixel_centres(size):
    scenes = polygons.scenes(np.arange(40), size=size)
    centres = (np.arange(size) + 0.5) * 64 / size
    for scene in range(40):
        for entity in (1, 2):
            expected = inside_by_corners(scenes, scene, entity, centres, centres)
            np.testing.assert_array_equal(scenes["amodal_masks"][scene, entity], expected)


@pytest.mark.parametrize("size", [64, 16])
def test_image_is_the_mean_of_painted_samples(size):
    scenes = polygons.scenes(np.arange(20), size=size)
    samples = (np.arange(4 * size) + 0.5) * 64 / (4 * size)
    for scene in range(20):
        painting = np.zeros((4 * size, 4 * size, 3))
        for entity in (1, 2):
            inside = inside_by_corners(scenes, scene, entity, samples, samples)
            painting[inside] = 255 * scenes["color"][scene, entity].astype(np.float64)
        mean = painting.reshape(size, 4, size, 4, 3).mean(axis=(1, 3))
        np.testing.assert_array_equal(scenes["image"][scene], np.rint(mean))


@pytest.mark.parametrize("edges", [3, 4, 5, 6, 12])
@pytest.mark.parametrize("radius", [7.5, 12.5])
def test_areas_of_regular_polygons(edges, radius):
    area = edges / 2 * radius**2 * np.sin(2 * np.pi / edges)
    fine = amodal_mask(edges=edges, radius=radius, rotation=0.4, size=512).sum() / 8**2
    assert fine == pytest.approx(area, rel=0.003)
    # The antialiased picture of a white polygon weighs as much as the polygon.
    image = polygons.render(
        polygon_factors(dict(edges=edges, radius=radius, rotation=0.4, color=(1, 1, 1))), 512
    )[0]
    assert image[0, ..., 0].sum() / 255 / 8**2 == pytest.approx(area, rel=0.001)


def test_square_by_hand():
    """Half diagonal 8 sqrt 2, turned by 45 degrees: rows and columns 24 to 39, no antialiasing."""
    factors = polygon_factors(
        dict(edges=4, radius=8 * np.sqrt(2), rotation=np.pi / 4, color=(0.2, 0.4, 0.6))
    )
    factors["radius"] += 1e-4  # float32 corners are not on the grid
    image, mask, amodal_masks = polygons.render(factors)
    expected = np.zeros((64, 64), np.uint8)
    expected[24:40, 24:40] = 1

    np.testing.assert_array_equal(mask[0], expected)
    np.testing.assert_array_equal(amodal_masks[0], [np.ones_like(expected), expected])
    np.testing.assert_array_equal(
        image[0], expected[..., None] * np.array([51, 102, 153], np.uint8)
    )


def test_orientation_on_the_screen():
    right = amodal_mask(edges=3, rotation=0.0)
    assert right[32, 32 + 8] == 1  # a corner points to the right
    assert right[32, 32 - 8] == 0

    up = amodal_mask(edges=3, rotation=np.pi / 2)
    assert up[32 - 8, 32] == 1  # counter-clockwise: from the right to the top
    assert up[32 + 8, 32] == 0

    moved = amodal_mask(edges=3, rotation=0.0, x=20.0, y=45.0)
    np.testing.assert_array_equal(moved, np.roll(right, (13, -12), axis=(0, 1)))


@pytest.mark.parametrize("edges", [3, 4, 5, 6])
def test_symmetries(edges):
    for rotation in (0.3, 1.1):
        turned = amodal_mask(edges=edges, rotation=rotation + 2 * np.pi / edges)
        np.testing.assert_array_equal(amodal_mask(edges=edges, rotation=rotation), turned)


def test_modal_masks_are_amodal_ones_without_what_lies_nearer():
    scenes = polygons.scenes(np.arange(500))
    background, far, near = np.moveaxis(scenes["amodal_masks"].astype(bool), 1, 0)
    assert background.all()
    np.testing.assert_array_equal(scenes["mask"] == 2, near)
    np.testing.assert_array_equal(scenes["mask"] == 1, far & ~near)
    np.testing.assert_array_equal(scenes["mask"] == 0, ~far & ~near)
    assert set(np.unique(scenes["amodal_masks"])) == {0, 1}

    # Polygons lie wholly inside the frame, so each has its full area, whatever hides it.
    edges = scenes["edges"]
    area = edges / 2 * scenes["radius"] ** 2 * np.sin(2 * np.pi / np.maximum(edges, 1))
    difference = scenes["amodal_masks"].sum(axis=(2, 3))[:, 1:] - area[:, 1:]

    assert np.abs(difference).max() < 18
    assert abs(difference.mean()) < 0.5


def test_depth_orders_the_painting():
    far_first = polygon_factors(
        dict(radius=12.0, depth=2), dict(radius=6.0, depth=1, color=(0, 1, 0))
    )
    image, mask, amodal_masks = polygons.render(far_first)

    assert mask[0, 32, 32] == 2
    assert mask[0, 32, 42] == 1
    assert image[0, 32, 32].tolist() == [0, 255, 0]

    far_first["depth"][0] = [0, 1, 2]
    image, mask, swapped_masks = polygons.render(far_first)
    assert set(np.unique(mask)) == {0, 1}  # entity 2 is completely hidden
    assert image[..., 1].max() == 0
    np.testing.assert_array_equal(swapped_masks, amodal_masks)

    far_first["depth"][0] = [0, 1, 1]
    assert polygons.render(far_first)[1][0, 32, 32] == 2


def test_more_entities_than_two():
    three = polygon_factors(
        *(dict(radius=radius, depth=depth) for radius, depth in ((4, 1), (8, 2), (12, 3)))
    )
    _, mask, amodal_masks = polygons.render(three)
    assert [mask[0, 32, 32 + shift] for shift in (0, 5, 9, 13)] == [1, 2, 3, 0]
    assert amodal_masks.shape == (1, 4, 64, 64)
    assert amodal_masks[0, 1:, 32, 32].tolist() == [1, 1, 1]


def test_single_object_scenes():
    """What per-object FID compares with: the same polygon, alone."""
    scenes = polygons.scenes(np.arange(30))
    for removed, kept in ((1, 2), (2, 1)):
        alone = {name: values.copy() for name, values in scenes.items()}
        alone["edges"][:, removed] = 0
        image, mask, amodal_masks = polygons.render(alone)
        np.testing.assert_array_equal(mask, kept * scenes["amodal_masks"][:, kept])
        np.testing.assert_array_equal(amodal_masks[:, kept], scenes["amodal_masks"][:, kept])
        assert not amodal_masks[:, removed].any()
        assert amodal_masks[:, 0].all()
        whole = scenes["amodal_masks"][:, kept].astype(bool)
        full = np.rint(255 * scenes["color"][:, kept].astype(np.float64))
        assert (image[whole] <= np.repeat(full, whole.sum(axis=(1, 2)), axis=0)).all()

    np.testing.assert_array_equal(image[:, 0], 0)


@pytest.mark.parametrize("x, y", [(2.0, 61.0), (64.0, 0.0), (-5.0, 32.0)])
def test_what_lies_outside_is_cut_off(x, y):
    _, mask, amodal_masks = polygons.render(polygon_factors(dict(x=x, y=y)))
    expected = inside_by_corners(
        polygon_factors(dict(x=x, y=y)), 0, 1, np.arange(64) + 0.5, np.arange(64) + 0.5
    )
    np.testing.assert_array_equal(mask[0], expected)
    np.testing.assert_array_equal(amodal_masks[0, 1], expected)
    assert expected.any()


def test_polygons_far_outside_leave_the_picture_black():
    for shift in (-100.0, 200.0):
        image, mask, amodal_masks = polygons.render(polygon_factors(dict(x=shift), dict(y=shift)))
        assert not image.any()
        assert not mask.any()
        assert not amodal_masks[:, 1:].any()
        assert amodal_masks[:, 0].all()


def test_laws_of_the_factors():
    factors = polygons.factors(np.arange(20_000))
    assert {name: values.shape[1:] for name, values in factors.items()} == {
        **dict.fromkeys(("x", "y", "edges", "radius", "rotation", "depth", "visibility"), (3,)),
        "color": (3, 3),
    }
    for name, values in factors.items():
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values[:, 0], name == "visibility")

    polygon = {name: values[:, 1:] for name, values in factors.items()}
    for name, low, high in (
        ("x", 27, 37),
        ("y", 27, 37),
        ("radius", 7.5, 12.5),
        ("rotation", 0, 2 * np.pi),
        ("color", 0, 1),
    ):
        values = (polygon[name] - low) / (high - low)
        assert -1e-6 <= values.min() < 0.001
        assert 0.999 < values.max() <= 1 + 1e-6
        assert values.mean() == pytest.approx(1 / 2, abs=0.01)
        assert values.var() == pytest.approx(1 / 12, abs=0.002)

    edges = polygon["edges"].ravel().astype(int)
    frequency = np.bincount(edges, minlength=7) / edges.size
    np.testing.assert_allclose(frequency, [0, 0, 0, 0.25, 0.25, 0.25, 0.25], atol=0.01)
    np.testing.assert_array_equal(polygon["depth"], np.broadcast_to([2, 1], (20_000, 2)))

    # The factors of a polygon, and those of the two polygons of a scene, are independent.
    columns = [
        polygon[name][:, i] for name in ("x", "y", "edges", "radius", "rotation") for i in (0, 1)
    ]
    columns += [polygon["color"][:, i, channel] for i in (0, 1) for channel in range(3)]

    assert np.abs(np.corrcoef(columns) - np.eye(16)).max() < 0.035


def test_some_polygons_are_wholly_hidden_and_most_overlap():
    scenes = polygons.scenes(np.arange(2000))
    hidden = ~(scenes["mask"] == 1).any(axis=(1, 2))
    assert 0 < hidden.sum() < 40
    assert (scenes["visibility"][hidden] == 1).all()
    overlap = scenes["amodal_masks"][:, 1:].all(axis=1).sum(axis=(1, 2))
    assert 0.95 < (overlap >= 30).mean() <= 1  # the pairs that depth accuracy counts


def test_scenes_render_again_from_their_factors_bit_for_bit():
    scenes = polygons.scenes(np.arange(300))
    for name, values in zip(
        ("image", "mask", "amodal_masks"), polygons.render(scenes), strict=True
    ):
        np.testing.assert_array_equal(values, scenes[name])
        assert values.dtype == np.uint8


def test_scene_is_a_function_of_seed_and_index():
    scenes = polygons.scenes(np.arange(200), seed=3)
    order = np.random.default_rng(0).permutation(200)[:50]
    shuffled = polygons.scenes(order, seed=3)
    for name, values in scenes.items():
        np.testing.assert_array_equal(shuffled[name], values[order])
    for name, values in polygons.scenes([17], seed=3).items():
        np.testing.assert_array_equal(values[0], scenes[name][17])
    assert (polygons.factors(np.arange(200), seed=4)["x"][:, 1:] != scenes["x"][:, 1:]).all()


@pytest.mark.parametrize(
    "arguments, expected",
    [(dict(seed=0), "e5b5009134ee6975"), (dict(seed=7, size=48), "9459bfdbde1bec63")],
)
def test_golden_scenes(arguments, expected):
    """A change of one bit makes another dataset under the same name and version."""
    assert digest(polygons.scenes(np.arange(89_990, 90_010), **arguments)) == expected


def test_size_changes_the_picture_and_not_the_scene():
    small, large = (polygons.scenes(np.arange(50), size=size) for size in (64, 128))
    np.testing.assert_array_equal(small["radius"], large["radius"])
    ratio = large["amodal_masks"][:, 1:].sum() / small["amodal_masks"][:, 1:].sum()
    assert ratio == pytest.approx(4.0, rel=0.01)
    # Antialiased, so that the mean over 2 x 2 pixels of the large picture is near the small one.
    halved = large["image"].reshape(50, 64, 2, 64, 2, 3).mean(axis=(2, 4))
    assert np.abs(halved - small["image"]).mean() < 0.1


def test_no_scenes():
    scenes = polygons.scenes([])
    assert scenes["image"].shape == (0, 64, 64, 3)
    assert scenes["amodal_masks"].shape == (0, 3, 64, 64)


def test_errors_name_the_argument():
    with pytest.raises(ValueError, match="`size` must be at least 16 pixels. Received: size=8"):
        polygons.scenes([0], size=8)
    for edges in (2, 1, -3, 4.5):
        with pytest.raises(
            ValueError, match="`edges` must be 0 or an integer of at least 3. Received: "
        ):
            amodal_mask(edges=edges)

    with pytest.raises(
        ValueError,
        match="`depth` must be finite for every rendered polygon. Received: NaN or infinity",
    ):
        polygons.render({**polygons.factors([0]), "depth": np.full((1, 3), np.nan)})

    with pytest.raises(ValueError, match="`seed` must be in"):
        polygons.factors([0], seed=-1)
