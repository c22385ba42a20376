"""RNN-EM (Greff et al. 2017): the model of `tfobj.models.rnem.model` with independent slots."""

import keras

from tfobj.models.rnem.model import RNem
from tfobj.models.rnn_nem.config import RnnEMConfig


@keras.saving.register_keras_serializable("tfobj")
class RnnEM(RNem):
    """RNN-EM: R-NEM without relations; all other settings are the same."""

    config_class = RnnEMConfig
