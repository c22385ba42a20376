"""Lists models, data sets, presets and shipped models; with --model, the settings of one model.

    python launch/list.py                  # everything, on a page or two
    python launch/list.py --model=iodine   # what --set takes, and its values in the paper's preset
    python launch/list.py --model=iodine --dataset=multi_dsprites --preset=release

"Recorded" are the runs in results/, averaged over their seeds. TensorFlow is not loaded, so that
answers appear at once.
"""

import pathlib
import shutil
import sys
import textwrap

if not __package__:  # `python launch/list.py` from a checkout
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tfobj import commands, files
from tfobj.launch import shared_flags

_MODEL = shared_flags.model(default=None, text="Show the settings of this model.")
_DATASET = shared_flags.dataset(
    default=None,
    text="With --model: the data set whose preset is shown; by default tetris, or else the first "
    "one that has the preset.",
)
_PRESET = shared_flags.preset(text="With --model: the preset that is shown.")
SCORES = ("fg_ari", "ari", "aiou", "mse")
PUBLIC = "_public"
"""Ending of protocols on published files; they are listed beside their generated twins."""


def main(argv):
    commands.refuse_arguments(argv)
    if _MODEL.value is None:
        lines = overview()
    else:
        lines = settings(_MODEL.value, _DATASET.value, _PRESET.value)
    print("\n".join(lines))
    return 0


def overview():
    """Returns the lines of the plain list."""
    from tfobj import registry

    datasets = protocols_of_datasets()
    lines = ["Models (--model), and below each its presets (--preset) for data sets (--dataset)"]
    for name in registry.MODELS:
        lines += ["", *model_lines(name, datasets)]

    lines += [
        "",
        "Data sets (--dataset): a name stands for its first protocol; protocols can be named too",
    ]
    for dataset, protocols in datasets.items():
        lines += ["", *dataset_lines(dataset, protocols)]

    lines += ["", *item("folder:PATH", "your own pictures, without labels", 2, 24)]
    lines += ["", "Shipped models (--saved_model; in Python, tfobj.load)"]
    return lines + (shipped_lines() or ["  none in this checkout"])


def model_lines(name, datasets):
    """Returns the lines of a model and its presets."""
    from tfobj import registry

    entry = registry.MODELS[name]
    aliases = [alias for alias, meant in registry.MODEL_ALIASES.items() if meant == name]
    lines = item(", ".join([name, *aliases]), f"{entry.summary} ({entry.paper})", 2, 24)
    return lines + preset_lines(name, 4, 30, datasets)


def preset_lines(model, indent, column, datasets=None):
    """Returns the lines of a model's presets: description, and recorded runs or else the duration.

    Args:
      model: name of the model.
      indent, column: where names and texts begin.
      datasets: only presets of these data sets; None takes all.
    """
    from tfobj.training import catalogue, results

    measured = results.of_presets(model)
    durations = catalogue.preset_durations(model)
    lines = []
    for key, description in catalogue.preset_descriptions(model).items():
        preset, dataset = key
        if datasets is not None and dataset not in datasets:
            continue
        text = description
        if key in measured:
            text += f" Recorded: {measured[key]}."
        elif key in durations:
            text += f" Takes {durations[key]}."
        lines += item(f"{preset} {dataset}", text, indent, column)
    return lines


def settings(model, dataset, preset):
    """Returns the lines of one model: presets, then every setting with its value in the preset."""
    from tfobj import registry
    from tfobj.training import catalogue
    from tfobj.training.experiment import resolve

    if dataset is None:
        dataset = default_dataset(model, preset)
    experiment = resolve(model, dataset, preset)
    name = experiment.model_name
    entry = registry.MODELS[name]
    command = f"{commands.spoken('train')} --model={name} --dataset={dataset} --preset={preset}"
    lines = [f"{name}: {entry.summary} ({entry.paper})", "", "Presets"]
    lines += preset_lines(name, 2, 28)
    lines += ["", f"Settings (--set name=value), with the values of `{command}`"]
    for group in ("model", "train", "eval", "data"):
        lines.append("")
        for setting in catalogue.settings(getattr(experiment, group), f"{group}."):
            text = f"({setting.kind}) {setting.text}".strip()
            lines += item(f"{setting.name}={setting.value}", text, 2, 44)
    return lines


def default_dataset(model, preset):
    """Returns the data set of a preset that is shown where none was asked for."""
    from tfobj.training import catalogue

    presets = catalogue.preset_descriptions(model)
    found = [dataset for name, dataset in presets if name == preset]
    if not found:  # `resolve` explains it.
        found = [dataset for _, dataset in presets]
    return "tetris" if "tetris" in found else found[0]


def protocols_of_datasets():
    """Returns data set -> its protocols, the default first."""
    from tfobj.data import protocols

    found = {}
    for protocol in protocols.PROTOCOLS.values():
        found.setdefault(protocol.dataset, []).append(protocol)
    return found


def dataset_lines(dataset, protocols):
    """Returns the lines of a data set and its protocols."""
    lines = item(dataset, first_sentence(files.shipped("datasets") / dataset / "README.md"), 2, 24)
    names = {protocol.name for protocol in protocols}
    for protocol in protocols:
        twin = protocol.name.removesuffix(PUBLIC)
        if twin in names - {protocol.name}:
            continue
        name = protocol.name
        if name + PUBLIC in names:
            name += f", ...{PUBLIC}"
        size = "x".join(map(str, protocol.image_size))
        lines += item(name, f"{size}, {protocol.num_slots} slots; {protocol.citation}", 4, 46)
    return lines + split_lines(protocols)


def split_lines(protocols):
    """Returns the splits of a data set's protocols, once where several share them."""
    names_of = {}
    for protocol in protocols:
        text = ", ".join(f"{name} = {extent(split)}" for name, split in protocol.splits.items())
        names_of.setdefault(text, []).append(protocol.name)

    lines = []
    for text, names in names_of.items():
        if len(names_of) > 1:
            text = f"{', '.join(names)}: {text}"
        lines += item("splits", text, 4, 24)
    return lines


def extent(split):
    """Returns which scenes of a TFDS split a split has: "0-319 of test"."""
    stop = "end"
    if split.stop is not None:
        stop = f"{split.stop - 1:,}"
    text = f"{split.start:,}-{stop} of {split.source}"
    if split.objects is not None:
        text += " with {}-{} objects".format(*split.objects)
    return text


def shipped_lines():
    """Returns a line per entry of the index of saved models."""
    path = files.shipped("saved_models") / "index.json"
    if not path.exists():
        return []
    index = files.read_json(path)
    files.check_keys(index, f"`{path}`", dict.fromkeys(index, dict))

    lines = []
    known_folders = {entry.get("folder") for entry in index.values()}
    for name, entry in index.items():
        scores = entry.get("scores") or {}
        known = [metric for metric in SCORES if scores.get(metric) is not None]
        facts = [
            entry.get("model"),
            entry.get("protocol"),
            ", ".join(f"{metric} {scores[metric]:.4g}" for metric in known),
        ]
        lines += item(name, "; ".join(filter(None, facts)), 2, 30)

    # Exports beside the index can be used by their name, too.
    for folder in sorted({file.parents[1] for file in path.parent.glob("*/*/metadata.json")}):
        if folder.name not in known_folders:
            lines += item(folder.name, "exported here", 2, 30)
    return lines


def first_sentence(path):
    """Returns the first sentence of a data set's README."""
    if not path.exists():
        return ""
    paragraphs = path.read_text().split("\n\n")
    paragraph = next((p for p in paragraphs if not p.startswith("#")), "")
    return " ".join(paragraph.split()).partition(". ")[0].rstrip(".")


def item(name, text, indent, column):
    """Returns lines "name    text" with the text wrapped at `column`, below longer names."""
    head = " " * indent + name
    if not text:
        return [head]
    width = max(60, min(100, shutil.get_terminal_size((100, 24)).columns))
    body = textwrap.wrap(text, width - column, break_on_hyphens=False)
    if len(head) >= column - 1:
        return [head, *(" " * column + line for line in body)]
    return [head.ljust(column) + body[0], *(" " * column + line for line in body[1:])]


if __name__ == "__main__":
    commands.run(main)
