"""What a result was computed on, for the files that report it."""

import os
import pathlib
import platform
import shlex
import sys


def describe():
    """Returns {"hardware", "software", "command"} as printable strings; no host names or paths."""
    import keras
    import tensorflow as tf

    gpus = [
        tf.config.experimental.get_device_details(gpu).get("device_name", "GPU")
        for gpu in tf.config.list_physical_devices("GPU")
    ]
    return {
        **report(gpus, TensorFlow=tf.__version__, Keras=keras.__version__),
        "command": command_line(),
    }


def report(accelerators, **versions):
    """Returns {"hardware", "software"} of this process.

    Args:
      accelerators: names of its devices, all of one kind.
      versions: name=version of its libraries.
    """
    cores = len(os.sched_getaffinity(0))
    hardware = f"{cores} core{'s' * (cores != 1)} of {_cpu_name()}"
    if accelerators:
        hardware += f", {len(accelerators)} x {accelerators[0]}"

    versions = {"Python": platform.python_version(), **versions}
    software = ", ".join(f"{name} {version}" for name, version in versions.items())
    return {"hardware": hardware, "software": software}


def _cpu_name():
    """Returns the processor's marketing name, or its architecture where the system hides it."""
    try:
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def command_line():
    """Returns the command as a user would type it from the checkout.

    Flags that only say where files lie are left out.
    """
    script = pathlib.Path(sys.argv[0])
    places = ("--workdir=", "--data_dir=", "--json=")
    settings = [word for word in sys.argv[1:] if not word.startswith(places)]
    return shlex.join(["python", f"{script.parent.name}/{script.name}", *settings])
