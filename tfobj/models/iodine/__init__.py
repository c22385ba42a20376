"""IODINE (Greff et al. 2019)."""

from tfobj.models.iodine.config import IodineConfig
from tfobj.models.iodine.model import Iodine
from tfobj.models.iodine.presets import PRESETS

__all__ = ["PRESETS", "Iodine", "IodineConfig"]
