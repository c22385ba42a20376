"""Learning curves from the rows of `metrics.jsonl`."""

import math
import re

import numpy as np

from tfobj.errors import UserError
from tfobj.viz import canvas, palette

PANEL_WIDTH = 420
PANEL_HEIGHT = 250
MAX_COLUMNS = 4

LOG_RANGE = 30.0
"""Positive values whose 95th percentile is this many times the 5th are drawn on a log axis."""

TITLE_WIDTH = 19
"""Characters of a line of a panel's title, beside which the last value has room."""

_LEFT = 84
_ROW_GAP = 70
_TITLE_LINE = 26
_AUXILIARY = ("_std", "_low", "_high")
_COUNTS = ("undefined_", "failed_", "num_")


def learning_curve_figure(rows, names=None, *, title=""):
    """Draws a panel per metric against the training step, with a line per split.

    The split "train" is a thin line with a running mean over 2 % of the points. Other splits have
    markers, and a band where `<name>_low` and `<name>_high` are logged (the bootstrap interval of
    `SceneScorer`).

    Args:
      rows: iterable of dicts, as in `metrics.jsonl`: "step", "split", then names -> numbers. Rows
        may hold different names; values that are not finite are left out.
      names: metrics to draw, in this order; None draws all but deviations, intervals and counts,
        with one panel for metrics that are equal or proportional to each other.
      title: line above the figure.

    Returns:
      matplotlib.figure.Figure.

    Raises:
      UserError: if there is nothing to draw.
    """
    series = _series(rows)
    available = list(dict.fromkeys(name for _, name in series))
    if names is None:
        panels = _panels(_main_metrics(available, series), series)
    else:
        panels = {name: name for name in names if name in available}
    if not panels:
        raise UserError(
            f"`names` must name at least one logged metric of {available}. "
            "Received nothing to draw."
        )

    columns = min(MAX_COLUMNS, len(panels))
    titles = [_wrapped(title) for title in panels.values()]
    upper_edges = [0]
    for first in range(0, len(titles), columns):
        lines = 1 + max(title.count("\n") for title in titles[first : first + columns])
        upper_edges[-1] += _TITLE_LINE * (lines - 1)
        upper_edges.append(upper_edges[-1] + PANEL_HEIGHT + _ROW_GAP + _TITLE_LINE)
    legend_top = canvas.MARGIN
    if title:
        legend_top += 34
    top = legend_top + 70
    width = columns * PANEL_WIDTH + canvas.MARGIN
    height = top + upper_edges[-1]
    figure = canvas.new_figure(width, height)
    if title:
        style = {"fontsize": canvas.TITLE_SIZE, "color": canvas.INK, "weight": "bold", "va": "top"}
        figure.text(_LEFT / width, 1.0 - canvas.MARGIN / height, title, **style)

    # One legend serves all panels: it gets the line of a split from the first panel that has one.
    splits = list(dict.fromkeys(split for split, _ in series))
    handles = {}
    for i, name in enumerate(panels):
        row, column = divmod(i, columns)
        left = _LEFT + column * PANEL_WIDTH
        upper = top + upper_edges[row]
        box = (
            left / width,
            1.0 - (upper + PANEL_HEIGHT) / height,
            (PANEL_WIDTH - 84) / width,
            PANEL_HEIGHT / height,
        )
        axes = figure.add_axes(box)
        _plot_splits(axes, name, splits, series, handles)
        _style_panel(axes, titles[i])

    figure.legend(
        handles.values(),
        handles.keys(),
        loc="upper left",
        ncols=len(handles),
        frameon=False,
        borderpad=0,
        borderaxespad=0,
        handlelength=1.6,
        fontsize=canvas.LABEL_SIZE,
        labelcolor=canvas.INK,
        bbox_to_anchor=(_LEFT / width, 1.0 - legend_top / height),
    )
    return figure


def _main_metrics(names, series):
    """Returns the names of metrics without deviations, intervals and counts.

    The numbers of failed scenes and images remain if any failed.
    """
    metrics = []
    for name in names:
        if name in ("failed_scenes", "health/failed_images"):
            if any(values[1].any() for (_, its), values in series.items() if its == name):
                metrics.append(name)
        elif not name.endswith(_AUXILIARY) and not name.startswith(_COUNTS):
            metrics.append(name)
    return metrics


def _panels(names, series):
    """Returns metric to draw -> title of its panel, which names the metrics that it stands for.

    Metrics with the same points, up to a factor, have one panel.
    """
    panels = {}
    for name in names:
        for drawn in panels:
            ratio = _ratio(drawn, name, series)
            if ratio is None:
                continue
            if abs(ratio - 1.0) < 1e-6:
                panels[drawn] += f" = {name}"
            else:
                panels[drawn] += f"; x {ratio:.4g}: {name}"
            break
        else:
            panels[name] = name
    return panels


def _ratio(one, other, series):
    """Returns the factor from one metric to another; None if they are not proportional."""
    splits = [split for split, name in series if name == one]
    if splits != [split for split, name in series if name == other]:
        return None
    first, second = (
        np.concatenate([series[split, name] for split in splits], axis=1) for name in (one, other)
    )
    # Two points are proportional by chance more often than three are.
    if first.shape != second.shape or first.shape[1] < 3 or not first[1].any():
        return None

    largest = np.abs(first[1]).argmax()
    ratio = second[1, largest] / first[1, largest]
    same_steps = (first[0] == second[0]).all()
    if same_steps and np.allclose(ratio * first[1], second[1], rtol=1e-5, atol=0.0):
        return ratio
    return None


def _wrapped(title):
    """Breaks a title into lines of at most `TITLE_WIDTH` characters, after spaces, _ and /."""
    lines = [""]
    for part in re.findall(r"[^ _/]*[ _/]?", title):
        if lines[-1] and len(lines[-1] + part.rstrip()) > TITLE_WIDTH:
            lines.append("")
        lines[-1] += part
    return "\n".join(line.rstrip() for line in lines)


def _series(rows):
    """Returns (split, name) -> (steps, values), sorted by step, finite numbers only."""
    points = {}
    for row in rows:
        split = row.get("split", "train")
        for name, value in row.items():
            if name in ("step", "split"):
                continue
            # Booleans are integers to Python, but no metric.
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if number and math.isfinite(value):
                points.setdefault((split, name), []).append((row["step"], value))
    return {key: np.array(sorted(pairs), np.float64).T for key, pairs in points.items()}


def _plot_splits(axes, name, splits, series, handles):
    """Plots one metric of every split that has it, and adds lines of new splits to `handles`."""
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
            low = series.get((split, f"{name}_low"))
            high = series.get((split, f"{name}_high"))
            if low is not None and high is not None:
                # The ends of the interval may be logged at different steps.
                upper = np.interp(low[0], *high)
                axes.fill_between(low[0], low[1], upper, color=colour, alpha=0.15, linewidth=0)

        handles.setdefault(split, line)
        drawn.append(values)
        last = f"{values[-1]:.4g}"

    # Percentiles, so that a spike at the start does not decide the scale.
    values = np.concatenate(drawn)
    low, high = np.percentile(values, [5, 95])
    if values.min() > 0 and high > LOG_RANGE * low:
        axes.set_yscale("log")
    axes.set_title(last, loc="right", fontsize=canvas.LABEL_SIZE, color=canvas.SOFT_INK)


def _style_panel(axes, title):
    """Writes the title and labels of a panel, and draws its grid and spines."""
    title_style = {"fontsize": canvas.LABEL_SIZE + 1, "color": canvas.INK, "weight": "bold"}
    axes.set_title(title, loc="left", **title_style)
    axes.set_xlabel("training step", fontsize=canvas.SMALL_SIZE, color=canvas.SOFT_INK)

    axes.xaxis.set_major_formatter(_short_number)
    if axes.get_yscale() == "linear":
        # A factor of ten above the axis would stand in the title.
        axes.yaxis.set_major_formatter(lambda value, position: f"{value:g}")
    axes.xaxis.set_major_locator(_few_ticks())
    tick_style = {"labelsize": canvas.SMALL_SIZE, "colors": canvas.SOFT_INK, "length": 3}
    axes.tick_params(**tick_style, width=0.6, which="both")

    axes.grid(axis="y", color="#e5e7eb", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set(color="#c3c8d0", linewidth=0.8)


def _running_mean(values):
    """Returns the centred mean over 2 % of the points; windows shrink at both ends."""
    half = len(values) // 100
    total = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    start = np.maximum(index - half, 0)
    stop = np.minimum(index + half + 1, len(values))
    return (total[stop] - total[start]) / (stop - start)


def _few_ticks():
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=5, integer=True)


def _short_number(value, _position=None):
    for size, suffix in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{suffix}"
    return f"{value:g}"
