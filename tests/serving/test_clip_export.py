"""Exported models of clips: whole clips and streams, in TensorFlow alone."""

import json
import pathlib
import subprocess
import sys

import conformance
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfobj.datasets.video_files import write_video
from tfobj.errors import UserError
from tfobj.serving import zoo
from tfobj.serving.export import export_model
from tfobj.serving.tracking import track_table

ROOT = pathlib.Path(__file__).resolve().parents[2]

STREAM = """
import sys
import numpy as np, tensorflow as tf
model, clip = tf.saved_model.load(sys.argv[1]), np.load(sys.argv[2])
state = model.signatures["init_state"](batch=tf.constant(2), num_slots=tf.constant(3), seed=tf.constant(7))
masks = []
for frame in np.moveaxis(clip, 1, 0):
    result = model.step(tf.constant(frame), **state)
    state = {name: value for name, value in result.items() if name.startswith("state_")}
    masks.append(result["masks"])
imagined = model.signatures["imagine"](**state)
assert "tfobj" not in sys.modules
np.savez(sys.argv[3], stream=np.stack(masks, 1), whole=model.decompose(tf.constant(clip), seed=7)["masks"], imagined=imagined["masks"],
         frame=imagined["state_frame"])
"""


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    case = next(case for case in conformance.CLIP_MODELS if case.model == "rnem")
    model = conformance.build(case)
    return (
        model,
        export_model(model, tmp_path_factory.mktemp("clips") / "rnem"),
        conformance.scenes(case.config, batch=2),
    )


def test_a_stream_in_a_process_without_tfobj(exported, tmp_path):
    """Frame by frame, all at once, and the model itself give one answer."""
    model, folder, clip = exported
    np.save(tmp_path / "clip.npy", clip)
    subprocess.run(
        [
            sys.executable,
            "-I",
            "-c",
            STREAM,
            str(folder),
            str(tmp_path / "clip.npy"),
            str(tmp_path / "out.npz"),
        ],
        check=True,
        cwd=tmp_path,
    )
    found = np.load(tmp_path / "out.npz")
    expected = model(tf.constant(clip), seed=conformance.seed(7, 0, 0)).masks
    np.testing.assert_allclose(found["stream"], expected, atol=1e-6)
    np.testing.assert_allclose(found["whole"], expected, atol=1e-6)
    assert found["frame"] == clip.shape[1] + 1 and found["imagined"].shape == (2, 3, 10, 12, 1)


def test_videos_of_any_size_and_number_of_slots(exported):
    _, folder, _ = exported
    loaded = tf.saved_model.load(folder)
    result = loaded.decompose(tf.zeros([1, 2, 31, 20, 3], tf.uint8), num_slots=5)
    assert result["masks"].shape == (1, 2, 5, 31, 20, 1) and result["segmentation"].shape == (
        1,
        2,
        31,
        20,
    )
    np.testing.assert_allclose(
        tf.reduce_sum(result["masks"], axis=2), np.ones((1, 2, 31, 20, 1)), atol=1e-5
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match="`num_slots` must be in"):
        loaded.decompose(tf.zeros([1, 2, 31, 20, 3], tf.uint8), num_slots=1000)
    state = loaded.init_state(batch=2)
    with pytest.raises(
        tf.errors.InvalidArgumentError, match="`state_.` must be of as many clips as `image`"
    ):
        loaded.step(tf.zeros([1, 10, 12, 3], tf.uint8), **state)


def test_card_and_metadata(exported):
    _, folder, _ = exported
    metadata = json.loads((folder / "metadata.json").read_text())
    assert metadata["is_video"] and {
        "serving_default",
        "init_state",
        "step",
        "imagine",
        "decode",
    } <= set(metadata["signatures"])
    card = pathlib.Path(folder).parent.joinpath("README.md").read_text()
    assert "Takes a video apart" in card and "model.step(image, **state)" in card


def test_following_a_clip(exported):
    model, folder, clip = exported
    decomposer = zoo.load(folder)
    found = np.concatenate([result.masks for result in decomposer.track(clip[0], seed=7)])
    np.testing.assert_allclose(
        found, model(tf.constant(clip[:1]), seed=conformance.seed(7, 0, 0)).masks[0], atol=1e-6
    )
    with pytest.raises(UserError, match="takes clips frame by frame: `track`. Received: pictures."):
        decomposer.decompose(clip[0])


def test_decompose_command_follows_a_video(exported, tmp_path):
    """The clip of a user: MP4 in, tracks and moving pictures out; a still picture is refused."""
    _, folder, _ = exported
    frames = np.zeros((5, 40, 48, 3), np.uint8)
    for t in range(5):
        frames[t, 10:20, 6 * t : 6 * t + 10] = 255
    write_video(tmp_path / "clip.mp4", frames, 10.0)
    Image.fromarray(frames[0]).save(tmp_path / "still.png")
    command = [
        sys.executable,
        ROOT / "launch" / "decompose.py",
        f"--saved_model={folder}",
        "clip.mp4",
        "still.png",
    ]
    process = subprocess.run(command, cwd=tmp_path, text=True, capture_output=True, timeout=300)
    assert (
        process.returncode == 2
        and "Followed 3 slots through 5 frames of clip.mp4; results in out." in process.stdout
    ), process.stderr
    assert (
        "error: `still.png` is a still picture, and this model follows objects through clips."
        in process.stderr
    )
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "clip_tracked.gif",
        "clip_filmstrip.png",
        "clip_tracks.csv",
        "clip_tracks.npz",
    }
    lines = (tmp_path / "out" / "clip_tracks.csv").read_text().splitlines()
    assert lines[0].startswith("frame,slot,pixels") and {
        int(line.split(",")[0]) for line in lines[1:]
    } == set(range(5))
    assert np.load(tmp_path / "out" / "clip_tracks.npz")["segmentation"].shape[0] == 5


def test_generated_clips_need_square_frames(exported, tmp_path):
    _, folder, _ = exported
    command = [
        sys.executable,
        ROOT / "launch" / "decompose.py",
        f"--saved_model={folder}",
        "--dataset=balls4_color",
    ]
    process = subprocess.run(command, cwd=tmp_path, text=True, capture_output=True, timeout=300)
    assert process.returncode == 2
    assert (
        "error: `--dataset` must go with a model of square frames of 16 pixels or more. Received: one of 10 x 12."
        in process.stderr
    )


def test_table_of_tracks():
    labels = np.array([[[0, 0, 1], [0, 2, 2]], [[0, 0, 0], [0, 0, 2]]])
    table = track_table(labels, 4)
    rows = list(
        zip(
            *(
                table[name].tolist()
                for name in (
                    "frame",
                    "slot",
                    "pixels",
                    "row",
                    "column",
                    "top",
                    "left",
                    "bottom",
                    "right",
                )
            ),
            strict=True,
        )
    )
    assert rows == [
        (0, 1, 3, 1 / 3, 1 / 3, 0, 0, 1, 1),
        (0, 2, 1, 0.0, 2.0, 0, 2, 0, 2),
        (0, 3, 2, 1.0, 1.5, 1, 1, 1, 2),
        (1, 1, 5, 0.4, 0.8, 0, 0, 1, 2),
        (1, 3, 1, 1.0, 2.0, 1, 2, 1, 2),
    ]
