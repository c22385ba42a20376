"""Names of a package that are imported when they are first asked for.

    __getattr__, __dir__ = lazy.names(__name__, {"Iodine": "model"})

`from tfobj.models.iodine import Iodine` then loads TensorFlow, and the import of the package, for
its settings and presets, does not.
"""

import importlib
import sys


def names(package, homes, modules=()):
    """Returns the functions `__getattr__` and `__dir__` of a package.

    Args:
      package: its `__name__`.
      homes: public name -> the module that defines it, seen from the package.
      modules: modules that are attributes of the package without having been imported.
    """

    def __getattr__(name):
        if name in homes:
            return getattr(importlib.import_module(f"{package}.{homes[name]}"), name)
        if name in modules:
            return importlib.import_module(f"{package}.{name}")
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    def __dir__():
        own = [name for name in vars(sys.modules[package]) if not name.startswith("_")]
        return sorted({*own, *homes, *modules})

    return __getattr__, __dir__
