"""Writes the tables of README.md from the files in results/; `make readme`.

    python launch/readme.py            # rewrites the text between the markers
    python launch/readme.py --check    # only says whether the text is up to date

Every file results/<model>_<dataset>_<preset>_seed<n>.json is the evaluation.json of one run; results/published.json
holds the papers' numbers with their sources. `python launch/readme.py --record=runs/demo` copies a run's evaluation and
figure there.
"""

import json
import pathlib
import re
import shutil
import statistics
import sys

if not __package__:  # `python launch/readme.py` from a checkout
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from absl import flags

from tfobj import commands, files

_CHECK = flags.DEFINE_bool(
    "check", False, "Change nothing; exit with status 2 if README.md is not up to date."
)
_RECORD = flags.DEFINE_string(
    "record", None, "Run folder whose evaluation.json is copied to results/ first."
)

ROOT = pathlib.Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- results: written by `make readme` -->", "<!-- end of results -->"


def main(argv):
    commands.refuse_arguments(argv)
    if _RECORD.value:
        record(pathlib.Path(_RECORD.value), ROOT / "results")
    changed = files.fill_between(
        ROOT / "README.md", BEGIN, END, results_table(ROOT / "results"), _CHECK.value, "make readme"
    )
    print("README.md rewritten." if changed else "README.md is up to date.")
    return 0


def record(workdir, results):
    """Copies `<workdir>/evaluation.json` to the results folder under the name that its content decides."""
    from tfobj.errors import UserError

    path = workdir / "evaluation.json"
    if not path.exists():
        raise UserError(
            f"`--record` must be the folder of an evaluated run. Received: {workdir}, which has no evaluation.json."
        )
    row = json.loads(path.read_text())
    name = f"{row['model']}_{dataset_of(row)}_{row['preset']}_seed{row['seed']}"
    figures = workdir / "figures"
    copies = {
        path: f"{name}.json",
        figures / "decomposition_test.png": f"{name}.png",
        figures / "layers_test.png": f"{name}_layers.png",
        figures / "filmstrip_test_0.png": f"{name}_filmstrip.png",
        figures / "clip_test_0.gif": f"{name}.gif",
    }
    results.mkdir(exist_ok=True)
    for source, target in copies.items():
        if source.exists():
            shutil.copyfile(source, results / target)


def dataset_of(row):
    """Returns the protocol's name, which stands before the slash of its description, without numbers of scenes."""
    return re.sub(r"_\d+_\d+$", "", row["protocol"].partition("/")[0])


def results_table(results):
    """Returns the tables as Markdown: one row per model, dataset and preset, over seeds, with the published number beside it.

    Models with depth have a table of their own, and so have clips.
    """
    published = {
        (p["model"], p["dataset"]): p for p in json.loads((results / "published.json").read_text())
    }
    groups = {}
    for path in sorted(results.glob("*_seed*.json")):
        row = json.loads(path.read_text())
        groups.setdefault((row["model"], dataset_of(row), row["preset"]), []).append(row)
    tables = {picture_table: {}, depth_table: {}, clip_table: {}}
    for key, rows in groups.items():
        tables[
            clip_table
            if "num_frames" in rows[0]
            else depth_table
            if "aiou_micro" in rows[0]
            else picture_table
        ][key] = rows
    lines = [
        line for table, part in tables.items() if part for line in (*table(part, published), "")
    ]
    hardware = sorted({row.get("hardware", "unknown") for rows in groups.values() for row in rows})
    sources = sorted({p["source"] for p in (published_of(key, published) for key in groups) if p})
    clips = {
        f"{row['num_scenes']} clips of {row['num_frames']} frames"
        for rows in tables[clip_table].values()
        for row in rows
    }
    tested = ", ".join(["320 held-out scenes", *sorted(clips)])
    if tables[depth_table]:
        sources.append(
            "means over objects, and over pairs that overlap by 30 pixels or more, where depth is scored"
        )
    return "\n".join(
        [
            *lines,
            f"Test: {tested}, mean over scenes (smallest to largest over seeds). Ours: {'; '.join(hardware)}. "
            f"Published: {'; '.join(sources)}; those are full trainings of 200,000 to 1,000,000 steps on accelerators.",
        ]
    )


def picture_table(groups, published):
    """Returns the lines of the table of models of pictures."""
    yield from header("foreground ARI", "mIoU", "MSE", "published full run: fg-ARI")
    for key, rows in groups.items():
        paper = published_of(key, published)
        yield line(
            key,
            rows,
            spread(rows, "fg_ari", "{:.3f}"),
            spread(rows, "miou", "{:.3f}"),
            spread(rows, "mse", "{:.4f}"),
            f"{paper['fg_ari']:.3f} ± {paper['seed_std']:.3f}" if paper else "–",
        )


def depth_table(groups, published):
    """Returns the lines of the table of models that complete objects and order them by depth."""
    yield from header(
        "amodal IoU", "depth order", "mIoU", "MSE", "published full run: aIoU, depth order, mIoU"
    )
    for key, rows in groups.items():
        paper = published_of(key, published)
        yield line(
            key,
            rows,
            *(
                spread(rows, f"{name}_micro", "{:.3f}")
                for name in ("aiou", "dpa_30", "object_miou")
            ),
            spread(rows, "mse", "{:.4f}"),
            ", ".join(f"{paper[name]:.2f}" for name in ("aiou", "dpa_30", "object_miou"))
            if paper
            else "–",
        )


def clip_table(groups, published):
    """Returns the lines of the table of clips."""
    yield from header(
        "fg-ARI of frames: first 10",
        "20",
        "40",
        "fg-ARI of the clip",
        "ARI of frames",
        "MSE",
        "MSE 5 frames ahead",
        "published full run: fg-ARI of 40 frames, MSE",
    )
    for key, rows in groups.items():
        paper = published_of(key, published)
        yield line(
            key,
            rows,
            *(
                spread(rows, name, "{:.3f}")
                for name in (
                    "fg_ari_frame_10",
                    "fg_ari_frame_20",
                    "fg_ari_frame_40",
                    "fg_ari",
                    "ari_frame",
                )
            ),
            spread(rows, "mse", "{:.4f}"),
            spread(rows, "mse_ahead_5", "{:.4f}"),
            f"{paper['fg_ari_frame_40']:.3f}, {paper['mse_40']:.4f}" if paper else "–",
        )


def published_of(key, published):
    """Returns the published row of (model, dataset, preset), or None; small frames are set against those of 64 x 64."""
    return published.get((key[0], key[1].removesuffix("_32")))


def header(*columns):
    """Returns the two lines that begin a table."""
    columns = ["model", "dataset", "preset", "seeds", "steps", "minutes", *columns]
    return f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"


def line(key, rows, *cells):
    """Returns the line of the runs `rows` of (model, dataset, preset)."""
    model, dataset, preset = key
    cells = [
        f"`{model}`",
        dataset,
        preset,
        str(len(rows)),
        f"{rows[0]['step']:,}",
        spread(rows, "training_minutes", "{:.0f}"),
        *cells,
    ]
    return f"| {' | '.join(cells)} |"


def spread(rows, name, form):
    """Returns the mean over runs and, of several, the range; a dash where the runs do not have the number."""
    if name not in rows[0]:
        return "–"
    values = [row[name] for row in rows]
    text = form.format(statistics.mean(values))
    return (
        text
        if len(values) == 1
        else f"{text} ({form.format(min(values))}–{form.format(max(values))})"
    )


if __name__ == "__main__":
    commands.run(main)
