"""Exported models: loading by name or folder, NumPy in and out, one-line errors."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from tfobj.errors import UserError
from tfobj.serving import zoo

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 11, 8, 3)).astype(np.uint8)


def test_decompose_is_the_saved_function_in_numpy(exported):
    result = exported.decomposer.decompose(IMAGES, seed=2)
    expected = exported.loaded.decompose(IMAGES, seed=2)
    for name in ("segmentation", "masks", "slot_recons", "recon", "slots"):
        found = getattr(result, name)
        assert isinstance(found, np.ndarray)
        np.testing.assert_allclose(found, expected[name], rtol=1e-4, atol=1e-5, err_msg=name)

    posterior = {name for name in expected if name.startswith("posterior_")}
    assert {f"posterior_{name}" for name in result.posterior} == posterior


def test_options_reach_the_model(exported_iodine):
    decomposer = exported_iodine.decomposer
    result = decomposer.decompose(IMAGES, num_slots=5, num_steps=np.int64(1), seed=3)
    assert result.masks.shape == (2, 5, 11, 8, 1)
    assert decomposer.encode(IMAGES, num_slots=4).shape == (2, 4, 4)
    assert decomposer.decode(result.slots).recon.shape == (2, *decomposer.image_size, 3)
    samples = decomposer.sample(3, num_slots=2, seed=1)
    assert samples.masks.shape == (3, 2, *decomposer.image_size, 1)


def test_one_image_is_a_batch_of_one(exported_attention):
    decomposer = exported_attention.decomposer
    expected = decomposer.decompose(IMAGES[:1]).recon
    np.testing.assert_allclose(decomposer.decompose(IMAGES[0]).recon, expected, atol=1e-5)


def test_float64_pixels_equal_uint8_pixels(exported_attention):
    decomposer = exported_attention.decomposer
    expected = decomposer.decompose(IMAGES[:1]).recon
    np.testing.assert_allclose(decomposer.decompose(IMAGES[0] / 255.0).recon, expected, atol=1e-5)


def test_an_rgb_model_takes_gray_images(exported_attention):
    decomposer = exported_attention.decomposer
    gray = IMAGES[:1, ..., :1]
    expected = decomposer.decompose(np.repeat(gray, 3, axis=-1)).recon
    np.testing.assert_allclose(decomposer.decompose(gray).recon, expected, atol=1e-5)


def test_a_gray_model_takes_rgb_images(exported_attention):
    """Their luma is that of Pillow, rounded for uint8."""
    decomposer = zoo.Decomposer(exported_attention.folder)
    decomposer.channels = 1
    colours = np.array([[[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]]], np.uint8)
    from_bytes = decomposer._batch(colours)[0, 0, :, 0]
    np.testing.assert_array_equal(from_bytes, [76, 150, 29, 255])
    from_floats = decomposer._batch(colours / 255.0)[0, 0, :, 0]
    np.testing.assert_allclose(from_floats, [0.299, 0.587, 0.114, 1.0], rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda d: d.decompose(IMAGES[0, 0]),
            r"`images` must have shape \[B, H, W, 1 or 3\]. Received: \(8, 3\)",
        ),
        (lambda d: d.decompose(IMAGES[..., :2]), r"Received: \(2, 11, 8, 2\)"),
        (
            lambda d: d.decompose(IMAGES.astype(np.int32)),
            "`images` must be uint8, or floats in .* Received: dtype int32",
        ),
        (
            lambda d: d.decompose(IMAGES * 1.0),
            r"`image` must be finite and in \[0, 1\] .* Received: values in 0 255$",
        ),
        (
            lambda d: d.decompose(IMAGES, num_slots=1),
            "^`num_slots` must be in 2 ... 64. Received: 1$",
        ),
        (
            lambda d: d.decompose(IMAGES, num_slots=2.5),
            "`num_slots` must be an integer. Received: num_slots=2.5",
        ),
        (lambda d: d.decompose(IMAGES, seed=2**31), "`seed` must be an integer"),
        (
            lambda d: d.decompose(IMAGES[:0]),
            "`image` must hold at least one scene. Received: none.$",
        ),
        (
            lambda d: d.decode(np.zeros((2, 3))),
            r"`slots` must have shape \[B, K, 6\]. Received: \(2, 3\)",
        ),
        (lambda d: d.sample(), r"`sample` needs a model with a prior. Received: slot_attention"),
    ],
)
def test_wrong_arguments_are_named_in_one_line(exported_attention, call, message):
    with pytest.raises(UserError, match=message) as error:
        call(exported_attention.decomposer)
    assert "\n" not in str(error.value)


def test_load_by_name_folder_and_version(exported_attention, tmp_path, monkeypatch):
    for version in ("2", "10"):
        shutil.copytree(exported_attention.folder, tmp_path / "attention" / version)
    (tmp_path / "index.json").write_text(json.dumps({"toys": {"folder": "attention"}}))
    monkeypatch.setattr(zoo, "_SHIPPED", tmp_path)
    assert zoo.load("toys").folder.name == "10"
    assert zoo.load(tmp_path / "attention").folder.name == "10"
    assert zoo.load(str(tmp_path / "attention" / "2")).folder.name == "2"
    with pytest.raises(UserError, match="Unknown saved model 'toy'. Did you mean 'toys'"):
        zoo.load("toy")


def test_folders_without_an_exported_model_are_refused(exported_attention, tmp_path):
    with pytest.raises(UserError, match="which holds no saved_model.pb"):
        zoo.load(tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        zoo.load(tmp_path / "nowhere")
    (tmp_path / "file.png").touch()
    with pytest.raises(UserError, match="file.png .no such folder"):
        zoo.load(tmp_path / "file.png")

    tf.saved_model.save(tf.Module(), str(tmp_path / "foreign"))
    with pytest.raises(UserError, match="not one that `launch/export.py` wrote"):
        zoo.load(tmp_path / "foreign")


@pytest.mark.parametrize("damage", ["saved_model.pb", "variables/variables.index", "metadata.json"])
def test_damaged_models_are_named(exported_attention, tmp_path, damage):
    folder = tmp_path / "1"
    shutil.copytree(exported_attention.folder, folder)
    (folder / damage).write_bytes(b"\xff{")
    with pytest.raises(UserError, match="is damaged") as error:
        zoo.load(folder)
    assert "\n" not in str(error.value)


def test_index_of_the_checkout_lists_every_model_and_no_other():
    index = zoo.read_index()
    for name, entry in index.items():
        folder = zoo._SHIPPED / entry["folder"]
        assert zoo.versions(folder), f"{name} has no folder"
        metadata = zoo.read_metadata(folder / str(max(zoo.versions(folder))))
        assert (metadata["name"], metadata["version"]) == (name, entry["version"])
    on_disk = {path.name for path in zoo._SHIPPED.iterdir() if zoo.versions(path)}
    assert on_disk == {entry["folder"] for entry in index.values()}


def test_damaged_index_is_named(tmp_path):
    (tmp_path / "index.json").write_text("{")
    with pytest.raises(UserError, match="index.json` is damaged"):
        zoo.read_index(tmp_path / "index.json")
