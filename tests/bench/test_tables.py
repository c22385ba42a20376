"""The tables of docs/performance.md: arithmetic of the ratios, and that the page is up to date."""

import json
import pathlib

import pytest

from tfobj.bench import tables
from tfobj.errors import UserError

ROOT = pathlib.Path(__file__).resolve().parents[2]
PUBLIC = {
    "matmul_gflops": 200,
    "convolution_gflops": 450,
    "rows": [
        {
            "model": "iodine",
            "dataset": "tetris",
            "batch_size": 8,
            "ms": 1000,
            "mb": 687,
            "side_by_side": {"float32": 0.61, "bfloat16": 0.4},
            "source": "someone/IODINE",
        }
    ],
}


def row(**changes):
    return {
        "model": "iodine",
        "dataset": "tetris",
        "preset": "paper",
        "what": "train",
        "settings": "",
        "image_size": [35, 35],
        "batch_size": 8,
        "precision": "float32",
        "ms_per_step": 300.0,
        "ms_per_step_min": 300.0,
        "images_per_second": 26.7,
        "peak_memory_mb": 1300.0,
        "start_memory_mb": 700.0,
        "gflop_per_step": 150.0,
        "fraction_of_conv_peak": 0.75,
        **changes,
    }


def report(*rows):
    rounds = [
        {"float32": {"32x35x35x32, 5x5": 480.0, "28x64x64x32, 5x5": 900.0}},
        {"float32": {"32x35x35x32, 5x5": 500.0, "28x64x64x32, 5x5": 1.0}},
    ]
    return {
        "machine": {"hardware": "2 cores", "software": "TensorFlow"},
        "rows": list(rows),
        "calibration": {
            "matmul_gflops": 400.0,
            "convolution_gflops": {"float32": 900.0},
            "convolution_gflops_per_round": rounds,
        },
    }


def cells(table, line):
    return [cell.strip() for cell in table.splitlines()[line].strip("|").split("|")]


def test_public_times_are_carried_over_by_two_yardsticks():
    table = tables.speed_table([report(row(pipeline_ratio=12.3), row(what="data"))], PUBLIC)
    names = cells(table, 0)
    values = cells(table, 2)
    got = dict(zip(names, values, strict=True))
    assert got["ratio by matmul"] == "0.60"  # 300 ms on a machine twice as fast, against 1,000
    assert got["ratio by convolution"] == "0.60"  # 900 / 450: the fastest convolution
    assert got["ratio side by side, before"] == "0.61"
    assert got["of conv of its size"] == "100%"  # 150 GFLOP in 0.3 s at 500 GFLOP/s
    assert got["best public: ms there"] == "1,000 (someone/IODINE)"
    assert got["MB there"] == "687"
    assert got["pipeline / step"] == "12"
    assert got["of conv peak"] == "75%"
    assert len(table.splitlines()) == 5  # the pipeline's row has no line of its own


@pytest.mark.parametrize(
    "changes",
    [
        {"batch_size": 4},
        {"preset": "quick"},
        {"settings": "model.num_steps=3"},
        {"model": "slot_mlp"},
    ],
)
def test_other_configurations_are_not_compared(changes):
    table = tables.speed_table([report(row(**changes))], PUBLIC)
    assert dict(zip(cells(table, 0), cells(table, 2), strict=True))["ratio by matmul"] == "–"


def test_speed_is_compared_with_iodine():
    rows = [
        row(image_size=[35, 35]),
        row(
            image_size=[35, 35],
            model="efficient_morl",
            settings="model.num_steps=0",
            ms_per_step=100.0,
        ),
        row(image_size=[35, 35], what="inference", ms_per_step=120.0),
        row(image_size=[35, 35], model="efficient_morl", what="inference", ms_per_step=40.0),
    ]
    table = tables.refinement_table([report(*rows)], PUBLIC)
    assert [cells(table, line)[-3:] for line in range(2, 6)] == [
        ["1.0", "1.7", "1.7"],
        ["3.0", "5.0", "5.0"],
        ["1.0", "–", "–"],
        ["3.0", "–", "–"],
    ]


@pytest.mark.parametrize("height, size", [(35, 35), (64, 64), (96, 128), (128, 128), (32, 35)])
def test_the_convolution_of_the_nearest_size_is_taken(height, size):
    assert tables._convolution_size({"image_size": [height, height]}) == size


def test_dials_are_compared_with_the_first_row():
    table = tables.dials_table(
        [
            report(
                row(),
                row(settings="train.rematerialise=True", peak_memory_mb=1000.0, ms_per_step=400.0),
            )
        ]
    )
    assert cells(table, 2)[-2:] == ["1.00", "1.00"]
    assert cells(table, 3)[3:] == [
        "train.rematerialise=True",
        "1000",
        "400",
        "0.50",
        "1.33",
    ]


def test_low_memory_stands_beside_the_default():
    low = row(settings="train.memory=low", peak_memory_mb=1000.0, ms_per_step=330.0)
    table = tables.memory_table([report(row(), low)], PUBLIC)
    assert cells(table, 2)[3:] == ["1,300", "600", "1,000", "300", "1.10", "687"]


def test_minutes_are_those_of_the_first_good_validation(tmp_path):
    """Means over seeds; a score that a seed never reached is no number."""
    curves = {
        0: [(100, 1.0, 0.5), (200, 2.0, 0.92), (300, 3.0, 0.90), (400, 4.0, 0.96)],
        1: [(100, 1.0, 0.91), (200, 2.0, 0.94)],
    }
    for seed, curve in curves.items():
        run = {
            "model": "iodine",
            "preset": "quick",
            "precision": "bfloat16",
            "protocol": "tetris/test: 320 scenes",
            "hardware": "2 cores",
            "training_minutes": curve[-1][1],
            "fg_ari": curve[-1][2],
            "validation_curve": [
                {"step": step, "minutes": minutes, "fg_ari": score}
                for step, minutes, score in curve
            ],
        }
        (tmp_path / f"iodine_seed{seed}.json").write_text(json.dumps(run))
    (tmp_path / "other.json").write_text("{}")
    table = tables.minutes_table(tmp_path)
    assert cells(table, 2) == [
        "`iodine`",
        "quick",
        "bfloat16",
        "2",
        "1.5",
        "not in 1 of 2",
        "3.0",
        "0.950",
    ]


def test_page_is_up_to_date_with_the_results():
    assert not tables.write_page(ROOT / "docs" / "performance.md", ROOT / "results", check=True)


def test_a_page_that_is_not_up_to_date_is_refused(tmp_path):
    (tmp_path / "performance.md").write_text(
        (ROOT / "docs" / "performance.md").read_text().replace("| `iodine` |", "| `odin` |")
    )
    with pytest.raises(UserError, match="performance.md is not up to date"):
        tables.write_page(tmp_path / "performance.md", ROOT / "results", check=True)


def test_public_times_have_their_sources():
    public = json.loads((ROOT / "results" / "public_times.json").read_text())
    assert public["convolution_gflops"] > 0
    assert all(
        p["source"] and min(p["ms"], p["mb"], *p["side_by_side"].values()) > 0
        for p in public["rows"]
    )
