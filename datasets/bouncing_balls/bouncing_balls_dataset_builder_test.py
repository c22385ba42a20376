"""Tests of the bouncing balls builder: simulated and published clips, through TFDS's own battery."""

import tensorflow_datasets as tfds

from tfobj.datasets.bouncing_balls import bouncing_balls_dataset_builder

Config = bouncing_balls_dataset_builder.BallsConfig


class BouncingBallsTest(tfds.testing.DatasetBuilderTestCase):
    """`dummy_data/` holds four frames of generated clips 0-4, 5 and 6-8 of seed 0, by `PublishedFile.write`."""

    DATASET_CLASS = bouncing_balls_dataset_builder.Builder
    BUILDER_CONFIG_NAMES_TO_TEST = [
        Config(
            name=f"small_{i}", num_train=5, num_validation=1, num_test=3, num_frames=4, **options
        )
        for i, options in enumerate(
            (
                {"variant": "balls678_color8", "image_size": 20, "seed": 1},
                {"variant": "balls3_curtain", "image_size": 20},
                {"variant": "balls4_color", "public": True},
                {"variant": "balls678_binary", "public": True},
                {"variant": "balls3_curtain", "public": True},
            )
        )
    ]
    SPLITS = {"train": 5, "validation": 1, "test": 3}


if __name__ == "__main__":
    tfds.testing.test_main()
