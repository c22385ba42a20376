"""The tables of docs/performance.md, from files of `launch/benchmark.py --json`. Needs no TensorFlow."""

import json
import pathlib

from tfobj import files

PICTURE_SIZE = {"tetris": 35, "multi_dsprites": 64, "clevr_with_masks": 128}
"""Height of the pictures, by which the convolution is chosen that a time is set against."""


START_MB = 700
"""What a process has taken when TensorFlow is imported and nothing was computed, in MB."""
COMMAND = "python launch/benchmark.py --write_docs"


def write_page(page, results, check=False):
    """Writes both tables of docs/performance.md from the files of `results`/benchmarks; returns whether they changed.

    Raises:
      UserError: `check`, and they are not up to date.
    """
    speed, dials = (read_reports(results / "benchmarks", f"{name}_*.json") for name in ("speed", "dials"))
    tables = {"speed": speed_table(speed, json.loads((results / "public_times.json").read_text())), "dials": dials_table(dials)}
    changed = [files.fill_between(page, f"<!-- {name}: written by `{COMMAND}` -->", f"<!-- end of {name} -->", table, check, COMMAND)
               for name, table in tables.items()]
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
    lines = ["| model | dataset | batch | precision | ms per step | images/s | peak MB | GFLOP | of conv peak | of conv of its size | public, ms there | "
             "ratio by matmul | ratio by convolution | pipeline / step |", "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|"]
    for report in reports:
        for row in report["rows"]:
            if row["what"] == "train":
                lines.append("| " + " | ".join(_speed_cells(report, row, public)) + " |")
    return "\n".join([*lines, "", _where(reports)])


def _speed_cells(report, row, public):
    peak = "–" if row["fraction_of_conv_peak"] is None else f"{row['fraction_of_conv_peak']:.0%}"
    own = "–"
    if row["gflop_per_step"] is not None and row["dataset"] in PICTURE_SIZE:
        rate = _convolution_rate(report["calibration"], PICTURE_SIZE[row["dataset"]], row["precision"])
        own = f"{1000.0 * row['gflop_per_step'] / row['ms_per_step_min'] / rate:.0%}"
    cells = [f"`{row['model']}`", row["dataset"], str(row["batch_size"]), row["precision"], f"{row['ms_per_step']:.0f}", f"{row['images_per_second']:.0f}",
             f"{row['peak_memory_mb']:.0f}", "–" if row["gflop_per_step"] is None else f"{row['gflop_per_step']:.0f}", peak, own]
    known = [p for p in public["rows"] if all(p[name] == row[name] for name in ("model", "dataset", "batch_size"))]
    pipeline = f"{row['pipeline_ratio']:.0f}" if "pipeline_ratio" in row else "–"
    if not known or row["preset"] != "paper" or row["settings"].replace("train.precision=bfloat16", ""):
        return [*cells, "–", "–", "–", pipeline]
    size = PICTURE_SIZE[row["dataset"]]
    here = {"matmul": report["calibration"]["matmul_gflops"], "convolution": _convolution_rate(report["calibration"], size)}
    there = {"matmul": public["matmul_gflops"], "convolution": public["convolution_gflops"][str(size)]}
    ratios = [row["ms_per_step"] * here[name] / there[name] / known[0]["ms"] for name in ("matmul", "convolution")]
    return [*cells, f"{known[0]['ms']:,} ({known[0]['source']})", *(f"{ratio:.2f}" for ratio in ratios), pipeline]


def _convolution_rate(calibration, size, precision="float32"):
    """Best rate of the convolution whose pictures have that size, over the rounds."""
    return max(rate for peak in calibration["convolution_gflops_per_round"] for shape, rate in peak[precision].items() if f"x{size}x{size}x" in shape)


def dials_table(reports):
    """Returns Markdown: memory and time under the settings that trade one for the other, against the first row of each report."""
    lines = ["| model | dataset | batch | settings | peak MB | ms per step | against the first: memory above start | time |",
             "|---|---|---|---|---|---|---|---|"]
    for report in reports:
        first = report["rows"][0]
        for row in report["rows"]:
            memory = (row["peak_memory_mb"] - START_MB) / (first["peak_memory_mb"] - START_MB)
            lines.append(f"| `{row['model']}` | {row['dataset']} | {row['batch_size']} | {row['settings'] or 'as in the preset'} | {row['peak_memory_mb']:.0f} | "
                         f"{row['ms_per_step']:.0f} | {memory:.2f} | {row['ms_per_step'] / first['ms_per_step']:.2f} |")
    return "\n".join([*lines, "", _where(reports)])


def _where(reports):
    machines = sorted({f"{r['machine']['hardware']}; {r['machine']['software']}" for r in reports})
    rates = [r["calibration"]["matmul_gflops"] for r in reports]
    return f"{'; '.join(machines)}. Matrix product: {min(rates):.0f} to {max(rates):.0f} GFLOP/s."
