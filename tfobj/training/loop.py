"""The outer loop: run the inner loop, log, evaluate, save, act; start again where a killed run was.

Several workers make the same steps and talk between the calls of the inner loop (`peers`): on whether to stop, and
at the start on the settings, the data and the checkpoint. Only the chief evaluates and writes; the others
wait for it at the next talk. Weights are mirrored, so those of the chief are those of all.
"""

import contextlib
import dataclasses
import pathlib
import re
import time
import zlib
from typing import Any

import keras
import tensorflow as tf

import tfobj
from tfobj.data.pipeline import BatchStream, evaluation_batches
from tfobj.errors import UserError
from tfobj.inference.schedules import stage_at
from tfobj.metrics.health import diagnose
from tfobj.training import machine
from tfobj.training.checkpoint import RunState, settle_config
from tfobj.training.evaluation import Evaluator, validation_score
from tfobj.training.experiment import build_model, open_scenes
from tfobj.training.optimizer import make_optimizer
from tfobj.training.peers import agree
from tfobj.training.step import make_train_step
from tfobj.training.strategy import advice, check_batch_size, distribute, peers_of, uses_xla
from tfobj.training.workdir import Signals, locked, write_machine
from tfobj.training.writers import Console, MetricsWriter

SAME_COMMAND = "Run the same command, with the same version of tfobj, on every worker; --print_config shows the settings of each."
SAME_DATA = "Every worker needs the same scenes under its --data_dir, or in its folder of pictures."
SAME_FOLDER = "--workdir must be one folder that all workers see."


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
      strategy: of `make_strategy`; one of several workers serves for one run.
      data_dir: TFDS data folder; None is its default.
      actions: callables of an `Evaluation`, called after each evaluation (figures, for example).

    Returns:
      `Finished`.

    Raises:
      UserError: the folder is in use, holds another configuration, cannot be written, or the batch cannot be divided;
        of several workers: they have not the same settings or scenes, or one of them is gone.
      TrainingDiverged: with the step and the terms; the last checkpoint is from before.
    """
    with peers_of(strategy) as peers, Signals() as signals:
        try:
            with (
                locked(workdir)
                if peers.is_chief
                else contextlib.nullcontext(pathlib.Path(workdir)) as folder
            ):
                return _start(experiment, folder, strategy, peers, data_dir, actions).until_done(
                    signals
                )
        except tf.errors.OpError as e:
            mistake = peers.explain(e)
            if mistake is None:
                raise
            raise mistake from e


def _start(experiment, workdir, strategy, peers, data_dir, actions):
    """Returns the `_Run`, its weights restored, on all workers the same."""
    config = experiment.train
    devices = len(strategy.extended.worker_devices)
    agree(
        peers,
        {
            "tfobj": tfobj.__version__,
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "devices": devices,
            **experiment.to_dict(),
        },
        SAME_COMMAND,
    )
    check_batch_size(strategy, config.batch_size, config.micro_batches)
    if peers.is_chief and (workdir / "config.json").exists():
        settle_config(workdir, experiment)  # refuse another configuration before any work
    if not peers.is_chief:
        peers.gather(None)  # the chief builds the dataset, if need be
    scenes, description = open_scenes(experiment, "train", data_dir)
    # A folder of pictures has one split: read once, held once.
    validation = (
        open_scenes(experiment, "validation", data_dir)[0] if experiment.data.has_splits else scenes
    )
    validation = validation.take(min(experiment.eval.num_scenes, len(validation)))
    if scenes.num_frames is not None:
        validation = _watched(validation, experiment)
        scenes = scenes if experiment.model.is_video else scenes.frames()
    if peers.is_chief:
        settle_config(workdir, experiment)  # after the data: a mistyped folder leaves no run behind
        write_machine(workdir, machine.describe())
        peers.gather(None)
    agree(
        peers,
        {
            "training scenes": len(scenes),
            "checksum of the first": zlib.crc32(scenes.image[0].tobytes()),
        },
        SAME_DATA,
    )
    with strategy.scope():
        model = build_model(experiment)
        optimizer = make_optimizer(config)
    step_function = make_train_step(strategy, model, optimizer, experiment)
    state = RunState(workdir, model, optimizer, config.keep_checkpoints)
    first_step = _restore(state, peers)
    console = Console(config.steps, first_step, experiment.model_name, enabled=peers.is_chief)
    console.say(f"{experiment.model_name}: {model.count_trainable():,} parameters; {description}")
    if peers.size > 1:
        console.say(
            f"{peers.size} workers with {devices} device{'s' * (devices > 1)} each; this one is the chief and reports."
        )
    for line in (
        *advice(strategy, config.precision),
        *(f"warning: {text}" for text in experiment.model.warnings()),
    ):
        console.say(line)
    if first_step:
        console.say(f"Continuing at step {first_step:,} of {config.steps:,}.")
    batches = StageBatches(scenes, config, model.stages(), experiment.seed, strategy)
    observer = None
    if peers.is_chief:
        evaluator = Evaluator(
            model,
            min(experiment.eval.batch_size, len(validation)),
            num_steps=experiment.eval.num_steps,
            xla=uses_xla(strategy, config.compile),
        )
        observer = _Observer(
            experiment,
            workdir,
            model,
            optimizer,
            evaluator,
            state,
            MetricsWriter(workdir, first_step),
            console,
            validation,
            actions,
        )
        if not first_step:
            observer.draw_graph()
    return _Run(config, step_function, batches, state, console, peers, observer)


def _watched(clips, experiment):
    """Returns what a run on clips looks at while it trains: first frames of clips, or first pictures of them for a model of pictures."""
    clips = clips.first_frames(
        min(experiment.eval.num_frames or clips.num_frames, clips.num_frames)
    )
    return clips if experiment.model.is_video else clips.first_frames(1).frames()


def _restore(state, peers):
    """Restores on all workers the checkpoint that the chief can read; returns its step."""
    chosen = peers.gather(state.restore() if peers.is_chief else None)[0]
    if not peers.is_chief:
        state.restore(chosen)
    agree(peers, {"step of the checkpoint": state.step}, SAME_FOLDER)
    return chosen


class _Run:
    """One process's share of a run."""

    def __init__(self, config, step_function, batches, state, console, peers, observer):
        self.config, self.step_function, self.batches, self.state = (
            config,
            step_function,
            batches,
            state,
        )
        self.console, self.peers, self.observer = console, peers, observer
        """`observer`: `_Observer` of the chief, None elsewhere."""

    def until_done(self, signals):
        """Runs to the last step or to a signal at any worker; saves in both cases."""
        try:
            step, stopped_by = self._steps(signals)
            if self.observer:
                self.state.save()
            self.peers.gather(None)  # nobody leaves before the chief has saved
            if stopped_by:
                self.console.say(
                    f"Stopped by {stopped_by} at step {step:,}; saved. The same command continues."
                )
            return Finished(step, interrupted=bool(stopped_by))
        finally:
            if self.observer:
                self.observer.writer.flush()
            self.console.close()

    def _steps(self, signals):
        """Returns (step, what stopped the run or None)."""
        config, step = self.config, self.state.step
        sums, num_summed, seconds = {}, 0, 0.0
        stopped_by = self._signal_anywhere(signals)
        while step < config.steps and not stopped_by:
            count = self._steps_to_next_event(step)
            start = time.perf_counter()
            terms, bad_step = self.step_function.run(self.batches.iterator(step), count)
            seconds += time.perf_counter() - start
            step += count
            if bad_step >= 0:  # everywhere: terms are means over all workers
                _stop_diverged(bad_step, terms)
            sums = {name: sums.get(name, 0.0) + value * count for name, value in terms.items()}
            num_summed += count
            self.console.advance(count, loss=terms["loss"])
            last = step == config.steps
            if step % config.log_every == 0 or last:
                if self.observer:
                    self.observer.log(
                        step,
                        {name: total / num_summed for name, total in sums.items()},
                        num_summed / seconds,
                        self.batches.batch_size,
                    )
                sums, num_summed, seconds = {}, 0, 0.0
            if self.observer and (step % config.eval_every == 0 or last):
                self.observer.evaluate(step)
            if self.observer and (step % config.checkpoint_every == 0 or last):
                self.state.save()
            stopped_by = None if last else self._signal_anywhere(signals)
        return step, stopped_by

    def _signal_anywhere(self, signals):
        """Returns the signal that any worker has received, with its number where there are several; None without."""
        for index, received in enumerate(self.peers.gather(signals.received)):
            if received:
                return f"{received} at worker {index}" if self.peers.size > 1 else received
        return None

    def _steps_to_next_event(self, step):
        config = self.config
        ends = [
            every - step % every
            for every in (config.log_every, config.eval_every, config.checkpoint_every)
        ]
        return min(
            config.steps_per_call, config.steps - step, *ends, *self.batches.steps_left(step)
        )


class StageBatches:
    """The batches of a run, stage by stage: of clips a stage says how long they are, and longer clips come in smaller batches.

    Args:
      scenes: `SceneArrays`.
      config: `TrainConfig`; `batch_size` is that of the first stage.
      stages: of `SceneModel.stages`.
      seed: of the order of the scenes.
      strategy: its replicas and `config.micro_batches` divide every batch.
    """

    def __init__(self, scenes, config, stages, seed, strategy):
        self._scenes, self._config, self._stages, self._seed, self._strategy = (
            scenes,
            config,
            stages,
            seed,
            strategy,
        )
        self._first_step = self._iterator = self.batch_size = None

    def iterator(self, step):
        """Returns the iterator whose next batch is that of the update after `step` finished ones."""
        start, stage = [entry for entry in self._stages if entry[0] <= step][-1]
        first_step = (
            0 if stage.num_frames is None else start
        )  # of the stream: pictures have one for all stages, clips one for each
        if first_step != self._first_step:
            self._first_step, self.batch_size = first_step, self._size(stage)
            stream = BatchStream(
                self._scenes, self.batch_size, seed=self._seed, num_frames=stage.num_frames
            )
            self._iterator = iter(
                distribute(self._strategy, stream.dataset(start_step=step - first_step))
            )
        return self._iterator

    def steps_left(self, step):
        """Returns (updates until the next stage,), or nothing after the last one."""
        _, change = stage_at(self._stages, step)
        return () if change is None else (change - step,)

    def _size(self, stage):
        if stage.num_frames is None:
            return self._config.batch_size
        unit = self._strategy.num_replicas_in_sync * self._config.micro_batches
        size = self._config.batch_size * self._stages[0][1].num_frames // stage.num_frames
        return max(size // unit, 1) * unit


class _Observer:
    """What the chief does with a run beside its steps: numbers, warnings, scores, figures, the best state."""

    def __init__(
        self,
        experiment,
        workdir,
        model,
        optimizer,
        evaluator,
        state,
        writer,
        console,
        validation,
        actions,
    ):
        self.experiment, self.workdir, self.model, self.optimizer = (
            experiment,
            workdir,
            model,
            optimizer,
        )
        self.evaluator, self.state, self.writer, self.console = evaluator, state, writer, console
        self.validation, self.actions = validation, actions
        self.probe = next(evaluation_batches(validation, evaluator.batch_size))["image"]
        self.best_step, self.met_step, self.warned = state.step, state.step, set()

    def draw_graph(self):
        """Writes the graph of the forward pass to TensorBoard."""
        self.writer.graph(self.evaluator.trace(self.probe).graph)

    def log(self, step, terms, steps_per_second, batch_size):
        health = self.evaluator.health(self.probe)
        rate = {
            "learning_rate": float(self.optimizer.learning_rate),
            "steps_per_second": steps_per_second,
            "images_per_second": steps_per_second * batch_size,
        }
        self.writer.write(
            step, "train", {**terms, **rate, **{f"health/{k}": v for k, v in health.items()}}
        )
        self.console.say(
            f"step {step:>8,}  loss {terms['loss']:.5g}  grad norm {terms['grad_norm']:.3g}  "
            f"{steps_per_second:.2f} steps/s  active slots {health['active_slots']:.2f}"
        )
        geco = {name: value for name, value in terms.items() if name.startswith("geco_")}
        if geco.get("geco_constraint", 0.0) >= 0.0:
            self.met_step = step
        warnings = diagnose(
            {**health, **geco, "loss": terms["loss"]},
            num_slots=self.experiment.model.num_slots,
            step=step,
            steps_without_improvement=step - self.best_step,
            constraint_missed=(step - self.met_step) / self.experiment.train.steps,
        )
        for warning in warnings:
            kind = re.sub("[0-9., %]+", " ", warning.split(":")[0])
            if kind not in self.warned:  # once per run: the numbers go on in metrics.jsonl
                self.warned.add(kind)
                self.console.say(f"warning: {warning}")

    def evaluate(self, step):
        summary = self.evaluator.score(self.validation).summary()
        self.writer.write(step, "validation", summary)
        if self.state.save_best(validation_score(summary, self.experiment.eval.best_metric)):
            self.best_step = step
        scores = "  ".join(
            f"{name} {summary[name]:.4f}"
            for name in ("fg_ari", "ari", "miou", "aiou", "dpa_30", "mse")
            if name in summary
        )
        self.console.say(f"step {step:>8,}  validation  {scores}")
        for action in self.actions:
            action(
                Evaluation(
                    step,
                    self.workdir,
                    self.model,
                    self.evaluator,
                    self.validation,
                    summary,
                    self.writer,
                )
            )


def _stop_diverged(bad_step, terms):
    broken = ", ".join(
        sorted(
            name for name, value in terms.items() if value != value or abs(value) == float("inf")
        )
    )
    raise TrainingDiverged(
        f"The loss is not finite since step {bad_step:,} (not finite in these steps: {broken}). The last checkpoint, from before, is intact. "
        "Look for NaN in the data; else try a lower train.learning_rate, train.clip_norm=1, or train.precision=float32."
    )
