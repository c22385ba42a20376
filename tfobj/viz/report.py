"""One self-contained HTML page per run: scores, the scenes behind them, curves, configuration.

Figures are embedded as PNG; the page loads nothing from anywhere, so it can be mailed or archived.
Every score is explained, where the pointer rests on its name and in a list at the end.
"""

import json
import pathlib

import numpy as np

from tfobj import files
from tfobj.errors import UserError
from tfobj.metrics import definitions
from tfobj.viz import canvas, palette, panels, report_page

SCENES_PER_FIGURE = 4

MAX_LISTED = 20
"""Rows in the table of the worst scenes; the whole table is in the CSV file beside the report."""

TILES = ("fg_ari", "ari", "msc", "miou", "aiou", "dpa_30", "mse", "psnr", "elbo", "kl")
"""Metrics shown large at the top, if they exist."""

FACTS = {
    "model": "model",
    "preset": "preset",
    "protocol": "scenes",
    "command": "trained with",
    "evaluation_command": "scored with",
    "training_minutes": "minutes of training",
    "hardware": "hardware",
    "software": "software",
    "step": "training steps",
    "checkpoint": "checkpoint",
    "seed": "seed of the training",
    "inference_seed": "seed of the scoring",
    "num_slots": "slots",
    "num_steps": "refinement steps",
    "num_frames": "frames of a clip",
    "config_fingerprint": "configuration",
}
"""Entries of `evaluation.json` that the page shows, and what it calls them."""

_BESIDES = ("_std", "_low", "_high")


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
    facts=None,
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
        rows in `table` (without it, the first B rows). They are drawn worst first. Or a dict of
        such dicts, drawn in their order below their names, such as "Worst scenes"; see `extremes`.
      figures: pairs (caption, figure), each figure a matplotlib figure, PNG bytes or path of a PNG
        file.
      config: optional configuration, serialisable as JSON.
      warnings: sentences from `health.diagnose`.
      sort_by: the column that decides which scenes are worst (low is worst); without it, "mse"
        (high is worst).
      facts: optional dict of what is known about the run, such as command, hardware and
        training_minutes; `FACTS` names those that are shown.

    Returns:
      path: pathlib.Path.
    """
    table = {name: np.asarray(values, np.float64) for name, values in (table or {}).items()}
    order, sorted_by = worst_first(table, sort_by)

    parts = [report_page.heading(title, level=1)]
    if protocol:
        parts.append(report_page.note(protocol, kind="protocol"))
    parts += [report_page.warning(sentence) for sentence in (*_failures(summary), *warnings)]

    same = same_everywhere(summary, table)
    tiles = [
        (_name(name, same), summary[name])
        for name in TILES
        if name in summary and name not in _repeated(same, TILES)
    ]
    if tiles:
        parts.append(report_page.tiles(tiles))
    if facts:
        parts += [report_page.heading("The run"), _facts(facts)]
    parts += [report_page.heading("Scores"), *_scores(summary, same)]
    if sorted_by in table and np.isfinite(table[sorted_by]).any():
        histogram = distribution_figure(table[sorted_by], sorted_by)
        parts.append(report_page.figure(f"Distribution of {sorted_by} over scenes.", histogram))

    for name, group in _groups(scenes):
        parts.append(report_page.heading(name))
        for caption, figure in _scene_figures(group, table, order, sorted_by):
            parts.append(report_page.figure(caption, figure))
    if order.size:
        parts.append(report_page.heading(f"Worst scenes by {sorted_by}, all scores"))
        parts.append(_worst_table(table, order[:MAX_LISTED]))
    if figures:
        parts.append(report_page.heading("Figures"))
        parts += [report_page.figure(caption, figure) for caption, figure in figures]
    legend = _legend(summary)
    if legend:
        parts += [report_page.heading("What the scores mean"), *legend]
    if config is not None:
        dump = json.dumps(config, indent=2, sort_keys=False, default=str)
        parts.append(report_page.heading("Configuration"))
        parts.append(report_page.folded("Show the configuration", dump))

    path = pathlib.Path(path)
    files.write_text(path, report_page.document(title, parts))
    return path


def _groups(scenes):
    """Returns pairs (heading, scenes) of the argument `scenes` of `write_report`."""
    if not scenes:
        return []
    if "image" in scenes:
        return [("Scenes, worst first", scenes)]
    return list(scenes.items())


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


def extremes(order, most=SCENES_PER_FIGURE):
    """Chooses scenes of every quality, so that a report shows neither the best nor the worst alone.

    Args:
      order: row numbers from worst to best, see `worst_first`.
      most: rows of each kind.

    Returns:
      dict of heading -> row numbers; no row occurs twice.
    """
    order = np.asarray(order)
    num_each = min(most, max(1, len(order) // 3))
    middle = (len(order) - num_each) // 2
    chosen = {
        "Worst scenes": order[:num_each],
        "Median scenes": order[middle : middle + num_each],
        "Best scenes": order[::-1][:num_each],
    }
    if len(order) < 3:
        del chosen["Median scenes"]
    if len(order) < 2:
        del chosen["Best scenes"]
    return {name: rows for name, rows in chosen.items() if len(rows)}


def distribution_figure(values, name):
    """Draws a histogram of one column of the per-scene table with its mean.

    Args:
      values: [num_scenes]; NaN = undefined. Scenes that failed may be infinite: they are not drawn,
        but said, and the mean is that of all scenes.
      name: label of the axis.

    Returns:
      matplotlib.figure.Figure.
    """
    values = np.asarray(values, np.float64)
    defined = values[~np.isnan(values)]
    values = defined[np.isfinite(defined)]
    figure = canvas.new_figure(900, 330)
    axes = figure.add_axes((0.08, 0.20, 0.89, 0.70))
    bins = min(40, max(10, len(values) // 8))
    axes.hist(values, bins=bins, color=palette.SLOT_COLOURS[0], edgecolor="white", lw=0.5)

    mean = defined.mean()
    mean_colour = palette.SLOT_COLOURS[5]
    mean_text = f"mean {mean:.4g}"
    if np.isfinite(mean):
        axes.axvline(mean, color=mean_colour, linewidth=1.6)
    else:
        mean_text += f": {len(defined) - len(values)} failed, not drawn"
    axes.set_title(mean_text, loc="right", fontsize=canvas.LABEL_SIZE, color=mean_colour)

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


def same_everywhere(summary, table):
    """Returns groups of scores that have one value in every scene, under several names.

    Averages over all objects or pairs (`_micro`) join the mean over scenes that they equal.

    Args:
      summary: from `SceneScorer.summary`.
      table: name -> [num_scenes]; without columns, means and deviations are compared.

    Returns:
      list of lists of names, two or more in each, in the order of the summary.
    """
    groups = []
    for name in _metrics(summary):
        for group in groups:
            if _same(name, group[0], summary, table):
                group.append(name)
                break
        else:
            groups.append([name])
    return [group for group in groups if len(group) > 1]


def _same(one, other, summary, table):
    """Returns whether score `one` is equal to `other`, the first of a group."""
    if one.endswith("_micro"):
        base = one.removesuffix("_micro")
        if base not in summary or not _same(base, other, summary, table):
            return False
        values = [summary[one], summary[base]]
    elif f"{one}_std" not in summary or f"{other}_std" not in summary:
        return one == other
    elif one in table and other in table:
        values = [table[one], table[other]]
    else:
        values = [[summary[n], summary[f"{n}_std"]] for n in (one, other)]
    # Sums in another order differ by rounding.
    return np.allclose(*values, rtol=1e-9, atol=0.0, equal_nan=True)


def _metrics(summary):
    """Returns the names of the summary that are scores or counts of their own."""
    return [
        name
        for name in summary
        if name == "failed_scenes"
        or not (name.endswith(_BESIDES) or name.startswith(("undefined_", "failed_")))
    ]


def _repeated(same, among=None):
    """Returns the names that stand beside another one of their group."""
    repeated = set()
    for group in same:
        shown = [name for name in group if among is None or name in among]
        repeated |= set(shown[1:])
    return repeated


def _name(name, same):
    """Returns a score's name, with the other names of the same numbers, and its explanation."""
    names = [name]
    for group in same:
        if name in group:
            names = group
    parts = []
    for part in names:
        definition = definitions.define(part)
        parts.append(report_page.escape(part))
        if definition:
            parts[-1] = report_page.explained(part, f"{definition.title}: {definition.text}")
    return report_page.Markup(" = ".join(parts))


def _failures(summary):
    """Returns the sentence about failed scenes, in a list."""
    failed = summary.get("failed_scenes", 0)
    if not failed:
        return []
    return [
        f"{failed} of {summary['num_scenes']} scenes failed: an output of the model is NaN or "
        "infinite. They count with the worst value of every score that reads it."
    ]


def _facts(facts):
    """Returns the table of what is known about the run."""
    rows = [
        (words, facts[name]) for name, words in FACTS.items() if facts.get(name) not in (None, "")
    ]
    return report_page.words(rows)


def _scores(summary, same):
    """Returns notes and the table of all metrics with what is known of their spread."""
    rows = []
    for name in _metrics(summary):
        if name in _repeated(same):
            continue
        deviation = report_page.number(summary.get(f"{name}_std"))
        ends = [summary[name + end] for end in ("_low", "_high") if name + end in summary]
        interval = " – ".join(report_page.number(end) for end in ends)
        counts = [report_page.number(summary.get(f"{kind}_{name}")) for kind in _COUNTS]
        mean = report_page.number(summary[name])
        rows.append([_name(name, same), mean, deviation, interval, *counts])

    head = ["metric", "mean", "standard deviation", "95 % interval", *_COUNTS.values()]
    note = (
        "The standard deviation is over scenes, not over training seeds. Where the truth leaves "
        "nothing to score, a scene is undefined and left out of the mean. Where an output of the "
        "model is not finite, it has failed and counts with the worst value."
    )
    parts = [report_page.note(note)]
    if same:
        parts.append(
            report_page.note(
                "Names joined by = are different scores that happen to be equal in all scenes here."
            )
        )
    return [*parts, report_page.table(head, rows)]


_COUNTS = {"undefined": "undefined scenes", "failed": "failed scenes"}


def _legend(summary):
    """Returns the table that explains all scores in words; nothing if none is known."""
    rows = []
    for name in _metrics(summary):
        definition = definitions.define(name)
        if definition is None:
            continue
        direction = f"{definition.better} is better" if definition.better else ""
        rows.append((name, f"{definition.title}: {definition.text}", direction))
    return [report_page.words(rows)] if rows else []


def _worst_table(table, order):
    """Returns the table of the scenes `order`, with all columns."""
    rows = []
    for row in order:
        numbers = [report_page.number(values[row]) for values in table.values()]
        rows.append([str(row), *numbers])
    head = ["scene", *(_name(name, []) for name in table)]
    return report_page.scrollable(report_page.table(head, rows))
