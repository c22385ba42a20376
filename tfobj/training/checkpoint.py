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
import pathlib
import sys

import tensorflow as tf

from tfobj.errors import UserError
from tfobj.training.checkpoint_folder import CheckpointFolder
from tfobj.training.experiment import ExperimentConfig, build_model
from tfobj.training.run_folder import CHECKPOINTS, check_run, check_state, read_config


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

        # Averages also by the weight's path: who loads them builds no optimizer.
        averages = {}
        if optimizer.averages:
            averages = {"averages": {w.path: average.value for w, average in optimizer.averages}}
        self._checkpoint = tf.train.Checkpoint(
            weights=by_path(model.weights),
            optimizer=by_path(optimizer.variables),
            best_score=self.best_score,
            **averages,
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

    They are the averages if the run keeps some (`train.ema_decay`).

    Returns:
      The step of the state.

    Raises:
      UserError: there is no state, or none that can be read and fits the model.
    """
    return _load_weights(model, workdir, "latest", say)


def _load_weights(model, workdir, which, say):
    check_state(workdir, which)
    folder = CheckpointFolder(pathlib.Path(workdir) / CHECKPOINTS[which], say)
    parts = {"weights": by_path(model.weights)}
    if read_config(workdir).train.ema_decay:
        averages = by_path(model.trainable_variables)
        others = {path: v for path, v in parts["weights"].items() if path not in averages}
        parts = {"weights": others, "averages": averages}
    checkpoint = tf.train.Checkpoint(**parts)
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
    experiment = check_run(workdir, which)
    built = experiment
    if precision is not None:
        built = experiment.override({"train.precision": precision})
    model = build_model(built)
    return LoadedRun(experiment, model, _load_weights(model, workdir, which, say))
