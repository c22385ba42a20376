"""What is measured for the tables of docs/performance.md: a report for each of their parts.

A report is measured like any other benchmark, its rows in turns, and kept in a file of its own. So
all of them can be measured again by one command, which may be stopped between two, and a single one
after a change of one model.
"""

import json
import pathlib
import statistics
import sys
import time
from typing import NamedTuple

from tfobj import files
from tfobj.errors import UserError, unknown_name

BFLOAT16 = {"train.precision": "bfloat16"}
RECOMPUTED = {"train.rematerialise": True}
UNKNOWN_MINUTES = 1.5
"""Guess of how long a report takes that was never measured."""


class Plan(NamedTuple):
    """How a report is measured; the fields are arguments of `benchmark.make_rows` and `run`."""

    models: tuple
    dataset: str
    overrides: dict
    also: tuple = ()
    what: tuple = ("train",)
    preset: str = "paper"
    seconds: float = 2.0
    blocks: int = 5


def _speed(model, dataset, batch_size):
    overrides = {"train.batch_size": batch_size}
    return Plan((model,), dataset, overrides, (BFLOAT16,), what=("train", "data"))


def _refinement(dataset, **overrides):
    fewer = [{"model": "efficient_morl", "model.num_steps": number} for number in (1, 0)]
    return Plan(
        ("iodine", "efficient_morl"),
        dataset,
        overrides,
        tuple(fewer),
        ("train", "inference"),
        seconds=1.0,
        blocks=3,
    )


def _clips(num_frames, batch_size, *more):
    overrides = {
        "model.num_frames": num_frames,
        "model.curriculum": (),
        "train.batch_size": batch_size,
        "data.num_train": 32,
        "data.num_test": 2,
    }
    also = [RECOMPUTED]
    for size in more:
        also += [{"train.batch_size": size}, {"train.batch_size": size, **RECOMPUTED}]
    return Plan(
        ("video_decomposition",),
        "bouncing_balls",
        overrides,
        tuple(also),
        preset="quick",
        seconds=0.1,
        blocks=2,
    )


def _low_memory(model, dataset, batch_size):
    overrides = {"train.batch_size": batch_size}
    return Plan((model,), dataset, overrides, ({"train.memory": "low"},), blocks=3)


SERVE = Plan((), "", {}, what=("serve",), seconds=1.0, blocks=7)
"""All shipped models of images, measured by `serving.run`."""
SIXTEEN = {"model.num_steps": 16}

REPORTS = {
    "speed_iodine_tetris": _speed("iodine", "tetris", 8),
    "speed_iodine_multi_dsprites": _speed("iodine", "multi_dsprites", 4),
    "speed_iodine_clevr_with_masks": _speed("iodine", "clevr_with_masks", 1),
    "speed_efficient_morl_tetris": _speed("efficient_morl", "tetris", 8),
    "speed_efficient_morl_multi_dsprites": _speed("efficient_morl", "multi_dsprites", 4),
    "speed_efficient_morl_clevr_with_masks": _speed("efficient_morl", "clevr_with_masks", 4),
    "speed_slot_attention_tetris": _speed("slot_attention", "tetris", 32),
    "speed_slot_attention_clevr_with_masks": _speed("slot_attention", "clevr_with_masks", 4),
    "speed_genesis_multi_dsprites": _speed("genesis", "multi_dsprites", 8),
    "speed_monet_multi_dsprites": _speed("monet", "multi_dsprites", 8),
    "speed_video_decomposition_balls4_binary": Plan(
        ("video_decomposition",),
        "balls4_binary",
        {"train.batch_size": 2, "data.num_train": 64, "data.num_test": 8},
        (BFLOAT16,),
        blocks=3,
    ),
    "refinement_tetris": _refinement("tetris", **{"train.batch_size": 8}),
    "refinement_clevr6": _refinement(
        "clevr6", **{"train.batch_size": 1, "model.image_size": (128, 128)}
    ),
    "dials_iodine_tetris": Plan(
        ("iodine",),
        "tetris",
        {"train.batch_size": 8, "model.num_steps": 4},
        (SIXTEEN, RECOMPUTED, {**SIXTEEN, **RECOMPUTED}, {"train.micro_batches": 4}),
        blocks=3,
    ),
    "memory_iodine_tetris": _low_memory("iodine", "tetris", 8),
    "memory_iodine_multi_dsprites": _low_memory("iodine", "multi_dsprites", 4),
    "memory_efficient_morl_multi_dsprites": _low_memory("efficient_morl", "multi_dsprites", 4),
    "memory_slot_attention_tetris": _low_memory("slot_attention", "tetris", 32),
    "memory_slot_attention_clevr_with_masks": _low_memory("slot_attention", "clevr_with_masks", 4),
    "memory_monet_multi_dsprites": _low_memory("monet", "multi_dsprites", 8),
    "clips_04_frames": _clips(4, 16, 32),
    "clips_10_frames": _clips(10, 16, 32),
    "clips_40_frames": _clips(40, 8),
    "serve": SERVE,
}
"""Name of a file in results/benchmarks -> what is measured for it; its first word is the table."""


def chosen_reports(names):
    """Returns the names of `REPORTS` that are asked for, in their order.

    Args:
      names: names of reports, first words of several ("speed"), or "all".

    Raises:
      UserError: a name of none.
    """
    tables = {name.partition("_")[0] for name in REPORTS}
    for name in names:
        if name not in {"all", *tables, *REPORTS}:
            raise unknown_name("report of `--rows`", name, {"all", *tables, *REPORTS})
    return [
        name
        for name in REPORTS
        if "all" in names or name in names or name.partition("_")[0] in names
    ]


def measure(names, folder, measure_one, strategy="auto"):
    """Measures reports and writes a file for each; progress goes to stderr.

    Args:
      names: of `chosen_reports`.
      folder: of the files.
      measure_one: function of (`Plan`, strategy) -> report.
      strategy: a name of `STRATEGIES`.
    """
    folder = pathlib.Path(folder)
    # Those that were never measured take about as long as the others.
    known = [_minutes(folder / f"{name}.json") for name in names]
    usual = statistics.mean([minutes for minutes in known if minutes] or [UNKNOWN_MINUTES])
    expected = [minutes or usual for minutes in known]
    for i, name in enumerate(names):
        left = sum(expected[i:])
        print(
            f"[{i + 1}/{len(names)}] {name}, about {left:.0f} min left", file=sys.stderr, flush=True
        )
        start = time.monotonic()
        report = measure_one(REPORTS[name], strategy)
        report = {
            "command": f"python launch/benchmark.py --rows={name}",
            "minutes": round((time.monotonic() - start) / 60.0, 1),
            **report,
        }
        files.write_text(folder / f"{name}.json", json.dumps(report, indent=2) + "\n")


def _minutes(path):
    """Returns how long the report in a file took, or None."""
    try:
        return files.read_json(path).get("minutes")
    except (OSError, UserError):
        return None
