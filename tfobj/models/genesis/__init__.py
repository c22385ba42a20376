"""GENESIS (Engelcke et al. 2020)."""

from tfobj import lazy
from tfobj.models.genesis.config import GenesisConfig
from tfobj.models.genesis.presets import PRESETS

__all__ = ["PRESETS", "Genesis", "GenesisConfig"]

__getattr__, __dir__ = lazy.names(__name__, {"Genesis": "model"})
