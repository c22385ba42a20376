"""IODINE (Greff et al. 2019)."""

from tfobj import lazy
from tfobj.models.iodine.config import IodineConfig
from tfobj.models.iodine.presets import PRESETS

__all__ = ["PRESETS", "Iodine", "IodineConfig"]

__getattr__, __dir__ = lazy.names(__name__, {"Iodine": "model"})
