"""The README's table is what results/ says, and its commands and links exist."""

import json
import pathlib
import re

import pytest

from tfobj import files
from tfobj.errors import UserError
from tfobj.launch import readme

ROOT = pathlib.Path(__file__).resolve().parents[2]


def row(**changes):
    return {
        "model": "iodine",
        "preset": "quick",
        "protocol": "tetris/test: scenes",
        "seed": 0,
        "step": 1000,
        "training_minutes": 5.2,
        "fg_ari": 0.5,
        "miou": 0.25,
        "mse": 0.01,
        "hardware": "2 cores",
        **changes,
    }


def test_table_averages_over_seeds_and_shows_the_published_number(tmp_path):
    (tmp_path / "published.json").write_text(
        json.dumps(
            [
                {
                    "model": "iodine",
                    "dataset": "tetris",
                    "fg_ari": 0.992,
                    "seed_std": 0.004,
                    "source": "A paper",
                }
            ]
        )
    )
    for seed, value in enumerate((0.5, 0.7)):
        (tmp_path / f"iodine_tetris_quick_seed{seed}.json").write_text(
            json.dumps(row(seed=seed, fg_ari=value))
        )
    table = readme.results_table(tmp_path)
    assert "| `iodine` | tetris | quick | 2 | 1,000 | 5 (5–5) | 0.600 (0.500–0.700) |" in table
    assert "0.992 ± 0.004" in table and "A paper" in table


def test_models_with_depth_have_a_table_of_their_own(tmp_path):
    (tmp_path / "published.json").write_text(
        json.dumps(
            [
                {
                    "model": "factored_scenes",
                    "dataset": "tetris",
                    "aiou": 0.9,
                    "dpa_30": 0.87,
                    "object_miou": 0.83,
                    "source": "A paper",
                }
            ]
        )
    )
    (tmp_path / "iodine_tetris_quick_seed0.json").write_text(json.dumps(row()))
    (tmp_path / "factored_scenes_tetris_quick_seed0.json").write_text(
        json.dumps(
            row(model="factored_scenes", aiou_micro=0.75, dpa_30_micro=0.8, object_miou_micro=0.625)
        )
    )
    first, second = re.findall(r"(?:^\|.*\n?)+", readme.results_table(tmp_path), re.MULTILINE)
    assert "iodine" in first and "factored_scenes" not in first
    assert "| 0.750 | 0.800 | 0.625 | 0.0100 | 0.90, 0.87, 0.83 |" in second


def test_clips_have_a_table_of_their_own(tmp_path):
    (tmp_path / "published.json").write_text(
        json.dumps(
            [
                {
                    "model": "video_decomposition",
                    "dataset": "balls4_color",
                    "fg_ari_frame_40": 0.9999,
                    "mse_40": 0.0002,
                    "source": "A paper",
                }
            ]
        )
    )
    (tmp_path / "iodine_tetris_quick_seed0.json").write_text(json.dumps(row()))
    scores = {
        "fg_ari_frame_10": 0.91,
        "fg_ari_frame_20": 0.92,
        "fg_ari_frame_40": 0.93,
        "ari_frame": 0.1,
    }
    for model, more in (("video_decomposition", {"mse_ahead_5": 0.02}), ("iodine", {})):
        (tmp_path / f"{model}_balls_quick_seed0.json").write_text(
            json.dumps(
                row(
                    model=model,
                    protocol="balls4_color_32_2000_320/test: clips",
                    num_frames=40,
                    num_scenes=100,
                    **scores,
                    **more,
                )
            )
        )
    text = readme.results_table(tmp_path)
    first, second = re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE)
    assert (
        "| `iodine` | balls4_color_32 | quick |" in second
        and "balls" not in first
        and "Test: 320 held-out scenes, 100 clips of 40 frames, mean over scenes" in text
    )
    assert "0.910 | 0.920 | 0.930 | 0.500 | 0.100 | 0.0100 | 0.0200 | 1.000, 0.0002 |" in second
    assert "0.910 | 0.920 | 0.930 | 0.500 | 0.100 | 0.0100 | – | – |" in second


def test_record_names_the_file_by_its_content(tmp_path):
    (tmp_path / "run" / "figures").mkdir(parents=True)
    (tmp_path / "run" / "evaluation.json").write_text(json.dumps(row(seed=3)))
    for name in (
        "decomposition_test.png",
        "layers_test.png",
        "filmstrip_test_0.png",
        "clip_test_0.gif",
    ):
        (tmp_path / "run" / "figures" / name).write_bytes(b"picture")
    readme.record(tmp_path / "run", tmp_path / "results")
    assert sorted(p.name for p in (tmp_path / "results").iterdir()) == [
        f"iodine_tetris_quick_seed3{end}"
        for end in (".gif", ".json", ".png", "_filmstrip.png", "_layers.png")
    ]
    with pytest.raises(UserError, match="no evaluation.json"):
        readme.record(tmp_path, tmp_path / "results")


def test_readme_is_up_to_date_with_the_results():
    assert not files.fill_between(
        ROOT / "README.md",
        readme.BEGIN,
        readme.END,
        readme.results_table(ROOT / "results"),
        check=True,
    )


def test_readme_names_only_files_that_exist():
    text = (ROOT / "README.md").read_text()
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert (ROOT / target).exists(), target
    for script in re.findall(r"python (launch/\w+\.py)", text):
        assert (ROOT / script).exists(), script
