"""Exported programs under JAX's public interface, and what JAX there is. JAX and NumPy alone."""

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
"""Steps handed to the device before the host waits for one: enough to hide the host, few enough to stop soon."""


def start_jax(platform_name=None):
    """Imports JAX with 64-bit integers, which the counter of the steps is; call it before anything else imports JAX.

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
            "JAX was imported before with 32-bit integers. Set JAX_ENABLE_X64=1, or call `start_jax` first."
        )
    try:
        jax.devices()
    except RuntimeError as e:
        raise UserError(
            f"JAX finds no device for `--platform={platform_name or os.environ.get('JAX_PLATFORMS')}` "
            f"({first_line(e)})."
        ) from e
    return jax


def check_version(version):
    """Raises a `UserError` if JAX is older than `MINIMUM_JAX`; `version` is text such as "0.10.2"."""
    numbers = tuple(
        int("".join(c for c in part if c.isdigit()) or 0) for part in version.split(".")[:3]
    )
    if numbers < MINIMUM_JAX:
        raise UserError(
            f"JAX must be at least {'.'.join(map(str, MINIMUM_JAX))} to read exported steps. Received: JAX {version}."
        )


def describe_host(jax):
    """Returns {"hardware", "software"} as `training.machine.describe` does; no host names or paths."""
    used = jax.devices()[0]
    return machine.report(
        [] if used.platform == "cpu" else [used.device_kind],
        JAX=jax.__version__,
        NumPy=np.__version__,
    )


def load(jax, folder, entry):
    """Returns a function of one argument per parameter of an entry of the manifest, which JAX can compile.

    Raises:
      UserError: the file is missing or damaged.
    """
    # By JAX's constructor of exported programs and not by its file format, whose reader is not part of every installation.
    return stablehlo.to_exported(
        entry, artifact.read_program(folder, entry), (jax.export.default_export_platform(),)
    ).call


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
        self._jax, self._seed, self._counter = jax, seed, entry["counter"]
        self.step = int(state[self._counter])
        self.metrics, self.schedule = entry["metrics"], WarmupDecaySchedule(**entry["schedule"])
        call, params = load(jax, folder, entry), entry["params"]
        num_inputs = sum(p["kind"] == "input" for p in params)
        written = [params[o["param"]]["name"] for o in entry["outputs"] if o["kind"] == "state"]
        order = [p["name"] for p in params[num_inputs:]]
        self._written = {name: jax.device_put(state[name]) for name in written}
        self._read = {
            name: jax.device_put(state[name]) for name in order if name not in self._written
        }
        self._rest = {
            name: value
            for name, value in state.items()
            if name not in self._written and name not in self._read
        }
        num_metrics = len(self.metrics)

        def update(written_state, read_state, *inputs):
            results = call(
                *inputs, *[written_state[n] if n in written_state else read_state[n] for n in order]
            )
            return dict(zip(written, results[num_metrics:], strict=True)), jax.numpy.stack(
                results[:num_metrics]
            )

        inputs = [jax.ShapeDtypeStruct(p["shape"], p["dtype"]) for p in params[:num_inputs]]
        try:
            # New values take the memory of the old ones. Compiled now, so that steps can be timed.
            self._update = (
                jax.jit(update, donate_argnums=0)
                .lower(self._written, self._read, *inputs)
                .compile()
            )
        except (RuntimeError, ValueError) as e:
            raise UserError(
                f"`{entry['file']}` cannot be compiled by JAX {jax.__version__}; it was made with JAX {entry['jax']}, and that or a newer "
                f"one is needed. ({first_line(e)})"
            ) from e
        self._in_flight = collections.deque()

    def advance(self, image):
        """Makes one update; returns its metrics, a float32 vector on the device in the order of `metrics`. Does not wait for the result."""
        inputs = (
            image,
            np.array([self._seed, self.step, 0], np.int32),
            np.int64(self.step),
            np.float32(self.learning_rate),
        )
        self._written, metrics = self._update(self._written, self._read, *inputs)
        self.step += 1
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
        return {
            name: np.asarray(value) for name, value in self._jax.device_get(self.variables).items()
        }


class Forward:
    """The forward pass that is scored: call it with (variables, image float32 [B, H, W, C], seed int32 [3]) -> (masks, recon)."""

    def __init__(self, jax, folder, entry):
        self._order = [p["name"] for p in entry["params"] if p["kind"] != "input"]
        self._call = jax.jit(load(jax, folder, entry))
        self.batch_size = entry["batch_size"]

    def __call__(self, variables, image, seed):
        masks, recon = self._call(image, seed, *[variables[name] for name in self._order])
        return np.asarray(masks), np.asarray(recon)
