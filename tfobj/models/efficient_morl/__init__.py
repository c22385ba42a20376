"""EfficientMORL (Emami et al. 2021)."""

from tfobj.models.efficient_morl.model import EfficientMORL, EfficientMORLConfig
from tfobj.models.efficient_morl.presets import PRESETS

__all__ = ["PRESETS", "EfficientMORL", "EfficientMORLConfig"]
