"""Multi-dSprites: outlines, areas, symmetries, statistics of the published counts, determinism."""

import hashlib

import numpy as np
import pytest

from tfobj.datasets.generators import sprites

ALL_VARIANTS = list(sprites.VARIANTS)
PUBLISHED = [name for name, variant in sprites.VARIANTS.items() if variant.published]


def digest(scenes):
    content = b"".join(np.ascontiguousarray(scenes[name]).tobytes() for name in sorted(scenes))
    return hashlib.sha256(content).hexdigest()[:16]


def silhouette(shape, orientation, scale=1.0, x=0.5, y=0.5, size=64):
    """Mask [size, size] of one sprite."""
    factors = {
        name: np.array([[0, value]], np.float32)
        for name, value in dict(shape=shape, orientation=orientation, scale=scale, x=x, y=y).items()
    }
    factors |= {"color": np.ones((1, 2, 1)), "background": np.zeros((1, 1))}
    return sprites.render(factors, size)[1][0]


def polygon_heart(orientation, scale, x, y, num_vertices=2000):
    """The heart from its parametric curve: vertices and an even-odd test, pixel by pixel."""
    t = np.linspace(0, 2 * np.pi, num_vertices, endpoint=False)
    lobe = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    vertex_u = 9.6 * scale * np.sin(t) ** 3
    vertex_v = -scale * (2 / 3 * lobe + 1.4)
    rows, columns = np.mgrid[:64, :64]
    dx = columns + 0.5 - (16 + 32 * x)
    dy = rows + 0.5 - (16 + 32 * y)
    u = np.cos(orientation) * dx - np.sin(orientation) * dy
    v = np.sin(orientation) * dx + np.cos(orientation) * dy
    inside = np.zeros((64, 64), bool)

    for u0, v0, u1, v1 in zip(
        vertex_u, vertex_v, np.roll(vertex_u, 1), np.roll(vertex_v, 1), strict=True
    ):
        if v0 != v1:
            crosses = (v0 > v) != (v1 > v)
            inside ^= crosses & (u < u0 + (v - v0) / (v1 - v0) * (u1 - u0))

    return inside


@pytest.mark.parametrize(
    "orientation, scale, x, y", [(0.0, 1.0, 0.5, 0.5), (0.7, 0.8, 0.31, 0.64), (4.0, 0.5, 1, 0)]
)
def test_closed_form_heart_equals_polygon(orientation, scale, x, y):
    closed = silhouette(sprites.HEART, orientation, scale, x, y).astype(bool)
    # float32 factors and chords of the polygon may flip a pixel that lies on the outline.
    assert (closed != polygon_heart(orientation, scale, x, y)).sum() <= 2


def test_areas_at_full_scale():
    angles = np.linspace(0, 2 * np.pi, 40)
    areas = {
        shape: np.array([silhouette(shape, angle).sum() for angle in angles]) for shape in (1, 2, 3)
    }

    assert areas[sprites.SQUARE][0] == 400
    # None of the other 38 angles is a multiple of a quarter turn.
    tilted = areas[sprites.SQUARE][1:-1]

    assert tilted.min() >= 364
    assert tilted.max() <= 372
    assert areas[sprites.ELLIPSE].min() >= 286
    assert areas[sprites.ELLIPSE].max() <= 296
    assert areas[sprites.HEART].min() >= 220
    assert areas[sprites.HEART].max() <= 232


@pytest.mark.parametrize(
    "shape, area", [(sprites.SQUARE, 368.6), (sprites.ELLIPSE, 289.5), (sprites.HEART, 226.1)]
)
@pytest.mark.parametrize("scale", [0.5, 1.0])
def test_areas_scale_with_the_square_of_the_scale(shape, area, scale):
    fine = silhouette(shape, 0.4, scale, size=512).sum() / 8**2
    assert fine == pytest.approx(area * scale**2, rel=0.003)


def test_heart_points_down_and_ellipse_lies():
    heart = silhouette(sprites.HEART, 0.0)
    # The notch.
    assert heart[32 - 3, 32] == 1
    assert heart[32 - 7, 32] == 0
    # The tip.
    assert heart[32 + 8, 32] == 1
    assert heart[32 + 11, 32] == 0

    ellipse = silhouette(sprites.ELLIPSE, 0.0)
    assert ellipse.any(axis=0).sum() > ellipse.any(axis=1).sum()


def test_positive_angles_turn_counter_clockwise():
    """By an eighth turn the right end of the ellipse goes up (to smaller rows)."""
    ellipse = silhouette(sprites.ELLIPSE, np.pi / 4)
    assert ellipse[32 - 7, 32 + 7] == 1
    assert ellipse[32 + 7, 32 + 7] == 0


@pytest.mark.parametrize(
    "shape, turn",
    [(sprites.SQUARE, np.pi / 2), (sprites.ELLIPSE, np.pi), (sprites.HEART, 2 * np.pi)],
)
@pytest.mark.parametrize("orientation", [0.3, 1.1])
def test_symmetries(shape, turn, orientation):
    np.testing.assert_array_equal(
        silhouette(shape, orientation), silhouette(shape, orientation + turn)
    )


@pytest.mark.parametrize("shape", [sprites.SQUARE, sprites.ELLIPSE, sprites.HEART])
def test_sprites_stay_near_their_centre(shape):
    for orientation in np.linspace(0, np.pi, 9):
        rows, columns = np.nonzero(silhouette(shape, orientation))
        assert np.hypot(rows + 0.5 - 32, columns + 0.5 - 32).max() <= 13.6


@pytest.mark.parametrize("size", [sprites.MIN_SIZE, 37, 64, 128])
@pytest.mark.parametrize("corner", [0.0, 1.0])
def test_sprites_at_the_ends_of_the_range_lie_inside(size, corner):
    whole = silhouette(sprites.SQUARE, 0.5, x=0.5, y=0.5, size=size).sum()
    moved = silhouette(sprites.SQUARE, 0.5, x=corner, y=corner, size=size)
    assert moved.sum() == pytest.approx(whole, rel=0.1)
    assert not moved[[0, -1]].any()
    assert not moved[:, [0, -1]].any()


@pytest.mark.parametrize("variant", ALL_VARIANTS)
def test_scenes_render_again_from_their_factors_bit_for_bit(variant):
    scenes = sprites.scenes(np.arange(300), variant=variant)
    image, mask = sprites.render(scenes)
    np.testing.assert_array_equal(image, scenes["image"])
    np.testing.assert_array_equal(mask, scenes["mask"])


@pytest.mark.parametrize("variant", ALL_VARIANTS)
def test_laws_of_a_variant(variant):
    rules = sprites.VARIANTS[variant]
    scenes = sprites.scenes(np.arange(2000), variant=variant)
    count = scenes["visibility"][:, 1:].sum(axis=1)
    counts = np.bincount(count.astype(int), minlength=rules.max_sprites + 1)
    frequency = counts[rules.min_sprites :] / 2000

    np.testing.assert_allclose(frequency, 1 / len(frequency), atol=0.04)
    assert scenes["image"].shape == (2000, 64, 64, rules.channels)
    assert scenes["color"].shape == (2000, rules.num_entities, rules.channels)
    assert (scenes["mask"].reshape(2000, -1).max(axis=1) <= count).all()

    # Absent entities and the background have zero factors.
    absent = np.arange(rules.num_entities) > count[:, None]
    absent[:, 0] = True
    for name in ("x", "y", "shape", "orientation", "scale", "color"):
        assert (scenes[name][absent] == 0).all()
        assert np.abs(scenes[name][~absent]).sum() > 0

    assert scenes["scale"][~absent].min() >= 0.5
    assert scenes["scale"].max() <= 1


def test_binarized_is_white_on_black():
    scenes = sprites.scenes(np.arange(100), variant="binarized")
    np.testing.assert_array_equal(scenes["image"][..., 0], np.where(scenes["mask"] > 0, 255, 0))


def test_binarized_statistics():
    """Two or three sprites of the other variants' scenes.

    Their mean area is that of the continuous outlines times E s^2 = 7 / 12.
    """
    scenes = sprites.scenes(np.arange(1500), variant="binarized")
    exists = scenes["shape"] > 0
    count = exists.sum(axis=1)
    assert set(count) == {2, 3}
    assert (count == 3).mean() == pytest.approx(0.5, abs=0.05)

    amodal_masks = sprites.render(scenes, amodal=True)[2]
    area = amodal_masks.sum(axis=(2, 3))[exists].mean()
    assert area == pytest.approx((368.6 + 289.5 + 226.1) / 3 * 7 / 12, rel=0.02)

    # Masks are exclusive: shared pixels belong to the later sprite, although the image is white
    # everywhere.
    owners = amodal_masks[:, 1:].sum(axis=1)
    np.testing.assert_array_equal(scenes["image"][..., 0] > 0, owners > 0)
    assert 0.008 < (owners > 1).mean() < 0.011

    colored = sprites.factors(np.arange(1500), variant="colored_on_grayscale")
    both = exists & (colored["shape"][:, :4] > 0)
    assert both.sum() > 2600
    for name in ("x", "y", "shape", "orientation", "scale"):
        np.testing.assert_array_equal(scenes[name][both], colored[name][:, :4][both])


def test_grayscale_background_is_gray_and_sprites_are_vivid():
    factors = sprites.factors(np.arange(5000))
    assert (factors["background"] == factors["background"][:, :1]).all()
    color = factors["color"][factors["visibility"].astype(bool) & (np.arange(6) > 0)]
    value = color.max(axis=-1)
    chroma = color.max(axis=-1) - color.min(axis=-1)
    assert value.min() >= 0.5
    assert (chroma / value).min() >= 0.5 - 1e-6


def test_hsv_to_rgb_equals_matplotlib():
    from matplotlib import colors

    hsv = np.random.default_rng(0).uniform(size=(500, 3))
    np.testing.assert_allclose(sprites.hsv_to_rgb(*hsv.T), colors.hsv_to_rgb(hsv), atol=1e-12)


def test_bright_green_squares_follow_the_published_count():
    from matplotlib import colors

    factors = sprites.factors(np.arange(100_000))
    hue, saturation, value = np.moveaxis(
        colors.rgb_to_hsv(factors["color"].astype(np.float64)), -1, 0
    )
    chosen = (factors["shape"] == sprites.SQUARE) & (hue >= 0.25) & (hue <= 0.42)
    chosen &= (saturation >= 0.5 - 1e-6) & (value >= 0.5 - 1e-6)
    assert chosen.any(axis=1).mean() == pytest.approx(0.1827, abs=0.002)


def test_later_entities_lie_on_top():
    same_place = {
        name: np.array([[0, value, value]], np.float32)
        for name, value in dict(shape=1, orientation=0, x=0.5, y=0.5, scale=1).items()
    }
    same_place |= {"color": np.zeros((1, 3, 1)), "background": np.zeros((1, 1))}
    same_place["scale"][0, 2] = 0.5
    mask = sprites.render(same_place)[1][0]

    assert mask[32, 32] == 2
    assert mask[32, 40] == 1
    assert mask[32, 45] == 0

    # A covered sprite keeps its number and has no pixel.
    same_place["scale"][0] = [0, 0.5, 1.0]
    assert set(np.unique(sprites.render(same_place)[1])) == {0, 2}


@pytest.mark.parametrize("variant", ALL_VARIANTS)
def test_scene_is_a_function_of_seed_and_index(variant):
    scenes = sprites.scenes(np.arange(200), seed=3, variant=variant)
    order = np.random.default_rng(0).permutation(200)[:50]
    shuffled = sprites.scenes(order, seed=3, variant=variant)
    for name, values in scenes.items():
        np.testing.assert_array_equal(shuffled[name], values[order])
    np.testing.assert_array_equal(
        sprites.scenes([17], seed=3, variant=variant)["image"][0], scenes["image"][17]
    )
    other = sprites.factors(np.arange(200), seed=4, variant=variant)
    assert (other["x"] != scenes["x"]).any()


@pytest.mark.parametrize(
    "arguments, expected",
    [
        (dict(seed=0), "b621fc4bb6332ed3"),
        (dict(seed=7, variant="colored_on_colored", size=48), "a836158f72d99b6d"),
        (dict(seed=0, variant="colored_on_black"), "183ac646dc73a880"),
        (dict(seed=0, variant="binarized"), "e41bbdf454d9c96c"),
    ],
)
def test_golden_scenes(arguments, expected):
    """A change of one bit makes other datasets under the same name and version."""
    assert digest(sprites.scenes(np.arange(59_990, 60_010), **arguments)) == expected


def test_golden_factors_with_colors_drawn_again():
    factors = sprites.factors(np.arange(500), variant="colored_on_black")
    assert digest(factors) == "8b86e70a578b4c48"


def test_size_changes_the_picture_and_not_the_scene():
    small, large = (sprites.scenes(np.arange(50), size=size) for size in (64, 128))
    np.testing.assert_array_equal(small["x"], large["x"])
    ratio = (large["mask"] > 0).sum() / (small["mask"] > 0).sum()
    assert ratio == pytest.approx(4.0, rel=0.02)


def test_no_scenes():
    assert sprites.scenes([])["image"].shape == (0, 64, 64, 3)


def test_errors_name_the_argument():
    with pytest.raises(ValueError, match="`variant` must be one of binarized, .* Received: 'gray'"):
        sprites.factors([0], variant="gray")
    with pytest.raises(ValueError, match="`size` must be at least 16 pixels. Received: size=8"):
        sprites.scenes([0], size=8)
    with pytest.raises(ValueError, match="`shape` must be 0, 1, 2 or 3"):
        silhouette(4, 0.0)


def test_sprites_on_black_lie_on_the_grid_of_dsprites():
    factors = sprites.factors(np.arange(3000), variant="colored_on_black")
    exists = factors["shape"] > 0
    for name, grid in (
        ("x", np.arange(32) / 31),
        ("y", np.arange(32) / 31),
        ("orientation", np.arange(40) * 2 * np.pi / 39),
        ("scale", [0.5, 0.6, 0.7, 0.8, 0.9, 1.0]),
    ):
        step = np.abs(factors[name][exists][:, None] - np.asarray(grid))
        assert step.min(axis=1).max() < 1e-6
        frequency = np.bincount(step.argmin(axis=1), minlength=len(grid)) / len(step)
        np.testing.assert_allclose(frequency, 1 / len(grid), atol=0.2 / len(grid))

    # The nearest grid points of the continuous sprites of the other variants, more or less.
    continuous = sprites.factors(np.arange(3000), variant="colored_on_colored")
    both = exists & (continuous["shape"] > 0)
    assert np.abs(factors["x"] - continuous["x"])[both].max() <= 1 / 31 + 1e-6
    np.testing.assert_array_equal(factors["shape"][both], continuous["shape"][both])


def test_colors_on_black_are_uniform_but_for_the_dark_ones():
    factors = sprites.factors(np.arange(20_000), variant="colored_on_black")
    uniform = sprites.factors(np.arange(20_000), variant="colored_on_colored")["color"]
    exists = factors["shape"] > 0
    brightest = factors["color"][exists].max(axis=-1)

    assert 0.2 <= brightest.min() < 0.21

    # The cube without its dark corner: P(brightest <= b) = (b**3 - 0.2**3) / (1 - 0.2**3).
    for bound in (0.3, 0.5, 0.8):
        assert (brightest <= bound).mean() == pytest.approx((bound**3 - 0.008) / 0.992, abs=0.006)
    assert factors["color"][exists].mean() == pytest.approx((0.5 - 0.008 * 0.1) / 0.992, abs=0.003)

    # Only what was too dark is drawn again.
    both = exists & (uniform > 0).any(axis=-1)
    bright = both & (uniform.max(axis=-1) >= 0.2)
    np.testing.assert_array_equal(factors["color"][bright], uniform[bright])

    again = both & ~bright
    assert 0.007 < again.sum() / both.sum() < 0.009
    assert (factors["color"][again] != uniform[again]).all()


def test_background_is_black():
    scenes = sprites.scenes(np.arange(100), variant="colored_on_black")
    np.testing.assert_array_equal(scenes["image"].any(axis=-1), scenes["mask"] > 0)


def test_amodal_masks_are_the_sprites_drawn_alone():
    scenes = sprites.scenes(np.arange(100), variant="colored_on_black")
    amodal_masks = scenes["amodal_masks"]
    assert amodal_masks.dtype == np.uint8
    assert amodal_masks.shape == (100, 5, 64, 64)
    assert amodal_masks[:, 0].all()

    hidden = 0
    for entity in range(1, 5):
        alone = {name: values.copy() for name, values in scenes.items()}
        alone["shape"][:, np.arange(5) != entity] = 0
        np.testing.assert_array_equal(sprites.render(alone)[1], entity * amodal_masks[:, entity])
        nearer = amodal_masks[:, entity + 1 :].any(axis=1)
        np.testing.assert_array_equal(scenes["mask"] == entity, amodal_masks[:, entity] & ~nearer)
        hidden += (amodal_masks[:, entity] & nearer).any(axis=(1, 2)).sum()

    assert hidden > 50


def test_nearer_sprites_have_smaller_depth():
    scenes = sprites.scenes(np.arange(300), variant="colored_on_black")
    order = {2: [0, 2, 1, 0, 0], 3: [0, 3, 2, 1, 0], 4: [0, 4, 3, 2, 1]}
    for count, depth in zip(scenes["visibility"][:, 1:].sum(axis=1), scenes["depth"], strict=True):
        assert depth.tolist() == order[int(count)]
    # Of the entities at a pixel, the visible one has the least depth.
    depth = np.where(scenes["amodal_masks"].astype(bool), scenes["depth"][..., None, None], np.inf)
    depth[:, 0] = 99
    np.testing.assert_array_equal(depth.argmin(axis=1), scenes["mask"])


@pytest.mark.parametrize("variant", PUBLISHED)
def test_published_variants_keep_their_features(variant):
    """Amodal masks are an option of `render`, which changes nothing else."""
    scenes = sprites.scenes(np.arange(50), variant=variant)
    assert "amodal_masks" not in scenes
    assert "depth" not in scenes
    image, mask, amodal_masks = sprites.render(scenes, amodal=True)
    np.testing.assert_array_equal(image, scenes["image"])
    np.testing.assert_array_equal(mask, scenes["mask"])
    np.testing.assert_array_equal(amodal_masks.any(axis=(2, 3)), scenes["visibility"] > 0)
    last = (amodal_masks * np.arange(amodal_masks.shape[1])[:, None, None]).max(axis=1)
    np.testing.assert_array_equal(last, mask)
