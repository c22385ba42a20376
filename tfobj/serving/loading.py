"""Trained models from wherever they are: shipped, exported, or the run that trained them.

model = tfobj.load("slot_attention_tetris")         # ships with the package
model = tfobj.load("runs/iodine_tetris_quick")      # the newest state of a run
model.decompose(images)                             # see `zoo.Decomposer`
"""

import pathlib

from tfobj.serving import zoo
from tfobj.training import run_folder

_CONFIG = "config.json"
"""The file that makes a folder a run."""


def load(name_or_path):
    """Loads a trained model, to be used from NumPy.

    Args:
      name_or_path: name of a model that ships with the package, folder of an exported model, or
        folder of a run, whose newest state is taken. `load_run` gives the `keras.Model` of a run.

    Returns:
      `zoo.Decomposer`.

    Raises:
      UserError: there is no such model, or its files are damaged.
    """
    path = pathlib.Path(name_or_path).expanduser()
    if len(path.parts) and _is_run(path):
        return _load_run(path)
    return zoo.load(name_or_path)


def check(name_or_path):
    """Raises the errors of `load` that take no TensorFlow to find: no such model, a damaged index.

    Returns:
      The name of the model whose code `load` needs; None for an exported model, which needs none.

    Raises:
      UserError: as `load`.
    """
    path = pathlib.Path(name_or_path).expanduser()
    if len(path.parts) and _is_run(path):
        return run_folder.check_run(path).model_name
    zoo.find(name_or_path)
    return None


def _is_run(path):
    try:
        return (path / _CONFIG).is_file()
    except (OSError, ValueError):  # too long, or a null character
        return False


def _load_run(workdir):
    """Returns the `Decomposer` of a run; its functions are traced, which takes seconds."""
    from tfobj.serving import export
    from tfobj.training.checkpoint import load_run

    run = load_run(workdir)
    num_steps = run.experiment.eval.num_steps
    served = export.serve(run.model, num_steps)
    metadata = export.describe(run.model, served, workdir.resolve().name, experiment=run.experiment)
    return zoo.Decomposer(served.root, metadata, workdir)
