"""Datasets of `tfobj`: one TFDS folder per dataset, and the NumPy generators behind them.

`datasets/<name>/<name>_dataset_builder.py` holds a `tfds.core.GeneratorBasedBuilder`, so that
`tfds build datasets/<name>` works in a checkout. Installed, the same folder is
`tfobj.datasets.<name>`. `datasets/generators/` needs only NumPy.
"""
