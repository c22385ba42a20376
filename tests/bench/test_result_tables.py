"""The tables of README.md and docs/results.md say what the files in results/ say."""

import json
import pathlib

import pytest

from tfobj.bench import result_tables
from tfobj.errors import UserError
from tfobj.training import results

ROOT = pathlib.Path(__file__).resolve().parents[2]

IMAGE_SCORES = {"fg_ari": 0.5, "miou": 0.25, "mse": 0.01}
DEPTH_SCORES = {
    "aiou_micro": 0.75,
    "dpa_30_micro": 0.8,
    "object_miou_micro": 0.625,
    "mse": 0.01,
}
CLIP_SCORES = {
    "fg_ari_frame_10": 0.91,
    "fg_ari_frame_20": 0.92,
    "fg_ari_frame_40": 0.93,
    "fg_ari": 0.5,
    "ari_frame": 0.1,
    "mse": 0.01,
}
PUBLISHED = {
    ("iodine", "tetris"): {"fg_ari": 0.992, "seed_std": 0.004, "source": "A paper"},
    ("factored_scenes", "tetris"): {
        "aiou": 0.9,
        "dpa_30": 0.87,
        "object_miou": 0.83,
        "source": "Another paper",
    },
    ("video_decomposition", "balls"): {
        "fg_ari_frame_40": 0.9999,
        "mse_40": 0.0002,
        "source": "A third paper",
    },
}


def row(model, scores=IMAGE_SCORES, **changes):
    return {
        "model": model,
        "preset": "quick",
        "protocol": "tetris/test: scenes",
        "seed": 0,
        "step": 1000,
        "training_minutes": 5.2,
        "num_scenes": 320,
        "hardware": "2 cores",
        "command": f"python launch/train.py --model={model} --dataset=tetris",
        **scores,
        **changes,
    }


def clip_row(model, **changes):
    return row(
        model,
        CLIP_SCORES,
        protocol="balls_32_2000_320/test: clips",
        num_frames=40,
        num_scenes=100,
        **changes,
    )


def groups_of(tmp_path, *rows):
    for number, content in enumerate(rows):
        (tmp_path / f"{number}_seed0.json").write_text(json.dumps(content))
    return results.load(tmp_path)


def test_scores_are_averaged_over_seeds_beside_the_published_number(tmp_path):
    groups = groups_of(tmp_path, row("iodine"), row("iodine", seed=1, fg_ari=0.7))
    text = result_tables.full_tables(groups, PUBLISHED)
    assert "| `iodine` | tetris | quick | 2 | 1,000 | 5 (5–5) | 0.600 (0.500–0.700) |" in text
    assert "| 0.992 ± 0.004 |" in text
    assert "Published: A paper." in text


def test_each_kind_of_model_has_a_table_with_its_scores(tmp_path):
    groups = groups_of(
        tmp_path,
        row("iodine"),
        row("factored_scenes", DEPTH_SCORES),
        clip_row("video_decomposition", mse_ahead_5=0.02),
        clip_row("iodine"),
    )
    text = result_tables.full_tables(groups, PUBLISHED)
    images, depth, clips, notes = text.split("\n\n")

    assert "iodine" in images
    assert "factored_scenes" not in images
    assert "| 0.750 | 0.800 | 0.625 | 0.0100 | 0.90, 0.87, 0.83 |" in depth
    assert "0.910 | 0.920 | 0.930 | 0.500 | 0.100 | 0.0100 | 0.0200 | 1.000, 0.0002 |" in clips
    assert "0.910 | 0.920 | 0.930 | 0.500 | 0.100 | 0.0100 | – | – |" in clips
    assert "| `iodine` | balls_32 | quick |" in clips
    assert "320 images, 100 clips of 40 frames" in notes


def test_the_summary_has_the_best_preset_of_each_model(tmp_path):
    groups = groups_of(
        tmp_path,
        row("iodine"),
        row("iodine", preset="better", fg_ari=0.875),
        row("factored_scenes", DEPTH_SCORES),
    )
    lines = result_tables.summary_table(groups, PUBLISHED).splitlines()[2:]
    assert lines == [
        "| `iodine` | tetris | 0.875 foreground ARI | 0.992 | 5 |",
        "| `factored_scenes` | tetris | 0.750 amodal IoU | 0.90 | 5 |",
    ]


def test_data_sets_have_their_measured_size_and_time(tmp_path):
    builds = [
        {"dataset": "shapes", "scenes": 1000, "seconds": 11, "megabytes": 35},
        {"dataset": "balls", "scenes": 60000, "seconds": 158, "megabytes": 1788},
    ]
    path = tmp_path / "datasets.json"
    path.write_text(json.dumps({"hardware": "2 cores", "builds": builds}))
    text = result_tables.dataset_table(path)
    assert "| `shapes` | 1,000 | 35 MB | 11 s |" in text
    assert "| `balls` | 60,000 | 1,788 MB | 3 min |" in text
    assert text.endswith("Measured on 2 cores.")


def test_pages_are_up_to_date_with_the_results():
    assert result_tables.write_pages(ROOT, check=True) == set()


def test_a_page_that_is_not_up_to_date_is_named(tmp_path):
    (tmp_path / "results").mkdir()
    for name in ("published.json", "datasets.json"):
        content = (ROOT / "results" / name).read_text()
        (tmp_path / "results" / name).write_text(content)
    begin, end = result_tables.markers("results")
    more_begin, more_end = result_tables.markers("data sets")
    (tmp_path / "README.md").write_text("\n".join([begin, end, more_begin, more_end]))
    with pytest.raises(UserError, match="README.md is not up to date; run `make readme`."):
        result_tables.write_pages(tmp_path, check=True)
