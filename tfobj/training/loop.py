"""The outer loop: run the inner loop, log, evaluate, save, act; resume a run that was killed.

Three layers make a run: the step and the inner loop (`step`), and this loop around them. Several
workers make the same steps and talk between the calls of the inner loop (`peers`): on whether to
stop, and at the start on the settings, the data and the checkpoint. Only the chief evaluates and
writes (`observer`); the others wait for it at the next talk. Weights are mirrored, so those of the
chief are those of all.
"""

import contextlib
import dataclasses
import math
import pathlib
import time
import zlib

import keras
import tensorflow as tf

import tfobj
from tfobj import files
from tfobj.errors import UserError
from tfobj.training import machine, precision
from tfobj.training.checkpoint import RunState, load_weights
from tfobj.training.data_record import DataRecord
from tfobj.training.evaluation import Evaluator
from tfobj.training.experiment import build_model, expected_duration, open_scenes
from tfobj.training.memory import plan_memory
from tfobj.training.observer import Observer
from tfobj.training.optimizer import make_optimizer
from tfobj.training.peers import agree
from tfobj.training.run_folder import (
    check_config,
    with_precision_of_run,
    write_or_check_config,
)
from tfobj.training.stage_batches import StageBatches
from tfobj.training.step import make_train_step
from tfobj.training.strategy import (
    advice,
    check_batch_size,
    explained_errors,
    peers_of,
    uses_xla,
)
from tfobj.training.workdir import Signals, locked, write_machine
from tfobj.training.writers import Console, MetricsWriter

SAME_COMMAND = (
    "Run the same command, with the same version of tfobj, on every worker; --print_config shows "
    "the settings of each."
)
SAME_DATA = "Every worker needs the same scenes under its --data_dir, or in its folder of pictures."
SAME_FOLDER = "--workdir must be one folder that all workers see."


class TrainingDiverged(UserError):
    """The loss is no longer finite."""


@dataclasses.dataclass(frozen=True)
class Finished:
    """How a run ended."""

    step: int
    interrupted: bool
    """By a signal; the state is saved, and the same command resumes the run."""


def train(
    experiment,
    workdir,
    strategy,
    data_dir=None,
    actions=(),
    accept_new_data=False,
    init_from=None,
):
    """Trains until `experiment.train.steps`, from the beginning or from the newest checkpoint.

    A run that was killed at any moment and resumed has, on one device, bit for bit the weights of
    one that was not.

    Args:
      experiment: `ExperimentConfig`.
      workdir: folder of the run.
      strategy: of `make_strategy`; one of several workers serves for one run.
      data_dir: TFDS data folder; None is its default.
      actions: callables of an `observer.Evaluation`, called after each evaluation (figures, for
        example).
      accept_new_data: whether a run may resume with other data than it was trained on.
      init_from: folder of a run with whose weights a new run begins; None: those of its seed.

    Returns:
      `Finished`.

    Raises:
      UserError: the folder is in use, holds another configuration, was trained on other data,
        cannot be written, or the batch cannot be divided; of several workers: they have not the
        same settings or scenes, or one of them is gone.
      TrainingDiverged: with the step and the terms; the last checkpoint is from before.
    """
    with contextlib.ExitStack() as stack:
        peers = stack.enter_context(peers_of(strategy))
        signals = stack.enter_context(Signals())

        # The lock is left first: an explanation takes a while, and the folder is free meanwhile.
        stack.enter_context(explained_errors(peers))
        folder = pathlib.Path(workdir)
        if peers.is_chief:
            folder = stack.enter_context(locked(workdir))
        run = _start(
            experiment, folder, strategy, peers, data_dir, actions, accept_new_data, init_from
        )
        return run.until_done(signals)


def _start(experiment, workdir, strategy, peers, data_dir, actions, accept_new_data, init_from):
    """Returns the `_Run`, its weights restored, on all workers the same."""
    devices = len(strategy.extended.worker_devices)
    versions = {
        "tfobj": tfobj.__version__,
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
    }
    facts = {**versions, "devices": devices, "init_from": init_from and str(init_from)}
    agree(peers, {**facts, **experiment.to_dict()}, SAME_COMMAND)
    chosen_by = experiment.train.precision
    experiment = _decide_precision(experiment, workdir, strategy, peers)
    config = experiment.train
    check_batch_size(strategy, config.batch_size, config.micro_batches)

    # Another configuration is refused before any work.
    if peers.is_chief:
        files.remove_partial_files(workdir)
        check_config(workdir, experiment)

    # The others wait while the chief builds the dataset, if need be.
    if not peers.is_chief:
        peers.gather(None)
    scenes, validation, description = _open_data(experiment, data_dir)
    if peers.is_chief:
        data = DataRecord(workdir, experiment, scenes, accept_new_data)
        peers.gather(None)
    checksum = zlib.crc32(scenes.image[0].tobytes())
    agree(peers, {"training scenes": len(scenes), "checksum of the first": checksum}, SAME_DATA)

    with strategy.scope():
        model = build_model(experiment)
        optimizer = make_optimizer(config)
    step_function = make_train_step(strategy, model, optimizer, experiment)
    damage = []
    state = RunState(workdir, model, optimizer, config.keep_checkpoints, damage.append)
    first_step = _restore(state, peers)
    if init_from and not first_step:
        load_weights(model, init_from, damage.append)
        optimizer.begin_averages()

    console = Console(
        config.steps,
        first_step,
        experiment.model_name,
        enabled=peers.is_chief,
        eval_every=config.eval_every,
    )
    console.say(f"{experiment.model_name}: {model.count_trainable():,} parameters; {description}")
    duration = expected_duration(experiment)
    if duration and not first_step:
        console.say(f"The preset {experiment.preset} takes {duration}.")
    if peers.size > 1:
        console.say(
            f"{peers.size} workers with {devices} device{'s' * (devices > 1)} each; this one is "
            "the chief and reports."
        )
    for line in damage:
        console.say(line)
    if chosen_by == "auto":
        console.say(f"train.precision=auto is {config.precision} in this run.")
    if config.memory == "low":
        plan = plan_memory(experiment, model, strategy.num_replicas_in_sync)
        console.say(f"train.memory=low: {plan.reason or 'as micro_batches and rematerialise say'}.")
    for line in advice(strategy, config.precision):
        console.say(line)
    for text in experiment.model.warnings():
        console.say(f"warning: {text}")
    if first_step:
        console.say(f"Resuming at step {first_step:,} of {config.steps:,}.")
    elif init_from:
        console.say(f"Beginning with the weights of {init_from}.")

    batches = StageBatches(scenes, config, model.stages(), experiment.seed, strategy)
    observer = None
    begin = None
    if peers.is_chief:
        writer = MetricsWriter(workdir, first_step)
        if writer.warning:
            console.say(writer.warning)
        if data.difference is not None:
            console.say(f"Continuing with new data: {data.difference}.")
        evaluator = Evaluator(
            model,
            min(experiment.eval.batch_size, len(validation)),
            num_steps=experiment.eval.num_steps,
            xla=uses_xla(strategy, config.compile),
        )
        observer = Observer(
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
        )

        def begin():
            write_or_check_config(workdir, experiment)
            data.write(first_step)
            write_machine(workdir, machine.describe())

    return _Run(config, step_function, batches, state, console, peers, observer, begin)


def _decide_precision(experiment, workdir, strategy, peers):
    """Returns the experiment with what `train.precision=auto` becomes on the chief.

    A run that goes on keeps its precision, whatever processor goes on with it.
    """
    if experiment.train.precision != "auto":
        return experiment
    decided = None
    if peers.is_chief:
        kept = with_precision_of_run(workdir, experiment).train.precision
        decided = precision.decide(kept, strategy.extended.worker_devices)
    return experiment.override({"train.precision": peers.gather(decided)[0]})


def _open_data(experiment, data_dir):
    """Returns (training scenes, validation scenes, the line that says what they are)."""
    scenes, description = open_scenes(experiment, "train", data_dir)
    # A folder of pictures has one split: it is read once and held once.
    validation = scenes
    if experiment.data.has_splits:
        validation, _ = open_scenes(experiment, "validation", data_dir)
    validation = validation.take(min(experiment.eval.num_scenes, len(validation)))

    if scenes.num_frames is not None:
        validation = _validation_clips(validation, experiment)
        if not experiment.model.is_video:
            scenes = scenes.frames()
    return scenes, validation, description


def _validation_clips(clips, experiment):
    """Returns what a run on clips is validated on.

    A video model sees the first frames of each clip; an image model sees only the first one.
    """
    clips = clips.first_frames(experiment.eval.scored_frames(clips.num_frames))
    if experiment.model.is_video:
        return clips
    return clips.first_frames(1).frames()


def _restore(state, peers):
    """Restores on all workers the checkpoint that the chief can read; returns its step."""
    if peers.is_chief:
        state.recover()
        chosen = peers.gather(state.restore())[0]
    else:
        chosen = peers.gather(None)[0]
        state.restore(chosen)
    agree(peers, {"step of the checkpoint": state.step}, SAME_FOLDER)
    return chosen


class _Run:
    """One process's share of a run.

    Args:
      config: `TrainConfig`.
      step_function: `TrainStep`.
      batches: `StageBatches`.
      state: `RunState`.
      console: `Console`.
      peers: `Peers` or `SingleWorker`.
      observer: `Observer` of the chief, None elsewhere.
      begin: function of the chief that writes what makes the folder that of this run, None
        elsewhere. It is called after the first updates: a start that fails leaves no run behind,
        whose settings would have to be repeated.
    """

    def __init__(self, config, step_function, batches, state, console, peers, observer, begin):
        self.config = config
        self.step_function = step_function
        self.batches = batches
        self.state = state
        self.console = console
        self.peers = peers
        self.observer = observer
        self._begin = begin

    def until_done(self, signals):
        """Runs to the last step or to a signal at any worker; saves in both cases."""
        try:
            step, stopped_by = self._steps(signals)
            self._begin_once()
            if self.observer:
                self.state.save()

            # Nobody leaves before the chief has saved.
            self.peers.gather(None)
            if stopped_by:
                self.console.say(
                    f"Stopped by {stopped_by} at step {step:,}; saved. "
                    "Rerun the same command to resume."
                )
            return Finished(step, interrupted=bool(stopped_by))
        finally:
            if self.observer:
                self.observer.writer.flush()
            self.console.close()

    def _begin_once(self):
        if self._begin is not None:
            self._begin()
            self._begin = None

    def _steps(self, signals):
        """Returns (step, what stopped the run or None)."""
        config = self.config
        step = self.state.step
        means = _Means()
        stopped_by = self._signal_anywhere(signals)
        while step < config.steps and not stopped_by:
            count = self._steps_to_next_event(step)
            start = time.perf_counter()
            terms, bad_step = self.step_function.run(self.batches.iterator(step), count)
            seconds = time.perf_counter() - start
            step += count

            # Terms are means over all workers, so all of them stop here.
            if bad_step >= 0:
                _stop_diverged(bad_step, terms)
            self._begin_once()
            compiled = self.step_function.compiled
            means.add(terms, count, seconds, compiled)
            self.console.advance(count, None if compiled else seconds, loss=terms["loss"])

            # The last step is logged, scored and saved whatever the intervals.
            last = step == config.steps
            if step % config.log_every == 0 or last:
                if self.observer:
                    self.observer.log(
                        step, means.terms(), means.steps_per_second, self.batches.batch_size
                    )
                means = _Means()
            if self.observer and (step % config.eval_every == 0 or last):
                self.observer.evaluate(step)
            if self.observer and (step % config.checkpoint_every == 0 or last):
                # Events first: those of saved steps are not written again after a kill.
                self.observer.writer.flush()
                self.state.save()
            if not last:
                stopped_by = self._signal_anywhere(signals)
        return step, stopped_by

    def _signal_anywhere(self, signals):
        """Returns the signal that any worker has received, None without.

        Where there are several workers it names the one.
        """
        for index, received in enumerate(self.peers.gather(signals.received)):
            if received:
                where = f" at worker {index}" if self.peers.size > 1 else ""
                return received + where
        return None

    def _steps_to_next_event(self, step):
        config = self.config
        intervals = (config.log_every, config.eval_every, config.checkpoint_every)
        return min(
            config.steps_per_call,
            config.steps - step,
            *(every - step % every for every in intervals),
            *self.batches.steps_left(step),
        )


class _Means:
    """Means of the terms of several calls of the inner loop, weighted by their steps."""

    def __init__(self):
        self._sums = {}
        self._num_steps = 0
        self._timed = {True: (0, 0.0), False: (0, 0.0)}

    def add(self, terms, num_steps, seconds, compiled=False):
        # Terms of other stages than the last are dropped.
        self._sums = {
            name: self._sums.get(name, 0.0) + value * num_steps for name, value in terms.items()
        }
        self._num_steps += num_steps
        count, total = self._timed[compiled]
        self._timed[compiled] = (count + num_steps, total + seconds)

    def terms(self):
        return {name: total / self._num_steps for name, total in self._sums.items()}

    @property
    def steps_per_second(self):
        # Calls that compiled count only where there are no others.
        count, seconds = self._timed[False]
        if not count:
            count, seconds = self._timed[True]
        return count / seconds


def _stop_diverged(bad_step, terms):
    broken = sorted(name for name, value in terms.items() if not math.isfinite(value))
    raise TrainingDiverged(
        f"The loss is not finite since step {bad_step:,} (not finite in these steps: "
        f"{', '.join(broken)}). The last checkpoint, from before, is intact. Look for NaN in the "
        "data; otherwise try a lower train.learning_rate, train.clip_norm=1, or "
        "train.precision=float32."
    )
