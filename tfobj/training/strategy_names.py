"""The values of `--strategy`, which are checked before TensorFlow is loaded."""

from tfobj.errors import unknown_name

STRATEGIES = ("auto", "cpu", "gpu", "mirrored", "multiworker", "tpu")
"""`strategy.make_strategy` says what they mean."""


def check_name(name):
    """Raises a `UserError` unless `name` is one of `STRATEGIES`."""
    if name not in STRATEGIES:
        raise unknown_name("strategy", name, STRATEGIES)
