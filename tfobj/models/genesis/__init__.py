"""GENESIS (Engelcke et al. 2020)."""

from tfobj.models.genesis.config import GenesisConfig
from tfobj.models.genesis.model import Genesis
from tfobj.models.genesis.presets import PRESETS

__all__ = ["PRESETS", "Genesis", "GenesisConfig"]
