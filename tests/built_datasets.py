"""Small builds of the project's datasets, and their contents."""

import numpy as np
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


def flat_contents(builder, split):
    """Returns (numbers [n], all other arrays of a split), groups such as `scene` merged."""
    stored = contents(builder, split)
    flat = {}
    for name, values in stored.items():
        flat |= values if isinstance(values, dict) else {name: values}
    return flat.pop("index"), flat


def assert_arrays_equal(found, expected):
    """Asserts that two dicts hold the same names, types and values."""
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name].dtype == values.dtype, name
        np.testing.assert_array_equal(found[name], values, err_msg=name)


def unfinished(data_dir):
    """Returns the files that a failed build left, apart from TFDS's note that there is a config."""
    files = [path for path in data_dir.rglob("*") if path.is_file() or "incomplete" in path.name]
    return [path.name for path in files if path.parent.name != ".config"]
