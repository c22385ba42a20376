"""What `train.precision=auto` becomes on processors, GPUs and TPUs, and in a run that goes on."""

import json

import pytest
import tensorflow as tf

from tfobj.training import precision
from tfobj.training.checkpoint import load_run
from tfobj.training.strategy import advice, make_strategy

CPU = ["/job:localhost/replica:0/task:0/device:CPU:0"]
GPU = ["/replica:0/task:0/device:GPU:0", "/replica:0/task:0/device:GPU:1"]


@pytest.fixture
def processor(monkeypatch, tmp_path):
    """Returns a function that makes this processor one with the given flags."""

    def pretend(flags):
        monkeypatch.setattr(precision, "CPU_INFO", tmp_path / "cpuinfo")
        precision.CPU_INFO.write_text(f"model name\t: Example\nflags\t\t: fpu {flags} sse\n")

    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    return pretend


@pytest.mark.parametrize(
    "flags, expected",
    [
        ("avx512f avx512_bf16", "bfloat16"),
        ("amx_bf16 amx_tile", "bfloat16"),
        ("avx512f avx512_vnni", "float32"),
        ("avx2", "float32"),
    ],
)
def test_auto_follows_the_processor(processor, flags, expected):
    processor(flags)
    assert precision.decide("auto", CPU) == expected
    assert precision.decide("float32", CPU) == "float32"
    assert precision.decide("bfloat16", CPU) == "bfloat16"


def test_without_onednn_or_flags_auto_is_float32(processor, monkeypatch, tmp_path):
    processor("avx512_bf16")
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    assert precision.decide("auto", CPU) == "float32"
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS")
    monkeypatch.setattr(precision, "CPU_INFO", tmp_path / "absent")
    assert precision.decide("auto", CPU) == "float32"


@pytest.mark.parametrize(
    "capabilities, expected", [([(8, 0), (9, 0)], True), ([(8, 0), (7, 5)], False), ([None], False)]
)
def test_gpus_need_ampere(monkeypatch, capabilities, expected):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: capabilities)
    monkeypatch.setattr(
        tf.config.experimental,
        "get_device_details",
        lambda capability: {"compute_capability": capability} if capability else {},
    )
    assert precision.is_native(GPU) == expected


def test_tpus_multiply_in_bfloat16():
    assert precision.is_native(["/job:worker/replica:0/task:0/device:TPU:0"])


def test_emulation_is_announced_with_its_factor(processor, monkeypatch):
    processor("avx2")
    monkeypatch.setattr(precision, "slowdown", lambda device: 3.21)
    (line,) = advice(make_strategy("cpu"), "bfloat16")
    assert "3.2 times as long" in line
    assert advice(make_strategy("cpu"), "float32") == []


def test_the_factor_is_measured():
    assert 0.05 < precision.slowdown("/device:CPU:0") < 1_000


def test_a_run_keeps_what_auto_became(processor, tmp_path, train_tiny):
    processor("avx512_bf16")
    changes = {"train.precision": "auto"}
    train_tiny(tmp_path / "run", **changes, **{"train.steps": 2})
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["train"]["precision"] == "bfloat16"

    processor("avx2")
    assert train_tiny(tmp_path / "run", **changes, **{"train.steps": 4}).step == 4
    run = load_run(tmp_path / "run")
    assert run.experiment.train.precision == "bfloat16"
    assert run.model.compute_dtype == "bfloat16"
    assert load_run(tmp_path / "run", precision="float32").model.compute_dtype == "float32"
