"""MONet (Burgess et al. 2019)."""

from tfobj import lazy
from tfobj.models.monet.config import MonetConfig
from tfobj.models.monet.presets import PRESETS

__all__ = ["PRESETS", "Monet", "MonetConfig"]

__getattr__, __dir__ = lazy.names(__name__, {"Monet": "model"})
