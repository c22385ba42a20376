"""The exported folder: TensorFlow alone serves it, it appears whole, it describes itself."""

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import urllib.parse

import conformance
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import op_def_registry

from tfobj.errors import UserError
from tfobj.serving import card, export, warmup, zoo

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 13, 9, 3)).astype(np.uint8)

CLIENT = """
import os
import signal
import sys

for name in ("tfobj", "keras", "tf_keras", "tensorflow_probability"):
    sys.modules[name] = None

import numpy as np
import tensorflow as tf

images = np.load("images.npy")
for line in sys.stdin:
    signal.alarm(300)
    model = tf.saved_model.load(line.strip())
    results = {name: value.numpy() for name, value in model.decompose(images, seed=3).items()}
    np.savez("results.npz", **results)
    print(os.path.abspath("results.npz"), flush=True)
    signal.alarm(0)
"""
"""Reads the folder of a model, decomposes images, writes the file of the results; and so on.

Imports of model code fail, and so does a model that takes more than 300 seconds."""


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """One process for all models: importing TensorFlow takes longer than loading a model."""
    directory = tmp_path_factory.mktemp("client")
    np.save(directory / "images.npy", IMAGES)

    # The path may lead to the model code.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    with subprocess.Popen(
        [sys.executable, "-c", CLIENT],
        cwd=directory,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        process.stdin.close()


def assert_same(found, expected):
    """Asserts that results are equal up to the order in which threads sum."""
    assert set(found) == set(expected)
    for name, value in found.items():
        if name == "segmentation":
            assert np.mean(value == expected[name]) > 0.99
        else:
            np.testing.assert_allclose(value, expected[name], rtol=1e-4, atol=1e-5, err_msg=name)


def test_loads_without_tfobj_and_keras(client, exported):
    print(exported.folder, file=client.stdin, flush=True)
    expected = exported.loaded.decompose(IMAGES, seed=3)
    results = client.stdout.readline().strip()
    assert results, "The client has failed; its error is in the captured stderr."
    with np.load(results) as found:
        assert_same(found, expected)


def test_runs_in_a_session_as_tensorflow_serving_does(exported):
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        meta_graph = tf.compat.v1.saved_model.load(session, ["serve"], str(exported.folder))
        signature = meta_graph.signature_def["serving_default"]
        assert signature.method_name == "tensorflow/serving/predict"
        fetches = {name: info.name for name, info in signature.outputs.items()}
        answer = session.run(fetches, {signature.inputs["image"].name: IMAGES})

        # Checks run although nothing but the segmentation is fetched.
        decompose = meta_graph.signature_def["decompose"]
        wrong = {
            "image": IMAGES,
            "num_slots": exported.model.config.minimum_slots - 1,
            "num_steps": 1,
            "seed": 0,
        }
        feed = {decompose.inputs[name].name: value for name, value in wrong.items()}
        with pytest.raises(tf.errors.InvalidArgumentError, match="`num_slots` must be"):
            session.run(decompose.outputs["segmentation"].name, feed)
    assert_same(answer, exported.loaded.decompose(IMAGES))


def test_graph_has_ops_of_tensorflow_only(exported):
    export.check_portable(exported.folder)
    content = (exported.folder / "saved_model.pb").read_bytes()
    graph = export.saved_model_pb2.SavedModel.FromString(content).meta_graphs[0].graph_def
    functions = {function.signature.name for function in graph.library.function}
    ops = {node.op for node in graph.node}
    for function in graph.library.function:
        ops |= {node.op for node in function.node_def}
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


@pytest.fixture(scope="module")
def served_attention(export_case):
    """The `Served` form of the attention model; tracing takes a second."""
    case = next(case for case in conformance.MODELS if case.model == "slot_attention")
    return export.signatures.serve(export_case(case).model)


@pytest.fixture
def export_copies(exported_attention, served_attention, tmp_path, monkeypatch):
    """Returns a function that exports the attention model, without tracing and saving it again.

    `export_copies.directory` is the model's folder, `export_copies.paths` are the folders saved to.
    """
    directory = tmp_path / "deep" / "model"

    def copy(root, path, signatures):
        run.paths.append(path)
        _copy(exported_attention.folder, path)

    def run(**options):
        return export.export_model(exported_attention.model, directory, **options)

    run.paths = []
    run.directory = directory
    monkeypatch.setattr(export.signatures, "serve", lambda model, num_steps: served_attention)
    monkeypatch.setattr(export.tf.saved_model, "save", copy)
    return run


def test_versions_are_numbered_and_never_overwritten_unasked(export_copies):
    assert export_copies().name == "1"
    assert export_copies().name == "2"
    assert export_copies(version=7).name == "7"
    assert zoo.versions(export_copies.directory) == [1, 2, 7]
    assert export_copies().name == "8"
    with pytest.raises(UserError, match=r"`.*/model/7` exists. Choose another version"):
        export_copies(version=7)

    message = "`version` must be a positive integer of at most 2..63 - 1. Received: version=0"
    with pytest.raises(UserError, match=message):
        export_copies(version=0)
    names = sorted(child.name for child in export_copies.directory.iterdir())
    assert names == ["1", "2", "7", "8", "README.md"]


def test_overwriting_replaces_the_whole_version(export_copies):
    folder = export_copies(version=7)
    (folder / "old").touch()
    export_copies(version=7, overwrite=True)
    assert not (folder / "old").exists()
    assert (folder / "saved_model.pb").exists()


def test_versions_are_written_aside_with_the_mode_of_their_directory(export_copies):
    folder = export_copies()
    assert [os.path.basename(path)[:12] for path in export_copies.paths] == [".incomplete_"]
    assert folder.stat().st_mode & 0o777 == export_copies.directory.stat().st_mode & 0o777


def test_default_number_of_steps_may_differ_from_training(exported_iodine, tmp_path):
    folder = export.export_model(exported_iodine.model, tmp_path / "iodine", num_steps=4)
    images = IMAGES[:1]
    expected = exported_iodine.loaded.encode(images, num_steps=4)["slots"]
    loaded = tf.saved_model.load(str(folder))
    np.testing.assert_allclose(loaded.encode(images)["slots"], expected, atol=1e-5)
    served = loaded.signatures["encode"](image=tf.constant(images))
    np.testing.assert_allclose(served["slots"], expected, atol=1e-5)
    assert zoo.read_metadata(folder)["num_steps"] == 4


def test_a_default_number_of_steps_out_of_range_is_refused(exported_iodine, tmp_path):
    message = "`num_steps` must be in 1 ... 100 for this model. Received: num_steps=0"
    with pytest.raises(UserError, match=message):
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


def test_metadata_describe_the_model(exported):
    metadata = exported.decomposer.metadata
    config = exported.model.config
    assert metadata["image_size"] == list(config.image_size)
    assert metadata["num_slots"] == config.num_slots
    assert metadata["parameters"] == exported.model.count_trainable()


def test_metadata_describe_the_signatures(exported):
    signatures = exported.decomposer.metadata["signatures"]
    assert signatures["decompose"]["inputs"] == {
        "image": {"dtype": "uint8", "shape": [None, None, None, 3]},
        **{name: {"dtype": "int32", "shape": []} for name in ("num_slots", "num_steps", "seed")},
    }
    height, width = exported.model.config.image_size
    masks = signatures["decode"]["outputs"]["masks"]
    assert masks["shape"] == [None, None, height, width, 1]
    assert ("sample" in signatures) == exported.decomposer.metadata["has_prior"]


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


def test_card_tells_training_scores_and_signatures(exported_iodine):
    metadata = exported_iodine.decomposer.metadata
    text = card.render({**metadata, "experiment": EXPERIMENT, "evaluation": EVALUATION})
    for line in (
        "Takes an image apart into its objects without labels.",
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
    """The example for TensorFlow as it is printed, from the folder that it is written for."""
    text = (exported_iodine.folder.parent / "README.md").read_text()
    code = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0]
    monkeypatch.chdir(exported_iodine.folder.parent.parent)
    names = {"images": IMAGES}
    exec(code, names)
    assert names["scene"]["recon"].shape[0] == 1


AWKWARD_NAMES = ["a`b``` *c* _d_ |e|", "$(touch x) 'y\" \\\\z", "a:b c", "<b>&amp; [x](y) #1!"]


@pytest.mark.parametrize("name", AWKWARD_NAMES)
def test_names_are_literal_in_every_language_of_a_card(exported_iodine, name):
    experiment = {**EXPERIMENT, "data": {"protocol": name}}
    evaluation = {**EVALUATION, "protocol": name}
    metadata = {**exported_iodine.decomposer.metadata, "name": name}
    text = card.render({**metadata, "experiment": experiment, "evaluation": evaluation})

    # Markdown: every special character of the title has a backslash.
    title = text.splitlines()[0]
    assert re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", title) == f"# {name}, version 1"
    assert not re.search(r"(?<!\\)[`*|<\[$&]", title.replace("\\\\", ""))
    rows = [line for line in text.splitlines() if line.startswith("| trained")]
    assert len(re.findall(r"(?<!\\)\|", rows[0])) == 3

    # Python: the path and the address are strings, and the blocks end where they should.
    fence = re.search(r"(`+)python\n", text)[1]
    python = re.findall(rf"^{fence}python\n(.*?)\n{fence}$", text, re.DOTALL | re.MULTILINE)
    constants = [
        node.value
        for block in python
        for node in ast.walk(ast.parse(block))
        if isinstance(node, ast.Constant)
    ]
    assert f"{name}/1" in constants
    quoted = urllib.parse.quote(name, safe="")
    assert f"http://localhost:8501/v1/models/{quoted}:predict" in constants

    # The shell: one command, whose words hold the name as it is.
    command = re.search(rf"^{fence}\n(docker .*?)\n{fence}$", text, re.DOTALL | re.MULTILINE)[1]
    words = shlex.split(command)
    assert f"MODEL_NAME={name}" in words
    assert any(word.endswith(f"/models/{name}") and f"$PWD/{name}" in word for word in words)
    assert words[-1] == "tensorflow/serving"


def test_card_tells_the_limits(exported_iodine, exported_clips):
    text = (exported_iodine.folder.parent / "README.md").read_text()
    assert "slots x pixels of one request: at most 134,217,728" in text
    assert "1,920 (16 x 10 x 12)" in text
    assert exported_iodine.decomposer.metadata["limits"]["slot_pixels"] == [1, 2**27]
    text = (exported_clips.folder.parent / "README.md").read_text()
    assert "`state_frame`: 0 ... 2097151" in text


def test_more_slots_than_a_segmentation_has_numbers_are_refused(tmp_path):
    case = next(case for case in conformance.MODELS if case.model == "slot_attention")
    model = conformance.build(case, num_slots=257)
    message = "`model.num_slots` must be at most 256 to be exported. Received: 257."
    with pytest.raises(UserError, match=message):
        export.export_model(model, tmp_path / "model")


def test_a_version_is_the_same_under_another_name(export_copies):
    (export_copies.directory / "007").mkdir(parents=True)
    with pytest.raises(UserError, match="model/007` exists"):
        export_copies(version=7)
    assert export_copies(version=7, overwrite=True).name == "007"
    assert export_copies().name == "8"
    (export_copies.directory / str(2**63 - 1)).mkdir()
    with pytest.raises(
        UserError, match="`version` must be a positive integer of at most 2..63 - 1"
    ):
        export_copies()


def test_only_a_registered_model_touches_the_files_that_ship(export_copies):
    """The index and the card beside a shipped model stay, byte for byte."""
    directory = export_copies.directory
    index = directory.parent / "index.json"
    directory.mkdir(parents=True)
    index.write_text('{"model": {"folder": "model"}}')
    (directory / "README.md").write_text("the shipped card")
    folder = export_copies(version=2)
    assert (directory / "README.md").read_text() == "the shipped card"
    assert (folder / "README.md").read_text().startswith("# model, version 2")
    assert index.read_text() == '{"model": {"folder": "model"}}'

    export_copies(version=3, register=True)
    assert (directory / "README.md").read_text().startswith("# model, version 3")


def test_a_model_outside_of_a_zoo_cannot_be_registered(exported_iodine):
    with pytest.raises(UserError, match="`--register` must go with a folder beside an index"):
        export.add_to_index(exported_iodine.folder)


def test_index_keeps_other_models_and_describes_the_new_one(exported_iodine, tmp_path):
    models = tmp_path / "saved_models"
    folder = models / "iodine" / "1"
    _copy(exported_iodine.folder, folder)
    (models / "index.json").write_text('{"other": {"folder": "other"}}')
    metadata = exported_iodine.decomposer.metadata
    metadata = {**metadata, "experiment": EXPERIMENT, "evaluation": EVALUATION}
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


def read_varint(content, position):
    """Returns (value, position behind it) of a protobuf integer, which has 7 bits per byte."""
    value = 0
    shift = 0
    while True:
        byte = content[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, position


def wire_fields(content):
    """Splits a protobuf message of length-delimited fields: list of (number, bytes)."""
    fields = []
    position = 0
    while position < len(content):
        tag, position = read_varint(content, position)
        assert tag & 7 == 2
        length, position = read_varint(content, position)
        fields.append((tag >> 3, content[position : position + length]))
        position += length
    return fields


def test_warmup_has_the_field_numbers_of_tensorflow_serving():
    """Those of tensorflow_serving/apis, read without the classes that wrote them."""
    slots = np.ones((1, 2), np.float32)
    content = warmup.encode("tetris", "decode", {"slots": slots})
    ((number, predict_log),) = wire_fields(content)
    assert number == 6  # PredictionLog.predict_log
    ((number, request),) = wire_fields(predict_log)
    assert number == 1  # PredictLog.request
    (first, spec), (second, entry) = wire_fields(request)
    assert (first, second) == (1, 2)  # PredictRequest.model_spec, inputs
    assert wire_fields(spec) == [(1, b"tetris"), (3, b"decode")]  # ModelSpec.name, signature_name

    (key, name), (value, tensor) = wire_fields(entry)
    assert (key, name, value) == (1, b"slots", 2)
    tensor = warmup.tensor_pb2.TensorProto.FromString(tensor)
    np.testing.assert_array_equal(tf.make_ndarray(tensor), slots)


def test_warmup_requests_cover_and_fit_all_signatures(exported):
    requests = warmup.read(exported.folder / "assets.extra" / "tf_serving_warmup_requests")
    assert [name for _, name, _ in requests] == list(exported.decomposer.metadata["signatures"])
    for model_name, name, inputs in requests:
        assert model_name == exported.folder.parent.name
        tensors = {key: tf.constant(value) for key, value in inputs.items()}
        exported.loaded.signatures[name](**tensors)


def _copy(source, target):
    shutil.copytree(source, target, dirs_exist_ok=True)
