"""Checks training steps against TPUs that are not there.

It says what is compiled, keeps one file per check, and makes the table of docs/tpu.md from them.
"""

import json
import math
import sys
import time
from importlib.metadata import version
from typing import NamedTuple

from tfobj import files, registry
from tfobj.bench import markdown, tpu, tpu_search
from tfobj.errors import UserError
from tfobj.training.experiment import ExperimentConfig, resolve
from tfobj.training.progress import describe_seconds

BEGIN = "<!-- table: written by `python launch/check_tpu.py --write_docs` -->"
END = "<!-- end of table -->"
GIB = 2**30

EIGHT_CHIPS = ("v5e:2x4", 8)
"""(topology, chips) on which every paper preset is checked as well, its batch divided."""
MORE_CHECKS = (
    ("iodine", "clevr_with_masks", "v5e:2x2", 1, {"train.batch_size": 4}),
    ("iodine", "clevr_with_masks", "v5e:2x2", 1, {"train.rematerialise": True}),
    ("iodine", "clevr_with_masks", "v5e:2x2", 1, {"train.micro_batches": 8}),
    ("iodine", "tetris", "v5e:2x2", 1, {"model.num_steps": 4, "train.rematerialise": True}),
    ("iodine", "tetris", "v5e:2x2", 1, {"model.num_steps": 16, "train.rematerialise": True}),
)
"""(model, dataset, topology, chips, settings) beside the paper's batch on --chips.

Greff 2019 trained with four scenes on each of eight devices; two settings put its batch of 32 on
fewer. The last two show that rematerialised steps cost no memory.
"""

DEFAULT_SETTINGS = ("train.batch_size", "train.precision")
"""Settings that every row of the table shows; others are named where they are changed."""


class Limits(NamedTuple):
    """How long and how far a check goes."""

    compile_minutes: float = 60.0
    """How long one compilation may take."""
    search_minutes: float = 15.0
    """How long the search for the largest batch may take."""
    max_batch: int = 1024
    """Where that search ends."""


DEFAULT_LIMITS = Limits()


def check_all(folder, overrides, topology, chips, search=False, limits=DEFAULT_LIMITS):
    """Checks the paper presets of all models, in both precisions, and `MORE_CHECKS`.

    Each check has a file of its own, and those that are current stay.

    Args:
      folder: where the files are.
      overrides: settings of all checks.
      topology, chips: where the presets are checked.
      search: search the largest batch as well.
      limits: `Limits` of each check.
    """
    waiting = []
    rows = _all_rows(overrides, topology, chips)
    for model, dataset, mesh, num_chips, settings in rows:
        experiment = make_experiment(model, dataset, "paper", settings)
        path = folder / file_name(experiment, dataset, settings, mesh, num_chips)
        if not is_current(path, experiment, search, limits.compile_minutes):
            waiting.append((path, (model, dataset, "paper", settings, mesh, num_chips)))

    _say(f"{len(rows)} checks, of which {len(rows) - len(waiting)} have a file and are kept")
    start = time.monotonic()
    for done, (path, arguments) in enumerate(waiting):
        left = ""
        if done:
            seconds = (time.monotonic() - start) / done * (len(waiting) - done)
            left = f", about {describe_seconds(seconds)} left"
        _say(f"[{done + 1}/{len(waiting)}] {path.name}{left}")
        report = check(*arguments, search, limits)
        files.write_text(path, json.dumps(report, indent=1) + "\n")


def _all_rows(overrides, topology, chips):
    """Returns a list of (model, dataset, topology, chips, settings), the most telling first.

    Every model's smallest paper preset comes before the others, each on `chips` and on
    `EIGHT_CHIPS`, so that a table that is not complete yet has all models.
    """
    presets = [
        sorted(
            (_num_pixels(model, dataset), model, dataset)
            for preset, dataset in registry.model_presets(model)
            if preset == "paper"
        )
        for model in registry.MODELS
    ]
    smallest = [sizes[0] for sizes in presets if sizes]
    others = sorted(entry for sizes in presets for entry in sizes[1:])
    mesh, more_chips = EIGHT_CHIPS
    rows = [
        (model, dataset, *where, _divisible_batch(model, dataset, *where))
        for group in (smallest, others)
        for where in ((topology, chips), (tpu.parse_topology(mesh), more_chips))
        for _, model, dataset in group
    ]

    rows += [
        (model, dataset, tpu.parse_topology(name), more_chips, settings)
        for model, dataset, name, more_chips, settings in MORE_CHECKS
    ]
    return [
        (*row[:4], {"train.precision": precision, **row[4], **overrides})
        for row in rows
        for precision in ("float32", "bfloat16")
    ]


def _divisible_batch(model, dataset, topology, chips):
    """Returns the setting that makes the paper's batch a multiple of the devices; {} if it is."""
    batch_size = make_experiment(model, dataset, "paper", {}).train.batch_size
    devices = topology.num_devices(chips)
    if batch_size % devices == 0:
        return {}
    return {"train.batch_size": -(-batch_size // devices) * devices}


def _num_pixels(model, dataset):
    """Returns the pixels of all slots of a scene of a paper preset."""
    settings = make_experiment(model, dataset, "paper", {}).model
    frames = settings.num_frames if settings.is_video else 1
    return settings.num_slots * math.prod(settings.image_size) * frames


def make_experiment(model, dataset, preset, settings):
    """Returns the `ExperimentConfig` of a preset whose scenes are not needed."""
    experiment = resolve(model, dataset, preset, settings, needs_data=False)
    if experiment.train.precision == "auto":
        return experiment.override({"train.precision": "bfloat16"})  # What it is on a TPU.
    return experiment


def changed_settings(settings):
    """Returns the settings that not every row of the table shows: ["train.micro_batches=8"]."""
    return [
        f"{name}={value}"
        for name, value in sorted(settings.items())
        if name not in DEFAULT_SETTINGS
    ]


def file_name(experiment, dataset, settings, topology, chips):
    """Returns the name of a check's file, made of what rows of the table differ in."""
    parts = [
        experiment.model_name,
        dataset,
        experiment.preset,
        f"batch{experiment.train.batch_size}",
        experiment.train.precision,
        *(text.partition(".")[2] for text in changed_settings(settings)),
        topology.name.replace(":", "-"),
        f"chips{chips}",
    ]
    return "_".join(parts) + ".json"


def is_current(path, experiment, search, compile_minutes=0.0):
    """Whether a file holds a finished check of exactly this experiment.

    Settings that are newer than the file had their defaults then. A compilation that was given up
    is finished, unless `compile_minutes` are more than it had. If `search`, the file must hold the
    largest batch as well.
    """
    try:
        report = files.read_json(path, keys={"config": dict})
        checked = ExperimentConfig.from_dict(report["config"])
    except (OSError, UserError):
        return False
    if checked != experiment:
        return False
    if report["fits"] is None:
        return report.get("compile_minutes", 0.0) >= compile_minutes > 0.0
    return not search or "largest_batch" in report


def check(model, dataset, preset, settings, topology, chips, search, limits=DEFAULT_LIMITS):
    """Compiles an experiment's step, and searches the largest batch if `search`.

    Returns:
      dict: the report of `tpu.compile_step`, the facts of the experiment, and `largest_batch` of
      `tpu_search.largest_batch`.
    """
    experiment = make_experiment(model, dataset, preset, settings)
    batch = experiment.train.batch_size
    tpu.check_chips(topology, chips, batch)

    seconds_per_batch = 60 * limits.compile_minutes
    report = _compile(experiment, batch, topology, chips, seconds_per_batch)
    report = {
        "model": experiment.model_name,
        "dataset": dataset,
        "preset": preset,
        "precision": experiment.train.precision,
        "settings": changed_settings(settings),
        "image_shape": [*experiment.model.image_size, experiment.model.channels],
        **report,
        "config": experiment.to_dict(),
        "compile_minutes": limits.compile_minutes,
        "software": {name: version(name) for name in ("tensorflow", "jax", "libtpu")},
    }

    def measure(size, seconds):
        return _compile(experiment, size, topology, chips, min(seconds, seconds_per_batch))

    if search and report["fits"] is not None:
        report["largest_batch"] = tpu_search.largest_batch(
            measure,
            {batch: report},
            topology.num_devices(chips) * experiment.train.micro_batches,
            limits.max_batch,
            60 * limits.search_minutes,
        )
    return report


def _compile(experiment, batch, topology, chips, time_limit):
    """Lowers and compiles the step with another batch size."""
    import keras

    from tfobj.portable import lowering

    start = time.monotonic()
    _say(f"batch {batch}: lowering")
    lowered = lowering.lower_step(experiment.override({"train.batch_size": batch}))
    keras.utils.clear_session()  # Each trial is a model of its own.
    seconds = time.monotonic() - start
    _say(
        f"batch {batch}: {len(lowered.hlo) / 1e6:.1f} MB of program after {seconds:.0f} s; "
        f"compiling for {topology.name}, chips: {chips}"
    )

    report = tpu.compile_step(lowered, topology, chips, max(1.0, time_limit - seconds))
    _say(f"batch {batch}: {verdict(report)} after {report['seconds']:.0f} s")
    return {**report, "lowering_seconds": seconds}


def _say(text):
    print(text, file=sys.stderr, flush=True)


def verdict(report):
    """Returns "fits: needs 1.25 GiB of 15.75 GiB", or what it did instead."""
    if report["fits"] is None:
        return f"not compiled: {report['error']}"

    available = f"of {report['hbm_bytes'] / GIB:.2f} GiB"
    if not report["needed_bytes"]:
        needs = f"needs more than all {available}"
    elif report["fits"]:
        needs = f"needs {report['needed_bytes'] / GIB:.2f} GiB {available}"
    else:
        # The compiler stops counting where it gives up.
        needs = f"needs at least {report['needed_bytes'] / GIB:.2f} GiB {available}"
    fits = "fits" if report["fits"] else "does not fit"
    return f"{fits}: {needs}"


def describe(report):
    """Returns the lines that a check prints."""
    devices = report.get("devices", report["chips"])
    unit = "chip" if devices == report["chips"] else "core"
    title = (
        f"{report['model']} on {report['dataset']}, preset {report['preset']}: "
        f"batch {report['batch_size']} of {'x'.join(map(str, report['image_shape']))}"
    )
    where = (
        f"{report.get('kind', 'TPU')} ({report['topology']}), "
        f"{report['chips']} chip{'s' * (report['chips'] > 1)}"
        f"{' of two cores' * (unit == 'core')}, HBM per {unit}"
    )

    lines = [
        ", ".join([title, report["precision"], *report["settings"]]),
        where,
        verdict(report),
    ]
    if report["fits"]:
        lines += _describe_costs(report, devices, unit)
    lines.append(
        f"lowered in {report['lowering_seconds']:.0f} s, compiled in {report['seconds']:.0f} s"
    )
    if "largest_batch" in report:
        lines.append(describe_largest(report["largest_batch"]))
    return lines


def _describe_costs(report, devices, unit):
    names = ("argument", "output", "alias", "temp")
    argument, output, alias, temp = (report[f"{name}_bytes"] / GIB for name in names)
    gflop = report["flops"] / 1e9
    moved = report["accessed_bytes"] / 1e9
    return [
        f"  = arguments {argument:.3f} + outputs {output:.3f} - outputs in place {alias:.3f} "
        f"+ temporaries {temp:.3f} GiB",
        f"per step {gflop * devices:,.1f} GFLOP, {moved * devices:,.1f} GB read and written; "
        f"per {unit} {gflop:,.1f} GFLOP, {moved:,.1f} GB",
        f"{report['all_reduces']} all-reduces, {report['all_gathers']} all-gathers",
    ]


def describe_largest(found):
    """Returns the line that says which batch is the largest, and how much of that was compiled."""
    text = "largest batch: none was found to fit"
    if found["largest"]:
        text = f"largest batch: {found['largest']} fits"

    sizes = [trial["batch_size"] for trial in found["trials"]]
    if found["too_large"] is not None:
        text += f", {found['too_large']} does not"
        failed = found["trials"][sizes.index(found["too_large"])]
        if failed["fits"] is None:
            text += f" compile ({failed['error']})"
    elif found["complete"]:
        text += ", and the search ends there"

    if not found["complete"]:
        text += "; the time was up, what lies between was not compiled"
        if found["predicted"]:
            text += f" (a straight line says {found['predicted']})"
    return f"{text} ({len(sizes)} batches compiled: {', '.join(map(str, sizes))})"


_HEADER = (
    "model",
    "dataset",
    "batch",
    "precision, settings",
    "chips",
    "HBM needed, GiB per device",
    "of which temporaries",
    "TFLOP per step",
    "GB moved per step",
    "all-reduces",
    "largest batch",
    "compiled in, s",
)


def table(folder):
    """Returns the table as Markdown, one row per file of the folder."""
    reports = [files.read_json(path) for path in sorted(folder.glob("*.json"))]
    if not reports:
        raise UserError(
            f"`{folder}` has no files of checks; run python launch/check_tpu.py --all_presets "
            "first."
        )

    reports.sort(key=_order)
    software = {
        ", ".join(f"{name} {number}" for name, number in report["software"].items())
        for report in reports
    }
    below = (
        f"Compiled with {'; '.join(sorted(software))}. "
        "Seconds are those of a shared machine with two cores."
    )
    return "\n".join([*markdown.table(_HEADER, map(_cells, reports)), "", below])


def _order(report):
    return (
        report["model"],
        report["image_shape"],
        report["dataset"],
        report["chips"],
        -report["batch_size"],
        report["settings"],
        report["precision"] != "float32",
    )


def _cells(report):
    cells = [
        f"`{report['model']}`",
        report["dataset"],
        str(report["batch_size"]),
        ", ".join([report["precision"], *(f"`{text}`" for text in report["settings"])]),
        f"{report['chips']} of {report['topology']}",
    ]
    seconds = f"{report['seconds']:.0f}"
    if report["fits"] is None:
        return [*cells, f"not compiled: {report['error']}", *["–"] * 5, seconds]

    needed = "more"
    if report["needed_bytes"]:
        needed = f"{report['needed_bytes'] / GIB:.2f}"
    available = f"of {report['hbm_bytes'] / GIB:.2f}"
    largest = _largest_cell(report.get("largest_batch"))
    if not report["fits"]:
        # The compiler stops counting where it gives up.
        if report["needed_bytes"]:
            needed = f"≥ {needed}"
        fit = f"{needed} {available}: **does not fit**"
        return [*cells, fit, *["–"] * 4, largest, seconds]

    return [
        *cells,
        f"{needed} {available}",
        f"{report['temp_bytes'] / GIB:.2f}",
        f"{report['flops'] * report['devices'] / 1e12:.2f}",
        f"{report['accessed_bytes'] * report['devices'] / 1e9:,.0f}",
        str(report["all_reduces"]),
        largest,
        seconds,
    ]


def _largest_cell(found):
    if found is None:
        return "not searched"
    if not found["complete"]:
        return f"at least {found['largest']}"
    if found["too_large"] is None:
        return f"{found['largest']} or more"
    return str(found["largest"])
