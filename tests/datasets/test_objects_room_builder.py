"""Objects Room: stored images, published files and their background, configs, errors."""

import functools
import json

import built_datasets
import numpy as np
import pytest
import tensorflow_datasets as tfds

from tfobj.datasets import public_records
from tfobj.datasets.generators import rooms
from tfobj.datasets.objects_room import background, objects_room_dataset_builder
from tfobj.errors import UserError

Builder = objects_room_dataset_builder.Builder
Config = objects_room_dataset_builder.ObjectsRoomConfig
FILES = {
    "train": "objects_room_train.tfrecords",
    "six_objects": "objects_room_test_six_objects.tfrecords",
    "empty_room": "objects_room_test_empty_room.tfrecords",
    "identical_color": "objects_room_test_identical_color.tfrecords",
}


build = functools.partial(built_datasets.build, Builder, Config)


def write(folder, variant="train", count=5, parts=None):
    """Writes generated images as the published file of a variant.

    Args:
      folder: folder of the file.
      variant: key of `FILES`.
      count: number of images.
      parts: function that changes the parts before they are written.

    Returns:
      (path, dict of the scenes as they are written)
    """
    schema = Builder(config=Config(name="file", public=True, variant=variant)).public_file()
    scenes = rooms.scenes(np.arange(count), variant=variant)
    if parts is not None:
        scenes["parts"] = parts(scenes["parts"])
    path = folder / FILES[variant]
    public_records.write(path, schema, {"image": scenes["image"], "mask": scenes["parts"]})
    return path, scenes


def without_gaps(parts):
    """Numbers parts without gaps: where only one half of the wall is seen, objects move down."""
    result = parts.copy()
    for own, new in zip(parts, result, strict=True):
        missing = [half for half in (rooms.WALL, rooms.OTHER_WALL) if not (own == half).any()]
        for half in missing:
            new[own > half] -= 1
    return result


@pytest.fixture(scope="module")
def images():
    return rooms.scenes(np.arange(150), seed=3)


def test_stored_images_are_the_generators(tmp_path, monkeypatch):
    monkeypatch.setenv("TFOBJ_PROCESSES", "1")
    builder = build(tmp_path, num_train=3, num_test=2, image_size=24, seed=4)
    for split, first, size in (("train", 0, 3), ("test", 60_000, 2)):
        indices = np.arange(first, first + size)
        expected = rooms.scenes(indices, seed=4, size=24)
        expected["amodal_masks"] = np.packbits(expected["amodal_masks"], axis=-1)
        numbers, found = built_datasets.flat_contents(builder, split)
        np.testing.assert_array_equal(numbers, indices)
        built_datasets.assert_arrays_equal(found, expected)
    assert dict(builder.info.metadata) == {"variant": "train", "seed": 4}


@pytest.mark.parametrize("variant", ["six_objects", "empty_room"])
def test_generated_tests_of_generalisation_have_one_split(tmp_path, monkeypatch, variant):
    monkeypatch.setenv("TFOBJ_PROCESSES", "1")
    builder = build(tmp_path, variant=variant, num_test=2, image_size=16)
    assert list(builder.info.splits) == ["test"]
    stored = built_datasets.contents(builder, "test")
    expected = rooms.scenes([0, 1], variant=variant, size=16)
    np.testing.assert_array_equal(stored["image"], expected["image"])
    assert stored["factors"]["visibility"].shape == (2, rooms.VARIANTS[variant].num_entities)


@pytest.mark.parametrize("variant", rooms.VARIANTS)
def test_published_images_are_stored(tmp_path, variant):
    path, expected = write(tmp_path, variant)
    if variant == "train":
        options = {"num_train": 3, "num_test": 2, "test_start": 3}
        splits = ["train", "test"]
        chosen = slice(3, 5)
    else:
        options = {"num_test": 5}
        splits = ["test"]
        chosen = slice(0, 5)

    builder = build(tmp_path / "data", tmp_path, public=True, variant=variant, **options)
    assert list(builder.info.splits) == splits
    stored = built_datasets.contents(builder, "test")
    assert set(stored) == {"image", "mask", "parts", "factors", "index"}
    np.testing.assert_array_equal(stored["index"], np.arange(5)[chosen])
    for name in ("image", "mask", "parts"):
        np.testing.assert_array_equal(stored[name], expected[name][chosen])

    num_entities = expected["visibility"].shape[1]
    seen = (expected["mask"][chosen, ..., None] == np.arange(num_entities)).any(axis=(1, 2))
    seen[:, 0] = True
    np.testing.assert_array_equal(stored["factors"]["visibility"], seen)
    assert dict(builder.info.metadata) == {"file": path.name, "background": "first_four"}


@pytest.mark.parametrize(
    "config, variant, entities",
    [
        ("public", "train", 7),
        ("public_six_objects", "six_objects", 10),
        ("public_empty_room", "empty_room", 4),
        ("public_identical_color", "identical_color", 10),
    ],
)
def test_published_files_have_four_background_entities(config, variant, entities):
    builder = Builder(config=config)
    schema = builder.public_file()
    assert schema.path == f"objects_room/{FILES[variant]}"
    assert schema.mask_shape == (entities, 64, 64, 1)
    assert builder.scene_shape() == (64, 64, 3, entities - 3)


def test_every_variant_has_a_generated_and_a_public_config():
    assert [config.name for config in Builder.BUILDER_CONFIGS] == ["generated"]
    assert Builder.DEFAULT_BUILDER_CONFIG_NAME == "generated"
    tests = list(rooms.VARIANTS)[1:]
    assert set(Builder.builder_configs) == {
        "generated",
        *(f"generated_{test}" for test in tests),
        "public",
        *(f"public_{test}" for test in tests),
        "public_by_outline",
    }


@pytest.mark.parametrize(
    "config, ranges",
    [
        ("public", {"train": (0, 60_000), "test": (60_000, 70_000)}),
        ("public_six_objects", {"test": (0, 922)}),
        ("generated_empty_room", {"test": (0, 1000)}),
    ],
)
def test_configs_have_the_papers_splits(config, ranges):
    assert Builder(config=config).split_ranges() == ranges


def test_command_line_json_makes_a_config():
    options = json.loads('{"name": "tiny", "num_train": 4, "num_test": 2, "image_size": 40}')
    builder = Builder(config=Builder.builder_config_cls(**options))
    assert builder.info.features["amodal_masks"].shape == (4, 40, 5)


def test_page_names_test_split_citation_configs_files_and_rules():
    metadata = Builder.get_metadata()
    assert "papers test on" in metadata.description
    assert "burgess2019monet" in metadata.citation
    assert metadata.tags
    for name in (*Builder.builder_configs, *FILES.values(), *background.RULES):
        assert name in metadata.description


@pytest.mark.parametrize(
    "options, message",
    [
        (
            dict(variant="six"),
            "Unknown variant 'six'. .*Valid: empty_room, identical_color, six_objects, train",
        ),
        (
            dict(public=True, background="outline"),
            "Unknown background 'outline'. Did you mean 'by_outline'",
        ),
        (
            dict(background="by_outline"),
            "`background` is an option of published data. Received: background='by_outline'",
        ),
        (dict(image_size=8), "`image_size` must be at least 16. Received: image_size=8"),
        (dict(public=True, image_size=32), "`image_size` is an option of generated data"),
    ],
)
def test_wrong_configs_are_refused_in_one_line(options, message):
    with pytest.raises(UserError, match=message) as error:
        Config(name="wrong", **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "variant, options, message",
    [
        (
            "train",
            {"num_train": 4, "test_start": 4, "num_test": 2},
            "must hold at least 6 records. Received: 5",
        ),
        ("six_objects", {"num_test": 6}, "must hold at least 6 records. Received: 5"),
        (
            "six_objects",
            {"num_test": 2, "path": "train"},
            "must hold records of objects_room/objects_room_test_six_objects.tfrecords",
        ),
        ("train", {"num_train": 2, "path": "nowhere"}, "`path` must be an existing file"),
    ],
)
def test_wrong_files_are_refused_in_one_line(tmp_path, variant, options, message):
    paths = {"train": write(tmp_path)[0], "nowhere": tmp_path / "nowhere"}
    write(tmp_path, variant)
    if "path" in options:
        options = {**options, "path": str(paths[options["path"]])}

    with pytest.raises(UserError, match=message) as error:
        build(tmp_path / "data", tmp_path, public=True, variant=variant, **options)
    assert "\n" not in str(error.value)
    assert built_datasets.unfinished(tmp_path / "data") == []


def test_without_file_and_network_the_error_says_what_to_do(tmp_path, monkeypatch):
    def download(self, url):
        raise OSError("no network")

    monkeypatch.setattr(tfds.download.DownloadManager, "download", download)
    message = (
        "objects_room/objects_room_test_empty_room.tfrecords could not be downloaded "
        ".no network.. Put a copy into"
    )
    with pytest.raises(UserError, match=message) as error:
        build(tmp_path, public=True, variant="empty_room")
    assert "'generated', which needs no network" in str(error.value)
    assert "\n" not in str(error.value)


def test_first_four_parts_are_background():
    parts = np.arange(7, dtype=np.uint8).reshape(1, 1, 7)
    mask = background.object_mask(parts, "first_four", 7)
    np.testing.assert_array_equal(mask[0, 0], [0, 0, 0, 0, 1, 2, 3])


def parts_of(text):
    """Returns parts [1, H, W] of lines of digits."""
    return np.array([[int(part) for part in line] for line in text.split()], np.uint8)[None]


@pytest.mark.parametrize(
    "text, objects",
    [
        ("000000 223333 223333 111111", []),  # a wall: before the sky, to the border
        ("223333 223333 223333 111111", []),  # the same, sky out of sight
        ("000000 222222 223322 111111", [3]),  # before the wall
        ("000000 222233 222233 111133", []),  # a wall that reaches to the lower border
        ("000000 222222 222233 111133", [3]),  # cut off by the border, before the wall
        ("000000 203302 223322 113311", [3]),  # tall, before the sky, at neither border
        ("000000 222222 242222 151111", [4, 5]),  # no part 3: nothing to decide
        # There are never four objects: 3 is a wall, whatever it looks like.
        ("000000 222222 223346 111146", [4, 6]),
    ],
)
def test_part_3_is_an_object_unless_it_looks_like_a_wall(text, objects):
    parts = parts_of(text)
    mask = background.object_mask(parts, "by_outline", 7)
    assert sorted(set(parts[mask > 0].tolist())) == objects

    shift = 2 if 3 in objects else 3
    expected = np.where(np.isin(parts, objects), parts.astype(int) - shift, 0)
    np.testing.assert_array_equal(mask, expected)


def test_background_by_outline_finds_the_objects_of_images(images):
    """The documented rule loses an object where one half of the wall is seen, without a gap."""
    parts = without_gaps(images["parts"])
    one = np.array([len({2, 3} & set(np.unique(own))) == 1 for own in images["parts"]])
    assert 0.3 < one.mean() < 0.6
    objects = images["mask"] > 0

    def wrong(rule):
        return ((background.object_mask(parts, rule, 7) > 0) != objects).any(axis=(1, 2))

    assert not wrong("by_outline").any()
    assert wrong("first_four")[one].mean() > 0.9
    assert not wrong("first_four")[~one].any()


def test_a_published_file_without_gaps_is_read_by_outline(tmp_path):
    _, expected = write(tmp_path, count=8, parts=without_gaps)
    builder = build(
        tmp_path / "data",
        tmp_path,
        public=True,
        background="by_outline",
        num_train=6,
        num_test=2,
        test_start=6,
    )

    stored = built_datasets.contents(builder, "train")
    np.testing.assert_array_equal(stored["parts"], expected["parts"][:6])
    np.testing.assert_array_equal(stored["mask"] > 0, expected["mask"][:6] > 0)

    # Somewhere part 3 is an object: numbers move down by two, not by three.
    shift = expected["parts"][:6].max(axis=(1, 2)) - stored["mask"].max(axis=(1, 2))
    assert (shift == 2).any()
    assert builder.info.metadata["background"] == "by_outline"
