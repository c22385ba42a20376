"""Measures training, inference and the input pipeline so that two numbers can be compared.

Machines drift: the same step can take half as long again a minute later. So rows that are compared
are measured in turns,

    A B C  A B C  A B C ...          one block of a few seconds each

every row in a process of its own (`measuring`). Its peak memory is its own, nothing that another
row compiled or cached helps it, and it sleeps while it is another's turn. A matrix product is timed
before every block and a few convolutions once per round, so that times stand beside what the
machine could do in the same minutes. Tracing, compilation and warm-up come before the first block,
and the clock of a block stops when its results are there. Times are medians over blocks; the
fraction of the convolution peak sets the fastest block against the fastest convolution, because on
a machine with other tenants only the best of several is a property of the code.

    train       `TrainStep` on batches of `BatchStream`, as in a run
    inference   `Evaluator.forward` on one batch of the same size
    data        the batches alone, as tf.data hands them over; should outrun a training step at
                least fivefold
"""

import contextlib
import dataclasses
import os
import statistics
import sys
import tempfile

from tfobj import lean_import
from tfobj.bench import turns
from tfobj.bench.measuring import Calibration, Measurement
from tfobj.errors import UserError, unknown_name
from tfobj.processes import Child
from tfobj.training import precision
from tfobj.training.experiment import ExperimentConfig, resolve
from tfobj.training.strategy import refuse_multiworker
from tfobj.training.strategy_names import check_name

MEASUREMENTS = ("train", "inference", "data")
FEW_SCENES = {"data.num_train": 512, "data.num_test": 32}
"""Settings of a benchmark unless others are given.

Its numbers do not depend on how many scenes there are.
"""
PIPELINE_RATIO = 5.0
"""Images per second of the pipeline alone over those of a training step, at least."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table."""

    experiment: ExperimentConfig
    what: str
    settings: str = ""
    """What tells it from the other rows of the model, in the words of `--set`."""

    def __str__(self):
        return " ".join(filter(None, [self.experiment.model_name, self.what, self.settings]))


def make_rows(models, dataset, preset="paper", overrides=None, also=(), what=("train",)):
    """Returns the `Row`s of models on a dataset.

    Args:
      models, dataset, preset, overrides: as in `resolve`; the overrides hold for every model. A
        dataset that has presets but no scenes yet is replaced by noise, because times do not depend
        on what the images show.
      also: dicts of further overrides. With each of them every model is measured once more, or only
        the one that its entry "model" names.
      what: entries of `MEASUREMENTS`. Batches of one size from one dataset are measured once,
        whichever models train on them.

    Raises:
      UserError: an unknown name, or a value out of range.
    """
    for name in what:
        if name not in MEASUREMENTS:
            raise unknown_name("measurement", name, MEASUREMENTS)
    for changes in also:
        if changes.get("model", models[0]) not in models:
            raise unknown_name("model of `also`", changes["model"], models)

    rows = []
    pipelines = set()
    for model in models:
        for changes in ({}, *also):
            if changes.get("model", model) != model:
                continue

            changes = {name: value for name, value in changes.items() if name != "model"}
            experiment = resolve(
                model,
                dataset,
                preset,
                {**FEW_SCENES, **(overrides or {}), **changes},
                needs_data=False,
            )
            decided = precision.decide(experiment.train.precision)
            experiment = experiment.override({"train.precision": decided})
            settings = " ".join(f"{name}={value}" for name, value in changes.items())
            pipeline = (experiment.data, experiment.train.batch_size)
            rows += [
                Row(experiment, name, settings)
                for name in what
                if name != "data" or pipeline not in pipelines
            ]
            pipelines.add(pipeline)
    return rows


def run(rows, strategy="auto", seconds=2.0, blocks=5, data_dir=None):
    """Measures `rows` in turns; progress goes to stderr.

    Args:
      rows: list of `Row`.
      strategy: one of `strategy_names.STRATEGIES`.
      seconds: length of a block; at least one step is made.
      blocks: turns of every row.
      data_dir: TFDS folder for the few scenes that are built; None builds them in a temporary one.

    Returns:
      The report: a dict for JSON with `machine`, `calibration` and `rows`; `format_report` prints
      it.

    Raises:
      UserError: a number out of range, or something that a row needs is missing.
    """
    _check_arguments(rows, strategy, seconds, blocks)
    busy = turns.notice_other_work()
    precisions = sorted({row.experiment.train.precision for row in rows})
    experiments = [row.experiment for row in rows]
    with contextlib.ExitStack() as stack:
        temporary = stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmark_"))
        data_dir = data_dir or temporary
        calibration, machine = _start(
            stack, "calibration", Calibration, precisions, experiments, strategy, data_dir
        )

        # One after the other: a row that compiles would disturb another that warms up.
        children = []
        facts = []
        for row in rows:
            child, facts_of_row = _start(
                stack,
                str(row),
                Measurement,
                row.experiment,
                row.what,
                strategy,
                data_dir,
                seconds,
            )
            children.append(child)
            facts.append(facts_of_row)

        results = [[] for _ in rows]
        peaks = []
        for _ in turns.rounds(blocks):
            peaks.append(calibration.call())
            for child, result in zip(children, results, strict=True):
                result.append(child.call())

    # The best of all rounds: only that is a property of the machine.
    convolution = {
        precision: max(rate for peak in peaks for rate in peak[precision].values())
        for precision in precisions
    }
    lines = [
        _summary(row, fact, result, convolution[row.experiment.train.precision])
        for row, fact, result in zip(rows, facts, results, strict=True)
    ]
    _compare_pipelines(lines)
    matmul = [block["matmul_gflops"] for result in results for block in result]
    return {
        "machine": machine,
        "strategy": strategy,
        "seconds": seconds,
        "blocks": blocks,
        "busy_share_before": busy,
        "calibration": {
            "matmul_gflops": statistics.median(matmul),
            "matmul_gflops_per_block": matmul,
            "convolution_gflops": convolution,
            "convolution_gflops_per_round": peaks,
        },
        "rows": lines,
    }


def _check_arguments(rows, strategy, seconds, blocks):
    if not rows:
        raise UserError("`rows` must have at least one entry. Received: none.")
    check_name(strategy)
    refuse_multiworker(strategy, "launch/benchmark.py")
    turns.check_turns(seconds, blocks)


def _start(stack, name, job, *arguments):
    """Returns (the child that holds `job(*arguments)` until the stack is left, its facts)."""
    print(f"starting {name}", file=sys.stderr, flush=True)

    # Several processes share the GPU, so none may take all of its memory.
    growth = os.environ.get("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    child = stack.enter_context(Child(name, {"TF_FORCE_GPU_ALLOW_GROWTH": growth}))
    child.run(lean_import.load_tensorflow)
    return child, child.make(job, *arguments)


def _summary(row, facts, blocks, convolution_gflops):
    """Returns the JSON object of a row."""
    model = row.experiment.model
    train = row.experiment.train
    times = [block["ms"] for block in blocks]
    median = statistics.median(times)
    gflop = facts["gflop"]
    summary = {
        "model": row.experiment.model_name,
        "dataset": row.experiment.data.protocol,
        "preset": row.experiment.preset,
        "what": row.what,
        "settings": row.settings,
        "image_size": list(model.image_size),
        "batch_size": train.batch_size,
        "precision": train.precision,
    }
    images = train.batch_size
    if model.is_video and model.num_frames is not None:
        summary["num_frames"] = model.num_frames
        images *= model.num_frames or 1

    return {
        **summary,
        "rematerialise": train.rematerialise,
        "ms_per_step": median,
        "ms_per_step_min": min(times),
        "ms_per_step_spread": (max(times) - min(times)) / median,
        "ms_per_step_per_block": times,
        "images_per_second": 1000.0 * images / median,
        "peak_memory_mb": max(block["peak_memory_mb"] for block in blocks),
        "start_memory_mb": blocks[0]["start_memory_mb"],
        "gflop_per_step": gflop,
        "fraction_of_conv_peak": gflop and gflop / min(times) * 1000.0 / convolution_gflops,
        "matmul_gflops_per_block": [block["matmul_gflops"] for block in blocks],
    }


def _compare_pipelines(lines):
    """Adds `pipeline_ratio` to the training rows whose pipeline was measured too."""

    def source(line):
        return line["dataset"], line["batch_size"]

    pipelines = {
        source(line): line["images_per_second"] for line in lines if line["what"] == "data"
    }
    for line in lines:
        if line["what"] == "train" and source(line) in pipelines:
            line["pipeline_ratio"] = pipelines[source(line)] / line["images_per_second"]


def format_report(report):
    """Returns the report as a table with what it means below."""
    names = [" ".join(filter(None, [line["model"], line["settings"]])) for line in report["rows"]]
    width = max(map(len, [*names, "model"]))
    calibration = report["calibration"]

    peaks = ", ".join(
        f"{value:.0f} in {name}" for name, value in calibration["convolution_gflops"].items()
    )
    text = [
        f"{'model':<{width}}  {'what':<9} {'batch':>5}  {'precision':<9} {'ms/step':>9} {'min':>9} "
        f"{'spread':>6} {'images/s':>9} {'MB':>6} {'GFLOP':>7} {'of peak':>7}",
        *(
            _format_row(f"{name:<{width}}", line)
            for name, line in zip(names, report["rows"], strict=True)
        ),
        "",
        f"{report['rows'][0]['dataset']}, {report['blocks']} blocks of {report['seconds']:g} s in "
        f"turns: median, min, (max - min) / median. Strategy {report['strategy']}.",
        f"{report['machine']['hardware']}; {report['machine']['software']}.",
        f"GFLOP/s: matmul {calibration['matmul_gflops']:.0f}; "
        f"best convolution forward + backward {peaks} (= peak).",
    ]
    for name, line in zip(names, report["rows"], strict=True):
        if "pipeline_ratio" in line:
            verdict = "" if line["pipeline_ratio"] >= PIPELINE_RATIO else ": TOO SLOW"
            text.append(
                f"{name}: the pipeline makes {line['pipeline_ratio']:.1f} x the images of a "
                f"training step (at least {PIPELINE_RATIO:g} wanted){verdict}."
            )
    return "\n".join(text)


def _format_row(name, line):
    gflop = ""
    fraction = ""
    if line["gflop_per_step"] is not None:
        gflop = f"{line['gflop_per_step']:.1f}"
        fraction = f"{line['fraction_of_conv_peak']:.0%}"
    return (
        f"{name}  {line['what']:<9} {line['batch_size']:>5}  {line['precision']:<9} "
        f"{line['ms_per_step']:>9.4g} {line['ms_per_step_min']:>9.4g} "
        f"{line['ms_per_step_spread']:>6.0%} {line['images_per_second']:>9.4g} "
        f"{line['peak_memory_mb']:>6.0f} {gflop:>7} {fraction:>7}"
    )
