"""Shared by the builders of clips: features, static and per-frame factors, a validation split.

Configs, sizes and splits by position are those of `item_builder`. An example has

    video    uint8 [T, H, W, C]
    mask     uint8 [T, H, W], number of the visible entity in each pixel; an entity has the same
             number in every frame
    factors  name -> float32 [N, ...], constant over the clip; `visibility` is 1 for every entity
             that exists
    tracks   name -> float32 [T, N, ...], one value per frame
    scene    name -> float32 [...], numbers of the whole clip, for datasets that have any
    index    number of the clip in its source

Entity 0 is the background; its entries and those of absent entities are zero. `scene_builder`
describes how to build in several processes or with Apache Beam.
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
      num_validation: number of clips in split `validation`; 0 makes no such split.
      validation_start: number of the first validation clip.
      num_frames: length of a clip, counted from its first frame; None selects the default length.
    """

    num_train: int = 50_000
    num_test: int = 10_000
    test_start: int = 60_000
    num_validation: int = 0
    validation_start: int = 50_000
    num_frames: int | None = None

    ITEM = "clip"

    def __post_init__(self):
        super().__post_init__()
        self.check_bounds("num_validation", 0)
        self.check_bounds("num_frames", 1)

        last_start = self.test_start - self.num_validation
        if self.num_validation and not self.num_train <= self.validation_start <= last_start:
            raise UserError(
                "`validation_start` must be in num_train ... test_start - num_validation, so that "
                "no clip is in two splits. Received: "
                f"validation_start={self.validation_start}, num_validation={self.num_validation}, "
                f"num_train={self.num_train}, test_start={self.test_start}."
            )


class VideoBuilder(item_builder.ItemBuilder, skip_registration=True):
    """Base of the clip builders.

    A subclass names its generator, its factors and tracks, and how to read published clips.
    """

    CHUNK = 50
    """Number of clips generated at a time."""

    DEFAULT_FRAMES = None
    """Length of a clip, unless the config says otherwise."""

    @abc.abstractmethod
    def generator(self):
        """Returns the function from clip numbers [n] to a dict of arrays [n, ...].

        The dict has `video` uint8 [n, T, H, W, C], `mask` uint8 [n, T, H, W], the factors
        [n, N, ...] and the tracks [n, T, N, ...]; depending on the config also `full_mask` uint8
        [n, T, H, W] and the numbers of `scene_docs` [n, ...].
        """

    @abc.abstractmethod
    def clip_shape(self):
        """Returns (frames, height, width, channels, entities) of this config.

        The number of frames is None if clips differ in length.
        """

    @property
    @abc.abstractmethod
    def track_docs(self):
        """Dict from track name to (trailing shape, documentation).

        The trailing shape follows the frame and entity axes.
        """

    @property
    def has_full_mask(self):
        """Whether the clips of this config have a `full_mask`."""
        return False

    @property
    def num_frames(self):
        """Length of the clips of this config."""
        return self.builder_config.num_frames or self.DEFAULT_FRAMES

    def split_ranges(self):
        config = self.builder_config
        ranges = super().split_ranges()
        if config.num_validation:
            start = config.validation_start
            ranges["validation"] = (start, start + config.num_validation)
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
            "factors": item_builder.float_arrays(item, self.factors),
            "tracks": item_builder.float_arrays(item, self.tracks),
        }
        if self.full_mask:
            example["full_mask"] = item["full_mask"]
        if self.scene:
            example["scene"] = item_builder.float_arrays(item, self.scene)
        return example
