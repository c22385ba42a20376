"""Proposes a target for GECO, the balance of reconstruction and KL in EfficientMORL and GENESIS, from a short run.

    python launch/propose_target.py --workdir=runs/short                                       # of a run that is there
    python launch/propose_target.py --model=efficient_morl --dataset=multi_dsprites            # makes the short run first
    python launch/propose_target.py --model=genesis --dataset=tetris --preset=quick --steps=3000 --set model.likelihood_scale=0.2

GECO minimises the KL under a bound on the negative log likelihood (NLL): `model.geco_target` of EfficientMORL and
`model.geco_goal` of GENESIS, in nats per pixel and channel. A bound that is too easy is met by the background alone, and
objects are never found; one that is too hard is never met, and then the KL goes its own way. So: train for 10 to 20 % of the steps,
and take the NLL that is reached then. This command reads it off metrics.jsonl and prints

    NLL reached         mean of the last fifth of the run
    floor               the least NLL there is, that of a perfect reconstruction: ln scale (EfficientMORL), ln scale + 1/2 ln 2 pi (GENESIS)
    target, slack       what is proposed, and how far it is above the floor
    MSE at the target   the mean squared error that meets it, 2 scale^2 slack

then what speaks against it (the NLL still falls, objects are not found yet, the run's own target is below the floor), and last the
--set to copy. Without --workdir it makes the short run itself, with GECO switched off, in --out; the same command continues it.
"""

import pathlib
import sys

if not __package__:  # `python launch/propose_target.py` from a checkout
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from absl import flags

from tfobj import commands

_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of a run, GECO on or off. Without it, a short run is made."
)
_MODEL = flags.DEFINE_string("model", "efficient_morl", "Model with GECO, of the short run.")
_DATASET = flags.DEFINE_string(
    "dataset", "tetris", "Dataset, protocol, or folder:/path/to/pictures, of the short run."
)
_PRESET = flags.DEFINE_string(
    "preset", "paper", "Hyperparameters of the model for the dataset, of the short run."
)
_STEPS = flags.DEFINE_integer(
    "steps", None, "Updates of the short run; default: 15 % of those of the preset.", lower_bound=5
)
_OUT = flags.DEFINE_string(
    "out", None, "Folder of the short run; default runs/<model>_<dataset>_<preset>_without_geco."
)
_SET = flags.DEFINE_multi_string(
    "set", [], "Override in the short run, e.g. --set model.likelihood_scale=0.2; repeatable."
)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the short run.")
_STRATEGY = flags.DEFINE_string(
    "strategy", "auto", "Where to compute the short run: auto, cpu, gpu, mirrored, tpu."
)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "TFDS data folder.")
_OF_THE_SHORT_RUN = (
    "model",
    "dataset",
    "preset",
    "steps",
    "out",
    "set",
    "seed",
    "strategy",
    "data_dir",
)


def main(argv):
    commands.refuse_arguments(argv)
    from tfobj.errors import UserError

    given = [f"--{name}" for name in _OF_THE_SHORT_RUN if flags.FLAGS[name].present]
    if _WORKDIR.value and given:
        raise UserError(
            f"`--workdir` is of a run that is there; leave it out to make a new one. Received: --workdir and {', '.join(given)}."
        )
    commands.load_tensorflow()
    from tfobj.training import geco_target
    from tfobj.training.checkpoint import read_config
    from tfobj.training.workdir import read_metrics

    if _WORKDIR.value:
        workdir, experiment = _WORKDIR.value, read_config(_WORKDIR.value)
        planned_steps = plan_of(experiment)
    else:
        workdir, experiment, planned_steps = make_short_run()
        if experiment is None:
            return 0
    proposal = geco_target.propose(experiment, read_metrics(workdir), planned_steps)
    proposed = experiment.model.replace(**{proposal.setting: proposal.target})
    print(
        geco_target.format_report(
            proposal, dict.fromkeys([*experiment.model.warnings(), *proposed.warnings()])
        )
    )
    return 0


def plan_of(experiment):
    """Returns the steps of the long run: those of the preset, or of the run itself where it changes nothing about them."""
    from tfobj.errors import UserError
    from tfobj.training.experiment import resolve

    try:
        return max(
            experiment.train.steps,
            resolve(experiment.model_name, experiment.data.protocol, experiment.preset).train.steps,
        )
    except UserError:  # the preset is of another version
        return experiment.train.steps


def make_short_run():
    """Returns (folder, experiment or None if a signal stopped it, planned steps)."""
    from tfobj.config import parse_overrides
    from tfobj.training import geco_target, loop, strategy
    from tfobj.training.experiment import resolve

    planned = resolve(
        _MODEL.value, _DATASET.value, _PRESET.value, parse_overrides(_SET.value), _SEED.value
    )
    experiment = geco_target.short_run(planned, _STEPS.value)
    dataset = pathlib.PurePath(
        _DATASET.value.rpartition(":")[2]
    ).name  # of a folder of pictures its last name
    workdir = (
        _OUT.value
        or pathlib.Path("runs") / f"{experiment.model_name}_{dataset}_{_PRESET.value}_without_geco"
    )
    finished = loop.train(
        experiment, workdir, strategy.make_strategy(_STRATEGY.value), _DATA_DIR.value
    )
    return workdir, None if finished.interrupted else experiment, planned.train.steps


if __name__ == "__main__":
    commands.run(main)
