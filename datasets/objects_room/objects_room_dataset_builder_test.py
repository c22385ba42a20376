"""Tests of the Objects Room builder by TFDS's own battery: generated and published scenes."""

import tensorflow_datasets as tfds

from tfobj.datasets.objects_room import objects_room_dataset_builder

Config = objects_room_dataset_builder.ObjectsRoomConfig


class ObjectsRoomTest(tfds.testing.DatasetBuilderTestCase):
    """`dummy_data/` holds the generated scenes 0-4 of seed 0, written by `public_records.write`."""

    DATASET_CLASS = objects_room_dataset_builder.Builder
    BUILDER_CONFIG_NAMES_TO_TEST = [
        Config(name="generated_small", num_train=3, num_test=2, image_size=20, seed=1),
        Config(
            name="public_small",
            public=True,
            background="by_outline",
            num_train=3,
            num_test=2,
            test_start=3,
        ),
    ]
    SPLITS = {"train": 3, "test": 2}
    SKIP_CHECKSUMS = True  # the published files have no published checksums


if __name__ == "__main__":
    tfds.testing.test_main()
