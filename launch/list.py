"""Shows what there is: models, datasets, presets, models that ship; with --model, its settings.

python launch/list.py                                             # everything, on a page or two
python launch/list.py --model=iodine                              # what --set knows, with the values of the paper's Tetris run
python launch/list.py --model=iodine --dataset=multi_dsprites --preset=release
"""

import json
import pathlib
import shutil
import sys
import textwrap

if not __package__:  # `python launch/list.py` from a checkout
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from absl import flags

from tfobj import commands

_MODEL = flags.DEFINE_string("model", None, "Show the settings of this model.")
_DATASET = flags.DEFINE_string(
    "dataset", "tetris", "With --model: the dataset whose preset is shown."
)
_PRESET = flags.DEFINE_string("preset", "paper", "With --model: the preset that is shown.")

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_SCORES = ("fg_ari", "ari", "aiou", "mse")
_PUBLIC = "_public"
"""Ending of protocols on published files; listed beside their generated twins."""


def main(argv):
    commands.refuse_arguments(argv)
    lines = (
        _overview()
        if _MODEL.value is None
        else _settings(_MODEL.value, _DATASET.value, _PRESET.value)
    )
    print("\n".join(lines))
    return 0


def _overview():
    """Returns the lines of the plain listing. TensorFlow is not imported: a list should be there at once."""
    from tfobj import registry
    from tfobj.training import catalogue

    datasets = _datasets()
    lines = [
        "Models (--model), their presets (--preset) and the datasets these are for (--dataset)"
    ]
    for name, entry in registry.MODELS.items():
        others = [alias for alias, meant in registry.MODEL_ALIASES.items() if meant == name]
        lines += [
            "",
            *_item(
                f"{name}{''.join(f', {alias}' for alias in others)}",
                f"{entry.summary} ({entry.paper})",
                2,
                24,
            ),
        ]
        for (preset, dataset), description in catalogue.preset_descriptions(name).items():
            if dataset not in datasets:  # hyperparameters whose dataset is not in this version
                continue
            lines += _item(f"{preset} {dataset}", description, 4, 30)
    lines += [
        "",
        "Datasets (--dataset): the name stands for its first protocol; a protocol can be named too",
    ]
    for dataset, protocols in datasets.items():
        lines += [
            "",
            *_item(dataset, _first_sentence(_ROOT / "datasets" / dataset / "README.md"), 2, 24),
        ]
        names = {protocol.name for protocol in protocols}
        for protocol in protocols:
            if protocol.name.removesuffix(_PUBLIC) in names - {protocol.name}:
                continue
            size = "x".join(map(str, protocol.image_size))
            twin = f", ...{_PUBLIC}" if protocol.name + _PUBLIC in names else ""
            lines += _item(
                protocol.name + twin,
                f"{size}, {protocol.num_slots} slots; {protocol.citation}",
                4,
                46,
            )
        lines += _splits(protocols)
    lines += ["", *_item("folder:PATH", "your own pictures, without labels", 2, 24)]
    lines += ["", "Models that ship (--saved_model of launch/decompose.py)"]
    return lines + (_shipped() or ["  none in this checkout"])


def _settings(model, dataset, preset):
    """Returns the lines about one model: presets, then every setting with its value in the preset."""
    commands.load_tensorflow()
    from tfobj import registry
    from tfobj.training import catalogue
    from tfobj.training.experiment import resolve

    experiment = resolve(model, dataset, preset)
    name = experiment.model_name
    entry = registry.MODELS[name]
    lines = [f"{name}: {entry.summary} ({entry.paper})", "", "Presets"]
    for (other, its_dataset), description in catalogue.preset_descriptions(name).items():
        lines += _item(f"{other} {its_dataset}", description, 2, 28)
    lines += ["", f"Settings (--set name=value), values of --preset={preset} --dataset={dataset}"]
    for group in ("model", "train", "eval", "data"):
        lines.append("")
        for setting in catalogue.settings(getattr(experiment, group), group + "."):
            text = f"({setting.kind}) {setting.text}".strip()
            lines += _item(f"{setting.name}={setting.value}", text, 2, 44)
    return lines


def _datasets():
    """Returns dataset -> its protocols, the default first."""
    from tfobj.data import protocols

    found = {}
    for protocol in protocols.PROTOCOLS.values():
        found.setdefault(protocol.dataset, []).append(protocol)
    return found


def _splits(protocols):
    """Returns the splits of a dataset's protocols, once where several share them."""
    texts = {}
    for protocol in protocols:
        text = ", ".join(f"{name} = {_extent(split)}" for name, split in protocol.splits.items())
        texts.setdefault(text, []).append(protocol.name)
    return [
        line
        for text, names in texts.items()
        for line in _item(
            "splits", text if len(texts) == 1 else f"{', '.join(names)}: {text}", 4, 24
        )
    ]


def _extent(split):
    """Returns how many scenes of which TFDS split a split is: "0-319 of test"."""
    stop = "end" if split.stop is None else f"{split.stop - 1:,}"
    objects = "" if split.objects is None else " with {}-{} objects".format(*split.objects)
    return f"{split.start:,}-{stop} of {split.source}{objects}"


def _shipped():
    """Returns a line per entry of the index of saved models."""
    path = _ROOT / "saved_models" / "index.json"
    index = json.loads(path.read_text()) if path.exists() else {}
    lines = []
    for name, entry in index.items():
        scores = ", ".join(
            f"{metric} {entry['scores'][metric]:.4g}"
            for metric in _SCORES
            if entry.get("scores", {}).get(metric) is not None
        )
        lines += _item(
            name,
            "; ".join(filter(None, [entry.get("model"), entry.get("protocol"), scores])),
            2,
            30,
        )
    return lines


def _first_sentence(path):
    """Returns the first sentence of a dataset's README."""
    if not path.exists():
        return ""
    paragraph = next((p for p in path.read_text().split("\n\n") if not p.startswith("#")), "")
    return " ".join(paragraph.split()).partition(". ")[0].rstrip(".")


def _item(name, text, indent, column):
    """Returns "name    text" with the text wrapped at `column`; below the name where that is longer."""
    width = max(60, min(100, shutil.get_terminal_size((100, 24)).columns))
    head = " " * indent + name
    if not text:
        return [head]
    body = textwrap.wrap(text, width - column, break_on_hyphens=False)
    first = [] if len(head) < column - 1 else [head]
    if not first:
        body[0] = head.ljust(column) + body[0]
    return first + [
        line if i == 0 and not first else " " * column + line for i, line in enumerate(body)
    ]


if __name__ == "__main__":
    commands.run(main)
