"""Builder of Shapes: stored scenes, configs and their errors."""

import json

import built_datasets
import numpy as np
import pytest

from tfobj.datasets.generators import shapes
from tfobj.datasets.shapes import shapes_dataset_builder
from tfobj.errors import UserError

Builder = shapes_dataset_builder.Builder
Config = shapes_dataset_builder.ShapesConfig


@pytest.mark.parametrize(
    "options", [{}, {"num_shapes": 1}, {"num_shapes": 5, "image_size": 20, "seed": 3}]
)
def test_stored_scenes_are_the_generators(tmp_path, options):
    builder = built_datasets.build(Builder, Config, tmp_path, num_train=6, num_test=4, **options)
    size = options.get("image_size", 28)
    num_shapes = options.get("num_shapes", 3)
    assert builder.scene_shape() == (size, size, 1, 1 + num_shapes)

    for split, first, count in (("train", 0, 6), ("test", 60_000, 4)):
        indices = np.arange(first, first + count)
        expected = shapes.scenes(indices, options.get("seed", 0), num_shapes, size)
        expected["amodal_masks"] = np.packbits(expected["amodal_masks"], axis=-1)

        numbers, found = built_datasets.flat_contents(builder, split)
        np.testing.assert_array_equal(numbers, indices)
        built_datasets.assert_arrays_equal(found, expected)


def test_configs_have_the_papers_sizes():
    assert [config.name for config in Builder.BUILDER_CONFIGS] == ["generated"]
    assert Builder.DEFAULT_BUILDER_CONFIG_NAME == "generated"
    assert set(Builder.builder_configs) == {"generated", "generated_single"}
    for config in Builder.builder_configs.values():
        assert (config.num_train, config.num_test, config.test_start) == (60_000, 10_000, 60_000)
        assert not config.public
    assert Builder(config="generated").scene_shape() == (28, 28, 1, 4)
    assert Builder(config="generated_single").scene_shape() == (28, 28, 1, 2)


def test_command_line_json_makes_the_dataset_of_tagger():
    options = json.loads(
        '{"name": "tagger", "image_size": 20, "num_train": 50000, "test_start": 50000}'
    )
    builder = Builder(config=Builder.builder_config_cls(**options))
    assert builder.info.features["image"].shape == (20, 20, 1)
    assert builder.split_ranges()["test"] == (50_000, 60_000)


def test_scenes_are_generated_only():
    assert Builder.MANUAL_DOWNLOAD_INSTRUCTIONS is None
    with pytest.raises(
        UserError, match="`public` must be False for shapes: the dataset has no published files"
    ):
        Builder(config=Config(name="wrong", public=True))


def test_page_names_test_split_citation_and_configs():
    metadata = Builder.get_metadata()
    assert "papers test on" in metadata.description
    assert "reichert2013neuronal" in metadata.citation
    assert metadata.tags
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
def test_wrong_configs_are_refused_in_one_line(options, message):
    with pytest.raises(UserError, match=message) as error:
        Config(name="wrong", **options)
    assert "\n" not in str(error.value)
