"""Tests of the Shapes builder by TFDS's own battery."""

import tensorflow_datasets as tfds

from tfobj.datasets.shapes import shapes_dataset_builder


class ShapesTest(tfds.testing.DatasetBuilderTestCase):
    """There is nothing to download, so there is no dummy data."""

    DATASET_CLASS = shapes_dataset_builder.Builder
    EXAMPLE_DIR = str(DATASET_CLASS.pkg_dir_path)
    BUILDER_CONFIG_NAMES_TO_TEST = [
        shapes_dataset_builder.ShapesConfig(name="small", num_train=5, num_test=3),
        shapes_dataset_builder.ShapesConfig(
            name="small_five", num_shapes=5, num_train=5, num_test=3, image_size=20, seed=1
        ),
    ]
    SPLITS = {"train": 5, "test": 3}


if __name__ == "__main__":
    tfds.testing.test_main()
