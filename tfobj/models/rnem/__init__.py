"""Relational neural expectation maximisation (van Steenkiste et al. 2018)."""

from tfobj.models.rnem.config import RNemConfig
from tfobj.models.rnem.model import RNem
from tfobj.models.rnem.presets import PRESETS

__all__ = ["PRESETS", "RNem", "RNemConfig"]
