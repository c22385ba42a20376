r"""Trains an exported step on a host that has only JAX and NumPy. Rerun the command to resume.

    python launch/run_step.py --artifact=portable/iodine_tetris --workdir=runs/iodine_tetris
    python launch/run_step.py --artifact=portable/iodine_tetris --workdir=runs/iodine_tetris \
        --minutes=50 --platform=cuda

--artifact is a folder made by launch/export_step.py. A checkout is enough: neither TensorFlow nor
absl nor an installation is needed. --workdir gets state/ (the last two states), metrics.jsonl,
evaluation.json and machine.json. SIGTERM and Ctrl-C save first; --minutes saves and stops in time.
Afterwards, on a host with TensorFlow:

    python launch/import_state.py --state=runs/iodine_tetris --workdir=runs/iodine_tetris_imported
"""

import argparse
import pathlib
import shlex
import sys

if not __package__:  # `python launch/run_step.py` from a checkout
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tfobj import commands
from tfobj.errors import UserError, unknown_name


def parser():
    """Returns the parser of the command line."""
    result = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    result.add_argument(
        "--artifact", required=True, metavar="FOLDER", help="folder made by launch/export_step.py"
    )
    result.add_argument("--workdir", required=True, metavar="OUT", help="folder of the run")

    result.add_argument(
        "--steps",
        type=int,
        metavar="N",
        help="train until this step; default: the experiment's train.steps",
    )
    result.add_argument(
        "--save_every",
        type=int,
        metavar="N",
        help="steps between saved states; default: train.checkpoint_every",
    )
    result.add_argument(
        "--eval_every",
        type=int,
        metavar="N",
        help="steps between evaluations; default: train.eval_every",
    )
    result.add_argument(
        "--log_every",
        type=int,
        metavar="N",
        help="steps between rows of metrics.jsonl; default: train.log_every",
    )

    result.add_argument(
        "--minutes",
        type=float,
        metavar="M",
        help="save and stop early enough to end within this many minutes",
    )
    result.add_argument(
        "--data",
        metavar="PATH|generate",
        help="an .npz file or folder of scenes, or generate; default: the artifact's data "
        "folder, else generate",
    )
    result.add_argument(
        "--platform", choices=["cpu", "cuda"], help="where to compute; default: what JAX has"
    )
    return result


def main(arguments):
    words, unknown = parser().parse_known_args(arguments)
    if unknown:
        flags = [
            option.removeprefix("--")
            for action in parser()._actions
            for option in action.option_strings
            if option.startswith("--")
        ]
        raise unknown_name("flag", unknown[0].lstrip("-").partition("=")[0], flags)
    from tfobj.portable import runner

    settings = vars(words)
    shown = [
        f"--{name}={value}"
        for name, value in settings.items()
        if name not in ("artifact", "workdir", "data") and value is not None
    ]
    options = runner.Options(
        **{k: v for k, v in settings.items() if k not in ("artifact", "workdir")},
        command=shlex.join(["python", "launch/run_step.py", *shown]),
    )
    step, finished = runner.run(words.artifact, words.workdir, options)
    if finished:
        print(
            f"Trained {step:,} steps in {words.workdir}. Next, on a host with TensorFlow: "
            f"python launch/import_state.py --state={words.workdir} --workdir=NEW_FOLDER"
        )
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except UserError as e:
        print(f"error: {e}", file=sys.stderr)
        sys.exit(commands.MISTAKE)
