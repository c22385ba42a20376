"""The run folder: one configuration for good, and checkpoints that survive a kill.

    <workdir>/config.json        the resolved experiment
    <workdir>/data.json          what it is trained on, see `data_record`
    <workdir>/checkpoints/       the last few states: weights, optimizer, step, best score
    <workdir>/best/              the state with the best validation score
    <workdir>/...                see `workdir`

A state holds everything that a restart needs. The order of the data and the noise are functions of
(seed, step), so the step, kept by the optimizer, is their state as well.
"""

import dataclasses
import json
import pathlib
import sys

import tensorflow as tf

from tfobj import files
from tfobj.config import differences
from tfobj.errors import UserError, unknown_name
from tfobj.training.checkpoint_folder import CheckpointFolder
from tfobj.training.data_record import DATA
from tfobj.training.experiment import ExperimentConfig, build_model

CONFIG = "config.json"
CHECKPOINTS = {"latest": "checkpoints", "best": "best"}
"""Name of a state -> its folder."""

HARMLESS = (
    "train.steps_per_call",
    "train.log_every",
    "train.eval_every",
    "train.checkpoint_every",
    "train.keep_checkpoints",
    "eval.",
)
"""Settings (or groups) that do not change the weights of a run and may differ when it resumes."""


def write_or_check_config(workdir, experiment):
    """Writes the run's config, after comparing it with the one that is there.

    Raises:
      UserError: as `check_config`.
    """
    check_config(workdir, experiment)
    text = json.dumps(experiment.to_dict(), indent=2) + "\n"
    files.write_text(pathlib.Path(workdir) / CONFIG, text)


def check_config(workdir, experiment):
    """Compares `experiment` with the config of the run in a folder, if there is one.

    Raises:
      UserError: if settings differ that would change the weights; lists each with its old and new
        value.
    """
    workdir = pathlib.Path(workdir)
    if not (workdir / CONFIG).exists():
        return
    old = read_config(workdir)

    changed = [
        line
        for line in differences(old.to_dict(), experiment.to_dict())
        if not line.startswith((*HARMLESS, "train.steps:"))
        and not _is_moved_folder(line, workdir, old, experiment)
    ]
    if changed:
        raise UserError(
            f"`{workdir}` holds a run with other settings: {'; '.join(changed)}. "
            "Repeat the old settings to resume it, or choose another --workdir."
        )
    _check_steps(workdir, old.train.steps, experiment.train)


def _check_steps(workdir, before, train):
    """Raises a `UserError` if the steps that were made would be others with a new `train.steps`."""
    if train.steps == before:
        return
    reached = max(CheckpointFolder(workdir / CHECKPOINTS["latest"]).steps(), default=0)
    if train.steps < reached:
        raise UserError(
            f"`train.steps` must be at least {reached}, which `{workdir}` has reached. "
            f"Received: train.steps={train.steps} (train.steps: {before} -> {train.steps})."
        )

    # The rate of the first update of a cool-down is still the full one.
    first = min(before, train.steps) - train.cooldown_steps + 1
    if train.cooldown_steps and reached > max(first, 1):
        raise UserError(
            f"`{workdir}` has reached step {reached}, where the learning rate falls to zero with "
            f"train.cooldown_steps={train.cooldown_steps} before the end, which therefore cannot "
            f"move any more (train.steps: {before} -> {train.steps}). Repeat train.steps={before}, "
            f"or begin a new run with these weights: --workdir=NEW_FOLDER --init_from={workdir}."
        )


def _is_moved_folder(difference, workdir, old, new):
    """Whether pictures merely lie elsewhere; their content is compared when they are read."""
    return (
        difference.startswith("data.protocol:")
        and not old.data.has_splits
        and not new.data.has_splits
        and (workdir / DATA).exists()
    )


def read_config(workdir):
    """Reads `<workdir>/config.json` as an `ExperimentConfig`.

    Raises:
      UserError: there is no run, or its file is damaged or from another version.
    """
    path = pathlib.Path(workdir) / CONFIG
    try:
        content = files.read_json(path)
    except FileNotFoundError as e:
        raise UserError(
            f"`--workdir` must be the folder of a run. Received: {workdir}, which has no {CONFIG}."
        ) from e

    try:
        return ExperimentConfig.from_dict(content)
    except UserError as e:
        raise UserError(f"`{path}` is damaged, or of another version. {e}") from e


def say_on_stderr(line):
    """Prints a line for the user, apart from the results of a command."""
    print(line, file=sys.stderr)


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
      say: function of a line, told which checkpoints are damaged.
    """

    def __init__(self, workdir, model, optimizer, keep, say=say_on_stderr):
        self.workdir = pathlib.Path(workdir)
        self.optimizer = optimizer
        lowest = float("-inf")
        self.best_score = tf.Variable(lowest, dtype=tf.float64, trainable=False, name="best_score")

        self._checkpoint = tf.train.Checkpoint(
            weights=by_path(model.weights),
            optimizer=by_path(optimizer.variables),
            best_score=self.best_score,
        )
        self._keep = keep
        self._say = say
        self._recent = CheckpointFolder(self.workdir / CHECKPOINTS["latest"], say)
        self._best = CheckpointFolder(self.workdir / CHECKPOINTS["best"], say)

    @property
    def step(self):
        """Number of finished updates."""
        return int(self.optimizer.iterations.numpy())

    def restore(self, step=None):
        """Restores the newest readable state, or that of `step`.

        The best state is as complete as the recent ones, and serves if none of these can be read.

        Returns:
          Its step, 0 if there is none.

        Raises:
          UserError: there are checkpoints, but none can be read.
        """
        if step == 0:
            return 0
        try:
            found = self._recent.restore(self._read, step)
        except UserError as e:
            if not self._best.steps():
                raise
            self._say(f"warning: {e}")
            found = None
        if found is None and self._best.steps():
            found = self._best.restore(self._read, step)
            self._say(f"warning: going on from the best state, that of step {found:,}.")
        return found or 0

    def recover(self):
        """Completes or removes what killed writes left; for the process that holds the lock."""
        self._recent.recover()
        self._best.recover()

    def _read(self, path):
        _assert_matched(self._checkpoint.read(path))

    def save(self):
        """Saves the state of this step. Files of earlier steps stay valid until it is complete."""
        self._recent.save(self._checkpoint, self.step, self._keep)

    def save_best(self, score):
        """Saves this state as the best if `score` is the highest so far; returns whether it is."""
        if not score > float(self.best_score.numpy()):
            return False
        self.best_score.assign(score)
        self._best.save_only(self._checkpoint, self.step)
        return True


def _assert_matched(status):
    # Otherwise TensorFlow complains at the end about every value in the file that has no variable:
    # those of the optimizer where a model is loaded, and all of a checkpoint that does not fit.
    status.expect_partial()
    status.assert_existing_objects_matched()


def load_weights(model, workdir, say=say_on_stderr):
    """Gives a model the weights of a run: those of the newest state that can be read.

    Returns:
      The step of the state.

    Raises:
      UserError: there is no state, or none that can be read and fits the model.
    """
    return _load_weights(model, workdir, "latest", say)


def _load_weights(model, workdir, which, say):
    folder = CheckpointFolder(pathlib.Path(workdir) / CHECKPOINTS[which], say)
    if not folder.steps():
        raise UserError(f"`{workdir}` has no {which} checkpoint yet.")
    checkpoint = tf.train.Checkpoint(weights=by_path(model.weights))
    return folder.restore(lambda path: _assert_matched(checkpoint.read(path)))


@dataclasses.dataclass(frozen=True)
class LoadedRun:
    """A trained model and where it comes from."""

    experiment: ExperimentConfig
    model: object
    step: int


def load_run(workdir, which="latest", say=say_on_stderr, precision=None):
    """Loads a run's model for use: the newest state that can be read.

    Args:
      workdir: folder of the run.
      which: "latest", or "best" by validation score.
      say: function of a line, told which checkpoints are damaged.
      precision: in which the model computes; None for that of the run.

    Returns:
      `LoadedRun`.

    Raises:
      UserError: no run, no such checkpoint, or none that can be read and fits the config.
    """
    if which not in CHECKPOINTS:
        raise unknown_name("checkpoint", which, CHECKPOINTS)
    experiment = read_config(workdir)
    if not CheckpointFolder(pathlib.Path(workdir) / CHECKPOINTS[which]).steps():
        raise UserError(f"`{workdir}` has no {which} checkpoint yet.")
    built = experiment
    if precision is not None:
        built = experiment.override({"train.precision": precision})
    model = build_model(built)
    return LoadedRun(experiment, model, _load_weights(model, workdir, which, say))
