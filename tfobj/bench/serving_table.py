"""The table of serving in docs/performance.md, from reports of `bench.serving`.

It needs no TensorFlow.
"""

import statistics

from tfobj.bench import markdown

_TITLES = {
    "keras": "Keras model in a graph",
    "signature": "signature of the SavedModel",
    "zoo": "`zoo.decompose`",
}
_HEADER = (
    "model",
    "image",
    "batch",
    "called by",
    "ms, median",
    "90th percentile",
    "fastest",
    "images/s",
    "relative to Keras (blocks: min–max)",
)


NO_REPORT = "No measurement is recorded: `python launch/benchmark.py --rows=serve` makes one."


def serving_table(reports):
    """Returns Markdown: one row per model, batch size and door of reports of `serving.run`.

    The last column is the median, over the rounds, of a block's images per second relative to those
    of the Keras model's block in the same round. Without a report, it is a sentence that says so.
    """
    if not reports:
        return NO_REPORT

    rows = [cells for report in reports for cells in _rows(report)]
    return "\n".join([*markdown.table(_HEADER, rows), "", *map(_circumstances, reports)])


def _rows(report):
    keras = {
        (row["model"], row["batch_size"]): row["images_per_second_per_block"]
        for row in report["rows"]
        if row["door"] == "keras"
    }
    for row in report["rows"]:
        yield _cells(row, keras[row["model"], row["batch_size"]])


def _circumstances(report):
    machine = report["machine"]
    return (
        f"{machine['hardware']}; {machine['software']}. {report['blocks']} blocks of "
        f"{report['seconds']:g} s in turns; other work at the start: "
        f"{report['busy_share_before']:.0%} of the processors."
    )


def _cells(row, keras):
    rates = row["images_per_second_per_block"]
    ratios = [own / other for own, other in zip(rates, keras, strict=True)]
    relative = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"
    if row["door"] == "keras":
        relative = "1.00"
    return [
        f"`{row['model']}`",
        "x".join(map(str, row["image_size"])),
        str(row["batch_size"]),
        _TITLES[row["door"]],
        f"{row['ms_median']:.1f}",
        f"{row['ms_90']:.1f}",
        f"{row['ms_min']:.1f}",
        f"{row['images_per_second']:.0f}",
        relative,
    ]
