r"""Checks that one device, two replicas and two worker processes make the same run.

    python launch/check_engines.py --model=slot_attention --dataset=tetris --preset=quick --steps=10
    python launch/check_engines.py --model=iodine --dataset=tetris --set train.batch_size=4 \
        --also_xla --json=engines.json

Every engine trains the same few steps from the same seed, in processes of its own, with the
batches, the noise and the update of `launch/train.py`, on a few hundred scenes that are built for
the purpose. The table shows for each engine:

    steps/s     without the first step
    last loss   of the whole batch at the last step
    difference  largest absolute difference of any weight from one device (with XLA: from one device
                with XLA)
    replicas    whether all copies of weights and optimizer are equal bit for bit
    clipped     share of the steps in which clipping was active; it must be active, to tell whether
                gradients are summed before they are clipped

Sums in another order differ by rounding, which Adam enlarges where gradients are small; --tolerance
allows for it. The exit status is 1 if a row differs by more, or its replicas differ. It runs on two
GPUs if there are two, else on two logical CPU devices.
"""

import json
import pathlib
import sys

if not __package__:  # `python launch/check_engines.py` from a checkout
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from absl import flags

from tfobj import commands
from tfobj.launch import shared_flags

_MODEL = shared_flags.model()
_DATASET = shared_flags.dataset()
_PRESET = shared_flags.preset()
_SEED = shared_flags.seed()
_SET = shared_flags.overrides()
_STEPS = flags.DEFINE_integer("steps", 10, "Updates of each engine.")
_ALSO_XLA = flags.DEFINE_bool(
    "also_xla", False, "Also run every engine with forward and backward compiled by XLA."
)
_TOLERANCE = flags.DEFINE_float(
    "tolerance",
    0.02,
    "Largest difference that counts as equal, relative to the largest change of a weight.",
)
_DATA_DIR = shared_flags.data_dir("Folder of the TFDS data; default: a temporary one.")
_JSON = shared_flags.json_file()


def main(argv):
    commands.refuse_arguments(argv)
    from tfobj import files
    from tfobj.config import parse_overrides
    from tfobj.training.experiment import resolve

    # Mistakes are answered before TensorFlow is loaded.
    chosen = (_MODEL.value, _DATASET.value, _PRESET.value, parse_overrides(_SET.value), _SEED.value)
    resolve(*chosen)
    commands.load_tensorflow()
    from tfobj.bench import engines

    experiment, remarks = engines.make_experiment(*chosen)
    report = engines.compare(
        experiment, _STEPS.value, _ALSO_XLA.value, _TOLERANCE.value, _DATA_DIR.value
    )
    print("\n".join([engines.format_report(report), *remarks]))
    if _JSON.value:
        files.write_text(_JSON.value, json.dumps(report, indent=2) + "\n")
    return 0 if report["equal"] else 1


if __name__ == "__main__":
    commands.run(main)
