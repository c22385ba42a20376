"""Objects Room: stored pictures, the published files, what of them is background, and all that can be wrong."""

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
    """Writes generated pictures as the published file of a variant; returns path and pictures."""
    schema = Builder(config=Config(name="file", public=True, variant=variant)).public_file()
    scenes = rooms.scenes(np.arange(count), variant=variant)
    scenes["parts"] = scenes["parts"] if parts is None else parts(scenes["parts"])
    path = folder / FILES[variant]
    public_records.write(path, schema, {"image": scenes["image"], "mask": scenes["parts"]})
    return path, scenes


def without_gaps(parts):
    """Numbers parts as if only one half of the wall existed where only one is seen: objects follow on."""
    result = parts.copy()
    for own, new in zip(parts, result, strict=True):
        missing = [half for half in (rooms.WALL, rooms.OTHER_WALL) if not (own == half).any()]
        for half in missing:
            new[own > half] -= 1
    return result


@pytest.fixture(scope="module")
def pictures():
    return rooms.scenes(np.arange(150), seed=3)


def test_stored_pictures_are_the_generators(tmp_path, monkeypatch):
    monkeypatch.setenv("TFOBJ_PROCESSES", "1")
    builder = build(tmp_path, num_train=3, num_test=2, image_size=24, seed=4)
    for split, first, size in (("train", 0, 3), ("test", 60_000, 2)):
        stored, expected = (
            built_datasets.contents(builder, split),
            rooms.scenes(np.arange(first, first + size), seed=4, size=24),
        )
        expected["amodal_masks"] = np.packbits(expected["amodal_masks"], axis=-1)
        maps = {name: stored[name] for name in ("image", "mask", "parts", "amodal_masks")}
        found = {**maps, **stored["factors"], **stored["scene"]}
        assert found.keys() == expected.keys()
        for name, values in expected.items():
            np.testing.assert_array_equal(found[name], values)
        np.testing.assert_array_equal(stored["index"], np.arange(first, first + size))
    assert dict(builder.info.metadata) == {"variant": "train", "seed": 4}


@pytest.mark.parametrize("variant", ["six_objects", "empty_room"])
def test_generated_tests_have_one_split(tmp_path, monkeypatch, variant):
    monkeypatch.setenv("TFOBJ_PROCESSES", "1")
    builder = build(tmp_path, variant=variant, num_test=2, image_size=16)
    assert list(builder.info.splits) == ["test"]
    stored = built_datasets.contents(builder, "test")
    np.testing.assert_array_equal(
        stored["image"], rooms.scenes([0, 1], variant=variant, size=16)["image"]
    )
    assert stored["factors"]["visibility"].shape == (2, rooms.VARIANTS[variant].num_entities)


@pytest.mark.parametrize("variant", rooms.VARIANTS)
def test_published_pictures(tmp_path, variant):
    path, expected = write(tmp_path, variant)
    options = (
        {"num_train": 3, "num_test": 2, "test_start": 3} if variant == "train" else {"num_test": 5}
    )
    builder = build(tmp_path / "data", tmp_path, public=True, variant=variant, **options)
    assert list(builder.info.splits) == (["train", "test"] if variant == "train" else ["test"])
    stored = built_datasets.contents(builder, "test")
    chosen = slice(3, 5) if variant == "train" else slice(0, 5)
    assert set(stored) == {"image", "mask", "parts", "factors", "index"}
    np.testing.assert_array_equal(stored["index"], np.arange(5)[chosen])
    for name in ("image", "mask", "parts"):
        np.testing.assert_array_equal(stored[name], expected[name][chosen])
    seen = [
        [True, *((mask == k).any() for k in range(1, expected["visibility"].shape[1]))]
        for mask in expected["mask"][chosen]
    ]
    np.testing.assert_array_equal(stored["factors"]["visibility"], seen)
    assert dict(builder.info.metadata) == {"file": path.name, "background": "first_four"}


def test_schemas():
    """Entities of the published files: four of the background, and up to 3, 6, 0, 6 objects."""
    for variant, entities in (
        ("train", 7),
        ("six_objects", 10),
        ("empty_room", 4),
        ("identical_color", 10),
    ):
        builder = Builder(config="public" if variant == "train" else f"public_{variant}")
        schema = builder.public_file()
        assert schema.path == f"objects_room/{FILES[variant]}" and schema.mask_shape == (
            entities,
            64,
            64,
            1,
        )
        assert builder.scene_shape() == (64, 64, 3, entities - 3)


def test_configs():
    assert (
        [config.name for config in Builder.BUILDER_CONFIGS]
        == ["generated"]
        == [Builder.DEFAULT_BUILDER_CONFIG_NAME]
    )
    tests = list(rooms.VARIANTS)[1:]
    names = {
        source if test is None else f"{source}_{test}"
        for source in ("generated", "public")
        for test in (None, *tests)
    }
    assert set(Builder.builder_configs) == names | {"public_by_outline"}
    ranges = {
        name: Builder(config=name).split_ranges()
        for name in ("public", "public_six_objects", "generated_empty_room")
    }
    assert ranges == {
        "public": {"train": (0, 60_000), "test": (60_000, 70_000)},
        "public_six_objects": {"test": (0, 922)},
        "generated_empty_room": {"test": (0, 1000)},
    }
    options = json.loads('{"name": "tiny", "num_train": 4, "num_test": 2, "image_size": 40}')
    assert Builder(config=Builder.builder_config_cls(**options)).info.features[
        "amodal_masks"
    ].shape == (4, 40, 5)


def test_documents():
    metadata = Builder.get_metadata()
    assert (
        "papers test on" in metadata.description
        and "burgess2019monet" in metadata.citation
        and metadata.tags
    )
    assert all(
        name in metadata.description
        for name in (*Builder.builder_configs, *FILES.values(), *background.RULES)
    )


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
def test_config_errors(options, message):
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
def test_wrong_files(tmp_path, variant, options, message):
    write(tmp_path, variant)
    if "path" in options:
        options = {
            **options,
            "path": str(write(tmp_path)[0])
            if options["path"] == "train"
            else str(tmp_path / "nowhere"),
        }
    with pytest.raises(UserError, match=message) as error:
        build(tmp_path / "data", tmp_path, public=True, variant=variant, **options)
    assert "\n" not in str(error.value)
    assert not [
        path
        for path in (tmp_path / "data").rglob("*")
        if "incomplete" in path.name or "tfrecord" in path.name
    ]


def test_without_file_and_network(tmp_path, monkeypatch):
    def download(self, url):
        raise OSError("no network")

    monkeypatch.setattr(tfds.download.DownloadManager, "download", download)
    with pytest.raises(
        UserError,
        match="objects_room/objects_room_test_empty_room.tfrecords could not be downloaded .no network.. Put a copy into",
    ) as error:
        build(tmp_path, public=True, variant="empty_room")
    assert "'generated', which needs no network" in str(error.value) and "\n" not in str(
        error.value
    )


def test_first_four_parts_are_background():
    parts = np.arange(7, dtype=np.uint8).reshape(1, 1, 7)
    np.testing.assert_array_equal(
        background.object_mask(parts, "first_four", 7)[0, 0], [0, 0, 0, 0, 1, 2, 3]
    )


def picture(text):
    """Parts [1, H, W] of lines of digits."""
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
        (
            "000000 222222 223346 111146",
            [4, 6],
        ),  # there are never four objects: 3 is a wall, whatever it looks like
    ],
)
def test_background_by_outline(text, objects):
    parts = picture(text)
    mask = background.object_mask(parts, "by_outline", 7)
    assert sorted(set(parts[mask > 0].tolist())) == objects
    shift = 2 if 3 in objects else 3
    np.testing.assert_array_equal(
        mask, np.where(np.isin(parts, objects), parts.astype(int) - shift, 0)
    )


def test_background_by_outline_on_pictures(pictures):
    """Where one half of the wall is seen and numbers go on without a gap, the documented rule loses an object."""
    parts = without_gaps(pictures["parts"])
    one = np.array([len({2, 3} & set(np.unique(own))) == 1 for own in pictures["parts"]])
    assert 0.3 < one.mean() < 0.6
    objects = pictures["mask"] > 0

    def wrong(rule):
        return ((background.object_mask(parts, rule, 7) > 0) != objects).any(axis=(1, 2))

    assert not wrong("by_outline").any()
    assert wrong("first_four")[one].mean() > 0.9 and not wrong("first_four")[~one].any()


def test_a_published_file_with_gaps_closed(tmp_path):
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
    assert (expected["parts"][:6].max(axis=(1, 2)) - stored["mask"].max(axis=(1, 2)) == 2).any()
    assert builder.info.metadata["background"] == "by_outline"
