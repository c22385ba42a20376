"""Relational neural expectation maximisation (van Steenkiste et al. 2018)."""

from tfobj import lazy
from tfobj.models.rnem.config import RNemConfig
from tfobj.models.rnem.presets import PRESETS

__all__ = ["PRESETS", "RNem", "RNemConfig"]

__getattr__, __dir__ = lazy.names(__name__, {"RNem": "model"})
