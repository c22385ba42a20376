"""Video decomposition by spatio-temporal iterative inference (Zablotskaia et al. 2020)."""

from tfobj.models.video_decomposition.config import VideoDecompositionConfig
from tfobj.models.video_decomposition.model import VideoDecomposition
from tfobj.models.video_decomposition.presets import PRESETS

__all__ = ["PRESETS", "VideoDecomposition", "VideoDecompositionConfig"]
