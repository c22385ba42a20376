"""RNN-EM (Greff et al. 2017), to which R-NEM adds relations."""

from tfobj.models.rnn_nem.config import RnnEMConfig
from tfobj.models.rnn_nem.model import RnnEM
from tfobj.models.rnn_nem.presets import PRESETS

__all__ = ["PRESETS", "RnnEM", "RnnEMConfig"]
