"""Turns what a JAX host trained into an ordinary run; see docs/jax_hosts.md.

    python launch/import_state.py --state=from_gpu/run --workdir=runs/iodine_tetris
    python launch/evaluate.py --workdir=runs/iodine_tetris

--state is the --workdir of launch/run_step.py; its newest state is taken. --workdir must be new.
The run can then be evaluated, exported, and resumed by launch/train.py, which trains on exactly the
scenes that come next.
"""

import pathlib
import sys

if not __package__:  # `python launch/import_state.py` from a checkout
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from absl import flags

from tfobj import commands
from tfobj.launch import shared_flags

_STATE = flags.DEFINE_string("state", None, "Folder of the run on the JAX host.", required=True)
_WORKDIR = shared_flags.workdir(required=True, text="Folder to create.")


def main(argv):
    commands.refuse_arguments(argv)
    from tfobj.portable import importing

    found = importing.find_state(_STATE.value, _WORKDIR.value)
    commands.load_tensorflow()
    imported = importing.import_state(_STATE.value, _WORKDIR.value, found)
    print(
        f"Imported step {imported.step:,} of {imported.experiment.model_name} to {_WORKDIR.value}. "
        f"Next: {commands.spoken('evaluate')} --workdir={_WORKDIR.value}"
    )
    return 0


if __name__ == "__main__":
    commands.run(main)
