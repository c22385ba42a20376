"""Settings of sequential IODINE."""

import dataclasses

from tfobj.config import Positive, require
from tfobj.models.iodine.config import IodineConfig
from tfobj.models.settings import VideoConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class SequentialIodineConfig(VideoConfig, IodineConfig):
    """Sequential IODINE: the settings of IODINE, where `num_steps` has no effect, and of clips."""

    num_steps: int = 5
    """Of the image model; no effect here, where every frame is refined once."""
    num_frames: int = 4
    curriculum: tuple[tuple[int, int], ...] = ()
    """((step, frames), ...): frames of a training clip from that many updates on."""
    clamp: Positive | None = None
    """Bound on the absolute value of every gradient that the refinement reads, and of every entry
    of its update; none for no bound."""

    early_names = ("num_slots", "likelihood_scale", "likelihood_weight")
    minimum_frames = 2

    def __post_init__(self):
        super().__post_init__()
        require(
            self.loss_weights != "list",
            "model.loss_weights",
            "linear or constant: clips differ in length",
            self.loss_weights,
        )
