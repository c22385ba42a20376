"""Training from an exported folder, on a host with JAX and NumPy: the loop of `tfobj.training.loop` without TensorFlow.

    <workdir>/manifest.json    of the folder that was run
    <workdir>/state/           the last two states, as `launch/import_state.py` reads them
    <workdir>/metrics.jsonl    as in every run
    <workdir>/evaluation.json  scores of the last evaluation
    <workdir>/machine.json     hardware, software and command

A run can be killed at any time and continued by the same command: batches, noise and learning rate are functions of the
step, so the step is their state.
"""

import dataclasses
import math
import pathlib
import queue
import threading
import time
import zlib

import numpy as np

from tfobj.config import differences
from tfobj.data.pipeline import BatchStream
from tfobj.errors import UserError
from tfobj.portable import artifact, program, records, scenes, scoring
from tfobj.training.workdir import Rows, Signals, locked, write_evaluation, write_machine

PREFETCHED = 4
"""Batches on the device before they are needed."""


@dataclasses.dataclass(frozen=True)
class Options:
    """What `launch/run_step.py` can be told; None takes the experiment's own setting."""

    steps: int | None = None
    save_every: int | None = None
    eval_every: int | None = None
    log_every: int | None = None
    minutes: float | None = None
    """Save and stop in time to end within so many minutes."""
    data: str | None = None
    """`scenes.GENERATE`, or an .npz file or folder; None: the folder's own data, else drawn anew."""
    platform: str | None = None
    command: str = ""

    def __post_init__(self):
        for name in ("steps", "save_every", "eval_every", "log_every", "minutes"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UserError(f"`--{name}` must be positive. Received: {value}.")


def run(folder, workdir, options=Options()):
    """Trains from `folder` until the last step, from the beginning or from the newest state in `workdir`.

    Returns:
      (step, finished): updates made, and whether that is all of them.

    Raises:
      UserError: a damaged or unfitting folder, state or data; no usable JAX; a loss that is not finite.
    """
    started = time.monotonic()
    manifest = artifact.read_manifest(folder)
    with locked(workdir) as workdir, Signals() as signals:
        _check_same_run(workdir, manifest)
        resumed = records.newest_state(workdir)
        summary, state = resumed or artifact.read_state(pathlib.Path(folder) / artifact.STATE)
        artifact.check_same_variables(
            manifest["variables"], summary["variables"], f"`{workdir if resumed else folder}`"
        )
        jax = program.start_jax(options.platform)
        train, evaluation = open_data(folder, manifest, options.data)
        data = {"num_train": len(train), "checksum": zlib.crc32(np.ascontiguousarray(train.image))}
        if resumed and summary["data"] != data:
            raise UserError(
                f"`{workdir}` was trained on other scenes: {summary['data']}. Received: {data}. Repeat the old --data to continue it."
            )
        artifact.write_manifest(workdir, manifest)
        host = {**program.describe_host(jax), "command": options.command}
        write_machine(workdir, host)
        return _Loop(
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
        ).until_done(signals)


def open_data(folder, manifest, data=None):
    """Returns (training scenes, evaluation scenes or None) of a folder.

    Raises:
      UserError: there are none, they are of another size, or fewer than a batch.
    """
    own = pathlib.Path(folder) / artifact.DATA
    config = manifest["steps"][0]["config"]["data"]
    train = evaluation = None
    if data != scenes.GENERATE and (data is not None or own.is_dir()):
        chosen = own if data is None else pathlib.Path(data).expanduser()
        train = scenes.read(chosen)
        evaluation = scenes.read(chosen, "evaluation") if chosen.is_dir() else None
        if train is None and data is not None:
            raise UserError(
                f"`--data` must be {scenes.GENERATE}, an .npz file, or a folder with train_000.npz. Received: {data}."
            )
    if train is None:
        train = scenes.generate(scenes.protocol_of(config), "train", with_masks=False)
    if (
        evaluation is None
        and (protocol := scenes.protocol_of(config))
        and scenes.can_generate(protocol)
    ):
        evaluation = scenes.generate(protocol, "test", scenes.NUM_EVALUATION)
    for split, name in ((train, "Training scenes"), (evaluation, "Evaluation scenes")):
        if split is not None:
            scenes.check(split, manifest, name)
    if manifest["batch_size"] > len(train):
        raise UserError(
            f"Training scenes must be at least the batch of {manifest['batch_size']} for which the step was exported. Received: {len(train)}."
        )
    return train, evaluation


class _Loop:
    """One process's share of a run."""

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
        config = manifest["steps"][-1]["config"]["train"]
        self.jax, self.folder, self.workdir, self.manifest = jax, folder, workdir, manifest
        self.evaluation, self.data, self.host = evaluation, data, host
        self.last_step = options.steps or config["steps"]
        self.every = {
            "log": options.log_every or config["log_every"],
            "evaluate": options.eval_every or config["eval_every"],
            "save": options.save_every or config["checkpoint_every"],
        }
        self.deadline = started + 60.0 * options.minutes if options.minutes else math.inf
        self.stream = BatchStream(train, manifest["batch_size"], seed=manifest["seed"])
        first = int(state[manifest["counter"]])
        self.saved_at, self.save_seconds, self.step_seconds, self.evaluate_seconds = (
            first if resumed else None,
            1.0,
            0.0,
            0.0,
        )
        self.rows = Rows(workdir, first)
        self.progress = records.Progress(first, self.last_step)
        self.progress.say(
            f"{manifest['steps'][0]['model']}: {len(train):,} scenes, batches of {manifest['batch_size']}; {host['hardware']}; "
            f"{host['software']}"
        )
        if resumed:
            self.progress.say(f"Continuing at step {first:,} of {self.last_step:,}.")
        self._load_program(state)
        self.progress.restart()

    def until_done(self, signals):
        """Runs to the last step, to a signal or to the end of its time; saves in all cases."""
        waiting, metrics, seconds = [], [], 0.0  # of the steps since the last log
        mark = time.monotonic()
        with _Batches(self.jax, self.stream, self.trainer.step, self.last_step) as batches:
            while self.trainer.step < self.last_step and not signals.received and self._has_time():
                waiting.append(self.trainer.advance(batches.next()))
                step = self.trainer.step
                self.progress.show(step)
                self.step_seconds = max(
                    self.step_seconds, (time.monotonic() - mark) / len(waiting)
                )  # until the next event measures it
                due = {
                    event
                    for event, every in self.every.items()
                    if step % every == 0 or step == self.last_step
                }
                if due or step == self.end:
                    metrics += self._finite(self.jax.device_get(waiting))
                    waiting, seconds = [], seconds + time.monotonic() - mark
                    self.step_seconds = seconds / len(metrics)
                if "log" in due:
                    self._log(np.mean(metrics, axis=0, dtype=np.float64))
                    metrics, seconds = [], 0.0
                if "save" in due:
                    self._save()
                if "evaluate" in due and self._has_time(self.evaluate_seconds):
                    self._evaluate()
                if step == self.end and step < self.last_step:
                    self._load_program(self.trainer.state())
                if due:
                    mark = time.monotonic()
            self._finite(self.jax.device_get(waiting))
            self._save()
        if self.trainer.step < self.last_step:
            why = f"by {signals.received}" if signals.received else "before its time was over"
            self.progress.say(
                f"Stopped {why} at step {self.trainer.step:,}; saved. The same command continues."
            )
        return self.trainer.step, self.trainer.step >= self.last_step

    def _load_program(self, state):
        """Makes the programs in force at the state's step those that run; `end` is the step of their last update, or None."""
        step, start = int(state[self.manifest["counter"]]), time.monotonic()
        self.entry, self.end = artifact.program_at(self.manifest, step)
        self.progress.say(f"Compiling {self.entry['file']} ...")
        self.trainer = program.Trainer(
            self.jax, self.folder, self.entry, self.manifest["seed"], state
        )
        self.forward = program.Forward(self.jax, self.folder, self.entry["forward"])
        self.progress.say(f"Compiled in {time.monotonic() - start:.0f} s.")

    def _has_time(self, extra=0.0):
        """Whether another step, what is in flight and a save end before the deadline."""
        return (
            time.monotonic()
            + extra
            + (program.MAX_IN_FLIGHT + 1) * self.step_seconds
            + 2.0 * self.save_seconds
            < self.deadline
        )

    def _finite(self, metrics):
        """Returns the metrics of the last steps, or raises a `UserError` that names the first step whose loss is not finite."""
        for number, values in enumerate(metrics):
            if not math.isfinite(values[self.trainer.metrics.index("loss")]):
                step = self.trainer.step - len(metrics) + number
                broken = ", ".join(
                    name
                    for name, value in zip(self.trainer.metrics, values, strict=True)
                    if not math.isfinite(value)
                )
                raise UserError(
                    f"The loss is not finite since step {step:,} (not finite in this step: {broken}). The last saved state, from "
                    "before, is intact. Look for NaN in the data; else export with a lower train.learning_rate or train.clip_norm=1."
                )
        return metrics

    def _log(self, means):
        step = self.trainer.step
        rate = 1.0 / self.step_seconds
        numbers = dict(zip(self.trainer.metrics, map(float, means), strict=True))
        self.rows.write(
            step,
            "train",
            {
                **numbers,
                "learning_rate": self.trainer.learning_rate,
                "steps_per_second": rate,
                "images_per_second": rate * self.manifest["batch_size"],
            },
        )
        self.progress.log(step, numbers, rate)

    def _save(self):
        if self.saved_at == self.trainer.step:
            return
        start = time.monotonic()
        records.save_state(self.workdir, self.trainer.step, self.trainer.state(), data=self.data)
        self.saved_at, self.save_seconds = self.trainer.step, time.monotonic() - start

    def _evaluate(self):
        if self.evaluation is None:
            return
        start, step, forward = time.monotonic(), self.trainer.step, self.entry["forward"]
        variables, protocol = (
            self.trainer.variables,
            scenes.protocol_of(self.entry["config"]["data"]),
        )
        summary = scoring.score(
            lambda image, seed: self.forward(variables, image, seed),
            self.evaluation,
            forward["batch_size"],
            forward["seed"],
        )
        self.rows.write(step, "test", summary)
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
        scores = "  ".join(
            f"{name} {summary[name]:.4f}" for name in ("fg_ari", "ari", "mse") if name in summary
        )
        self.progress.say(f"step {step:>8,}  test  {scores}")
        self.evaluate_seconds = time.monotonic() - start


class _Batches:
    """Batches on the device, put together by a thread ahead of their use."""

    def __init__(self, jax, stream, first, last):
        self._jax, self._stream, self._first, self._last = jax, stream, first, last
        self._ready, self._stopped = queue.Queue(PREFETCHED), threading.Event()
        self._thread = threading.Thread(target=self._prepare, daemon=True)

    def next(self):
        """Returns the images of the next batch; raises what the thread met."""
        image = self._ready.get()
        if isinstance(image, Exception):
            raise image
        return image

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exception):
        self._stopped.set()
        self._thread.join()

    def _prepare(self):
        try:
            for step in range(self._first, self._last):
                if not self._put(self._jax.device_put(self._stream.batch(step)["image"])):
                    return
        except Exception as e:  # handed over to the thread that waits
            self._put(e)

    def _put(self, item):
        while not self._stopped.is_set():
            try:
                self._ready.put(item, timeout=0.2)
                return True
            except queue.Full:
                continue
        return False


def _check_same_run(workdir, manifest):
    """Raises a `UserError` if `workdir` holds a run of another experiment; stages may have been appended."""
    if not (workdir / artifact.MANIFEST).exists():
        return
    old, new = artifact.read_manifest(workdir)["steps"], manifest["steps"]
    changed = [
        line
        for a, b in zip(old, new, strict=False)
        for line in differences(a["config"], b["config"])
    ]
    if changed:
        raise UserError(
            f"`{workdir}` holds a run with other settings: {'; '.join(changed)}. Choose another --workdir."
        )
