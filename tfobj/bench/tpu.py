"""Compiles a training step for a TPU that is not there, and asks the compiler what it costs.

    report = compile_step(lower_step(experiment), parse_topology("v5e:2x2"), chips=1)
    report["fits"], report["needed_bytes"], report["flops"]

The compiler is the real one (libtpu); only the chips are missing. That shows that every operation
has a TPU version, how much memory the step needs, how much it computes, and what the chips say to
each other. It shows neither numbers nor speed.

Compilations run in a process of their own (`tpu_compiler`): libtpu reads its environment when it is
loaded, can abort, and cannot be stopped.
"""

import importlib.util
import math
import re
import time
from typing import NamedTuple

from tfobj.bench.tpu_compiler import ENVIRONMENT, compile_request
from tfobj.errors import UserError, unknown_name
from tfobj.processes import Child, ChildDied


class Chip(NamedTuple):
    """One generation of TPUs as the compiler lists it."""

    dimensions: int
    """Dimensions of the mesh that its chips form."""
    devices: int
    """Devices per chip.

    v2, v3, v4 and tpu7x have two cores, each a device with half of the chip's memory.
    """


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
      UserError: an unknown chip, or a mesh that its hosts of 2 x 2 chips (or a single chip) cannot
        form.
    """
    chip, _, mesh = text.strip().lower().partition(":")
    if chip not in CHIPS:
        raise unknown_name("TPU", chip, CHIPS)

    dimensions = CHIPS[chip].dimensions
    example = f"{chip}:{'x'.join(['2', '2', '1'][:dimensions])}"
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", mesh) or mesh.count("x") != dimensions - 1:
        raise UserError(
            f"`--topology` of {chip} must be {dimensions} sizes, e.g. {example}. "
            f"Received: {text!r}."
        )

    # The compiler wants whole hosts, whose chips form a square, or a single chip.
    shape = tuple(map(int, mesh.split("x")))
    if math.prod(shape) > 1 and (shape[0] % 2 or shape[1] % 2):
        raise UserError(
            f"`--topology` must consist of hosts of 2x2 chips, e.g. {example}, or be one chip. "
            f"Received: {text!r}."
        )
    return Topology(chip, shape)


def check_chips(topology, chips, batch_size):
    """Raises a `UserError` unless the topology has `chips` chips that share the batch evenly."""
    if not 1 <= chips <= topology.num_chips:
        raise UserError(
            f"`--chips` must be in 1 ... {topology.num_chips}, the chips of {topology.name}. "
            f"Received: {chips}."
        )

    devices = topology.num_devices(chips)
    if batch_size % devices:
        cores = " (two cores on each chip)" * (CHIPS[topology.chip].devices == 2)
        raise UserError(
            f"`train.batch_size` must be a multiple of the {devices} devices{cores} that share it. "
            f"Received: {batch_size}."
        )


def check_installed():
    """Raises a `UserError` if JAX or the compiler is missing; imports neither."""
    missing = [name for name in ("jax", "libtpu") if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"Compiling for TPUs needs {' and '.join(missing)}: pip install 'tfobj[tpu-aot]', in "
            "an environment of its own, because beside libtpu every import of JAX looks for a TPU "
            "unless JAX_PLATFORMS=cpu."
        )


def compile_step(lowered, topology, chips=1, time_limit=None):
    """Compiles a step for the first `chips` chips of a topology.

    The batch is split among the devices, and each of them holds the state.

    Args:
      lowered: `LoweredStep`; its input called "image" is the batch.
      topology: `Topology`.
      chips: number of chips; see `check_chips`.
      time_limit: seconds; None waits for ever.

    Returns:
      dict with

      - `batch_size`, `topology`, `chips`: what was compiled.
      - `fits`: bool; None if the compiler failed for another reason than memory, or was stopped.
      - `error`: text or None.
      - `kind` of the chip, number of `devices`, `seconds` that the compiler took.
      - `hbm_bytes`: what programs may use of one device.
      - `needed_bytes`: what the step needs of one device. For a step that does not fit it is what
        the compiler had counted when it gave up, which can be much too little, or None.

      and, for one device of a step that fits, `argument_bytes`, `output_bytes`, `alias_bytes`
      (outputs in the place of arguments), `temp_bytes`, `code_bytes`, `flops`, `accessed_bytes`,
      and the numbers of `all_reduces` and `all_gathers` in the program.

    Raises:
      UserError: JAX or libtpu is missing, or the chips do not suit the batch.
    """
    check_installed()
    params = lowered.manifest["params"]
    (batch,) = (p["shape"][0] for p in params if p["kind"] == "input" and p["name"] == "image")
    check_chips(topology, chips, batch)

    request = {
        "topology": topology.name,
        "devices": topology.num_devices(chips),
        "single": topology.num_chips == 1,
        "params": params,
        "outputs": lowered.manifest["outputs"],
    }
    report = _in_own_process(request, lowered.hlo, time_limit)
    return {"batch_size": batch, "topology": topology.name, "chips": chips, **report}


def _in_own_process(request, hlo, time_limit):
    """Returns the report of the compiler, or one that says how it ended."""
    start = time.monotonic()
    with Child(environment=ENVIRONMENT) as child:
        try:
            report = child.run(compile_request, request, hlo, timeout=time_limit)
        except ChildDied as e:
            last = (e.output.strip().splitlines() or ["no message"])[-1]
            error = f"the compiler ended with status {e.status}: {last[:300]}"
            report = {"fits": None, "error": error}
        except TimeoutError as e:
            report = {"fits": None, "error": str(e)}
    return {"seconds": time.monotonic() - start, **report}
