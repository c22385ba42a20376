"""Checks that one device, two replicas and two worker processes make the same run.

    python launch/check_engines.py --model=slot_attention --dataset=tetris --preset=quick --steps=10
    python launch/check_engines.py --model=iodine --dataset=tetris --set train.batch_size=4 --also_xla --json=engines.json

Every engine trains the same few steps from the same seed on a few hundred scenes that are built for the purpose, in
processes of its own, with the batches, the noise and the update of `launch/train.py`. The table has, for each:

    steps/s     of the steps after the first
    last loss   of the whole batch at the last step
    difference  the largest difference of any weight from one device (with XLA, from one device with XLA), absolute
    replicas    whether all copies of weights and optimizer are the same, bit for bit
    clipped     share of the steps in which clipping was active; it must be, for gradients have to be summed before

Sums in another order differ by rounding, which Adam enlarges where gradients are small; --tolerance allows for it. Exit
status 1: a row differs by more, or its replicas differ. With two GPUs, or more, it runs on two of them; else on the CPU, where two logical devices stand for them.
"""

import json
import pathlib
import sys

if not __package__:  # `python launch/check_engines.py` from a checkout
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from absl import flags

from tfobj import commands

_MODEL = flags.DEFINE_string("model", "slot_attention", "Model; `python launch/list.py` shows all.")
_DATASET = flags.DEFINE_string(
    "dataset", "tetris", "Dataset, protocol, or folder:/path/to/pictures."
)
_PRESET = flags.DEFINE_string("preset", "paper", "Hyperparameters of the model for the dataset.")
_SEED = flags.DEFINE_integer(
    "seed", 0, "Seed of the weights, the order of the scenes and the noise."
)
_SET = flags.DEFINE_multi_string("set", [], "Override, e.g. --set train.batch_size=8; repeatable.")
_STEPS = flags.DEFINE_integer("steps", 10, "Updates of each engine.")
_ALSO_XLA = flags.DEFINE_bool(
    "also_xla", False, "Every engine once more with forward and backward compiled by XLA."
)
_TOLERANCE = flags.DEFINE_float(
    "tolerance",
    0.02,
    "Largest difference that is called equal, as a part of the largest movement of a weight.",
)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "TFDS data folder; default: a temporary one.")
_JSON = flags.DEFINE_string("json", None, "File for all numbers.")


def main(argv):
    commands.refuse_arguments(argv)
    commands.load_tensorflow()
    from tfobj import files
    from tfobj.bench import engines
    from tfobj.config import parse_overrides

    experiment, remarks = engines.make_experiment(
        _MODEL.value, _DATASET.value, _PRESET.value, parse_overrides(_SET.value), _SEED.value
    )
    report = engines.compare(
        experiment, _STEPS.value, _ALSO_XLA.value, _TOLERANCE.value, _DATA_DIR.value
    )
    print("\n".join([engines.format_report(report), *remarks]))
    if _JSON.value:
        files.write_text(_JSON.value, json.dumps(report, indent=2) + "\n")
    return 0 if report["equal"] else 1


if __name__ == "__main__":
    commands.run(main)
