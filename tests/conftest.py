"""One session for all tests: two logical CPU devices, so that one process can hold two replicas."""

import sys

import pytest


def pytest_configure(config):
    # TensorFlow Probability 0.25 with setuptools 60 and later, at its first use.
    config.addinivalue_line(
        "filterwarnings", "ignore:distutils Version classes are deprecated:DeprecationWarning"
    )
    # Keras 3.15 with NumPy 2, where it writes weights to HDF5.
    config.addinivalue_line(
        "filterwarnings",
        "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning",
    )


SLOWEST_FIRST = (
    "test_conformance",
    "tests/serving/test_saved_model.py",
    "tests/training/test_loop.py",
    "tests/launch",
    "tests/training",
    "tests/bench",
    "tests/portable",
)
"""Beginnings of paths whose tests take longest; what is left over at the end should be short."""


@pytest.hookimpl(tryfirst=True)  # pytest-xdist reads the groups in the same hook
def pytest_collection_modifyitems(items):
    """Keeps tests that share traces, exports and data sets in one process (`--dist=loadgroup`).

    Those are the tests of one case of the battery, whatever file they are in, and else those of one
    file.
    """
    for item in items:
        case = getattr(item, "callspec", None) and item.callspec.params.get("case")
        battery = "test_conformance" in item.path.name
        group = case.id if battery and hasattr(case, "id") else str(item.path)
        item.add_marker(pytest.mark.xdist_group(group))

    def rank(item):
        path = item.path.relative_to(item.config.rootpath).as_posix()
        ranks = [i for i, start in enumerate(SLOWEST_FIRST) if start in path]
        return min(ranks, default=len(SLOWEST_FIRST))

    items.sort(key=rank)


def pytest_collection_finish(session):
    """Sets the devices up, after test modules are imported and before TensorFlow looks for devices.

    Sessions that do not import TensorFlow stay free of it. An operation at a test module's top
    level would start TensorFlow first; then this raises, and the operation belongs into a function.
    """
    if "tensorflow" not in sys.modules:
        return
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)


@pytest.fixture
def two_replicas():
    """Two replicas that reduce without collectives.

    TensorFlow keeps the numbers of collectives for the life of the process, and every
    MirroredStrategy counts
    from the start: a second one that reduces other shapes fails with "Shape mismatch in the
    collective instance".
    """
    import tensorflow as tf

    return tf.distribute.MirroredStrategy(
        ["/cpu:0", "/cpu:1"], cross_device_ops=tf.distribute.ReductionToOneDevice()
    )
