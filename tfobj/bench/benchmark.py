"""How fast training, inference and the input pipeline are, measured so that two numbers can be compared.

Machines drift: the same step can take half as long again a minute later. So what is compared is measured in turns,

    A B C  A B C  A B C ...          one block of a few seconds each

every row in a process of its own (its peak memory is its own, and nothing that another row compiled or cached
helps it), which sleeps while it is another's turn. A matrix product is timed before every block and a few convolutions
once per round, so that times stand beside what the machine could do in the same minutes. Tracing, compilation and
warm-up come before the first block, and the clock of a block stops when its results are there. Times are medians
over blocks; the fraction of the convolution peak sets the fastest block against the fastest convolution, because on a
machine with other tenants only the best of several is a property of the code.

    train       `TrainStep` on batches of `BatchStream`, as in a run
    inference   `Evaluator.forward` on one batch of the same size
    data        the batches alone, as tf.data hands them over; should outrun a training step at least fivefold
"""

import dataclasses
import math
import pathlib
import resource
import statistics
import sys
import tempfile
import time

import numpy as np
import tensorflow as tf

from tfobj.bench import workers
from tfobj.bench.flops import count_flops
from tfobj.data import folder, protocols
from tfobj.data.packed import SceneArrays
from tfobj.errors import UserError, unknown_name
from tfobj.training import machine
from tfobj.training.evaluation import Evaluator
from tfobj.training.experiment import (
    ExperimentConfig,
    build_model,
    first_batches,
    open_scenes,
    resolve,
)
from tfobj.training.optimizer import make_optimizer
from tfobj.training.step import make_train_step
from tfobj.training.strategy import STRATEGIES, make_strategy, refuse_multiworker, uses_xla

MEASUREMENTS = ("train", "inference", "data")
FEW_SCENES = {"data.num_train": 512, "data.num_test": 32}
"""Settings of a benchmark unless others are given: its numbers do not depend on how many scenes there are."""
PIPELINE_RATIO = 5.0
"""Images per second of the pipeline alone over those of a training step, at least."""
MATMUL_SIZE = 2048
CONVOLUTIONS = ((32, 35, 32, 5), (28, 64, 32, 5), (14, 128, 64, 3))
"""(images, height = width, channels in and out, kernel): the layers in which these models spend their time."""


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
      models, dataset, preset, overrides: as in `resolve`; the overrides hold for every model. A dataset that has presets
        but no scenes yet is stood for by noise: times do not depend on what is in the pictures.
      also: dicts of further overrides; with each of them every model is measured once more, or that one alone which "model" names.
      what: entries of `MEASUREMENTS`. Batches of one size from one dataset are measured once, whoever wants them.

    Raises:
      UserError: an unknown name, or a value out of range.
    """
    for name in what:
        if name not in MEASUREMENTS:
            raise unknown_name("measurement", name, MEASUREMENTS)
    for changes in also:
        if changes.get("model", models[0]) not in models:
            raise unknown_name("model of `also`", changes["model"], models)
    rows, pipelines = [], set()
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
      strategy: a name of `STRATEGIES`.
      seconds: length of a block; at least one step is made.
      blocks: turns of every row.
      data_dir: TFDS folder for the few scenes that are built; None builds them in a temporary one.

    Returns:
      The report: a dict for JSON with `machine`, `calibration` and `rows`; `format_report` prints it.

    Raises:
      UserError: a number out of range, or something that a row needs is missing.
    """
    if not rows:
        raise UserError("`rows` must have at least one entry. Received: none.")
    if strategy not in STRATEGIES:
        raise unknown_name("strategy", strategy, STRATEGIES)
    refuse_multiworker(strategy, "launch/benchmark.py")
    if not 0 < seconds < math.inf:
        raise UserError(f"`seconds` must be positive. Received: seconds={seconds}.")
    if blocks < 1:
        raise UserError(f"`blocks` must be at least 1. Received: blocks={blocks}.")
    with tempfile.TemporaryDirectory(prefix="benchmark_") as temporary, workers.Team() as team:
        data_dir = data_dir or temporary
        precisions = sorted({row.experiment.train.precision for row in rows})
        calibration = team.start(
            "calibration",
            _Calibration,
            precisions,
            [row.experiment for row in rows],
            strategy,
            data_dir,
        )
        started = [
            team.start(str(row), _MeasuredRow, row, strategy, data_dir, seconds) for row in rows
        ]
        results, peaks = [[] for _ in rows], []
        for number in range(blocks):
            print(f"round {number + 1} of {blocks}", file=sys.stderr, flush=True)
            peaks.append(calibration.call())
            for worker, result in zip(started, results, strict=True):
                result.append(worker.call())
        convolution = {
            precision: max(rate for peak in peaks for rate in peak[precision].values())
            for precision in precisions
        }
        lines = [
            _summary(row, worker.facts, result, convolution[row.experiment.train.precision])
            for row, worker, result in zip(rows, started, results, strict=True)
        ]
        _compare_pipelines(lines)
        matmul = [block["matmul_gflops"] for result in results for block in result]
        return {
            "machine": calibration.facts,
            "strategy": strategy,
            "seconds": seconds,
            "blocks": blocks,
            "calibration": {
                "matmul_gflops": statistics.median(matmul),
                "matmul_gflops_per_block": matmul,
                "convolution_gflops": convolution,
                "convolution_gflops_per_round": peaks,
            },
            "rows": lines,
        }


def _summary(row, facts, blocks, convolution_gflops):
    """Returns the JSON object of a row."""
    train, times = row.experiment.train, [block["ms"] for block in blocks]
    median = statistics.median(times)
    gflop = facts["gflop"]
    num_frames = row.experiment.model.num_frames if row.experiment.model.is_video else None
    return {
        "model": row.experiment.model_name,
        "dataset": row.experiment.data.protocol,
        "preset": row.experiment.preset,
        "what": row.what,
        "settings": row.settings,
        "image_size": list(row.experiment.model.image_size),
        "batch_size": train.batch_size,
        "precision": train.precision,
        **({} if num_frames is None else {"num_frames": num_frames}),
        "rematerialise": train.rematerialise,
        "ms_per_step": median,
        "ms_per_step_min": min(times),
        "ms_per_step_spread": (max(times) - min(times)) / median,
        "ms_per_step_per_block": times,
        "images_per_second": 1000.0 * train.batch_size * (num_frames or 1) / median,
        "peak_memory_mb": max(block["peak_memory_mb"] for block in blocks),
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
    text = [
        f"{'model':<{width}}  {'what':<9} {'batch':>5}  {'precision':<9} {'ms/step':>9} {'min':>9} {'spread':>6} "
        f"{'images/s':>9} {'MB':>6} {'GFLOP':>7} {'of peak':>7}"
    ]
    for name, line in zip(names, report["rows"], strict=True):
        gflop = "" if line["gflop_per_step"] is None else f"{line['gflop_per_step']:.1f}"
        fraction = (
            "" if line["fraction_of_conv_peak"] is None else f"{line['fraction_of_conv_peak']:.0%}"
        )
        text.append(
            f"{name:<{width}}  {line['what']:<9} {line['batch_size']:>5}  {line['precision']:<9} {line['ms_per_step']:>9.4g} "
            f"{line['ms_per_step_min']:>9.4g} {line['ms_per_step_spread']:>6.0%} {line['images_per_second']:>9.4g} "
            f"{line['peak_memory_mb']:>6.0f} {gflop:>7} {fraction:>7}"
        )
    calibration = report["calibration"]
    peaks = ", ".join(
        f"{value:.0f} in {name}" for name, value in calibration["convolution_gflops"].items()
    )
    text += [
        "",
        f"{report['rows'][0]['dataset']}, {report['blocks']} blocks of {report['seconds']:g} s in turns: median, min, (max - min) / median. "
        f"Strategy {report['strategy']}.",
        f"{report['machine']['hardware']}; {report['machine']['software']}.",
        f"GFLOP/s: matmul {calibration['matmul_gflops']:.0f}; best convolution forward + backward {peaks} (= peak).",
    ]
    for name, line in zip(names, report["rows"], strict=True):
        if "pipeline_ratio" in line:
            verdict = "" if line["pipeline_ratio"] >= PIPELINE_RATIO else ": TOO SLOW"
            text.append(
                f"{name}: the pipeline makes {line['pipeline_ratio']:.1f} x the images of a training step "
                f"(at least {PIPELINE_RATIO:g} wanted){verdict}."
            )
    return "\n".join(text)


class _MeasuredRow:
    """A row in its own process."""

    def __init__(self, row, strategy, data_dir, seconds):
        self.strategy = make_strategy(strategy)
        self.device = _device(self.strategy)
        scenes = _scenes(row.experiment, data_dir)
        stream = first_batches(row.experiment, scenes)
        self.steps, flops = {
            "train": self._train,
            "inference": self._inference,
            "data": self._data,
        }[row.what](row.experiment, stream)
        self.facts = {"gflop": flops and flops / 1e9}
        self.count = self._steps_in(seconds)

    def __call__(self):
        """One block: its milliseconds per step, and the matmul just before."""
        matmul = _gflops(2 * MATMUL_SIZE**3, _matmul(self.device), 2)
        return {
            "matmul_gflops": matmul,
            "ms": 1000.0 * _seconds(self.steps, self.count) / self.count,
            "peak_memory_mb": _peak_memory_mb(self.strategy),
        }

    def _steps_in(self, seconds):
        """Returns how many steps fill a block; the steps that find it out are the warm-up."""
        self.steps(1)
        count, taken = 1, _seconds(self.steps, 1)
        while taken < seconds / 10:
            count *= 4
            taken = _seconds(self.steps, count)
        return max(1, round(count * seconds / taken))

    def _train(self, experiment, stream):
        config, strategy = experiment.train, self.strategy
        with strategy.scope():
            model, optimizer = build_model(experiment), make_optimizer(config)
        step = make_train_step(strategy, model, optimizer, experiment)
        iterator = iter(strategy.experimental_distribute_dataset(stream.dataset()))
        return lambda count: step.run(iterator, count), count_flops(step.trace(iterator))

    def _inference(self, experiment, stream):
        with self.strategy.scope():
            model = build_model(experiment)
        evaluator = Evaluator(
            model,
            experiment.train.batch_size,
            xla=uses_xla(self.strategy, experiment.train.compile),
        )
        with tf.device(self.device):
            image = tf.constant(next(iter(stream.dataset()))["image"])

        def steps(count):
            with tf.device(self.device):
                for _ in range(count):
                    outputs = evaluator.forward(image)
                outputs.masks[
                    :1, :1, :1, :1
                ].numpy()  # one pixel: waits for the last call, which waits for those before

        return steps, count_flops(evaluator.trace(image))

    def _data(self, experiment, stream):
        iterator = iter(stream.dataset())

        def steps(count):
            for _ in range(count):
                next(iterator)

        return steps, None


class _Calibration:
    """What the machine can do: convolutions of typical shapes, forward and backward. Builds the scenes first."""

    def __init__(self, precisions, experiments, strategy, data_dir):
        for experiment in experiments:
            _scenes(experiment, data_dir)
        device = _device(make_strategy(strategy))
        self.kernels = {
            precision: {shape: _convolution(shape, precision, device) for shape in CONVOLUTIONS}
            for precision in precisions
        }
        facts = machine.describe()
        self.facts = {name: facts[name] for name in ("hardware", "software")}

    def __call__(self):
        """precision -> shape -> GFLOP/s."""
        return {
            precision: {
                f"{n}x{size}x{size}x{channels}, {k}x{k}": _gflops(
                    6 * n * size**2 * channels**2 * k**2, kernel, 2
                )
                for (n, size, channels, k), kernel in kernels.items()
            }
            for precision, kernels in self.kernels.items()
        }


def _scenes(experiment, data_dir):
    """Returns the training scenes, built if need be; noise for a dataset of which there are presets alone."""
    name = experiment.data.protocol
    if name in protocols.PROTOCOLS or name.startswith(folder.PREFIX):
        return open_scenes(experiment, "train", data_dir)[0]
    shape = (experiment.data.num_train, *experiment.model.image_size, experiment.model.channels)
    return SceneArrays(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))


def _device(strategy):
    return strategy.extended.worker_devices[0]


def _matmul(device):
    with tf.device(device):
        a = tf.random.stateless_normal([MATMUL_SIZE, MATMUL_SIZE], seed=[0, 1])
    product = tf.function(lambda: tf.matmul(a, a)[:1, :1], autograph=False)
    return lambda: product().numpy()


def _convolution(shape, precision, device):
    """Returns a function that makes one convolution and both of its gradients."""
    images, size, channels, kernel = shape
    with tf.device(device):
        x = tf.cast(
            tf.random.stateless_normal([images, size, size, channels], seed=[0, 1]), precision
        )
        weights = tf.cast(
            tf.random.stateless_normal([kernel, kernel, channels, channels], seed=[0, 2]), precision
        )

    @tf.function(autograph=False)
    def pass_both_ways():
        with tf.GradientTape() as tape:
            tape.watch([x, weights])
            y = tf.nn.conv2d(x, weights, 1, "SAME")
        dx, dw = tape.gradient(y, [x, weights], output_gradients=y)
        return dx[:1, :1, :1, :1], dw[:1, :1, :1, :1]

    return lambda: [gradient.numpy() for gradient in pass_both_ways()]


def _gflops(operations, function, repeats):
    """Returns the best rate of a function that has run once."""
    function()
    return operations / min(_seconds(lambda _: function(), 1) for _ in range(repeats)) / 1e9


def _seconds(steps, count):
    start = time.perf_counter()
    steps(count)
    return time.perf_counter() - start


def _peak_memory_mb(strategy):
    """Peak of the fullest GPU, or of this process (importing TensorFlow 2.21 takes 700 of it), in units of 2**20 bytes."""
    gpus = [
        device.rpartition("device:")[2]
        for device in strategy.extended.worker_devices
        if "GPU" in device
    ]
    if gpus:
        return max(tf.config.experimental.get_memory_info(gpu)["peak"] for gpu in gpus) / 2**20
    status = pathlib.Path("/proc/self/status")
    if status.exists():  # ru_maxrss starts at the size of the process that started this one
        return (
            next(
                int(line.split()[1])
                for line in status.read_text().splitlines()
                if line.startswith("VmHWM")
            )
            / 1024
        )
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
        2**20 if sys.platform == "darwin" else 1024
    )
