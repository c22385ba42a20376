"""Writes a trained model as a SavedModel that serves with TensorFlow alone.

    <directory>/README.md                     model card of the newest version
    <directory>/<version>/saved_model.pb, variables/, fingerprint.pb
    <directory>/<version>/metadata.json       description for `zoo.load` and tools
    <directory>/<version>/assets.extra/tf_serving_warmup_requests

The layout is that of TensorFlow Serving: versions are numbers, and the greatest is served. A
version folder appears in one piece, so a server that watches the directory never loads half a
model.
"""

import json
import os
import pathlib

import keras
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

import tfobj
from tfobj import files
from tfobj.errors import UserError
from tfobj.serving import card, clip_signatures, signatures, warmup, zoo

CARD = "README.md"

_FORBIDDEN_OPS = {"PyFunc", "PyFuncStateless", "EagerPyFunc", "XlaLaunch", "XlaLaunchV2"}


def export_model(
    model,
    directory,
    *,
    name=None,
    version=None,
    num_steps=None,
    experiment=None,
    evaluation=None,
    overwrite=False,
    register=False,
):
    """Exports a `SceneModel`.

    Args:
      model: the model with its weights.
      directory: parent of the version folders; created if it does not exist.
      name: name for servers and the model index; None uses the directory's name.
      version: positive int64; None uses one more than the greatest version in the directory.
      num_steps: default number of inference steps; None uses the number of training.
      experiment: optional `ExperimentConfig`, or its `to_dict()`, for the card and the metadata.
      evaluation: optional dict, the content of a run's `evaluation.json` for these weights.
      overwrite: whether `version` is replaced if it exists.
      register: whether the card may replace that of a model in the index of its zoo; the entry
        itself is up to `add_to_index`.

    Returns:
      pathlib.Path of the version folder.

    Raises:
      UserError: the version exists, `num_steps` is out of the model's range, or the directory
        cannot be written.
      ValueError: the model's graph would not run in a server.
    """
    directory = pathlib.Path(directory)
    name = name or directory.resolve().name
    found = zoo.version_folders(directory)
    if version is None:
        version = max(found, default=0) + 1
    is_integer = isinstance(version, int) and not isinstance(version, bool)
    if not is_integer or not 1 <= version <= zoo.MAX_VERSION:
        raise UserError(
            f"`version` must be a positive integer of at most 2**63 - 1. "
            f"Received: version={version!r}."
        )
    # A version may be there under another name, such as 007.
    folder = found.get(version, directory / str(version))
    if folder.exists() and not overwrite:
        raise UserError(
            f"`{folder}` exists. Choose another version (by default the next free one), "
            "or allow to overwrite it."
        )
    least, greatest = signatures.limits(model).num_steps
    if num_steps is not None and not least <= num_steps <= greatest:
        raise UserError(
            f"`num_steps` must be in {least} ... {greatest} for this model. "
            f"Received: num_steps={num_steps}."
        )

    served = serve(model, num_steps)
    metadata = describe(model, served, name, version, experiment, evaluation)
    with files.atomic_folder(folder, replace=True) as partial:
        tf.saved_model.save(served.root, os.fspath(partial), signatures=served.signatures)
        check_portable(partial)
        warmup.write(partial, name, warmup_requests(metadata))
        metadata["files"] = zoo.digests(partial)
        (partial / zoo.METADATA).write_text(json.dumps(metadata, indent=2) + "\n")

    # The card describes the newest version, so it is written once that version is there.
    files.write_text(card_path(folder, register), card.render(metadata))
    return folder


def card_path(folder, register):
    """Returns the path of the card of a version folder.

    It lies beside the version folders, unless a card of a registered model is there: that one
    describes the model that ships.
    """
    directory = folder.parent
    index = zoo.read_index_file(directory.parent / zoo.INDEX) or {}
    is_registered = any(entry["folder"] == directory.name for entry in index.values())
    if is_registered and not register:
        return folder / CARD
    return directory / CARD


def add_to_index(folder):
    """Enters an exported version folder in the index of its zoo, as one of the models that ship.

    Returns:
      Path of the index.

    Raises:
      UserError: the model is in no zoo: there is no index.json beside its folder.
    """
    folder = pathlib.Path(folder).resolve()
    index_path = folder.parent.parent / zoo.INDEX
    index = zoo.read_index_file(index_path)
    if index is None:
        raise UserError(
            f"`--register` must go with a folder beside an index. Missing: {index_path}."
        )

    # Sorted, so that the difference between two versions of the file is one entry.
    name = zoo.read_metadata(folder)["name"]
    index = {**index, name: zoo.index_entry(folder)}
    files.write_text(index_path, json.dumps(dict(sorted(index.items())), indent=2) + "\n")
    return index_path


def check_portable(folder):
    """Checks that a SavedModel runs in servers, which have neither Python nor an XLA compiler.

    Raises:
      ValueError: the graph contains an op that needs one of them.
    """
    path = pathlib.Path(folder, "saved_model.pb")
    content = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    for meta_graph in content.meta_graphs:
        graph = meta_graph.graph_def
        for function in graph.library.function:
            if function.attr["_XlaMustCompile"].b:
                raise ValueError(
                    "The model must not contain functions with jit_compile=True. "
                    f"Received: {function.signature.name}."
                )

        _check_nodes(graph.node)
        for function in graph.library.function:
            _check_nodes(function.node_def)


def _check_nodes(nodes):
    for node in nodes:
        if node.op in _FORBIDDEN_OPS or node.attr["_XlaMustCompile"].b:
            raise ValueError(
                "The model must consist of TensorFlow's portable ops. "
                f"Received: {node.op} ({node.name})."
            )


def warmup_requests(metadata):
    """Returns one request per signature: a list of (name, dict of input -> array).

    Images are black, latents and states are zero, videos have two frames, and one scene is sampled.

    Args:
      metadata: content of `metadata.json`.
    """
    num_slots = metadata["num_slots"]
    image = np.zeros((1, *metadata["image_size"], metadata["channels"]))
    examples = {
        "image": image,
        "video": np.stack([image, image], axis=1),
        "slots": np.zeros((1, num_slots, metadata["slot_size"])),
        "batch": 1,
        "num_slots": num_slots,
        "num_steps": metadata["num_steps"],
        "seed": 0,
        "num": 1,
    }

    requests = []
    for name, signature in metadata["signatures"].items():
        inputs = {}
        for key, spec in signature["inputs"].items():
            if key.startswith("state_"):
                value = _zero_state(spec["shape"], num_slots)
            else:
                value = examples[key]
            inputs[key] = np.asarray(value, spec["dtype"])
        requests.append((name, inputs))
    return requests


def _zero_state(shape, num_slots):
    """Returns zeros of the shape of a state, whose free sides are those of the batch and slots."""
    sides = list(shape)
    for axis, size in enumerate((1, num_slots)[: len(sides)]):
        if sides[axis] is None:
            sides[axis] = size
    return np.zeros(sides)


def serve(model, num_steps=None):
    """Returns the `signatures.Served` form of a `SceneModel`; arguments as in `export_model`."""
    if model.is_video:
        return clip_signatures.serve(model, num_steps)
    return signatures.serve(model, num_steps)


def describe(model, served, name, version=None, experiment=None, evaluation=None):
    """Returns the content of `metadata.json`; arguments as in `export_model`.

    `served` is the model's `signatures.Served` form.
    """
    config = model.config
    if experiment is not None and not isinstance(experiment, dict):
        experiment = experiment.to_dict()

    return {
        "name": name,
        "version": version,
        "model": type(model).__name__,
        "image_size": list(config.image_size),
        "channels": config.channels,
        "num_slots": config.num_slots,
        "slot_parts": {name: list(part) for name, part in model.slot_parts().items()},
        "background_slot": model.background_slot,
        "is_video": model.is_video,
        "num_steps": served.num_steps,
        "slot_size": served.slot_size,
        "has_prior": model.has_prior,
        "limits": {key: list(value) for key, value in signatures.limits(model)._asdict().items()},
        "parameters": model.count_trainable(),
        "signatures": {key: _describe(function) for key, function in served.signatures.items()},
        "software": {
            "tfobj": tfobj.__version__,
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
        },
        "experiment": experiment,
        "evaluation": evaluation,
    }


def _describe(function):
    """Returns the inputs and outputs of a concrete function, name -> dtype and shape."""
    inputs = function.structured_input_signature
    specs = {spec.name: spec for spec in (*inputs[0], *inputs[1].values())}
    return {
        "inputs": {key: _spec(spec) for key, spec in specs.items()},
        "outputs": {key: _spec(spec) for key, spec in sorted(function.structured_outputs.items())},
    }


def _spec(tensor):
    return {"dtype": tensor.dtype.name, "shape": tensor.shape.as_list()}
