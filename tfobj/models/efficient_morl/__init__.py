"""EfficientMORL (Emami et al. 2021)."""

from tfobj.models.efficient_morl.config import EfficientMORLConfig
from tfobj.models.efficient_morl.model import EfficientMORL
from tfobj.models.efficient_morl.presets import PRESETS

__all__ = ["PRESETS", "EfficientMORL", "EfficientMORLConfig"]
