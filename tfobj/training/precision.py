"""What `train.precision=auto` becomes, and what bfloat16 costs where nothing computes in it.

bfloat16 doubles the speed of convolutions and matrix products where the hardware multiplies in it:
TPUs, NVIDIA GPUs from Ampere on, and processors with AVX-512 BF16 or AMX, through oneDNN. Elsewhere
it is emulated, many times slower than float32.
"""

import os
import pathlib
import time

import tensorflow as tf

AMPERE = (8, 0)
"""Compute capability of the first NVIDIA GPUs that multiply in bfloat16."""
CPU_FLAGS = {"avx512_bf16", "amx_bf16"}
"""Linux' names of the instructions that multiply in bfloat16; one of them is enough."""
CPU_INFO = pathlib.Path("/proc/cpuinfo")


def decide(precision, devices=()):
    """Returns "float32" or "bfloat16" for a value of `train.precision`.

    Args:
      precision: "float32" and "bfloat16" are returned as they are; "auto" becomes bfloat16 if
        all devices multiply in it.
      devices: names of the devices that train, as `strategy.extended.worker_devices`; by default
        those that `--strategy=auto` takes on this machine.
    """
    if precision != "auto":
        return precision
    return "bfloat16" if is_native(devices) else "float32"


def is_native(devices=()):
    """Returns whether all `devices` (see `decide`) multiply in bfloat16."""
    kinds = {_kind(device) for device in devices or _default_devices()}
    return all(_NATIVE[kind]() for kind in kinds)


def slowdown(device):
    """Measures how many times as long as in float32 a convolution takes in bfloat16.

    One of 8 images of 32 x 32 with 32 channels, forward and both gradients: milliseconds where the
    hardware has bfloat16, up to two seconds where it is emulated.
    """
    seconds = {dtype: _seconds_of_convolution(device, dtype) for dtype in ("float32", "bfloat16")}
    return seconds["bfloat16"] / seconds["float32"]


def _seconds_of_convolution(device, dtype):
    with tf.device(device):
        x = tf.ones([8, 32, 32, 32], dtype)
        kernel = tf.ones([5, 5, 32, 32], dtype)

    @tf.function(autograph=False)
    def convolve():
        y = tf.nn.conv2d(x, kernel, 1, "SAME")
        return [part[:1, :1, :1, :1] for part in (y, *tf.gradients(y, [x, kernel]))]

    def once():
        start = time.perf_counter()
        for part in convolve():
            part.numpy()
        return time.perf_counter() - start

    once()  # Traces.
    return min(once() for _ in range(3))


def _default_devices():
    for kind in ("TPU", "GPU"):
        devices = tf.config.list_logical_devices(kind)
        if devices:
            return [device.name for device in devices]
    return ["/device:CPU:0"]


def _kind(device):
    """Returns "CPU", "GPU" or "TPU" of "/job:localhost/.../device:GPU:0"."""
    return device.upper().split(":")[-2].rpartition("/")[2]


def _cpu_is_native():
    # Without oneDNN, TensorFlow's kernels emulate it: 650 instead of 17 ms for one convolution.
    if os.environ.get("TF_ENABLE_ONEDNN_OPTS", "1") in ("0", "false"):
        return False
    try:
        text = CPU_INFO.read_text(errors="replace")
    except OSError:
        return False
    words = next((line.split() for line in text.splitlines() if line.startswith("flags")), [])
    return not CPU_FLAGS.isdisjoint(words)


def _gpus_are_native():
    gpus = tf.config.list_physical_devices("GPU")
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    return all(facts.get("compute_capability", (0, 0)) >= AMPERE for facts in details)


_NATIVE = {"CPU": _cpu_is_native, "GPU": _gpus_are_native, "TPU": lambda: True}
