"""Where a run computes: `--strategy` names -> tf.distribute strategies."""

import tensorflow as tf

from tfobj.errors import UserError, unknown_name

STRATEGIES = ("auto", "cpu", "gpu", "mirrored", "tpu")


def make_strategy(name):
    """Returns the `tf.distribute.Strategy` called `name`.

    auto: all GPUs if there are several, the GPU if there is one, else the CPU. mirrored: all GPUs, or all
    logical CPU devices where there is no GPU (for tests).

    Raises:
      UserError: what was looked for, and which strategies would work here.
    """
    if name not in STRATEGIES:
        raise unknown_name("strategy", name, STRATEGIES)
    gpus, cpus = tf.config.list_logical_devices("GPU"), tf.config.list_logical_devices("CPU")
    if name == "auto":
        name = "mirrored" if len(gpus) > 1 else "gpu" if gpus else "cpu"
    if name == "cpu":
        return tf.distribute.OneDeviceStrategy("/cpu:0")
    if name == "gpu":
        if not gpus:
            raise _missing("gpu", "a GPU that TensorFlow can see")
        return tf.distribute.OneDeviceStrategy("/gpu:0")
    if name == "mirrored":
        devices = gpus or cpus
        if len(devices) < 2:
            raise _missing("mirrored", "two or more GPUs")
        return tf.distribute.MirroredStrategy([d.name for d in devices])
    return _tpu_strategy()


def check_batch_size(strategy, batch_size):
    """Raises a `UserError` unless the global batch can be divided among the replicas."""
    if batch_size % strategy.num_replicas_in_sync:
        raise UserError(f"`train.batch_size` must be a multiple of the {strategy.num_replicas_in_sync} replicas. Received: {batch_size}.")


def uses_xla(strategy, compile_option):
    """Whether forward and backward are compiled by XLA under `TrainConfig.compile`."""
    if compile_option != "auto":
        return compile_option == "xla"
    return any(device.split(":")[-2] in ("GPU", "TPU") for device in strategy.extended.worker_devices)


def _tpu_strategy():
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu="local")
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        return tf.distribute.TPUStrategy(resolver)
    except Exception as e:  # the resolver's own errors range from ValueError to aborted RPCs and explain nothing
        raise _missing("tpu", "a Cloud TPU VM with tensorflow-tpu 2.20.0 and libtpu <= 0.0.31") from e


def _missing(name, what):
    gpus = len(tf.config.list_logical_devices("GPU"))
    working = ["auto", "cpu"] + (["gpu"] if gpus else []) + (["mirrored"] if gpus > 1 else [])
    return UserError(f"`--strategy={name}` needs {what}; there is none. Strategies that work here: {', '.join(working)}.")
