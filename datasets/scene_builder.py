r"""What the builders of still scenes share: features, and the published files of multi_object_datasets.

Splits, sizes and configs are those of `item_builder`. Generated and public scenes both have image, mask, factors and
number; generators may also give amodal masks, a depth map and numbers of the whole scene, which no published file has.

Slow generators work in several processes (`workers`), or wherever Apache Beam puts them:

    tfds build datasets/<name> \
        --beam_pipeline_options=runner=DirectRunner,direct_running_mode=multi_processing,direct_num_workers=8

The scenes and their order do not depend on that. A published file is read from front to back, by one process.
"""

import abc
import dataclasses

import numpy as np
import tensorflow_datasets as tfds

from tfobj.datasets import item_builder, png, public_records
from tfobj.errors import UserError

_BUCKET = "https://storage.googleapis.com/multi-object-datasets/"


@dataclasses.dataclass(eq=False)
class SceneConfig(item_builder.ItemConfig):
    """One way to make a scene dataset; a published file that is not on disk is downloaded."""

    item = "scene"

    def __post_init__(self):
        super().__post_init__()
        if self.public and self.image_size is not None:
            raise UserError(
                "`image_size` is an option of generated data; the published files have one size. Received: "
                f"image_size={self.image_size}."
            )


class SceneBuilder(item_builder.ItemBuilder, skip_registration=True):
    """Base of the builders; a subclass names its generator, its published file and its factors."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Only for the configs that read published files: they are downloaded, unless the file is already in the "
        f"manual directory (same file name as under {_BUCKET})."
    )

    CHUNK = 500
    """Scenes generated at a time. Small chunks pay for Python, large ones fall out of the processor's cache: Multi-dSprites
    is fastest at 250 (16,000 scenes per second on one core), Tetris at 1,000 and more (41,000)."""

    HOMEPAGE = "https://github.com/google-deepmind/multi_object_datasets"
    HAS_AMODAL_MASKS = False
    """Whether generated scenes have `amodal_masks`."""

    @abc.abstractmethod
    def generate(self, indices):
        """Returns the scenes `indices` [n]: dict of arrays [n, ...].

        `image` uint8 [n, H, W, C], `mask` uint8 [n, H, W], the factors [n, N, ...], and what the config says besides:
        `amodal_masks` uint8 {0, 1} [n, N, H, W], `depth_map` [n, H, W], the numbers of `scene_docs` [n, ...].
        """

    @abc.abstractmethod
    def public_file(self):
        """Returns the `public_records.PublicFile` of this config."""

    @abc.abstractmethod
    def scene_shape(self):
        """Returns (height, width, channels, entities) of this config."""

    @property
    def has_amodal_masks(self):
        """Whether the scenes of this config have `amodal_masks`."""
        return self.HAS_AMODAL_MASKS and not self.builder_config.public

    @property
    def has_depth_map(self):
        """Whether the scenes of this config have a `depth_map`."""
        return False

    def item_features(self):
        height, width, channels, entities = self.scene_shape()
        features = {
            "image": tfds.features.Image(shape=(height, width, channels), encoding_format="png"),
            "mask": item_builder.bytes_feature(
                (height, width),
                np.uint8,
                "Number of the visible entity in each pixel; 0 is the background.",
            ),
            "factors": item_builder.float_features(self.factor_docs, (entities,)),
        }
        if self.has_amodal_masks:
            features["amodal_masks"] = item_builder.bytes_feature(
                (entities, height, -(-width // 8)),
                np.uint8,
                "Full extent of each entity within the image, hidden parts included; `numpy.packbits` along the width.",
            )
        if self.has_depth_map:
            features["depth_map"] = item_builder.bytes_feature(
                (height, width), np.float16, "Depth of the visible surface along the optical axis."
            )
        if self.scene_docs:
            features["scene"] = item_builder.float_features(self.scene_docs)
        return features

    def record(self, start, stop):
        return _Record(
            start,
            stop,
            tuple(self.factor_docs),
            tuple(self.scene_docs),
            self.has_amodal_masks,
            self.has_depth_map,
        )

    def public_source(self, dl_manager):
        """Returns the published file: the config's path, the manual directory, or a download."""
        name = self.public_file().path
        path = item_builder.local_file(self.builder_config, dl_manager, name)
        if path is not None:
            return path
        try:
            return dl_manager.download(_BUCKET + name)
        except OSError as error:  # also the base of the errors of `requests`
            raise UserError(
                f"{_BUCKET + name} could not be downloaded ({error}). Put the file into the folder `downloads/manual` "
                f"of the data directory, or build the config {self.DEFAULT_BUILDER_CONFIG_NAME!r}, which needs no "
                "network."
            ) from error

    def read_public(self, source, split, start, stop):
        return public_records.read(source, self.public_file(), start, stop)


@dataclasses.dataclass(frozen=True)
class _Record(item_builder.Record):
    factors: tuple
    scene: tuple
    amodal_masks: bool
    depth_map: bool

    def example(self, item):
        example = {
            "image": png.encode(item["image"]),
            "mask": item["mask"],
            "factors": {name: item[name] for name in self.factors},
        }
        if self.amodal_masks:
            example["amodal_masks"] = np.packbits(item["amodal_masks"], axis=-1)
        if self.depth_map:
            example["depth_map"] = item["depth_map"].astype(np.float16)
        if self.scene:
            example["scene"] = {name: np.asarray(item[name], np.float32) for name in self.scene}
        return example
