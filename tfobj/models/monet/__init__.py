"""MONet (Burgess et al. 2019)."""

from tfobj.models.monet.config import MonetConfig
from tfobj.models.monet.model import Monet
from tfobj.models.monet.presets import PRESETS

__all__ = ["PRESETS", "Monet", "MonetConfig"]
