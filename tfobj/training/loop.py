"""The outer loop: run the inner loop, log, evaluate, save, act; start again where a killed run was."""

import dataclasses
import json
import signal
import time
from typing import Any

from tfobj import files
from tfobj.data.pipeline import BatchStream, evaluation_batches
from tfobj.errors import UserError
from tfobj.metrics.health import diagnose
from tfobj.training import machine
from tfobj.training.checkpoint import RunState, locked, settle_config
from tfobj.training.evaluation import Evaluator, validation_score
from tfobj.training.experiment import build_model, open_scenes
from tfobj.training.optimizer import make_optimizer
from tfobj.training.step import TrainStep
from tfobj.training.strategy import check_batch_size, uses_xla
from tfobj.training.writers import Console, MetricsWriter


MACHINE = "machine.json"
"""Hardware, software and command of the run's first process."""


class TrainingDiverged(UserError):
    """The loss is no longer finite."""


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What actions are handed after each evaluation while training."""

    step: int
    workdir: Any
    model: Any
    evaluator: Evaluator
    scenes: Any
    """`SceneArrays` of the validation split."""
    summary: dict
    writer: MetricsWriter


@dataclasses.dataclass(frozen=True)
class Finished:
    """How a run ended."""

    step: int
    interrupted: bool
    """By a signal; the state is saved, and the same command continues."""


def train(experiment, workdir, strategy, data_dir=None, actions=()):
    """Trains until `experiment.train.steps`, from the beginning or from the newest checkpoint in `workdir`.

    A run that was killed at any moment and continued has, on one device, bit for bit the weights of one that was not.

    Args:
      experiment: `ExperimentConfig`.
      workdir: folder of the run.
      strategy: `tf.distribute.Strategy`.
      data_dir: TFDS data folder; None is its default.
      actions: callables of an `Evaluation`, called after each evaluation (figures, for example).

    Returns:
      `Finished`.

    Raises:
      UserError: the folder is in use, holds another configuration, cannot be written, or the batch cannot be divided.
      TrainingDiverged: with the step and the terms; the last checkpoint is from before.
    """
    config = experiment.train
    check_batch_size(strategy, config.batch_size)
    with locked(workdir) as workdir, _Signals() as signals:
        if (workdir / "config.json").exists():
            settle_config(workdir, experiment)  # refuse another configuration before any work
        scenes, description = open_scenes(experiment, "train", data_dir)
        # A folder of pictures has one split: read once, held once.
        validation = open_scenes(experiment, "validation", data_dir)[0] if experiment.data.has_splits else scenes
        validation = validation.take(min(experiment.eval.num_scenes, len(validation)))
        settle_config(workdir, experiment)  # after the data: a mistyped folder leaves no run behind
        if not (workdir / MACHINE).exists():
            files.write_text(workdir / MACHINE, json.dumps(machine.describe(), indent=2) + "\n")
        with strategy.scope():
            model = build_model(experiment)
            optimizer = make_optimizer(config)
        xla = uses_xla(strategy, config.compile)
        step_function = TrainStep(strategy, model, optimizer, experiment.seed, xla)
        evaluator = Evaluator(model, min(experiment.eval.batch_size, len(validation)), num_steps=experiment.eval.num_steps, xla=xla)
        state = RunState(workdir, model, optimizer, config.keep_checkpoints)
        first_step = state.restore()
        writer = MetricsWriter(workdir, first_step)
        console = Console(config.steps, first_step, experiment.model_name)
        console.say(f"{experiment.model_name}: {model.count_trainable():,} parameters; {description}")
        run = _Run(experiment, workdir, model, step_function, evaluator, state, writer, console, validation, actions)
        if first_step:
            console.say(f"Continuing at step {first_step:,} of {config.steps:,}.")
        else:
            writer.graph(evaluator.trace(run.probe).graph)
        stream = BatchStream(scenes, config.batch_size, seed=experiment.seed)
        iterator = iter(strategy.experimental_distribute_dataset(stream.dataset(start_step=first_step)))
        try:
            return run.until_done(iterator, signals)
        finally:
            writer.flush()
            console.close()


class _Run:
    """One process's share of a run."""

    def __init__(self, experiment, workdir, model, step_function, evaluator, state, writer, console, validation, actions):
        self.experiment, self.config, self.workdir, self.model = experiment, experiment.train, workdir, model
        self.step_function, self.evaluator, self.state, self.writer, self.console = step_function, evaluator, state, writer, console
        self.validation, self.actions = validation, actions
        self.probe = next(evaluation_batches(validation, evaluator.batch_size))["image"]
        self.best_step, self.warned = state.step, set()

    def until_done(self, iterator, signals):
        """Runs to the last step or to a signal; saves in both cases."""
        config, step = self.config, self.state.step
        sums, num_summed, seconds = {}, 0, 0.0
        while step < config.steps and not signals.received:
            count = self._steps_to_next_event(step)
            start = time.perf_counter()
            terms, bad_step = self.step_function.run(iterator, count)
            seconds += time.perf_counter() - start
            step += count
            if bad_step >= 0:
                self._stop_diverged(bad_step, terms)
            sums = {name: sums.get(name, 0.0) + value * count for name, value in terms.items()}
            num_summed += count
            self.console.advance(count, loss=terms["loss"])
            if step % config.log_every == 0 or step == config.steps:
                self._log(step, {name: total / num_summed for name, total in sums.items()}, num_summed / seconds)
                sums, num_summed, seconds = {}, 0, 0.0
            if step % config.eval_every == 0 or step == config.steps:
                self._evaluate(step)
            if step % config.checkpoint_every == 0 or step == config.steps:
                self.state.save()
        self.state.save()
        if signals.received:
            self.console.say(f"Stopped by {signals.received} at step {step:,}; saved. The same command continues.")
        return Finished(step, interrupted=bool(signals.received))

    def _steps_to_next_event(self, step):
        config = self.config
        ends = [every - step % every for every in (config.log_every, config.eval_every, config.checkpoint_every)]
        return min(config.steps_per_call, config.steps - step, *ends)

    def _log(self, step, terms, steps_per_second):
        health = self.evaluator.health(self.probe)
        rate = {"learning_rate": float(self.step_function.optimizer.learning_rate), "steps_per_second": steps_per_second,
                "images_per_second": steps_per_second * self.config.batch_size}
        self.writer.write(step, "train", {**terms, **rate, **{f"health/{k}": v for k, v in health.items()}})
        self.console.say(f"step {step:>8,}  loss {terms['loss']:.5g}  grad norm {terms['grad_norm']:.3g}  "
                         f"{steps_per_second:.2f} steps/s  active slots {health['active_slots']:.2f}")
        warnings = diagnose({**health, "loss": terms["loss"]}, num_slots=self.experiment.model.num_slots, step=step,
                            steps_without_improvement=step - self.best_step)
        for warning in warnings:
            kind = warning.split(":")[0].rstrip("0123456789., %")
            if kind not in self.warned:  # once per run: the numbers go on in metrics.jsonl
                self.warned.add(kind)
                self.console.say(f"warning: {warning}")

    def _evaluate(self, step):
        summary = self.evaluator.score(self.validation).summary()
        self.writer.write(step, "validation", summary)
        if self.state.save_best(validation_score(summary, self.experiment.eval.best_metric)):
            self.best_step = step
        scores = "  ".join(f"{name} {summary[name]:.4f}" for name in ("fg_ari", "ari", "miou", "mse") if name in summary)
        self.console.say(f"step {step:>8,}  validation  {scores}")
        for action in self.actions:
            action(Evaluation(step, self.workdir, self.model, self.evaluator, self.validation, summary, self.writer))

    def _stop_diverged(self, bad_step, terms):
        broken = ", ".join(sorted(name for name, value in terms.items() if value != value or abs(value) == float("inf")))
        raise TrainingDiverged(
            f"The loss is not finite since step {bad_step:,} (not finite in these steps: {broken}). The last checkpoint, from before, is intact. "
            "Look for NaN in the data; else try a lower train.learning_rate, train.clip_norm=1, or train.precision=float32.")


class _Signals:
    """Turns SIGTERM and the first Ctrl-C into a request to save and leave; a second Ctrl-C acts at once."""

    def __init__(self):
        self.received = None
        self._before = {}

    def __enter__(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *exception):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number, frame):
        if self.received and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = signal.Signals(number).name
