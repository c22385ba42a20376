"""Trains a model on a dataset; the same command again continues the run.

    python launch/train.py --model=iodine --dataset=tetris                    # the paper's settings for the pair
    python launch/train.py --model=slot_attention --dataset=tetris --preset=quick
    python launch/train.py --model=iodine --dataset=multi_dsprites --set train.steps=3000 --set model.num_slots=7
    python launch/train.py --model=slot_attention --dataset=folder:~/pictures --set model.num_slots=5
    python launch/train.py --model=iodine --dataset=tetris --strategy=mirrored --set train.precision=bfloat16

Several workers, of one machine or of many, run the same command; TF_CONFIG tells each who they are and which one it is:

    TF_CONFIG='{"cluster": {"worker": ["host1:12345", "host2:12345"]}, "task": {"type": "worker", "index": 0}}' python launch/train.py ...
    TF_CONFIG='{"cluster": {"worker": ["host1:12345", "host2:12345"]}, "task": {"type": "worker", "index": 1}}' python launch/train.py ...

They share the batch (train.batch_size is that of all together) and see one --workdir; the first one writes and reports.
If one dies, all end; started again together, they continue.

A run lives in --workdir (default runs/<model>_<dataset>[_<preset>]): config.json, checkpoints/, best/, metrics.jsonl,
TensorBoard events (`tensorboard --logdir=runs`) and figures/. It can be killed at any time and continued by the
same command: the weights become the same, bit for bit on one device. SIGTERM and Ctrl-C save first. Settings
cannot change within a run; --print_config shows them all without training.
"""

import json
import os
import pathlib
import sys

if not __package__:  # `python launch/train.py` from a checkout
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from absl import flags

from tfobj import commands

_MODEL = flags.DEFINE_string("model", "slot_attention", "Model; `python launch/list.py` shows all.")
_DATASET = flags.DEFINE_string(
    "dataset", "tetris", "Dataset, protocol, or folder:/path/to/pictures."
)
_PRESET = flags.DEFINE_string("preset", "paper", "Hyperparameters of the model for the dataset.")
_STRATEGY = flags.DEFINE_string(
    "strategy",
    "auto",
    "Where to compute: auto, cpu, gpu, mirrored (the GPUs of this machine), "
    "multiworker (of all machines in TF_CONFIG), tpu. auto: multiworker if TF_CONFIG names several workers, "
    "else what this machine has.",
)
_WAIT_FOR_WORKERS = flags.DEFINE_float(
    "wait_for_workers",
    300.0,
    "Seconds to wait at the start for workers that are not there yet.",
    lower_bound=0.0,
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the run; default runs/<model>_<dataset>[_<preset>]."
)
_SEED = flags.DEFINE_integer(
    "seed", 0, "Seed of the weights, the order of the scenes and the noise."
)
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "TFDS data folder; default $TFDS_DATA_DIR or ~/tensorflow_datasets."
)
_SET = flags.DEFINE_multi_string("set", [], "Override, e.g. --set model.num_slots=11; repeatable.")
_PRINT_CONFIG = flags.DEFINE_bool(
    "print_config", False, "Print the resolved settings as JSON and stop."
)


def default_workdir(model, dataset, preset):
    """Returns runs/<model>_<dataset>[_<preset>]; of a folder of pictures its last name."""
    dataset = pathlib.PurePath(dataset.partition(":")[2] or dataset).name
    return pathlib.Path("runs") / "_".join(
        [model, dataset] + ([] if preset == "paper" else [preset])
    )


def main(argv):
    commands.refuse_arguments(argv)
    from tfobj.training import cluster

    if (
        cluster.is_configured()
    ):  # else TensorFlow's C++ parts say in many words what `peers` says in one line
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    commands.load_tensorflow()
    from tfobj.config import parse_overrides
    from tfobj.training.experiment import resolve

    experiment = resolve(
        _MODEL.value, _DATASET.value, _PRESET.value, parse_overrides(_SET.value), _SEED.value
    )
    if _PRINT_CONFIG.value:
        print(json.dumps(experiment.to_dict(), indent=2))
        return 0
    from tfobj.errors import UserError
    from tfobj.training import loop, peers, strategy
    from tfobj.viz import actions

    workdir = _WORKDIR.value or default_workdir(
        experiment.model_name, _DATASET.value, _PRESET.value
    )
    engine = strategy.make_strategy(_STRATEGY.value, _WAIT_FOR_WORKERS.value)
    workers = strategy.peers_of(engine)
    try:
        finished = loop.train(
            experiment, workdir, engine, _DATA_DIR.value, actions=[actions.save_figures]
        )
    except UserError as e:
        if workers.size == 1:
            raise
        print(f"error: {e}", file=sys.stderr)
        peers.leave(workers, commands.MISTAKE)
    if not finished.interrupted and workers.is_chief:
        print(
            f"Trained {finished.step:,} steps in {workdir}. Next: python launch/evaluate.py --workdir={workdir}"
        )
    peers.leave(workers, 0)
    return 0


if __name__ == "__main__":
    commands.run(main)
