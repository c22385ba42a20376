"""Exported models of clips: whole clips and streams, in TensorFlow alone."""

import json
import pathlib
import subprocess
import sys

import conformance
import numpy as np
import pytest
import tensorflow as tf

from tfobj.serving.export import export_model

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
    return model, export_model(model, tmp_path_factory.mktemp("clips") / "rnem"), conformance.scenes(case.config, batch=2)


def test_a_stream_in_a_process_without_tfobj(exported, tmp_path):
    """Frame by frame, all at once, and the model itself give one answer."""
    model, folder, clip = exported
    np.save(tmp_path / "clip.npy", clip)
    subprocess.run([sys.executable, "-I", "-c", STREAM, str(folder), str(tmp_path / "clip.npy"), str(tmp_path / "out.npz")], check=True, cwd=tmp_path)
    found = np.load(tmp_path / "out.npz")
    expected = model(tf.constant(clip), seed=conformance.seed(7, 0, 0)).masks
    np.testing.assert_allclose(found["stream"], expected, atol=1e-6)
    np.testing.assert_allclose(found["whole"], expected, atol=1e-6)
    assert found["frame"] == clip.shape[1] + 1 and found["imagined"].shape == (2, 3, 10, 12, 1)


def test_videos_of_any_size_and_number_of_slots(exported):
    _, folder, _ = exported
    loaded = tf.saved_model.load(folder)
    result = loaded.decompose(tf.zeros([1, 2, 31, 20, 3], tf.uint8), num_slots=5)
    assert result["masks"].shape == (1, 2, 5, 31, 20, 1) and result["segmentation"].shape == (1, 2, 31, 20)
    np.testing.assert_allclose(tf.reduce_sum(result["masks"], axis=2), np.ones((1, 2, 31, 20, 1)), atol=1e-5)
    with pytest.raises(tf.errors.InvalidArgumentError, match="`num_slots` must be in"):
        loaded.decompose(tf.zeros([1, 2, 31, 20, 3], tf.uint8), num_slots=1000)
    state = loaded.init_state(batch=2)
    with pytest.raises(tf.errors.InvalidArgumentError, match="`state_.` must be of as many clips as `image`"):
        loaded.step(tf.zeros([1, 10, 12, 3], tf.uint8), **state)


def test_card_and_metadata(exported):
    _, folder, _ = exported
    metadata = json.loads((folder / "metadata.json").read_text())
    assert metadata["is_video"] and {"serving_default", "init_state", "step", "imagine", "decode"} <= set(metadata["signatures"])
    card = pathlib.Path(folder).parent.joinpath("README.md").read_text()
    assert "Takes a video apart" in card and "model.step(image, **state)" in card
