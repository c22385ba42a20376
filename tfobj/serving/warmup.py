"""Requests that TensorFlow Serving replays before it takes traffic.

The first request of every signature pays for lazy initialisation, which can take seconds. The file
is a TFRecord of `tensorflow.serving.PredictionLog` messages. Their definitions come with the
package tensorflow-serving-api, which nothing else here needs, so the few fields in use are declared
below.
"""

import functools
import pathlib

import tensorflow as tf
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from tensorflow.core.framework import tensor_pb2

FILE = pathlib.PurePath("assets.extra", "tf_serving_warmup_requests")
"""Path within a version folder, fixed by TensorFlow Serving."""

_PACKAGE = "tensorflow.serving"
_FIELD = descriptor_pb2.FieldDescriptorProto

_MESSAGES = {
    "ModelSpec": {"name": (1, "string"), "signature_name": (3, "string")},
    "PredictRequest": {
        "model_spec": (1, f".{_PACKAGE}.ModelSpec"),
        "inputs": (2, f".{_PACKAGE}.PredictRequest.InputsEntry"),
    },
    "PredictLog": {"request": (1, f".{_PACKAGE}.PredictRequest")},
    "PredictionLog": {"predict_log": (6, f".{_PACKAGE}.PredictLog")},
}
"""Message -> field -> (number, type).

This is the subset in use of tensorflow_serving/apis/{model,predict,prediction_log}.proto. `inputs`
is a map<string, TensorProto>, which protobuf stores as repeated InputsEntry {key = 1, value = 2}.
"""


def write(folder, model_name, requests):
    """Writes the warm-up file of a version folder.

    Args:
      folder: version folder of a SavedModel.
      model_name: name of the model in the server.
      requests: list of (signature name, dict of input name -> array or tensor), with the dtypes of
        the signature.

    Returns:
      Path of the file.
    """
    path = pathlib.Path(folder, FILE)
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, inputs in requests:
            writer.write(encode(model_name, signature, inputs))
    return path


def encode(model_name, signature, inputs):
    """Returns one serialised `PredictionLog`; arguments as in `write`."""
    log = prediction_log_class()()
    request = log.predict_log.request
    request.model_spec.name = model_name
    request.model_spec.signature_name = signature
    for name, value in inputs.items():
        # The pool below has a TensorProto class of its own, which shares only the wire format with
        # TensorFlow's.
        tensor = tf.make_tensor_proto(value)
        request.inputs[name].ParseFromString(tensor.SerializeToString())
    return log.SerializeToString(deterministic=True)


def read(path):
    """Reads a warm-up file.

    Returns:
      A list of (model name, signature name, dict of input name -> array).
    """
    entries = []
    for record in tf.data.TFRecordDataset(str(path)):
        request = prediction_log_class().FromString(record.numpy()).predict_log.request
        inputs = {}
        for name, value in request.inputs.items():
            tensor = tensor_pb2.TensorProto.FromString(value.SerializeToString())
            inputs[name] = tf.make_ndarray(tensor)
        entries.append((request.model_spec.name, request.model_spec.signature_name, inputs))
    return entries


@functools.cache
def prediction_log_class():
    """Returns the message class `tensorflow.serving.PredictionLog`.

    It lives in a pool of its own: the default pool refuses a second definition where
    tensorflow-serving-api is installed.
    """
    pool = descriptor_pool.DescriptorPool()
    _copy_with_imports(pool, tensor_pb2.DESCRIPTOR, set())
    pool.Add(_file())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.PredictionLog"))


def _file():
    """Returns the `FileDescriptorProto` of `_MESSAGES`."""
    file = descriptor_pb2.FileDescriptorProto(
        name="tfobj/prediction_log_subset.proto",
        package=_PACKAGE,
        syntax="proto3",
        dependency=[tensor_pb2.DESCRIPTOR.name],
    )

    for message_name, fields in _MESSAGES.items():
        message = file.message_type.add(name=message_name)
        for name, (number, kind) in fields.items():
            field = message.field.add(name=name, number=number, label=_FIELD.LABEL_OPTIONAL)

            if kind == "string":
                field.type = _FIELD.TYPE_STRING
            else:
                field.type = _FIELD.TYPE_MESSAGE
                field.type_name = kind

            # On the wire, a map is a list of entries.
            if kind.endswith("Entry"):
                field.label = _FIELD.LABEL_REPEATED
                _add_map_entry(message)
    return file


def _add_map_entry(message):
    """Declares the entry of a map<string, TensorProto> within a message."""
    entry = message.nested_type.add(name="InputsEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, label=_FIELD.LABEL_OPTIONAL, type=_FIELD.TYPE_STRING)
    entry.field.add(
        name="value",
        number=2,
        label=_FIELD.LABEL_OPTIONAL,
        type=_FIELD.TYPE_MESSAGE,
        type_name=".tensorflow.TensorProto",
    )


def _copy_with_imports(pool, descriptor, done):
    """Adds a `.proto` file of the default pool to `pool`, after the files that it imports."""
    if descriptor.name in done:
        return
    done.add(descriptor.name)
    for imported in descriptor.dependencies:
        _copy_with_imports(pool, imported, done)
    pool.AddSerializedFile(descriptor.serialized_pb)
