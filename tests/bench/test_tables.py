"""The tables of docs/performance.md: arithmetic of the ratios, and that the page is up to date."""

import json
import pathlib

import pytest

from tfobj.bench import tables
from tfobj.errors import UserError

ROOT = pathlib.Path(__file__).resolve().parents[2]
PUBLIC = {
    "matmul_gflops": 200,
    "convolution_gflops": {"35": 250},
    "rows": [
        {
            "model": "iodine",
            "dataset": "tetris",
            "batch_size": 8,
            "ms": 1000,
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
        "batch_size": 8,
        "precision": "float32",
        "ms_per_step": 300.0,
        "ms_per_step_min": 300.0,
        "images_per_second": 26.7,
        "peak_memory_mb": 1300.0,
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
        "calibration": {"matmul_gflops": 400.0, "convolution_gflops_per_round": rounds},
    }


def cells(table, line):
    return [cell.strip() for cell in table.splitlines()[line].strip("|").split("|")]


def test_public_times_are_carried_over_by_two_yardsticks():
    table = tables.speed_table([report(row(pipeline_ratio=12.3), row(what="data"))], PUBLIC)
    names = cells(table, 0)
    values = cells(table, 2)
    got = dict(zip(names, values, strict=True))
    assert got["ratio by matmul"] == "0.60"  # 300 ms on a machine twice as fast, against 1,000
    assert (
        got["ratio by convolution"] == "0.60"
    )  # 500 / 250: the convolution of 35 pixels, best round
    assert got["of conv of its size"] == "100%"  # 150 GFLOP in 0.3 s
    assert got["public, ms there"] == "1,000 (someone/IODINE)"
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
    assert all(
        p["source"]
        and p["ms"] > 0
        and str(tables.PICTURE_SIZE[p["dataset"]]) in public["convolution_gflops"]
        for p in public["rows"]
    )
