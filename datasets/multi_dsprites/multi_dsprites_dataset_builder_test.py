"""Tests of the Multi-dSprites builder by TFDS's own battery: all variants, both sources."""

import tensorflow_datasets as tfds

from tfobj.datasets.generators import sprites
from tfobj.datasets.multi_dsprites import multi_dsprites_dataset_builder
from tfobj.datasets.scene_builder import SceneConfig

PUBLISHED = [name for name, variant in sprites.VARIANTS.items() if variant.published]


def small(source, variant, **options):
    return SceneConfig(
        name=f"{source}_{variant}_small", variant=variant, num_train=5, num_test=3, **options
    )


class MultiDspritesTest(tfds.testing.DatasetBuilderTestCase):
    """`dummy_data/` holds the generated scenes 0-7 of seed 0, written by `public_records.write`."""

    DATASET_CLASS = multi_dsprites_dataset_builder.Builder
    BUILDER_CONFIG_NAMES_TO_TEST = [
        *(small("generated", name) for name in sprites.VARIANTS),
        *(small("public", name, public=True, test_start=5) for name in PUBLISHED),
    ]
    SPLITS = {"train": 5, "test": 3}
    SKIP_CHECKSUMS = True  # the published files have no published checksums


if __name__ == "__main__":
    tfds.testing.test_main()
