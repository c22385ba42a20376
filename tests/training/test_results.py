"""Recorded runs are read in one place, and say what a preset cost and scored."""

import json

import pytest

from tfobj.training import results


def record(folder, seed, **changes):
    row = {
        "model": "iodine",
        "preset": "quick",
        "protocol": "balls4_color_32_2000_320/test: clips",
        "seed": seed,
        "step": 1000,
        "training_minutes": 10.0 + seed,
        "hardware": "2 cores of a machine",
        "command": f"python launch/train.py --model=iodine --dataset=bouncing_balls --seed={seed}",
        "fg_ari": 0.25,
        **changes,
    }
    name = f"{row['model']}_x_{row['preset']}_seed{seed}.json"
    (folder / name).write_text(json.dumps(row))


def test_runs_of_one_preset_are_averaged_over_seeds(tmp_path):
    record(tmp_path, 0, fg_ari=0.25)
    record(tmp_path, 1, fg_ari=0.75)
    groups = results.load(tmp_path)
    assert list(groups) == [("iodine", "balls4_color_32", "quick")]

    measured = results.of_presets("iodine", tmp_path)["quick", "bouncing_balls"]
    assert measured.num_seeds == 2
    assert measured.minutes == pytest.approx(10.5)
    assert measured.score == pytest.approx(0.5)
    assert str(measured) == (
        "foreground ARI 0.500 after 10 minutes on 2 cores of a machine (2 seeds)"
    )


@pytest.mark.parametrize(
    ("scores", "name"),
    [
        ({"fg_ari_frame_40": 0.5}, "foreground ARI of frames"),
        ({"aiou_micro": 0.5}, "amodal IoU"),
    ],
)
def test_a_run_is_named_by_the_score_of_its_kind(tmp_path, scores, name):
    record(tmp_path, 0, **scores)
    assert str(results.of_presets("iodine", tmp_path)["quick", "bouncing_balls"]).startswith(name)


def test_a_model_without_runs_has_no_facts(tmp_path):
    record(tmp_path, 0)
    assert results.of_presets("monet", tmp_path) == {}


@pytest.mark.parametrize("missing", ["fg_ari", "training_minutes"])
def test_runs_without_a_score_or_minutes_are_left_out(tmp_path, missing):
    record(tmp_path, 0)
    (path,) = tmp_path.iterdir()
    row = json.loads(path.read_text())
    del row[missing]
    path.write_text(json.dumps(row))
    assert results.of_presets("iodine", tmp_path) == {}


def test_every_recorded_run_of_this_repository_is_found():
    files = list(results.FOLDER.glob("*_seed*.json"))
    groups = results.load()
    assert sum(map(len, groups.values())) == len(files) > 0
    for model, _, preset in groups:
        assert any(preset == found for found, _ in results.of_presets(model))
