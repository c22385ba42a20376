"""Trains a model on a data set. Rerun the same command to resume.

    python launch/train.py --model=iodine --dataset=tetris              # the paper's settings
    python launch/train.py --model=slot_attention --dataset=tetris --preset=quick
    python launch/train.py --model=iodine --dataset=multi_dsprites --set train.steps=3000
    python launch/train.py --model=slot_attention --dataset=folder:~/pictures
    python launch/train.py --model=iodine --strategy=mirrored --set train.precision=bfloat16

Several workers, on one machine or on many, run the same command. TF_CONFIG tells each worker who
all of them are and which one it is:

    TF_CONFIG='{"cluster": {"worker": ["host1:12345", "host2:12345"]},
                "task": {"type": "worker", "index": 0}}' python launch/train.py ...

The second worker has index 1. Workers share the batch (train.batch_size is that of all together)
and see one --workdir; the first one, the chief, writes and reports. If one dies, all end; started
again together, they resume.

A run is a folder, --workdir (default runs/<model>_<dataset>[_<preset>]): config.json, data.json,
checkpoints/, best/, metrics.jsonl, TensorBoard events (`tensorboard --logdir=runs`) and figures/.
It can be killed at any time; on one device, the resumed run has bit for bit the weights of an
uninterrupted one. SIGTERM and Ctrl-C save first.

The settings of a run cannot change (--print_config shows them without training), except intervals
and the number of steps: --set train.steps=N makes an existing run longer, as long as no learning
rate depends on its end. Nor can its data change, unless --accept_new_data says that it is meant. A
new run may begin with the weights of another: --init_from=runs/other.
"""

import json
import os
import pathlib
import sys

if not __package__:  # `python launch/train.py` from a checkout
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from absl import flags

from tfobj import commands
from tfobj.launch import shared_flags

_MODEL = shared_flags.model()
_DATASET = shared_flags.dataset()
_PRESET = shared_flags.preset()
_STRATEGY = shared_flags.strategy(
    "Where to compute: auto, cpu, gpu, mirrored (all GPUs of this machine), multiworker (all "
    "workers in TF_CONFIG), tpu. auto is multiworker if TF_CONFIG names several workers, else the "
    "best that this machine has."
)
_WAIT_FOR_WORKERS = flags.DEFINE_float(
    "wait_for_workers",
    300.0,
    "Seconds to wait at the start for missing workers.",
    lower_bound=0.0,
)
_WORKDIR = shared_flags.workdir(
    text="Folder of the run; default runs/<model>_<dataset>[_<preset>]."
)
_SEED = shared_flags.seed()
_DATA_DIR = shared_flags.data_dir()
_SET = shared_flags.overrides("model.num_slots=11")
_ACCEPT_NEW_DATA = flags.DEFINE_bool(
    "accept_new_data",
    False,
    "Resume although the data are not those that the run was trained on; notes it in data.json.",
)
_INIT_FROM = flags.DEFINE_string(
    "init_from", None, "Folder of a run with whose weights a new run begins."
)
_PRINT_CONFIG = flags.DEFINE_bool(
    "print_config", False, "Print the resolved settings as JSON and stop."
)


def default_workdir(model, dataset, preset):
    """Returns runs/<model>_<dataset>[_<preset>]; a folder of pictures gives its own name."""
    dataset = pathlib.PurePath(dataset.partition(":")[2] or dataset).name
    parts = [model, dataset]
    if preset != "paper":
        parts.append(preset)
    return pathlib.Path("runs") / "_".join(parts)


def main(argv):
    commands.refuse_arguments(argv)
    from tfobj.config import parse_overrides
    from tfobj.training import cluster
    from tfobj.training.experiment import resolve

    experiment = resolve(
        _MODEL.value, _DATASET.value, _PRESET.value, parse_overrides(_SET.value), _SEED.value
    )
    if _PRINT_CONFIG.value:
        print(json.dumps(experiment.to_dict(), indent=2))
        return 0

    workdir = _WORKDIR.value
    if not workdir:
        workdir = default_workdir(experiment.model_name, _DATASET.value, _PRESET.value)
    refuse_early(experiment, workdir)

    if cluster.is_configured():
        # TensorFlow's C++ parts say at length what `peers` says in one line.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    commands.load_tensorflow(experiment.model_name)
    return train(experiment, workdir)


def refuse_early(experiment, workdir):
    """Raises the errors of the start that take no TensorFlow to find."""
    from tfobj.training import cluster, run_folder, strategy_names

    strategy_names.check_name(_STRATEGY.value)
    # Workers first compare their settings with each other, which explains more.
    if not cluster.is_configured():
        kept = run_folder.with_precision_of_run(workdir, experiment)
        run_folder.check_config(workdir, kept)
        if _INIT_FROM.value and not run_folder.has_state(workdir):
            run_folder.check_state(_INIT_FROM.value)


def save_figures(evaluation):
    """Draws the figures of an evaluation while training."""
    # Here and not above: Matplotlib has time until the first figure.
    from tfobj.viz import actions

    actions.save_figures(evaluation)


def train(experiment, workdir):
    """Trains until the end, a signal or an error; workers leave each other in order."""
    from tfobj.errors import UserError
    from tfobj.training import loop, peers, strategy

    engine = strategy.make_strategy(_STRATEGY.value, _WAIT_FOR_WORKERS.value)
    workers = strategy.peers_of(engine)
    try:
        finished = loop.train(
            experiment,
            workdir,
            engine,
            _DATA_DIR.value,
            actions=[save_figures],
            accept_new_data=_ACCEPT_NEW_DATA.value,
            init_from=_INIT_FROM.value,
        )
    except UserError as e:
        if workers.size == 1:
            raise
        print(f"error: {e}", file=sys.stderr)
        peers.leave(workers, commands.MISTAKE)

    if not finished.interrupted and workers.is_chief:
        print(
            f"Trained {finished.step:,} steps in {workdir}. "
            f"Next: {commands.spoken('evaluate')} --workdir={workdir}"
        )
    peers.leave(workers, 0)
    return 0


if __name__ == "__main__":
    commands.run(main)
