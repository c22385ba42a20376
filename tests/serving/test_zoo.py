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
    decomposer = zoo.load(exported_attention.folder)
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
        (lambda d: d.decompose([[1, 2], [3]]), "^`images` must be an array"),
        (lambda d: d.decompose(IMAGES > 7), "must be uint8, or floats in .* Received: dtype bool"),
        (lambda d: d.decompose(IMAGES * 1e300), "finite and in .* Received: values in 0 inf$"),
        (lambda d: d.decode("abc"), "^`slots` must be numbers. Received: dtype <U3"),
        (lambda d: d.decode(np.full((1, 2, 6), np.nan)), "^`slots` must be finite. Received: NaN"),
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


def make_folders(directory, *names):
    for name in names:
        (directory / name).mkdir(parents=True)


def test_versions_are_the_numbers_that_tensorflow_serving_reads(tmp_path):
    make_folders(tmp_path, "9", "001", "0000123", "9223372036854775807", "0")
    make_folders(
        tmp_path, "1.tmp", "-1", "+2", "\uff11", "\u0663", " 3", "4\n", "0x5", "1e3", "v6", "\u00b2"
    )
    make_folders(tmp_path, "9223372036854775808", "9" * 200)
    (tmp_path / "77").touch()
    assert zoo.versions(tmp_path) == [0, 1, 9, 123, 2**63 - 1]
    assert zoo.version_folders(tmp_path)[123].name == "0000123"


def test_of_two_folders_of_one_version_the_plain_one_counts(tmp_path):
    make_folders(tmp_path, "0007", "7", "007")
    assert zoo.version_folders(tmp_path) == {7: tmp_path / "7"}


def test_the_greatest_version_is_loaded_under_its_own_name(exported_attention, tmp_path):
    make_folders(tmp_path, "8", "9.partial")
    shutil.copytree(exported_attention.folder, tmp_path / "010")
    assert zoo.load(tmp_path).folder == tmp_path / "010"


@pytest.mark.parametrize("name", ["x" * 5000, "~nobody-of-that-name/x", "a\0b", ""])
def test_names_that_are_no_paths(name):
    with pytest.raises(UserError, match="saved model|saved_model") as error:
        zoo.load(name)
    assert "\n" not in str(error.value)


@pytest.fixture(scope="module")
def model_copy(exported_attention, tmp_path_factory):
    """A copy of an exported model, to be damaged and restored."""
    folder = tmp_path_factory.mktemp("damaged") / "1"
    shutil.copytree(exported_attention.folder, folder)
    return folder


def without_digests(content):
    """Returns a `metadata.json` as older exports have it."""
    metadata = json.loads(content)
    del metadata["files"]
    return json.dumps(metadata).encode()


FILES = (
    "saved_model.pb",
    "fingerprint.pb",
    "variables/variables.index",
    "variables/variables.data-00000-of-00001",
    "assets.extra/tf_serving_warmup_requests",
)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["cut", "empty", "flipped", "missing"])
def test_damaged_files_are_named(model_copy, name, damage):
    path = model_copy / name
    content = path.read_bytes()
    middle = len(content) // 2
    flipped = bytes([content[middle] ^ 16])
    damaged = {
        "cut": content[:middle],
        "empty": b"",
        "flipped": content[:middle] + flipped + content[middle + 1 :],
    }
    try:
        path.unlink()
        if damage != "missing":
            path.write_bytes(damaged[damage])
        with pytest.raises(UserError, match=f"is damaged .{name} is |no {name}") as error:
            zoo.load(model_copy)
        assert "\n" not in str(error.value)
    finally:
        path.write_bytes(content)


@pytest.mark.parametrize("name", FILES[:1] + FILES[2:4])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.98])
def test_cut_files_of_exports_without_digests_are_refused(model_copy, name, share):
    contents = {
        path: path.read_bytes() for path in (model_copy / name, model_copy / "metadata.json")
    }
    try:
        (model_copy / name).write_bytes(
            contents[model_copy / name][: int(share * len(contents[model_copy / name]))]
        )
        (model_copy / "metadata.json").write_bytes(
            without_digests(contents[model_copy / "metadata.json"])
        )
        with pytest.raises(UserError, match="is damaged|no saved_model.pb") as error:
            zoo.load(model_copy)
        assert "\n" not in str(error.value)
    finally:
        for path, content in contents.items():
            path.write_bytes(content)


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", "3", '"x"', "\xff", "[" * 100_000, '{"a": ' + "9" * 5000 + "}"],
    ids=["empty", "cut", "list", "null", "number", "text", "bytes", "deep", "long number"],
)
@pytest.mark.parametrize("read", [zoo.read_metadata, lambda d: zoo.read_index(d / "index.json")])
def test_json_that_holds_no_object(tmp_path, content, read):
    for name in ("metadata.json", "index.json"):
        (tmp_path / name).write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError, match="json` is damaged") as error:
        read(tmp_path)
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("image_size", None),
        ("image_size", [35]),
        ("image_size", [35, "35"]),
        ("channels", 2),
        ("channels", True),
        ("num_slots", 0),
        ("num_steps", "3"),
        ("slot_size", 4.0),
        ("has_prior", 1),
        ("name", ["x"]),
        ("slot_parts", {"latent": 3}),
        ("background_slot", "first"),
        ("files", ["saved_model.pb"]),
    ],
)
def test_metadata_of_wrong_types_are_named(exported_attention, tmp_path, key, value):
    metadata = {**exported_attention.decomposer.metadata, key: value}
    (tmp_path / "metadata.json").write_text(json.dumps(metadata))
    with pytest.raises(UserError, match=f"metadata.json` is damaged .`{key}` must be "):
        zoo.read_metadata(tmp_path)
    del metadata["image_size"]
    (tmp_path / "metadata.json").write_text(json.dumps({**metadata, key: value}))
    with pytest.raises(UserError, match="metadata.json` is damaged"):
        zoo.read_metadata(tmp_path)


def test_models_beside_an_index_are_found_without_it(exported_attention, tmp_path, monkeypatch):
    """What a user exports into the checkout can be used by its name, and changes no file."""
    shutil.copytree(exported_attention.folder, tmp_path / "mine" / "003")
    make_folders(tmp_path, "empty", "broken/1")
    (tmp_path / "index.json").write_text("{}")
    index = zoo.read_index(tmp_path / "index.json")
    assert list(index) == ["mine"]
    assert (index["mine"]["folder"], index["mine"]["model"]) == ("mine", "SlotAttentionAutoencoder")
    monkeypatch.setattr(zoo, "_SHIPPED", tmp_path)
    assert zoo.load("mine").folder.name == "003"
    assert (tmp_path / "index.json").read_text() == "{}"


@pytest.mark.parametrize("entry", [None, [], {}, {"folder": 3}, {"folder": "../elsewhere"}])
def test_entries_of_an_index_without_a_folder_beside_it(tmp_path, entry):
    (tmp_path / "index.json").write_text(json.dumps({"toys": entry}))
    with pytest.raises(UserError, match="index.json` is damaged"):
        zoo.read_index(tmp_path / "index.json")


def test_index_of_the_checkout_lists_every_model_and_no_other():
    index = zoo.read_index_file(zoo._SHIPPED / zoo.INDEX)
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
