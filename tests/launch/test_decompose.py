"""launch/decompose.py as a user calls it: files, folders, clips, generated scenes, and mistakes."""

import pathlib
import re

import command
import numpy as np
import pytest
from command import assert_mistake
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parents[2]


def decompose(*arguments, cwd):
    """Runs the command in this process."""
    return command.run("decompose", *arguments, cwd=cwd)


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory):
    """Folder of a tiny exported model."""
    from tfobj import registry
    from tfobj.serving import export

    model_class = registry.model_class("slot_attention")
    config = model_class.config_class(
        image_size=(16, 16),
        num_slots=3,
        slot_size=8,
        encoder_channels=(8,),
        encoder_kernels=(3,),
        decoder_channels=(8,),
        decoder_kernels=(3, 3),
    )
    folder = tmp_path_factory.mktemp("models") / "tiny"
    export.export_model(model_class(config), folder)
    return folder


def test_files_folders_and_clips(saved_model, tmp_path):
    """All that is a picture is done, what is none is named at the end."""
    rng = np.random.default_rng(0)
    pictures = [
        Image.fromarray(rng.integers(0, 256, (20, 30, 3)).astype(np.uint8)) for _ in range(4)
    ]
    (tmp_path / "folder").mkdir()
    pictures[0].save(tmp_path / "photo.png")
    pictures[1].save(tmp_path / "folder" / "photo.png")
    pictures[2].convert("P").save(
        tmp_path / "folder" / "clip.gif", save_all=True, append_images=[pictures[3].convert("P")]
    )
    (tmp_path / "folder" / "notes.txt").write_text("words")
    process = decompose(
        f"--saved_model={saved_model}",
        "photo.png",
        "folder",
        "--out=out",
        "--num_slots=4",
        "--seed=2",
        cwd=tmp_path,
    )
    assert_mistake(process, "notes.txt` is not a picture that can be read")
    assert "Decomposed 4 pictures into 4 slots each" in process.stdout
    names = ["photo", "photo_2", "clip_0000", "clip_0001"]
    kinds = ("decomposition.png", "segmentation.png", "masks.npz")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        f"{name}_{kind}" for name in names for kind in kinds
    }
    with np.load(tmp_path / "out" / "photo_masks.npz") as arrays:
        assert arrays["masks"].shape == (4, 20, 20, 1) and arrays["slots"].shape == (4, 8)
        np.testing.assert_allclose(arrays["masks"].sum(0), 1.0, atol=1e-5)
        np.testing.assert_array_equal(arrays["segmentation"], arrays["masks"].argmax(0)[..., 0])
        colours = len(np.unique(arrays["segmentation"]))
    with Image.open(tmp_path / "out" / "photo_segmentation.png") as segmentation:
        assert segmentation.size == (20, 20)
        assert len(np.unique(np.asarray(segmentation).reshape(-1, 3), axis=0)) == colours


def test_generated_scenes_are_scored(saved_model, tmp_path):
    process = decompose(
        f"--saved_model={saved_model}", "--dataset=tetris", "--num_scenes=25", cwd=tmp_path
    )
    assert process.returncode == 0, process.stderr
    assert "25 fresh scenes of tetris" in process.stdout
    assert re.search(r"fg-ARI [\d.]+ \+- [\d.]+ over scenes", process.stdout)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["tetris_decomposition.png"]


def test_the_shipped_model_follows_balls_that_nobody_has_seen(tmp_path):
    """As a user starts it: a process of its own."""
    process = command.run_process(
        "decompose",
        "--saved_model=video_decomposition_balls",
        "--dataset=balls4_color",
        "--num_scenes=1",
        cwd=tmp_path,
    )
    assert process.returncode == 0, process.stderr
    found = re.search(
        r"1 fresh clip of balls4_color with 40 frames each .*: "
        r"fg-ARI of frames ([\d.]+), of whole clips ([\d.]+) ",
        process.stdout,
    )
    assert float(found[1]) > 0.9, process.stdout
    assert float(found[2]) > 0.9, process.stdout
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        f"balls4_color_0_{kind}"
        for kind in ("tracked.gif", "filmstrip.png", "tracks.csv", "tracks.npz")
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Give pictures to decompose, e.g. photo.png, or --dataset"),
        (
            ["nowhere.png"],
            "Pictures must be files or folders. Received: nowhere.png, which does not exist",
        ),
        (["--dataset=tetri"], "Unknown generated data set 'tetri'. Did you mean 'tetris'?"),
        (["--dataset=balls4_color"], "Unknown generated data set of images 'balls4_color'."),
        (["photo.png", "--fit=cut"], "Unknown fit 'cut'."),
        (["photo.png", "--num_slots=1"], "`num_slots` must be in 2 ... 64. Received: 1"),
    ],
)
def test_mistakes_are_one_line(saved_model, tmp_path, arguments, message):
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "photo.png")
    assert_mistake(decompose(f"--saved_model={saved_model}", *arguments, cwd=tmp_path), message)
    assert not any(tmp_path.glob("out/*"))


def test_help_teaches(tmp_path):
    process = decompose("--help", cwd=tmp_path)
    text = process.stdout + process.stderr
    assert "python launch/decompose.py --saved_model=" in text
    assert "_masks.npz" in text
