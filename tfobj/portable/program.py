"""Runs exported programs under JAX's public interface. It needs JAX and NumPy alone."""

import collections
import os

import numpy as np

from tfobj.errors import UserError, first_line
from tfobj.portable import artifact, stablehlo
from tfobj.training import machine
from tfobj.training.schedule import WarmupDecaySchedule

MINIMUM_JAX = (0, 10, 2)
"""The oldest JAX that was found to read these programs; 0.11.2 and 0.12.0 do as well."""

PLATFORMS = ("cpu", "cuda")

MAX_IN_FLIGHT = 8
"""Steps handed to the device before the host waits for one.

These are enough to hide the host, and few enough to stop soon.
"""


def start_jax(platform_name=None):
    """Imports JAX with 64-bit integers, which the counter of the steps needs.

    Call it before anything else imports JAX.

    Args:
      platform_name: one of `PLATFORMS`; None takes what JAX takes.

    Returns:
      The module `jax`.

    Raises:
      UserError: JAX is missing or too old, or has no such device.
    """
    os.environ["JAX_ENABLE_X64"] = "1"
    if platform_name is not None:
        os.environ["JAX_PLATFORMS"] = platform_name
    try:
        import jax
        import jax.export
    except ImportError as e:
        raise UserError(
            f"This command needs JAX: pip install jax (for NVIDIA GPUs: jax[cuda13]). ({e})"
        ) from e

    check_version(jax.__version__)
    if not jax.config.jax_enable_x64:
        raise UserError(
            "JAX was imported before with 32-bit integers. Set JAX_ENABLE_X64=1, or call "
            "`start_jax` first."
        )

    # A platform that is not there is only noticed when devices are asked for.
    try:
        jax.devices()
    except RuntimeError as e:
        wanted = platform_name or os.environ.get("JAX_PLATFORMS")
        raise UserError(f"JAX finds no device for `--platform={wanted}` ({first_line(e)}).") from e
    return jax


def check_version(version):
    """Raises a `UserError` if `version`, such as "0.10.2", is older than `MINIMUM_JAX`."""
    parts = ["".join(filter(str.isdigit, part)) for part in version.split(".")[:3]]
    if tuple(int(part or 0) for part in parts) < MINIMUM_JAX:
        minimum = ".".join(map(str, MINIMUM_JAX))
        raise UserError(
            f"JAX must be at least {minimum} to read exported steps. Received: JAX {version}."
        )


def describe_host(jax):
    """Returns {"hardware", "software"} as `training.machine.describe` does."""
    used = jax.devices()[0]
    accelerators = []
    if used.platform != "cpu":
        accelerators.append(used.device_kind)
    return machine.report(accelerators, JAX=jax.__version__, NumPy=np.__version__)


def load(jax, folder, entry):
    """Returns the program of an entry of the manifest as a function that JAX can compile.

    It has one argument per parameter.

    Raises:
      UserError: the file is missing or damaged.
    """
    # By JAX's constructor of exported programs and not by its file format, whose reader is not part
    # of every installation.
    program = artifact.read_program(folder, entry)
    platforms = (jax.export.default_export_platform(),)
    return stablehlo.to_exported(entry, program, platforms).call


class Trainer:
    """A state on the device, and the step that advances it.

    Args:
      jax: the module, from `start_jax`.
      folder, entry: where the program lies; `entry` is one of `manifest["steps"]`.
      seed: of the run's noise.
      state: name -> array, all variables.

    Attributes:
      step: updates finished (handed to the device, to be exact).
    """

    def __init__(self, jax, folder, entry, seed, state):
        self._jax = jax
        self._seed = seed
        self._counter = entry["counter"]
        self.step = int(state[self._counter])
        self.metrics = entry["metrics"]
        self.schedule = WarmupDecaySchedule(**entry["schedule"])
        self._in_flight = collections.deque()

        # Variables that the step writes, those that it only reads, and the rest.
        params = entry["params"]
        inputs = [p for p in params if p["kind"] == "input"]
        order = [p["name"] for p in params[len(inputs) :]]
        written = [params[o["param"]]["name"] for o in entry["outputs"] if o["kind"] == "state"]
        read = [name for name in order if name not in written]
        self._written = {name: jax.device_put(state[name]) for name in written}
        self._read = {name: jax.device_put(state[name]) for name in read}
        on_device = {*written, *read}
        self._rest = {name: value for name, value in state.items() if name not in on_device}
        self._update = self._compile(folder, entry, inputs, order, written)

    def _compile(self, folder, entry, inputs, order, written):
        """Returns the step as a function of (written variables, read variables, *inputs)."""
        jax = self._jax
        call = load(jax, folder, entry)
        num_metrics = len(self.metrics)

        def update(written_state, read_state, *values):
            variables = {**read_state, **written_state}
            results = call(*values, *[variables[name] for name in order])
            new_state = dict(zip(written, results[num_metrics:], strict=True))
            return new_state, jax.numpy.stack(results[:num_metrics])

        shapes = [jax.ShapeDtypeStruct(p["shape"], p["dtype"]) for p in inputs]
        try:
            # New values take the memory of the old ones. Compiled now, so that steps can be timed.
            step = jax.jit(update, donate_argnums=0)
            return step.lower(self._written, self._read, *shapes).compile()
        except (RuntimeError, ValueError) as e:
            raise UserError(
                f"`{entry['file']}` cannot be compiled by JAX {jax.__version__}; it was made with "
                f"JAX {entry['jax']}, and that or a newer one is needed. ({first_line(e)})"
            ) from e

    def advance(self, image):
        """Makes one update; does not wait for the result.

        Args:
          image: uint8 [B, H, W, C].

        Returns:
          Its metrics, a float32 vector on the device in the order of `metrics`.
        """
        inputs = (
            image,
            np.array([self._seed, self.step, 0], np.int32),
            np.int64(self.step),
            np.float32(self.learning_rate),
        )
        self._written, metrics = self._update(self._written, self._read, *inputs)
        self.step += 1

        # The host runs ahead, but not so far that a signal would stop the run late.
        self._in_flight.append(metrics)
        if len(self._in_flight) > MAX_IN_FLIGHT:
            self._in_flight.popleft().block_until_ready()
        return metrics

    @property
    def learning_rate(self):
        """Rate of the next update."""
        return self.schedule.at(self.step)

    @property
    def variables(self):
        """Name -> array on the device; valid until the next `advance`."""
        return {**self._rest, **self._read, **self._written}

    def state(self):
        """Returns name -> NumPy array of all variables; waits for the device."""
        variables = self._jax.device_get(self.variables)
        return {name: np.asarray(value) for name, value in variables.items()}


class Forward:
    """The forward pass that is scored.

    Call it with (variables, image float32 [B, H, W, C], seed int32 [3]) for (masks, recon).
    """

    def __init__(self, jax, folder, entry):
        self._order = [p["name"] for p in entry["params"] if p["kind"] != "input"]
        self._call = jax.jit(load(jax, folder, entry))
        self.batch_size = entry["batch_size"]

    def __call__(self, variables, image, seed):
        masks, recon = self._call(image, seed, *[variables[name] for name in self._order])
        return np.asarray(masks), np.asarray(recon)
