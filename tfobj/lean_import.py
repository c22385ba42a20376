"""TensorFlow for the processes of our own programs: half the time and two thirds of the memory.

TensorFlow and Keras import whatever they find of some large packages, for functions that this
package never calls. A program may do without them; a library may not decide that for the program
that imports it, so only commands and their child processes call this module.
"""

import contextlib
import gc
import sys

from tfobj import registry

UNUSED = ("jax", "matplotlib", "pandas", "sklearn")
"""Packages that are left out; who needs one of them imports it afterwards, as ever.

Of 3.0 seconds and 800 MB that `import tensorflow` takes where all of them are installed, they are
1.2 seconds and 250 MB; of 0.7 seconds and 130 MB of TensorFlow Probability, they are half.
"""


def load_tensorflow(model=None):
    """Imports TensorFlow and Keras.

    Args:
      model: name of a model whose code is imported as well, for it may need TensorFlow Probability.
    """
    with hidden(UNUSED), _without_collection():
        # TensorFlow imports Keras at its first use, which may come after this block.
        import keras  # noqa: F401
        import tensorflow  # noqa: F401

        if model is not None:
            registry.model_class(model)


@contextlib.contextmanager
def hidden(packages):
    """Has `import` not find packages that are not loaded yet."""
    absent = [name for name in packages if name not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


@contextlib.contextmanager
def _without_collection():
    """Keeps the garbage collector from searching modules, while they are imported and afterwards.

    There is no garbage among them, and the search takes 0.4 of 1.7 seconds of the import.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()
