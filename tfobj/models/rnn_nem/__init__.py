"""RNN-EM (Greff et al. 2017), which R-NEM adds relations to."""

from tfobj.models.rnem.config import RnnEMConfig
from tfobj.models.rnem.model import RnnEM
from tfobj.models.rnn_nem.presets import PRESETS

__all__ = ["PRESETS", "RnnEM", "RnnEMConfig"]
