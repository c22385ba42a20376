"""launch/decompose.py as a user calls it: files, folders, clips, generated scenes, and mistakes."""

import os
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


KINDS = ("decomposition.png", "segmentation.png", "masks.npz")


def noise(number=0, size=(12, 12)):
    rng = np.random.default_rng(number)
    return Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8))


def stems(folder):
    """Returns the names of results in a folder, without their endings; all kinds must be there."""
    names = {path.name for path in folder.iterdir()}
    found = {name.removesuffix("_masks.npz") for name in names if name.endswith("_masks.npz")}
    assert {f"{stem}_{kind}" for stem in found for kind in KINDS} <= names
    return found


def test_names_do_not_collide_and_files_of_the_user_stay(saved_model, tmp_path):
    """The results lie among the pictures, and the folder is given again."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    noise(0).save(folder / "cat.png")
    noise(1).save(folder / "cat_segmentation.png")
    noise(2).save(folder / "clip_0001.jpg")
    noise(3).save(folder / "clip.gif", save_all=True, append_images=[noise(4), noise(5)])
    noise(6).save(folder / f"{'n' * 240}.png")
    noise(7).save(folder / "costs $5 or $x_{.png")
    before = {path: path.read_bytes() for path in folder.iterdir()}

    for _ in range(2):
        process = decompose(
            f"--saved_model={saved_model}", "pictures", "--out=pictures", "--fit=pad", cwd=tmp_path
        )
        assert process.returncode == 0, process.stderr
        assert "Decomposed 8 pictures into 3 slots each" in process.stdout
        found = stems(folder)
        assert len(found) == 8
        assert {"cat_2", "cat_segmentation", "clip_0001", "clip_0001_2", "clip_0002"} <= found
        assert {path: path.read_bytes() for path in before} == before
        assert len(list(folder.iterdir())) == len(before) + 8 * len(KINDS)


def test_one_bad_file_does_not_end_the_others(saved_model, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    noise(0).save(folder / "clip.gif", save_all=True, append_images=[noise(1), noise(2)])
    content = (folder / "clip.gif").read_bytes()
    (folder / "a_cut.gif").write_bytes(content[: len(content) * 8 // 10])
    (folder / "b.dds").write_bytes(b"DDS |\0\0\0" + bytes(120))
    (folder / "lost.png").symlink_to("nowhere")
    (folder / "clip.gif").unlink()
    noise(3).save(folder / "two\nlines.png")
    Image.new("RGB", (4000, 3)).save(folder / "z_strip.png")

    common = (f"--saved_model={saved_model}", "pictures", "--fit=pad")
    process = decompose(*common, cwd=tmp_path)
    assert_mistake(process, "a_cut.gif` is not a picture that can be read (damaged: ")
    assert "3 of 5 files could not be read." in process.stderr
    assert [line.split("`")[1] for line in process.stderr.splitlines() if "also:" in line] == [
        "pictures/b.dds",
        "pictures/lost.png",
    ]
    assert "Decomposed 2 pictures into 3 slots each" in process.stdout
    assert stems(tmp_path / "out") == {"two\nlines", "z_strip"}

    process = decompose(*common, "--use_damaged", "--out=used", cwd=tmp_path)
    assert_mistake(process, "b.dds` is not a picture")
    assert "note: `pictures/a_cut.gif`" in process.stderr
    assert "Its first 2 frames were used." in process.stderr
    assert stems(tmp_path / "used") == {"a_cut_0000", "a_cut_0001", "two\nlines", "z_strip"}


def test_a_folder_that_cannot_be_listed_is_named(saved_model, tmp_path, monkeypatch):
    for name in ("closed", "open"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        noise().save(tmp_path / "pictures" / name / "photo.png")
    scandir = os.scandir

    def guarded(path):
        if os.path.basename(path) == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    process = decompose(f"--saved_model={saved_model}", "pictures", cwd=tmp_path)
    assert_mistake(process, "pictures/closed` cannot be listed (Permission denied).")
    assert stems(tmp_path / "out") == {"photo"}


def test_one_picture_is_one_picture(saved_model, tmp_path):
    noise().save(tmp_path / "photo.png")
    process = decompose(f"--saved_model={saved_model}", "photo.png", cwd=tmp_path)
    assert "Decomposed 1 picture into 3 slots (" in process.stdout
    process = decompose(f"--saved_model={saved_model}", "out", "--out=again", cwd=tmp_path)
    assert_mistake(process, "Received: only results of earlier runs.")
    # A shell's `*` names results as well.
    names = sorted(path.relative_to(tmp_path) for path in tmp_path.glob("**/*.*"))
    process = decompose(f"--saved_model={saved_model}", *names, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert "note: 3 results of earlier runs were not taken for a picture." in process.stderr
    assert stems(tmp_path / "out") == {"photo"}
    # A result that alone is named is decomposed.
    process = decompose(
        f"--saved_model={saved_model}", "out/photo_segmentation.png", "--out=again", cwd=tmp_path
    )
    assert process.returncode == 0, process.stderr


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
        ([""], "Pictures must be files or folders. Received: '', which does not exist"),
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


def test_batches_give_the_results_of_single_pictures(saved_model, tmp_path):
    """Pictures of two sizes in turns, then more of one size than a batch takes."""
    from tfobj.serving import zoo

    rng = np.random.default_rng(5)
    sides = [14, 20, 14, 20, 14, 20] + [14] * 22
    images = [rng.integers(0, 256, (side, side, 3), np.uint8) for side in sides]
    for i, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"picture_{i:02d}.png")
    process = decompose(f"--saved_model={saved_model}", ".", "--seed=3", cwd=tmp_path)
    assert "Decomposed 28 pictures into 3 slots each" in process.stdout

    decomposer = zoo.load(saved_model)
    for i in (0, 1, 5, 6, 25, 26, 27):
        expected = decomposer.decompose(images[i], seed=3)
        found = np.load(tmp_path / "out" / f"picture_{i:02d}_masks.npz")
        np.testing.assert_allclose(found["masks"], expected.masks[0], atol=1e-5)
        np.testing.assert_allclose(found["slots"], expected.slots[0], atol=1e-4)
        assert found["segmentation"].shape == images[i].shape[:2]
