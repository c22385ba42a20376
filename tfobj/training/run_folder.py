"""What can be asked of a run's folder without TensorFlow: its settings, and whether it has states.

`checkpoint` reads and writes the states themselves.
"""

import json
import pathlib

from tfobj import files
from tfobj.config import differences
from tfobj.errors import UserError, unknown_name
from tfobj.training.checkpoint_folder import CheckpointFolder
from tfobj.training.data_record import DATA
from tfobj.training.experiment import ExperimentConfig

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


def with_precision_of_run(workdir, experiment):
    """Returns the experiment with what `train.precision=auto` became in the run of a folder.

    A run that goes on keeps its precision. Without a run, "auto" stays.
    """
    is_run = (pathlib.Path(workdir) / CONFIG).exists()
    if experiment.train.precision != "auto" or not is_run:
        return experiment
    return experiment.override({"train.precision": read_config(workdir).train.precision})


def check_run(workdir, which="latest"):
    """Returns the `ExperimentConfig` of a run that has a state to load.

    Args:
      workdir: folder of the run.
      which: "latest", or "best" by validation score.

    Raises:
      UserError: no run, or no such checkpoint.
    """
    if which not in CHECKPOINTS:
        raise unknown_name("checkpoint", which, CHECKPOINTS)
    experiment = read_config(workdir)
    check_state(workdir, which)
    return experiment


def has_state(workdir, which="latest"):
    """Returns whether a run has a checkpoint, readable or not."""
    return bool(CheckpointFolder(pathlib.Path(workdir) / CHECKPOINTS[which]).steps())


def check_state(workdir, which="latest"):
    """Raises a `UserError` unless a run has a checkpoint."""
    if not has_state(workdir, which):
        raise UserError(f"`{workdir}` has no {which} checkpoint yet.")
