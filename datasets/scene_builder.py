"""Shared by the builders of still scenes: features, and the files of multi_object_datasets.

`item_builder` defines splits, sizes and configs. Generated and public scenes both have an image,
a mask, factors and a number. Generators may also give amodal masks, a depth map and numbers of the
whole scene, which no published file has.

Slow generators work in several processes (`workers`), or wherever Apache Beam puts them:

    OPTIONS=runner=DirectRunner,direct_running_mode=multi_processing,direct_num_workers=8
    tfds build datasets/<name> --beam_pipeline_options=$OPTIONS

This changes neither the scenes nor their order. A published file is read from front to back, by
one process.
"""

import abc
import dataclasses

import numpy as np
import tensorflow_datasets as tfds

from tfobj.datasets import item_builder, png, public_records

_BUCKET = "https://storage.googleapis.com/multi-object-datasets/"


@dataclasses.dataclass(eq=False)
class SceneConfig(item_builder.ItemConfig):
    """One way to make a scene dataset; a published file that is not on disk is downloaded."""

    ITEM = "scene"


class SceneBuilder(item_builder.ItemBuilder, skip_registration=True):
    """Base of the scene builders; a subclass names its generator, published file and factors."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Only for the configs that read published files. They are downloaded, unless the manual "
        f"directory holds a file of the same name as under {_BUCKET}."
    )

    CHUNK = 500
    """Number of scenes generated at a time.

    Python's overhead slows small chunks down, and large ones fall out of the processor's cache:
    Multi-dSprites is fastest at 250 (16,000 scenes per second on one core), Tetris at 1,000 and
    more (41,000).
    """

    HOMEPAGE = "https://github.com/google-deepmind/multi_object_datasets"

    HAS_AMODAL_MASKS = False
    """Whether generated scenes have `amodal_masks`."""

    @abc.abstractmethod
    def generator(self):
        """Returns the function from scene numbers [n] to a dict of arrays [n, ...].

        The dict has `image` uint8 [n, H, W, C], `mask` uint8 [n, H, W] and the factors [n, N, ...];
        depending on the config also `amodal_masks` uint8 [n, N, H, W] with values 0 and 1,
        `depth_map` [n, H, W], and the numbers of `scene_docs` [n, ...].
        """

    @abc.abstractmethod
    def scene_shape(self):
        """Returns (height, width, channels, entities) of this config."""

    def public_file(self):
        """Returns the `public_records.PublicFile` of this config.

        Datasets with published files define it, most simply by `schema`.
        """
        raise NotImplementedError

    def schema(self, path, **options):
        """Returns the `PublicFile` at `path` with this config's image, entities and factors.

        Args:
          path: path of the file below the public bucket.
          **options: attributes of the `PublicFile` that differ.
        """
        *image_shape, num_entities = self.scene_shape()
        fields = {
            "image_shape": tuple(image_shape),
            "num_entities": num_entities,
            "factors": {name: trailing for name, (trailing, _) in self.factor_docs.items()},
        }
        return public_records.PublicFile(path=path, **{**fields, **options})

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
                "Full extent of each entity within the image, hidden parts included; "
                "`numpy.packbits` along the width.",
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
        path = self.find_on_disk(dl_manager, name)
        if path is None:
            path = self.download(dl_manager, {name: _BUCKET + name})[name]
        return path

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
            "factors": item_builder.float_arrays(item, self.factors),
        }
        if self.amodal_masks:
            example["amodal_masks"] = np.packbits(item["amodal_masks"], axis=-1)
        if self.depth_map:
            example["depth_map"] = item["depth_map"].astype(np.float16)
        if self.scene:
            example["scene"] = item_builder.float_arrays(item, self.scene)
        return example
