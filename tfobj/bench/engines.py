"""Whether every engine makes the same run: one device, two replicas in a process, two workers.

Each engine trains the same few steps in processes of its own (`engine_run`), with the batches, the
noise, the clipping and the update of a real run; then its weights are compared with those of the
first engine. Two GPUs are used where there are two; otherwise two logical CPU devices are.
"""

import contextlib
import dataclasses
import json
import os
import socket
import sys
import tempfile

import numpy as np
import tensorflow as tf

from tfobj.bench.engine_run import largest_difference, run_task
from tfobj.errors import UserError
from tfobj.processes import Child
from tfobj.training import machine
from tfobj.training.cluster import VARIABLE
from tfobj.training.experiment import resolve

FEW_SCENES = {"data.num_train": 512, "data.num_test": 32}
CLIP_NORM = 0.1
"""Bound for presets that have none.

It is smaller than the gradients of the first steps, so that clipping is active.
"""
TOLERANCE = 0.02
"""Largest difference of a weight, relative to the largest weight change.

Sums in another order make some 0.3 % within ten steps, since Adam divides small gradients by their
size; clipping before the sum makes 65 % (slot_attention on tetris, quick).
"""


@dataclasses.dataclass(frozen=True)
class Engine:
    """One row of the table."""

    name: str
    strategy: str
    processes: int = 1
    xla: bool = False

    def __str__(self):
        compiler = "XLA" if self.xla else "graph"
        return f"{self.name}, {compiler}"


ENGINES = (
    Engine("one device", "one"),
    Engine("two replicas", "mirrored"),
    Engine("two workers", "multiworker", processes=2),
)


def make_experiment(model, dataset, preset="paper", overrides=None, seed=0):
    """Resolves an experiment in which engines that differ would show it.

    Returns:
      (experiment, remarks): few scenes, no warm-up, active clipping; and lines of text that say
      which settings of the preset were changed.
    """
    experiment = resolve(model, dataset, preset, {**FEW_SCENES, **(overrides or {})}, seed)
    changes = {}
    remarks = []

    if experiment.train.warmup_steps:
        changes["train.warmup_steps"] = 0
        remarks.append(
            "train.warmup_steps is set to 0: with a rate near zero all engines would agree."
        )
    if experiment.train.clip_norm is None:
        changes["train.clip_norm"] = CLIP_NORM
        remarks.append(
            f"train.clip_norm is set to {CLIP_NORM}: the preset has none, and clipping is where "
            "engines differ most easily."
        )
    return experiment.override(changes), remarks


def compare(experiment, steps=10, also_xla=False, tolerance=TOLERANCE, data_dir=None):
    """Trains on all engines in turn; progress goes to stderr.

    Args:
      experiment: `ExperimentConfig`.
      steps: updates of each engine, at least 2; the first one is not timed.
      also_xla: train on every engine also with forward and backward compiled by XLA; these rows are
        compared with one device with XLA.
      tolerance: largest difference of a weight from one device's, relative to the largest weight
        change.
      data_dir: TFDS folder for the few scenes; None builds them in a temporary one.

    Returns:
      The report: a dict for JSON with `rows` and `equal`; `format_report` prints it.

    Raises:
      UserError: a number out of range, or a process ended with an error.
    """
    _check_arguments(experiment, steps, tolerance)
    gpus = len(tf.config.list_physical_devices("GPU")) >= 2
    engines = list(ENGINES)
    if also_xla:
        engines += [dataclasses.replace(engine, xla=True) for engine in ENGINES]

    rows = []
    firsts = {}
    with tempfile.TemporaryDirectory(prefix="check_engines_") as folder:
        for engine in engines:
            print(f"training with {engine}", file=sys.stderr, flush=True)
            task = {
                "experiment": experiment.to_dict(),
                "strategy": engine.strategy,
                "xla": engine.xla,
                "steps": steps,
                "gpus": gpus,
                "data_dir": str(data_dir or folder),
            }
            facts, weights = _train(engine, task)

            # The tests of the models compare compilers; here each is compared with itself.
            first = firsts.setdefault(engine.xla, weights)
            difference = largest_difference(weights, first)
            moved = (rows or [facts])[0]["moved"]
            rows.append(
                {
                    "engine": engine.name,
                    "xla": engine.xla,
                    **facts,
                    "difference": difference,
                    "from_graph": largest_difference(weights, firsts[False]),
                    "equal": difference <= tolerance * moved and facts["replicas_identical"],
                }
            )

    return {
        "model": experiment.model_name,
        "dataset": experiment.data.protocol,
        "preset": experiment.preset,
        "steps": steps,
        "batch_size": experiment.train.batch_size,
        "clip_norm": experiment.train.clip_norm,
        "tolerance": tolerance,
        "devices": "GPU" if gpus else "CPU",
        "machine": machine.describe(),
        "rows": rows,
        "equal": all(row["equal"] for row in rows),
    }


def _check_arguments(experiment, steps, tolerance):
    if steps < 2:
        raise UserError(f"`steps` must be at least 2. Received: steps={steps}.")
    if not tolerance >= 0:
        raise UserError(f"`tolerance` must be at least 0. Received: tolerance={tolerance}.")
    if experiment.train.batch_size % 2:
        raise UserError(
            "`train.batch_size` must be even, to be shared by two. "
            f"Received: {experiment.train.batch_size}."
        )


def format_report(report):
    """Returns the report as a table with a verdict below."""
    text = [
        f"{'engine':<20} {'steps/s':>8} {'last loss':>12} {'difference':>10} {'replicas':>9} "
        f"{'clipped':>7}"
    ]
    text += [_format_row(row) for row in report["rows"]]

    moved = report["rows"][0]["moved"]
    worst = np.max([row["difference"] for row in report["rows"]])
    text += [
        "",
        f"{report['model']} on {report['dataset']}, batch {report['batch_size']}, "
        f"{report['steps']} steps on {report['devices']}, clipping at {report['clip_norm']:g}. "
        f"Weights moved by up to {moved:.1e}; the largest difference from one device is "
        f"{worst:.1e} (allowed: {report['tolerance'] * moved:.1e}, that is "
        f"{report['tolerance']:.3g} of the largest change), and replicas must be identical bit "
        "for bit.",
    ]
    compiled = next((row for row in report["rows"] if row["xla"]), None)
    if compiled is not None:
        text.append(
            "One device with XLA differs from one with the graph by "
            f"{compiled['from_graph']:.1e}: rounding, not an engine."
        )
    if report["equal"]:
        text.append("All engines make the same run.")
    else:
        text.append("NOT all engines make the same run.")
    return "\n".join(text)


def _format_row(row):
    name = str(Engine(row["engine"], "", xla=row["xla"]))
    replicas = "identical" if row["replicas_identical"] else "DIFFER"
    if row["num_replicas"] == 1:
        replicas = "one"
    text = (
        f"{name:<20} {row['steps_per_second']:>8.2f} {row['loss']:>12.7g} "
        f"{row['difference']:>10.1e} {replicas:>9} {row['clipped']:>7.0%}"
    )
    return text if row["equal"] else f"{text}  NOT EQUAL"


def _train(engine, task):
    """Runs the processes of an engine; returns (facts, weights by path) of the first one."""
    with contextlib.ExitStack() as stack:
        children = []
        for number, environment in enumerate(_environments(engine, task["gpus"])):
            name = str(engine)
            if engine.processes > 1:
                name += f", process {number}"
            children.append(stack.enter_context(Child(name, environment)))

        # All have started before the first is waited for: workers wait for each other.
        for child in children:
            child.start(run_task, task)
        results = [child.result() for child in children]
    return results[0]


def _environments(engine, gpus):
    """Returns what each process of an engine adds to the environment."""
    if not gpus:
        devices = ["-1"] * engine.processes
    elif engine.processes == 1:
        devices = ["0,1"]
    else:
        devices = [str(number) for number in range(engine.processes)]

    # TF_CONFIG of a run around this one must not reach the processes.
    base = {"TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "3"), VARIABLE: None}
    environments = [{**base, "CUDA_VISIBLE_DEVICES": numbers} for numbers in devices]
    if engine.processes > 1:
        workers = {"worker": [f"localhost:{port}" for port in _free_ports(engine.processes)]}
        for number, environment in enumerate(environments):
            task = {"type": "worker", "index": number}
            environment[VARIABLE] = json.dumps({"cluster": workers, "task": task})
    return environments


def _free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("", 0))) for _ in range(count)]
        return [s.getsockname()[1] for s in sockets]
