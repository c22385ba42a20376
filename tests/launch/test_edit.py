"""launch/edit.py on scenes of a run and on pictures: results, files, and mistakes."""

import json
import pathlib
import shutil

import command
import numpy as np
import painted_scenes as painted
import pytest
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parents[2]

TINY = {
    "model.encoder_channels": "8,8",
    "model.encoder_kernels": "3",
    "model.encoder_strides": "2,2",
    "model.decoder_channels": "8",
    "model.decoder_kernels": "3",
    "model.slot_size": 8,
    "model.num_slots": 3,
    "data.num_train": 16,
    "data.num_test": 6,
    "train.steps": 1,
    "train.batch_size": 4,
    "eval.batch_size": 4,
    "eval.num_scenes": 4,
}


def edit_all(commands, cwd):
    """Returns (standard output, error) of every list of arguments."""
    finished = [command.run("edit", *arguments, cwd=cwd) for arguments in commands]
    return [(f.stdout, f.stderr.partition("error: ")[2].strip()) for f in finished]


def export_painter(folder):
    """Writes a SavedModel that finds the squares of `painted_scenes` in every picture."""
    import tensorflow as tf

    height, width = painted.SIZE

    def encode(image, num_slots, num_steps, seed):
        return {"slots": tf.tile(painted.two_scenes()[0][None], [tf.shape(image)[0], 1, 1])}

    def decode(slots):
        row = tf.round((slots[..., 4] + 1) / 2 * (height - 1))[..., None, None]
        column = tf.round((slots[..., 5] + 1) / 2 * (width - 1))[..., None, None]
        rows, columns = (
            tf.range(height, dtype=tf.float32)[:, None],
            tf.range(width, dtype=tf.float32)[None],
        )
        alpha = tf.cast(
            (tf.abs(rows - row) <= painted.REACH) & (tf.abs(columns - column) <= painted.REACH),
            tf.float32,
        )
        alpha = tf.concat([alpha[:, :-1], tf.ones_like(alpha[:, -1:])], 1)
        depth = tf.concat([slots[:, :-1, 3], tf.fill(tf.shape(slots[:, -1:, 3]), 1e9)], 1)
        nearer = tf.cast(depth[:, None] < depth[:, :, None], tf.float32)[..., None, None]
        masks = (alpha * tf.reduce_prod(1 - nearer * alpha[:, None], 2))[..., None]
        slot_recons = slots[:, :, None, None, :3] * tf.ones_like(masks)
        return {
            "recon": tf.reduce_sum(masks * slot_recons, 1),
            "masks": masks,
            "slot_recons": slot_recons,
        }

    root, number = tf.Module(), tf.TensorSpec([], tf.int32)
    root.encode = tf.function(
        encode,
        input_signature=[tf.TensorSpec([None, None, None, 3], tf.float32), number, number, number],
    )
    root.decode = tf.function(decode, input_signature=[tf.TensorSpec([None, None, 6], tf.float32)])
    tf.saved_model.save(root, str(folder / "1"))
    metadata = {
        "name": "painter",
        "model": "Painter",
        "image_size": painted.SIZE,
        "channels": 3,
        "num_slots": 4,
        "num_steps": 1,
        "has_prior": False,
        "slot_size": 6,
        "slot_parts": painted.LAYOUT.parts,
        "background_slot": -1,
    }
    (folder / "1" / "metadata.json").write_text(json.dumps(metadata))


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Returns a folder in which `COMMANDS` were run, and what they printed."""
    from tfobj.training import loop
    from tfobj.training.experiment import resolve
    from tfobj.training.strategy import make_strategy

    folder = tmp_path_factory.mktemp("edit")
    loop.train(
        resolve("slot_attention", "tetris", overrides=TINY),
        folder / "run",
        make_strategy("cpu"),
        data_dir=folder / "data",
    )
    export_painter(folder / "painter")
    shutil.copytree(folder / "painter", folder / "older")
    metadata = json.loads((folder / "older" / "1" / "metadata.json").read_text())
    (folder / "older" / "1" / "metadata.json").write_text(
        json.dumps(
            {k: v for k, v in metadata.items() if k not in ("slot_parts", "background_slot")}
        )
    )
    rng = np.random.default_rng(0)
    for name in ("photo", "other"):
        Image.fromarray(rng.integers(0, 256, (20, 30, 3)).astype(np.uint8)).save(
            folder / f"{name}.png"
        )
    (folder / "notes.png").write_text("words")
    return folder, dict(zip(COMMANDS, edit_all(COMMANDS.values(), folder), strict=True))


RUN = ["--workdir=run", "--data_dir=data"]
COMMANDS = {
    "list": [*RUN, "--scene=2", "--out=list"],
    "run": [
        *RUN,
        "--scene=2",
        "--other=4",
        "--out=edited",
        "--edit=remove:slot=2",
        "--edit=traverse:slot=3,latent=1,num=3",
        "--edit=swap:slot=1,other=2",
    ],
    "tour": [*RUN, "--scene=2", "--other=4", "--out=tour", "--edit=tour"],
    "pictures of a run": [
        "--workdir=run",
        "--checkpoint=best",
        "photo.png",
        "other.png",
        "--out=run_pictures",
        "--edit=interpolate:num=2",
    ],
    "export list": ["--saved_model=painter", "photo.png", "other.png", "--out=export_list"],
    "export": [
        "--saved_model=painter",
        "photo.png",
        "--out=export",
        "--edit=move:slot=1,row=2,column=11",
        "--edit=depth:slot=1,to=back",
        "--edit=remove:slot=2",
        "--edit=set:slot=4,latent=1,value=0.9",
        "--edit=duplicate:slot=3,rows=2,columns=-7",
    ],
    "export tour": [
        "--saved_model=painter",
        "photo.png",
        "other.png",
        "--out=export_tour",
        "--edit=tour",
    ],
    "older": [
        "--saved_model=older",
        "photo.png",
        "--out=older_out",
        "--edit=remove:slot=1",
        "--edit=set:slot=2,latent=6,value=-0.5",
    ],
    "older move": ["--saved_model=older", "photo.png", "--edit=move:slot=1,rows=1"],
    "no scene": [*RUN, "--scene=6", "--edit=remove:slot=1"],
    "no other": [*RUN, "--other=7", "--edit=remove:slot=1"],
    "one scene": [*RUN, "--edit=interpolate"],
    "no picture": ["--saved_model=painter", "notes.png"],
    "split": [*RUN, "--split=tset"],
    "too few slots": [*RUN, "--num_slots=1"],
    "no model": [],
    "two models": ["--workdir=run", "--saved_model=x"],
    "export without picture": ["--saved_model=x"],
    "no file": ["--saved_model=x", "nowhere.png"],
    "scene and picture": ["--workdir=run", "--scene=1", "photo.png"],
    "three pictures": ["--workdir=run", "photo.png", "photo.png", "photo.png"],
    "no run": ["--workdir=nowhere"],
    "no such edit": ["--workdir=run", "--edit=mov"],
    "tour and more": ["--workdir=run", "--edit=tour", "--edit=remove:slot=1"],
    "no such fit": ["--workdir=run", "--fit=cut"],
}


def read(folder, name):
    with np.load(folder / name) as arrays:
        return dict(arrays)


def test_slots_are_listed(results):
    folder, printed = results
    text, error = printed["list"]
    assert not error and text.splitlines()[:2] == ["scene 2 of test", "slot   visible"]
    assert (
        "This model allows: set, traverse, interpolate, remove, insert, duplicate, "
        "swap between scenes; see --help." in text
    )
    assert {path.name for path in (folder / "list").iterdir()} == {"slots.png", "slots.npz"}
    arrays = read(folder / "list", "slots.npz")
    assert arrays["before"].shape == (3, 8) and list(arrays["numbers_before"]) == [1, 2, 3]


def test_edits_of_a_run(results):
    """The slots are those of an evaluation, and the picture is what the edited ones decode to."""
    import tensorflow as tf

    from tfobj.training.checkpoint import load_run
    from tfobj.training.evaluation import Evaluator
    from tfobj.training.experiment import open_scenes

    folder, printed = results
    text, error = printed["run"]
    assert not error and text.startswith("3 edits of scene 2 of test. Written: ")
    assert {path.name for path in (folder / "edited").iterdir()} == {
        "edit_remove_traverse_swap.png",
        "edited.png",
        "slots.npz",
    }
    arrays = read(folder / "edited", "slots.npz")
    run = load_run(folder / "run")
    scenes, _ = open_scenes(run.experiment, "test", folder / "data")
    evaluator = Evaluator(run.model, 1, num_steps=run.experiment.eval.num_steps)
    found = {
        i: evaluator.forward(
            scenes.image[i : i + 1].astype(np.float32) / np.float32(255), i
        ).slots.numpy()[0]
        for i in (2, 4)
    }
    np.testing.assert_allclose(arrays["before"], found[2], atol=1e-6)
    np.testing.assert_allclose(arrays["after"][0], found[4][1], atol=1e-6)
    np.testing.assert_allclose(arrays["after"][1, 1:], found[2][2, 1:], atol=1e-6)
    assert list(arrays["numbers_after"]) == [1, 3] and arrays["after"][1, 0] != found[2][2, 0]
    expected = np.clip(run.model.decode(tf.constant(arrays["after"][None])).recon.numpy()[0], 0, 1)
    with Image.open(folder / "edited" / "edited.png") as picture:
        np.testing.assert_allclose(np.asarray(picture) / 255.0, expected, atol=0.51 / 255 + 1e-5)


def test_tours(results):
    folder, printed = results
    for name, out in (("tour", "tour"), ("export tour", "export_tour")):
        assert not printed[name][1]
        assert {path.name for path in (folder / out).iterdir()} == {"edit_tour.png", "slots.npz"}
        assert set(read(folder / out, "slots.npz")) == {"before", "numbers_before"}
    assert printed["tour"][0].startswith("7 edits of scene 2") and printed["export tour"][
        0
    ].startswith("15 edits of photo.png")


def test_pictures_of_a_run(results):
    folder, printed = results
    assert not printed["pictures of a run"][1]
    with Image.open(folder / "run_pictures" / "edited.png") as picture:
        assert picture.size == (35, 35) and picture.mode == "RGB"


def test_slots_of_an_export_with_depths(results):
    folder, printed = results
    text, error = printed["export list"]
    assert not error and {path.name for path in (folder / "export_list").iterdir()} == {
        "slots.png",
        "slots.npz",
        "slots_other.png",
        "slots_other.npz",
    }
    lines = text.splitlines()
    assert (
        lines[0] == "photo.png"
        and lines[1].split() == ["slot", "visible", "row", "column", "depth"]
        and lines[5].split()[-1] == "background"
    )
    assert lines[2].split() == ["1", "7.7", "%", "3.0", "3.0", "1"] and lines[3].split() == [
        "2",
        "4.3",
        "%",
        "4.0",
        "4.0",
        "3",
    ]
    np.testing.assert_array_equal(
        read(folder / "export_list", "slots.npz")["before"], painted.two_scenes()[0]
    )


def test_edits_of_an_export(results):
    folder, printed = results
    assert not printed["export"][1]
    arrays = read(folder / "export", "slots.npz")
    before, after = arrays["before"], arrays["after"]
    assert before.shape == (4, 6) and list(arrays["numbers_after"]) == [1, 3, 5, 4]
    np.testing.assert_array_equal(after[1], before[2])
    with Image.open(folder / "export" / "edited.png") as picture:
        pixels = np.asarray(picture)
    assert pixels.shape == (9, 13, 3) and pixels.dtype == np.uint8
    expected = np.broadcast_to(np.float32([0.9, 0.5, 0.5]), (9, 13, 3)).copy()
    expected[1:4, 10:13] = painted.RED  # moved, and put behind blue
    expected[3:6, 9:12] = expected[5:8, 2:5] = painted.BLUE
    np.testing.assert_array_equal(pixels, np.rint(255 * expected))


def test_an_export_that_does_not_tell_its_parts(results):
    """Whole slots and single latents can be edited; for the rest it is to be exported again."""
    folder, printed = results
    assert not printed["older"][1]
    after = read(folder / "older_out", "slots.npz")["after"]
    assert after.shape == (3, 6) and after[0, 5] == -0.5
    assert printed["older move"][1].startswith(
        "`move` must know where a slot keeps its position, which older exports do not say: "
        "export the run again."
    )


@pytest.mark.parametrize(
    "name, message",
    [
        ("no scene", "`--scene` must be in 0 ... 5. Received: scene=6."),
        ("no other", "`--other` must be in 0 ... 5. Received: other=7."),
        (
            "one scene",
            "`--edit=interpolate` needs a second scene: give --other=NUMBER, or a second picture.",
        ),
        ("no picture", "`notes.png` is not a picture that can be read"),
        ("split", "Unknown split of protocol"),
    ],
)
def test_mistakes_with_a_model_are_named(results, name, message):
    folder, printed = results
    text, error = printed[name]
    assert error.startswith(message) and not text
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    "name, message",
    [
        ("no model", "Give the model: --workdir=RUN or --saved_model=FOLDER."),
        ("two models", "Give the model: --workdir=RUN or --saved_model=FOLDER, not both."),
        ("export without picture", "Give a picture to edit"),
        ("no file", "Pictures must be files. Received: nowhere.png, which is none."),
        ("scene and picture", "Give pictures, or scenes by number"),
        ("three pictures", "Pictures must be one, or two"),
        ("no run", "`--workdir` must be the folder of a run. Received: nowhere"),
        ("no such edit", "Unknown edit 'mov'. Did you mean 'move'?"),
        ("tour and more", "`--edit=tour` must stand alone."),
        ("no such fit", "Unknown fit 'cut'."),
        ("too few slots", "`num_slots` must be at least 2"),
    ],
)
def test_mistakes_without_a_model_are_named(results, name, message):
    text, error = results[1][name]
    assert error.startswith(message) and not text


def test_help_teaches_and_mistakes_end_with_status_2(tmp_path):
    process = command.run_process("edit", "--help", cwd=tmp_path)
    assert (
        "--edit=move:slot=1,rows=5,columns=-8" in process.stdout
        and "depth:order=2+1+3" in process.stdout
    )
    process = command.run_process("edit", "--workdir=nowhere", "--edti=tour", cwd=tmp_path)
    assert process.returncode == 2 and process.stderr.splitlines()[-1].startswith(
        "error: Unknown flag 'edti'. Did you mean 'edit'?"
    )
    assert list(tmp_path.iterdir()) == []
