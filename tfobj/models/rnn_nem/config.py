"""Settings of RNN-EM: those of R-NEM with another variant."""

import dataclasses

from tfobj.models.rnem.config import RNemConfig, Variant


@dataclasses.dataclass(frozen=True, kw_only=True)
class RnnEMConfig(RNemConfig):
    """RNN-EM: R-NEM without relations (Greff 2017), 4,611,827 parameters."""

    variant: Variant = "rnn_em"
