"""Tests of the CLEVRER builder by TFDS's own battery: ray-cast and published clips."""

import importlib.util
import pathlib
import tempfile
import unittest

import numpy as np
import tensorflow_datasets as tfds

from tfobj.datasets.clevrer import clevrer_dataset_builder, sample_files

Config = clevrer_dataset_builder.ClevrerConfig
_PUBLIC = {"public": True, "num_train": 2, "num_test": 1, "num_frames": 3, "image_size": 32}


class ClevrerTest(tfds.testing.DatasetBuilderTestCase):
    """The published files are written here: three videos with annotations and masks."""

    DATASET_CLASS = clevrer_dataset_builder.Builder
    BUILDER_CONFIG_NAMES_TO_TEST = [
        Config(name="small", num_train=2, num_test=1, num_frames=2, image_size=16),
        Config(
            name="small_trimmed",
            variant="clevrer345",
            num_train=2,
            num_test=1,
            num_frames=2,
            image_size=16,
            stride=4,
            seed=1,
        ),
        Config(name="public_small", **_PUBLIC),
        Config(name="public_unmasked", segmentation=False, **_PUBLIC),
    ]
    SPLITS = {"train": 2, "test": 1}
    SKIP_CHECKSUMS = True  # the published files have no published checksums

    @classmethod
    def setUpClass(cls):
        if importlib.util.find_spec("av") is None:
            raise unittest.SkipTest("needs PyAV")
        cls._folder = tempfile.TemporaryDirectory()
        cls.EXAMPLE_DIR = cls._folder.name

        folder = pathlib.Path(cls.EXAMPLE_DIR)
        visible = np.ones((128, 3), bool)
        clip = (sample_files.annotation(in_view=visible), sample_files.video())
        sample_files.write_split(folder, "train", {0: clip, 1: clip})
        sample_files.write_split(folder, "validation", {10_000: clip})

        masks = sample_files.proposals()
        sample_files.write_proposals(folder, dict.fromkeys((0, 1, 10_000), masks))
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        cls._folder.cleanup()


if __name__ == "__main__":
    tfds.testing.test_main()
