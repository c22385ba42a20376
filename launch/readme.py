"""Writes the tables of README.md and docs/results.md from the files in results/; `make readme`.

    python launch/readme.py                       # rewrites the text between the markers
    python launch/readme.py --check               # only says whether the pages are up to date
    python launch/readme.py --record=runs/demo    # adds the evaluation and figures of a run first

Every file results/<model>_<protocol>_<preset>_seed<n>.json is the evaluation.json of one run.
results/published.json holds the papers' numbers with their sources, results/datasets.json what
generating the data sets takes.
"""

import pathlib
import shutil
import sys

if not __package__:  # `python launch/readme.py` from a checkout
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from absl import flags

from tfobj import commands, files

_CHECK = flags.DEFINE_bool(
    "check", False, "Change nothing; exit with status 2 if a page is not up to date."
)
_RECORD = flags.DEFINE_string(
    "record", None, "Folder of an evaluated run that is copied to results/ first."
)

ROOT = pathlib.Path(__file__).resolve().parents[1]
FIGURES = {
    "decomposition_test.png": ".png",
    "layers_test.png": "_layers.png",
    "filmstrip_test_0.png": "_filmstrip.png",
    "clip_test_0.gif": ".gif",
}
"""Figures of a run, and how the names of their copies end."""


def main(argv):
    commands.refuse_arguments(argv)
    from tfobj.bench import result_tables

    if _RECORD.value:
        record(pathlib.Path(_RECORD.value), ROOT / "results")
    changed = result_tables.write_pages(ROOT, _CHECK.value)
    if changed:
        print(f"Rewritten: {', '.join(sorted(changed))}.")
    else:
        print("README.md and docs/results.md are up to date.")
    return 0


def record(workdir, folder):
    """Copies a run's evaluation and figures to `folder`, under a name that the evaluation decides.

    Raises:
      UserError: the run was not evaluated.
    """
    from tfobj.errors import UserError
    from tfobj.training import results

    path = workdir / "evaluation.json"
    if not path.exists():
        raise UserError(
            "`--record` must be the folder of an evaluated run. "
            f"Received: {workdir}, which has no evaluation.json."
        )
    row = files.read_json(path, keys={"model": str, "protocol": str, "preset": str, "seed": int})
    name = f"{row['model']}_{results.protocol_of(row)}_{row['preset']}_seed{row['seed']}"

    folder.mkdir(exist_ok=True)
    shutil.copyfile(path, folder / f"{name}.json")
    for figure, ending in FIGURES.items():
        source = workdir / "figures" / figure
        if source.exists():
            shutil.copyfile(source, folder / f"{name}{ending}")


if __name__ == "__main__":
    commands.run(main)
