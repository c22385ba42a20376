"""One self-contained HTML page per run: scores, worst scenes first, curves, configuration.

Figures are embedded as PNG; the page loads nothing from anywhere, so that it can be mailed or archived.
"""

import base64
import html
import json
import math
import os
import pathlib

import numpy as np

from tfobj import files
from tfobj.errors import UserError
from tfobj.viz import canvas, palette, panels

SCENES_PER_FIGURE = 4
MAX_LISTED = 20
"""Rows in the table of the worst scenes; the whole table is in the CSV file beside the report."""

TILES = ("fg_ari", "ari", "msc", "miou", "aiou", "dpa_30", "mse", "psnr", "elbo", "kl")
"""Metrics shown large on top, where they exist."""

_STYLE = """
:root { --ink: #1f2328; --soft: #6b7280; --line: #e5e7eb; --accent: #0072b2; --warn: #d55e00; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1180px; padding: 40px 28px 80px; background: #fff; color: var(--ink);
       font: 15px/1.55 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
h1 { font-size: 27px; margin: 0 0 4px; letter-spacing: -0.01em; }
h2 { font-size: 18px; margin: 44px 0 12px; padding-bottom: 6px; border-bottom: 1px solid var(--line); }
p.protocol, p.note, figcaption { color: var(--soft); margin: 0 0 14px; }
.tiles { display: flex; flex-wrap: wrap; gap: 12px; margin: 26px 0 8px; }
.tile { flex: 1 1 120px; border: 1px solid var(--line); border-radius: 8px; padding: 12px 14px; }
.tile b { display: block; font-size: 23px; font-variant-numeric: tabular-nums; line-height: 1.25; }
.tile span { color: var(--soft); font-size: 12.5px; }
.warning { border-left: 4px solid var(--warn); background: #fdf3ec; padding: 10px 14px; margin: 10px 0; }
figure { margin: 0 0 22px; } img { max-width: 100%; height: auto; display: block; }
table { border-collapse: collapse; font-size: 13.5px; font-variant-numeric: tabular-nums; }
th, td { padding: 5px 14px 5px 0; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th { color: var(--soft); font-weight: 600; } th:first-child, td:first-child { text-align: left; }
.wide { overflow-x: auto; }
pre { background: #f6f7f9; border-radius: 8px; padding: 16px; overflow-x: auto; font-size: 12.5px; line-height: 1.45; }
details summary { cursor: pointer; color: var(--accent); }
"""


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
    """Writes the page; the file appears whole or not at all.

    Args:
      path: of the HTML file.
      title: e.g. "slot_attention on tetris".
      summary: flat dict of numbers, from `SceneScorer.summary`.
      protocol: one line that says what was measured: split, number of scenes, resolution, step, seed.
      table: optional per-scene table, name -> [num_scenes], from `SceneScorer.table`.
      scenes: optional dict of arrays of the scenes that may be drawn: image, recon, masks, slot_recons,
        optional true_mask (shapes of `decomposition_figure`), and index [B], their rows in `table`
        (absent: the first B rows). They are drawn worst first.
      figures: pairs (caption, figure), each a matplotlib figure, PNG bytes or path of a PNG file.
      config: optional JSON-able configuration.
      warnings: sentences, from `health.diagnose`.
      sort_by: the column that says which scenes are worst (low = worst); "mse" (high = worst) is taken
        where it is missing.

    Returns:
      path: pathlib.Path.
    """
    table = {name: np.asarray(values, np.float64) for name, values in (table or {}).items()}
    order, sorted_by = worst_first(table, sort_by)
    parts = [
        f"<h1>{_escape(title)}</h1>",
        f'<p class="protocol">{_escape(protocol)}</p>' if protocol else "",
    ]
    parts += [f'<div class="warning">{_escape(sentence)}</div>' for sentence in warnings]
    parts += [_tiles(summary), "<h2>Scores</h2>", _scores(summary)]
    if sorted_by in table and np.isfinite(table[sorted_by]).any():
        parts.append(
            _figure(
                "How the scenes are distributed.", distribution_figure(table[sorted_by], sorted_by)
            )
        )
    if scenes:
        parts.append("<h2>Scenes, worst first</h2>")
        parts += [
            _figure(caption, figure)
            for caption, figure in _scene_figures(scenes, table, order, sorted_by)
        ]
    if order.size:
        parts += [
            f"<h2>Worst scenes by {_escape(sorted_by)}</h2>",
            _worst_table(table, order[:MAX_LISTED]),
        ]
    if figures:
        parts.append("<h2>Figures</h2>")
        parts += [_figure(caption, figure) for caption, figure in figures]
    if config is not None:
        dump = json.dumps(config, indent=2, sort_keys=False, default=str)
        parts += [
            "<h2>Configuration</h2>",
            f"<details><summary>show</summary><pre>{_escape(dump)}</pre></details>",
        ]
    page = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{_escape(title)}</title>'
        f"<style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(filter(None, parts))
        + "\n</body></html>\n"
    )
    path = pathlib.Path(path)
    files.write_text(path, page)
    return path


def worst_first(table, sort_by="fg_ari"):
    """Rows of a per-scene table from worst to best, e.g. to choose the scenes that a report draws.

    Args:
      table: name -> [num_scenes].
      sort_by: column; low is worst, but for squared errors high is. "mse" is taken where it is missing.

    Returns:
      (order, name): int64 row numbers, scenes with NaN left out; and the column that decided.
    """
    if sort_by not in table:
        sort_by = "mse"
    if sort_by not in table:
        return np.zeros(0, np.int64), sort_by
    values = -table[sort_by] if sort_by.startswith("mse") else table[sort_by]
    order = np.argsort(values, kind="stable")
    return order[~np.isnan(values[order])], sort_by


def distribution_figure(values, name):
    """Histogram of one column of the per-scene table, with its mean; NaN left out.

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
    axes.hist(
        values,
        bins=min(40, max(10, len(values) // 8)),
        color=palette.SLOT_COLOURS[0],
        edgecolor="white",
        lw=0.5,
    )
    axes.axvline(values.mean(), color=palette.SLOT_COLOURS[5], linewidth=1.6)
    axes.set_title(
        f"mean {values.mean():.4g}",
        loc="right",
        fontsize=canvas.LABEL_SIZE,
        color=palette.SLOT_COLOURS[5],
    )
    axes.set_xlabel(name, fontsize=canvas.LABEL_SIZE, color=canvas.INK)
    axes.set_ylabel("scenes", fontsize=canvas.LABEL_SIZE, color=canvas.INK)
    axes.tick_params(labelsize=canvas.SMALL_SIZE, colors=canvas.SOFT_INK, length=3, width=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set(color="#c3c8d0", linewidth=0.8)
    return figure


def _scene_figures(scenes, table, order, sorted_by):
    """Pairs (caption, figure) of `SCENES_PER_FIGURE` scenes each."""
    image = np.asarray(scenes["image"])
    index = np.asarray(scenes.get("index", np.arange(len(image))))
    if index.shape != (len(image),):
        raise UserError(
            f"`scenes['index']` must have shape [{len(image)}]. Received: {index.shape}."
        )
    rank = {row: place for place, row in enumerate(order)}
    drawn = sorted(range(len(index)), key=lambda b: rank.get(index[b], len(rank)))
    for start in range(0, len(drawn), SCENES_PER_FIGURE):
        chosen = drawn[start : start + SCENES_PER_FIGURE]
        arrays = {
            name: np.asarray(scenes[name])[chosen]
            for name in ("image", "recon", "masks", "slot_recons", "true_mask")
            if scenes.get(name) is not None
        }
        rows = index[chosen]
        scores = {
            name: table[name][rows] for name in dict.fromkeys([sorted_by, "mse"]) if name in table
        }
        figure = panels.decomposition_figure(
            **arrays, scores=scores, scene_names=[f"scene {row}" for row in rows]
        )
        yield f"Scenes {', '.join(map(str, rows))}.", figure


def _tiles(summary):
    tiles = [name for name in TILES if name in summary]
    cells = "".join(
        f'<div class="tile"><b>{_number(summary[n])}</b><span>{_escape(n)}</span></div>'
        for n in tiles
    )
    return f'<div class="tiles">{cells}</div>' if tiles else ""


def _scores(summary):
    names = [
        n
        for n in summary
        if not n.endswith(("_std", "_low", "_high")) and not n.startswith("undefined_")
    ]
    rows = []
    for name in names:
        ends = [_number(summary[name + end]) for end in ("_low", "_high") if name + end in summary]
        others = [_number(summary.get(key)) for key in (f"{name}_std", f"undefined_{name}")]
        rows.append([name, _number(summary[name]), others[0], " – ".join(ends), others[1]])
    note = "Deviation is over scenes, not over training seeds; undefined scenes are left out of the mean."
    head = ["metric", "mean", "deviation", "95 % interval", "undefined"]
    return f'<p class="note">{note}</p>{_html_table(head, rows)}'


def _worst_table(table, order):
    rows = [[str(row), *(_number(values[row]) for values in table.values())] for row in order]
    return f'<div class="wide">{_html_table(["scene", *table], rows)}</div>'


def _html_table(head, rows):
    head = "".join(f"<th>{_escape(cell)}</th>" for cell in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{_escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _figure(caption, figure):
    if isinstance(figure, bytes):
        png = figure
    elif isinstance(figure, str | os.PathLike):
        png = pathlib.Path(figure).read_bytes()
    else:
        png = canvas.figure_to_png(figure)
    data = base64.b64encode(png).decode("ascii")
    caption = _escape(caption)
    picture = f'<img alt="{caption}" src="data:image/png;base64,{data}">'
    return f"<figure>{picture}<figcaption>{caption}</figcaption></figure>"


def _number(value):
    if value is None:
        return ""
    if not math.isfinite(value):
        return "–" if math.isnan(value) else str(value)
    return f"{value:,.0f}" if isinstance(value, int) or abs(value) >= 1_000 else f"{value:#.4g}"


def _escape(text):
    return html.escape(str(text))
