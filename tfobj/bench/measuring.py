"""One row of a benchmark in its own process, and what the machine can do (see `benchmark`)."""

import pathlib
import resource
import sys
import time

import numpy as np
import tensorflow as tf

from tfobj.bench.flops import count_flops
from tfobj.data import folder, protocols
from tfobj.data.packed import SceneArrays
from tfobj.training import machine
from tfobj.training.evaluation import Evaluator
from tfobj.training.experiment import build_model, first_batches, open_scenes
from tfobj.training.optimizer import make_optimizer
from tfobj.training.step import make_train_step
from tfobj.training.strategy import distribute, make_strategy, uses_xla

MATMUL_SIZE = 2048
CONVOLUTIONS = ((32, 35, 32, 5), (28, 64, 32, 5), (14, 128, 64, 3))
"""(images, height = width, channels in and out, kernel).

These are the layers in which the models spend their time.
"""


class Measurement:
    """A job for `processes.Child`: makes everything that a row needs, then measures block by block.

    Args:
      experiment: `ExperimentConfig`.
      what: one of `benchmark.MEASUREMENTS`.
      strategy: one of `strategy_names.STRATEGIES`.
      data_dir: TFDS folder.
      seconds: length of a block.

    Attributes:
      facts: `gflop` of one step; None if they cannot be counted, or there are none.
    """

    def __init__(self, experiment, what, strategy, data_dir, seconds):
        self.strategy = make_strategy(strategy)
        self.start_memory_mb = _peak_memory_mb(self.strategy)
        self.device = _device(self.strategy)
        prepare = {"train": self._train, "inference": self._inference, "data": self._data}[what]
        stream = first_batches(experiment, _scenes(experiment, data_dir))
        self.steps, flops = prepare(experiment, stream)
        self.facts = {"gflop": flops and flops / 1e9}
        self.count = self._steps_in(seconds)

    def __call__(self):
        """Returns the numbers of one block, and the rate of a matrix product just before it."""
        matmul = _gflops(2 * MATMUL_SIZE**3, _matmul(self.device), 2)
        return {
            "matmul_gflops": matmul,
            "ms": 1000.0 * _seconds(self.steps, self.count) / self.count,
            "peak_memory_mb": _peak_memory_mb(self.strategy),
            "start_memory_mb": self.start_memory_mb,
        }

    def _steps_in(self, seconds):
        """Returns how many steps fill a block; the steps that find it out are the warm-up."""
        self.steps(1)
        count = 1
        taken = _seconds(self.steps, 1)
        while taken < seconds / 10:
            count *= 4
            taken = _seconds(self.steps, count)
        return max(1, round(count * seconds / taken))

    # Each of the following returns (a function that makes `count` steps, operations of a step).

    def _train(self, experiment, stream):
        config = experiment.train
        strategy = self.strategy
        with strategy.scope():
            model = build_model(experiment)
            optimizer = make_optimizer(config)
        step = make_train_step(strategy, model, optimizer, experiment)
        iterator = iter(distribute(strategy, stream.dataset()))
        return lambda count: step.run(iterator, count), count_flops(step.trace(iterator))

    def _inference(self, experiment, stream):
        with self.strategy.scope():
            model = build_model(experiment)
        evaluator = Evaluator(
            model,
            experiment.train.batch_size,
            xla=uses_xla(self.strategy, experiment.train.compile),
        )
        with tf.device(self.device):
            image = tf.constant(next(iter(stream.dataset()))["image"])

        def steps(count):
            with tf.device(self.device):
                for _ in range(count):
                    outputs = evaluator.forward(image)

                # One pixel waits for the last call, which waits for those before.
                outputs.masks[:1, :1, :1, :1].numpy()

        return steps, count_flops(evaluator.trace(image))

    def _data(self, experiment, stream):
        iterator = iter(stream.dataset())

        def steps(count):
            for _ in range(count):
                next(iterator)

        return steps, None


class Calibration:
    """A job that measures what the machine can do.

    It runs convolutions of typical shapes, forward and backward. It builds the scenes first, so
    that the rows find them.

    Attributes:
      facts: `hardware` and `software`.
    """

    def __init__(self, precisions, experiments, strategy, data_dir):
        for experiment in experiments:
            _scenes(experiment, data_dir)
        device = _device(make_strategy(strategy))
        self.kernels = {
            precision: {shape: _convolution(shape, precision, device) for shape in CONVOLUTIONS}
            for precision in precisions
        }
        facts = machine.describe()
        self.facts = {name: facts[name] for name in ("hardware", "software")}

    def __call__(self):
        """Returns precision -> shape -> GFLOP/s."""
        return {
            precision: {
                f"{n}x{size}x{size}x{channels}, {k}x{k}": _gflops(
                    6 * n * size**2 * channels**2 * k**2, kernel, 2
                )
                for (n, size, channels, k), kernel in kernels.items()
            }
            for precision, kernels in self.kernels.items()
        }


def _scenes(experiment, data_dir):
    """Returns the training scenes, built if need be.

    A dataset that has presets but no scenes is replaced by noise.
    """
    name = experiment.data.protocol
    if name in protocols.PROTOCOLS or name.startswith(folder.PREFIX):
        return open_scenes(experiment, "train", data_dir)[0]
    shape = (experiment.data.num_train, *experiment.model.image_size, experiment.model.channels)
    return SceneArrays(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))


def _device(strategy):
    return strategy.extended.worker_devices[0]


def _matmul(device):
    with tf.device(device):
        a = tf.random.stateless_normal([MATMUL_SIZE, MATMUL_SIZE], seed=[0, 1])
    product = tf.function(lambda: tf.matmul(a, a)[:1, :1], autograph=False)
    return lambda: product().numpy()


def _convolution(shape, precision, device):
    """Returns a function that makes one convolution and both of its gradients."""
    images, size, channels, kernel = shape
    x_shape = [images, size, size, channels]
    weights_shape = [kernel, kernel, channels, channels]
    with tf.device(device):
        x = tf.cast(tf.random.stateless_normal(x_shape, seed=[0, 1]), precision)
        weights = tf.cast(tf.random.stateless_normal(weights_shape, seed=[0, 2]), precision)

    @tf.function(autograph=False)
    def pass_both_ways():
        with tf.GradientTape() as tape:
            tape.watch([x, weights])
            y = tf.nn.conv2d(x, weights, 1, "SAME")
        dx, dw = tape.gradient(y, [x, weights], output_gradients=y)
        return dx[:1, :1, :1, :1], dw[:1, :1, :1, :1]

    return lambda: [gradient.numpy() for gradient in pass_both_ways()]


def _gflops(operations, function, repeats):
    """Returns the best rate of a function that has run once."""
    function()
    return operations / min(_seconds(lambda _: function(), 1) for _ in range(repeats)) / 1e9


def _seconds(steps, count):
    start = time.perf_counter()
    steps(count)
    return time.perf_counter() - start


def _peak_memory_mb(strategy):
    """Returns the peak of the fullest GPU, or of this process, in units of 2**20 bytes.

    A process that has loaded TensorFlow 2.21 as a command does has some 560.
    """
    gpus = [
        device.rpartition("device:")[2]
        for device in strategy.extended.worker_devices
        if "GPU" in device
    ]
    if gpus:
        return max(tf.config.experimental.get_memory_info(gpu)["peak"] for gpu in gpus) / 2**20

    # ru_maxrss, where it must be used, starts at the size of the process that started this one.
    status = pathlib.Path("/proc/self/status")
    if status.exists():
        lines = status.read_text().splitlines()
        peak_kb = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
        return peak_kb / 1024
    unit = 2**20 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
