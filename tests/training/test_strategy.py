"""Names of strategies, and what is said where one cannot be had."""

import pytest
import tensorflow as tf

from tfobj.errors import UserError
from tfobj.training import precision
from tfobj.training import strategy as strategy_module
from tfobj.training.cluster import EXAMPLE
from tfobj.training.peers import SingleWorker
from tfobj.training.strategy import (
    advice,
    check_batch_size,
    distribute,
    make_strategy,
    refuse_multiworker,
    uses_xla,
)
from tfobj.training.strategy_names import STRATEGIES

needs_no_gpu = pytest.mark.skipif("tf.config.list_physical_devices('GPU')", reason="there is a GPU")


@pytest.mark.parametrize("name", ["auto", "cpu"])
def test_auto_and_cpu_work_everywhere(name):
    assert make_strategy(name).num_replicas_in_sync >= 1


def test_cpu_is_one_device_on_the_cpu():
    (device,) = make_strategy("cpu").extended.worker_devices
    assert "CPU:0" in device.upper()


def test_mirrored_uses_logical_cpus_without_gpus():
    assert make_strategy("mirrored").num_replicas_in_sync == 2  # tests/conftest.py makes two


@needs_no_gpu
def test_no_gpu_is_one_line_with_what_works():
    with pytest.raises(UserError) as e:
        make_strategy("gpu")
    assert str(e.value) == (
        "`--strategy=gpu` needs a GPU that TensorFlow can see; there is none. "
        "Strategies that work here: auto, cpu."
    )


def test_one_device_is_too_few_to_mirror(monkeypatch):
    monkeypatch.setattr(
        tf.config, "list_logical_devices", lambda kind: ["one"] if kind == "CPU" else []
    )
    with pytest.raises(
        UserError, match="`--strategy=mirrored` needs two or more GPUs; .* work here: auto, cpu"
    ):
        make_strategy("mirrored")


@pytest.mark.parametrize(
    "name, reason",
    [
        ("", "TensorFlow .* as installed has no TPU kernels|this machine has no TPU"),
        ("grpc://127.0.0.1:1", "nothing answers at TPU_NAME=grpc://127.0.0.1:1"),
        ("grpc://x", "nothing answers at TPU_NAME=grpc://x"),
    ],
)
def test_no_tpu_is_one_line_with_the_reason_and_what_works(monkeypatch, name, reason):
    monkeypatch.setenv("TPU_NAME", name)
    with pytest.raises(
        UserError,
        match=f"`--strategy=tpu` needs a Cloud TPU VM .*; ({reason}).*. "
        "Strategies that work here: auto, cpu",
    ) as e:
        make_strategy("tpu")
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    "error, reason",
    [
        (tf.errors.NotFoundError, "has no TPU kernels"),
        (tf.errors.InternalError, "this machine has no TPU"),
        (OSError, "no TPU called TPU_NAME=mine"),
    ],
)
def test_errors_of_the_resolver_are_put_in_words(monkeypatch, error, reason):
    text = {
        tf.errors.NotFoundError: "No OpKernel was registered to support Op "
        "'ConfigureDistributedTPU'",
        tf.errors.InternalError: "RET_CHECK failure (x.cc:1) *platform",
    }.get(error, "<urlopen error>")

    def resolver(tpu):
        raise error(text) if error is OSError else error(None, None, text)

    monkeypatch.setattr(tf.distribute.cluster_resolver, "TPUClusterResolver", resolver)
    monkeypatch.setenv("TPU_NAME", "mine" if error is OSError else "local")
    with pytest.raises(UserError, match=reason):
        make_strategy("tpu")


def test_several_workers_without_tf_config_is_said_with_an_example(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(
        UserError,
        match=r"`--strategy=multiworker` needs the environment variable TF_CONFIG .* "
        "Example for the first of two: TF_CONFIG=",
    ):
        make_strategy("multiworker")


def test_auto_takes_the_workers_of_tf_config(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", "{")
    with pytest.raises(UserError, match="TF_CONFIG must be JSON"):
        make_strategy("auto")
    assert make_strategy("cpu").num_replicas_in_sync == 1  # takes no notice of it, and says so
    assert advice(make_strategy("cpu"), "float32") == [
        "TF_CONFIG is set, but this --strategy does not use it: this process trains alone."
    ]


def test_commands_of_one_process_refuse_workers(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(
        UserError,
        match="`launch/benchmark.py` runs in one process.* "
        "Received: --strategy=multiworker. .*work here: auto, cpu",
    ):
        refuse_multiworker("multiworker", "launch/benchmark.py")
    refuse_multiworker("auto", "launch/benchmark.py")
    monkeypatch.setenv("TF_CONFIG", EXAMPLE)
    refuse_multiworker("cpu", "launch/benchmark.py")
    with pytest.raises(UserError, match="--strategy=auto with TF_CONFIG set"):
        refuse_multiworker("auto", "launch/benchmark.py")


def test_batch_size_names_workers(monkeypatch):
    class Pair(SingleWorker):
        size = 2

    class Strategy:
        num_replicas_in_sync = 4

    monkeypatch.setattr(strategy_module, "peers_of", lambda strategy: Pair())
    check_batch_size(Strategy, 8)
    with pytest.raises(
        UserError, match=r"a multiple of the 4 replicas \(2 workers with 2 each\). Received: 6"
    ):
        check_batch_size(Strategy, 6)
    check_batch_size(Strategy, 16, micro_batches=4)
    with pytest.raises(UserError, match="times `train.micro_batches`=4. Received: 8"):
        check_batch_size(Strategy, 8, micro_batches=4)


def test_native_precision_of_the_tpu_is_recommended(monkeypatch):
    monkeypatch.setattr(tf.distribute, "TPUStrategy", tf.distribute.OneDeviceStrategy)
    assert "bfloat16" in advice(make_strategy("cpu"), "float32")[0]
    monkeypatch.setattr(precision, "is_native", lambda devices: True)
    assert advice(make_strategy("cpu"), "bfloat16") == []


def test_replicas_get_their_rows_in_order(two_replicas):
    batches = tf.data.Dataset.range(3).map(lambda i: {"image": tf.range(4, dtype=tf.int64) + 4 * i})
    for number, batch in zip(range(3), distribute(two_replicas, batches.repeat()), strict=False):
        rows = [
            part.numpy().tolist()
            for part in two_replicas.experimental_local_results(batch["image"])
        ]
        assert rows == [[4 * number, 4 * number + 1], [4 * number + 2, 4 * number + 3]]


def test_one_processor_reads_the_data_set_itself(two_replicas):
    """A strategy would copy the scenes into the graph of its own data set."""
    dataset = tf.data.Dataset.range(8).batch(2, drop_remainder=True).repeat()
    assert distribute(make_strategy("cpu"), dataset) is dataset
    assert distribute(two_replicas, dataset) is not dataset


def test_unknown_name_gets_the_nearest():
    with pytest.raises(
        UserError,
        match="Unknown strategy 'miror'. Did you mean 'mirrored'. "
        f"Valid: {', '.join(sorted(STRATEGIES))}.",
    ):
        make_strategy("miror")


@pytest.mark.parametrize(
    "option, device, expected",
    [
        ("auto", "/job:localhost/replica:0/task:0/device:CPU:0", False),
        ("auto", "/job:localhost/replica:0/task:0/device:GPU:0", True),
        ("auto", "/job:worker/replica:0/task:0/device:TPU:0", True),
        ("graph", "/device:GPU:0", False),
        ("xla", "/device:CPU:0", True),
    ],
)
def test_xla_follows_the_option_and_the_device(option, device, expected):
    class Extended:
        worker_devices = (device,)

    class Strategy:
        extended = Extended

    assert uses_xla(Strategy, option) is expected


def test_auto_does_not_compile_by_xla_on_the_cpu():
    assert not uses_xla(make_strategy("cpu"), "auto")
    assert not uses_xla(make_strategy("mirrored"), "auto")
