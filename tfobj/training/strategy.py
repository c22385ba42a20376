"""Where a run computes: `--strategy` names -> tf.distribute strategies."""

import os
import socket
import weakref

import tensorflow as tf

from tfobj.errors import UserError, first_line, unknown_name
from tfobj.training import cluster, peers

STRATEGIES = ("auto", "cpu", "gpu", "mirrored", "multiworker", "tpu")

_TPU_NEEDS = "a Cloud TPU VM with tensorflow-tpu 2.20.0 and libtpu <= 0.0.31"
_TPU_PATIENCE = 10.0
"""Seconds to try an address before TensorFlow does, which tries for minutes."""
_peers = weakref.WeakKeyDictionary()


def make_strategy(name, patience=peers.PATIENCE):
    """Returns the `tf.distribute.Strategy` called `name`.

    auto: the workers of TF_CONFIG if it names several; else all GPUs if there are several, the GPU if there is one,
    else the CPU. mirrored: all GPUs, or all logical CPU devices where there is no GPU (for tests). multiworker:
    all GPUs, or the CPU, of every worker in TF_CONFIG; must be made before TensorFlow runs its first operation.
    tpu: the TPU of $TPU_NAME, else of this machine. The others take no notice of TF_CONFIG.

    Args:
      name: one of `STRATEGIES`.
      patience: seconds to wait for the other workers.

    Raises:
      UserError: what was looked for, and which strategies would work here.
    """
    if name not in STRATEGIES:
        raise unknown_name("strategy", name, STRATEGIES)
    if name == "multiworker" or name == "auto" and cluster.is_configured():
        return _multiworker_strategy(patience)
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


def peers_of(strategy):
    """Returns the `Peers` of a strategy of several workers, `Alone` of any other."""
    return _peers.get(strategy) or peers.Alone()


def refuse_multiworker(name, command):
    """Raises a `UserError` if `name` would be several workers, for a `command` that is the work of one process."""
    if name == "multiworker" or name == "auto" and cluster.is_configured():
        raise UserError(
            f"`{command}` runs in one process; it cannot use several workers. Received: --strategy={name}"
            f"{f' with {cluster.VARIABLE} set' if name == 'auto' else ''}. Strategies that work here: {', '.join(_working())}."
        )


def check_batch_size(strategy, batch_size, micro_batches=1):
    """Raises a `UserError` unless the global batch can be divided among the replicas, and the share of each into micro-batches."""
    replicas, workers = strategy.num_replicas_in_sync, peers_of(strategy).size
    if batch_size % (replicas * micro_batches):
        where = f" ({workers} workers with {replicas // workers} each)" if workers > 1 else ""
        parts = f", times `train.micro_batches`={micro_batches}" if micro_batches > 1 else ""
        raise UserError(
            f"`train.batch_size` must be a multiple of the {replicas} replica{'s' if replicas > 1 else ''}{where}{parts}. Received: {batch_size}."
        )


def distribute(strategy, dataset):
    """Returns endless global batches, dicts of tensors [B, ...], as a distributed dataset.

    Replica r of R gets rows r * B / R ... (r + 1) * B / R - 1, in workers one after the other: `TrainStep` counts on it for the noise.
    """
    # Several workers give up static shapes of data that may end, in case its last batch is smaller.
    return strategy.experimental_distribute_dataset(
        dataset.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
    )


def uses_xla(strategy, compile_option):
    """Whether forward and backward are compiled by XLA under `TrainConfig.compile`."""
    if compile_option != "auto":
        return compile_option == "xla"
    return any(
        device.split(":")[-2] in ("GPU", "TPU") for device in strategy.extended.worker_devices
    )


def advice(strategy, precision):
    """Returns lines for the user: what a strategy does otherwise than one might think."""
    lines = []
    if isinstance(strategy, tf.distribute.TPUStrategy) and precision == "float32":
        lines.append(
            "The TPU's native precision is bfloat16: --set train.precision=bfloat16 is faster."
        )
    if cluster.is_configured() and peers_of(strategy).size == 1:
        lines.append(
            f"{cluster.VARIABLE} is set, but this --strategy does not use it: this process trains alone."
        )
    return lines


def _multiworker_strategy(patience):
    members = cluster.read_cluster()
    line = peers.meet(members, patience)
    try:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    except RuntimeError as e:  # e.g. "Collective ops must be configured at program startup"
        raise RuntimeError(
            "`make_strategy('multiworker')` must come before the first operation of TensorFlow."
        ) from e
    except tf.errors.OpError as e:
        raise UserError(
            f"TensorFlow cannot connect the workers from {members.name(members.index)} ({first_line(e)})."
        ) from e
    _peers[strategy] = line
    return strategy


def _tpu_strategy():
    name = os.environ.get("TPU_NAME") or "local"
    try:
        if name.startswith("grpc://"):
            host, _, port = name.removeprefix("grpc://").rpartition(":")
            socket.create_connection((host, int(port)), timeout=_TPU_PATIENCE).close()
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=name)
        if name != "local":
            tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        return tf.distribute.TPUStrategy(resolver)
    except (
        Exception
    ) as e:  # the resolver's own errors range from ValueError to aborted RPCs and explain nothing
        raise _missing("tpu", _TPU_NEEDS, _tpu_reason(name, e)) from e


def _tpu_reason(name, error):
    """Says in words what an error of `TPUClusterResolver`, or of the connection, means."""
    text = str(error)
    if "ConfigureDistributedTPU" in text:
        return f"TensorFlow {tf.__version__} as installed has no TPU kernels"
    if "RET_CHECK" in text or "TPUs not found" in text:
        return "this machine has no TPU"
    if name.startswith("grpc://") and isinstance(error, OSError | ValueError):
        return f"nothing answers at TPU_NAME={name} ({first_line(error)})"
    if name != "local":
        return f"no TPU called TPU_NAME={name} is known here ({first_line(error)})"
    return f"there is none ({first_line(error)})"


def _missing(name, what, reason="there is none"):
    return UserError(
        f"`--strategy={name}` needs {what}; {reason}. Strategies that work here: {', '.join(_working())}."
    )


def _working():
    gpus = len(tf.config.list_logical_devices("GPU"))
    return ["auto", "cpu"] + (["gpu"] if gpus else []) + (["mirrored"] if gpus > 1 else [])
