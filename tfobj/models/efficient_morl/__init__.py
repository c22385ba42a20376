"""EfficientMORL (Emami et al. 2021)."""

from tfobj import lazy
from tfobj.models.efficient_morl.config import EfficientMORLConfig
from tfobj.models.efficient_morl.presets import PRESETS

__all__ = ["PRESETS", "EfficientMORL", "EfficientMORLConfig"]

__getattr__, __dir__ = lazy.names(__name__, {"EfficientMORL": "model"})
