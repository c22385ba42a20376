"""Builder of Shapes: the stored scenes, configs and their errors."""

import json

import numpy as np
import pytest
import tensorflow_datasets as tfds

from tfobj.datasets.generators import shapes
from tfobj.datasets.shapes import shapes_dataset_builder
from tfobj.errors import UserError

Builder = shapes_dataset_builder.Builder
Config = shapes_dataset_builder.ShapesConfig


@pytest.mark.parametrize(
    "options", [{}, {"num_shapes": 1}, {"num_shapes": 5, "image_size": 20, "seed": 3}]
)
def test_stored_scenes_are_the_generators(tmp_path, options):
    builder = Builder(
        data_dir=tmp_path, config=Config(name="small", num_train=6, num_test=4, **options)
    )
    builder.download_and_prepare()
    size, num_shapes = options.get("image_size", 28), options.get("num_shapes", 3)
    assert builder.scene_shape() == (size, size, 1, 1 + num_shapes)
    for split, first, count in (("train", 0, 6), ("test", 60_000, 4)):
        stored = tfds.as_numpy(builder.as_dataset(split=split, batch_size=-1))
        expected = shapes.scenes(
            np.arange(first, first + count), options.get("seed", 0), num_shapes, size
        )
        expected["amodal_masks"] = np.packbits(expected["amodal_masks"], axis=-1)
        found = {
            **{name: stored[name] for name in ("image", "mask", "amodal_masks")},
            **stored["factors"],
        }
        assert found.keys() == expected.keys()
        for name, values in expected.items():
            np.testing.assert_array_equal(found[name], values)
        np.testing.assert_array_equal(stored["index"], np.arange(first, first + count))


def test_configs():
    assert (
        [config.name for config in Builder.BUILDER_CONFIGS]
        == ["generated"]
        == [Builder.DEFAULT_BUILDER_CONFIG_NAME]
    )
    assert set(Builder.builder_configs) == {"generated", "generated_single"}
    for config in Builder.builder_configs.values():
        assert (config.num_train, config.num_test, config.test_start) == (
            60_000,
            10_000,
            60_000,
        ) and not config.public
    assert Builder(config="generated").scene_shape() == (28, 28, 1, 4)
    assert Builder(config="generated_single").scene_shape() == (28, 28, 1, 2)
    options = json.loads(
        '{"name": "tagger", "image_size": 20, "num_train": 50000, "test_start": 50000}'
    )
    builder = Builder(config=Builder.builder_config_cls(**options))
    assert builder.info.features["image"].shape == (20, 20, 1) and builder.split_ranges()[
        "test"
    ] == (50_000, 60_000)


def test_scenes_are_generated_only():
    assert Builder.MANUAL_DOWNLOAD_INSTRUCTIONS is None
    with pytest.raises(
        UserError, match="`public` must be False for shapes: the dataset has no published files"
    ):
        Builder(config=Config(name="wrong", public=True))


def test_documents():
    metadata = Builder.get_metadata()
    assert (
        "papers test on" in metadata.description
        and "reichert2013neuronal" in metadata.citation
        and metadata.tags
    )
    assert all(name in metadata.description for name in Builder.builder_configs)


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(num_shapes=0), "`num_shapes` must be in 1 ... 254. Received: num_shapes=0"),
        (dict(num_shapes=255), "`num_shapes` must be in 1 ... 254"),
        (dict(image_size=11), "`image_size` must be at least 12. Received: image_size=11"),
        (dict(num_train=0), "`num_train` must be at least 1"),
    ],
)
def test_config_errors(options, message):
    with pytest.raises(UserError, match=message) as error:
        Config(name="wrong", **options)
    assert "\n" not in str(error.value)
