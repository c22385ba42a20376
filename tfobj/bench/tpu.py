"""Compiles a training step for a TPU that is not there, and asks the compiler what it costs.

    report = compile_step(lower_step(experiment), parse_topology("v5e:2x2"), chips=1)
    report["fits"], report["needed_bytes"], report["flops"]

The compiler is the real one (libtpu); only the chips are missing. That shows that every operation has a TPU version, how
much memory the step needs, how much it computes, and what the chips say to each other. It shows neither numbers nor speed.

Compilations run in a process of their own: libtpu reads its environment when it is loaded, can abort, and cannot be stopped.
"""

import importlib.metadata
import importlib.util
import json
import math
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

from tfobj.errors import UserError, unknown_name
from tfobj.portable import stablehlo

ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "JAX_ENABLE_X64": "1",
    # Without these libtpu asks the cloud's metadata service who it is, for minutes, and complains about host names.
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
    # Else a second process on this machine dies of the first one's lock.
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


TESTED_LIBTPU = "0.0.42.1"
"""Whose messages are read here."""


class Chip(NamedTuple):
    """One generation of TPUs as the compiler lists it."""

    dimensions: int
    """Of the mesh that its chips form."""
    devices: int
    """Per chip: v2, v3, v4 and tpu7x have two cores, each a device with half of the chip's memory."""


CHIPS = {
    "v2": Chip(2, 2),
    "v3": Chip(2, 2),
    "v4": Chip(3, 2),
    "v5e": Chip(2, 1),
    "v5p": Chip(3, 1),
    "v6e": Chip(2, 1),
    "tpu7x": Chip(3, 2),
}


class Topology(NamedTuple):
    """Chips of one kind in a mesh: v5e:2x2."""

    chip: str
    shape: tuple

    @property
    def num_chips(self):
        return math.prod(self.shape)

    @property
    def name(self):
        return f"{self.chip}:{'x'.join(map(str, self.shape))}"

    def num_devices(self, chips):
        """Returns how many devices the compiler sees in the first `chips` chips."""
        return chips * CHIPS[self.chip].devices


def parse_topology(text):
    """Returns the `Topology` that a user types: "v5e:2x2", "v4:2x2x1".

    Raises:
      UserError: an unknown chip, or a mesh that its hosts of 2 x 2 chips (or a single chip) cannot form.
    """
    chip, _, mesh = text.strip().lower().partition(":")
    if chip not in CHIPS:
        raise unknown_name("TPU", chip, CHIPS)
    dimensions = CHIPS[chip].dimensions
    example = f"{chip}:{'x'.join(['2', '2', '1'][:dimensions])}"
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", mesh) or mesh.count("x") != dimensions - 1:
        raise UserError(
            f"`--topology` of {chip} must be {dimensions} sizes, e.g. {example}. Received: {text!r}."
        )
    shape = tuple(map(int, mesh.split("x")))
    if math.prod(shape) > 1 and (shape[0] % 2 or shape[1] % 2):
        raise UserError(
            f"`--topology` must consist of hosts of 2x2 chips, e.g. {example}, or be one chip. Received: {text!r}."
        )
    return Topology(chip, shape)


def check_chips(topology, chips, batch_size):
    """Raises a `UserError` unless `chips` chips exist in the topology and share the batch evenly."""
    if not 1 <= chips <= topology.num_chips:
        raise UserError(
            f"`--chips` must be in 1 ... {topology.num_chips}, the chips of {topology.name}. Received: {chips}."
        )
    devices = topology.num_devices(chips)
    if batch_size % devices:
        cores = " (two cores on each chip)" if CHIPS[topology.chip].devices == 2 else ""
        raise UserError(
            f"`train.batch_size` must be a multiple of the {devices} devices{cores} that share it. Received: {batch_size}."
        )


def check_installed():
    """Raises a `UserError` if JAX or the compiler is missing; imports neither."""
    missing = [name for name in ("jax", "libtpu") if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"Compiling for TPUs needs {' and '.join(missing)}: pip install 'tfobj[tpu-aot]', in an environment of its own, "
            "because beside libtpu every import of JAX looks for a TPU unless JAX_PLATFORMS=cpu."
        )


def compile_step(lowered, topology, chips=1, time_limit=None):
    """Compiles a step for the first `chips` chips of a topology: the batch split among them, the state on each.

    Args:
      lowered: `LoweredStep`; its input called "image" is the batch.
      topology: `Topology`.
      chips: number of chips; see `check_chips`.
      time_limit: seconds; None waits for ever.

    Returns:
      dict: `fits` (None if the compiler failed for another reason than memory, or was stopped), `error` (text or None),
      `kind` of the chip, `devices`, `seconds`, and of one device `hbm_bytes` (what programs may use) and `needed_bytes` (of a
      step that does not fit what the compiler had counted when it gave up, which can be much too little, or None). Of a step
      that fits also, all of one device: `argument_bytes`, `output_bytes`, `alias_bytes` (outputs in the place of arguments),
      `temp_bytes`, `code_bytes`, `flops`, `accessed_bytes`, and the numbers of `all_reduces` and `all_gathers` in the program.

    Raises:
      UserError: JAX or libtpu is missing, or the chips do not suit the batch.
    """
    check_installed()
    (batch,) = (
        p["shape"][0]
        for p in lowered.manifest["params"]
        if p["kind"] == "input" and p["name"] == "image"
    )
    check_chips(topology, chips, batch)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        request = {
            "topology": topology.name,
            "devices": topology.num_devices(chips),
            "single": topology.num_chips == 1,
            "params": lowered.manifest["params"],
            "outputs": lowered.manifest["outputs"],
        }
        (folder / "request.json").write_text(json.dumps(request))
        (folder / "step.hlo").write_bytes(lowered.hlo)
        report = _in_own_process(folder, time_limit)
    return {"batch_size": batch, "topology": topology.name, "chips": chips, **report}


def largest_batch(measure, known, multiple, max_batch, seconds, clock=time.monotonic):
    """Searches the largest batch that fits, with few compilations.

    Memory is nearly affine in the batch, so a straight line through two batches that fit says where to look; then its
    neighbours are compiled. Near the limit the compiler begins to recompute instead of storing and fits more than the line
    says: steps away from a line that was wrong double.

    Args:
      measure: (batch, time limit in seconds) -> report of `compile_step`.
      known: reports by batch, of at least one batch.
      multiple: batches are multiples of it.
      max_batch: not looked at beyond it.
      seconds: no compilation starts after these, and one that runs is stopped.

    Returns:
      dict: `largest` (greatest batch compiled that fits; 0 if none), `too_large` (smallest batch beyond it compiled that
      does not fit or does not compile, or None), `complete` (nothing lies between the two, or `largest` is all that was asked
      for), `predicted` (by the line, None without one; verified only if `complete`), `trials` (batch, fits, needed_bytes,
      flops, error of each compilation).
    """
    reports, deadline, outside = dict(known), clock() + seconds, 0
    top = max_batch // multiple * multiple
    while True:
        good, bad = _bracket(reports)
        limit = top if bad is None else min(top, bad - multiple)
        predicted = _predict(reports)
        if good >= limit or clock() >= deadline:
            break
        middle = max(good + multiple, (good + limit) // 2 // multiple * multiple)
        guess = middle if predicted is None else predicted // multiple * multiple
        inside = good < guess <= limit
        if guess <= good:
            guess = (
                good + multiple * 2**outside
                if bad is None
                else min(good + multiple * 2**outside, middle)
            )
        elif not inside and bad is not None:
            guess = max(limit - multiple * (2**outside - 1), middle)
        outside = 0 if inside else outside + 1
        guess = min(max(guess, good + multiple), limit)
        report = measure(guess, deadline - clock())
        if report["fits"] is None and clock() >= deadline:
            break
        reports[guess] = report
    trials = [
        {
            "batch_size": batch,
            **{
                name: reports[batch].get(name)
                for name in ("fits", "needed_bytes", "flops", "error")
            },
        }
        for batch in sorted(reports)
    ]
    return {
        "largest": good,
        "too_large": bad,
        "complete": good >= limit,
        "predicted": predicted,
        "trials": trials,
    }


def _bracket(reports):
    """Returns (greatest batch that fits or 0, smallest batch beyond it that does not or None)."""
    good = max((batch for batch, report in reports.items() if report["fits"]), default=0)
    return good, min(
        (batch for batch, report in reports.items() if batch > good and not report["fits"]),
        default=None,
    )


def _predict(reports):
    """Returns the greatest batch that fits by a straight line through two known ones, or from zero through the only one."""
    known = [
        (batch, reports[batch])
        for batch in sorted(reports)
        if reports[batch].get("needed_bytes") and reports[batch].get("hbm_bytes")
    ]
    fitting = [pair for pair in known if pair[1]["fits"]]
    points = [
        (batch, report["needed_bytes"], report["hbm_bytes"])
        for batch, report in fitting[-2:] or known[:2]
    ]
    if not points:
        return None
    (batch, needed, available), (other, less, _) = (
        points[-1],
        points[0] if len(points) == 2 else (0, 0, 0),
    )
    if needed <= less:
        return None
    return int(batch + (available - needed) * (batch - other) / (needed - less))


def _in_own_process(folder, time_limit):
    """Runs this module on a folder with a request; returns its report."""
    path = os.pathsep.join(
        filter(
            None, [str(pathlib.Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH")]
        )
    )
    start = time.monotonic()
    try:
        process = subprocess.run(
            [sys.executable, "-m", __name__, str(folder)],
            env={**os.environ, **ENVIRONMENT, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=time_limit,
        )
    except subprocess.TimeoutExpired:
        return {
            "fits": None,
            "error": f"stopped after {time_limit:.0f} s",
            "seconds": time.monotonic() - start,
        }
    answer = folder / "report.json"
    if answer.exists():
        report = json.loads(answer.read_text())
        if "mistake" in report:
            raise UserError(report["mistake"])
        return report
    last = (process.stderr.strip().splitlines() or ["no message"])[-1]
    return {
        "fits": None,
        "error": f"the compiler ended with status {process.returncode}: {last[:300]}",
        "seconds": time.monotonic() - start,
    }


def _answer(folder):
    """What the own process does: reads the request, writes the report."""
    request = json.loads((folder / "request.json").read_text())
    try:
        report = _compile(request, (folder / "step.hlo").read_bytes())
    except UserError as e:
        report = {"mistake": str(e)}
    (folder / "report.json").write_text(json.dumps(report))


def _compile(request, hlo):
    import jax
    import numpy as np
    from jax.experimental import topologies
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    exported = stablehlo.to_exported(request, stablehlo.to_portable(hlo), ("tpu",))
    options = {"chips_per_host_bounds": (1, 1, 1)} if request["single"] else {}
    devices = topologies.get_topology_desc(
        platform="tpu", topology_name=request["topology"], **options
    ).devices[: request["devices"]]
    mesh = Mesh(np.array(devices), ("data",))
    split, whole = NamedSharding(mesh, PartitionSpec("data")), NamedSharding(mesh, PartitionSpec())
    arguments = [
        jax.ShapeDtypeStruct(
            tuple(p["shape"]), p["dtype"], sharding=split if _is_batch(p) else whole
        )
        for p in request["params"]
    ]
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
        report["seconds"] = time.monotonic() - start
        return {**report, **read_failure(str(e))}
    report["seconds"] = time.monotonic() - start
    return {**report, "fits": True, "error": None, **_costs(compiled)}


def _is_batch(param):
    return param["kind"] == "input" and param["name"] == "image"


def _costs(compiled):
    cost, memory, text = compiled.cost_analysis(), compiled.memory_analysis(), compiled.as_text()
    parts = {
        "argument_bytes": memory.argument_size_in_bytes,
        "output_bytes": memory.output_size_in_bytes,
        "alias_bytes": memory.alias_size_in_bytes,
        "temp_bytes": memory.temp_size_in_bytes,
    }
    needed = (
        parts["argument_bytes"] + parts["output_bytes"] - parts["alias_bytes"] + parts["temp_bytes"]
    )
    return {
        "needed_bytes": needed,
        **parts,
        "code_bytes": memory.generated_code_size_in_bytes,
        "flops": cost["flops"],
        "accessed_bytes": cost["bytes accessed"],
        "all_reduces": len(re.findall(r"\ball-reduce(?:-start)?\(", text)),
        "all_gathers": len(re.findall(r"\ball-gather(?:-start)?\(", text)),
    }


def _available_bytes(device):
    """Returns the memory that the compiler grants a program; no call tells it, but the refusal of an absurd program does."""
    import jax

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
        f"libtpu {version('libtpu')} with JAX {version('jax')} does not say how much memory a chip has in the words that are known "
        f"here. Tested: libtpu {TESTED_LIBTPU}; pip install 'jax[tpu]=={stablehlo.TESTED_VERSIONS[0]}' works."
    )


def read_failure(message):
    """Returns {"fits", "error", "needed_bytes"} from the compiler's message: not enough memory, or another failure (`fits` None)."""
    if not re.search(r"RESOURCE_EXHAUSTED|CompileTimeHbmOom", message):
        return {"fits": None, "error": " ".join(message.split())[:300], "needed_bytes": None}
    used = re.search(rf"Used ({_SIZE}) of", message) or re.search(
        rf"HLO temporaries \(({_SIZE})\)", message
    )
    return {"fits": False, "error": None, "needed_bytes": used and _bytes(used[1])}


_SIZE = r"[\d.]+[KMGT]?"


def _bytes(text):
    """Reads the compiler's "15.75G"."""
    factor = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}.get(text[-1])
    return int(float(text[:-1]) * factor) if factor else int(float(text))


if __name__ == "__main__":
    _answer(pathlib.Path(sys.argv[1]))
