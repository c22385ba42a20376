"""One model per paper; `tfobj.registry.MODELS` is the table of them.

    from tfobj.models import EfficientMORL, IODINE, SlotAttention

Classes are found under their own names and under the names of the table, written as one word. A
class loads TensorFlow; settings and presets, which a model's package has beside it, do not.
"""

import importlib

from tfobj import registry

_CLASSES = {entry.class_name: entry for entry in registry.MODELS.values()}
_WORDS = {name.replace("_", ""): entry for name, entry in registry.MODELS.items()}


def __getattr__(name):
    entry = _CLASSES.get(name)
    # Names in lower case are those of the modules.
    if entry is None and name != name.lower():
        entry = _WORDS.get(name.lower())
    if entry is None:
        raise AttributeError(
            f"module 'tfobj.models' has no attribute {name!r}; models: {', '.join(__dir__())}"
        )
    return getattr(importlib.import_module(entry.module), entry.class_name)


def __dir__():
    return sorted(_CLASSES)
