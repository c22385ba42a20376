"""Trains a model on a dataset; the same command again continues the run.

    python launch/train.py --model=iodine --dataset=tetris                    # the paper's settings for the pair
    python launch/train.py --model=slot_attention --dataset=tetris --preset=quick
    python launch/train.py --model=iodine --dataset=multi_dsprites --set train.steps=3000 --set model.num_slots=7
    python launch/train.py --model=slot_attention --dataset=folder:~/pictures --set model.num_slots=5
    python launch/train.py --model=iodine --dataset=tetris --strategy=mirrored --set train.precision=bfloat16

A run lives in --workdir (default runs/<model>_<dataset>[_<preset>]): config.json, checkpoints/, best/, metrics.jsonl,
TensorBoard events (`tensorboard --logdir=runs`) and figures/. It can be killed at any time and continued by the
same command: the weights become the same, bit for bit on one device. SIGTERM and Ctrl-C save first. Settings
cannot change within a run; --print_config shows them all without training.
"""

import json
import pathlib
import sys

if not __package__:  # `python launch/train.py` from a checkout
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tfobj import commands
from absl import flags

_MODEL = flags.DEFINE_string("model", "slot_attention", "Model; `python launch/list.py` shows all.")
_DATASET = flags.DEFINE_string("dataset", "tetris", "Dataset, protocol, or folder:/path/to/pictures.")
_PRESET = flags.DEFINE_string("preset", "paper", "Hyperparameters of the model for the dataset.")
_STRATEGY = flags.DEFINE_string("strategy", "auto", "Where to compute: auto, cpu, gpu, mirrored, tpu.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; default runs/<model>_<dataset>[_<preset>].")
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the weights, the order of the scenes and the noise.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "TFDS data folder; default $TFDS_DATA_DIR or ~/tensorflow_datasets.")
_SET = flags.DEFINE_multi_string("set", [], "Override, e.g. --set model.num_slots=11; repeatable.")
_PRINT_CONFIG = flags.DEFINE_bool("print_config", False, "Print the resolved settings as JSON and stop.")


def default_workdir(model, dataset, preset):
    """Returns runs/<model>_<dataset>[_<preset>]; of a folder of pictures its last name."""
    dataset = pathlib.PurePath(dataset.partition(":")[2] or dataset).name
    return pathlib.Path("runs") / "_".join([model, dataset] + ([] if preset == "paper" else [preset]))


def main(argv):
    commands.refuse_arguments(argv)
    commands.load_tensorflow()
    from tfobj.config import parse_overrides
    from tfobj.training.experiment import resolve

    experiment = resolve(_MODEL.value, _DATASET.value, _PRESET.value, parse_overrides(_SET.value), _SEED.value)
    if _PRINT_CONFIG.value:
        print(json.dumps(experiment.to_dict(), indent=2))
        return 0
    from tfobj.training import loop, strategy
    from tfobj.viz import actions

    workdir = _WORKDIR.value or default_workdir(experiment.model_name, _DATASET.value, _PRESET.value)
    finished = loop.train(experiment, workdir, strategy.make_strategy(_STRATEGY.value), _DATA_DIR.value,
                          actions=[actions.save_figures])
    if not finished.interrupted:
        print(f"Trained {finished.step:,} steps in {workdir}. Next: python launch/evaluate.py --workdir={workdir}")
    return 0


if __name__ == "__main__":
    commands.run(main)
