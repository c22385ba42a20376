"""Tests of the Video Objects Room builder by TFDS's own battery: generated flights."""

import tensorflow_datasets as tfds

from tfobj.datasets.video_objects_room import video_objects_room_dataset_builder

Config = video_objects_room_dataset_builder.VideoRoomConfig


class VideoObjectsRoomTest(tfds.testing.DatasetBuilderTestCase):
    """Published clips are tested in `tests/datasets/test_video_objects_room.py`."""

    DATASET_CLASS = video_objects_room_dataset_builder.Builder
    EXAMPLE_DIR = str(DATASET_CLASS.pkg_dir_path)
    BUILDER_CONFIG_NAMES_TO_TEST = [
        Config(
            name="small", num_train=2, num_validation=1, num_test=1, num_frames=2, image_size=20
        ),
        Config(
            name="small_six",
            num_train=2,
            num_validation=1,
            num_test=1,
            num_frames=3,
            image_size=16,
            variant="six_objects",
            seed=1,
        ),
    ]
    SPLITS = {"train": 2, "validation": 1, "test": 1}


if __name__ == "__main__":
    tfds.testing.test_main()
