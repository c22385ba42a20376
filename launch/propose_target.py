r"""Proposes a target for GECO, which balances reconstruction and KL in EfficientMORL and GENESIS.

    python launch/propose_target.py --workdir=runs/short                             # from this run
    python launch/propose_target.py --model=efficient_morl --dataset=multi_dsprites  # a new one
    python launch/propose_target.py --model=genesis --dataset=tetris --preset=quick \
        --steps=3000 --set model.likelihood_scale=0.2

GECO minimises the KL under a bound on the negative log likelihood (NLL): `model.geco_target` of
EfficientMORL and `model.geco_goal` of GENESIS, in nats per pixel and channel. If the bound is too
easy, the background alone meets it, and objects are never found. If it is too hard, it is never
met, and the KL grows without limit. A good bound is the NLL that a run reaches after 10 to 20 % of
its steps. This command reads it from metrics.jsonl and prints

    NLL reached         mean over the last fifth of the run
    floor               the NLL of a perfect reconstruction: ln scale (EfficientMORL),
                        ln scale + 1/2 ln 2 pi (GENESIS)
    target, slack       the proposal, and its distance from the floor
    MSE at the target   the mean squared error that meets it, 2 scale^2 slack

then what speaks against it (the NLL still falls, objects are not found yet, the run's own target is
below the floor), and last the --set to copy. Without --workdir it trains a short run with GECO
switched off, in --out; rerun the same command to resume it.
"""

import pathlib
import sys

if not __package__:  # `python launch/propose_target.py` from a checkout
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from absl import flags

from tfobj import commands
from tfobj.launch import shared_flags

_WORKDIR = shared_flags.workdir(
    text="Folder of a run, with or without GECO. Without it, a short run is trained."
)
_MODEL = shared_flags.model("efficient_morl", "Model with GECO, for the short run.")
_DATASET = shared_flags.dataset(text=f"{shared_flags.DATASET[:-1]}, for the short run.")
_PRESET = shared_flags.preset(text="Hyperparameters of the model, for the short run.")
_STEPS = flags.DEFINE_integer(
    "steps", None, "Updates of the short run; default: 15 % of those of the preset.", lower_bound=5
)
_OUT = shared_flags.out(
    default=None,
    text="Folder of the short run; default runs/<model>_<dataset>_<preset>_without_geco.",
)
_SET = shared_flags.overrides("model.likelihood_scale=0.2", "Override a setting of the short run")
_SEED = shared_flags.seed(text="Seed of the short run.")
_STRATEGY = shared_flags.strategy("Where to compute the short run: auto, cpu, gpu, mirrored, tpu.")
_DATA_DIR = shared_flags.data_dir()
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
    check_source()
    from tfobj.training import geco_target
    from tfobj.training.run_folder import read_config
    from tfobj.training.workdir import read_metrics

    if _WORKDIR.value:
        workdir = _WORKDIR.value
        experiment = read_config(workdir)
        planned_steps = plan_of(experiment)
    else:
        workdir, experiment, planned_steps = train_short_run()
        if experiment is None:
            return 0

    proposal = geco_target.propose(experiment, read_metrics(workdir), planned_steps)
    proposed = experiment.model.replace(**{proposal.setting: proposal.target})
    warnings = dict.fromkeys([*experiment.model.warnings(), *proposed.warnings()])
    print(geco_target.format_report(proposal, warnings))
    return 0


def check_source():
    """Raises a `UserError` if flags of the short run are given beside --workdir."""
    from tfobj.errors import UserError

    given = [f"--{name}" for name in _OF_THE_SHORT_RUN if flags.FLAGS[name].present]
    if _WORKDIR.value and given:
        raise UserError(
            "`--workdir` names an existing run; leave it out to train a short one. "
            f"Received: --workdir and {', '.join(given)}."
        )


def plan_of(experiment):
    """Returns the steps of the long run: those of the preset, or of the run if it has more."""
    from tfobj.errors import UserError
    from tfobj.training.experiment import resolve

    try:
        planned = resolve(
            experiment.model_name, experiment.data.protocol, experiment.preset
        ).train.steps
    except UserError:  # the preset is of another version
        return experiment.train.steps
    return max(experiment.train.steps, planned)


def train_short_run():
    """Returns (folder, experiment or None after a signal, planned steps of the long run)."""
    from tfobj.config import parse_overrides
    from tfobj.training import geco_target, strategy_names
    from tfobj.training.experiment import resolve

    planned = resolve(
        _MODEL.value, _DATASET.value, _PRESET.value, parse_overrides(_SET.value), _SEED.value
    )
    experiment = geco_target.short_run(planned, _STEPS.value)
    strategy_names.check_name(_STRATEGY.value)
    commands.load_tensorflow()
    from tfobj.training import loop, strategy

    workdir = _OUT.value
    if not workdir:
        dataset = pathlib.PurePath(_DATASET.value.rpartition(":")[2]).name
        name = f"{experiment.model_name}_{dataset}_{_PRESET.value}_without_geco"
        workdir = pathlib.Path("runs") / name
    engine = strategy.make_strategy(_STRATEGY.value)
    finished = loop.train(experiment, workdir, engine, _DATA_DIR.value)
    return workdir, None if finished.interrupted else experiment, planned.train.steps


if __name__ == "__main__":
    commands.run(main)
