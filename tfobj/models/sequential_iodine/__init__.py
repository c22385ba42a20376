"""IODINE on clips, one refinement per frame (Greff et al. 2019, appendix A.1)."""

from tfobj.models.sequential_iodine.model import SequentialIodine, SequentialIodineConfig
from tfobj.models.sequential_iodine.presets import PRESETS

__all__ = ["PRESETS", "SequentialIodine", "SequentialIodineConfig"]
