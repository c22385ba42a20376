"""IODINE (Greff et al. 2019)."""

from tfobj.models.iodine.model import Iodine, IodineConfig
from tfobj.models.iodine.presets import PRESETS

__all__ = ["PRESETS", "Iodine", "IodineConfig"]
