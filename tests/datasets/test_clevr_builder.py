"""CLEVR with masks: stored scenes, the published file, protocols on it, configs, errors."""

import dataclasses
import functools
import gzip
import json
import os
import pathlib
import subprocess
import sys

import built_datasets
import numpy as np
import pytest
import tensorflow_datasets as tfds

from tfobj.data import packed, protocols, transforms
from tfobj.datasets import public_records
from tfobj.datasets.clevr_with_masks import clevr_with_masks_dataset_builder
from tfobj.datasets.generators import clevr_scenes
from tfobj.errors import UserError

Builder = clevr_with_masks_dataset_builder.Builder
Config = clevr_with_masks_dataset_builder.ClevrConfig
PUBLIC_FILE = Builder.pkg_dir_path / "dummy_data" / "clevr_with_masks_train.tfrecords"
ROOT = pathlib.Path(__file__).resolve().parents[2]

build = functools.partial(built_datasets.build, Builder, Config)


@pytest.fixture(scope="module")
def schema():
    return Builder(config="public").public_file()


@pytest.fixture(scope="module")
def public_scenes(schema):
    """The three scenes of the small published file, of 8, 9 and 7 objects."""
    return next(public_records.read(PUBLIC_FILE, schema, 0, 3))


@pytest.mark.parametrize("variant, depth_map", [("clevr5_vbg", True), ("clevr6_grayscale", False)])
def test_stored_scenes_are_the_generators(tmp_path, variant, depth_map):
    builder = build(
        tmp_path,
        variant=variant,
        num_train=1,
        num_test=2,
        image_size=20,
        depth_map=depth_map,
        seed=4,
    )
    stored = built_datasets.contents(builder, "test")
    expected = clevr_scenes.scenes(np.array([70_000, 70_001]), seed=4, variant=variant, size=20)

    masks = np.unpackbits(stored["amodal_masks"], axis=-1, count=20)
    np.testing.assert_array_equal(stored["image"], expected["image"])
    np.testing.assert_array_equal(stored["mask"], expected["mask"])
    np.testing.assert_array_equal(masks, expected["amodal_masks"])

    assert ("depth_map" in stored) == depth_map
    if depth_map:
        np.testing.assert_array_equal(stored["depth_map"], expected["depth_map"])

    for name, values in {**stored["factors"], **stored["scene"]}.items():
        np.testing.assert_array_equal(values, expected[name])
    assert {"camera", "lights", "ground_reflectivity"} == set(stored["scene"])
    assert {"depth", "visibility", "rgb"} < set(stored["factors"])
    assert dict(builder.info.metadata) == {"renderer": "raycast", "variant": variant, "seed": 4}


@pytest.mark.slow
def test_several_processes_build_the_same(tmp_path, monkeypatch):
    stored = []
    for number in (1, 2):
        monkeypatch.setenv("TFOBJ_PROCESSES", str(number))
        builder = build(tmp_path / str(number), num_train=17, num_test=1, image_size=24)
        stored.append(built_datasets.contents(builder, "train"))

    for name in ("image", "mask", "amodal_masks", "index"):
        np.testing.assert_array_equal(stored[0][name], stored[1][name])
    for name, values in stored[0]["factors"].items():
        np.testing.assert_array_equal(values, stored[1]["factors"][name])


@pytest.mark.slow
def test_command_line_builds_a_config_of_ones_own(tmp_path):
    """The dataset's README shows this command."""
    options = json.dumps(
        {"name": "mine", "variant": "clevr5", "num_train": 3, "num_test": 1, "image_size": 16}
    )
    command = [
        str(pathlib.Path(sys.executable).with_name("tfds")),
        "build",
        "datasets/clevr_with_masks",
        "--config",
        options,
        "--data_dir",
        str(tmp_path),
    ]
    environment = {**os.environ, "TFOBJ_PROCESSES": "2"}
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr

    folder = tmp_path / "clevr_with_masks" / "mine" / "1.0.0"
    stored = built_datasets.contents(tfds.builder_from_directory(folder), "train")
    expected = clevr_scenes.scenes(np.arange(3), variant="clevr5", size=16)
    np.testing.assert_array_equal(stored["image"], expected["image"])


def test_every_variant_has_a_config_of_each_renderer():
    configs = Builder.builder_configs
    for variant, facts in clevr_scenes.VARIANTS.items():
        for renderer in ("raycast", "blender"):
            config = configs[f"{renderer}_{variant}"]
            assert (config.renderer, config.variant, config.public) == (renderer, variant, False)
            *image_shape, entities = Builder(config=config.name).scene_shape()
            assert image_shape == [facts.default_size, facts.default_size, facts.channels]
            assert entities == 1 + facts.max_objects


def test_configs_state_the_shape_of_a_scene():
    assert [config.name for config in Builder.BUILDER_CONFIGS] == ["raycast_clevr6_1680_320"]
    assert Builder(config="raycast_clevr6_96").scene_shape() == (96, 96, 3, 7)
    assert Builder(config="public").scene_shape() == (240, 320, 3, 11)
    assert not Builder(config=Builder.DEFAULT_BUILDER_CONFIG_NAME).builder_config.public
    assert Builder(config="raycast_clevr5").info.features["amodal_masks"].shape == (6, 96, 12)


def test_page_names_test_split_and_citation():
    metadata = Builder.get_metadata()
    assert "papers test on" in metadata.description
    assert "johnson2017clevr" in metadata.citation
    assert metadata.tags


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(variant="clevr5_bg"), "Unknown variant 'clevr5_bg'. Did you mean 'clevr5_vbg'"),
        (dict(renderer="blend"), "Unknown renderer 'blend'. Did you mean 'blender'"),
        (dict(image_size=8), "`image_size` must be at least 16. Received: image_size=8"),
        (dict(samples=0), "`samples` must be at least 1"),
        (dict(public=True, depth_map=True), "`depth_map` is an option of generated data"),
        (dict(public=True, image_size=128), "`image_size` is an option of generated data"),
        (
            dict(num_train=80_000),
            "`test_start` must be at least `num_train`.*test_start=70000, num_train=80000",
        ),
    ],
)
def test_wrong_configs_are_refused_in_one_line(options, message):
    with pytest.raises(UserError, match=message) as error:
        Config(name="wrong", **options)
    assert "\n" not in str(error.value)


def test_published_codes_are_bytes_and_positions_are_floats():
    """Every byte is a string of its own."""
    import tensorflow as tf

    record = next(iter(tf.data.TFRecordDataset(str(PUBLIC_FILE), "GZIP"))).numpy()
    feature = tf.train.Example.FromString(record).features.feature
    strings = {name: len(feature[name].bytes_list.value) for name in feature}
    floats = {name: len(feature[name].float_list.value) for name in feature}

    assert {name: length for name, length in strings.items() if length} == {
        "image": 240 * 320 * 3,
        "mask": 11 * 240 * 320,
        "color": 11,
        "shape": 11,
        "material": 11,
        "size": 11,
    }
    assert {name: length for name, length in floats.items() if length} == {
        "x": 11,
        "y": 11,
        "z": 11,
        "rotation": 11,
        "visibility": 11,
        "pixel_coords": 33,
    }
    assert {len(value) for name in strings for value in feature[name].bytes_list.value[:50]} == {1}


def test_published_factors_are_read(public_scenes):
    expected = clevr_scenes.factors(np.arange(3), variant="clevr")
    np.testing.assert_array_equal(
        public_scenes["visibility"].sum(axis=1), expected["visibility"].sum(axis=1)
    )
    for name in ("color", "shape", "material", "size", "x", "y", "z", "pixel_coords"):
        assert public_scenes[name].dtype == np.float32
        np.testing.assert_array_equal(public_scenes[name], expected[name])
    np.testing.assert_allclose(
        np.deg2rad(public_scenes["rotation"]), expected["rotation"], rtol=1e-5
    )
    assert public_scenes["image"].shape == (3, 240, 320, 3)


def test_published_masks_lie_where_the_factors_say(public_scenes):
    counts = public_scenes["visibility"].sum(axis=1).astype(int)
    for scene, count in enumerate(counts):
        mask = public_scenes["mask"][scene]
        for entity in range(1, count):
            column, row, _ = public_scenes["pixel_coords"][scene, entity]
            rows, columns = np.nonzero(mask == entity)
            assert abs(rows.mean() - row) < 20
            assert abs(columns.mean() - column) < 20


def test_protocol_filters_by_position_then_number_then_range(tmp_path, schema, public_scenes):
    """Records 0 ... num_train - 1 are for training, the others for the test.

    Of both, the protocol takes those with certain numbers of objects, and crops them.
    """
    order = np.array([1, 2, 1, 0, 2])  # objects: 9, 7 | 9, 8, 7
    path = tmp_path / "file.tfrecords"
    scenes = {name: values[order] for name, values in public_scenes.items()}
    public_records.write(path, schema, scenes)

    base = protocols.get("clevr10_public")
    protocol = dataclasses.replace(
        base,
        config="public_small",
        base_config="public",
        image_size=(24, 24, 3),
        options={"path": str(path), "num_train": 2, "num_test": 3, "test_start": 2},
        splits={
            "train": protocols.Split("train", 0, None, (8, 9)),
            "test": protocols.Split("test", 1, 2, (7, 8)),
        },
    )
    train = packed.open_split(protocol, "train", tmp_path)
    test = packed.open_split(protocol, "test", tmp_path)

    window = transforms.crop(public_scenes["image"], (29, 221), (64, 256))
    images = transforms.resize_images(window, (24, 24))
    np.testing.assert_array_equal(train.image, images[[1]])
    np.testing.assert_array_equal(test.image, images[[2]])  # the second with 7 or 8 objects

    window = transforms.crop(public_scenes["mask"], (29, 221), (64, 256), axis=-2)
    labels = transforms.resize_labels(window, (24, 24))
    np.testing.assert_array_equal(test.mask, labels[[2]])
    assert test.amodal_masks is None
    assert test.factors["visibility"].shape == (1, 11)


def damaged(tmp_path, content):
    path = tmp_path / "damaged.tfrecords"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda content: content[: len(content) // 2],
            "is damaged or was not downloaded completely",
        ),
        (gzip.decompress, r"must be a GZIP file \(first bytes 1f 8b\)"),
    ],
    ids=["truncated", "unpacked"],
)
def test_damaged_published_file_gives_one_line(tmp_path, change, message):
    path = damaged(tmp_path, change(PUBLIC_FILE.read_bytes()))
    with pytest.raises(UserError, match=message) as error:
        build(tmp_path, public=True, path=str(path), num_train=2, num_test=1, test_start=2)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_short_or_missing_published_file_gives_one_line(tmp_path):
    with pytest.raises(UserError, match="must hold at least 4 records. Received: 3"):
        build(tmp_path, public=True, path=str(PUBLIC_FILE), num_train=2, num_test=2, test_start=2)

    with pytest.raises(
        UserError, match="`path` must be an existing file. Received: path='/nowhere/file'"
    ):
        build(tmp_path, public=True, path="/nowhere/file")
