"""Tests of the bouncing balls builder by TFDS's own battery: simulated and published clips."""

import tensorflow_datasets as tfds

from tfobj.datasets.bouncing_balls import bouncing_balls_dataset_builder


def small(name, **options):
    return bouncing_balls_dataset_builder.BallsConfig(
        name=f"small_{name}", num_train=5, num_validation=1, num_test=3, num_frames=4, **options
    )


class BouncingBallsTest(tfds.testing.DatasetBuilderTestCase):
    """`dummy_data/` holds four frames of the generated clips 0-4, 5 and 6-8 of seed 0.

    `PublishedFile.write` wrote them.
    """

    DATASET_CLASS = bouncing_balls_dataset_builder.Builder
    BUILDER_CONFIG_NAMES_TO_TEST = [
        small("simulated_8_colors", variant="balls678_color8", image_size=20, seed=1),
        small("simulated_curtain", variant="balls3_curtain", image_size=20),
        small("published_color", variant="balls4_color", public=True),
        small("published_binary", variant="balls678_binary", public=True),
        small("published_curtain", variant="balls3_curtain", public=True),
    ]
    SPLITS = {"train": 5, "validation": 1, "test": 3}


if __name__ == "__main__":
    tfds.testing.test_main()
