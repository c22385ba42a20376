"""Scores a trained run: table, JSON, per-scene CSV, figures and a report of the worst scenes.

    python launch/evaluate.py --workdir=runs/iodine_tetris
    python launch/evaluate.py --workdir=runs/iodine_tetris --split=test_large --num_steps=8
    python launch/evaluate.py --workdir=runs/iodine_tetris --checkpoint=best --num_slots=6

The test split of the run's protocol is used unless --split says otherwise; the line "protocol" says which
scenes that are. Files, in the run's folder (or --out): evaluation.json, evaluation.csv (one row per scene), report.html and
figures/decomposition_<split>.png, and by model figures/refinement_, stick_breaking_ and traversal_<split>.png. Other splits than
test get their name in the file names.
Standard deviations (`_std`) are over scenes, not over seeds; `fg_ari_low` and `fg_ari_high` bound the mean (95 %, bootstrap).

Models with depth (factored_scenes) are also scored on hidden parts and on who is in front, where the dataset knows it:

    object_miou       IoU of the visible parts of objects and object slots, a pixel going to the nearest slot with alpha > 0.3
    aiou              IoU of full extents, hidden parts included, matched anew
    dpa_0, 30, 90     depth pair accuracy: pairs whose full extents share at least so many pixels and whose order is right
    position_error    pixels between a slot's position and the centre of its object's bounding box

`_micro` is the average over all objects or pairs of the split instead of over scenes, the papers' number; `dpa_30_pairs` says how many
pairs that are, and `dpa_30_visible` leaves out those in which one object is wholly hidden, `dpa_30_hidden_pairs`, which count as wrong.

Of clips, slots are scored over all frames at once, so that a slot that leaves its object costs, and frame by frame:

    fg_ari, ari              pixels of all frames together; fg_ari_10 of the first ten frames, and so on
    fg_ari_frame, ari_frame  mean over frames (the papers' number), blind to exchanged slots; fg_ari_frame_10 of the first ten
    mse_10, ...              of the first ten frames, and so on
    mota, motp, idf1, id_switches, ...    tracking, with `pip install tfobj[video]`; `_micro` over all clips together
    mse_ahead_3, fg_ari_ahead_3, ...      the third frame after --num_observed frames, predicted (models of clips)

Models of pictures see the frames of clips one by one; an IODINE also one refinement per frame, with --sequential (and --clamp=10). `--num_frames` takes the first frames of every clip; figures are strips of frames
and animations, figures/clip_test_0.gif and figures/prediction_test_0.gif among them.
"""

import importlib.util
import json
import pathlib
import sys

if not __package__:  # `python launch/evaluate.py` from a checkout
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from absl import flags

from tfobj import commands

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.", required=True)
_CHECKPOINT = flags.DEFINE_enum(
    "checkpoint",
    "latest",
    ["latest", "best"],
    "Which state: the last one, or the best on validation.",
)
_SPLIT = flags.DEFINE_string(
    "split", "test", "Split of the run's protocol: test, test_large, validation, train."
)
_NUM_SCENES = flags.DEFINE_integer(
    "num_scenes", None, "Only the first scenes of the split.", lower_bound=1
)
_NUM_SLOTS = flags.DEFINE_integer("num_slots", None, "Slots at test time; default: as trained.")
_NUM_STEPS = flags.DEFINE_integer(
    "num_steps",
    None,
    "Refinement steps or attention iterations at test time; default: the preset's.",
)
_NUM_FRAMES = flags.DEFINE_integer(
    "num_frames",
    None,
    "Frames of a clip, the first ones; default: the run's eval.num_frames.",
    lower_bound=1,
)
_NUM_OBSERVED = flags.DEFINE_integer(
    "num_observed",
    20,
    "Frames that models of clips see before they predict the rest.",
    lower_bound=1,
)
_SEQUENTIAL = flags.DEFINE_bool(
    "sequential",
    False,
    "Run an IODINE of pictures over clips, one refinement per frame: SEQ-IODINE (Zablotskaia et al. 2020).",
)
_CLAMP = flags.DEFINE_float(
    "clamp",
    None,
    "With --sequential: bound on gradients and updates (10 in the paper, on binary balls).",
    lower_bound=1e-6,
)
_SEED = flags.DEFINE_integer(
    "seed", None, "Seed of the inference noise; default: the same for every run."
)
_BATCH_SIZE = flags.DEFINE_integer(
    "batch_size", 32, "Scenes per call; does not change the scores.", lower_bound=1
)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "TFDS data folder.")
_OUT = flags.DEFINE_string("out", None, "Folder of the results; default: the run's.")
_NUM_SHOWN = 6


def main(argv):
    commands.refuse_arguments(argv)
    commands.load_tensorflow()
    import numpy as np

    from tfobj.metrics.tracking import tracking_micro
    from tfobj.structs import check_num_slots, check_num_steps
    from tfobj.training.checkpoint import load_run
    from tfobj.training.evaluation import EVALUATION_SEED, Evaluator
    from tfobj.training.experiment import open_scenes
    from tfobj.training.workdir import MACHINE, read_metrics, training_minutes, write_evaluation
    from tfobj.viz import clip_figures, evaluation_figures

    run = load_run(_WORKDIR.value, _CHECKPOINT.value)
    model = sequential(run.model, _CLAMP.value) if _SEQUENTIAL.value else run.model
    check_num_slots(_NUM_SLOTS.value, run.experiment.model.minimum_slots)
    check_num_steps(_NUM_STEPS.value, run.experiment.model.minimum_steps)
    scenes, protocol = open_scenes(run.experiment, _SPLIT.value, _DATA_DIR.value)
    if scenes.num_frames is not None:
        scenes = scenes.first_frames(
            min(
                _NUM_FRAMES.value or run.experiment.eval.num_frames or scenes.num_frames,
                scenes.num_frames,
            )
        )
    if _NUM_SCENES.value:
        scenes = scenes.take(_NUM_SCENES.value)
    seed = EVALUATION_SEED if _SEED.value is None else _SEED.value
    num_steps = run.experiment.eval.num_steps if _NUM_STEPS.value is None else _NUM_STEPS.value
    evaluator = Evaluator(
        model,
        min(_BATCH_SIZE.value, len(scenes)),
        num_slots=_NUM_SLOTS.value,
        num_steps=num_steps,
        seed=seed,
    )
    scorer = evaluator.score(
        scenes,
        f"Scoring {_SPLIT.value}",
        tracking=scenes.num_frames is not None and _has_tracking(),
    )
    summary = scorer.summary()
    if "mota" in summary:
        summary |= tracking_micro(scorer.table())
    predicts = model.is_video and _NUM_OBSERVED.value < scenes.num_frames
    if predicts:
        forecast = evaluator.score_forecast(
            scenes, _NUM_OBSERVED.value, f"Predicting {_SPLIT.value}"
        )
        summary |= {name: float(np.nanmean(values)) for name, values in forecast.items()}
    machine = pathlib.Path(_WORKDIR.value) / MACHINE
    facts = {
        "model": run.experiment.model_name + ("_sequential" if _SEQUENTIAL.value else ""),
        "preset": run.experiment.preset,
        "protocol": protocol,
        "split": _SPLIT.value,
        "step": run.step,
        "checkpoint": _CHECKPOINT.value,
        "seed": run.experiment.seed,
        "inference_seed": seed,
        "num_slots": _NUM_SLOTS.value or run.experiment.model.num_slots,
        "num_steps": run.experiment.model.num_steps if num_steps is None else num_steps,
        "config_fingerprint": run.experiment.fingerprint(),
        "training_minutes": round(training_minutes(read_metrics(_WORKDIR.value)), 1),
        **(json.loads(machine.read_text()) if machine.exists() else {}),
    }
    if scenes.num_frames is not None:
        facts |= {
            "num_frames": scenes.num_frames,
            **({"num_observed": _NUM_OBSERVED.value} if predicts else {}),
        }
    out = pathlib.Path(_OUT.value or _WORKDIR.value)
    suffix = "" if _SPLIT.value == "test" else f"_{_SPLIT.value}"
    write_evaluation(out / f"evaluation{suffix}.json", summary, **facts)
    scorer.write_csv(out / f"evaluation{suffix}.csv")
    written = [out / f"evaluation{suffix}.json", out / f"evaluation{suffix}.csv"]
    if scenes.num_frames is None:
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
            _NUM_SHOWN,
        )
        written.append(out / f"report{suffix}.html")
    else:
        clip_figures.draw(
            out,
            _SPLIT.value,
            evaluator,
            scenes,
            facts,
            _NUM_SHOWN,
            _NUM_OBSERVED.value if predicts else None,
        )
    print_table(facts, summary)
    print(f"\nWritten: {', '.join(map(str, [*written, out / 'figures']))}")
    return 0


def sequential(model, clamp):
    """Returns SEQ-IODINE with the weights of an IODINE of pictures; of other models a `UserError`."""
    from tfobj.errors import UserError
    from tfobj.models.iodine import Iodine
    from tfobj.models.sequential_iodine import SequentialIodine

    if not isinstance(model, Iodine) or model.is_video:
        raise UserError(
            f"`--sequential` must go with a run of iodine on pictures. Received: a run of {type(model).__name__}."
        )
    return SequentialIodine.of_pictures(model, clamp)


def _has_tracking():
    """Whether the library that counts the events of tracking is there; says so if it is not."""
    if importlib.util.find_spec("motmetrics") is None:
        print(
            "No scores of tracking (mota, id_switches, ...): they need `pip install tfobj[video]`.",
            file=sys.stderr,
        )
        return False
    return True


def print_table(facts, summary):
    """Prints facts, then mean and standard deviation over scenes of every metric, then averages over objects and pairs."""
    for name in ("model", "protocol", "step", "num_slots", "num_steps"):
        print(f"{name:<16}{facts[name]}")
    print(f"{'num_scenes':<16}{summary['num_scenes']}\n\n{'metric':<20}{'mean':>12}{'std':>12}")
    for name, value in summary.items():
        if f"{name}_std" in summary:
            interval = (
                f"   95 % [{summary['fg_ari_low']:.4f}, {summary['fg_ari_high']:.4f}]"
                if name == "fg_ari"
                else ""
            )
            print(f"{name:<20}{value:>12.5g}{summary[f'{name}_std']:>12.4g}{interval}")
    print()
    for name, value in summary.items():
        if (
            name.endswith(("_micro", "_visible", "_objects", "_pairs")) or "_ahead_" in name
        ) and f"{name}_std" not in summary:
            print(f"{name:<24}{value:>8.5g}")


if __name__ == "__main__":
    commands.run(main)
