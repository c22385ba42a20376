"""Trains from an exported folder on a host with JAX and NumPy.

It is the loop of `tfobj.training.loop` without TensorFlow.

    <workdir>/manifest.json    of the folder that was run
    <workdir>/state/           the last two states, as `launch/import_state.py` reads them
    <workdir>/metrics.jsonl    as in every run
    <workdir>/evaluation.json  scores of the last evaluation
    <workdir>/machine.json     hardware, software and command

A run can be killed at any time; rerun the same command to resume it. Batches, noise and learning
rate are functions of the step, so the step is their state.
"""

import dataclasses
import math
import pathlib
import time
import zlib

import numpy as np

from tfobj import threads
from tfobj.config import differences
from tfobj.data.pipeline import BatchStream
from tfobj.errors import UserError
from tfobj.portable import artifact, program, records, scenes, scoring
from tfobj.training.workdir import Rows, Signals, locked, write_evaluation, write_machine

PREFETCHED = 4
"""Batches that are put on the device before they are needed."""


@dataclasses.dataclass(frozen=True)
class Options:
    """The options of `launch/run_step.py`; None takes the experiment's own setting."""

    steps: int | None = None
    save_every: int | None = None
    eval_every: int | None = None
    log_every: int | None = None
    minutes: float | None = None
    """Save and stop in time to end within so many minutes."""
    data: str | None = None
    """`scenes.GENERATE`, or an .npz file or folder; None: the folder's own data, or drawn anew."""
    platform: str | None = None
    command: str = ""

    def __post_init__(self):
        for name in ("steps", "save_every", "eval_every", "log_every", "minutes"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UserError(f"`--{name}` must be positive. Received: {value}.")


DEFAULT_OPTIONS = Options()


def run(folder, workdir, options=DEFAULT_OPTIONS):
    """Trains until the last step, from the beginning or from the newest state in `workdir`.

    Args:
      folder: folder of the exported run.
      workdir: folder of this run.
      options: `Options`.

    Returns:
      (step, finished): updates made, and whether that is all of them.

    Raises:
      UserError: a damaged or unfitting folder, state or data; no usable JAX; a loss that is not
        finite.
    """
    started = time.monotonic()
    manifest = artifact.read_manifest(folder)
    with locked(workdir) as workdir, Signals() as signals:
        _check_same_run(workdir, manifest)
        records.remove_partial_states(workdir)
        resumed = records.newest_state(workdir)
        summary, state = resumed or artifact.read_state(pathlib.Path(folder) / artifact.STATE)
        where = f"`{workdir if resumed else folder}`"
        artifact.check_same_variables(manifest["variables"], summary["variables"], where)

        # JAX starts after the folder has been checked: it takes seconds, and the GPU.
        jax = program.start_jax(options.platform)
        train, evaluation = open_data(folder, manifest, options.data)
        data = {"num_train": len(train), "checksum": zlib.crc32(np.ascontiguousarray(train.image))}
        if resumed and summary.get("data") != data:
            raise UserError(
                f"`{workdir}` was trained on other scenes: {summary.get('data')}. "
                f"Received: {data}. Repeat the old --data to resume it."
            )

        artifact.write_manifest(workdir, manifest)
        host = {**program.describe_host(jax), "command": options.command}
        write_machine(workdir, host)
        loop = _Loop(
            jax,
            folder,
            workdir,
            manifest,
            options,
            state,
            bool(resumed),
            train,
            evaluation,
            data,
            host,
            started,
        )
        return loop.until_done(signals)


def open_data(folder, manifest, data=None):
    """Opens the scenes of an exported folder.

    Args:
      folder: folder of the exported run.
      manifest: its manifest.
      data: as in `Options`.

    Returns:
      (training scenes, evaluation scenes or None).

    Raises:
      UserError: there are none, they are of another size, or fewer than a batch.
    """
    train, evaluation = _read_data(folder, data)
    protocol = scenes.protocol_of(manifest["steps"][0]["config"]["data"])
    if train is None:
        train = scenes.generate(protocol, "train", with_masks=False)
    if evaluation is None and scenes.can_generate(protocol):
        evaluation = scenes.generate(protocol, "test", scenes.NUM_EVALUATION)

    scenes.check(train, manifest, "Training scenes")
    if evaluation is not None:
        scenes.check(evaluation, manifest, "Evaluation scenes")
    if manifest["num_frames"] is not None and manifest["steps"][0]["num_frames"] is None:
        train = train.frames()  # A model of images trains on the frames of clips.
    for entry in manifest["steps"]:
        count = _stream(train, manifest, entry).num_scenes
        if entry["batch_size"] > count:
            raise UserError(
                f"Training scenes must be at least the batch of {entry['batch_size']} for which "
                f"the step was exported. Received: {count}."
            )
    return train, evaluation


def _stream(train, manifest, entry):
    """Returns the `BatchStream` of a stage."""
    return BatchStream(
        train, entry["batch_size"], seed=manifest["seed"], num_frames=entry["num_frames"]
    )


def _read_data(folder, data):
    """Returns (training scenes, evaluation scenes) from files, None for each that is not there."""
    own = pathlib.Path(folder) / artifact.DATA
    if data == scenes.GENERATE or (data is None and not own.is_dir()):
        return None, None

    chosen = own
    evaluation = None
    if data is not None:
        chosen = pathlib.Path(data).expanduser()
    train = scenes.read(chosen)
    if chosen.is_dir():
        evaluation = scenes.read(chosen, "evaluation")
    if train is None and data is not None:
        raise UserError(
            f"`--data` must be {scenes.GENERATE}, an .npz file, or a folder with train_000.npz. "
            f"Received: {data}."
        )
    return train, evaluation


class _Time:
    """The seconds that a run has, and those that its parts take.

    Args:
      deadline: of the monotonic clock.
    """

    def __init__(self, deadline):
        self._deadline = deadline
        self.step = 0.0
        self.save = 1.0
        self.evaluate = 0.0

    def is_left(self, extra=0.0):
        """Whether another step, what is in flight and a save end before the deadline."""
        steps = (program.MAX_IN_FLIGHT + 1) * self.step
        return time.monotonic() + extra + steps + 2.0 * self.save < self._deadline


class _Loop:
    """One process's share of a run.

    Args:
      jax: the module, from `program.start_jax`.
      folder, manifest: the exported run.
      workdir: folder of this run.
      options: `Options`.
      state: name -> array, all variables.
      resumed: whether the state is one of this run.
      train, evaluation: `SceneArrays`; no evaluation is None.
      data: facts of the scenes, for the saved states.
      host: facts of the machine.
      started: when the program started, by the monotonic clock.
    """

    def __init__(
        self,
        jax,
        folder,
        workdir,
        manifest,
        options,
        state,
        resumed,
        train,
        evaluation,
        data,
        host,
        started,
    ):
        self.jax = jax
        self.folder = folder
        self.workdir = workdir
        self.manifest = manifest
        self.train = train
        self.evaluation = evaluation
        self.data = data
        self.host = host

        config = manifest["steps"][-1]["config"]["train"]
        self.last_step = options.steps or config["steps"]
        self.every = {
            "log": options.log_every or config["log_every"],
            "evaluate": options.eval_every or config["eval_every"],
            "save": options.save_every or config["checkpoint_every"],
        }
        minutes = options.minutes or math.inf
        self.time = _Time(started + 60.0 * minutes)
        first = int(state[manifest["counter"]])
        self.saved_at = None
        if resumed:
            self.saved_at = first
        self.rows = Rows(workdir, first)

        self.progress = records.Progress(first, self.last_step)
        self.progress.say(
            f"{manifest['steps'][0]['model']}: {len(train):,} scenes, batches of "
            f"{manifest['batch_size']}; {host['hardware']}; {host['software']}"
        )
        if self.rows.warning:
            self.progress.say(self.rows.warning)
        if resumed:
            self.progress.say(f"Resuming at step {first:,} of {self.last_step:,}.")
        self._load_program(state)

    def _batches(self):
        """Yields the images of the batches to come, on the device."""
        begin = self.trainer.step
        while begin < self.last_step:
            entry, end = artifact.program_at(self.manifest, begin)
            end = min(end or self.last_step, self.last_step)
            stream = _stream(self.train, self.manifest, entry)
            for step in range(begin, end):
                yield self.jax.device_put(stream.batch(step - entry["stream_start"])["image"])
            begin = end

    def until_done(self, signals):
        """Runs to the last step, to a signal or to the end of its time; saves in all cases."""
        waiting = []  # Metrics of steps that the device may not have finished.
        metrics = []  # Those of finished steps since the last log.
        seconds = 0.0
        mark = time.monotonic()
        with threads.read_ahead(self._batches(), PREFETCHED) as batches:
            while self.trainer.step < self.last_step and not signals.received:
                if not self.time.is_left():
                    break
                waiting.append(self.trainer.advance(next(batches)))
                step = self.trainer.step
                self.progress.show(step)

                # An estimate until the next event, where the host waits for the device.
                estimate = (time.monotonic() - mark) / len(waiting)
                self.time.step = max(self.time.step, estimate)
                due = self._due(step)
                if not due and step != self.end:
                    continue

                metrics += self._finite(self.jax.device_get(waiting))
                waiting = []
                self.progress.measured(step, time.monotonic() - mark)
                seconds += time.monotonic() - mark
                self.time.step = seconds / len(metrics)
                if "log" in due:
                    self._log(np.mean(metrics, axis=0, dtype=np.float64))
                    metrics = []
                    seconds = 0.0
                if "save" in due:
                    self._save()
                if "evaluate" in due and self.time.is_left(self.time.evaluate):
                    self._evaluate()
                if step == self.end and step < self.last_step:
                    self._load_program(self.trainer.state())
                mark = time.monotonic()

            self._finite(self.jax.device_get(waiting))
            self._save()

        step = self.trainer.step
        if step < self.last_step:
            why = "before its time was over"
            if signals.received:
                why = f"by {signals.received}"
            self.progress.say(
                f"Stopped {why} at step {step:,}; saved. Rerun the same command to resume."
            )
        return step, step >= self.last_step

    def _due(self, step):
        """Returns the names of the events that follow the step."""
        if step == self.last_step:
            return set(self.every)
        return {event for event, every in self.every.items() if step % every == 0}

    def _load_program(self, state):
        """Makes the programs in force at the state's step those that run.

        `end` is the step of their last update, or None.
        """
        start = time.monotonic()
        step = int(state[self.manifest["counter"]])
        self.entry, self.end = artifact.program_at(self.manifest, step)
        self.progress.say(f"Compiling {self.entry['file']} ...")
        self.trainer = program.Trainer(
            self.jax, self.folder, self.entry, self.manifest["seed"], state
        )
        self.forward = program.Forward(self.jax, self.folder, self.entry["forward"])
        self.progress.say(f"Compiled in {time.monotonic() - start:.0f} s.")

    def _finite(self, metrics):
        """Returns the metrics of the last steps.

        Raises:
          UserError: names the first step whose loss is not finite.
        """
        names = self.trainer.metrics
        loss = names.index("loss")
        for number, values in enumerate(metrics):
            if math.isfinite(values[loss]):
                continue

            step = self.trainer.step - len(metrics) + number
            broken = [n for n, v in zip(names, values, strict=True) if not math.isfinite(v)]
            raise UserError(
                f"The loss is not finite since step {step:,} (not finite in this step: "
                f"{', '.join(broken)}). The last saved state, from before, is intact. Look for NaN "
                "in the data; otherwise export with a lower train.learning_rate or "
                "train.clip_norm=1."
            )
        return metrics

    def _log(self, means):
        step = self.trainer.step
        rate = 1.0 / self.time.step
        numbers = dict(zip(self.trainer.metrics, map(float, means), strict=True))
        rates = {
            "learning_rate": self.trainer.learning_rate,
            "steps_per_second": rate,
            "images_per_second": rate * self.entry["batch_size"],
        }
        self.rows.write(step, "train", {**numbers, **rates})
        self.progress.log(step, numbers, rate)

    def _save(self):
        step = self.trainer.step
        if self.saved_at == step:
            return
        start = time.monotonic()
        records.save_state(self.workdir, step, self.trainer.state(), data=self.data)
        self.saved_at = step
        self.time.save = time.monotonic() - start

    def _evaluate(self):
        if self.evaluation is None:
            return

        start = time.monotonic()
        step = self.trainer.step
        forward = self.entry["forward"]
        evaluation = self.evaluation
        if forward["num_frames"] is not None:
            evaluation = evaluation.first_frames(forward["num_frames"])
        variables = self.trainer.variables
        summary = scoring.score(
            lambda image, seed: self.forward(variables, image, seed),
            evaluation,
            forward["batch_size"],
            forward["seed"],
        )
        self.rows.write(step, "test", summary)

        # A folder of pictures has no protocol.
        protocol = scenes.protocol_of(self.entry["config"]["data"])
        write_evaluation(
            self.workdir / "evaluation.json",
            summary,
            model=self.entry["model"],
            preset=self.entry["config"]["preset"],
            protocol=protocol.describe("test") if protocol else self.manifest["protocol"],
            split="test",
            step=step,
            checkpoint="latest",
            seed=self.manifest["seed"],
            inference_seed=forward["seed"],
            num_slots=self.entry["num_slots"],
            config_fingerprint=self.entry["fingerprint"],
            **self.host,
        )
        names = [name for name in ("fg_ari", "ari", "mse") if name in summary]
        scores = "  ".join(f"{name} {summary[name]:.4f}" for name in names)
        self.progress.say(f"step {step:>8,}  test  {scores}")
        self.time.evaluate = time.monotonic() - start


def _check_same_run(workdir, manifest):
    """Checks that `workdir` holds no run of another experiment; stages may have been appended.

    Raises:
      UserError: it does; lists the settings that differ.
    """
    if not (workdir / artifact.MANIFEST).exists():
        return
    old = artifact.read_manifest(workdir)["steps"]

    changed = [
        line
        for before, now in zip(old, manifest["steps"], strict=False)
        for line in differences(before["config"], now["config"])
    ]
    if changed:
        raise UserError(
            f"`{workdir}` holds a run with other settings: {'; '.join(changed)}. "
            "Choose another --workdir."
        )
