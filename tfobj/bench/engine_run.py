"""One process of an engine (see `engines`): a few training steps and the weights after them."""

import hashlib
import time

import numpy as np
import tensorflow as tf

from tfobj.training.checkpoint import by_path
from tfobj.training.experiment import ExperimentConfig, build_model, first_batches, open_scenes
from tfobj.training.optimizer import make_optimizer
from tfobj.training.peers import agree
from tfobj.training.step import make_train_step
from tfobj.training.strategy import (
    distribute,
    explained_errors,
    make_strategy,
    peers_of,
)


def run_task(task):
    """Trains as one process of an engine.

    Args:
      task: dict with `experiment` (of `ExperimentConfig.to_dict`), `strategy` ("one", "mirrored" or
        "multiworker"), `xla`, `steps`, `gpus` (whether there are two) and `data_dir`.

    Returns:
      (facts, weights by path) of the chief; None of any other worker.
    """
    strategy = _make_strategy(task["strategy"], task["gpus"])
    with peers_of(strategy) as peers, explained_errors(peers):
        return _train_as_one_of(peers, strategy, task)


def _train_as_one_of(peers, strategy, task):
    """Returns what `run_task` does."""
    experiment = ExperimentConfig.from_dict(task["experiment"])
    agree(peers, task["experiment"], "")
    scenes, _ = open_scenes(experiment, "train", task["data_dir"])
    with strategy.scope():
        model = build_model(experiment)
        optimizer = make_optimizer(experiment.train)
    step = make_train_step(strategy, model, optimizer, experiment, xla=task["xla"])
    iterator = iter(distribute(strategy, first_batches(experiment, scenes).dataset()))

    before = {variable.path: variable.numpy() for variable in model.trainable_variables}
    terms, steps_per_second = _train(step, iterator, task["steps"])
    weights = {variable.path: variable.numpy() for variable in model.variables}

    digests = replica_digests(by_path([*model.variables, *optimizer.variables]))
    digests = [digest for worker in peers.gather(digests) for digest in worker]

    # Weights are mirrored: those of the chief are those of all, as the digests tell.
    if not peers.is_chief:
        return None
    facts = {
        "steps_per_second": steps_per_second,
        "loss": terms[-1]["loss"],
        "losses": [t["loss"] for t in terms],
        "num_replicas": len(digests),
        "replicas_identical": len(set(digests)) == 1,
        "clipped": float(np.mean([t["grad_norm"] > experiment.train.clip_norm for t in terms])),
        "moved": largest_difference(weights, before),
    }
    return facts, weights


def _make_strategy(name, gpus):
    if name == "one":
        return make_strategy("gpu" if gpus else "cpu")

    if name == "mirrored" and not gpus:
        cpu = tf.config.list_physical_devices("CPU")[0]
        two = [tf.config.LogicalDeviceConfiguration()] * 2
        tf.config.set_logical_device_configuration(cpu, two)
    return make_strategy(name)


def _train(step, iterator, num_steps):
    """Returns (terms of every step, steps per second)."""
    terms = [step.run(iterator, 1)[0]]

    # The clock starts after the first step, which traces and compiles.
    start = time.perf_counter()
    terms += [step.run(iterator, 1)[0] for _ in range(num_steps - 1)]
    return terms, (num_steps - 1) / (time.perf_counter() - start)


def largest_difference(weights, others):
    """Returns the largest difference of any of `others`, NaN if there is one."""
    differences = [
        np.max(np.abs(weights[name] - other), initial=0.0) for name, other in others.items()
    ]
    return float(np.max(differences))


def replica_digests(variables):
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
