r"""Measures training steps, inference and the input pipeline, relative to the machine's peak.

    python launch/benchmark.py --model=iodine --dataset=tetris --set train.batch_size=8
    python launch/benchmark.py --model=iodine --model=slot_attention --what=train,inference,data
    python launch/benchmark.py --model=slot_attention --also="train.precision=bfloat16"
    python launch/benchmark.py --model=iodine --model=efficient_morl \
        --also="model=efficient_morl model.num_steps=0" --json=benchmark.json
    python launch/benchmark.py --what=serve --saved_model=slot_attention_tetris
    python launch/benchmark.py --rows=all      # all tables of docs/performance.md, in half an hour
    python launch/benchmark.py --rows=speed_monet_multi_dsprites,memory   # parts of them
    python launch/benchmark.py --write_docs    # the tables again, from results/benchmarks/

Every row runs in a process of its own. The rows take turns in blocks of --seconds, --blocks times,
and the table shows the median over blocks. --also measures every model again with the settings it
names (several, separated by spaces; model=NAME restricts it to that model), so that both variants
see the same minutes of the same machine. A few hundred scenes are built for the purpose. GFLOP are
twice the multiply-accumulates of the convolutions and matrix products that the graph really runs;
"of peak" is their rate in the fastest block relative to the fastest convolution (forward and
backward) of the run.

--what=serve measures something else, and goes alone: latency and throughput of trained models at
batch sizes 1, 8 and 32, as a Keras model in a graph, as the signature of a SavedModel, and as
`zoo.decompose` (--saved_model; default: all shipped models of images).
"""

import json
import pathlib
import shlex
import sys

if not __package__:  # `python launch/benchmark.py` from a checkout
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from absl import flags

from tfobj import commands, files
from tfobj.launch import shared_flags

_MODEL = flags.DEFINE_multi_string(
    "model", ["slot_attention"], f"Model, repeatable; `{commands.spoken('list')}` shows all."
)
_DATASET = shared_flags.dataset()
_PRESET = shared_flags.preset(text="Hyperparameters of the models for the data set.")
_SET = shared_flags.overrides(text="Override a setting of all rows")
_ALSO = flags.DEFINE_multi_string(
    "also", [], "Settings to measure every model once more with; repeatable."
)
_WHAT = flags.DEFINE_list("what", ["train"], "What to measure: train, inference, data; or serve.")
_SAVED_MODEL = flags.DEFINE_multi_string(
    "saved_model", [], "Exported model for --what=serve, repeatable; default: all shipped ones."
)
_STRATEGY = shared_flags.strategy()
_SECONDS = flags.DEFINE_float("seconds", 2.0, "Length of a block.")
_BLOCKS = flags.DEFINE_integer("blocks", 5, "Blocks of every row.")
_DATA_DIR = shared_flags.data_dir("Folder of the TFDS data; default: a temporary one.")
_JSON = shared_flags.json_file()
_WRITE_DOCS, _CHECK = shared_flags.write_docs(
    "Measure nothing; write the tables of docs/performance.md from results/benchmarks/."
)

_ROWS = flags.DEFINE_list(
    "rows",
    None,
    "Measure reports of docs/performance.md, by name, by table (speed, refinement, dials, memory, "
    "clips, serve) or all, write them to results/benchmarks/, and write the tables.",
)

WHAT = ("train", "inference", "data", "serve")
ROOT = pathlib.Path(__file__).resolve().parents[1]


def main(argv):
    commands.refuse_arguments(argv)
    if _ROWS.value:
        measure_page(_ROWS.value)
    if _ROWS.value or _WRITE_DOCS.value:
        write_docs()
        return 0
    from tfobj.config import parse_overrides
    from tfobj.errors import UserError, unknown_name
    from tfobj.training import machine, strategy_names
    from tfobj.training.experiment import resolve

    # Mistakes are answered before TensorFlow is loaded.
    what = ",".join(_WHAT.value)
    if what != "serve" and _SAVED_MODEL.value:
        raise UserError(f"`--saved_model` must go with --what=serve. Received: --what={what}.")
    for name in _WHAT.value:
        if name not in WHAT:
            raise unknown_name("measurement", name, WHAT)
    if what != "serve" and "serve" in _WHAT.value:
        raise UserError(f"`--what=serve` must go alone. Received: --what={what}.")
    strategy_names.check_name(_STRATEGY.value)
    changes = parse_overrides(_SET.value)
    for model in _MODEL.value:
        resolve(model, _DATASET.value, _PRESET.value, changes, needs_data=False)
    commands.load_tensorflow()
    from tfobj.bench import benchmark

    if what == "serve":
        from tfobj.bench import serving

        report = serving.run(_SAVED_MODEL.value, _SECONDS.value, _BLOCKS.value)
        print(serving.format_report(report))
        _write(report, machine.command_line())
        return 0

    rows = benchmark.make_rows(
        _MODEL.value,
        _DATASET.value,
        _PRESET.value,
        changes,
        [parse_overrides(shlex.split(text)) for text in _ALSO.value],
        _WHAT.value,
    )
    report = benchmark.run(rows, _STRATEGY.value, _SECONDS.value, _BLOCKS.value, _DATA_DIR.value)
    print(benchmark.format_report(report))
    _write(report, machine.command_line())
    return 0


def measure_page(names):
    """Measures reports of docs/performance.md into results/benchmarks/."""
    from tfobj.bench import page
    from tfobj.training import strategy_names

    # Mistakes are answered before TensorFlow is loaded.
    reports = page.chosen_reports(names)
    strategy_names.check_name(_STRATEGY.value)
    commands.load_tensorflow()
    from tfobj.bench import benchmark, serving

    def measure_one(plan, strategy):
        if plan is page.SERVE:
            return serving.run((), plan.seconds, plan.blocks)
        rows = benchmark.make_rows(
            plan.models, plan.dataset, plan.preset, plan.overrides, plan.also, plan.what
        )
        return benchmark.run(rows, strategy, plan.seconds, plan.blocks, _DATA_DIR.value)

    page.measure(reports, ROOT / "results" / "benchmarks", measure_one, _STRATEGY.value)


def write_docs():
    """Writes the tables of docs/performance.md, or checks them."""
    from tfobj.bench import tables

    changed = tables.write_page(ROOT / "docs" / "performance.md", ROOT / "results", _CHECK.value)
    print(f"docs/performance.md {'rewritten' if changed else 'is up to date'}.")


def _write(report, command):
    """Writes a report, with the command that made it, to --json."""
    if _JSON.value:
        files.write_text(_JSON.value, json.dumps({"command": command, **report}, indent=2) + "\n")


if __name__ == "__main__":
    commands.run(main)
