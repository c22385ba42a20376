"""Exports the model of a run as a SavedModel, for TensorFlow alone and for TensorFlow Serving.

    python launch/export.py --workdir=runs/iodine_tetris                    # version 1
    python launch/export.py --workdir=runs/iodine_tetris --checkpoint=best  # version 2
    python launch/export.py --workdir=runs/iodine_tetris --to=models/iodine --version=7

--to gets one folder per version, and a README with scores, signatures and the commands that serve
the model. The scores are those of the run's evaluation.json (`launch/evaluate.py`), if it was
measured on the exported weights. In the checkout, models in saved_models/ can be used by their
name. Files that are part of the checkout stay as they are, unless --register is given: it enters
the model in the index.json of the models that ship.
"""

import pathlib
import sys

if not __package__:  # `python launch/export.py` from a checkout
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from absl import flags

from tfobj import commands, files
from tfobj.launch import shared_flags

_WORKDIR = shared_flags.workdir(required=True)
_TO = flags.DEFINE_string(
    "to", None, "Folder of the exported model; default saved_models/<name of the run>."
)
_CHECKPOINT = shared_flags.checkpoint()
_VERSION = flags.DEFINE_integer(
    "version", None, "Version number; default: one more than the largest in --to.", lower_bound=1
)
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace --version if it exists.")

_REGISTER = flags.DEFINE_bool(
    "register", False, "Enter the model in the index.json around --to, as one that ships."
)


def main(argv):
    commands.refuse_arguments(argv)
    from tfobj.training import run_folder

    experiment = run_folder.check_run(_WORKDIR.value, _CHECKPOINT.value)
    commands.load_tensorflow(experiment.model_name)
    from tfobj.serving import export
    from tfobj.training.checkpoint import load_run

    # Weights are float32 in every run, and an export must be fast where there is no bfloat16.
    run = load_run(_WORKDIR.value, _CHECKPOINT.value, precision="float32")
    to = pathlib.Path("saved_models", pathlib.Path(_WORKDIR.value).resolve().name)
    if _TO.value:
        to = pathlib.Path(_TO.value)
    folder = export.export_model(
        run.model,
        to,
        version=_VERSION.value,
        num_steps=run.experiment.eval.num_steps,
        experiment=run.experiment,
        overwrite=_OVERWRITE.value,
        evaluation=read_evaluation(_WORKDIR.value, run.step),
        register=_REGISTER.value,
    )
    if _REGISTER.value:
        export.add_to_index(folder)

    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    card = export.card_path(folder, _REGISTER.value)
    inputs = "CLIP.mp4" if run.model.is_video else "PICTURES"
    print(
        f"Exported step {run.step:,} to {folder} ({size / 1e6:.1f} MB); see {card}. "
        f"Next: {commands.spoken('decompose')} --saved_model={to} {inputs} --out=out"
    )
    return 0


def read_evaluation(workdir, step):
    """Returns the run's `evaluation.json` as a dict if it was measured at `step`, else None."""
    from tfobj.errors import UserError
    from tfobj.serving import card

    path = pathlib.Path(workdir, "evaluation.json")
    if not path.exists():
        return None
    evaluation = files.read_json(path)
    try:
        card.check_evaluation(evaluation)
    except ValueError as e:
        raise UserError(f"`{path}` is damaged ({e}); evaluate the run again, or remove it.") from e
    if evaluation.get("step") != step:
        print(
            f"note: {path} was measured at step {evaluation.get('step')}, but step {step} is "
            "exported; the card leaves its scores out.",
            file=sys.stderr,
        )
        return None
    return evaluation


if __name__ == "__main__":
    commands.run(main)
