"""Shapes: the bitmaps, whose pixel is whose, exact statistics of the rules, determinism."""

import hashlib

import numpy as np
import pytest

from tfobj.datasets.generators import shapes
from tfobj.structs import IGNORE_LABEL


def digest(scenes):
    content = b"".join(np.ascontiguousarray(scenes[name]).tobytes() for name in sorted(scenes))
    return hashlib.sha256(content).hexdigest()[:16]


def placed(*glyphs):
    """Factors [1, N] of glyphs (shape, row, column)."""
    shape, row, column = np.array([(0, 0, 0), *glyphs]).T[:, None]
    return {"shape": shape, "y": row, "x": column}


@pytest.fixture(scope="module")
def scenes():
    return shapes.scenes(np.arange(20_000))


def coverage(size, shape):
    """P(a pixel is covered) by a glyph of one shape: every place in turn, [size, size]."""
    bitmap = shapes.BITMAPS[shape]
    height, width = bitmap.shape
    total = np.zeros((size, size))
    for row in range(size - height + 1):
        for column in range(size - width + 1):
            total[row : row + height, column : column + width] += bitmap
    return total / ((size - height + 1) * (size - width + 1))


def test_bitmaps():
    assert {
        shape: (bitmap.shape, int(bitmap.sum())) for shape, bitmap in shapes.BITMAPS.items()
    } == {
        shapes.SQUARE: ((7, 7), 40),
        shapes.UP_TRIANGLE: ((7, 12), 48),
        shapes.DOWN_TRIANGLE: ((7, 12), 48),
    }

    square, up, down = shapes.BITMAPS.values()
    expected = np.ones((7, 7))
    expected[2:5, 2:5] = 0
    np.testing.assert_array_equal(square, expected)
    np.testing.assert_array_equal(up, down[::-1])
    np.testing.assert_array_equal(up, up[:, ::-1])
    assert up[0].tolist() == [0] * 5 + [1, 1] + [0] * 5
    assert up[-2:].all()
    assert up[4].tolist() == [0, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 0]


def test_rendering_two_glyphs_by_hand():
    """The top bar of a down triangle (two rows of twelve) crosses the last two rows of a square."""
    image, mask, amodal_masks = shapes.render(
        placed((shapes.SQUARE, 3, 4), (shapes.DOWN_TRIANGLE, 8, 2))
    )
    square, triangle = np.zeros((2, 28, 28), np.uint8)
    square[3:10, 4:11] = shapes.BITMAPS[shapes.SQUARE]
    triangle[8:15, 2:14] = shapes.BITMAPS[shapes.DOWN_TRIANGLE]

    np.testing.assert_array_equal(amodal_masks[0], [np.ones((28, 28)), square, triangle])
    np.testing.assert_array_equal(image[0, ..., 0], 255 * (square | triangle))

    shared = np.zeros((28, 28), bool)
    shared[8:10, 4:11] = True
    np.testing.assert_array_equal(mask[0], np.where(shared, 255, square + 2 * triangle))
    assert mask[0, 8, 2:14].tolist() == [2, 2, *[255] * 7, 2, 2, 2]


def test_a_hole_lets_through_what_is_behind():
    """Glyphs have no order and do not hide each other: one shows in the hole of the square."""
    _, mask, _ = shapes.render(placed((shapes.UP_TRIANGLE, 3, 4), (shapes.SQUARE, 5, 6)))
    inner = mask[0, 7:10, 8:11]
    np.testing.assert_array_equal(inner, shapes.BITMAPS[shapes.UP_TRIANGLE][4:7, 4:7])
    same = placed((shapes.SQUARE, 5, 6), (shapes.UP_TRIANGLE, 3, 4))
    swapped = np.array([0, 2, 1])[np.minimum(mask, 2)]
    np.testing.assert_array_equal(shapes.render(same)[1], np.where(mask == 255, 255, swapped))


def test_glyphs_at_one_place_share_all_pixels():
    image, mask, amodal_masks = shapes.render(placed((1, 0, 0), (1, 0, 0), (1, 21, 21)))
    assert set(np.unique(mask)) == {0, 3, shapes.SHARED}
    assert (mask == shapes.SHARED).sum() == 40
    assert image.sum() == 80 * 255
    assert amodal_masks[0].sum(axis=(1, 2)).tolist() == [784, 40, 40, 40]


def test_shared_pixels_are_the_packages_ignored_ones():
    assert shapes.SHARED == IGNORE_LABEL


def test_laws(scenes):
    mask = scenes["mask"]
    amodal_masks = scenes["amodal_masks"][:, 1:]
    owners = amodal_masks.sum(axis=1)
    np.testing.assert_array_equal(scenes["image"][..., 0], 255 * (owners > 0))
    np.testing.assert_array_equal(mask == shapes.SHARED, owners > 1)
    np.testing.assert_array_equal(mask == 0, owners == 0)

    for entity in (1, 2, 3):
        np.testing.assert_array_equal(
            mask == entity, (amodal_masks[:, entity - 1] == 1) & (owners == 1)
        )

    area = np.array([0, 40, 48, 48])[scenes["shape"][:, 1:].astype(int)]
    np.testing.assert_array_equal(amodal_masks.sum(axis=(2, 3)), area)
    assert scenes["amodal_masks"][:, 0].all()
    assert scenes["image"].shape == (20_000, 28, 28, 1)
    assert (scenes["visibility"] == 1).all()
    assert not any(scenes[name][:, 0].any() for name in ("x", "y", "shape"))
    assert all(scenes[name].dtype == np.float32 for name in ("x", "y", "shape", "visibility"))


def test_images_have_the_exact_mean_of_the_rules(scenes):
    """If one glyph covers a pixel with probability p, the union and the overlap follow.

    The pixel is covered with probability 1 - (1 - p)^3 and not shared with 3 p (1 - p)^2 +
    (1 - p)^3.
    """
    p = np.mean([coverage(28, shape) for shape in shapes.BITMAPS], axis=0)
    covered = (scenes["image"][..., 0] > 0).mean(axis=0)
    np.testing.assert_allclose(covered, 1 - (1 - p) ** 3, atol=5 * 0.5 / np.sqrt(20_000))
    assert covered.mean() == pytest.approx((1 - (1 - p) ** 3).mean(), rel=0.003)
    shared = (scenes["mask"] == shapes.SHARED).mean()
    assert shared == pytest.approx((1 - (1 - p) ** 3 - 3 * p * (1 - p) ** 2).mean(), rel=0.03)


def test_shapes_and_places_are_uniform(scenes):
    shape, row, column = (scenes[name][:, 1:] for name in ("shape", "y", "x"))
    np.testing.assert_allclose([(shape == k).mean() for k in (1, 2, 3)], 1 / 3, atol=0.01)
    for k, last in ((1, 21), (2, 16), (3, 16)):
        for values, end in ((row[shape == k], 21), (column[shape == k], last)):
            frequency = np.bincount(values.astype(int)) / len(values)
            assert len(frequency) == end + 1
            np.testing.assert_allclose(frequency, 1 / (end + 1), atol=0.2 / (end + 1))


def test_scenes_render_again_from_their_factors(scenes):
    first = {name: scenes[name][:100] for name in ("x", "y", "shape")}
    for name, values in zip(("image", "mask", "amodal_masks"), shapes.render(first), strict=True):
        np.testing.assert_array_equal(values, scenes[name][:100])


def test_scene_is_a_function_of_seed_and_index(scenes):
    order = np.random.default_rng(0).permutation(20_000)[:300]
    for name, values in shapes.scenes(order).items():
        np.testing.assert_array_equal(values, scenes[name][order])
    assert (shapes.factors(np.arange(100), seed=1)["x"] != scenes["x"][:100]).any()


def test_fewer_glyphs_are_the_first_ones(scenes):
    single = shapes.scenes(np.arange(50), num_shapes=1)
    for name in ("x", "y", "shape"):
        np.testing.assert_array_equal(single[name], scenes[name][:50, :2])
    np.testing.assert_array_equal(single["image"][..., 0], 255 * single["mask"])
    np.testing.assert_array_equal(single["mask"], scenes["amodal_masks"][:50, 1])


@pytest.mark.parametrize(
    "arguments, expected",
    [(dict(seed=0), "aac0abe6dfbdb4e4"), (dict(seed=7, num_shapes=5, size=20), "c5149b44a14cca8a")],
)
def test_golden_scenes(arguments, expected):
    """A change of one bit makes other datasets under the same name and version."""
    assert digest(shapes.scenes(np.arange(59_990, 60_010), **arguments)) == expected


def test_the_least_size_has_one_column_for_a_triangle():
    scenes = shapes.scenes(np.arange(200), size=shapes.MIN_SIZE)
    assert scenes["x"][scenes["shape"] >= 2].max() == 0
    assert scenes["y"].max() == 5
    assert scenes["x"].max() == 5


def test_no_scenes_and_an_absent_entity():
    assert shapes.scenes([])["image"].shape == (0, 28, 28, 1)
    image, mask, amodal_masks = shapes.render(placed((0, 99, 99), (1, 2, 2)))
    assert not amodal_masks[0, 1].any()
    assert set(np.unique(mask)) == {0, 2}
    assert image.any()


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda: shapes.factors([0], size=11),
            "`size` must be at least 12 pixels. Received: size=11",
        ),
        (lambda: shapes.render(placed((1, 0, 0)), size=8), "`size` must be at least 12 pixels"),
        (
            lambda: shapes.factors([0], num_shapes=0),
            "`num_shapes` must be in 1 ... 254. Received: num_shapes=0",
        ),
        (lambda: shapes.factors([0], num_shapes=255), "`num_shapes` must be in 1 ... 254"),
        (lambda: shapes.factors([0], seed=-1), "`seed` must be in"),
        (lambda: shapes.factors([[0]]), "`indices` must be a one-dimensional array"),
        (lambda: shapes.render(placed((4, 0, 0))), "`shape` must be 0, 1, 2 or 3"),
        (
            lambda: shapes.render(placed((1, 0, 0), (2, 3, 17))),
            r"inside the 28x28 image. Received: "
            r"x=17, y=3 for the up triangle \(scene 0, entity 2\)",
        ),
        (lambda: shapes.render(placed((1, -1, 0))), "Received: x=0, y=-1"),
    ],
)
def test_errors_name_the_argument(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
