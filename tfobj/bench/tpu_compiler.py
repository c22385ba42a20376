"""The side of `tpu` that loads the compiler: XLA for TPUs, from libtpu, behind JAX.

It runs in a process of its own, with `ENVIRONMENT`.
"""

import importlib.metadata
import re
import time

from tfobj.errors import UserError, first_line
from tfobj.portable import stablehlo

ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "JAX_ENABLE_X64": "1",
    # Without these libtpu asks the cloud's metadata service who it is, for minutes, and complains
    # about host names.
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
    # Otherwise a second process on this machine dies of the first one's lock.
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}

TESTED_LIBTPU = "0.0.42.1"
"""Version whose messages are read here."""

_SIZE = r"[\d.]+[KMGT]?"
"""Pattern of the compiler's sizes."""


def compile_request(request, hlo):
    """Compiles a step.

    Args:
      request: dict with `topology` (a name), `devices` (how many of it), `single` (whether it is a
        single chip), and `params` and `outputs` of the lowered step's manifest.
      hlo: bytes of the lowered step.

    Returns:
      dict: what `tpu.compile_step` tells of the compilation.

    Raises:
      UserError: the program or the compiler's version is not one that can be used.
    """
    try:
        return _compile(request, hlo)
    except UserError:
        raise
    except (
        Exception
    ) as e:  # JAX and libtpu raise many kinds, which only a process with JAX can read
        return {"fits": None, "error": f"{type(e).__name__}: {first_line(e)[:300]}"}


def _compile(request, hlo):
    import jax

    exported = stablehlo.to_exported(request, stablehlo.to_portable(hlo), ("tpu",))
    devices = _devices(request)
    arguments, whole = _arguments(request["params"], devices)

    # Only what is written may be given away: the compiler warns of donations that it cannot use.
    donated = tuple(out["param"] for out in request["outputs"] if out["kind"] == "state")
    step = jax.jit(exported.call, donate_argnums=donated, out_shardings=whole)

    report = {
        "kind": devices[0].device_kind,
        "devices": len(devices),
        "hbm_bytes": _available_bytes(devices[0]),
    }
    start = time.monotonic()
    try:
        compiled = step.trace(*arguments).lower(lowering_platforms=("tpu",)).compile()
    except jax.errors.JaxRuntimeError as e:
        return {**report, "seconds": time.monotonic() - start, **read_failure(str(e))}
    seconds = time.monotonic() - start
    return {**report, "seconds": seconds, "fits": True, "error": None, **_costs(compiled)}


def _devices(request):
    from jax.experimental import topologies

    options = {"chips_per_host_bounds": (1, 1, 1)} if request["single"] else {}
    topology = topologies.get_topology_desc(
        platform="tpu", topology_name=request["topology"], **options
    )
    return topology.devices[: request["devices"]]


def _arguments(params, devices):
    """Returns (shapes with shardings, the sharding that repeats an array on every device)."""
    import jax
    import numpy as np
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    mesh = Mesh(np.array(devices), ("data",))
    split = NamedSharding(mesh, PartitionSpec("data"))
    whole = NamedSharding(mesh, PartitionSpec())

    arguments = []
    for param in params:
        is_batch = param["kind"] == "input" and param["name"] == "image"
        sharding = split if is_batch else whole
        arguments.append(
            jax.ShapeDtypeStruct(tuple(param["shape"]), param["dtype"], sharding=sharding)
        )
    return arguments, whole


def _costs(compiled):
    cost = compiled.cost_analysis()
    memory = compiled.memory_analysis()
    text = compiled.as_text()

    # Outputs in the place of arguments take no memory of their own.
    needed = (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
        + memory.temp_size_in_bytes
    )
    return {
        "needed_bytes": needed,
        "argument_bytes": memory.argument_size_in_bytes,
        "output_bytes": memory.output_size_in_bytes,
        "alias_bytes": memory.alias_size_in_bytes,
        "temp_bytes": memory.temp_size_in_bytes,
        "code_bytes": memory.generated_code_size_in_bytes,
        "flops": cost["flops"],
        "accessed_bytes": cost["bytes accessed"],
        "all_reduces": len(re.findall(r"\ball-reduce(?:-start)?\(", text)),
        "all_gathers": len(re.findall(r"\ball-gather(?:-start)?\(", text)),
    }


def _available_bytes(device):
    """Returns the memory that the compiler grants a program.

    No call tells it, but the refusal of an absurd program does.
    """
    import jax

    # A terabyte of float32 in one array.
    absurd = jax.ShapeDtypeStruct(
        (2**19, 2**19), "float32", sharding=jax.sharding.SingleDeviceSharding(device)
    )
    try:
        jax.jit(lambda x: x + 1).trace(absurd).lower(lowering_platforms=("tpu",)).compile()
    except jax.errors.JaxRuntimeError as e:
        found = re.search(rf"exceeds available HBM \(({_SIZE})\)", str(e))
        if found:
            return _bytes(found[1])

    version = importlib.metadata.version
    raise UserError(
        f"libtpu {version('libtpu')} with JAX {version('jax')} does not say how much memory a chip "
        f"has in the words that are known here. Tested: libtpu {TESTED_LIBTPU}; "
        f"pip install 'jax[tpu]=={stablehlo.TESTED_VERSIONS[0]}' works."
    )


def read_failure(message):
    """Reads why a compilation failed from the compiler's message.

    Returns:
      dict: `fits` (False if the memory was too small, None after another failure), `error` (text of
      another failure or None) and `needed_bytes` (or None).
    """
    if not re.search(r"RESOURCE_EXHAUSTED|CompileTimeHbmOom", message):
        return {"fits": None, "error": " ".join(message.split())[:300], "needed_bytes": None}

    used = re.search(rf"Used ({_SIZE}) of", message)
    used = used or re.search(rf"HLO temporaries \(({_SIZE})\)", message)
    return {"fits": False, "error": None, "needed_bytes": used and _bytes(used[1])}


def _bytes(text):
    """Reads the compiler's "15.75G"."""
    factor = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}.get(text[-1])
    if factor is None:
        return int(float(text))
    return int(float(text[:-1]) * factor)
