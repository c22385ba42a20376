"""Sequential IODINE: one refinement per frame of a video clip (Greff et al. 2019, appendix A.1)."""

from tfobj import lazy
from tfobj.models.sequential_iodine.config import SequentialIodineConfig
from tfobj.models.sequential_iodine.presets import PRESETS

__all__ = ["PRESETS", "SequentialIodine", "SequentialIodineConfig"]

__getattr__, __dir__ = lazy.names(__name__, {"SequentialIodine": "model"})
