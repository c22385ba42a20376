"""The tables of README.md and docs/results.md, from the files in results/. Needs no TensorFlow."""

import statistics
from typing import NamedTuple

from tfobj import files, registry
from tfobj.bench import markdown
from tfobj.training import results as recorded

COMMAND = "make readme"


class Scores(NamedTuple):
    """Which scores a kind of model is judged by: name in the files, title, and format."""

    columns: tuple
    published_title: str
    published: tuple
    """(name, format) of what the papers report."""


IMAGES = Scores(
    columns=(
        ("fg_ari", "foreground ARI", "{:.3f}"),
        ("miou", "mIoU", "{:.3f}"),
        ("mse", "MSE", "{:.4f}"),
    ),
    published_title="published: foreground ARI",
    published=(("fg_ari", "{:.3f}"), ("seed_std", "± {:.3f}")),
)
DEPTH = Scores(
    columns=(
        ("aiou_micro", "amodal IoU", "{:.3f}"),
        ("dpa_30_micro", "depth order", "{:.3f}"),
        ("object_miou_micro", "mIoU", "{:.3f}"),
        ("mse", "MSE", "{:.4f}"),
    ),
    published_title="published: amodal IoU, depth order, mIoU",
    published=(("aiou", "{:.2f}"), ("dpa_30", "{:.2f}"), ("object_miou", "{:.2f}")),
)
CLIPS = Scores(
    columns=(
        ("fg_ari_frame_10", "foreground ARI of frames: first 10", "{:.3f}"),
        ("fg_ari_frame_20", "first 20", "{:.3f}"),
        ("fg_ari_frame_40", "first 40", "{:.3f}"),
        ("fg_ari", "foreground ARI of the clip", "{:.3f}"),
        ("ari_frame", "ARI of frames", "{:.3f}"),
        ("mse", "MSE", "{:.4f}"),
        ("mse_ahead_5", "MSE 5 frames ahead", "{:.4f}"),
    ),
    published_title="published: foreground ARI of 40 frames, MSE",
    published=(("fg_ari_frame_40", "{:.3f}"), ("mse_40", "{:.4f}")),
)


def write_pages(root, check=False):
    """Writes the generated parts of README.md and docs/results.md; returns the names that changed.

    Args:
      root: the checkout.
      check: change nothing.

    Raises:
      UserError: `check`, and a page is not up to date; or a marker is missing.
    """
    folder = root / "results"
    groups = recorded.load(folder)
    published = load_published(folder / "published.json")
    parts = (
        ("README.md", "results", summary_table(groups, published)),
        ("README.md", "data sets", dataset_table(folder / "datasets.json")),
        ("docs/results.md", "results", full_tables(groups, published)),
    )
    return {
        page
        for page, part, text in parts
        if files.fill_between(root / page, *markers(part), text, check, COMMAND)
    }


def markers(part):
    """Returns the lines between which a generated part of a page stands."""
    return f"<!-- {part}: written by `{COMMAND}` -->", f"<!-- end of {part} -->"


def load_published(path):
    """Returns (model, data set) -> the papers' numbers."""
    return {(row["model"], row["dataset"]): row for row in files.read_json(path, list)}


def scores_of(rows):
    """Returns the `Scores` that fit the evaluations `rows` of one preset."""
    if "num_frames" in rows[0]:
        return CLIPS
    if "aiou_micro" in rows[0]:
        return DEPTH
    return IMAGES


def summary_table(groups, published):
    """Returns one line per model, in the order of the registry: its best recorded preset."""
    cells = []
    for model in registry.MODELS:
        own = {
            key: recorded.measure(rows)
            for key, rows in groups.items()
            if key[0] == model and recorded.is_complete(rows)
        }
        if not own:
            continue
        key = max(own, key=lambda k: own[k].score)
        best = own[key]
        paper = _published_of(key, published)
        cells.append(
            [
                f"`{model}`",
                key[1],
                f"{best.score:.3f} {best.score_title}",
                _cells_of_paper(paper, scores_of(groups[key]).published[:1]),
                f"{best.minutes:.0f}",
            ]
        )
    return "\n".join(markdown.table(("model", "data set", "score", "published", "minutes"), cells))


def full_tables(groups, published):
    """Returns a table of all recorded presets for each kind of model, and their sources."""
    lines = []
    for kind in (IMAGES, DEPTH, CLIPS):
        own = {key: rows for key, rows in groups.items() if scores_of(rows) is kind}
        if own:
            lines += [*_full_table(kind, own, published), ""]
    return "\n".join([*lines, *_sources(groups, published)])


def _full_table(kind, groups, published):
    titles = [title for _, title, _ in kind.columns]
    header = (
        "model",
        "protocol",
        "preset",
        "seeds",
        "steps",
        "minutes",
        *titles,
        kind.published_title,
    )
    cells = []
    for key, rows in groups.items():
        model, protocol, preset = key
        cells.append(
            [
                f"`{model}`",
                protocol,
                preset,
                str(len(rows)),
                f"{rows[0]['step']:,}",
                spread(rows, "training_minutes", "{:.0f}"),
                *(spread(rows, name, form) for name, _, form in kind.columns),
                _cells_of_paper(_published_of(key, published), kind.published),
            ]
        )
    return markdown.table(header, cells)


def _sources(groups, published):
    """Yields the sentences below the tables: scenes, hardware, papers."""
    rows = [row for group in groups.values() for row in group]
    tested = {f"{row['num_scenes']} images" for row in rows if "num_frames" not in row}
    tested |= {
        f"{row['num_scenes']} clips of {row['num_frames']} frames"
        for row in rows
        if "num_frames" in row
    }
    hardware = sorted({row.get("hardware", "unknown") for row in rows})
    found = [_published_of(key, published) for key in groups]
    papers = {paper["source"] for paper in found if paper}

    yield f"Tested on held-out scenes: {', '.join(sorted(tested, reverse=True))}."
    yield "Means over scenes and seeds; in parentheses the smallest and the largest seed."
    yield f"Hardware: {'; '.join(hardware)}."
    yield f"Published: {'; '.join(sorted(papers))}."


def dataset_table(path):
    """Returns what generating every data set takes, from the file of measured builds."""
    cells = []
    report = files.read_json(path)
    for build in report["builds"]:
        minutes = build["seconds"] / 60
        time = f"{minutes:.0f} min" if minutes >= 1 else f"{build['seconds']:.0f} s"
        cells.append(
            [f"`{build['dataset']}`", f"{build['scenes']:,}", f"{build['megabytes']:,} MB", time]
        )
    lines = markdown.table(("data set", "scenes or clips", "disk", "time"), cells)
    return "\n".join([*lines, "", f"Measured on {report['hardware']}."])


def spread(rows, name, form):
    """Returns the mean over runs, with the range of several; a dash if runs lack the number."""
    if name not in rows[0]:
        return "–"
    values = [row[name] for row in rows]
    mean = form.format(statistics.mean(values))
    if len(values) == 1:
        return mean
    return f"{mean} ({form.format(min(values))}–{form.format(max(values))})"


def _published_of(key, published):
    """Returns the published row of (model, protocol, preset), or None.

    Papers have no clips of 32 x 32; ours are compared with theirs of 64 x 64.
    """
    return published.get((key[0], key[1].removesuffix("_32")))


def _cells_of_paper(paper, columns):
    if paper is None:
        return "–"
    numbers = ", ".join(form.format(paper[name]) for name, form in columns if name in paper)
    return numbers.replace(", ±", " ±")
