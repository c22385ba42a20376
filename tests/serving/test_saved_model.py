"""The exported folder: TensorFlow alone can serve it, it appears whole, and it says what it is."""

import json
import os
import re
import shutil
import subprocess
import sys

import conformance
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import op_def_registry

from tfobj.errors import UserError
from tfobj.serving import card, export, warmup, zoo

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 13, 9, 3)).astype(np.uint8)

CLIENT = """
import sys
for name in ("tfobj", "keras", "tf_keras", "tensorflow_probability"):
    sys.modules[name] = None
import numpy as np, tensorflow as tf
images = np.load("images.npy")
for folder in sys.argv[1:]:
    model = tf.saved_model.load(folder)
    results = {name: value.numpy() for name, value in model.decompose(images, seed=3).items()}
    np.savez("_".join(folder.split("/")[-2:]), **results)
"""


def assert_same(found, expected):
    """Equal up to the order in which threads sum."""
    assert set(found) == set(expected)
    for name, value in found.items():
        if name == "segmentation":
            assert np.mean(value == expected[name]) > 0.99
        else:
            np.testing.assert_allclose(value, expected[name], rtol=1e-4, atol=1e-5, err_msg=name)


def test_loads_without_tfobj_and_keras(export_case, tmp_path):
    exported = [export_case(case) for case in conformance.MODELS if not case.name]
    np.save(tmp_path / "images.npy", IMAGES)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    subprocess.run(
        [sys.executable, "-c", CLIENT, *(str(e.folder) for e in exported)],
        cwd=tmp_path,
        env=environment,
        check=True,
        capture_output=True,
        timeout=300,
    )
    for e in exported:
        expected = e.loaded.decompose(IMAGES, seed=3)
        with np.load(tmp_path / f"{e.folder.parent.name}_{e.folder.name}.npz") as found:
            assert_same(found, expected)


def test_runs_in_a_session_as_tensorflow_serving_does(exported):
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        meta_graph = tf.compat.v1.saved_model.load(session, ["serve"], str(exported.folder))
        signature = meta_graph.signature_def["serving_default"]
        assert signature.method_name == "tensorflow/serving/predict"
        fetches = {name: info.name for name, info in signature.outputs.items()}
        answer = session.run(fetches, {signature.inputs["image"].name: IMAGES})
        decompose = meta_graph.signature_def["decompose"].inputs
        wrong = {
            "image": IMAGES,
            "num_slots": exported.model.config.minimum_slots - 1,
            "num_steps": 1,
            "seed": 0,
        }
        segmentation = meta_graph.signature_def["decompose"].outputs["segmentation"].name
        with pytest.raises(tf.errors.InvalidArgumentError, match="`num_slots` must be"):
            session.run(
                segmentation, {decompose[name].name: value for name, value in wrong.items()}
            )
    assert_same(answer, exported.loaded.decompose(IMAGES))


def test_graph_has_ops_of_tensorflow_only(exported):
    export.check_portable(exported.folder)
    content = export.saved_model_pb2.SavedModel.FromString(
        (exported.folder / "saved_model.pb").read_bytes()
    )
    graph = content.meta_graphs[0].graph_def
    ops = {
        node.op
        for nodes in (graph.node, *(f.node_def for f in graph.library.function))
        for node in nodes
    }
    functions = {f.signature.name for f in graph.library.function}
    assert not {op for op in ops - functions if op_def_registry.get(op) is None}
    assert not any("Xla" in op or "PyFunc" in op for op in ops)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: tf.numpy_function(np.cos, [x], tf.float32), "portable ops. Received: PyFunc"),
        (tf.function(tf.cos, jit_compile=True), "jit_compile=True"),
    ],
)
def test_graphs_that_servers_cannot_run_are_refused(tmp_path, function, message):
    module = tf.Module()
    module.run = tf.function(
        lambda x: function(x), input_signature=[tf.TensorSpec([None], tf.float32)]
    )
    tf.saved_model.save(module, str(tmp_path))
    with pytest.raises(ValueError, match=message):
        export.check_portable(tmp_path)


def test_versions(exported_attention, tmp_path, monkeypatch):
    model, directory = exported_attention.model, tmp_path / "deep" / "model"
    saves = []
    monkeypatch.setattr(
        export.tf.saved_model,
        "save",
        lambda root, path, signatures: saves.append(path) or _copy(exported_attention.folder, path),
    )
    assert [export.export_model(model, directory).name for _ in range(2)] == ["1", "2"]
    assert export.export_model(model, directory, version=7).name == "7"
    assert zoo.versions(directory) == [1, 2, 7]
    assert export.export_model(model, directory).name == "8"
    with pytest.raises(UserError, match=r"`.*/model/7` exists. Choose another version"):
        export.export_model(model, directory, version=7)
    (directory / "7" / "old").touch()
    export.export_model(model, directory, version=7, overwrite=True)
    assert not (directory / "7" / "old").exists() and (directory / "7" / "saved_model.pb").exists()
    with pytest.raises(
        UserError, match="`version` must be a positive integer. Received: version=0"
    ):
        export.export_model(model, directory, version=0)
    assert sorted(child.name for child in directory.iterdir()) == ["1", "2", "7", "8", "README.md"]
    assert all(os.path.basename(path).startswith(".incomplete_") for path in saves)
    assert (directory / "7").stat().st_mode & 0o777 == directory.stat().st_mode & 0o777


def test_default_number_of_steps(exported_iodine, tmp_path):
    """What a run evaluates with need not be what it was trained with."""
    folder = export.export_model(exported_iodine.model, tmp_path / "iodine", num_steps=4)
    images = IMAGES[:1]
    expected = exported_iodine.loaded.encode(images, num_steps=4)["slots"]
    loaded = tf.saved_model.load(str(folder))
    np.testing.assert_allclose(loaded.encode(images)["slots"], expected, atol=1e-5)
    np.testing.assert_allclose(
        loaded.signatures["encode"](image=tf.constant(images))["slots"], expected, atol=1e-5
    )
    assert zoo.read_metadata(folder)["num_steps"] == 4
    with pytest.raises(
        UserError, match="`num_steps` must be in 1 ... 100 for this model. Received: num_steps=0"
    ):
        export.export_model(exported_iodine.model, tmp_path / "iodine", num_steps=0)


def test_a_failed_export_leaves_the_old_version(exported_attention, tmp_path, monkeypatch):
    directory = tmp_path / "model"
    _copy(exported_attention.folder, directory / "1")

    def fail(*args, **kwargs):
        raise RuntimeError("disk full")

    monkeypatch.setattr(export.tf.saved_model, "save", fail)
    with pytest.raises(RuntimeError, match="disk full"):
        export.export_model(exported_attention.model, directory, version=1, overwrite=True)
    assert [child.name for child in directory.iterdir()] == ["1"]
    assert (directory / "1" / "saved_model.pb").exists()


def test_a_directory_that_cannot_be_written_is_named(exported_attention, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        export.export_model(exported_attention.model, tmp_path / "file")


def test_metadata(exported):
    metadata, config = exported.decomposer.metadata, exported.model.config
    assert (
        metadata["image_size"] == list(config.image_size)
        and metadata["num_slots"] == config.num_slots
    )
    assert metadata["parameters"] == exported.model.count_trainable()
    assert metadata["signatures"]["decompose"]["inputs"] == {
        "image": {"dtype": "uint8", "shape": [None, None, None, 3]},
        **{name: {"dtype": "int32", "shape": []} for name in ("num_slots", "num_steps", "seed")},
    }
    assert metadata["signatures"]["decode"]["outputs"]["masks"]["shape"] == [
        None,
        None,
        *config.image_size,
        1,
    ]
    assert ("sample" in metadata["signatures"]) == metadata["has_prior"]


EXPERIMENT = {
    "model_name": "iodine",
    "preset": "quick",
    "seed": 4,
    "train": {"steps": 3000, "batch_size": 32},
    "data": {"protocol": "tetris"},
}
EVALUATION = {
    "protocol": "tetris/test: scenes 0-319",
    "num_scenes": 320,
    "seed": 2,
    "inference_seed": 7,
    "num_steps": 5,
    "step": 3000,
    "fg_ari": 0.98765,
    "fg_ari_std": 0.01,
    "mse": 0.0012,
    "ari": None,
}


def test_card(exported_iodine):
    text = card.render(
        {**exported_iodine.decomposer.metadata, "experiment": EXPERIMENT, "evaluation": EVALUATION}
    )
    for line in (
        "| fg_ari | 0.9877 | 0.01 |",
        "preset quick, seed 4, 3,000 steps of 32 scenes of `tetris`",
        "320 scenes: tetris/test: scenes 0-319; num steps 5, step 3000, inference seed 7.",
        '-v "$PWD/iodine:/models/iodine"',
        "- `num_slots`: 2 ... 64",
    ):
        assert line in text
    assert "| ari |" not in text
    for name in exported_iodine.loaded.signatures:
        assert f"| `{name}` |" in text


def test_python_of_the_card_runs(exported_iodine, monkeypatch):
    """The example for TensorFlow as it is printed, from the folder that it speaks of."""
    code = re.findall(
        r"```python\n(.*?)```", (exported_iodine.folder.parent / "README.md").read_text(), re.DOTALL
    )[0]
    monkeypatch.chdir(exported_iodine.folder.parent.parent)
    names = {"images": IMAGES}
    exec(code, names)
    assert names["scene"]["recon"].shape[0] == 1


def test_index(exported_iodine, tmp_path):
    models = tmp_path / "saved_models"
    folder = models / "iodine" / "1"
    _copy(exported_iodine.folder, folder)
    assert export.add_to_index(folder) is None
    (models / "index.json").write_text('{"other": {"folder": "other"}}')
    metadata = {
        **exported_iodine.decomposer.metadata,
        "experiment": EXPERIMENT,
        "evaluation": EVALUATION,
    }
    (folder / "metadata.json").write_text(json.dumps(metadata))
    assert export.add_to_index(folder) == models / "index.json"
    index = json.loads((models / "index.json").read_text())
    entry = index["iodine"]
    assert index["other"] == {"folder": "other"}
    assert entry.pop("bytes") > 10_000
    assert entry == {
        "folder": "iodine",
        "version": 1,
        "model": "iodine",
        "protocol": EVALUATION["protocol"],
        "scores": {"fg_ari": 0.98765, "mse": 0.0012},
    }


def varint(content, position):
    value = shift = 0
    while True:
        byte = content[position]
        position, value, shift = position + 1, value | (byte & 0x7F) << shift, shift + 7
        if byte < 0x80:
            return value, position


def wire_fields(content):
    """Splits a protobuf message of length-delimited fields: list of (number, bytes)."""
    fields, position = [], 0
    while position < len(content):
        tag, position = varint(content, position)
        assert tag & 7 == 2
        length, position = varint(content, position)
        fields.append((tag >> 3, content[position : position + length]))
        position += length
    return fields


def test_warmup_on_the_wire():
    """Field numbers of tensorflow_serving/apis, read without the classes that wrote them."""
    content = warmup.encode("tetris", "decode", {"slots": np.ones((1, 2), np.float32)})
    ((number, predict_log),) = wire_fields(content)
    assert number == 6  # PredictionLog.predict_log
    ((number, request),) = wire_fields(predict_log)
    assert number == 1  # PredictLog.request
    (first, spec), (second, entry) = wire_fields(request)
    assert (first, second) == (1, 2)  # PredictRequest.model_spec, inputs
    assert wire_fields(spec) == [(1, b"tetris"), (3, b"decode")]  # ModelSpec.name, signature_name
    (key, name), (value, tensor) = wire_fields(entry)
    assert (key, name, value) == (1, b"slots", 2)
    np.testing.assert_array_equal(
        tf.make_ndarray(warmup.tensor_pb2.TensorProto.FromString(tensor)),
        np.ones((1, 2), np.float32),
    )


def test_warmup_requests_cover_and_fit_all_signatures(exported):
    requests = warmup.read(exported.folder / "assets.extra" / "tf_serving_warmup_requests")
    assert [name for _, name, _ in requests] == list(exported.decomposer.metadata["signatures"])
    for model_name, name, inputs in requests:
        assert model_name == exported.folder.parent.name
        exported.loaded.signatures[name](
            **{key: tf.constant(value) for key, value in inputs.items()}
        )


def _copy(source, target):
    shutil.copytree(source, target, dirs_exist_ok=True)
