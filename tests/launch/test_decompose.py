"""launch/decompose.py as a user calls it: files, folders, clips, generated scenes, and mistakes."""

import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parents[2]


def decompose(*arguments, cwd):
    """Runs the command; returns the finished process."""
    return subprocess.run(
        [sys.executable, str(ROOT / "launch" / "decompose.py"), *map(str, arguments)],
        cwd=cwd,
        text=True,
        capture_output=True,
        timeout=300,
    )


def assert_mistake(process, message):
    assert process.returncode == 2, process.stderr
    errors = [line for line in process.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1 and message in errors[0], process.stderr
    assert "Traceback" not in process.stderr


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
    assert (
        "25 fresh scenes of tetris" in process.stdout
        and "fg-ARI " in process.stdout
        and "+-" in process.stdout
    )
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["tetris_decomposition.png"]


def test_the_shipped_model_follows_balls_that_nobody_has_seen(tmp_path):
    process = decompose(
        "--saved_model=video_decomposition_balls",
        "--dataset=balls4_color",
        "--num_scenes=1",
        cwd=tmp_path,
    )
    assert process.returncode == 0, process.stderr
    found = re.search(
        r"1 fresh clips of balls4_color, 40 frames each .*: fg-ARI of frames ([\d.]+), of whole clips ([\d.]+) ",
        process.stdout,
    )
    assert float(found[1]) > 0.9 and float(found[2]) > 0.9, process.stdout
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        f"balls4_color_0_{kind}"
        for kind in ("tracked.gif", "filmstrip.png", "tracks.csv", "tracks.npz")
    }


def test_every_generator_has_a_name():
    sizes = {
        "tetris": 35,
        "multi_dsprites": 64,
        "multi_dsprites_colored_on_black": 64,
        "overlapping_polygons": 64,
    }
    code = (
        "import sys; import tfobj.launch.decompose as command; from absl import flags; flags.FLAGS(sys.argv)\n"
        f"for name in {list(sizes)}:\n"
        "    flags.FLAGS.dataset = name\n"
        "    scenes = command._generator(is_video=False)(range(3))\n"
        "    print(name, scenes['image'].shape, scenes['mask'].shape)\n"
        "for name in ['balls678_color8', 'clevrer345']:\n"
        "    flags.FLAGS.dataset = name\n"
        "    command._generator(), command._generator(is_video=True)\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", code, "--saved_model=none"],
        text=True,
        capture_output=True,
        check=False,
    )
    expected = [
        f"{name} (3, {size}, {size}, 3) (3, {size}, {size})" for name, size in sizes.items()
    ]
    assert process.stdout.splitlines() == expected, process.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Give pictures to decompose, e.g. photo.png, or --dataset"),
        (
            ["nowhere.png"],
            "Pictures must be files or folders. Received: nowhere.png, which does not exist",
        ),
        (["--dataset=tetri"], "Unknown generated dataset 'tetri'. Did you mean 'tetris'?"),
        (["--dataset=balls4_color"], "Unknown generated dataset of pictures 'balls4_color'."),
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
