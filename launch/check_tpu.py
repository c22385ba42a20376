r"""Compiles the training step for a TPU, without one, and prints what it would need there.

    python launch/check_tpu.py --model=iodine --dataset=clevr_with_masks --topology=v5e:2x2
    python launch/check_tpu.py --model=slot_attention --topology=v4:2x2x1 --chips=4 \
        --set train.precision=bfloat16 --json=check.json
    python launch/check_tpu.py --all_presets --write_docs   # the table of docs/tpu.md; takes hours,
                                                            # and resumes where it was stopped
    python launch/check_tpu.py --write_docs --check         # is the table up to date?

Needs JAX and libtpu beside TensorFlow (pip install 'tfobj[tpu-aot]', in an environment of its own),
but no TPU, no data and no network. docs/tpu.md says what the check proves and what it does not.
"""

import json
import pathlib
import sys

if not __package__:  # `python launch/check_tpu.py` from a checkout
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from absl import flags

from tfobj import commands, files
from tfobj.launch import shared_flags

_MODEL = shared_flags.model(default=None)
_DATASET = shared_flags.dataset(
    text="Data set whose presets the model has; its scenes are not needed."
)
_PRESET = shared_flags.preset()
_SET = shared_flags.overrides("train.batch_size=4")
_TOPOLOGY = flags.DEFINE_string(
    "topology",
    "v5e:2x2",
    "Chip and mesh: v2:2x2, v3:2x2, v4:2x2x1, v5e:2x4, v5e:1x1, v5p:2x2x1, v6e:2x2, tpu7x:2x2x1.",
)
_CHIPS = flags.DEFINE_integer("chips", 1, "Chips of the topology that share the batch.")
_LARGEST_BATCH = flags.DEFINE_bool(
    "largest_batch",
    None,
    "Search the largest batch that fits; default: yes, but not with --all_presets.",
)
_MAX_BATCH = flags.DEFINE_integer("max_batch", 1024, "Where that search ends.")
_SEARCH_MINUTES = flags.DEFINE_float("search_minutes", 15, "How long that search may take.")
_COMPILE_MINUTES = flags.DEFINE_float("compile_minutes", 60, "How long one compilation may take.")
_JSON = shared_flags.json_file()
_ALL_PRESETS = flags.DEFINE_bool(
    "all_presets",
    False,
    "Check every model's paper presets, with one file each in --json_dir; files with the same "
    "settings are kept.",
)
_JSON_DIR = flags.DEFINE_string("json_dir", None, "Folder of those files; default: results/tpu.")
_WRITE_DOCS, _CHECK = shared_flags.write_docs("Write the table of docs/tpu.md from --json_dir.")

ROOT = pathlib.Path(__file__).resolve().parents[1]


def main(argv):
    from tfobj.errors import UserError

    commands.refuse_arguments(argv)
    if sum([_MODEL.value is not None, _ALL_PRESETS.value or _WRITE_DOCS.value]) != 1:
        raise UserError(
            "Give one of `--model`, `--all_presets` and `--write_docs`; the last two go together."
        )
    folder = pathlib.Path(_JSON_DIR.value or ROOT / "results" / "tpu")
    if _MODEL.value or _ALL_PRESETS.value:
        compile_steps(folder)
    if _WRITE_DOCS.value:
        write_docs(folder)
    return 0


def compile_steps(folder):
    """Compiles the step of one model, or of all paper presets into the folder."""
    from tfobj.bench import tpu, tpu_checks
    from tfobj.config import parse_overrides

    # Mistakes that need no TensorFlow come first.
    overrides = parse_overrides(_SET.value)
    topology = tpu.parse_topology(_TOPOLOGY.value)
    tpu.check_installed()
    if not _ALL_PRESETS.value:
        tpu_checks.make_experiment(_MODEL.value, _DATASET.value, _PRESET.value, overrides)
    commands.load_tensorflow()

    limits = tpu_checks.Limits(_COMPILE_MINUTES.value, _SEARCH_MINUTES.value, _MAX_BATCH.value)
    if _ALL_PRESETS.value:
        search = bool(_LARGEST_BATCH.value)
        tpu_checks.check_all(folder, overrides, topology, _CHIPS.value, search, limits)
        return
    report = tpu_checks.check(
        _MODEL.value,
        _DATASET.value,
        _PRESET.value,
        overrides,
        topology,
        _CHIPS.value,
        _LARGEST_BATCH.value is not False,
        limits,
    )
    print("\n".join(tpu_checks.describe(report)))
    if _JSON.value:
        files.write_text(_JSON.value, json.dumps(report, indent=1) + "\n")


def write_docs(folder):
    """Writes the table of docs/tpu.md, or checks it."""
    from tfobj.bench import tpu_checks

    changed = files.fill_between(
        ROOT / "docs" / "tpu.md",
        tpu_checks.BEGIN,
        tpu_checks.END,
        tpu_checks.table(folder),
        _CHECK.value,
        "python launch/check_tpu.py --write_docs",
    )
    print(f"docs/tpu.md {'rewritten' if changed else 'is up to date'}.")


if __name__ == "__main__":
    commands.run(main)
