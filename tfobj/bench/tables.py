"""Makes the tables of docs/performance.md from files of `launch/benchmark.py --json`.

It needs no TensorFlow.
"""

import pathlib
import statistics

from tfobj import files
from tfobj.bench import markdown
from tfobj.bench.serving_table import serving_table

CONVOLUTION_SIZES = (35, 64, 128)

GOOD_SCORES = (0.90, 0.95)
"""Foreground ARI of validation scenes that a user may wait for."""
COMMAND = "python launch/benchmark.py --write_docs"


def write_page(page, results, check=False):
    """Writes the tables of docs/performance.md from the files of `results`/benchmarks.

    Returns:
      Whether they changed.

    Raises:
      UserError: `check`, and they are not up to date.
    """
    public = files.read_json(results / "public_times.json")

    def reports(name):
        return read_reports(results / "benchmarks", f"{name}_*.json")

    tables = {
        "speed": speed_table(reports("speed"), public),
        "refinement": refinement_table(reports("refinement"), public),
        "dials": dials_table(reports("dials")),
        "memory": memory_table(reports("memory"), public),
        "minutes": minutes_table(results),
        "clips": clips_table(reports("clips")),
        "serve": serving_table(read_reports(results / "benchmarks", "serve.json")),
    }

    # All of them are written before one is reported: a list, not a generator.
    changed = [
        files.fill_between(
            page,
            f"<!-- {name}: written by `{COMMAND}` -->",
            f"<!-- end of {name} -->",
            table,
            check,
            COMMAND,
        )
        for name, table in tables.items()
    ]
    return any(changed)


def read_reports(folder, pattern):
    """Returns the reports of `folder` whose file names fit `pattern`, in alphabetical order."""
    return [files.read_json(path) for path in sorted(pathlib.Path(folder).glob(pattern))]


def _table(header, rows, reports):
    """Returns a table as Markdown, with the machines of its reports below."""
    return "\n".join([*markdown.table(header, rows), "", _machines(reports)])


def speed_table(reports, public):
    """Returns Markdown: one row per training row of `reports`.

    Each is compared with the fastest public time where there is one.

    Args:
      reports: of `benchmark.run`.
      public: content of results/public_times.json. Its times are from another machine. Their values
        on this one are estimated twice: from the rates of a matrix product, and of the fastest
        convolution, on both.
    """
    header = (
        "model",
        "dataset",
        "batch",
        "precision",
        "ms per step",
        "images/s",
        "peak MB",
        "GFLOP",
        "of conv peak",
        "of conv of its size",
        "best public: ms there",
        "MB there",
        "ratio by matmul",
        "ratio by convolution",
        "ratio side by side, before",
        "pipeline / step",
    )

    rows = [
        _speed_cells(report, row, public)
        for report in reports
        for row in report["rows"]
        if row["what"] == "train"
    ]
    return _table(header, rows, reports)


def _speed_cells(report, row, public):
    peak = "–"
    if row["fraction_of_conv_peak"] is not None:
        peak = f"{row['fraction_of_conv_peak']:.0%}"
    gflop = "–"
    own = "–"
    if row["gflop_per_step"] is not None:
        gflop = f"{row['gflop_per_step']:.0f}"
        rate = _convolution_rate(report["calibration"], _convolution_size(row), row["precision"])
        own = f"{1000.0 * row['gflop_per_step'] / row['ms_per_step_min'] / rate:.0%}"
    pipeline = "–"
    if "pipeline_ratio" in row:
        pipeline = f"{row['pipeline_ratio']:.0f}"

    cells = [
        f"`{row['model']}`",
        row["dataset"],
        str(row["batch_size"]),
        row["precision"],
        f"{row['ms_per_step']:.0f}",
        f"{row['images_per_second']:.0f}",
        f"{row['peak_memory_mb']:.0f}",
        gflop,
        peak,
        own,
    ]
    return [*cells, *_public_cells(report, row, public), pipeline]


def _public_cells(report, row, public):
    """Returns (public time, its memory, ratios to it: by matmul, by convolution, as measured)."""
    # Other settings than the precision make another step than the public one.
    settings = row["settings"].replace("train.precision=bfloat16", "")
    known = _public_row(public, row)
    if known is None or row["preset"] != "paper" or settings:
        return ["–"] * 5

    ratios = [row["ms_per_step"] / ms for ms in _carried_over(known["ms"], report, public)]
    ratios.append(known["side_by_side"][row["precision"]])
    return [
        f"{known['ms']:,} ({known['source']})",
        f"{known['mb']:,}",
        *(f"{ratio:.2f}" for ratio in ratios),
    ]


def _public_row(public, row, model=None):
    """Returns the public time of the row's configuration, or None.

    It may be that of another model on the same data.
    """
    wanted = (row["dataset"], row["batch_size"], model or row["model"])
    for known in public["rows"]:
        if (known["dataset"], known["batch_size"], known["model"]) == wanted:
            return known
    return None


def _carried_over(ms, report, public):
    """Returns estimates of a public time on the machine of `report`.

    One is by the rates of a matrix product, the other by those of the fastest convolution.
    """
    calibration = report["calibration"]
    by_matmul = ms * public["matmul_gflops"] / calibration["matmul_gflops"]
    rate = calibration["convolution_gflops"]["float32"]
    return [by_matmul, ms * public["convolution_gflops"] / rate]


def _convolution_size(row):
    """Returns the height of the measured convolution that is nearest to the row's images.

    Of two equally near ones it is the larger.
    """
    height = row["image_size"][0]
    return max(CONVOLUTION_SIZES, key=lambda size: (-abs(size - height), size))


def refinement_table(reports, public):
    """Returns Markdown: how many times faster than IODINE a row is.

    It is compared with ours in the same minutes, and with the public one.

    Args:
      reports: of `benchmark.run`, each with IODINE's rows for every measurement in it.
      public: content of results/public_times.json; it has training steps alone.
    """
    header = (
        "dataset",
        "image",
        "batch",
        "model",
        "settings",
        "what",
        "ms",
        "GFLOP",
        "times faster than our IODINE",
        "than public IODINE, by matmul",
        "by convolution",
    )

    rows = [_refinement_cells(report, row, public) for report in reports for row in report["rows"]]
    return _table(header, rows, reports)


def _refinement_cells(report, row, public):
    ours = next(
        other
        for other in report["rows"]
        if other["model"] == "iodine" and other["what"] == row["what"]
    )

    # Public times are those of training steps.
    known = None
    faster = ["–", "–"]
    if row["what"] == "train":
        known = _public_row(public, row, "iodine")
    if known:
        times = _carried_over(known["ms"], report, public)
        faster = [f"{ms / row['ms_per_step']:.1f}" for ms in times]

    return [
        row["dataset"],
        "x".join(map(str, row["image_size"])),
        str(row["batch_size"]),
        f"`{row['model']}`",
        row["settings"] or "as in the preset",
        row["what"],
        f"{row['ms_per_step']:.0f}",
        f"{row['gflop_per_step']:.0f}",
        f"{ours['ms_per_step'] / row['ms_per_step']:.1f}",
        *faster,
    ]


def _convolution_rate(calibration, size, precision="float32"):
    """Returns the best rate of the convolution on images of that size over the rounds, GFLOP/s."""
    return max(
        rate
        for peak in calibration["convolution_gflops_per_round"]
        for shape, rate in peak[precision].items()
        if f"x{size}x{size}x" in shape
    )


def dials_table(reports):
    """Returns Markdown: memory and time under the settings that trade one for the other.

    Rows are compared with the first one of each report.
    """
    header = (
        "model",
        "dataset",
        "batch",
        "settings",
        "peak MB",
        "ms per step",
        "against the first: memory above start",
        "time",
    )

    rows = []
    for report in reports:
        first = report["rows"][0]
        rows += [_dial_cells(row, first) for row in report["rows"]]
    return _table(header, rows, reports)


def memory_table(reports, public):
    """Returns Markdown: peak memory and time by default, and under `train.memory=low`.

    Args:
      reports: of `benchmark.run`, each with these two rows.
      public: content of results/public_times.json.
    """
    header = (
        "model",
        "dataset",
        "batch",
        "peak MB",
        "of it above start",
        "with train.memory=low",
        "of it above start",
        "time",
        "best public, MB",
    )

    rows = []
    for report in reports:
        default, low = report["rows"]
        known = _public_row(public, default)
        rows.append(
            [
                f"`{default['model']}`",
                default["dataset"],
                str(default["batch_size"]),
                f"{default['peak_memory_mb']:,.0f}",
                f"{_above_start(default):,.0f}",
                f"{low['peak_memory_mb']:,.0f}",
                f"{_above_start(low):,.0f}",
                f"{low['ms_per_step'] / default['ms_per_step']:.2f}",
                f"{known['mb']:,}" if known else "–",
            ]
        )
    return _table(header, rows, reports)


def minutes_table(results):
    """Returns Markdown: how soon recorded runs on Tetris came to good validation scores.

    Args:
      results: folder of the evaluations of runs; its folder `precision` has more of the same
        presets, in given precisions.
    """
    header = (
        "model",
        "preset",
        "precision",
        "seeds",
        *(f"minutes to {score:.2f}" for score in GOOD_SCORES),
        "minutes in all",
        "test fg-ARI",
    )
    groups = {}
    folder = pathlib.Path(results)
    names = "*_seed*.json"
    for path in [*sorted(folder.glob(names)), *sorted(folder.glob(f"precision/{names}"))]:
        run = files.read_json(path)
        if "validation_curve" in run and run["protocol"].startswith("tetris/"):
            key = (run["model"], run["preset"], run["precision"])
            groups.setdefault(key, []).append(run)

    rows = [_minutes_cells(*key, groups[key]) for key in sorted(groups)]
    hardware = sorted({run["hardware"] for runs in groups.values() for run in runs})
    return "\n".join([*markdown.table(header, rows), "", f"{'; '.join(hardware)}."])


def _minutes_cells(model, preset, precision, runs):
    def reached(run, score):
        """Returns the minutes after which a run's validation score was that high, or None."""
        return next(
            (row["minutes"] for row in run["validation_curve"] if row["fg_ari"] >= score), None
        )

    cells = []
    for score in GOOD_SCORES:
        minutes = [reached(run, score) for run in runs]
        if None in minutes:
            cells.append(f"not in {minutes.count(None)} of {len(runs)}")
        else:
            cells.append(f"{statistics.mean(minutes):.1f}")
    return [
        f"`{model}`",
        preset,
        precision,
        str(len(runs)),
        *cells,
        f"{statistics.mean(run['training_minutes'] for run in runs):.1f}",
        f"{statistics.mean(run['fg_ari'] for run in runs):.3f}",
    ]


def _dial_cells(row, first):
    return [
        f"`{row['model']}`",
        row["dataset"],
        str(row["batch_size"]),
        row["settings"] or "as in the preset",
        f"{row['peak_memory_mb']:.0f}",
        f"{row['ms_per_step']:.0f}",
        f"{_memory_ratio(row, first):.2f}",
        f"{row['ms_per_step'] / first['ms_per_step']:.2f}",
    ]


def clips_table(reports):
    """Returns Markdown: memory and time of training steps on clips, by length and batch.

    Steps that keep what the gradient needs are compared with steps that rematerialise it.

    Args:
      reports: of `benchmark.run`; of every kind of step in them there are two rows, which differ in
        `train.rematerialise`.
    """
    header = (
        "model",
        "frames of",
        "clips per step",
        "frames each",
        "peak MB, kept",
        "rematerialised",
        "memory above start",
        "s per step, kept",
        "rematerialised",
        "time",
    )

    rows = [
        _clip_cells(key, pair) for report in reports for key, pair in sorted(_pairs(report).items())
    ]
    return _table(header, rows, reports)


def _pairs(report):
    """Returns kind of step -> {whether it rematerialises: row}."""
    pairs = {}
    for row in report["rows"]:
        size = "x".join(map(str, row["image_size"]))
        key = (row["model"], size, row["batch_size"], row["num_frames"])
        pairs.setdefault(key, {})[row["rematerialise"]] = row
    return pairs


def _clip_cells(key, pair):
    model, size, batch, frames = key
    kept = pair[False]
    recomputed = pair[True]

    return [
        f"`{model}`",
        size,
        str(batch),
        str(frames),
        f"{kept['peak_memory_mb']:,.0f}",
        f"{recomputed['peak_memory_mb']:,.0f}",
        f"{_memory_ratio(recomputed, kept):.2f}",
        f"{kept['ms_per_step'] / 1000:.1f}",
        f"{recomputed['ms_per_step'] / 1000:.1f}",
        f"{recomputed['ms_per_step'] / kept['ms_per_step']:.2f}",
    ]


def _memory_ratio(row, other):
    """Returns the ratio of two rows' peak memories, both above that of their start."""
    return _above_start(row) / _above_start(other)


def _above_start(row):
    """Returns the peak memory of a row less that of its process before it had a model, in MB."""
    return row["peak_memory_mb"] - row["start_memory_mb"]


def _machines(reports):
    machines = sorted({f"{r['machine']['hardware']}; {r['machine']['software']}" for r in reports})
    rates = [r["calibration"]["matmul_gflops"] for r in reports]
    return f"{'; '.join(machines)}. Matrix product: {min(rates):.0f} to {max(rates):.0f} GFLOP/s."
