"""Whether every engine makes the same run: one device, two replicas of one process, two worker processes.

Each engine trains the same few steps in processes of its own (`python -m tfobj.bench.engines`, which reads its task
from stdin), with the batches, the noise, the clipping and the update of a real run; then the weights are held
against those of the first. Two GPUs are used where there are two; else two logical CPU devices stand for them.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time

import numpy as np
import tensorflow as tf

from tfobj.errors import UserError
from tfobj.training import machine
from tfobj.training.checkpoint import by_path
from tfobj.training.cluster import VARIABLE
from tfobj.training.experiment import (
    ExperimentConfig,
    build_model,
    first_batches,
    open_scenes,
    resolve,
)
from tfobj.training.optimizer import make_optimizer
from tfobj.training.peers import agree, leave
from tfobj.training.step import make_train_step
from tfobj.training.strategy import distribute, make_strategy, peers_of

FEW_SCENES = {"data.num_train": 512, "data.num_test": 32}
CLIP_NORM = 0.1
"""Bound for presets that have none: smaller than the gradients of the first steps, so that clipping is active."""
TOLERANCE = 0.02
"""Largest difference of a weight, as a part of the way of the weight that moved most. Sums in another order make some 0.3 % of it
within ten steps, since Adam divides small gradients by their size; clipping before the sum makes 65 % (slot_attention on tetris, quick)."""


@dataclasses.dataclass(frozen=True)
class Engine:
    """One row of the table."""

    name: str
    strategy: str
    processes: int = 1
    xla: bool = False

    def __str__(self):
        return f"{self.name}, {'XLA' if self.xla else 'graph'}"


ENGINES = (
    Engine("one device", "one"),
    Engine("two replicas", "mirrored"),
    Engine("two workers", "multiworker", processes=2),
)


def make_experiment(model, dataset, preset="paper", overrides=None, seed=0):
    """Returns (experiment, remarks): few scenes, no warm-up, active clipping; and the lines that say what was set."""
    experiment = resolve(model, dataset, preset, {**FEW_SCENES, **(overrides or {})}, seed)
    changes, remarks = {}, []
    if experiment.train.warmup_steps:
        changes["train.warmup_steps"] = 0
        remarks.append(
            "train.warmup_steps is set to 0: with a rate near zero all engines would agree."
        )
    if experiment.train.clip_norm is None:
        changes["train.clip_norm"] = CLIP_NORM
        remarks.append(
            f"train.clip_norm is set to {CLIP_NORM}: the preset has none, and clipping is where engines differ most easily."
        )
    return experiment.override(changes), remarks


def compare(experiment, steps=10, also_xla=False, tolerance=TOLERANCE, data_dir=None):
    """Trains on all engines in turn; progress goes to stderr.

    Args:
      experiment: `ExperimentConfig`.
      steps: updates of each engine, at least 2; the first one is not timed.
      also_xla: every engine also with forward and backward compiled by XLA; these are held against one device with XLA.
      tolerance: largest difference of a weight from one device's, as a part of the largest movement of a weight.
      data_dir: TFDS folder for the few scenes; None builds them in a temporary one.

    Returns:
      The report: a dict for JSON with `rows` and `equal`; `format_report` prints it.

    Raises:
      UserError: a number out of range, or a process ended with an error.
    """
    if steps < 2:
        raise UserError(f"`steps` must be at least 2. Received: steps={steps}.")
    if not tolerance >= 0:
        raise UserError(f"`tolerance` must be at least 0. Received: tolerance={tolerance}.")
    if experiment.train.batch_size % 2:
        raise UserError(
            f"`train.batch_size` must be even, to be shared by two. Received: {experiment.train.batch_size}."
        )
    gpus = len(tf.config.list_physical_devices("GPU")) >= 2
    engines = [
        dataclasses.replace(engine, xla=xla)
        for xla in ((False, True) if also_xla else (False,))
        for engine in ENGINES
    ]
    rows, firsts = [], {}
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
                "out": str(pathlib.Path(folder) / "result"),
            }
            facts, weights = _train(engine, task)
            first = firsts.setdefault(
                engine.xla, weights
            )  # compilers are held against each other by the tests of the models
            difference, from_graph = (
                _largest_difference(weights, first),
                _largest_difference(weights, firsts[False]),
            )
            equal = (
                difference <= tolerance * (rows or [facts])[0]["moved"]
                and facts["replicas_identical"]
            )
            rows.append(
                {
                    "engine": engine.name,
                    "xla": engine.xla,
                    **facts,
                    "difference": difference,
                    "from_graph": from_graph,
                    "equal": equal,
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


def format_report(report):
    """Returns the report as a table with a verdict below."""
    text = [
        f"{'engine':<20} {'steps/s':>8} {'last loss':>12} {'difference':>10} {'replicas':>9} {'clipped':>7}"
    ]
    for row in report["rows"]:
        name = f"{row['engine']}, {'XLA' if row['xla'] else 'graph'}"
        replicas = (
            "one"
            if row["num_replicas"] == 1
            else "identical"
            if row["replicas_identical"]
            else "DIFFER"
        )
        text.append(
            f"{name:<20} {row['steps_per_second']:>8.2f} {row['loss']:>12.7g} {row['difference']:>10.1e} {replicas:>9} {row['clipped']:>7.0%}"
            + ("" if row["equal"] else "  NOT EQUAL")
        )
    moved, worst = report["rows"][0]["moved"], np.max([row["difference"] for row in report["rows"]])
    compilers = [row["from_graph"] for row in report["rows"] if row["xla"]][:1]
    text += [
        "",
        f"{report['model']} on {report['dataset']}, batch {report['batch_size']}, {report['steps']} steps on {report['devices']}, "
        f"clipping at {report['clip_norm']:g}. Weights moved by up to {moved:.1e}; the largest difference from one device is {worst:.1e} "
        f"(allowed: {report['tolerance'] * moved:.1e}, that is {report['tolerance']:.3g} of the way), and replicas must be identical bit for bit.",
        *(
            f"One device with XLA differs from one with the graph by {difference:.1e}: rounding, not an engine."
            for difference in compilers
        ),
        "All engines make the same run."
        if report["equal"]
        else "NOT all engines make the same run.",
    ]
    return "\n".join(text)


def _train(engine, task):
    """Runs the processes of an engine; returns (facts, weights by path) of the first one."""
    environments = _environments(engine, task["gpus"])
    with contextlib.ExitStack() as stack:
        logs = [stack.enter_context(tempfile.TemporaryFile("w+")) for _ in environments]
        processes = [
            subprocess.Popen(
                [sys.executable, "-m", "tfobj.bench.engines"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                text=True,
                env={
                    **environment,
                    "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
                },
            )
            for environment, log in zip(environments, logs, strict=True)
        ]
        for process in processes:
            stack.callback(_end, process)
            with contextlib.suppress(BrokenPipeError):  # it died; its status says so
                process.stdin.write(json.dumps(task))
                process.stdin.close()
        for number, process in enumerate(processes):
            if process.wait():
                logs[number].seek(0)
                sys.stderr.write(logs[number].read())
                raise UserError(
                    f"Process {number} of the engine `{engine}` ended with status {process.returncode}; its output is above."
                )
    with np.load(task["out"] + ".npz") as arrays:
        return json.loads(pathlib.Path(task["out"] + ".json").read_text()), dict(arrays)


def _environments(engine, gpus):
    """Returns the environment of each process of an engine."""
    base = {name: value for name, value in os.environ.items() if name != VARIABLE}
    base.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    devices = (
        [["-1"], ["-1"]] if not gpus else [["0"], ["1"]] if engine.processes == 2 else [["0", "1"]]
    )
    result = [
        {**base, "CUDA_VISIBLE_DEVICES": ",".join(devices[number])}
        for number in range(engine.processes)
    ]
    if engine.processes > 1:
        with contextlib.ExitStack() as stack:
            ports = [
                stack.enter_context(socket.create_server(("", 0))).getsockname()[1] for _ in result
            ]
        workers = {"worker": [f"localhost:{port}" for port in ports]}
        for number, environment in enumerate(result):
            environment[VARIABLE] = json.dumps(
                {"cluster": workers, "task": {"type": "worker", "index": number}}
            )
    return result


def _end(process):
    if process.poll() is None:
        process.kill()
    process.wait()


def run_task(task):
    """One process of an engine: trains, and writes what `compare` needs."""
    experiment = ExperimentConfig.from_dict(task["experiment"])
    name = task["strategy"]
    if name == "mirrored" and not task["gpus"]:
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * 2
        )
    strategy = make_strategy({"one": "gpu" if task["gpus"] else "cpu"}.get(name, name))
    with peers_of(strategy) as peers:
        agree(peers, task["experiment"], "")
        scenes, _ = open_scenes(experiment, "train", task["data_dir"])
        with strategy.scope():
            model, optimizer = build_model(experiment), make_optimizer(experiment.train)
        step = make_train_step(strategy, model, optimizer, experiment, xla=task["xla"])
        iterator = iter(distribute(strategy, first_batches(experiment, scenes).dataset()))
        variables = by_path([*model.variables, *optimizer.variables])
        before = {variable.path: variable.numpy() for variable in model.trainable_variables}
        terms, start = [], None
        for _ in range(task["steps"]):
            terms.append(step.run(iterator, 1)[0])
            start = start or time.perf_counter()  # after the first step, which traces and compiles
        seconds = time.perf_counter() - start
        digests = [
            digest for worker in peers.gather(_replica_digests(variables)) for digest in worker
        ]
        weights = {variable.path: variable.numpy() for variable in model.variables}
        facts = {
            "steps_per_second": (task["steps"] - 1) / seconds,
            "loss": terms[-1]["loss"],
            "losses": [t["loss"] for t in terms],
            "num_replicas": len(digests),
            "replicas_identical": len(set(digests)) == 1,
            "clipped": float(np.mean([t["grad_norm"] > experiment.train.clip_norm for t in terms])),
            "moved": _largest_difference(weights, before),
        }
        if peers.is_chief:
            np.savez(task["out"] + ".npz", **weights)
            pathlib.Path(task["out"] + ".json").write_text(json.dumps(facts))
        peers.gather(None)
    leave(peers, 0)


def _largest_difference(weights, others):
    """Returns the largest difference of any of `others`, NaN if there is one."""
    return float(
        np.max(
            [np.max(np.abs(weights[name] - other), initial=0.0) for name, other in others.items()]
        )
    )


def _replica_digests(variables):
    """Returns one hexadecimal digest of all `variables` for each replica of this process."""
    copies = [
        [copy.numpy() for copy in getattr(variable, "values", [variable])]
        for _, variable in sorted(variables.items())
    ]
    return [
        hashlib.sha256(
            b"".join(np.ascontiguousarray(array).tobytes() for array in replica)
        ).hexdigest()
        for replica in zip(*copies, strict=True)
    ]


if __name__ == "__main__":
    run_task(json.load(sys.stdin))
