"""The measurement of serving: what its three doors return, its numbers, its table, its refusals."""

import numpy as np
import pytest

from tfobj.bench import serving
from tfobj.bench.serving_table import serving_table
from tfobj.errors import UserError
from tfobj.serving import zoo

MODEL = "slot_attention_tetris"


def report(rates):
    """Returns a report of one model; `rates` has the images per second of blocks, by door."""
    rows = [
        {
            "model": MODEL,
            "image_size": [35, 35],
            "num_slots": 4,
            "batch_size": 8,
            "door": door,
            "calls": 10,
            "ms_median": 8.0,
            "ms_90": 9.0,
            "ms_min": 7.0,
            "images_per_second": sorted(blocks)[1],
            "images_per_second_per_block": blocks,
        }
        for door, blocks in rates.items()
    ]
    return {
        "machine": {"hardware": "2 cores", "software": "Python"},
        "busy_share_before": 0.02,
        "seconds": 2.0,
        "blocks": 3,
        "rows": rows,
    }


def test_doors_return_what_the_signature_returns():
    doors = serving.make_doors(zoo.load(MODEL))
    images = np.random.default_rng(0).integers(0, 256, (2, 35, 35, 3), dtype=np.uint8)

    results = {name: door(images) for name, door in doors.items()}
    assert tuple(results) == serving.DOORS
    for name, value in results["signature"].items():
        np.testing.assert_array_equal(value, getattr(results["zoo"], name), err_msg=name)

    # The first scene has the same noise behind every door; that of the others differs in Keras.
    assert set(results["keras"]) == set(results["signature"]) - {"segmentation"}
    for name, value in results["keras"].items():
        assert value.shape == results["signature"][name].shape, name
    recon = results["keras"]["recon"][0]
    np.testing.assert_allclose(recon, results["signature"]["recon"][0], atol=1e-4)


def test_summary_is_of_all_calls_and_rates_are_of_blocks():
    row = serving._summary(
        MODEL, zoo.load(MODEL), 8, "zoo", [[10.0, 30.0], [20.0, 20.0], [40.0, 40.0]]
    )
    assert row["calls"] == 6
    assert row["ms_median"] == 25.0
    assert row["ms_90"] == 40.0
    assert row["ms_min"] == 10.0
    assert row["images_per_second_per_block"] == [400.0, 400.0, 200.0]
    assert row["images_per_second"] == 400.0


def test_table_compares_blocks_of_the_same_round():
    """The machine slowed down to a half: ratios stay, and the ratio of medians would not."""
    table = serving_table(
        [
            report(
                {
                    "keras": [100.0, 50.0, 200.0],
                    "signature": [90.0, 48.0, 190.0],
                    "zoo": [95.0, 45.0, 180.0],
                }
            )
        ]
    )
    keras, signature, zoo_line = table.splitlines()[2:5]
    assert keras.endswith("| 1.00 |")
    assert signature.endswith("| 0.95 (0.90–0.96) |")
    assert zoo_line.endswith("| 0.90 (0.90–0.95) |")
    assert "other work at the start: 2% of the processors" in table


def test_table_without_a_report_says_how_to_make_one():
    assert "--rows=serve" in serving_table([])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seconds": 0.0}, "`seconds` must be positive"),
        ({"blocks": 0}, "`blocks` must be at least 1"),
        ({"names": ["slot_atention_tetris"]}, "slot_attention_tetris"),
        ({"names": ["video_decomposition_balls"]}, "must be a model of images"),
    ],
)
def test_refusals(changes, message):
    with pytest.raises(UserError, match=message):
        serving.run(**changes)
