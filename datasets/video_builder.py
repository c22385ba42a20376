r"""What the builders of clips share: features, static and per-frame factors, a validation split on request.

Configs, sizes and splits by position are those of `item_builder`. An example has

    video    uint8 [T, H, W, C]
    mask     uint8 [T, H, W], number of the visible entity in each pixel; the same for the same entity in every frame
    factors  name -> float32 [N, ...], what does not change in a clip; `visibility` is 1 for every entity that exists
    tracks   name -> float32 [T, N, ...], what does
    scene    name -> float32 [...], numbers of the whole clip, for datasets that have any
    index    number of the clip in its source

Entity 0 is the background; zeros for it and for absent entities. How to build in several processes or with Apache Beam
stands in `scene_builder`.
"""

import abc
import dataclasses

import numpy as np

from tfobj.datasets import item_builder
from tfobj.errors import UserError


@dataclasses.dataclass(eq=False)
class VideoConfig(item_builder.ItemConfig):
    """One way to make a clip dataset.

    Attributes:
      num_validation: clips in split `validation`; 0 is no such split.
      validation_start: number of the first of them.
      num_frames: frames per clip, the first ones; None is the published length.
    """

    num_train: int = 50_000
    num_test: int = 10_000
    test_start: int = 60_000
    num_validation: int = 0
    validation_start: int = 50_000
    num_frames: int | None = None

    item = "clip"

    def __post_init__(self):
        super().__post_init__()
        if self.num_validation < 0:
            raise UserError(
                f"`num_validation` must be at least 0. Received: num_validation={self.num_validation}."
            )
        if (
            self.num_validation
            and not self.num_train <= self.validation_start <= self.test_start - self.num_validation
        ):
            raise UserError(
                "`validation_start` must be in num_train ... test_start - num_validation, so that no clip is in two splits. "
                f"Received: validation_start={self.validation_start}, num_validation={self.num_validation}, "
                f"num_train={self.num_train}, test_start={self.test_start}."
            )
        if self.num_frames is not None and self.num_frames < 1:
            raise UserError(
                f"`num_frames` must be at least 1. Received: num_frames={self.num_frames}."
            )


class VideoBuilder(item_builder.ItemBuilder, skip_registration=True):
    """Base of the builders; a subclass names its generator, how to read what is published, and its factors and tracks."""

    CHUNK = 50
    """Clips generated at a time."""

    @abc.abstractmethod
    def generate(self, indices):
        """Returns the clips `indices` [n]: dict of arrays [n, ...].

        `video` uint8 [n, T, H, W, C], `mask` uint8 [n, T, H, W], the factors [n, N, ...], the tracks [n, T, N, ...], and
        what the config says besides: `full_mask` uint8 [n, T, H, W], the numbers of `scene_docs` [n, ...].
        """

    @abc.abstractmethod
    def clip_shape(self):
        """Returns (frames, height, width, channels, entities) of this config; frames may be None, if clips differ in length."""

    @property
    @abc.abstractmethod
    def track_docs(self):
        """Track name -> (trailing shape after the axes of frames and entities, documentation)."""

    @property
    def has_full_mask(self):
        """Whether the clips of this config have a `full_mask`."""
        return False

    def split_ranges(self):
        config = self.builder_config
        ranges = super().split_ranges()
        if config.num_validation:
            ranges["validation"] = (
                config.validation_start,
                config.validation_start + config.num_validation,
            )
        return ranges

    def item_features(self):
        frames, height, width, channels, entities = self.clip_shape()
        features = {
            "video": item_builder.bytes_feature(
                (frames, height, width, channels), np.uint8, "Frames."
            ),
            "mask": item_builder.bytes_feature(
                (frames, height, width),
                np.uint8,
                "Number of the visible entity in each pixel; 0 is the background.",
            ),
            "factors": item_builder.float_features(self.factor_docs, (entities,)),
            "tracks": item_builder.float_features(self.track_docs, (frames, entities)),
        }
        if self.has_full_mask:
            features["full_mask"] = item_builder.bytes_feature(
                (frames, height, width), np.uint8, "`mask` without what covers the entities."
            )
        if self.scene_docs:
            features["scene"] = item_builder.float_features(self.scene_docs)
        return features

    def record(self, start, stop):
        return _Record(
            start,
            stop,
            tuple(self.factor_docs),
            tuple(self.track_docs),
            tuple(self.scene_docs),
            self.has_full_mask,
        )


@dataclasses.dataclass(frozen=True)
class _Record(item_builder.Record):
    factors: tuple
    tracks: tuple
    scene: tuple
    full_mask: bool

    def example(self, item):
        example = {
            "video": item["video"],
            "mask": item["mask"],
            "factors": {name: np.asarray(item[name], np.float32) for name in self.factors},
            "tracks": {name: np.asarray(item[name], np.float32) for name in self.tracks},
        }
        if self.full_mask:
            example["full_mask"] = item["full_mask"]
        if self.scene:
            example["scene"] = {name: np.asarray(item[name], np.float32) for name in self.scene}
        return example
