"""Where a run computes: the `tf.distribute` strategies behind the names of `--strategy`."""

import contextlib
import os
import socket
import weakref

import tensorflow as tf
from tensorflow.python.eager import context

from tfobj.errors import UserError, first_line
from tfobj.training import cluster, precision
from tfobj.training.meeting import PATIENCE, connect_workers
from tfobj.training.peers import SingleWorker
from tfobj.training.strategy_names import check_name

_TPU_NEEDS = "a Cloud TPU VM with tensorflow-tpu 2.20.0 and libtpu <= 0.0.31"
_TPU_PATIENCE = 10.0
"""Seconds to try an address before TensorFlow does, which tries for minutes."""
_peers = weakref.WeakKeyDictionary()


def make_strategy(name, patience=PATIENCE):
    """Returns the `tf.distribute.Strategy` called `name`.

    - auto: the workers of TF_CONFIG if it names several; otherwise all GPUs if there are several,
      the GPU if there is one, or the CPU.
    - cpu, gpu: one device.
    - mirrored: all GPUs, or all logical CPU devices where there is no GPU (for tests).
    - multiworker: all GPUs, or the CPU, of every worker in TF_CONFIG; must be made before
      TensorFlow runs its first operation.
    - tpu: the TPU of $TPU_NAME, or of this machine if it is not set.

    All but auto and multiworker ignore TF_CONFIG.

    Args:
      name: one of `strategy_names.STRATEGIES`.
      patience: seconds to wait for the other workers.

    Raises:
      UserError: what was looked for, and which strategies would work here.
    """
    check_name(name)
    if _is_multiworker(name):
        return _multiworker_strategy(patience)

    gpus = tf.config.list_logical_devices("GPU")
    if name == "tpu":
        return _tpu_strategy()
    if name == "auto":
        name = {0: "cpu", 1: "gpu"}.get(len(gpus), "mirrored")
    if name == "cpu":
        return tf.distribute.OneDeviceStrategy("/cpu:0")
    if name == "gpu":
        if not gpus:
            raise _missing("gpu", "a GPU that TensorFlow can see")
        return tf.distribute.OneDeviceStrategy("/gpu:0")

    devices = gpus or tf.config.list_logical_devices("CPU")
    if len(devices) < 2:
        raise _missing("mirrored", "two or more GPUs")
    return tf.distribute.MirroredStrategy([d.name for d in devices])


def _is_multiworker(name):
    return name == "multiworker" or (name == "auto" and cluster.is_configured())


def peers_of(strategy):
    """Returns the `Peers` of a strategy of several workers, `SingleWorker` of any other."""
    return _peers.get(strategy) or SingleWorker()


@contextlib.contextmanager
def explained_errors(peers):
    """Raises the `UserError` of a lost worker in place of the error that it caused here."""
    try:
        yield
    except tf.errors.OpError as e:
        # A sum that failed may be the end of another worker.
        mistake = peers.explain(e)
        if mistake is None:
            raise
        raise mistake from e


def refuse_multiworker(name, command):
    """Raises a `UserError` if `name` would be several workers.

    Args:
      name: one of `strategy_names.STRATEGIES`.
      command: the program, which works in one process.
    """
    if _is_multiworker(name):
        cause = f" with {cluster.VARIABLE} set" if name == "auto" else ""
        raise UserError(
            f"`{command}` runs in one process; it cannot use several workers. "
            f"Received: --strategy={name}{cause}. "
            f"Strategies that work here: {', '.join(_working())}."
        )


def check_batch_size(strategy, batch_size, micro_batches=1):
    """Checks that the global batch can be shared.

    Raises:
      UserError: unless it can be divided among the replicas, and the share of each into
        micro-batches.
    """
    replicas = strategy.num_replicas_in_sync
    workers = peers_of(strategy).size

    if batch_size % (replicas * micro_batches):
        unit = f"the {replicas} replica{'s' * (replicas > 1)}"
        if workers > 1:
            unit += f" ({workers} workers with {replicas // workers} each)"
        if micro_batches > 1:
            unit += f", times `train.micro_batches`={micro_batches}"
        raise UserError(f"`train.batch_size` must be a multiple of {unit}. Received: {batch_size}.")


def distribute(strategy, dataset):
    """Returns endless global batches, dicts of tensors [B, ...], as a dataset for the strategy.

    Replica r of R gets rows r * B / R ... (r + 1) * B / R - 1, in workers one after the other;
    `TrainStep` counts on it for the noise.
    """
    # A strategy would copy all scenes into a graph, and hand batches on through threads.
    if isinstance(strategy, tf.distribute.OneDeviceStrategy) and _is_cpu(strategy):
        return dataset
    # Several workers give up static shapes of data that may end, in case its last batch is smaller.
    return strategy.experimental_distribute_dataset(
        dataset.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
    )


def _is_cpu(strategy):
    (device,) = strategy.extended.worker_devices
    return device.split(":")[-2] == "CPU"


def uses_xla(strategy, compile_option):
    """Whether forward and backward are compiled by XLA under `TrainConfig.compile`."""
    if compile_option != "auto":
        return compile_option == "xla"
    return any(
        device.split(":")[-2] in ("GPU", "TPU") for device in strategy.extended.worker_devices
    )


def advice(strategy, train_precision):
    """Returns lines for the user about what a strategy does otherwise than one might expect.

    Args:
      strategy: that trains.
      train_precision: "float32" or "bfloat16".
    """
    lines = []
    devices = strategy.extended.worker_devices
    if isinstance(strategy, tf.distribute.TPUStrategy) and train_precision == "float32":
        lines.append(
            "The TPU's native precision is bfloat16: --set train.precision=bfloat16 is faster."
        )
    if train_precision == "bfloat16" and not precision.is_native(devices):
        factor = precision.slowdown(devices[0])
        lines.append(
            "warning: this hardware does not multiply in bfloat16; a convolution takes "
            f"{factor:.1f} times as long as with train.precision=float32."
        )
    if cluster.is_configured() and peers_of(strategy).size == 1:
        lines.append(
            f"{cluster.VARIABLE} is set, but this --strategy does not use it: this process trains "
            "alone."
        )
    return lines


def _multiworker_strategy(patience):
    members = cluster.read_cluster()
    peers = connect_workers(members, patience)
    try:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    except RuntimeError as e:  # For example "Collective ops must be configured at program startup".
        raise RuntimeError(
            "`make_strategy('multiworker')` must come before the first operation of TensorFlow."
        ) from e
    except tf.errors.OpError as e:
        raise UserError(
            f"TensorFlow cannot connect the workers from {members.name(members.index)} "
            f"({first_line(e)})."
        ) from e

    # From now on; before, there is no sum to wait for, and the context must not be made.
    peers.when_lost(_abort_sums)
    _peers[strategy] = peers
    return strategy


def _abort_sums(reason):
    """Frees this process from a sum of gradients that waits for a worker that is gone."""
    context.context().abort_collective_ops(tf.errors.UNAVAILABLE, reason)


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
    # The resolver's own errors range from ValueError to aborted RPCs and explain nothing.
    except Exception as e:
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
        f"`--strategy={name}` needs {what}; {reason}. "
        f"Strategies that work here: {', '.join(_working())}."
    )


def _working():
    gpus = tf.config.list_logical_devices("GPU")
    names = ["auto", "cpu"]
    if gpus:
        names.append("gpu")
    if len(gpus) > 1:
        names.append("mirrored")
    return names
