r"""Exports the training step of an experiment for hosts that have only JAX and NumPy.

    python launch/export_step.py --model=iodine --dataset=tetris --to=portable/iodine_tetris
    python launch/export_step.py --model=slot_attention --dataset=tetris --preset=quick \
        --with_data=2000 --to=portable/quick
    python launch/export_step.py --workdir=runs/iodine_tetris --to=portable/resumed
    python launch/export_step.py --model=iodine --dataset=tetris --set model.num_steps=3 \
        --to=portable/iodine_tetris --append --from_step=50000   # a stage of a curriculum

Model, data set, preset, --set and --seed are those of launch/train.py. --to gets the step, the
forward pass for scoring, the state, and a README with the commands for the other host;
docs/jax_hosts.md tells the whole story. Batch and image sizes are fixed in the program.
--precision_of_matmul=highest computes products in float32 on every device, for the first comparison
with TensorFlow; default lets the device choose (TF32 on NVIDIA GPUs), which is faster. The export
needs JAX: pip install 'tfobj[jax]'.
"""

import pathlib
import sys

if not __package__:  # `python launch/export_step.py` from a checkout
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from absl import flags

from tfobj import commands
from tfobj.launch import shared_flags

_MODEL = shared_flags.model()
_DATASET = shared_flags.dataset()
_PRESET = shared_flags.preset()
_SEED = shared_flags.seed()
_SET = shared_flags.overrides("train.batch_size=64")
_WORKDIR = shared_flags.workdir(text="Run to resume: its settings, weights, optimizer and step.")
_TO = flags.DEFINE_string("to", None, "Folder to write.", required=True)
_PRECISION = flags.DEFINE_enum(
    "precision_of_matmul",
    "default",
    ["default", "highest"],
    "Precision of convolutions and matrix products.",
)
_WITH_DATA = flags.DEFINE_integer(
    "with_data",
    None,
    "Write this many training scenes, and the 320 test scenes, beside the step.",
    lower_bound=1,
)
_DATA_DIR = shared_flags.data_dir("Folder of the TFDS data, for --with_data.")
_APPEND = flags.DEFINE_bool("append", False, "Add a stage to the folder --to.")
_FROM_STEP = flags.DEFINE_integer(
    "from_step", None, "First step of the stage, with --append.", lower_bound=1
)

LARGE = 16_000_000
"""Bytes of a file that get a note, because many ways into a closed host end there."""


def read_experiment():
    """Returns the experiment of the flags: a run's, or one of model, data set and preset."""
    from tfobj.config import parse_overrides
    from tfobj.errors import UserError
    from tfobj.training.experiment import resolve
    from tfobj.training.run_folder import read_config

    changes = parse_overrides(_SET.value)
    if _WORKDIR.value is None:
        return resolve(_MODEL.value, _DATASET.value, _PRESET.value, changes, _SEED.value)
    of_train = (_MODEL, _DATASET, _PRESET, _SEED)
    given = [flag.name for flag in of_train if flags.FLAGS[flag.name].present]
    if given:
        raise UserError(
            "`--workdir` brings the settings of its run. "
            f"Received also: {', '.join('--' + name for name in given)}."
        )
    return read_config(_WORKDIR.value).override(changes)


def main(argv):
    commands.refuse_arguments(argv)
    from tfobj.errors import UserError

    if _APPEND.value != (_FROM_STEP.value is not None):
        raise UserError("`--append` and `--from_step=N` go together.")
    experiment = read_experiment()
    commands.load_tensorflow()
    from tfobj.portable import exporting

    to = pathlib.Path(_TO.value)
    if _APPEND.value:
        exporting.append(experiment, to, _FROM_STEP.value)
    else:
        exporting.export(
            experiment,
            to,
            _WORKDIR.value,
            _PRECISION.value,
            _WITH_DATA.value,
            _DATA_DIR.value,
        )
    sizes = {
        file.relative_to(to): file.stat().st_size
        for file in sorted(to.rglob("*"))
        if file.is_file()
    }
    for name, size in sizes.items():
        if size > LARGE:
            print(f"note: {name} has {size / 1e6:.1f} MB, more than 16.", file=sys.stderr)
    print(
        f"Exported to {to}: {len(sizes)} files, {sum(sizes.values()) / 1e6:.1f} MB. "
        f"Next, on the other host: {commands.spoken('run_step')} --artifact={to} --workdir=OUT"
    )
    return 0


if __name__ == "__main__":
    commands.run(main)
