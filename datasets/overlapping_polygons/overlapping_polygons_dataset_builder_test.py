"""Tests of the builder of overlapping polygons by TFDS's own battery."""

import tensorflow_datasets as tfds

from tfobj.datasets.overlapping_polygons import overlapping_polygons_dataset_builder
from tfobj.datasets.scene_builder import SceneConfig


class OverlappingPolygonsTest(tfds.testing.DatasetBuilderTestCase):
    """There is nothing to download, so there is no dummy data."""

    DATASET_CLASS = overlapping_polygons_dataset_builder.Builder
    EXAMPLE_DIR = str(DATASET_CLASS.pkg_dir_path)
    BUILDER_CONFIG_NAMES_TO_TEST = [
        SceneConfig(name="generated_small", num_train=5, num_test=3),
        SceneConfig(name="generated_large_images", num_train=5, num_test=3, image_size=92, seed=1),
    ]
    SPLITS = {"train": 5, "test": 3}


if __name__ == "__main__":
    tfds.testing.test_main()
