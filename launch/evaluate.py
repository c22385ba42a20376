"""Scores a trained run: a table, JSON, one CSV row per scene, figures, and a report.

    python launch/evaluate.py --workdir=runs/iodine_tetris
    python launch/evaluate.py --workdir=runs/iodine_tetris --split=test_large --num_steps=8
    python launch/evaluate.py --workdir=runs/iodine_tetris --checkpoint=best --num_slots=6

The test split of the run's protocol is used unless --split names another one; the line "protocol"
of the output says which scenes that are. The run's folder, or --out, gets

    evaluation.json                    means over scenes, with the facts of the run
    evaluation.csv                     one row per scene
    report.html                        scores explained; the worst, median and best scenes
    figures/decomposition_test.png     and, depending on the model, refinement_, stick_breaking_ and
                                       traversal_test.png

Files of other splits have the split in their names. Standard deviations (`_std`) are over scenes,
not over seeds; `fg_ari_low` and `fg_ari_high` are a 95 % bootstrap interval of the mean.

Two kinds of scenes are counted, each under its own name (docs/metrics.md):

    undefined_<metric>   the truth leaves nothing to score, as fg_ari without objects; left out of
                         the mean
    failed_scenes        an output of the model is NaN or infinite; such scenes count with the worst
                         value (failed_<metric> of them): an ARI of -0.5, an IoU of 0, an infinite
                         error, whose mean is null in evaluation.json

Means over no scene are null as well.

Models with depth (factored_scenes) are also scored on hidden parts and on depth order, where the
data set knows them:

    object_miou       IoU of the visible parts of objects and object slots; a pixel belongs to the
                      nearest slot with alpha > 0.3
    aiou              IoU of full extents, hidden parts included, matched separately
    dpa_0, 30, 90     depth pair accuracy: share of pairs in the right order among those whose full
                      extents share that many pixels
    position_error    distance in pixels between a slot's position and the centre of its object's
                      bounding box

`_micro` averages over all objects or pairs of the split, as the papers do, and not over scenes.
`dpa_30_pairs` counts the pairs. `dpa_30_hidden_pairs` counts those with a wholly hidden object,
which count as wrong; `dpa_30_visible` leaves them out.

Clips are scored over all frames at once, so that a slot that changes its object costs, and frame by
frame:

    fg_ari, ari              pixels of all frames together; fg_ari_10: of the first ten frames
    fg_ari_frame, ari_frame  mean over frames (as the papers report); ignores identity across frames
    mse_10, ...              of the first ten frames, and so on
    mota, idf1, ...          tracking, with `pip install tfobj[video]`; `_micro`: over all clips
    mse_ahead_3, ...         video models: the third predicted frame after --num_observed frames

Image models process the frames of a clip one by one. With --sequential (and --clamp=10), an IODINE
takes one refinement step per frame. --num_frames limits clips to their first frames. Figures of
clips are filmstrips and animations, such as figures/clip_test_0.gif and
figures/prediction_test_0.gif.
"""

import importlib.util
import pathlib
import sys

if not __package__:  # `python launch/evaluate.py` from a checkout
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from absl import flags

from tfobj import commands, files
from tfobj.launch import shared_flags

_WORKDIR = shared_flags.workdir(required=True)
_CHECKPOINT = shared_flags.checkpoint()
_SPLIT = shared_flags.split()
_NUM_SCENES = flags.DEFINE_integer(
    "num_scenes", None, "Only the first scenes of the split.", lower_bound=1
)
_NUM_SLOTS = shared_flags.num_slots("Number of slots at test time; default: as trained.")
_NUM_STEPS = shared_flags.num_steps(
    "Number of refinement steps at test time; default: the preset's."
)
_NUM_FRAMES = flags.DEFINE_integer(
    "num_frames",
    None,
    "Frames of a clip, from the first on; default: the run's eval.num_frames.",
    lower_bound=1,
)
_NUM_OBSERVED = flags.DEFINE_integer(
    "num_observed",
    20,
    "Frames that video models see before they predict the others.",
    lower_bound=1,
)
_SEQUENTIAL = flags.DEFINE_bool(
    "sequential",
    False,
    "Run an IODINE of images over clips, one refinement step per frame: SEQ-IODINE (Zablotskaia "
    "et al. 2020).",
)
_CLAMP = flags.DEFINE_float(
    "clamp",
    None,
    "With --sequential: bound on gradients and updates (10 in the paper, on binary balls).",
    lower_bound=1e-6,
)
_SEED = shared_flags.seed(
    default=None, text="Seed of the inference noise; default: the same for every run."
)
_BATCH_SIZE = shared_flags.batch_size("Scenes per call; does not change the scores.")
_DATA_DIR = shared_flags.data_dir()
_OUT = shared_flags.out(default=None, text="Folder of the results; default: the run's.")

NUM_SHOWN = 6
"""Scenes in the figures."""


def main(argv):
    commands.refuse_arguments(argv)
    commands.load_tensorflow(refuse_early().model_name)
    from tfobj.training.checkpoint import load_run
    from tfobj.training.workdir import write_evaluation

    run = load_run(_WORKDIR.value, _CHECKPOINT.value)
    model = run.model
    if _SEQUENTIAL.value:
        model = sequential(model, _CLAMP.value)
    scenes, protocol = open_scenes_to_score(run)
    evaluator = make_evaluator(run, model, len(scenes))
    num_observed = None
    if model.is_video and _NUM_OBSERVED.value < scenes.num_frames:
        num_observed = _NUM_OBSERVED.value
    scorer, summary = score(evaluator, scenes, num_observed)
    facts = facts_of(run, scenes, protocol, num_observed)

    out = pathlib.Path(_OUT.value or _WORKDIR.value)
    suffix = ""
    if _SPLIT.value != "test":
        suffix = f"_{_SPLIT.value}"
    written = [out / f"evaluation{suffix}.json", out / f"evaluation{suffix}.csv"]
    write_evaluation(written[0], summary, **facts)
    scorer.write_csv(written[1])

    draw(run, evaluator, scenes, scorer, summary, facts, out, suffix, num_observed)
    if scenes.num_frames is None:
        written.append(out / f"report{suffix}.html")
    print_table(facts, summary)
    print(f"\nWritten: {', '.join(map(str, [*written, out / 'figures']))}")
    return 0


def refuse_early():
    """Returns the run's `ExperimentConfig`; raises the errors that take no TensorFlow to find."""
    from tfobj.structs import check_num_slots, check_num_steps
    from tfobj.training import run_folder

    experiment = run_folder.check_run(_WORKDIR.value, _CHECKPOINT.value)
    check_num_slots(_NUM_SLOTS.value, experiment.model.minimum_slots)
    check_num_steps(_NUM_STEPS.value, experiment.model.minimum_steps)
    return experiment


def open_scenes_to_score(run):
    """Returns (scenes, description of the protocol), limited by the command line."""
    from tfobj.training.experiment import open_scenes

    scenes, protocol = open_scenes(run.experiment, _SPLIT.value, _DATA_DIR.value)
    if scenes.num_frames is not None:
        wanted = _NUM_FRAMES.value or run.experiment.eval.scored_frames(scenes.num_frames)
        scenes = scenes.first_frames(min(wanted, scenes.num_frames))
    if _NUM_SCENES.value:
        scenes = scenes.take(_NUM_SCENES.value)
    return scenes, protocol


def make_evaluator(run, model, num_scenes):
    """Returns the `Evaluator` that the command line asks for."""
    from tfobj.training.evaluation import Evaluator

    return Evaluator(
        model,
        min(_BATCH_SIZE.value, num_scenes),
        num_slots=_NUM_SLOTS.value,
        num_steps=steps_at_test_time(run),
        seed=inference_seed(),
    )


def steps_at_test_time(run):
    """Returns the number of refinement steps, or None for as many as in training."""
    if _NUM_STEPS.value is None:
        return run.experiment.eval.num_steps
    return _NUM_STEPS.value


def inference_seed():
    """Returns the seed of the inference noise."""
    from tfobj.training.evaluation import EVALUATION_SEED

    return EVALUATION_SEED if _SEED.value is None else _SEED.value


def sequential(model, clamp):
    """Returns SEQ-IODINE with the weights of an IODINE of images; refuses other models."""
    from tfobj.errors import UserError
    from tfobj.models.iodine import Iodine
    from tfobj.models.sequential_iodine import SequentialIodine

    if not isinstance(model, Iodine) or model.is_video:
        raise UserError(
            "`--sequential` must go with a run of iodine on images. "
            f"Received: a run of {type(model).__name__}."
        )
    return SequentialIodine.of_pictures(model, clamp)


def score(evaluator, scenes, num_observed):
    """Returns (scorer, summary): scores of every scene, and their means.

    Args:
      evaluator: `Evaluator`.
      scenes: `SceneArrays`.
      num_observed: frames after which predicted frames are scored too; None scores none.
    """
    from tfobj.metrics.clustering import mean_over_defined
    from tfobj.metrics.tracking import tracking_micro

    split = _SPLIT.value
    tracking = scenes.num_frames is not None and has_tracking()
    scorer = evaluator.score(scenes, f"Scoring {split}", tracking=tracking)
    summary = scorer.summary()
    if "mota" in summary:
        summary |= tracking_micro(scorer.table())
    if num_observed is not None:
        forecast = evaluator.score_forecast(scenes, num_observed, f"Predicting {split}")
        failed = forecast.pop("failed_forecasts")
        summary |= {name: float(mean_over_defined(values)) for name, values in forecast.items()}
        summary["failed_forecasts"] = int(failed.sum())
    return scorer, summary


def has_tracking():
    """Returns whether the library for tracking scores is installed; says so if it is not."""
    if importlib.util.find_spec("motmetrics") is not None:
        return True
    print(
        "Scores of tracking (mota, id_switches, ...) are left out: they need "
        "`pip install tfobj[video]`.",
        file=sys.stderr,
    )
    return False


def facts_of(run, scenes, protocol, num_observed):
    """Returns what the evaluation says about the run beside its scores."""
    from tfobj.training.machine import command_line
    from tfobj.training.workdir import MACHINE, read_metrics, training_minutes, validation_curve

    experiment = run.experiment
    metrics = read_metrics(_WORKDIR.value)
    num_steps = steps_at_test_time(run)
    if num_steps is None:
        num_steps = experiment.model.num_steps
    facts = {
        "model": experiment.model_name + ("_sequential" if _SEQUENTIAL.value else ""),
        "preset": experiment.preset,
        "protocol": protocol,
        "split": _SPLIT.value,
        "step": run.step,
        "checkpoint": _CHECKPOINT.value,
        "seed": experiment.seed,
        "inference_seed": inference_seed(),
        "num_slots": _NUM_SLOTS.value or experiment.model.num_slots,
        "num_steps": num_steps,
        "config_fingerprint": experiment.fingerprint(),
        "precision": experiment.train.precision,
        "training_minutes": round(training_minutes(metrics), 1),
        "validation_curve": validation_curve(metrics, experiment.eval.best_metric),
    }
    machine = pathlib.Path(_WORKDIR.value) / MACHINE
    if machine.exists():
        facts |= files.read_json(machine)
    facts["evaluation_command"] = command_line()
    if scenes.num_frames is not None:
        facts["num_frames"] = scenes.num_frames
    if num_observed is not None:
        facts["num_observed"] = num_observed
    return facts


def draw(run, evaluator, scenes, scorer, summary, facts, out, suffix, num_observed):
    """Draws the figures of images or of clips, and the report of images."""
    from tfobj.training.workdir import read_metrics
    from tfobj.viz import clip_figures, evaluation_figures

    if scenes.num_frames is not None:
        clip_figures.draw(out, _SPLIT.value, evaluator, scenes, facts, NUM_SHOWN, num_observed)
        return
    evaluation_figures.draw(
        out,
        _SPLIT.value,
        suffix,
        evaluator,
        scenes,
        scorer.table(),
        summary,
        facts,
        run.experiment,
        NUM_SHOWN,
        read_metrics(_WORKDIR.value),
    )


def print_table(facts, summary):
    """Prints facts, then means over scenes, then averages over objects, pairs and frames ahead."""
    from tfobj.metrics import definitions

    for name in ("model", "protocol", "step", "num_slots", "num_steps"):
        print(f"{name:<16}{facts[name]}")
    print(f"{'num_scenes':<16}{summary['num_scenes']}")
    for name in ("failed_scenes", "failed_forecasts"):
        if name in summary:
            print(f"{name:<16}{summary[name]}")

    print(f"\n{'metric':<20}{'mean':>12}{'std':>12}")
    for name, value in summary.items():
        if f"{name}_std" not in summary:
            continue
        line = f"{name:<20}{value:>12.5g}{summary[f'{name}_std']:>12.4g}"
        notes = definitions.conditions(name, summary)
        if name == "fg_ari":
            notes.insert(0, f"95 % [{summary['fg_ari_low']:.4f}, {summary['fg_ari_high']:.4f}]")
        print("   ".join([line, "; ".join(notes)]).rstrip())

    print()
    for name, value in summary.items():
        over_all = name.endswith(("_micro", "_visible", "_objects", "_pairs"))
        if (over_all or "_ahead_" in name) and f"{name}_std" not in summary:
            print(f"{name:<24}{value:>8.5g}")


if __name__ == "__main__":
    commands.run(main)
