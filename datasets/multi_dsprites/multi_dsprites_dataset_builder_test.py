"""Tests of the Multi-dSprites builder: all variants and their sources, through TFDS's own battery."""

import tensorflow_datasets as tfds

from tfobj.datasets.generators import sprites
from tfobj.datasets.multi_dsprites import multi_dsprites_dataset_builder
from tfobj.datasets.scene_builder import SceneConfig


class MultiDspritesTest(tfds.testing.DatasetBuilderTestCase):
    """`dummy_data/` holds generated scenes 0-7 of seed 0, written by `public_records.write`."""

    DATASET_CLASS = multi_dsprites_dataset_builder.Builder
    BUILDER_CONFIG_NAMES_TO_TEST = [
        SceneConfig(
            name=f"{source}_{variant}_small", variant=variant, num_train=5, num_test=3, **options
        )
        for variant, rules in sprites.VARIANTS.items()
        for source, options in (("generated", {}), ("public", {"public": True, "test_start": 5}))
        if source == "generated" or rules.published
    ]
    SPLITS = {"train": 5, "test": 3}
    SKIP_CHECKSUMS = True  # the published files have no published checksums


if __name__ == "__main__":
    tfds.testing.test_main()
