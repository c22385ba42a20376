"""From HLO to StableHLO to JAX: the same step, in another notation."""

import builtins
import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from tfobj.errors import UserError
from tfobj.portable import stablehlo

ROOT = pathlib.Path(__file__).resolve().parents[2]
SMALL = {
    "model.image_size": (8, 8),
    "model.num_slots": 2,
    "model.num_steps": 1,
    "model.slot_size": 4,
    "model.encoder_channels": (4,),
    "model.encoder_kernels": (3,),
    "model.decoder_channels": (4,),
    "model.decoder_kernels": (3,),
    "model.mlp_hidden": 4,
    "train.batch_size": 4,
    "train.learning_rate": 1e-3,
    "train.warmup_steps": 0,
    "train.adam_epsilon": 1e-3,
    "train.adam_epsilon_placement": "pytorch",
}  # with Adam's own the first update is the gradient's sign, and a gradient of zero has any
needs_jax = pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="needs jax")

IN_JAX = """
import json, pathlib, sys
import numpy as np
from tfobj.portable import stablehlo
assert "tensorflow" not in sys.modules

folder = pathlib.Path(sys.argv[1])
manifest = json.loads((folder / "manifest.json").read_text())
hlo = (folder / "step.hlo").read_bytes()
artifact = stablehlo.to_portable(hlo)
exact = stablehlo.force_precision(artifact)
import jax
results = {}
for name, program, platforms in (
    ("plain", artifact, ("cpu",)),
    ("cuda", artifact, ("cuda", "cpu")),
    ("exact", exact, ("cpu",)),
):
    written = stablehlo.to_exported(manifest, program, platforms).serialize()
    exported = jax.export.deserialize(bytearray(written))
    assert exported.platforms == platforms[:1]
    assert len(exported.out_avals) == len(manifest["outputs"])
    arguments = [value for _, value in sorted(np.load(folder / "arguments.npz").items())]
    with stablehlo.wide_integers():
        for number, value in enumerate(jax.jit(exported.call)(*arguments)):
            results[f"{name}_{number:04d}"] = np.asarray(value)
np.savez(folder / "results.npz", **results)
text, exact_text = stablehlo.to_text(artifact), stablehlo.to_text(exact)
(folder / "facts.json").write_text(json.dumps({
    "deterministic": artifact == stablehlo.to_portable(hlo),
    "foreign": "mhlo." in text,
    "precise_before": text.count("HIGHEST"),
    "precise": exact_text.count("HIGHEST"),
    "products": sum(
        text.count(f"stablehlo.{name}") for name in ("convolution", "dot ", "dot_general")
    ),
}))
"""


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """Converts and runs one step in a process without TensorFlow.

    Returns (lowered, arguments, results by name, facts).
    """
    from tfobj.portable.lowering import lower_step

    folder = tmp_path_factory.mktemp("converted")
    lowered = lower_step(small())
    arguments = [
        example_input(p) if p["kind"] == "input" else lowered.state[p["key"]]
        for p in lowered.manifest["params"]
    ]
    (folder / "manifest.json").write_text(json.dumps(lowered.manifest))
    (folder / "step.hlo").write_bytes(lowered.hlo)
    np.savez(
        folder / "arguments.npz",
        **{f"{number:04d}": value for number, value in enumerate(arguments)},
    )
    process = subprocess.run(
        [sys.executable, "-c", IN_JAX, str(folder)],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert process.returncode == 0, process.stderr
    return (
        lowered,
        arguments,
        dict(np.load(folder / "results.npz")),
        json.loads((folder / "facts.json").read_text()),
    )


def small():
    from tfobj.training.experiment import resolve

    return resolve("slot_attention", "tetris", overrides=SMALL)


def example_input(param):
    rng = np.random.default_rng(0)
    values = {
        "image": rng.integers(0, 256, param["shape"]),
        "seed": [0, 0, 0],
        "step": 0,
        "learning_rate": 1e-3,
    }
    return np.asarray(values[param["name"]], param["dtype"])


def step_in_tensorflow(image, seed, step):
    """Makes one update as training does; returns (terms before it, weights after it by path)."""
    import tensorflow as tf

    from tfobj.training.experiment import build_model
    from tfobj.training.optimizer import make_optimizer
    from tfobj.training.step import make_train_step

    model = build_model(small())
    optimizer = make_optimizer(small().train)
    train_step = make_train_step(tf.distribute.get_strategy(), model, optimizer, small(), xla=False)
    terms = train_step.update(
        {"image": tf.constant(image, tf.float32) / 255.0},
        tf.constant(seed),
        tf.constant(step),
        model.stages()[0][1],
    )
    return {name: value.numpy() for name, value in terms.items()}, {
        v.path: v.numpy() for v in model.weights
    }


@needs_jax
def test_converted_steps_are_deterministic_and_hold_nothing_foreign(converted):
    *_, facts = converted
    assert facts["deterministic"]
    assert not facts["foreign"]


@needs_jax
def test_precision_is_set_on_every_product(converted):
    *_, facts = converted
    assert facts["precise_before"] == 0
    assert facts["precise"] == 2 * facts["products"] > 0


@needs_jax
def test_one_step_equals_tensorflow(converted):
    lowered, arguments, results, _ = converted
    inputs = {
        p["name"]: value
        for p, value in zip(lowered.manifest["params"], arguments, strict=True)
        if p["kind"] == "input"
    }
    assert inputs.pop("learning_rate") == np.float32(small().train.learning_rate)
    terms, weights = step_in_tensorflow(**inputs)
    compared = 0
    for name in ("plain", "cuda", "exact"):
        for number, out in enumerate(lowered.manifest["outputs"]):
            value = results[f"{name}_{number:04d}"]
            assert value.shape == tuple(out["shape"])
            assert value.dtype == out["dtype"]
            if out["kind"] == "metric":
                np.testing.assert_allclose(
                    value, terms[out["name"]], rtol=1e-5, err_msg=out["name"]
                )
                continue
            path = lowered.manifest["params"][out["param"]]["name"]
            if path in weights:
                compared += 1
                np.testing.assert_allclose(value, weights[path], atol=1e-7, rtol=1e-6, err_msg=path)
    assert compared > 10


@needs_jax
def test_a_finished_program_needs_no_private_parts(monkeypatch):
    """A host that only runs it may have a newer JAX, where they have moved."""
    monkeypatch.setattr(stablehlo, "_jax_parts", lambda: pytest.fail("private parts of JAX"))
    arrays = [{"shape": [3], "dtype": "float32"}, {"shape": [], "dtype": "int64"}]
    exported = stablehlo.to_exported(
        {"params": arrays, "outputs": arrays[:1]}, b"program", ("cpu",)
    )
    assert exported.mlir_module_serialized == b"program"
    assert [str(aval.dtype) for aval in (*exported.in_avals, *exported.out_avals)] == [
        "float32",
        "int64",
        "float32",
    ]


@needs_jax
def test_an_unknown_precision_gets_the_nearest():
    with pytest.raises(UserError, match="Unknown precision 'HIGHER'. Did you mean 'HIGH"):
        stablehlo.force_precision(b"", "HIGHER")


def test_missing_jax_is_one_line(monkeypatch):
    def no_jax(name, *args, **kwargs):
        if name == "jax":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    real = builtins.__import__
    monkeypatch.delitem(sys.modules, "jax", raising=False)
    monkeypatch.setattr(builtins, "__import__", no_jax)
    with pytest.raises(UserError, match=r"needs JAX.*pip install 'tfobj\[tpu-aot\]'"):
        stablehlo.to_portable(b"")
    with pytest.raises(UserError, match="needs JAX"):
        stablehlo.to_exported({}, b"", ("cpu",))


def test_moved_private_parts_are_named(monkeypatch):
    """A JAX that imports but has nothing where we look."""
    monkeypatch.setitem(sys.modules, "jax", type(sys)("jax"))
    sys.modules["jax"].__version__ = "9.9"
    monkeypatch.setattr(stablehlo.importlib, "import_module", lambda name: type(sys)(name))
    with pytest.raises(UserError, match="JAX 9.9 does not have.*Tested: JAX 0.10.2 to 0.12"):
        stablehlo.to_portable(b"")
