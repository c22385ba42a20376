"""Names of strategies, and what is said where one cannot be had."""

import pytest
import tensorflow as tf

from tfobj.errors import UserError
from tfobj.training.strategy import STRATEGIES, make_strategy, uses_xla

needs_no_gpu = pytest.mark.skipif("tf.config.list_physical_devices('GPU')", reason="there is a GPU")


@pytest.mark.parametrize("name", ["auto", "cpu"])
def test_always_there(name):
    assert make_strategy(name).num_replicas_in_sync >= 1


def test_cpu_is_one_device_on_the_cpu():
    (device,) = make_strategy("cpu").extended.worker_devices
    assert "CPU:0" in device.upper()


def test_mirrored_uses_logical_cpus_without_gpus():
    assert make_strategy("mirrored").num_replicas_in_sync == 2  # tests/conftest.py makes two


@needs_no_gpu
def test_no_gpu_is_one_line_with_what_works():
    with pytest.raises(UserError) as e:
        make_strategy("gpu")
    assert str(e.value) == "`--strategy=gpu` needs a GPU that TensorFlow can see; there is none. Strategies that work here: auto, cpu."


def test_one_device_is_too_few_to_mirror(monkeypatch):
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: ["one"] if kind == "CPU" else [])
    with pytest.raises(UserError, match="`--strategy=mirrored` needs two or more GPUs; .* work here: auto, cpu"):
        make_strategy("mirrored")


def test_no_tpu_is_one_line_with_what_works():
    with pytest.raises(UserError, match="`--strategy=tpu` needs a Cloud TPU VM .*; there is none. Strategies that work here: auto, cpu") as e:
        make_strategy("tpu")
    assert "\n" not in str(e.value)


def test_unknown_name_gets_the_nearest():
    with pytest.raises(UserError, match=f"Unknown strategy 'miror'. Did you mean 'mirrored'. Valid: {', '.join(sorted(STRATEGIES))}."):
        make_strategy("miror")


@pytest.mark.parametrize("option, device, expected", [
    ("auto", "/job:localhost/replica:0/task:0/device:CPU:0", False), ("auto", "/job:localhost/replica:0/task:0/device:GPU:0", True),
    ("auto", "/job:worker/replica:0/task:0/device:TPU:0", True), ("graph", "/device:GPU:0", False), ("xla", "/device:CPU:0", True)])
def test_xla_by_device(option, device, expected):
    class Extended:
        worker_devices = (device,)

    class Strategy:
        extended = Extended

    assert uses_xla(Strategy, option) is expected


def test_xla_of_real_strategies():
    assert not uses_xla(make_strategy("cpu"), "auto") and not uses_xla(make_strategy("mirrored"), "auto")
