"""What models have in common that needs no TensorFlow: their settings, and their presets.

A model's `config.py` and `presets.py` import this module, and nothing that imports TensorFlow, so
that a mistyped setting is answered and a list is shown without it.
"""

import dataclasses
import re
from typing import NamedTuple

from tfobj.config import Config, parse_overrides, require
from tfobj.errors import unknown_name
from tfobj.inference.schedules import check_schedule
from tfobj.structs import check_num_slots, check_num_steps

QUICK_EVAL = {"num_scenes": 32, "num_frames": 10, "batch_size": 16}
QUICK_DATA = {"num_train": 2_000, "num_test": 320}
"""Shared by the `quick` presets of all video models."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class StagedConfig(Config):
    """Settings that may be others in the beginning of a training."""

    prefix = "model."

    early: tuple[str, ...] = ()
    """Other settings for the beginning of a training: "4000 likelihood_scale=0.3" holds for 4,000
    updates. Entries with different settings may overlap. Evaluations and exports do without."""

    early_names = ("num_slots", "num_steps")
    """Settings that `early` may change: those that no weight and no layer depends on."""

    def __post_init__(self):
        super().__post_init__()
        for _, settings in self.early_settings():
            self.with_early(settings)

    def early_settings(self):
        """Returns the entries of `early`: ((updates, {name: text}), ...)."""
        return tuple(map(self._early_setting, self.early))

    def _early_setting(self, entry):
        field = f"{self.prefix}early"
        require(self.early_names, field, "empty: nothing can change in this model", entry)
        updates, *settings = entry.split() or ("0",)
        is_number = re.fullmatch("0*[1-9][0-9]{0,11}", updates)
        is_valid = is_number and settings and all("=" in setting for setting in settings)
        form = '"UPDATES name=value ..." with UPDATES above 0, such as "4000 num_steps=2"'
        require(is_valid, field, form, entry)
        settings = parse_overrides(settings)
        for name in settings:
            if name not in self.early_names:
                raise unknown_name(f"setting in `{field}`", name, self.early_names)
        return int(updates), settings

    def with_early(self, changes):
        """Returns these settings with `changes`, {name: text}, and no others to come."""
        return self.override({**changes, "early": ()}, self.prefix)

    def early_changes(self, step):
        """Returns what `early` changes after `step` updates: ((name, text), ...)."""
        changes = {}
        for updates, settings in self.early_settings():
            if step < updates:
                changes |= settings
        return tuple(sorted(changes.items()))


class SceneConfig(StagedConfig):
    """Settings shared by all models; subclasses are dataclasses with these fields."""

    image_size: tuple[int, int]
    """Height and width of an image in pixels, as the data set has it."""
    channels: int
    """1 (gray) or 3 (colour), as the data set has it."""
    num_slots: int
    """K: slots per scene."""
    num_steps: int
    """Refinement steps; always 1 here, where there are none."""

    minimum_slots = 2
    minimum_steps = 1
    is_video = False
    """Whether the model takes video clips [B, T, H, W, C], and its outputs have the axis T."""

    def __post_init__(self):
        super().__post_init__()
        require(
            min(self.image_size) >= 1, "model.image_size", "two positive numbers", self.image_size
        )
        require(self.channels in (1, 3), "model.channels", "1 or 3", self.channels)
        check_num_slots(self.num_slots, self.minimum_slots)
        check_num_steps(self.num_steps, self.minimum_steps)

    def warnings(self):
        """Returns warnings about settings that are valid but rarely intended, one sentence each.

        They are printed when a run starts.
        """
        return []


class VideoConfig(SceneConfig):
    """Settings shared by all video models; subclasses are dataclasses with these fields."""

    num_frames: int
    """T, frames of a training clip."""
    curriculum: tuple
    """((step, frames), ...): frames of a training clip from that many updates on.

    The batch shrinks in proportion: a clip of twice the length takes twice the memory.
    """

    minimum_frames = 1
    is_video = True

    def __post_init__(self):
        super().__post_init__()
        self.lengths()

    def lengths(self):
        """Returns ((0, frames), (step, frames), ...), the lengths of training clips."""
        require(
            self.num_frames >= self.minimum_frames,
            "model.num_frames",
            f"at least {self.minimum_frames}",
            self.num_frames,
        )
        return check_schedule(
            self.num_frames, self.curriculum, "model.curriculum", self.minimum_frames
        )


class Preset(NamedTuple):
    """One named set of hyperparameters for a model on a dataset."""

    description: str
    """What the preset trains, and the source of its numbers."""
    model: dict
    """Changes to the model's config, which itself defaults to the paper's main table."""
    train: dict
    """Changes to `tfobj.training.experiment.TrainConfig`."""
    eval: dict = {}
    """Changes to `tfobj.training.experiment.EvalConfig`."""
    data: dict = {}
    """Changes to `tfobj.training.experiment.DataConfig`."""
    duration: str = ""
    """How long all of its steps take on what hardware, roughly ("days on one GPU"); empty if nobody
    knows."""
