"""Compiles the training step for a TPU that is not there, and prints what it would cost there.

    python launch/check_tpu.py --model=iodine --dataset=clevr_with_masks --topology=v5e:2x2 --chips=1 --set train.batch_size=4
    python launch/check_tpu.py --model=slot_attention --topology=v4:2x2x1 --chips=4 --set train.precision=bfloat16 --json=check.json
    python launch/check_tpu.py --all_presets --write_docs     # the table of docs/tpu.md: hours, and continues where it was stopped
    python launch/check_tpu.py --write_docs --check           # only says whether the table is what results/tpu/ says

Needs JAX and libtpu beside TensorFlow (pip install 'tfobj[tpu-aot]', in an environment of its own), no TPU, no data and
no network. What the check proves and what it does not is in docs/tpu.md.
"""

import json
import pathlib
import sys
import time

if not __package__:  # `python launch/check_tpu.py` from a checkout
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tfobj import commands
from absl import flags

_MODEL = flags.DEFINE_string("model", None, "Model; `python launch/list.py` shows all.")
_DATASET = flags.DEFINE_string("dataset", "tetris", "Dataset whose presets the model has; its scenes are not needed.")
_PRESET = flags.DEFINE_string("preset", "paper", "Hyperparameters of the model for the dataset.")
_SET = flags.DEFINE_multi_string("set", [], "Override, e.g. --set train.batch_size=4; repeatable.")
_TOPOLOGY = flags.DEFINE_string("topology", "v5e:2x2", "Chip and mesh: v2:2x2, v3:2x2, v4:2x2x1, v5e:2x4, v5e:1x1, v5p:2x2x1, v6e:2x2, tpu7x:2x2x1.")
_CHIPS = flags.DEFINE_integer("chips", 1, "Chips of the topology that share the batch.")
_LARGEST_BATCH = flags.DEFINE_bool("largest_batch", None, "Search the largest batch that fits; default: yes, but not with --all_presets.")
_MAX_BATCH = flags.DEFINE_integer("max_batch", 1024, "Where that search ends.")
_SEARCH_MINUTES = flags.DEFINE_float("search_minutes", 15, "How long that search may take.")
_COMPILE_MINUTES = flags.DEFINE_float("compile_minutes", 60, "How long one compilation may take.")
_JSON = flags.DEFINE_string("json", None, "File for all numbers.")
_ALL_PRESETS = flags.DEFINE_bool("all_presets", False, "Check every model's paper presets, one file each in --json_dir; files of the same settings are kept.")
_JSON_DIR = flags.DEFINE_string("json_dir", None, "Folder of those files; default: results/tpu.")
_WRITE_DOCS = flags.DEFINE_bool("write_docs", False, "Write the table of docs/tpu.md from --json_dir.")
_CHECK = flags.DEFINE_bool("check", False, "With --write_docs: change nothing; exit with status 2 if the table is not up to date.")

ROOT = pathlib.Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- table: written by `python launch/check_tpu.py --write_docs` -->", "<!-- end of table -->"
GIB = 2**30

MORE_CHECKS = (
    ("iodine", "clevr_with_masks", "v5e:2x2", 1, {"train.batch_size": 4}), ("iodine", "clevr_with_masks", "v5e:2x4", 8, {}),
    ("iodine", "clevr_with_masks", "v5e:2x2", 1, {"train.rematerialise": True}), ("iodine", "clevr_with_masks", "v5e:2x2", 1, {"train.micro_batches": 8}))
"""(model, dataset, topology, chips, settings) beside the paper's batch on --chips: Greff 2019 trained with four scenes on each of
eight devices; two settings put its batch of 32 on fewer."""

DEFAULT_SETTINGS = ("train.batch_size", "train.precision")
"""Settings that every row of the table shows; others are named where they are changed."""


def main(argv):
    from tfobj.errors import UserError

    commands.refuse_arguments(argv)
    if sum([_MODEL.value is not None, _ALL_PRESETS.value or _WRITE_DOCS.value]) != 1:
        raise UserError("One of `--model`, `--all_presets` and `--write_docs` says what to do; the last two go together.")
    folder = pathlib.Path(_JSON_DIR.value or ROOT / "results" / "tpu")
    if _MODEL.value or _ALL_PRESETS.value:
        from tfobj.config import parse_overrides
        from tfobj.portable import tpu

        overrides, topology = parse_overrides(_SET.value), tpu.parse_topology(_TOPOLOGY.value)
        tpu.check_installed()
        commands.load_tensorflow()
        if _MODEL.value:
            _check_one(overrides, topology)
        else:
            _check_all(overrides, topology, folder)
    if _WRITE_DOCS.value:
        _write_docs(ROOT / "docs" / "tpu.md", folder)
    return 0


def _check_one(overrides, topology):
    from tfobj import files

    report = check(_MODEL.value, _DATASET.value, _PRESET.value, overrides, topology, _CHIPS.value, search=_LARGEST_BATCH.value is not False)
    print("\n".join(describe(report)))
    if _JSON.value:
        files.write_text(_JSON.value, json.dumps(report, indent=1) + "\n")


def _check_all(overrides, topology, folder):
    """Checks the paper presets of all models, in both precisions; one file each."""
    from tfobj import files, registry
    from tfobj.portable import tpu

    rows = [(model, dataset, topology, _CHIPS.value, {}) for model in registry.MODELS
            for preset, dataset in registry.model_presets(model) if preset == "paper"]
    rows += [(model, dataset, tpu.parse_topology(name), chips, settings) for model, dataset, name, chips, settings in MORE_CHECKS]
    rows = [(*row[:4], {"train.precision": precision, **row[4], **overrides}) for row in rows for precision in ("float32", "bfloat16")]
    for number, (model, dataset, mesh, chips, settings) in enumerate(rows, start=1):
        experiment = _experiment(model, dataset, "paper", settings)
        path = folder / file_name(experiment, dataset, settings, mesh, chips)
        kept = is_current(path, experiment, _LARGEST_BATCH.value)
        _say(f"[{number}/{len(rows)}] {path.name}{': kept' if kept else ''}")
        if not kept:
            report = check(model, dataset, "paper", settings, mesh, chips, search=bool(_LARGEST_BATCH.value))
            files.write_text(path, json.dumps(report, indent=1) + "\n")


def _experiment(model, dataset, preset, settings):
    from tfobj.training.experiment import resolve

    return resolve(model, dataset, preset, settings, needs_data=False)


def changed_settings(settings):
    """Returns the settings, as text, that not every row of the table shows: ["train.micro_batches=8"]."""
    return [f"{name}={value}" for name, value in sorted(settings.items()) if name not in DEFAULT_SETTINGS]


def file_name(experiment, dataset, settings, topology, chips):
    """Returns the name of a check's file: what rows of the table differ in."""
    parts = [experiment.model_name, dataset, experiment.preset, f"batch{experiment.train.batch_size}", experiment.train.precision,
             *(text.partition(".")[2] for text in changed_settings(settings)), topology.name.replace(":", "-"), f"chips{chips}"]
    return "_".join(parts) + ".json"


def is_current(path, experiment, search):
    """Whether a file holds a finished check of exactly this experiment (and the largest batch, if `search`)."""
    try:
        report = json.loads(path.read_text())
    except (OSError, ValueError):
        return False
    return report["fingerprint"] == experiment.fingerprint() and report["fits"] is not None and not (search and "largest_batch" not in report)


def check(model, dataset, preset, settings, topology, chips, search):
    """Compiles an experiment's step, and looks for the largest batch if `search`.

    Returns:
      dict: the report of `tpu.compile_step`, the facts of the experiment, and `largest_batch` of `tpu.largest_batch`.
    """
    from importlib.metadata import version

    from tfobj.portable import tpu

    experiment = _experiment(model, dataset, preset, settings)
    batch = experiment.train.batch_size
    tpu.check_chips(topology, chips, batch)
    report = _compile(experiment, batch, topology, chips, 60 * _COMPILE_MINUTES.value)
    report = {
        "model": experiment.model_name, "dataset": dataset, "preset": preset, "precision": experiment.train.precision,
        "settings": changed_settings(settings), "image_shape": [*experiment.model.image_size, experiment.model.channels], **report,
        "fingerprint": experiment.fingerprint(), "software": {name: version(name) for name in ("tensorflow", "jax", "libtpu")}}
    if search and report["fits"] is not None:
        report["largest_batch"] = tpu.largest_batch(
            lambda size, seconds: _compile(experiment, size, topology, chips, min(seconds, 60 * _COMPILE_MINUTES.value)), {batch: report},
            topology.num_devices(chips) * experiment.train.micro_batches, _MAX_BATCH.value, 60 * _SEARCH_MINUTES.value)
    return report


def _compile(experiment, batch, topology, chips, time_limit):
    """Lowers and compiles the step with another batch size."""
    import keras

    from tfobj.portable import lowering, tpu

    start = time.monotonic()
    _say(f"batch {batch}: lowering")
    lowered = lowering.lower_step(experiment.override({"train.batch_size": batch}))
    keras.utils.clear_session()  # each trial is a model of its own
    seconds = time.monotonic() - start
    _say(f"batch {batch}: {len(lowered.hlo) / 1e6:.1f} MB of program after {seconds:.0f} s; compiling for {topology.name}, chips: {chips}")
    report = tpu.compile_step(lowered, topology, chips, max(1.0, time_limit - seconds))
    _say(f"batch {batch}: {verdict(report)} after {report['seconds']:.0f} s")
    return {**report, "lowering_seconds": seconds}


def _say(text):
    print(text, file=sys.stderr, flush=True)


def verdict(report):
    """Returns "fits: needs 1.25 GiB of 15.75 GiB", or what it did instead."""
    if report["fits"] is None:
        return f"not compiled: {report['error']}"
    needs = "" if report["fits"] else "at least "  # the compiler stops counting where it gives up
    needs = f"needs {needs}{report['needed_bytes'] / GIB:.2f} GiB" if report["needed_bytes"] else "needs more than all"
    return f"{'fits' if report['fits'] else 'does not fit'}: {needs} of {report['hbm_bytes'] / GIB:.2f} GiB"


def describe(report):
    """Returns the lines that a check prints."""
    devices = report.get("devices", report["chips"])
    unit = "chip" if devices == report["chips"] else "core"
    title = f"{report['model']} on {report['dataset']}, preset {report['preset']}: batch {report['batch_size']} of " \
            f"{'x'.join(map(str, report['image_shape']))}"
    where = f"{report.get('kind', 'TPU')} ({report['topology']}), {report['chips']} chip{'s' if report['chips'] > 1 else ''}"
    lines = [", ".join([title, report["precision"], *report["settings"]]), where + (" of two cores, HBM per core" if unit == "core" else ", HBM per chip"),
             verdict(report)]
    if report["fits"]:
        parts = {name: report[f"{name}_bytes"] / GIB for name in ("argument", "output", "alias", "temp")}
        lines += [
            "  = arguments {argument:.3f} + outputs {output:.3f} - outputs in place {alias:.3f} + temporaries {temp:.3f} GiB".format(**parts),
            f"per step {report['flops'] * devices / 1e9:,.1f} GFLOP, {report['accessed_bytes'] * devices / 1e9:,.1f} GB read and written; "
            f"per {unit} {report['flops'] / 1e9:,.1f} GFLOP, {report['accessed_bytes'] / 1e9:,.1f} GB",
            f"{report['all_reduces']} all-reduces, {report['all_gathers']} all-gathers"]
    lines.append(f"lowered in {report['lowering_seconds']:.0f} s, compiled in {report['seconds']:.0f} s")
    if "largest_batch" in report:
        lines.append(describe_largest(report["largest_batch"]))
    return lines


def describe_largest(found):
    """Returns the line that says which batch is the largest, and how much of that was compiled."""
    compiled = f"{len(found['trials'])} batches compiled: {', '.join(str(trial['batch_size']) for trial in found['trials'])}"
    text = f"largest batch: {found['largest']} fits" if found["largest"] else "largest batch: none was found to fit"
    if found["too_large"] is not None:
        why = next(trial for trial in found["trials"] if trial["batch_size"] == found["too_large"])
        text += f", {found['too_large']} does not" + (f" compile ({why['error']})" if why["fits"] is None else "")
    elif found["complete"]:
        text += ", and the search ends there"
    if not found["complete"]:
        text += "; the time was up, what lies between was not compiled"
        text += f" (a straight line says {found['predicted']})" if found["predicted"] else ""
    return f"{text} ({compiled})"


def _write_docs(path, folder):
    from tfobj import files
    from tfobj.errors import UserError

    old = path.read_text()
    new = fill(old, table(folder))
    if new == old:
        print(f"docs/{path.name} is up to date.")
    elif _CHECK.value:
        raise UserError(f"docs/{path.name} is not up to date with {folder.name}/; run python launch/check_tpu.py --write_docs.")
    else:
        files.write_text(path, new)
        print(f"docs/{path.name} rewritten.")


def table(folder):
    """Returns the table as Markdown, one row per file of the folder."""
    from tfobj.errors import UserError

    reports = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    if not reports:
        raise UserError(f"`{folder}` has no files of checks; run python launch/check_tpu.py --all_presets first.")
    reports.sort(key=lambda r: (r["model"], r["image_shape"], r["dataset"], r["chips"], -r["batch_size"], r["settings"], r["precision"] != "float32"))
    lines = ["| model | dataset | batch | precision, settings | chips | HBM needed, GiB per device | of which temporaries | TFLOP per step | GB moved per step "
             "| all-reduces | largest batch | compiled in, s |", "|---|---|---|---|---|---|---|---|---|---|---|---|"]
    lines += ["| " + " | ".join(_cells(report)) + " |" for report in reports]
    software = sorted({", ".join(f"{name} {number}" for name, number in report["software"].items()) for report in reports})
    return "\n".join([*lines, "", f"Compiled with {'; '.join(software)}. Seconds are those of a shared machine with two cores."])


def _cells(report):
    cells = [f"`{report['model']}`", report["dataset"], str(report["batch_size"]), ", ".join([report["precision"], *(f"`{text}`" for text in report["settings"])]), f"{report['chips']} of {report['topology']}"]
    if report["fits"] is None:
        return [*cells, f"not compiled: {report['error']}", "–", "–", "–", "–", "–", f"{report['seconds']:.0f}"]
    needed = f"{'' if report['fits'] else '≥ '}{report['needed_bytes'] / GIB:.2f}" if report["needed_bytes"] else "more"
    cells.append(f"{needed} of {report['hbm_bytes'] / GIB:.2f}" + ("" if report["fits"] else ": **does not fit**"))
    if report["fits"]:
        cells += [f"{report['temp_bytes'] / GIB:.2f}", f"{report['flops'] * report['devices'] / 1e12:.2f}",
                  f"{report['accessed_bytes'] * report['devices'] / 1e9:,.0f}", str(report["all_reduces"])]
    else:
        cells += ["–"] * 4
    return [*cells, _largest_cell(report.get("largest_batch")), f"{report['seconds']:.0f}"]


def _largest_cell(found):
    if found is None:
        return "not searched"
    if not found["complete"]:
        return f"at least {found['largest']}"
    return str(found["largest"]) if found["too_large"] is not None else f"{found['largest']} or more"


def fill(text, new):
    """Returns `text` with what stands between the markers replaced by `new`."""
    from tfobj.errors import UserError

    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UserError(f"docs/tpu.md must have the lines {BEGIN!r} and {END!r}.")
    return f"{before}{BEGIN}\n{new}\n{END}{after}"


if __name__ == "__main__":
    commands.run(main)
