"""CLEVR scenes: rules of the sampler, variants, masks, depth, looks, determinism."""

import dataclasses
import functools
import hashlib

import numpy as np
import pytest

from tfobj.datasets.generators import clevr_scenes, clevr_variants, raycast, raycast_shading

ALL_VARIANTS = list(clevr_scenes.VARIANTS)
RIGHT = np.array([0.6563, 0.7545])
BEHIND = np.array([-0.7545, 0.6563])
SPHERE = 1
CYLINDER = 2
CUBE = 3
RUBBER = 1
METAL = 2


@functools.cache
def sampled(variant, count=40):  # 40 scenes have objects of all kinds
    return clevr_scenes.factors(np.arange(count), variant=variant)


@functools.cache
def drawn(variant="clevr6", count=8, size=64):
    return clevr_scenes.scenes(np.arange(count), variant=variant, size=size)


def arranged(*objects, material=RUBBER, ground=0.8):
    """Factors of one scene of large objects (shape, x, y, rgb) under the unjittered lamps."""
    size = len(objects) + 1
    result = {
        name: np.zeros((1, size), np.float32)
        for name in ("shape", "x", "y", "z", "rotation", "material", "size", "visibility")
    }
    result["rgb"] = np.zeros((1, size, 3), np.float32)
    result["visibility"][:] = 1

    for entity, (shape, x, y, rgb) in enumerate(objects, start=1):
        for name, value in dict(
            shape=shape, x=x, y=y, z=0.7, material=material, size=1, rgb=rgb
        ).items():
            result[name][0, entity] = value

    result["camera"] = np.float32([[7.48113, -6.50764, 5.34367]])
    result["lights"] = np.float32(
        [
            [
                [6.44671, -2.90517, 4.25840],
                [-4.67112, -4.01360, 3.01122],
                [-1.16850, 2.64602, 5.81574],
            ]
        ]
    )
    result["ground_reflectivity"] = np.float32([ground])
    return result


def full_picture(factors, variant, row):
    """Cast of one scene at the resolution of the camera's full picture."""
    rules = clevr_scenes.get_variant(variant)
    whole = raycast.Frame.whole(rules.frame.height, rules.frame.width)
    scene, camera = clevr_scenes._scene(rules, factors, row, np.flatnonzero(factors["shape"][row]))
    return raycast.cast(scene.solids, camera, whole, (whole.height, whole.width))


@pytest.mark.parametrize("variant", ALL_VARIANTS)
def test_rules_of_a_variant(variant):
    rules = clevr_scenes.VARIANTS[variant]
    factors = sampled(variant)
    exists = factors["visibility"][:, 1:] > 0
    count = exists.sum(axis=1)

    assert rules.min_objects == count.min()
    assert count.max() == rules.max_objects
    assert factors["visibility"].shape == (40, 1 + rules.max_objects)
    assert (factors["visibility"][:, 0] == 1).all()

    for name in (
        "color",
        "shape",
        "material",
        "size",
        "x",
        "y",
        "z",
        "rotation",
        "rgb",
        "pixel_coords",
        "depth",
    ):
        assert factors[name].dtype == np.float32
        assert (factors[name][:, 0] == 0).all()
        assert (factors[name][:, 1:][~exists] == 0).all()

    for name, codes in (("shape", 3), ("material", 2), ("size", 2)):
        assert set(np.unique(factors[name][:, 1:][exists])) == set(range(1, codes + 1))
    scale = np.array((0, *rules.sizes), np.float32)[factors["size"].astype(int)]
    np.testing.assert_array_equal(factors["z"], scale)
    assert np.abs(factors["x"]).max() <= 3
    assert np.abs(factors["y"]).max() <= 3
    assert factors["rotation"].min() >= 0
    assert 6 < factors["rotation"].max() < 2 * np.pi
    np.testing.assert_allclose(
        factors["rgb"], rules.palette[factors["color"].astype(int)], atol=1e-6
    )
    assert np.isin(factors["ground_reflectivity"], np.float32(rules.reflectivities)).all()

    for row in range(40):
        place = np.stack([factors["x"][row], factors["y"][row]], axis=-1)[
            1 : 1 + count[row]
        ].astype(float)
        radius = scale[row, 1 : 1 + count[row]]
        for first in range(count[row]):
            for second in range(first):
                offset = place[first] - place[second]
                assert np.hypot(*offset) - radius[first] - radius[second] >= 0.25 - 1e-5
                assert min(abs(offset @ RIGHT), abs(offset @ BEHIND)) >= 0.4 - 1e-5


@pytest.mark.parametrize("variant", ["clevr6", "clevr3", "clevr5"])
def test_every_object_and_the_background_show_the_least_number_of_pixels(variant):
    factors = sampled(variant)
    rules = clevr_scenes.VARIANTS[variant]
    for row in range(15):
        pixels = np.bincount(full_picture(factors, variant, row).owner.ravel())
        assert len(pixels) == factors["visibility"][row].sum()
        assert pixels.min() >= rules.min_pixels


def test_camera_and_lamps_jitter_about_their_places():
    factors = sampled("clevr5", 150)
    base = arranged()
    for name, reach in (("camera", 0.5), ("lights", 1.0)):
        offset = factors[name] - base[name]
        assert offset.min() < -0.95 * reach
        assert offset.max() > 0.95 * reach
        assert np.abs(offset).max() <= reach + 1e-5
        assert np.abs(offset.mean(axis=0)).max() < 0.15 * reach
    assert len(np.unique(factors["camera"][:, 0])) == 150


def test_counts_and_codes_are_uniform():
    factors = sampled("clevr5", 150)
    exists = factors["visibility"][:, 1:] > 0
    np.testing.assert_allclose(np.bincount(exists.sum(axis=1))[3:] / 150, 1 / 3, atol=0.12)

    for name, codes in (
        ("shape", (1, 2, 3)),
        ("material", (1, 2)),
        ("size", (1, 2)),
        ("color", (1, 2, 3, 4, 5, 7, 8)),
    ):
        values = factors[name][:, 1:][exists]
        frequency = [(values == code).mean() for code in codes]
        np.testing.assert_allclose(frequency, 1 / len(codes), atol=0.06)
        assert sum(frequency) == pytest.approx(1)


def test_objects_before_rejection_are_uniform():
    words = np.random.default_rng(0).integers(
        0, 2**32, (1500, clevr_scenes._OBJECT_WORDS), dtype=np.uint32
    )
    rules = clevr_scenes.get_variant("clevr6")
    single = [clevr_scenes._sample_objects(rules, row[None]) for row in words]

    for name, codes in (("shape", 3), ("material", 2), ("size", 2), ("color", 8)):
        counts = np.bincount([int(values[name][0]) for values in single], minlength=codes + 1)
        frequency = counts / 1500
        np.testing.assert_allclose(frequency[1:], 1 / codes, atol=0.04)

    for name, low, high in (("x", -3, 3), ("y", -3, 3), ("rotation", 0, 2 * np.pi)):
        sampled_values = [values[name][0] for values in single]
        quarter = np.histogram(sampled_values, bins=4, range=(low, high))[0] / 1500
        np.testing.assert_allclose(quarter, 0.25, atol=0.04)


def test_no_green_spheres():
    """The published subset: CLEVR6 scenes without a green sphere; others are resampled."""
    full = sampled("clevr6")
    subset = sampled("clevr6_no_green_spheres")
    green = ((full["color"] == 3) & (full["shape"] == SPHERE)).any(axis=1)
    assert 2 <= green.sum() <= 20
    assert not ((subset["color"] == 3) & (subset["shape"] == SPHERE)).any()
    assert ((subset["color"] == 3) & (subset["shape"] == CUBE)).any()
    np.testing.assert_array_equal((full["x"] == subset["x"]).all(axis=1), ~green)


def test_grayscale_is_the_luma_of_the_same_pixels():
    colored = drawn("clevr6", 8)
    gray = clevr_scenes.scenes([2, 5], variant="clevr6_grayscale", size=64)
    assert gray["image"].shape == (2, 64, 64, 1)
    red, green, blue = np.moveaxis(colored["image"][[2, 5]].astype(float), -1, 0)
    np.testing.assert_array_equal(
        gray["image"][..., 0], np.rint(0.299 * red + 0.587 * green + 0.114 * blue)
    )
    np.testing.assert_array_equal(gray["mask"], colored["mask"][[2, 5]])


def test_varied_background_has_six_reflectivities():
    factors = sampled("clevr5_vbg")
    np.testing.assert_allclose(
        np.unique(factors["ground_reflectivity"]), [0.1, 0.152, 0.230, 0.348, 0.528, 0.8], rtol=1e-6
    )
    scenes = drawn("clevr5_vbg", 6, 32)
    linear = [
        (image[mask == 0] / 255.0).mean() ** 2.2
        for image, mask in zip(scenes["image"], scenes["mask"], strict=True)
    ]
    assert np.corrcoef(linear, scenes["ground_reflectivity"])[0, 1] > 0.97


def test_older_sets_have_their_own_colors_and_metal():
    old = clevr_scenes.get_variant("clevr3")
    new = clevr_scenes.get_variant("clevr5")
    np.testing.assert_allclose(255 * old.palette[1:3], [(215, 35, 35), (41, 215, 208)])
    np.testing.assert_allclose(255 * new.palette[1:3], [(173, 35, 35), (41, 208, 208)])
    assert not (sampled("clevr5")["color"] == 6).any()
    assert (sampled("clevr3", 80)["color"] == 6).any()
    assert all(width > 0.3 for _, width in old.metal_lobes)
    assert any(width < 0.1 for _, width in new.metal_lobes)
    assert clevr_scenes.scenes([0], variant="clevr3")["image"].shape == (1, 96, 96, 3)


@pytest.mark.parametrize("variant", ["clevr6", "clevr5", "clevr3"])
def test_the_rendered_window_is_the_crop_of_the_full_picture(variant):
    rules = clevr_scenes.get_variant(variant)
    factors = sampled(variant)
    top, bottom = rules.frame.rows
    left, right = rules.frame.columns

    for row in range(2):
        whole = full_picture(factors, variant, row)
        one = {name: values[row : row + 1] for name, values in factors.items()}
        window = clevr_scenes.render(one, variant, bottom - top)
        np.testing.assert_array_equal(window["mask"][0], whole.owner[top:bottom, left:right])
        np.testing.assert_array_equal(
            window["depth_map"][0], whole.depth[top:bottom, left:right].astype(np.float16)
        )


def test_pixel_coords_are_where_spheres_are_seen():
    factors = sampled("clevr6")
    checked = 0
    for row in range(12):
        hits = full_picture(factors, "clevr6", row)
        for entity in np.flatnonzero(factors["shape"][row] == SPHERE):
            rows, columns = np.nonzero(hits.amodal[entity - 1])
            if rows.min() > 0 and rows.max() < 239 and columns.min() > 0 and columns.max() < 319:
                column, line, depth = factors["pixel_coords"][row, entity]
                # A ball's outline is an ellipse that leans away from the picture's middle.
                np.testing.assert_allclose(
                    [columns.mean() + 0.5, rows.mean() + 0.5], [column, line], atol=1.0
                )
                assert 0 < depth <= factors["depth"][row, entity] + 1e-5
                checked += 1

    assert checked >= 8


def test_depth_is_the_distance_from_the_camera():
    factors = sampled("clevr6")
    centre = np.stack([factors["x"], factors["y"], factors["z"]], axis=-1)
    distance = np.linalg.norm(centre - factors["camera"][:, None], axis=-1) * (factors["shape"] > 0)
    np.testing.assert_allclose(factors["depth"], distance, rtol=1e-5)


def test_masks_amodal_masks_and_depth_agree():
    scenes = drawn("clevr6", 8)
    for row in range(8):
        mask = scenes["mask"][row]
        amodal = scenes["amodal_masks"][row].astype(bool)
        count = int(scenes["visibility"][row].sum())
        assert amodal[0].all()
        assert not amodal[count:].any()
        assert mask.max() < count
        np.testing.assert_array_equal(mask > 0, amodal[1:].any(axis=0))

        # A corner of a cube is 1.6 scales from its centre; depths are stored with 16 bits.
        for entity in range(1, count):
            assert (amodal[entity] | (mask != entity)).all()
            seen = scenes["depth_map"][row][mask == entity].astype(float)
            distance = np.abs(seen - scenes["pixel_coords"][row, entity, 2])
            assert (distance <= 1.6 * scenes["z"][row, entity] + 0.02).all()


def test_a_single_object_is_its_amodal_mask_and_the_nearest_one_is_seen():
    """Single-object pictures of the scenes, as used to judge generated objects one by one."""
    scenes = drawn("clevr6", 8)
    singles = []
    for entity in range(1, 7):
        single = clevr_scenes.render(clevr_scenes.keep_objects(scenes, entity), size=64)
        np.testing.assert_array_equal(single["mask"], entity * scenes["amodal_masks"][:, entity])
        np.testing.assert_array_equal(
            single["amodal_masks"][:, entity], scenes["amodal_masks"][:, entity]
        )
        assert not np.delete(single["amodal_masks"], (0, entity), axis=1).any()
        singles.append(np.where(single["mask"] > 0, single["depth_map"], np.inf))

    nearest = np.min(singles, axis=0)
    covered = scenes["mask"] > 0
    np.testing.assert_array_equal(nearest[covered], scenes["depth_map"][covered])
    assert (scenes["amodal_masks"][:, 1:].sum(axis=1) > 1).any()  # some objects overlap

    visible = np.take_along_axis(np.array(singles), scenes["mask"][None].astype(int) - 1, axis=0)[0]
    np.testing.assert_array_equal(visible[covered], nearest[covered])


def test_scenes_render_again_from_their_factors_bit_for_bit():
    scenes = drawn("clevr6", 8)
    again = clevr_scenes.render({name: values[3:5] for name, values in scenes.items()}, size=64)
    for name in ("image", "mask", "amodal_masks", "depth_map"):
        np.testing.assert_array_equal(again[name], scenes[name][3:5])


def test_scene_is_a_function_of_seed_and_index():
    scenes = drawn("clevr6", 8)
    shuffled = clevr_scenes.scenes([6, 1], size=64)
    for name, values in scenes.items():
        np.testing.assert_array_equal(shuffled[name], values[[6, 1]])
    assert (clevr_scenes.factors([0, 1], seed=1)["x"] != scenes["x"][:2]).any(axis=1).all()
    other = clevr_scenes.factors([0, 1], variant="clevr")
    assert (other["camera"] != scenes["camera"][:2]).all()  # sets do not share scenes


@pytest.mark.parametrize(
    "variant, expected",
    [
        ("clevr6", "14600e13cdc32cf6"),
        ("clevr3", "81470e872d9347c4"),
        ("clevr5_vbg", "d82d592ceacae906"),
    ],
)
def test_golden_scenes(variant, expected):
    """A changed draw would make another dataset under the same name and version.

    Pixels may differ by rounding and are left out.
    """
    factors = clevr_scenes.factors(np.arange(5, 15), seed=7, variant=variant)
    names = (
        "x",
        "y",
        "z",
        "color",
        "shape",
        "material",
        "size",
        "camera",
        "lights",
        "ground_reflectivity",
    )
    content = b"".join(np.ascontiguousarray(factors[name]).tobytes() for name in names)

    assert hashlib.sha256(content).hexdigest()[:16] == expected


def test_shapes_and_types():
    scenes = clevr_scenes.scenes([5])
    expected = {
        "image": (1, 128, 128, 3),
        "mask": (1, 128, 128),
        "amodal_masks": (1, 7, 128, 128),
        "depth_map": (1, 128, 128),
    }
    for name, shape in expected.items():
        assert scenes[name].shape == shape
        assert scenes[name].dtype == (np.float16 if name == "depth_map" else np.uint8)

    empty = clevr_scenes.scenes([], variant="clevr5")
    assert empty["image"].shape == (0, 96, 96, 3)
    assert empty["lights"].shape == (0, 3, 3)


def test_size_changes_the_picture_and_not_the_scene():
    small = clevr_scenes.scenes([0, 1], size=32)
    large = drawn("clevr6", 8)
    np.testing.assert_array_equal(small["x"], large["x"][:2])
    ratio = (large["mask"][:2] > 0).sum() / (small["mask"] > 0).sum()
    assert ratio == pytest.approx((64 / 32) ** 2, rel=0.05)


def test_rubber_has_the_hue_of_its_color():
    for name, rgb in clevr_variants.COLORS.items():
        one = clevr_scenes.render(arranged((SPHERE, 0.0, 0.0, np.array(rgb) / 255)), size=32)
        linear = ((one["image"][one["mask"] == 1] / 255.0) ** 2.2).mean(axis=0)
        expected = np.array(rgb) / np.linalg.norm(rgb)
        assert linear @ expected / np.linalg.norm(linear) > 0.985, name


def test_lit_ground_is_gray_as_in_clevr():
    """The lamps' inverse squares give 0.235 (linear) at the origin; with the bounce, 135 of 255."""
    image = clevr_scenes.render(arranged(), size=64)["image"][0].astype(float)
    middle = image[(120 - 29) // 3, (160 - 64) // 3]
    np.testing.assert_allclose(middle, 135, atol=4)
    luma = image.mean(axis=(1, 2))
    assert luma[0] < luma[20] < luma[-1]  # darker towards the horizon
    assert luma[0] > 90
    assert (image.max(axis=-1) - image.min(axis=-1)).max() < 12


def test_objects_cast_shadows():
    with_cube = clevr_scenes.render(arranged((CUBE, 0.0, 0.0, (0.3, 0.3, 0.3))), size=64)
    empty = clevr_scenes.render(arranged(), size=64)
    ground = with_cube["mask"][0] == 0
    change = with_cube["image"][0].astype(float).mean(-1) / empty["image"][0].mean(-1)

    assert change[ground].min() < 0.75
    assert change[ground].max() < 1.1
    assert 0.02 < (change[ground] < 0.93).mean() < 0.4
    # The key lamp stands at the camera's right: its shadow falls to the left.
    columns = np.nonzero(ground & (change < 0.93))[1]
    assert (columns < 32).sum() > (columns >= 32).sum()


def test_metal_has_brighter_highlights_and_darker_parts_than_rubber():
    ball = (SPHERE, 0.0, 0.0, (0.34, 0.34, 0.34))
    spread = []
    for material in (RUBBER, METAL):
        one = clevr_scenes.render(arranged(ball, material=material), size=64)
        values = one["image"][one["mask"] == 1].mean(axis=-1)
        spread.append((values.min(), values.max()))
    (rubber_low, rubber_high), (metal_low, metal_high) = spread
    assert metal_high > rubber_high + 60
    assert metal_low < rubber_low - 10


def test_satin_metal_is_smoother_than_clevrs():
    ball = arranged((SPHERE, 0.0, 0.0, (0.5, 0.5, 0.5)), material=METAL)
    plain = clevr_scenes.get_variant("clevr6")
    satin = dataclasses.replace(plain, metal_lobes=raycast_shading.SATIN_LOBES)
    mirror, rough = (
        clevr_scenes.render(ball, variant, 64)["image"].max() for variant in (plain, satin)
    )
    assert rough < mirror - 30


def test_keep_objects():
    factors = sampled("clevr6")
    kept = clevr_scenes.keep_objects(factors, np.full(40, 2))
    assert (kept["visibility"].sum(axis=1) == 2).all()
    assert (kept["visibility"][:, [0, 2]] == 1).all()
    np.testing.assert_array_equal(kept["x"][:, 2], factors["x"][:, 2])
    assert (kept["shape"][:, [1, 3, 4, 5, 6]] == 0).all()
    assert (kept["rgb"][:, 1] == 0).all()
    assert (factors["visibility"].sum(axis=1) > 2).all()  # the argument is left alone

    everything = clevr_scenes.keep_objects(factors, factors["visibility"] > 0)
    for name, values in factors.items():
        np.testing.assert_array_equal(everything[name], values)
    none = clevr_scenes.keep_objects(factors, np.zeros((40, 7), bool))

    assert none["visibility"].sum() == 40
    with pytest.raises(ValueError, match="`keep` must have the shape"):
        clevr_scenes.keep_objects(factors, np.zeros((40, 3), bool))
    with pytest.raises(ValueError, match="`keep` must be bool"):
        clevr_scenes.keep_objects(factors, 0.5)


def test_objects_without_room_are_an_error(monkeypatch):
    monkeypatch.setattr(clevr_scenes, "MAX_RESTARTS", 20)
    crowded = dataclasses.replace(
        clevr_scenes.get_variant("clevr3"), name="crowd", min_objects=9, max_objects=9
    )
    with pytest.raises(
        ValueError,
        match=r"No place .* for 9 objects .* in 20 tries .*"
        r"Lower `max_objects`, `sizes` or `min_pixels` .*'crowd'",
    ):
        clevr_scenes.factors([0], variant=crowded)


def test_errors_name_the_argument():
    with pytest.raises(
        ValueError, match="`variant` must be one of clevr, clevr6, .* Received: 'clevr7'"
    ):
        clevr_scenes.factors([0], variant="clevr7")

    with pytest.raises(ValueError, match="`size` must be at least 16 pixels. Received: size=8"):
        clevr_scenes.scenes([0], size=8)
    with pytest.raises(ValueError, match="`size` must be"):
        clevr_scenes.scenes([0], size=64.0)
    with pytest.raises(ValueError, match="`shape` must be in 1 ... 3"):
        clevr_scenes.render(arranged((4, 0.0, 0.0, (1, 1, 1))))
    with pytest.raises(ValueError, match="`indices` must be"):
        clevr_scenes.factors([-1])
