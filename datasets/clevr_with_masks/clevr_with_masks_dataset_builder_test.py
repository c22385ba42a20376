"""Tests of the CLEVR builder by TFDS's own battery: ray-cast and published scenes."""

import tensorflow_datasets as tfds

from tfobj.datasets.clevr_with_masks import clevr_with_masks_dataset_builder

Config = clevr_with_masks_dataset_builder.ClevrConfig


class ClevrWithMasksTest(tfds.testing.DatasetBuilderTestCase):
    """`dummy_data/` holds the whole images of scenes 0-2 of variant clevr.

    They have four levels per channel; `public_records.write` wrote them.
    """

    DATASET_CLASS = clevr_with_masks_dataset_builder.Builder
    BUILDER_CONFIG_NAMES_TO_TEST = [
        Config(name="small", num_train=2, num_test=1, image_size=32, depth_map=True),
        Config(
            name="small_grayscale",
            num_train=2,
            num_test=1,
            image_size=18,
            variant="clevr6_grayscale",
            seed=1,
        ),
        Config(name="public_small", public=True, num_train=2, num_test=1, test_start=2),
    ]
    SPLITS = {"train": 2, "test": 1}
    SKIP_CHECKSUMS = True  # the published file has no published checksum


if __name__ == "__main__":
    tfds.testing.test_main()
