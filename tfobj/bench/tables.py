"""The tables of docs/performance.md, from files of `launch/benchmark.py --json`. Needs no TensorFlow."""

import json
import pathlib

from tfobj import files

PICTURE_SIZE = {"tetris": 35, "multi_dsprites": 64, "clevr_with_masks": 128}
"""Height of the pictures, by which the convolution is chosen that a time is set against, unless the row says its own."""
CONVOLUTION_SIZES = (35, 64, 128)

START_MB = 700
"""What a process has taken when TensorFlow is imported and nothing was computed, in MB."""
COMMAND = "python launch/benchmark.py --write_docs"


def write_page(page, results, check=False):
    """Writes the tables of docs/performance.md from the files of `results`/benchmarks; returns whether they changed.

    Raises:
      UserError: `check`, and they are not up to date.
    """
    speed, dials, refinement, clips = (
        read_reports(results / "benchmarks", f"{name}_*.json")
        for name in ("speed", "dials", "refinement", "clips")
    )
    public = json.loads((results / "public_times.json").read_text())
    tables = {
        "speed": speed_table(speed, public),
        "refinement": refinement_table(refinement, public),
        "dials": dials_table(dials),
        "clips": clips_table(clips),
    }
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
    """Returns the reports of `folder` whose file names fit `pattern`, in the order of their names."""
    return [json.loads(path.read_text()) for path in sorted(pathlib.Path(folder).glob(pattern))]


def speed_table(reports, public):
    """Returns Markdown: one row per training row of `reports`, set against the fastest public time where there is one.

    Args:
      reports: of `benchmark.run`.
      public: content of results/public_times.json. Its times are from another machine. What they would be on this one is
        estimated twice: from the rates of a matrix product, and of a convolution of the same size, on both.
    """
    lines = [
        "| model | dataset | batch | precision | ms per step | images/s | peak MB | GFLOP | of conv peak | of conv of its size | public, ms there | "
        "ratio by matmul | ratio by convolution | pipeline / step |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for report in reports:
        for row in report["rows"]:
            if row["what"] == "train":
                lines.append("| " + " | ".join(_speed_cells(report, row, public)) + " |")
    return "\n".join([*lines, "", _where(reports)])


def _speed_cells(report, row, public):
    peak = "–" if row["fraction_of_conv_peak"] is None else f"{row['fraction_of_conv_peak']:.0%}"
    own = "–"
    if row["gflop_per_step"] is not None:
        rate = _convolution_rate(report["calibration"], _convolution_size(row), row["precision"])
        own = f"{1000.0 * row['gflop_per_step'] / row['ms_per_step_min'] / rate:.0%}"
    cells = [
        f"`{row['model']}`",
        row["dataset"],
        str(row["batch_size"]),
        row["precision"],
        f"{row['ms_per_step']:.0f}",
        f"{row['images_per_second']:.0f}",
        f"{row['peak_memory_mb']:.0f}",
        "–" if row["gflop_per_step"] is None else f"{row['gflop_per_step']:.0f}",
        peak,
        own,
    ]
    pipeline = f"{row['pipeline_ratio']:.0f}" if "pipeline_ratio" in row else "–"
    known = _public_row(public, row)
    if (
        known is None
        or row["preset"] != "paper"
        or row["settings"].replace("train.precision=bfloat16", "")
    ):
        return [*cells, "–", "–", "–", pipeline]
    ratios = [row["ms_per_step"] / ms for ms in _carried_over(known["ms"], report, row, public)]
    return [
        *cells,
        f"{known['ms']:,} ({known['source']})",
        *(f"{ratio:.2f}" for ratio in ratios),
        pipeline,
    ]


def _public_row(public, row, model=None):
    """Returns the public time of the row's configuration, or that of another model on the same data, or None."""
    wanted = {
        **{name: row[name] for name in ("dataset", "batch_size")},
        "model": model or row["model"],
    }
    return next(
        (p for p in public["rows"] if all(p[name] == value for name, value in wanted.items())), None
    )


def _carried_over(ms, report, row, public):
    """Returns what a public time would be on the machine of `report`: by the rates of a matrix product, and of a convolution."""
    size = _convolution_size(row)
    here = report["calibration"]["matmul_gflops"], _convolution_rate(report["calibration"], size)
    there = public["matmul_gflops"], public["convolution_gflops"][str(size)]
    return [ms * t / h for h, t in zip(here, there, strict=True)]


def _convolution_size(row):
    """Height of the measured convolution that is nearest to the row's pictures; of two equally near the larger."""
    height = row["image_size"][0] if "image_size" in row else PICTURE_SIZE[row["dataset"]]
    return max(CONVOLUTION_SIZES, key=lambda size: (-abs(size - height), size))


def refinement_table(reports, public):
    """Returns Markdown: how many times faster than IODINE a row is, ours in the same minutes, and the public one.

    Args:
      reports: of `benchmark.run`, each with IODINE's rows for every measurement in it.
      public: content of results/public_times.json; it has training steps alone.
    """
    lines = [
        "| dataset | image | batch | model | settings | what | ms | GFLOP | times faster than our IODINE | than public IODINE, by matmul | by convolution |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for report in reports:
        for row in report["rows"]:
            ours = next(
                r for r in report["rows"] if r["model"] == "iodine" and r["what"] == row["what"]
            )
            known = _public_row(public, row, "iodine") if row["what"] == "train" else None
            faster = (
                [
                    f"{ms / row['ms_per_step']:.1f}"
                    for ms in _carried_over(known["ms"], report, row, public)
                ]
                if known
                else ["–", "–"]
            )
            lines.append(
                "| "
                + " | ".join(
                    [
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
                )
                + " |"
            )
    return "\n".join([*lines, "", _where(reports)])


def _convolution_rate(calibration, size, precision="float32"):
    """Best rate of the convolution whose pictures have that size, over the rounds, GFLOP/s."""
    return max(
        rate
        for peak in calibration["convolution_gflops_per_round"]
        for shape, rate in peak[precision].items()
        if f"x{size}x{size}x" in shape
    )


def dials_table(reports):
    """Returns Markdown: memory and time under the settings that trade one for the other, against the first row of each report."""
    lines = [
        "| model | dataset | batch | settings | peak MB | ms per step | against the first: memory above start | time |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for report in reports:
        first = report["rows"][0]
        for row in report["rows"]:
            memory = _memory_ratio(row, first)
            lines.append(
                f"| `{row['model']}` | {row['dataset']} | {row['batch_size']} | {row['settings'] or 'as in the preset'} | {row['peak_memory_mb']:.0f} | "
                f"{row['ms_per_step']:.0f} | {memory:.2f} | {row['ms_per_step'] / first['ms_per_step']:.2f} |"
            )
    return "\n".join([*lines, "", _where(reports)])


def clips_table(reports):
    """Returns Markdown: memory and time of training steps on clips, kept against rematerialised, by length and batch.

    Args:
      reports: of `benchmark.run`; of every kind of step in them there are two rows, which differ in `train.rematerialise`.
    """
    lines = [
        "| model | frames of | clips per step | frames each | peak MB, kept | rematerialised | memory above start | s per step, kept | rematerialised | time |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for report in reports:
        pairs = {}
        for row in report["rows"]:
            pairs.setdefault(
                (
                    row["model"],
                    "x".join(map(str, row["image_size"])),
                    row["batch_size"],
                    row["num_frames"],
                ),
                {},
            )[row["rematerialise"]] = row
        for (model, size, batch, frames), pair in sorted(pairs.items()):
            kept, recomputed = pair[False], pair[True]
            memory = _memory_ratio(recomputed, kept)
            lines.append(
                f"| `{model}` | {size} | {batch} | {frames} | {kept['peak_memory_mb']:,.0f} | {recomputed['peak_memory_mb']:,.0f} | {memory:.2f} | "
                f"{kept['ms_per_step'] / 1000:.1f} | {recomputed['ms_per_step'] / 1000:.1f} | {recomputed['ms_per_step'] / kept['ms_per_step']:.2f} |"
            )
    return "\n".join([*lines, "", _where(reports)])


def _memory_ratio(row, other):
    """Peak memory of a row over that of another one, both above what TensorFlow takes."""
    return (row["peak_memory_mb"] - START_MB) / (other["peak_memory_mb"] - START_MB)


def _where(reports):
    machines = sorted({f"{r['machine']['hardware']}; {r['machine']['software']}" for r in reports})
    rates = [r["calibration"]["matmul_gflops"] for r in reports]
    return f"{'; '.join(machines)}. Matrix product: {min(rates):.0f} to {max(rates):.0f} GFLOP/s."
