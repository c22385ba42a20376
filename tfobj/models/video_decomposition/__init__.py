"""Video decomposition by spatio-temporal iterative inference (Zablotskaia et al. 2020)."""

from tfobj import lazy
from tfobj.models.video_decomposition.config import VideoDecompositionConfig
from tfobj.models.video_decomposition.presets import PRESETS

__all__ = ["PRESETS", "VideoDecomposition", "VideoDecompositionConfig"]

__getattr__, __dir__ = lazy.names(__name__, {"VideoDecomposition": "model"})
