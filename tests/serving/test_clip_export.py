"""Exported video models: whole clips and streams, in TensorFlow alone."""

import json
import pathlib
import subprocess
import sys

import conformance
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfobj import random
from tfobj.datasets.video_files import write_video
from tfobj.errors import UserError
from tfobj.serving.tracking import track_table

ROOT = pathlib.Path(__file__).resolve().parents[2]

STREAM = """
import sys
import numpy as np
import tensorflow as tf

model = tf.saved_model.load(sys.argv[1])
clip = np.load(sys.argv[2])
state = model.signatures["init_state"](
    batch=tf.constant(2), num_slots=tf.constant(3), seed=tf.constant(7)
)
masks = []
for frame in np.moveaxis(clip, 1, 0):
    result = model.step(tf.constant(frame), **state)
    state = {name: value for name, value in result.items() if name.startswith("state_")}
    masks.append(result["masks"])
imagined = model.signatures["imagine"](**state)
assert "tfobj" not in sys.modules
np.savez(
    sys.argv[3],
    stream=np.stack(masks, 1),
    whole=model.decompose(tf.constant(clip), seed=7)["masks"],
    imagined=imagined["masks"],
    frame=imagined["state_frame"],
)
"""


@pytest.fixture(scope="module")
def exported(exported_clips):
    """`Exported` of R-NEM."""
    return exported_clips


def run_decompose(folder, *arguments, cwd):
    """Runs launch/decompose.py with an exported model; returns the finished process."""
    command = [sys.executable, ROOT / "launch" / "decompose.py", f"--saved_model={folder}"]
    return subprocess.run(
        [*command, *arguments], cwd=cwd, text=True, capture_output=True, timeout=300
    )


def test_a_stream_in_a_process_without_tfobj_equals_the_model(exported, tmp_path):
    """Frame by frame, the whole clip at once, and the model itself give the same masks."""
    clip_file = tmp_path / "clip.npy"
    result_file = tmp_path / "out.npz"
    np.save(clip_file, exported.clip)
    subprocess.run(
        [sys.executable, "-I", "-c", STREAM, exported.folder, clip_file, result_file],
        check=True,
        cwd=tmp_path,
    )
    found = np.load(result_file)
    with random.shared_by_scenes():
        expected = exported.model(tf.constant(exported.clip), seed=conformance.seed(7, 0, 0)).masks
    np.testing.assert_allclose(found["stream"], expected, atol=1e-6)
    np.testing.assert_allclose(found["whole"], expected, atol=1e-6)
    assert found["frame"] == exported.clip.shape[1] + 1
    assert found["imagined"].shape == (2, 3, 10, 12, 1)


def test_videos_of_any_size_and_number_of_slots(exported):
    loaded = exported.loaded
    result = loaded.decompose(tf.zeros([1, 2, 31, 20, 3], tf.uint8), num_slots=5)
    assert result["masks"].shape == (1, 2, 5, 31, 20, 1)
    assert result["segmentation"].shape == (1, 2, 31, 20)
    total = tf.reduce_sum(result["masks"], axis=2)
    np.testing.assert_allclose(total, np.ones((1, 2, 31, 20, 1)), atol=1e-5)

    with pytest.raises(tf.errors.InvalidArgumentError, match="`num_slots` must be in"):
        loaded.decompose(tf.zeros([1, 2, 31, 20, 3], tf.uint8), num_slots=1000)
    state = loaded.init_state(batch=2)
    message = "`state_.` must be of as many clips as `image`"
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        loaded.step(tf.zeros([1, 10, 12, 3], tf.uint8), **state)


def test_clips_do_not_depend_on_their_neighbours(exported):
    """Alone, in a batch, at another place, and frame by frame."""
    loaded = exported.loaded
    clips = conformance.scenes(exported.case.config, batch=3)
    order = [2, 0, 1]
    batch = loaded.decompose(clips, seed=3)["masks"].numpy()
    permuted = loaded.decompose(clips[order], seed=3)["masks"]
    np.testing.assert_allclose(permuted, batch[order], atol=1e-6)
    alone = loaded.decompose(clips[2:], seed=3)["masks"]
    np.testing.assert_allclose(alone, batch[2:], atol=1e-6)

    state = loaded.init_state(batch=3, seed=3)
    for t in range(clips.shape[1]):
        result = loaded.step(clips[order][:, t], **state)
        state = {name: value for name, value in result.items() if name.startswith("state_")}
        np.testing.assert_allclose(result["masks"], batch[order][:, t], atol=1e-6)


def test_metadata_and_card_tell_that_it_is_a_video_model(exported):
    metadata = json.loads((exported.folder / "metadata.json").read_text())
    expected = {"serving_default", "init_state", "step", "imagine", "decode"}
    assert metadata["is_video"]
    assert expected <= set(metadata["signatures"])

    card = (exported.folder.parent / "README.md").read_text()
    assert "Takes a video apart" in card
    assert "model.step(image, **state)" in card


def test_tracking_equals_the_model(exported):
    results = exported.decomposer.track(exported.clip[0], seed=7)
    found = np.concatenate([result.masks for result in results])
    clip = tf.constant(exported.clip[:1])
    expected = exported.model(clip, seed=conformance.seed(7, 0, 0)).masks[0]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_images_are_refused_by_a_video_model(exported):
    message = "takes clips frame by frame: `track`. Received: images."
    with pytest.raises(UserError, match=message):
        exported.decomposer.decompose(exported.clip[0])


def test_decompose_command_follows_a_video_and_refuses_a_still_picture(exported, tmp_path):
    frames = np.zeros((5, 40, 48, 3), np.uint8)
    for t in range(5):
        frames[t, 10:20, 6 * t : 6 * t + 10] = 255
    write_video(tmp_path / "clip.mp4", frames, 10.0)
    Image.fromarray(frames[0]).save(tmp_path / "still.png")
    process = run_decompose(exported.folder, "clip.mp4", "still.png", cwd=tmp_path)

    assert process.returncode == 2, process.stderr
    assert (
        "Followed 3 slots through 5 frames of clip.mp4; the results are in out." in process.stdout
    )
    message = "error: `still.png` is a still picture, and this model follows objects through clips."
    assert message in process.stderr
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir()} == {
        "clip_tracked.gif",
        "clip_filmstrip.png",
        "clip_tracks.csv",
        "clip_tracks.npz",
    }

    header, *rows = (out / "clip_tracks.csv").read_text().splitlines()
    assert header.startswith("frame,slot,pixels")
    assert {int(row.split(",")[0]) for row in rows} == set(range(5))
    assert np.load(out / "clip_tracks.npz")["segmentation"].shape[0] == 5


def test_generated_clips_need_square_frames(exported, tmp_path):
    process = run_decompose(exported.folder, "--dataset=balls4_color", cwd=tmp_path)
    assert process.returncode == 2
    message = (
        "error: `--dataset` must go with a model of square frames of 16 pixels or more. "
        "Received: one of 10 x 12."
    )
    assert message in process.stderr


def test_table_of_tracks():
    labels = np.array([[[0, 0, 1], [0, 2, 2]], [[0, 0, 0], [0, 0, 2]]])
    table = track_table(labels, 4)
    names = ("frame", "slot", "pixels", "row", "column", "top", "left", "bottom", "right")
    rows = list(zip(*(table[name].tolist() for name in names), strict=True))
    assert rows == [
        (0, 1, 3, 1 / 3, 1 / 3, 0, 0, 1, 1),
        (0, 2, 1, 0.0, 2.0, 0, 2, 0, 2),
        (0, 3, 2, 1.0, 1.5, 1, 1, 1, 2),
        (1, 1, 5, 0.4, 0.8, 0, 0, 1, 2),
        (1, 3, 1, 1.0, 2.0, 1, 2, 1, 2),
    ]
