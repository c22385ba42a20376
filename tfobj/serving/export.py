"""Writes a trained model as a SavedModel that serves with TensorFlow alone.

    <directory>/README.md                     model card
    <directory>/<version>/saved_model.pb, variables/, fingerprint.pb
    <directory>/<version>/metadata.json       what `zoo.load` and tools want to know
    <directory>/<version>/assets.extra/tf_serving_warmup_requests

The layout is that of TensorFlow Serving: versions are numbers, the greatest is served. A version folder
appears in one piece, so a server that watches the directory never loads half a model.
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
):
    """Exports a `SceneModel`.

    Args:
      model: the model with its weights.
      directory: parent of the version folders; made if need be.
      name: what servers and the model index call it; default: the directory's name.
      version: positive integer; default: one more than the greatest version there.
      num_steps: inference steps that the exported model takes by default; default: as trained.
      experiment: optional dict (`ExperimentConfig.to_dict()`), or the config itself, for card and metadata.
      evaluation: optional dict, the content of a run's `evaluation.json`, measured with these weights.
      overwrite: replace `version` if it exists.

    Returns:
      pathlib.Path of the version folder.

    Raises:
      UserError: the version exists, `num_steps` does not suit the model, or the directory cannot be written.
      ValueError: the model's graph would not run in a server.
    """
    directory = pathlib.Path(directory)
    name = name or directory.resolve().name
    if version is None:
        version = max(zoo.versions(directory), default=0) + 1
    if not isinstance(version, int) or version < 1:
        raise UserError(f"`version` must be a positive integer. Received: version={version!r}.")
    folder = directory / str(version)
    if folder.exists() and not overwrite:
        raise UserError(
            f"`{folder}` exists. Choose another version (by default the next free one), or allow to overwrite it."
        )
    least, greatest = signatures.limits(model).num_steps
    if num_steps is not None and not least <= num_steps <= greatest:
        raise UserError(
            f"`num_steps` must be in {least} ... {greatest} for this model. Received: num_steps={num_steps}."
        )
    served = (clip_signatures if model.is_video else signatures).serve(model, num_steps)
    with files.whole_folder(folder, replace=True) as partial:
        tf.saved_model.save(served.root, os.fspath(partial), signatures=served.signatures)
        check_portable(partial)
        metadata = _metadata(model, served, name, version, experiment, evaluation)
        (partial / zoo.METADATA).write_text(json.dumps(metadata, indent=2) + "\n")
        warmup.write(partial, name, warmup_requests(metadata))
    files.write_text(directory / "README.md", card.render(metadata))
    return folder


def add_to_index(folder):
    """Enters an exported version folder in the index of the zoo that its model lies in.

    A zoo is a folder with an `index.json` that has the folders of models beside it; where there is none,
    nothing is done.

    Returns:
      path of the index, or None.
    """
    folder = pathlib.Path(folder).resolve()
    index_path = folder.parent.parent / zoo.INDEX
    if not index_path.exists():
        return None
    metadata = zoo.read_metadata(folder)
    evaluation = metadata["evaluation"] or {}
    entry = {
        "folder": folder.parent.name,
        "version": metadata["version"],
        "model": (metadata["experiment"] or {}).get("model_name", metadata["model"]),
        "protocol": evaluation.get("protocol")
        or (metadata["experiment"] or {}).get("data", {}).get("protocol"),
        "scores": {
            key: evaluation[key] for key in card.HEADLINE_SCORES if evaluation.get(key) is not None
        },
        "bytes": sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()),
    }
    index = {**zoo.read_index(index_path), metadata["name"]: entry}
    files.write_text(index_path, json.dumps(dict(sorted(index.items())), indent=2) + "\n")
    return index_path


def check_portable(folder):
    """Raises `ValueError` if a SavedModel needs Python or an XLA compiler, which servers do not have."""
    content = saved_model_pb2.SavedModel.FromString(
        pathlib.Path(folder, "saved_model.pb").read_bytes()
    )
    for graph in content.meta_graphs:
        for function in graph.graph_def.library.function:
            if function.attr["_XlaMustCompile"].b:
                raise ValueError(
                    f"The model must not contain functions with jit_compile=True. Received: {function.signature.name}."
                )
        for nodes in (
            graph.graph_def.node,
            *(function.node_def for function in graph.graph_def.library.function),
        ):
            for node in nodes:
                if node.op in _FORBIDDEN_OPS or node.attr["_XlaMustCompile"].b:
                    raise ValueError(
                        f"The model must consist of TensorFlow's portable ops. Received: {node.op} ({node.name})."
                    )


def warmup_requests(metadata):
    """Returns one request per signature, (name, dict of input -> array): a black picture, zero latents, one sample; of clips two frames, a state of zeros."""
    examples = {
        "batch": np.int32(1),
        "num_slots": np.int32(metadata["num_slots"]),
        "num_steps": np.int32(metadata["num_steps"]),
        "seed": np.int32(0),
        "num": np.int32(1),
        "slots": np.zeros((1, metadata["num_slots"], metadata["slot_size"]), np.float32),
    }
    shape = (1, *metadata["image_size"], metadata["channels"])
    requests = []
    for name, signature in metadata["signatures"].items():
        inputs = signature["inputs"]
        values = {
            "image": np.zeros(shape, inputs.get("image", {}).get("dtype")),
            "video": np.zeros((1, 2, *shape[1:]), inputs.get("video", {}).get("dtype")),
            **examples,
        }
        for key, spec in inputs.items():
            if key.startswith("state_"):
                free = [1, metadata["num_slots"]]
                values[key] = np.zeros(
                    [free[i] if side is None else side for i, side in enumerate(spec["shape"])],
                    spec["dtype"],
                )
        requests.append((name, {key: values[key] for key in inputs}))
    return requests


def _metadata(model, served, name, version, experiment, evaluation):
    """Returns the content of `metadata.json`."""
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
    """Returns inputs and outputs of a concrete function: name -> dtype and shape (None is free)."""
    inputs = function.structured_input_signature
    specs = {spec.name: spec for spec in (*inputs[0], *inputs[1].values())}
    return {
        "inputs": {key: _spec(spec) for key, spec in specs.items()},
        "outputs": {key: _spec(spec) for key, spec in sorted(function.structured_outputs.items())},
    }


def _spec(tensor):
    return {"dtype": tensor.dtype.name, "shape": tensor.shape.as_list()}
