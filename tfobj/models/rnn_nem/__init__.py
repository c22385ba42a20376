"""RNN-EM (Greff et al. 2017), to which R-NEM adds relations."""

from tfobj import lazy
from tfobj.models.rnn_nem.config import RnnEMConfig
from tfobj.models.rnn_nem.presets import PRESETS

__all__ = ["PRESETS", "RnnEM", "RnnEMConfig"]

__getattr__, __dir__ = lazy.names(__name__, {"RnnEM": "model"})
