"""Names of results: no two alike, none of the user's, and results known as such."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from tfobj.data import own_files
from tfobj.serving import output_files
from tfobj.serving.output_files import OutputNames
from tfobj.serving.tracking import track_table, write_tracks
from tfobj.viz import canvas
from tfobj.viz.animation import save_animation

ENDINGS = ("_segmentation.png", "_masks.npz")


@pytest.mark.parametrize(
    ("stems", "expected"),
    [
        (["a", "b", "a", "a"], ["a", "b", "a_2", "a_3"]),
        (["a", "a_2", "a"], ["a", "a_2", "a_3"]),
        (["clip_0001", "clip_0000", "clip_0001"], ["clip_0001", "clip_0000", "clip_0001_2"]),
        (["A", "a", "ä", "a\u0308"], ["A", "a_2", "ä", "a\u0308_2"]),
    ],
)
def test_names_never_collide(tmp_path, stems, expected):
    names = OutputNames(tmp_path, ENDINGS)
    assert [names.unused(stem) for stem in stems] == expected


def test_files_of_the_user_stay_and_results_are_replaced(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "cat_segmentation.png")
    np.savez(tmp_path / "dog_masks.npz", a=np.zeros(3))
    (tmp_path / "owl_masks.npz").symlink_to("nowhere")
    output_files.write_image(tmp_path / "fox_segmentation.png", np.zeros((4, 4, 3)))
    output_files.write_arrays(tmp_path / "fox_masks.npz", a=np.zeros(3))

    stems = ["cat", "dog", "owl", "fox", "cat"]
    names = OutputNames(tmp_path, ENDINGS)
    expected = ["cat_2", "dog_2", "owl_2", "fox", "cat_3"]
    assert [names.unused(stem) for stem in stems] == expected


@pytest.mark.parametrize("stem", ["n" * 240, "ä" * 120, "猫" * 80, os.fsdecode(b"\xff" * 240)])
def test_long_names_are_shortened_and_stay_apart(tmp_path, stem):
    names = OutputNames(tmp_path, ENDINGS)
    first, second = names.unused(stem), names.unused(f"{stem}x")
    assert first != second
    assert first[:30] == stem[:30]
    for name in (first, second):
        assert len(os.fsencode(name)) <= output_files.LONGEST_STEM
        output_files.write_arrays(tmp_path / f"{name}_99999{ENDINGS[1]}", a=np.zeros(3))
    assert OutputNames(tmp_path / "other", ENDINGS).unused(stem) == first


def write_figure(path):
    canvas.save_figure(canvas.new_figure(80, 60), path)


def write_table(path):
    write_tracks(path, track_table(np.zeros((2, 4, 4), np.uint8), 2))


RESULTS = {
    "a.png": lambda path: output_files.write_image(path, np.zeros((4, 4, 1))),
    "b.png": write_figure,
    "c.npz": lambda path: output_files.write_arrays(path, a=np.arange(5)),
    "d.gif": lambda path: save_animation(np.zeros((3, 40, 40, 3), np.uint8), path),
    "e.csv": write_table,
}


@pytest.mark.parametrize("name", RESULTS)
def test_results_are_known_again_wherever_they_are(tmp_path, name):
    RESULTS[name](tmp_path / name)
    shutil.copyfile(tmp_path / name, tmp_path / f"copy_{name}")
    assert own_files.is_own(tmp_path / name)
    assert own_files.is_own(tmp_path / f"copy_{name}")


def test_files_of_others_are_not_taken_for_results(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    Image.fromarray(noise).save(tmp_path / "a.gif")
    np.savez(tmp_path / "a.npz", masks=noise)
    (tmp_path / "a.csv").write_text("frame,x\n")
    (tmp_path / "made by tfobj.txt").write_text("made by tfobj")
    for path in [*tmp_path.iterdir(), tmp_path / "nowhere.png", tmp_path]:
        assert not own_files.is_own(path)


def test_marked_arrays_are_read_as_ever(tmp_path):
    output_files.write_arrays(tmp_path / "a.npz", a=np.arange(5), b=np.eye(2))
    with np.load(tmp_path / "a.npz") as arrays:
        assert sorted(arrays.files) == ["a", "b"]
        np.testing.assert_array_equal(arrays["a"], np.arange(5))
