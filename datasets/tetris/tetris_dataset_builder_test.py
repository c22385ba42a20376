"""Tests of the Tetrominoes builder by TFDS's own battery: generated and published scenes."""

import tensorflow_datasets as tfds

from tfobj.datasets.scene_builder import SceneConfig
from tfobj.datasets.tetris import tetris_dataset_builder


class TetrisTest(tfds.testing.DatasetBuilderTestCase):
    """`dummy_data/` holds the generated scenes 0-7 of seed 0, written by `public_records.write`."""

    DATASET_CLASS = tetris_dataset_builder.Builder
    BUILDER_CONFIG_NAMES_TO_TEST = [
        SceneConfig(name="generated_small", num_train=5, num_test=3),
        SceneConfig(name="generated_large_images", num_train=5, num_test=3, image_size=48, seed=1),
        SceneConfig(name="public_small", public=True, num_train=5, num_test=3, test_start=5),
    ]
    SPLITS = {"train": 5, "test": 3}
    SKIP_CHECKSUMS = True  # the published files have no published checksums


if __name__ == "__main__":
    tfds.testing.test_main()
