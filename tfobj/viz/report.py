"""One self-contained HTML page per run: scores, worst scenes first, curves, configuration.

Figures are embedded as PNG; the page loads nothing from anywhere, so it can be mailed or archived.
"""

import json
import pathlib

import numpy as np

from tfobj import files
from tfobj.errors import UserError
from tfobj.viz import canvas, palette, panels, report_page

SCENES_PER_FIGURE = 4

MAX_LISTED = 20
"""Rows in the table of the worst scenes; the whole table is in the CSV file beside the report."""

TILES = ("fg_ari", "ari", "msc", "miou", "aiou", "dpa_30", "mse", "psnr", "elbo", "kl")
"""Metrics shown large at the top, if they exist."""


def write_report(
    path,
    *,
    title,
    summary,
    protocol="",
    table=None,
    scenes=None,
    figures=(),
    config=None,
    warnings=(),
    sort_by="fg_ari",
):
    """Writes the page atomically.

    Args:
      path: path of the HTML file.
      title: title of the page, such as "slot_attention on tetris".
      summary: flat dict of numbers, from `SceneScorer.summary`.
      protocol: one line that says what was measured: split, number of scenes, resolution, step,
        seed.
      table: optional per-scene table, name -> [num_scenes], from `SceneScorer.table`.
      scenes: optional dict of arrays of the scenes that may be drawn: image, recon, masks,
        slot_recons, optional true_mask (shapes of `decomposition_figure`), and index [B], their
        rows in `table` (without it, the first B rows). They are drawn worst first.
      figures: pairs (caption, figure), each figure a matplotlib figure, PNG bytes or path of a PNG
        file.
      config: optional configuration, serialisable as JSON.
      warnings: sentences from `health.diagnose`.
      sort_by: the column that decides which scenes are worst (low is worst); without it, "mse"
        (high is worst).

    Returns:
      path: pathlib.Path.
    """
    table = {name: np.asarray(values, np.float64) for name, values in (table or {}).items()}
    order, sorted_by = worst_first(table, sort_by)

    parts = [report_page.heading(title, level=1)]
    if protocol:
        parts.append(report_page.note(protocol, kind="protocol"))
    parts += [report_page.warning(sentence) for sentence in warnings]

    tiles = {name: summary[name] for name in TILES if name in summary}
    if tiles:
        parts.append(report_page.tiles(tiles))
    parts += [report_page.heading("Scores"), *_scores(summary)]
    if sorted_by in table and np.isfinite(table[sorted_by]).any():
        histogram = distribution_figure(table[sorted_by], sorted_by)
        parts.append(report_page.figure(f"Distribution of {sorted_by} over scenes.", histogram))

    if scenes:
        parts.append(report_page.heading("Scenes, worst first"))
        for caption, figure in _scene_figures(scenes, table, order, sorted_by):
            parts.append(report_page.figure(caption, figure))
    if order.size:
        parts.append(report_page.heading(f"Worst scenes by {sorted_by}"))
        parts.append(_worst_table(table, order[:MAX_LISTED]))
    if figures:
        parts.append(report_page.heading("Figures"))
        parts += [report_page.figure(caption, figure) for caption, figure in figures]
    if config is not None:
        dump = json.dumps(config, indent=2, sort_keys=False, default=str)
        parts.append(report_page.heading("Configuration"))
        parts.append(report_page.folded("Show the configuration", dump))

    path = pathlib.Path(path)
    files.write_text(path, report_page.document(title, parts))
    return path


def worst_first(table, sort_by="fg_ari"):
    """Orders the rows of a per-scene table, for example to choose the scenes that a report draws.

    Args:
      table: name -> [num_scenes].
      sort_by: the column that decides; low is worst, but high is for squared errors. If it is
        missing, "mse" decides.

    Returns:
      order: int64 row numbers from worst to best, scenes with NaN left out.
      sorted_by: the column that decided.
    """
    if sort_by not in table:
        sort_by = "mse"
    if sort_by not in table:
        return np.zeros(0, np.int64), sort_by

    values = table[sort_by]
    if sort_by.startswith("mse"):
        values = -values
    order = np.argsort(values, kind="stable")
    return order[~np.isnan(values[order])], sort_by


def distribution_figure(values, name):
    """Draws a histogram of one column of the per-scene table with its mean, NaN left out.

    Args:
      values: [num_scenes].
      name: label of the axis.

    Returns:
      matplotlib.figure.Figure.
    """
    values = np.asarray(values, np.float64)
    values = values[np.isfinite(values)]
    figure = canvas.new_figure(900, 330)
    axes = figure.add_axes((0.08, 0.20, 0.89, 0.70))
    bins = min(40, max(10, len(values) // 8))
    axes.hist(values, bins=bins, color=palette.SLOT_COLOURS[0], edgecolor="white", lw=0.5)

    mean = values.mean()
    mean_colour = palette.SLOT_COLOURS[5]
    axes.axvline(mean, color=mean_colour, linewidth=1.6)
    axes.set_title(f"mean {mean:.4g}", loc="right", fontsize=canvas.LABEL_SIZE, color=mean_colour)

    axes.set_xlabel(name, fontsize=canvas.LABEL_SIZE, color=canvas.INK)
    axes.set_ylabel("number of scenes", fontsize=canvas.LABEL_SIZE, color=canvas.INK)
    axes.tick_params(labelsize=canvas.SMALL_SIZE, colors=canvas.SOFT_INK, length=3, width=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set(color="#c3c8d0", linewidth=0.8)
    return figure


def _scene_figures(scenes, table, order, sorted_by):
    """Yields (caption, figure) of `SCENES_PER_FIGURE` scenes each, worst first."""
    image = np.asarray(scenes["image"])
    index = np.asarray(scenes.get("index", np.arange(len(image))))
    if index.shape != (len(image),):
        raise UserError(
            f"`scenes['index']` must have shape [{len(image)}]. Received: {index.shape}."
        )

    # Scenes without a score have no rank and come last.
    rank = {row: place for place, row in enumerate(order)}
    drawn = sorted(range(len(index)), key=lambda b: rank.get(index[b], len(rank)))
    shown = ("image", "recon", "masks", "slot_recons", "true_mask")
    arrays = {name: np.asarray(scenes[name]) for name in shown if scenes.get(name) is not None}
    columns = [name for name in dict.fromkeys([sorted_by, "mse"]) if name in table]
    for start in range(0, len(drawn), SCENES_PER_FIGURE):
        chosen = drawn[start : start + SCENES_PER_FIGURE]
        rows = index[chosen]
        figure = panels.decomposition_figure(
            **{name: values[chosen] for name, values in arrays.items()},
            scores={name: table[name][rows] for name in columns},
            scene_names=[f"scene {row}" for row in rows],
        )
        yield f"Scenes {', '.join(map(str, rows))}.", figure


def _scores(summary):
    """Returns a note and the table of all metrics with what is known of their spread."""
    rows = []
    for name, mean in summary.items():
        if name.endswith(("_std", "_low", "_high")) or name.startswith("undefined_"):
            continue
        deviation = report_page.number(summary.get(f"{name}_std"))
        undefined = report_page.number(summary.get(f"undefined_{name}"))
        ends = [summary[name + end] for end in ("_low", "_high") if name + end in summary]
        interval = " – ".join(report_page.number(end) for end in ends)
        rows.append([name, report_page.number(mean), deviation, interval, undefined])

    head = ["metric", "mean", "standard deviation", "95 % interval", "undefined scenes"]
    note = (
        "The standard deviation is over scenes, not over training seeds. Scenes where a metric is "
        "undefined are left out of its mean."
    )
    return [report_page.note(note), report_page.table(head, rows)]


def _worst_table(table, order):
    """Returns the table of the scenes `order`, with all columns."""
    rows = []
    for row in order:
        numbers = [report_page.number(values[row]) for values in table.values()]
        rows.append([str(row), *numbers])
    return report_page.scrollable(report_page.table(["scene", *table], rows))
