"""Brings the state of a run on a JAX host back into an ordinary run folder."""

import json
import pathlib
import shutil
from typing import NamedTuple

from tfobj import files
from tfobj.errors import UserError
from tfobj.portable import artifact, records
from tfobj.training.experiment import ExperimentConfig, build_model
from tfobj.training.workdir import MACHINE, METRICS


class Imported(NamedTuple):
    """The run that was imported."""

    experiment: ExperimentConfig
    step: int


def import_state(state, workdir, found=None):
    """Writes a run folder from what `launch/run_step.py` left behind.

    The folder has the settings of the stage in force, one checkpoint with weights, optimizer and
    step, the metrics so far and the hardware they came from; evaluating, exporting and resuming
    work as in any other run.

    Args:
      state: folder of the run on the JAX host (its newest readable state is taken).
      workdir: folder to make; it must not exist or be empty, and appears whole or not at all.
      found: of `find_state`, where it was called before; None calls it.

    Returns:
      `Imported`.

    Raises:
      UserError: no readable state, one that does not fit the model, or a `workdir` in use.
    """
    from tfobj.training.checkpoint import RunState, by_path
    from tfobj.training.optimizer import make_optimizer

    state = pathlib.Path(state)
    workdir = pathlib.Path(workdir)
    manifest, summary, arrays = found or find_state(state, workdir)

    # The program that made the last update is in force until the next one is made.
    step = summary["step"]
    entry, _ = artifact.program_at(manifest, max(step - 1, 0))
    experiment = ExperimentConfig.from_dict(entry["config"])
    model = build_model(experiment)
    optimizer = make_optimizer(experiment.train)
    optimizer.build(model.trainable_variables)
    _assign(by_path([*model.weights, *optimizer.variables]), arrays, summary, state)
    counted = int(optimizer.iterations.numpy())
    if counted != step:
        raise UserError(
            f"The state of `{state}` is damaged: step {step} in its summary, {counted} in the "
            "optimizer."
        )

    with files.atomic_folder(workdir) as partial:
        files.write_text(partial / "config.json", json.dumps(experiment.to_dict(), indent=2) + "\n")
        for name in (METRICS, MACHINE):
            if (state / name).exists():
                shutil.copyfile(state / name, partial / name)
        RunState(partial, model, optimizer, experiment.train.keep_checkpoints).save()
    return Imported(experiment, step)


def find_state(state, workdir):
    """Returns (manifest, summary, arrays) of the newest readable state; needs no TensorFlow.

    Arguments and errors as of `import_state`.
    """
    state = pathlib.Path(state)
    workdir = pathlib.Path(workdir)
    if workdir.exists() and (not workdir.is_dir() or any(workdir.iterdir())):
        raise UserError(
            f"`--workdir` must be a new folder. Received: {workdir}, which is not empty; its files "
            "stay as they are."
        )
    manifest = artifact.read_manifest(state)
    found = records.newest_state(state)
    if found is None:
        raise UserError(
            f"`--state` must be the folder of a run of launch/run_step.py. Received: {state}, "
            "which holds no state."
        )
    return manifest, *found


def _assign(variables, arrays, summary, state):
    """Gives variables by path the values of a state."""
    expected = artifact.describe_variables(
        {name: variable.numpy() for name, variable in variables.items()}
    )
    artifact.check_same_variables(expected, summary["variables"], f"The state of `{state}`")
    for name, variable in variables.items():
        variable.assign(arrays[name])
