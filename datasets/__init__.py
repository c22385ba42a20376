"""Datasets of `tfobj`: one TFDS folder per dataset, and the NumPy generators behind them.

`datasets/<name>/<name>_dataset_builder.py` holds a `tfds.core.GeneratorBasedBuilder`, so that
`tfds build datasets/<name>` works in a checkout. Installed, the same folder is
`tfobj.datasets.<name>`. `datasets/generators/` needs only NumPy.

Importing this package makes the builders known to TFDS: `tfds.load("tetris")` works after
`import tfobj.datasets`.
"""

import importlib
import pathlib

try:
    import wrapt
except ImportError:
    # TensorFlow needs wrapt; without it there is no TFDS either, but generators work.
    wrapt = None

_SUFFIX = "_dataset_builder"


class _Provider:
    """Hands TFDS the builders of this package, imported when they are asked for."""

    def has_dataset(self, name):
        return pathlib.Path(__file__).with_name(name).joinpath(f"{name}{_SUFFIX}.py").is_file()

    def get_builder_cls(self, name):
        return importlib.import_module(f"tfobj.datasets.{name}.{name}{_SUFFIX}").Builder


def _register(tfds):
    tfds.core.registered.add_dataset_builder_provider(_Provider())


if wrapt is not None:
    # Now, or when TFDS is imported, which takes seconds that generators need not wait for.
    wrapt.when_imported("tensorflow_datasets")(_register)
