"""Scenes with factored depths, locations and appearances (Anciukevicius et al. 2020)."""

from tfobj.models.factored_scenes.config import FactoredScenesConfig
from tfobj.models.factored_scenes.model import FactoredScenes
from tfobj.models.factored_scenes.presets import PRESETS

__all__ = ["PRESETS", "FactoredScenes", "FactoredScenesConfig"]
