"""The TPU compiler without a TPU: what is asked of it and how its answers are read."""

import importlib.util
import time
import types

import pytest

from tfobj.bench import tpu, tpu_compiler
from tfobj.errors import UserError

LIBTPU = all(importlib.util.find_spec(name) for name in ("jax", "libtpu"))
needs_libtpu = pytest.mark.skipif(not LIBTPU, reason="needs jax and libtpu")


@pytest.mark.parametrize(
    "text, chip, shape, devices",
    [
        ("v5e:2x2", "v5e", (2, 2), 4),
        ("V5E:2x4", "v5e", (2, 4), 8),
        ("v5e:1x1", "v5e", (1, 1), 1),
        ("v4:2x2x1", "v4", (2, 2, 1), 8),
        ("v2:2x2", "v2", (2, 2), 8),
        ("v5p:4x4x4", "v5p", (4, 4, 4), 64),
        ("tpu7x:2x2x1", "tpu7x", (2, 2, 1), 8),
    ],
)
def test_topologies_are_read(text, chip, shape, devices):
    topology = tpu.parse_topology(text)
    assert (topology.chip, topology.shape) == (chip, shape)
    assert topology.name == text.lower()
    assert topology.num_devices(topology.num_chips) == devices


@pytest.mark.parametrize(
    "text, message",
    [
        (
            "v5:2x2",
            r"Unknown TPU 'v5'. Did you mean 'v5[ep]'\? Valid: tpu7x, v2, v3, v4, v5e, v5p, v6e",
        ),
        ("v7x:2x2x1", "Did you mean 'tpu7x'"),
        ("v5e", "2 sizes, e.g. v5e:2x2. Received: 'v5e'"),
        ("v5e:4", "2 sizes"),
        ("v5e:2x2x1", "2 sizes"),
        ("v4:2x2", "3 sizes, e.g. v4:2x2x1"),
        ("v5e:2xtwo", "2 sizes"),
        ("v5e:0x2", "2 sizes"),
        ("v5e:1x4", "hosts of 2x2 chips"),
        ("v5e:3x3", "or be one chip"),
    ],
)
def test_topologies_that_do_not_exist_are_refused(text, message):
    with pytest.raises(UserError, match=message):
        tpu.parse_topology(text)


def test_chips_share_the_batch():
    tpu.check_chips(tpu.parse_topology("v5e:2x2"), 4, 8)
    with pytest.raises(UserError, match="multiple of the 4 devices that share it. Received: 6"):
        tpu.check_chips(tpu.parse_topology("v5e:2x2"), 4, 6)
    with pytest.raises(UserError, match=r"in 1 ... 4, the chips of v5e:2x2. Received: 5"):
        tpu.check_chips(tpu.parse_topology("v5e:2x2"), 5, 5)
    with pytest.raises(UserError, match=r"multiple of the 2 devices \(two cores on each chip\)"):
        tpu.check_chips(tpu.parse_topology("v3:2x2"), 1, 3)


@pytest.mark.parametrize(
    "message, fits, needed",
    [
        (
            "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory "
            "space hbm. Used 18.64G of 15.75G hbm.",
            False,
            18.64,
        ),
        (
            "RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: the total memory required for HLO "
            "temporaries (2.00T) exceeds available HBM (15.75G).",
            False,
            2048,
        ),
        ("RESOURCE_EXHAUSTED: out of it", False, None),
        ("INTERNAL: failed to legalize operation 'mhlo.copy'", None, None),
    ],
)
def test_failures_are_told_apart(message, fits, needed):
    result = tpu_compiler.read_failure(message)
    assert result["fits"] is fits
    assert result["needed_bytes"] == (needed and int(needed * 2**30))
    assert (result["error"] is None) == (fits is False)


def test_missing_compiler_is_one_line(monkeypatch):
    monkeypatch.setattr(tpu.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        UserError,
        match=r"needs jax and libtpu: pip install 'tfobj\[tpu-aot\]', in an environment of its own",
    ):
        tpu.check_installed()


def lowered_stub(batch=4):
    return types.SimpleNamespace(
        hlo=b"",
        manifest={
            "params": [
                {"kind": "input", "name": "image", "shape": [batch, 2, 2, 3], "dtype": "uint8"}
            ],
            "outputs": [],
        },
    )


def sleep(request, hlo):
    time.sleep(600)


def crash(request, hlo):
    raise SystemExit("F0000 check failed")


def complain(request, hlo):
    raise UserError("libtpu 9 does not say how much memory a chip has.")


@pytest.fixture
def compile_stub(monkeypatch):
    """Returns a function that compiles a step with a compiler of our own."""
    monkeypatch.setattr(tpu, "check_installed", lambda: None)

    def run(compiler, **arguments):
        monkeypatch.setattr(tpu, "compile_request", compiler)
        return tpu.compile_step(lowered_stub(), tpu.parse_topology("v5e:2x2"), **arguments)

    return run


def test_a_compiler_that_takes_too_long_is_a_report(compile_stub):
    result = compile_stub(sleep, time_limit=0.2)
    assert result["fits"] is None
    assert result["error"].startswith("stopped after")
    assert result["seconds"] < 30


def test_a_compiler_that_crashes_is_a_report(compile_stub):
    result = compile_stub(crash)
    assert result["fits"] is None
    assert result["error"] == "the compiler ended with status 1: F0000 check failed"
    assert result["batch_size"] == 4
    assert result["seconds"] > 0


def test_mistakes_that_the_compiler_finds_are_errors(compile_stub):
    with pytest.raises(UserError, match="^libtpu 9 does not say how much memory a chip has.$"):
        compile_stub(complain)


def lowered_small(**changes):
    from tfobj.portable.lowering import lower_step
    from tfobj.training.experiment import resolve

    small = {
        "model.image_size": (8, 8),
        "model.num_slots": 2,
        "model.num_steps": 1,
        "model.slot_size": 4,
        "model.encoder_channels": (4,),
        "model.encoder_kernels": (3,),
        "model.decoder_channels": (4,),
        "model.decoder_kernels": (3,),
        "train.batch_size": 4,
    }
    return lower_step(resolve("slot_attention", "tetris", overrides={**small, **changes}))


@needs_libtpu
@pytest.mark.parametrize("chips", [1, 4])
def test_tiny_step_compiles(chips):
    result = tpu.compile_step(lowered_small(), tpu.parse_topology("v5e:2x2"), chips)
    assert result["error"] is None
    assert result["fits"]
    assert result["kind"] == "TPU v5 lite"
    assert result["devices"] == chips
    assert result["hbm_bytes"] == int(15.75 * 2**30)
    assert 0 < result["alias_bytes"] <= result["output_bytes"]
    assert 0 < result["needed_bytes"] < 2**28
    assert (result["all_reduces"] > 0) == (chips > 1)
    assert result["flops"] > 0
    assert result["accessed_bytes"] > 0


@pytest.mark.slow
@needs_libtpu
def test_step_that_is_too_large_is_told_so():
    """v2 grants a program 7.48 GiB."""
    result = tpu.compile_step(
        lowered_small(**{"train.batch_size": 2**22}), tpu.parse_topology("v2:2x2"), chips=1
    )
    assert result["fits"] is False
    assert result["error"] is None
    assert result["needed_bytes"] > result["hbm_bytes"] == int(7.48 * 2**30)
