"""Scenes with factored depths, locations and appearances (Anciukevicius et al. 2020)."""

from tfobj import lazy
from tfobj.models.factored_scenes.config import FactoredScenesConfig
from tfobj.models.factored_scenes.presets import PRESETS

__all__ = ["PRESETS", "FactoredScenes", "FactoredScenesConfig"]

__getattr__, __dir__ = lazy.names(__name__, {"FactoredScenes": "model"})
