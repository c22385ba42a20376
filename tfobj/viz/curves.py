"""Learning curves from the rows of `metrics.jsonl`."""

import math

import numpy as np

from tfobj.errors import UserError
from tfobj.viz import canvas, palette

PANEL_WIDTH, PANEL_HEIGHT = 420, 250
MAX_COLUMNS = 4
LOG_RANGE = 30.0
"""Positive values whose 95th percentile is this many times the 5th are drawn on a log axis."""
_AUXILIARY = ("_std", "_low", "_high")


def learning_curve_figure(rows, names=None, *, title=""):
    """One panel per metric against the training step, one line per split.

    The split "train" is drawn thin with a running mean over 2 % of the points; others with markers, and
    with a band where `<name>_low` and `<name>_high` are logged (the bootstrap interval of `SceneScorer`).

    Args:
      rows: iterable of dicts, as in `metrics.jsonl`: "step", "split", then names -> numbers. Rows may hold
        different names; values that are not finite are left out.
      names: metrics to draw, in this order; None draws all but deviations, intervals and counts.
      title: line above the figure.

    Returns:
      matplotlib.figure.Figure.

    Raises:
      UserError: if there is nothing to draw.
    """
    series = _series(rows)
    available = list(dict.fromkeys(name for _, name in series))
    if names is None:
        names = [
            n
            for n in available
            if not n.endswith(_AUXILIARY) and not n.startswith(("undefined_", "num_"))
        ]
    names = [name for name in names if name in available]
    if not names:
        raise UserError(
            f"`names` must name at least one logged metric of {available}. Received nothing to draw."
        )
    splits = list(dict.fromkeys(split for split, _ in series))
    columns = min(MAX_COLUMNS, len(names))
    rows_of_panels = math.ceil(len(names) / columns)
    legend_top = canvas.MARGIN + (34 if title else 0)
    top = legend_top + 70
    width = columns * PANEL_WIDTH + canvas.MARGIN
    height = top + rows_of_panels * (PANEL_HEIGHT + 96)
    figure = canvas.new_figure(width, height)
    if title:
        y = 1.0 - canvas.MARGIN / height
        figure.text(
            70 / width,
            y,
            title,
            fontsize=canvas.TITLE_SIZE,
            color=canvas.INK,
            weight="bold",
            va="top",
        )
    handles = {}
    for i, name in enumerate(names):
        row, column = divmod(i, columns)
        left, upper = 70 + column * PANEL_WIDTH, top + row * (PANEL_HEIGHT + 96)
        box = (
            left / width,
            1.0 - (upper + PANEL_HEIGHT) / height,
            (PANEL_WIDTH - 84) / width,
            PANEL_HEIGHT / height,
        )
        axes = figure.add_axes(box)
        _panel(axes, name, splits, series, handles)
    figure.legend(
        handles.values(), handles.keys(), loc="upper left", ncols=len(handles), frameon=False, borderpad=0,
        borderaxespad=0, handlelength=1.6, fontsize=canvas.LABEL_SIZE, labelcolor=canvas.INK,
        bbox_to_anchor=(70 / width, 1.0 - legend_top / height),
    )  # fmt: skip
    return figure


def _series(rows):
    """(split, name) -> (steps, values), sorted by step, finite numbers only."""
    points = {}
    for row in rows:
        split = row.get("split", "train")
        for name, value in row.items():
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if name not in ("step", "split") and number and math.isfinite(value):
                points.setdefault((split, name), []).append((row["step"], value))
    return {key: np.array(sorted(pairs), np.float64).T for key, pairs in points.items()}


def _panel(axes, name, splits, series, handles):
    last = ""
    drawn = []
    for i, split in enumerate(splits):
        if (split, name) not in series:
            continue
        colour = palette.SLOT_COLOURS[(0, 5, 2, 3)[i % 4]]
        steps, values = series[split, name]
        if split == "train":
            axes.plot(steps, values, color=colour, linewidth=0.6, alpha=0.30)
            (line,) = axes.plot(steps, _running_mean(values), color=colour, linewidth=1.6)
        else:
            (line,) = axes.plot(steps, values, "-o", color=colour, linewidth=1.6, markersize=3.2)
            if (split, f"{name}_low") in series and (split, f"{name}_high") in series:
                low, high = series[split, f"{name}_low"], series[split, f"{name}_high"]
                axes.fill_between(
                    low[0], low[1], np.interp(low[0], *high), color=colour, alpha=0.15, linewidth=0
                )
        handles.setdefault(split, line)
        drawn.append(values)
        last = f"{values[-1]:.4g}"
    values = np.concatenate(drawn)
    low, high = np.percentile(values, [5, 95])
    if values.min() > 0 and high > LOG_RANGE * low:
        axes.set_yscale("log")
    axes.set_title(
        name, loc="left", fontsize=canvas.LABEL_SIZE + 1, color=canvas.INK, weight="bold"
    )
    axes.set_title(last, loc="right", fontsize=canvas.LABEL_SIZE, color=canvas.SOFT_INK)
    axes.set_xlabel("step", fontsize=canvas.SMALL_SIZE, color=canvas.SOFT_INK)
    axes.xaxis.set_major_formatter(_short_number)
    axes.xaxis.set_major_locator(_few_ticks())
    axes.tick_params(
        labelsize=canvas.SMALL_SIZE, colors=canvas.SOFT_INK, length=3, width=0.6, which="both"
    )
    axes.grid(axis="y", color="#e5e7eb", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set(color="#c3c8d0", linewidth=0.8)


def _running_mean(values):
    """Centred mean over 2 % of the points; windows shrink at both ends."""
    half = len(values) // 100
    total = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    start, stop = np.maximum(index - half, 0), np.minimum(index + half + 1, len(values))
    return (total[stop] - total[start]) / (stop - start)


def _few_ticks():
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=5, integer=True)


def _short_number(value, _position=None):
    for size, suffix in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{suffix}"
    return f"{value:g}"
