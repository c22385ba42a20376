"""Small builds of the project's datasets, and what is in them."""

import tensorflow_datasets as tfds


def build(builder_class, config_class, data_dir, manual_dir=None, **options):
    """Returns a prepared builder of a config with `options`."""
    builder = builder_class(data_dir=data_dir, config=config_class(name="small", **options))
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=manual_dir)
    )
    return builder


def contents(builder, split):
    """Returns all examples of a split, joined to arrays [n, ...]."""
    return tfds.as_numpy(builder.as_dataset(split=split, batch_size=-1))
