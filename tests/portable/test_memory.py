"""Memory of a compiled step, as XLA counts it: rematerialised refinement steps need that of one."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]

COMPILE = """
import json, sys
import jax
from tfobj.portable import lowering, stablehlo
from tfobj.training.experiment import resolve

lowered = lowering.lower_step(resolve("iodine", "tetris", overrides=json.loads(sys.argv[1])))
exported = stablehlo.to_exported(lowered.manifest, stablehlo.to_portable(lowered.hlo), ("cpu",))
params = lowered.manifest["params"]
with stablehlo.wide_integers():
    arguments = [jax.ShapeDtypeStruct(tuple(p["shape"]), p["dtype"]) for p in params]
    donated = tuple(i for i, p in enumerate(params) if p["kind"] == "state")
    step = jax.jit(exported.call, donate_argnums=donated)
    print(step.lower(*arguments).compile().memory_analysis().temp_size_in_bytes)
"""


def temporary_memory(**overrides):
    """Returns bytes of temporaries of IODINE's training step on the CPU."""
    small = {
        "train.batch_size": 4,
        "model.decoder_channels": (8, 8),
        "model.refinement_channels": (4, 4),
    }
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    process = subprocess.run(
        [sys.executable, "-c", COMPILE, json.dumps({**small, **overrides})],
        env=environment,
        text=True,
        capture_output=True,
    )
    assert process.returncode == 0, process.stderr
    return int(process.stdout.split()[-1])


@pytest.mark.slow
def test_memory_does_not_grow_with_rematerialised_steps():
    pytest.importorskip("jax")
    four = temporary_memory(**{"model.num_steps": 4, "train.rematerialise": True})
    assert temporary_memory(**{"model.num_steps": 16, "train.rematerialise": True}) < 1.5 * four
    assert temporary_memory(**{"model.num_steps": 4}) > 3 * four
    assert (
        temporary_memory(
            **{
                "model.num_steps": 4,
                "train.rematerialise": True,
                "train.batch_size": 8,
                "train.micro_batches": 2,
            }
        )
        < 1.2 * four
    )
