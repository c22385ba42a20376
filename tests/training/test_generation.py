"""Samples against held-out images: batches do not matter, equal N, single objects, errors."""

import functools
import itertools

import numpy as np
import pytest
import tensorflow as tf

from tfobj import random
from tfobj.data.packed import SceneArrays
from tfobj.datasets.generators import clevr_scenes, polygons, sprites, tetris
from tfobj.errors import UserError
from tfobj.metrics import generation as statistics
from tfobj.metrics.generation_features import pixel_features
from tfobj.models.base import DecodedScene
from tfobj.training import generation
from tfobj.training.experiment import DataConfig

GRAY = 0.25


class Dots:
    """A model of scenes of bright dots on gray.

    A slot is [brightness, row, column]; `background_slot` is where the gray one is.
    """

    has_prior = True

    def __init__(self, num_objects=3, background_slot=-1, share=0.9):
        self.num_objects = num_objects
        self.background_slot = background_slot
        self.share = share

    def sample_slots(self, num, seed):
        objects = random.uniform(seed, "dots", [num, self.num_objects, 3])
        background = tf.fill([num, 1, 3], GRAY)
        return tf.concat(
            [background, objects] if self.background_slot == 0 else [objects, background], 1
        )

    def decode(self, slots):
        """The first object is as visible as `share` says, the others wholly."""
        place = self.background_slot % slots.shape[1]
        objects = tf.concat([slots[:, :place], slots[:, place + 1 :]], 1)
        cell = tf.cast(objects[..., 1] * 4, tf.int32) * 4 + tf.cast(objects[..., 2] * 4, tf.int32)
        dim = tf.where(objects[..., :1] < 0.5, self.share, 1.0)
        alpha = tf.reshape(tf.one_hot(cell, 16) * dim, [-1, objects.shape[1], 4, 4, 1])
        recon = tf.reduce_sum(alpha * objects[..., :1, None, None], 1) + GRAY * (
            1 - tf.reduce_max(alpha, 1)
        )
        gray = 1.0 - tf.reduce_max(alpha, 1, keepdims=True)
        return DecodedScene(
            recon, tf.concat([gray, alpha] if place == 0 else [alpha, gray], 1), None
        )

    def sample(self, num, seed):
        return self.decode(self.sample_slots(num, seed))


def pictures(images):
    return generation.Pictures(len(images), lambda start, stop: images[start:stop], "noise")


def noise(num, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (num, 4, 4, 1), dtype=np.uint8)


def first(batches, num):
    """The first `num` images of an endless iterator of batches."""
    found = []
    while sum(map(len, found)) < num:
        found.append(next(batches))
    return np.concatenate(found)[:num]


@pytest.mark.parametrize("draw", [generation.sampled_scenes, generation.sampled_objects])
def test_samples_do_not_depend_on_the_batch_size(draw):
    model = Dots(share=0.3)
    one = first(draw(model, 8), 21)
    other = first(draw(model, 5), 21)
    np.testing.assert_array_equal(one, other)
    assert one.dtype == np.uint8
    assert one.shape == (21, 4, 4, 1)
    assert (first(draw(model, 8, seed=1), 21) != one).any()


@pytest.mark.parametrize("background_slot", [-1, 0])
def test_a_sampled_object_is_one_object_on_its_background(background_slot):
    model = Dots(background_slot=background_slot, share=1.0)
    images = first(generation.sampled_objects(model, 8), 30)
    gray = generation.to_bytes(np.array(GRAY))
    assert ((images != gray).sum((1, 2, 3)) <= 1).all()
    slots = model.sample_slots(30, random.make_seed(generation.SAMPLING_SEED)).numpy()
    objects = slots[:, 1:] if background_slot == 0 else slots[:, :-1]
    for i, image in enumerate(images):
        brightness, row, column = objects[i, i % 3]  # the objects of a scene take turns
        assert image[int(row * 4), int(column * 4), 0] == generation.to_bytes(brightness)


def test_slots_that_show_nothing_are_passed_over():
    visible = first(generation.sampled_objects(Dots(share=0.49), 8), 40)
    assert (visible.max((1, 2, 3)) >= 127).all()  # dots darker than 0.5 have a share of 0.49
    at_the_bound = first(generation.sampled_objects(Dots(share=0.5), 8), 40)
    assert (at_the_bound.max((1, 2, 3)) < 127).any()
    model = Dots()
    model.decode = lambda slots: DecodedScene(
        tf.zeros([8, 4, 4, 1]), tf.zeros([8, 2, 4, 4, 1]), None
    )
    with pytest.raises(UserError, match=r"Only 0 of \d+ sampled slots show an object"):
        next(batch for batch in generation.sampled_objects(model, 8) if len(batch))


def test_comparison_is_that_of_all_features_at_once():
    samples = noise(30, 1)
    images = noise(70, 2)
    features = pixel_features(1, grid=4)
    batches = (samples[i : i + 7] for i in itertools.count(0, 7))
    result = generation.compare_with_samples(
        batches, pictures(images), features, 30, batch_size=8, num_shown=10
    )

    def of(x):
        return features(x.astype(np.float32) / np.float32(255))

    assert result.num_samples == 30
    assert result.summary["frechet_pixels"] == statistics.frechet_distance(
        of(samples), of(images[:30])
    )
    assert result.summary["mmd_pixels"] == pytest.approx(
        statistics.kernel_distance(of(samples), of(images[:30])), rel=1e-9
    )
    assert result.summary["frechet_pixels_floor"] == statistics.frechet_distance(
        of(images[30:60]), of(images[:30])
    )
    np.testing.assert_array_equal(result.samples, samples[:10])
    np.testing.assert_array_equal(result.images, images[:10])


def test_both_sets_are_equally_large_and_the_floor_needs_more():
    batches = (noise(10, i) for i in itertools.count())
    result = generation.compare_with_samples(
        batches, pictures(noise(25)), pixel_features(1), 100, extrapolate=True
    )
    assert result.num_samples == 25
    assert result.samples is None
    assert set(result.summary) == {
        "frechet_pixels",
        "frechet_pixels_extrapolated",
        "mmd_pixels",
        "failed_samples",
        "mmd_pixels_std",
        "mmd_pixels_x100",
    }
    with pytest.raises(UserError, match="must be at least 2. Received: 1"):
        generation.compare_with_samples(batches, pictures(noise(1)), pixel_features(1), 100)


def drawn(dataset, indices):
    """Returns the scenes of a protocol's generator as the split on disk holds them."""
    make = {
        "overlapping_polygons": polygons.scenes,
        "tetris": tetris.scenes,
        "multi_dsprites": sprites.scenes,
        "multi_dsprites_colored_on_colored": functools.partial(
            sprites.scenes, variant="colored_on_colored"
        ),
        "multi_dsprites_colored_on_black": functools.partial(
            sprites.scenes, variant="colored_on_black"
        ),
        "clevr3": functools.partial(clevr_scenes.scenes, variant="clevr3"),
    }
    return make[dataset](indices)


@pytest.mark.parametrize(
    "dataset, test_start",
    [
        ("overlapping_polygons", 90_000),
        ("tetris", 60_000),
        ("multi_dsprites", 60_000),
        ("multi_dsprites_colored_on_colored", 60_000),
        ("multi_dsprites_colored_on_black", 90_000),
        ("clevr3", 90_000),
    ],
)
def test_objects_of_generated_scenes_are_drawn_alone(dataset, test_start):
    num = 3 if dataset == "clevr3" else 6
    scenes = drawn(dataset, np.arange(test_start, test_start + num))
    arrays = SceneArrays(scenes["image"], scenes["mask"])
    alone = generation.held_out_objects(
        DataConfig(protocol=dataset, num_train=10, num_test=num), "test_large", arrays
    )
    assert alone.count == num
    assert alone.description.startswith(
        f"single objects of {dataset}_10_{num}/test_large: scenes 0-{num - 1}"
    )
    images = alone.get(0, num)
    assert images.shape == scenes["image"].shape
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(alone.get(2, num), images[2:])
    for i in range(num):
        exists = scenes["visibility"][i, 1:] > 0
        chosen = 1 + np.flatnonzero(exists)[i % exists.sum()]
        if (
            dataset == "clevr3"
        ):  # light and shadows of the others are gone, so only far pixels are equal
            differing = np.abs(images[i].astype(int) - scenes["image"][i]).max(-1) > 8
            assert differing[(scenes["mask"][i] != chosen) & (scenes["mask"][i] > 0)].mean() > 0.8
            assert differing[scenes["mask"][i] == chosen].mean() < 0.3
        elif dataset == "overlapping_polygons":  # edges are antialiased
            inside = scenes["amodal_masks"][i, chosen] > 0
            colour = np.rint(255 * scenes["color"][i, chosen])
            assert (images[i] == colour).all(-1)[inside].mean() > 0.5
            assert images[i][~inside].max(initial=0) <= colour.max()
            assert (
                (images[i] > 0).any(-1) & ~inside
            ).sum() < 80  # an outline of half-covered pixels
        else:
            visible = scenes["mask"][i] == chosen
            np.testing.assert_array_equal(images[i][visible], scenes["image"][i][visible])
            background = scenes["image"][i][scenes["mask"][i] == 0][0]
            others = (scenes["mask"][i] > 0) & ~visible
            assert (images[i][scenes["mask"][i] == 0] == background).all()
            assert visible.any() or (images[i] != background).any()
            if dataset == "tetris":
                assert (images[i][others] == background).all()


def test_scenes_of_another_generator_are_refused():
    arrays = SceneArrays(np.zeros((4, 64, 64, 3), np.uint8))
    with pytest.raises(UserError, match="must be those of this version's generator"):
        generation.held_out_objects(
            DataConfig(protocol="overlapping_polygons", num_train=10, num_test=4), "test", arrays
        )
    with pytest.raises(
        UserError,
        match="not filtered by the number of objects. Received: test of clevr10, 7 to 10 objects",
    ):
        generation.held_out_objects(DataConfig(protocol="clevr10"), "test", arrays)


def test_regions_that_touch_nothing_are_shown_on_black():
    image = np.zeros((2, 8, 8, 3), np.uint8)
    image[0, 0:2, 0:2] = 10, 20, 30
    image[0, 4:6, 4:6] = 40, 0, 0
    image[0, 6, 6] = 0, 50, 0  # touches the second over a corner
    image[1, 3, 2:5] = 0, 0, 7
    image[1, 5, 5] = 0, 0, 7
    regions = generation.lone_regions(image)
    assert len(regions) == 3
    expected = np.zeros((3, 8, 8, 3), np.uint8)
    expected[0, 0:2, 0:2], expected[1, 3, 2:5], expected[2, 5, 5] = (
        (10, 20, 30),
        (0, 0, 7),
        (0, 0, 7),
    )
    np.testing.assert_array_equal(regions, expected)
    assert len(generation.lone_regions(image, limit=1)) == 1
    assert generation.lone_regions(image[:1] * 0).shape == (0, 8, 8, 3)


def test_public_scenes_and_folders_are_cut_into_regions():
    scenes = sprites.scenes(np.arange(20), variant="colored_on_black")
    for protocol in ("multi_dsprites_public", "folder:somewhere"):
        alone = generation.held_out_objects(
            DataConfig(protocol=protocol), "test", SceneArrays(scenes["image"]), limit=12
        )
        assert alone.count == 12
        assert "regions of one colour" in alone.description
        shown = alone.get(0, 12)
        assert all(len(np.unique(image[image.any(-1)], axis=0)) == 1 for image in shown)
    gray = np.maximum(scenes["image"], 60)
    with pytest.raises(
        UserError,
        match="regions of one colour on black. Received: folder:somewhere, where 0 regions were "
        "found",
    ):
        generation.held_out_objects(
            DataConfig(protocol="folder:somewhere"), "test", SceneArrays(gray)
        )


def test_models_that_cannot_be_sampled_are_refused():
    model = Dots()
    model.has_prior = False
    with pytest.raises(
        UserError, match="must be of a model with a prior.*Received: slot_attention"
    ):
        generation.check_prior(model, "slot_attention")
    model.background_slot = None
    with pytest.raises(UserError, match="one for the background alone.*Received: Dots"):
        generation.sampled_objects(model, 4)  # at once, before a dataset is built


def test_bytes_are_rounded_and_cut():
    np.testing.assert_array_equal(
        generation.to_bytes(np.array([-1.0, 0.0, 0.4 / 255, 0.6 / 255, 1.0, 2.0])),
        [0, 0, 0, 1, 255, 255],
    )
