"""The run folder: one configuration for good, and checkpoints that survive a kill.

    <workdir>/config.json        the resolved experiment
    <workdir>/checkpoints/       the last few states: weights, optimizer, step, best score
    <workdir>/best/              the state with the best validation score
    <workdir>/...                see `workdir`

A state holds everything that a restart needs. The order of the data and the noise are functions of
(seed, step), so the step, kept by the optimizer, is their state as well.
"""

import dataclasses
import json
import os
import pathlib

import tensorflow as tf

from tfobj import files
from tfobj.config import differences
from tfobj.errors import UserError, first_line, unknown_name
from tfobj.training.experiment import ExperimentConfig, build_model

CHECKPOINTS = ("latest", "best")

HARMLESS = (
    "train.steps_per_call",
    "train.log_every",
    "train.eval_every",
    "train.checkpoint_every",
    "train.keep_checkpoints",
    "eval.",
)
"""Settings (or groups) that do not change the weights of a run and may differ when it resumes."""

_UNREADABLE = (tf.errors.OpError, AssertionError, ValueError, IndexError, RuntimeError)
"""What TensorFlow raises for a checkpoint that cannot be read.

It is damaged (IndexError: cut short) or does not fit the model.
"""


def write_or_check_config(workdir, experiment):
    """Writes the run's config, or compares `experiment` with the one that is there.

    Raises:
      UserError: if settings differ that would change the weights; lists each with its old and new
        value.
    """
    path = pathlib.Path(workdir) / "config.json"
    if path.exists():
        old = read_config(workdir)

        changed = [
            line
            for line in differences(old.to_dict(), experiment.to_dict())
            if not _is_harmless(line, experiment)
        ]
        if changed:
            raise UserError(
                f"`{workdir}` holds a run with other settings: {'; '.join(changed)}. "
                "Repeat the old settings to resume it, or choose another --workdir."
            )
    files.write_text(path, json.dumps(experiment.to_dict(), indent=2) + "\n")


def _is_harmless(difference, experiment):
    # More steps just go on, unless the learning rate is timed by the end of the run.
    if experiment.train.cooldown_steps == 0 and difference.startswith("train.steps:"):
        return True
    return difference.startswith(HARMLESS)


def read_config(workdir):
    """Reads `<workdir>/config.json` as an `ExperimentConfig`.

    Raises:
      UserError: there is no run, or its file is damaged or from another version.
    """
    path = pathlib.Path(workdir) / "config.json"
    try:
        return ExperimentConfig.from_dict(json.loads(path.read_text()))
    except FileNotFoundError as e:
        raise UserError(
            f"`--workdir` must be the folder of a run. Received: {workdir}, which has no "
            "config.json."
        ) from e
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as e:
        raise UserError(f"`{path}` is damaged ({e}).") from e


def by_path(variables):
    """Returns the tf.Variables of Keras variables by their path, for a `tf.train.Checkpoint`.

    By name and not by following attributes: TensorFlow does not see layers that Keras 3 holds in a
    list, and would leave their weights out without a word.
    """
    table = {variable.path: variable.value for variable in variables}
    if len(table) != len(variables):
        raise ValueError("Two variables have the same path; give their layers different names.")
    return table


class RunState:
    """Weights, optimizer (with the step) and best score, saved and restored together.

    Args:
      workdir: folder of the run.
      model, optimizer: those that are trained.
      keep: number of recent states that stay.
    """

    def __init__(self, workdir, model, optimizer, keep):
        self.workdir = pathlib.Path(workdir)
        self.optimizer = optimizer
        lowest = float("-inf")
        self.best_score = tf.Variable(lowest, dtype=tf.float64, trainable=False, name="best_score")

        self._checkpoint = tf.train.Checkpoint(
            weights=by_path(model.weights),
            optimizer=by_path(optimizer.variables),
            best_score=self.best_score,
        )
        self._recent = tf.train.CheckpointManager(
            self._checkpoint, os.fspath(self.workdir / "checkpoints"), keep, checkpoint_name="step"
        )
        self._best = tf.train.CheckpointManager(
            self._checkpoint, os.fspath(self.workdir / "best"), 1, checkpoint_name="step"
        )

    @property
    def step(self):
        """Number of finished updates."""
        return int(self.optimizer.iterations.numpy())

    def restore(self, step=None):
        """Restores the newest readable state, or that of `step`.

        Returns:
          Its step, 0 if there is none.

        Raises:
          UserError: there are checkpoints, but none can be read.
        """
        failures = []
        paths = self._recent.checkpoints
        if step is not None:
            folder = self.workdir / "checkpoints"
            paths = [os.fspath(folder / f"step-{step}")] if step else []

        # The newest one may have been cut short; then the one before serves.
        for path in reversed(paths):
            try:
                self._checkpoint.restore(path).assert_existing_objects_matched()
                return self.step
            except _UNREADABLE as e:
                failures.append(f"{path} ({first_line(e)})")
        if failures:
            raise UserError(
                f"No checkpoint of `{self.workdir}` can be read: {'; '.join(failures)}. "
                "Nothing was changed."
            )
        return 0

    def save(self):
        """Saves the state of this step. Files of earlier steps stay valid until it is complete."""
        self._save(self._recent)

    def save_best(self, score):
        """Saves this state as the best if `score` is the highest so far; returns whether it is."""
        if not score > float(self.best_score.numpy()):
            return False
        self.best_score.assign(score)
        self._save(self._best)
        return True

    def _save(self, manager):
        if manager.latest_checkpoint and manager.latest_checkpoint.endswith(f"step-{self.step}"):
            return
        try:
            manager.save(checkpoint_number=self.step)
        except (tf.errors.OpError, OSError) as e:
            reason = first_line(e)
            raise UserError(
                f"The checkpoint of step {self.step} could not be written to "
                f"`{manager.directory}` ({reason}). "
                f"The last complete one is {manager.latest_checkpoint}."
            ) from e


@dataclasses.dataclass(frozen=True)
class LoadedRun:
    """A trained model and where it comes from."""

    experiment: ExperimentConfig
    model: object
    step: int


def load_run(workdir, which="latest"):
    """Loads a run's model for use.

    Args:
      workdir: folder of the run.
      which: "latest", or "best" by validation score.

    Returns:
      `LoadedRun`.

    Raises:
      UserError: no run, no such checkpoint, or one that does not fit the config.
    """
    if which not in CHECKPOINTS:
        raise unknown_name("checkpoint", which, CHECKPOINTS)
    experiment = read_config(workdir)
    folder = {"latest": "checkpoints", "best": "best"}[which]
    path = tf.train.latest_checkpoint(os.fspath(pathlib.Path(workdir) / folder))
    if path is None:
        raise UserError(f"`{workdir}` has no {which} checkpoint yet.")

    model = build_model(experiment)
    try:
        status = tf.train.Checkpoint(weights=by_path(model.weights)).restore(path)
        # The optimizer's variables are in the file and not needed.
        status.assert_existing_objects_matched().expect_partial()
    except _UNREADABLE as e:
        raise UserError(f"The checkpoint {path} cannot be read ({first_line(e)}).") from e
    return LoadedRun(experiment, model, int(path.rpartition("-")[2]))
