"""CLEVRER-like clips: rules of the sampler, masks, pictures from one place, determinism."""

import dataclasses
import functools
import hashlib

import numpy as np
import pytest

from tfobj.datasets.generators import (
    clevr_scenes,
    clevrer_clips,
    clevrer_stories,
    raycast,
    raycast_shapes,
    raycast_stage,
)
from tfobj.datasets.generators.clevrer_physics import gaps

SPHERE = 1
CYLINDER = 2
CUBE = 3


@functools.cache
def sampled(variant="clevrer", count=30):
    return clevrer_clips.factors(np.arange(count), variant=variant)


@functools.cache
def whole():
    """All 128 frames of a few clips."""
    return clevrer_clips.factors(
        np.arange(6),
        variant=dataclasses.replace(clevrer_clips.VARIANTS["clevrer"], stride=1),
        num_frames=128,
    )


@functools.cache
def drawn():
    return clevrer_clips.clips(
        np.arange(3),
        num_frames=14,
        size=32,
        variant=dataclasses.replace(clevrer_clips.VARIANTS["clevrer"], stride=9),
    )


def objects(factors, row):
    """Entities of a clip, the background left out."""
    return np.flatnonzero(factors["visibility"][row])[1:]


@pytest.mark.parametrize(
    "variant, least, greatest", [("clevrer", 3, 6), ("clevrer345", 3, 5), ("clevrer6", 6, 6)]
)
def test_rules_of_a_variant(variant, least, greatest):
    factors = sampled(variant)
    exists = factors["visibility"][:, 1:] > 0
    assert exists.shape == (30, greatest)
    assert (factors["visibility"][:, 0] == 1).all()
    assert (exists.sum(axis=1).min(), exists.sum(axis=1).max()) == (least, greatest)

    for name in ("color", "shape", "material", "rgb"):
        assert factors[name].dtype == np.float32
        assert not factors[name][:, 0].any()
        assert not factors[name][:, 1:][~exists].any()

    for name in ("position", "velocity", "angle", "in_view", "collision", "partner"):
        assert factors[name].shape[:3] == (30, 40, 1 + greatest)
        assert factors[name].dtype == np.float32
        assert not factors[name][:, :, 0].any()
        assert not np.moveaxis(factors[name], 2, 1)[:, 1:][~exists].any()

    for name, codes in (("color", 8), ("shape", 3), ("material", 2)):
        assert set(np.unique(factors[name][:, 1:][exists])) == set(range(1, codes + 1))
    for row in range(30):
        kinds = {
            tuple(factors[name][row, entity] for name in ("color", "material", "shape"))
            for entity in objects(factors, row)
        }
        assert len(kinds) == exists[row].sum()  # no two are alike

    palette = clevr_scenes.get_variant("clevr").palette
    np.testing.assert_allclose(factors["rgb"], palette[factors["color"].astype(int)], atol=1e-6)


def test_whole_clips_show_every_object_and_a_collision():
    factors = sampled()
    assert (factors["first_frame"] == 0).all()
    # A few collide only in the last frames, which are not kept.
    assert (factors["collision"].max(axis=(1, 2)) > 0).mean() > 0.9

    everything = whole()
    assert (everything["collision"].max(axis=(1, 2)) > 0).all()
    for row in range(6):
        in_view = everything["in_view"][row][:, objects(everything, row)]
        assert in_view.sum(axis=0).min() >= 12

    enters = (np.diff(factors["in_view"], axis=1) > 0).any(axis=(1, 2))
    leaves = (np.diff(factors["in_view"], axis=1) < 0).any(axis=(1, 2))
    assert enters.mean() > 0.8
    assert 0.1 < leaves.mean() < 0.9


@pytest.mark.parametrize("variant", ["clevrer345", "clevrer6"])
def test_trimmed_clips_have_all_objects_in_view_and_begin_when_the_last_one_comes(variant):
    factors = sampled(variant)
    np.testing.assert_array_equal(
        factors["in_view"],
        np.repeat(
            factors["visibility"][:, None] * (np.arange(factors["visibility"].shape[1]) > 0),
            40,
            axis=1,
        ),
    )

    later = np.flatnonzero(factors["first_frame"])
    assert later.size > 5

    index = int(later[0])
    uncut = dataclasses.replace(clevrer_clips.VARIANTS[variant])
    drawn_objects, tracks, first = clevrer_stories.sample(uncut, 40, index, 0)
    assert first == factors["first_frame"][index]
    assert tracks["in_view"].all()
    assert len(drawn_objects["shape"]) >= 3


def test_objects_slide_on_the_ground_without_touching_or_jumping():
    factors = whole()
    for row in range(6):
        entity = objects(factors, row)
        position = factors["position"][row][:, entity].astype(float)
        velocity = factors["velocity"][row][:, entity].astype(float)
        collision = factors["collision"][row][:, entity]
        assert np.linalg.norm(velocity[..., :2], axis=-1).max() < 7

        for frame in range(0, 128, 8):
            angle = factors["angle"][row, frame, entity]
            gap = gaps(factors["shape"][row, entity], 0.5, position[frame, :, :2], angle)
            assert gap.min() > -2e-3

        # Between collisions the path is the integral of the velocity, up to friction within a
        # frame and the frame of the contact.
        step = np.diff(position, axis=0) * clevrer_clips.FRAME_RATE
        error = np.abs(step - (velocity[1:] + velocity[:-1]) / 2).max(axis=-1)
        quiet = (collision[1:] == 0) & (collision[:-1] == 0)
        assert np.quantile(error[quiet], 0.99) < 0.06

        visible = factors["in_view"][row][:, entity] > 0
        assert (position[..., 2][visible] >= 0.5).all()
        assert position[..., 2][visible].max() < 0.66


def test_collisions_change_velocities_and_name_each_other():
    factors = whole()
    changes = []
    for row in range(6):
        np.testing.assert_array_equal(factors["collision"][row], factors["partner"][row] > 0)
        for frame, entity in zip(*np.nonzero(factors["collision"][row]), strict=True):
            partner = int(factors["partner"][row, frame, entity])
            assert partner != entity
            assert factors["collision"][row, frame, partner] == 1
            distance = np.linalg.norm(
                factors["position"][row, frame, entity] - factors["position"][row, frame, partner]
            )
            assert 0.95 < distance < 1.7
            changes.append(
                np.linalg.norm(
                    factors["velocity"][row, frame, entity]
                    - factors["velocity"][row, frame - 1, entity]
                )
            )

    assert len(changes) >= 12
    assert np.median(changes) > 0.3


def test_partners_of_frames_that_are_left_out_count_for_the_next_kept_one():
    result = clevrer_clips.partners(
        [(3, 0, 1), (9, 1, 2), (10, 0, 2), (30, 0, 1)], np.array([3, 6, 9, 12]), 3
    )
    np.testing.assert_array_equal(result, [[2, 1, 0], [0, 0, 0], [0, 3, 2], [3, 0, 1]])


def test_in_view_is_where_the_mask_is():
    clips = drawn()
    for row in range(3):
        for entity in objects(clips, row):
            pixels = (clips["mask"][row] == entity).sum(axis=(1, 2))
            covered = clips["in_view"][row, :, entity] > 0
            assert pixels[~covered].max(initial=0) <= 0.6 * pixels.max()  # an edge of it
            assert (pixels[covered] > 0).mean() > 0.7  # the others are hidden


def test_mask_is_the_ray_casters():
    """An independent way to the same masks: one still scene per frame."""
    clips = drawn()
    camera = raycast.Camera.looking_at((7.48113, -6.50764, 5.34367))
    square = raycast.Frame(320, 480, (0, 320), (80, 400))

    for row, frame in ((0, 3), (1, 9), (2, 13)):
        entity = objects(clips, row)
        solids = raycast.Solids(
            clips["shape"][row, entity].astype(int),
            np.full(len(entity), 0.5),
            clips["position"][row, frame, entity].astype(float),
            raycast_shapes.rotation_about_z(clips["angle"][row, frame, entity].astype(float)),
        )
        owner = raycast.cast(solids, camera, square, (32, 32)).owner
        expected = np.concatenate([[0], entity])[owner]
        np.testing.assert_array_equal(clips["mask"][row, frame], expected)


def test_stage_draws_what_the_ray_caster_draws():
    clips = drawn()
    factors = {name: values for name, values in clips.items() if name not in ("video", "mask")}
    entity = objects(factors, 1)
    values = {name: factors[name][1] for name in ("shape", "material", "rgb")}
    scene = clevrer_clips._scene(values, factors["position"][1, 9], factors["angle"][1, 9], entity)
    image, hits = raycast.render(scene, clevrer_stories.CAMERA, clevrer_clips.FRAME, (48, 48))
    drawing, owner = raycast_stage.Stage(
        clevrer_stories.CAMERA, clevrer_clips.FRAME, (48, 48)
    ).render(scene)

    np.testing.assert_array_equal(owner, hits.owner)
    difference = np.abs(image.astype(int) - drawing)
    assert difference.mean() < 0.5
    assert np.median(difference) == 0

    fine, _ = raycast.render(scene, clevrer_stories.CAMERA, clevrer_clips.FRAME, (240, 240))
    area = fine.reshape(48, 5, 48, 5, 3).mean(axis=(1, 3))
    assert np.abs(drawing - area).mean() < 1.3  # as good as a picture five times as fine


def test_a_stage_with_rectangular_frames_and_hidden_solids():
    frame = raycast.Frame.whole(320, 480)
    scene = clevrer_clips._scene(
        {
            "shape": np.array([0, 1, 3]),
            "material": np.array([0, 1, 1]),
            "rgb": np.full((3, 3), 0.5),
        },
        np.array([(0, 0, 0), (0, 0, 0.5), (30.0, -30.0, 0.5)]),
        np.zeros(3),
        np.array([1, 2]),
    )
    image, owner = raycast_stage.Stage(clevrer_stories.CAMERA, frame, (16, 24)).render(scene)

    assert image.shape == (16, 24, 3)
    assert set(np.unique(owner)) == {0, 1}  # the cube is behind the camera


def test_objects_off_the_stage_would_not_be_noticed():
    stage = clevrer_clips._stage(32)
    values = {
        "shape": np.array([0, CUBE]),
        "material": np.array([0, 1]),
        "rgb": np.full((2, 3), 0.8),
    }
    empty, _ = stage.render(
        clevrer_clips._scene(values, np.zeros((2, 3)), np.zeros(2), np.array([], int))
    )

    for place in ((-70, 100), (-70, 300), (550, 100), (550, 300), (150, 470), (350, 470)):
        position = np.zeros((2, 3))
        position[1] = [*clevrer_stories.on_ground(np.array([place], float))[0], 0.5]
        image, owner = stage.render(
            clevrer_clips._scene(values, position, np.full(2, 0.5), np.array([1]))
        )
        assert np.abs(image.astype(int) - empty).max() <= 1
        assert not owner.any()


def test_frames_in_which_nothing_moves_are_equal_and_others_are_not():
    clips = drawn()
    still = (np.diff(clips["position"], axis=1) == 0).all(axis=(2, 3)) & (
        np.diff(clips["angle"], axis=1) == 0
    ).all(axis=2)
    same = (clips["video"][:, 1:] == clips["video"][:, :-1]).all(axis=(2, 3, 4))

    assert same[still].all()
    assert not same.all(axis=1).any()

    single = {
        name: values[:1, -1:] if name in ("position", "angle") else values[:1]
        for name, values in clips.items()
    }

    np.testing.assert_array_equal(
        clevrer_clips.render(single, 32)["video"][0, 0], clips["video"][0, -1]
    )


def test_clips_have_shadows_and_a_still_background():
    clips = drawn()
    empty, _ = clevrer_clips._stage(32).render(
        clevrer_clips._scene(
            {"shape": np.zeros(1), "material": np.zeros(1), "rgb": np.zeros((1, 3))},
            np.zeros((1, 3)),
            np.zeros(1),
            np.array([], int),
        )
    )
    ground = clips["mask"] == 0
    change = clips["video"].astype(float).mean(axis=-1) - empty.astype(float).mean(axis=-1)

    assert np.median(change[ground]) > -4
    assert change[ground].max() < 12
    assert 0.005 < (change[ground] < -12).mean() < 0.2  # shadows


def test_clip_is_a_function_of_seed_and_index():
    factors = sampled()
    some = clevrer_clips.factors([7, 2])
    for name, values in some.items():
        np.testing.assert_array_equal(values, factors[name][[7, 2]])
    assert (clevrer_clips.factors([2], seed=1)["position"] != factors["position"][[2]]).any()
    other = clevrer_clips.factors([0], variant="clevrer345")
    assert (other["angle"][0, 0, 1:4] != factors["angle"][0, 0, 1:4]).all()


def test_other_lengths_and_strides_are_of_the_same_clips():
    everything = whole()
    kept = sampled()
    for name in ("position", "velocity", "angle", "in_view"):
        np.testing.assert_array_equal(everything[name][:, : 3 * 40 : 3], kept[name][:6])
    short = clevrer_clips.factors(np.arange(6), num_frames=5)
    np.testing.assert_array_equal(short["position"], kept["position"][:6, :5])


@pytest.mark.parametrize(
    "variant, expected",
    [
        ("clevrer", "93d27dbd22cd1dde"),
        ("clevrer345", "c508ac212ab8a4ea"),
        ("clevrer6", "588ff0a32d3de4dc"),
    ],
)
def test_golden_clips(variant, expected):
    """A changed draw would make another dataset under the same name and version.

    Positions may differ by rounding and are compared to two digits.
    """
    factors = clevrer_clips.factors(np.arange(5, 10), seed=7, variant=variant, num_frames=1)
    content = b"".join(
        np.ascontiguousarray(factors[name]).tobytes()
        for name in ("color", "shape", "material", "first_frame")
    )
    content += np.round(factors["position"], 2).tobytes()
    assert hashlib.sha256(content).hexdigest()[:16] == expected


def test_shapes_and_types():
    clips = clevrer_clips.clips([4], num_frames=2)
    assert clips["video"].shape == (1, 2, 64, 64, 3)
    assert clips["mask"].shape == (1, 2, 64, 64)
    assert clips["video"].dtype == clips["mask"].dtype == np.uint8
    assert clips["position"].shape == (1, 2, 7, 3)

    empty = clevrer_clips.clips([], variant="clevrer6", size=16)
    assert empty["video"].shape == (0, 40, 16, 16, 3)
    assert empty["first_frame"].shape == (0,)


@pytest.mark.parametrize(
    "visible, expected",
    [
        ((10, 80), (10, 80)),
        ((100, 128), None),
        ((0, 128), (0, 127)),
        ((0, 40), (0, 40)),
        ((0, 39), None),
        ((0, 0), None),
        ((87, 128), (87, 127)),
        ((88, 128), None),
    ],
)
def test_trimmed(visible, expected):
    in_view = np.ones((128, 3), bool)
    in_view[:, 1] = False
    in_view[slice(*visible), 1] = True
    assert clevrer_clips.trimmed(in_view) == expected


def test_trimmed_takes_the_first_run_only():
    in_view = np.zeros((128, 2), bool)
    in_view[5:20] = in_view[30:120] = True
    assert clevrer_clips.trimmed(in_view) is None
    assert clevrer_clips.trimmed(in_view, 15) == (5, 20)


def test_clips_that_fit_no_rule_are_an_error(monkeypatch):
    monkeypatch.setattr(clevrer_stories, "MAX_ATTEMPTS", 3)
    monkeypatch.setattr(clevrer_stories, "_LEAST_VIEW", 200)
    with pytest.raises(
        ValueError, match=r"No motion of \d objects met the rules of .* in 3 tries \(clip 0\)"
    ):
        clevrer_clips.factors([0])


def test_errors_name_the_argument():
    with pytest.raises(
        ValueError,
        match="`variant` must be one of clevrer, clevrer345, clevrer6. Received: 'clever'",
    ):
        clevrer_clips.factors([0], variant="clever")

    with pytest.raises(ValueError, match="`size` must be at least 16 pixels. Received: size=8"):
        clevrer_clips.clips([0], size=8)
    with pytest.raises(
        ValueError,
        match="`num_frames` must be in 1 ... 43 for this variant. Received: num_frames=44",
    ):
        clevrer_clips.factors([0], num_frames=44)

    with pytest.raises(ValueError, match="`num_frames` must be in 1 ... 40"):
        clevrer_clips.factors([0], variant="clevrer6", num_frames=0)
    with pytest.raises(ValueError, match="`shape` must be in 1 ... 3"):
        clevrer_clips.render({**drawn(), "shape": 9 * drawn()["shape"]}, 16)
