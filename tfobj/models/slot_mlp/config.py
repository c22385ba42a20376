"""Settings of Slot MLP (Locatello et al. 2020)."""

import dataclasses

from tfobj.config import PositiveInt, require
from tfobj.models.slot_attention.config import SlotAutoencoderConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class SlotMLPConfig(SlotAutoencoderConfig):
    """Slot MLP; `num_steps` is kept for the common interface and must be 1."""

    num_steps: int = 1
    """No attention: always 1."""
    pooled_grid: PositiveInt = 8
    """Side of the grid that tokens are max-pooled to."""
    hidden: tuple[PositiveInt, ...] = (512, 512)

    early_names = ()

    def __post_init__(self):
        super().__post_init__()
        require(
            self.num_steps == 1, "model.num_steps", "1: slot_mlp has no iterations", self.num_steps
        )
