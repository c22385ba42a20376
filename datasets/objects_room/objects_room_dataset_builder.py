"""TFDS builder of Objects Room: generated, or read from the published files."""

import dataclasses
import functools

import numpy as np
import tensorflow_datasets as tfds
from etils import epath

from tfobj.datasets import item_builder, scene_builder
from tfobj.datasets.generators import rooms
from tfobj.datasets.objects_room import background
from tfobj.errors import UserError, unknown_name

_NUM_TESTS = {"generated": 1_000, "public": 922}
"""Scenes of the tests of generalisation."""

_FACTORS = {
    "shape": ((), "1 sphere, 2 cylinder, 3 cube, 0 background or absent."),
    "size": ((), "Radius of sphere and cylinder, half the height of all; the room is 7 wide."),
    "x": ((), "Where it stands in the room."),
    "y": ((), "Where it stands in the room."),
    "rotation": ((), "About the vertical axis, radians."),
    "color": ((3,), "RGB in [0, 1]."),
    "pixel_coords": (
        (3,),
        "Column and row of the centre in a picture of 64, depth along the optical axis.",
    ),
    "depth": ((), "Distance of the centre from the camera."),
    "visibility": (
        (),
        "1 for every entity that exists, the background included; it may be out of view.",
    ),
}


@dataclasses.dataclass(eq=False)
class ObjectsRoomConfig(scene_builder.SceneConfig):
    """One way to make images of rooms.

    Attributes:
      variant: key of `rooms.VARIANTS`. All but "train" have only the split `test`, which starts at
        scene 0.
      background: which parts of published images are background; one of `background.RULES`.
    """

    variant: str = "train"
    background: str = "first_four"

    VARIANTS = rooms.VARIANTS
    MIN_IMAGE_SIZE = rooms.MIN_SIZE

    def __post_init__(self):
        super().__post_init__()
        if self.background not in background.RULES:
            raise unknown_name("background", self.background, background.RULES)
        if self.background != "first_four" and not self.public:
            raise UserError(
                "`background` is an option of published data. "
                f"Received: background={self.background!r}."
            )


def _config(source, variant):
    options = {"variant": variant, "public": source == "public"}
    origin = "the published images" if source == "public" else "drawn from a seed"
    description = f"Variant {variant}, {origin}."

    if variant == "train":
        return ObjectsRoomConfig(name=source, description=description, **options)
    return ObjectsRoomConfig(
        name=f"{source}_{variant}",
        num_test=_NUM_TESTS[source],
        description=description,
        **options,
    )


class Builder(scene_builder.SceneBuilder):
    """Objects Room. `generated*` needs no network; `public*` reads the published files."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "Generated pictures, and the published ones."}
    BUILDER_CONFIGS = [_config("generated", "train")]
    ON_REQUEST_CONFIGS = [
        *(_config("generated", variant) for variant in rooms.VARIANTS if variant != "train"),
        *(_config("public", variant) for variant in rooms.VARIANTS),
        ObjectsRoomConfig(
            name="public_by_outline",
            public=True,
            background="by_outline",
            description="Variant train, the published images; part 3 may be an object.",
        ),
    ]

    DEFAULT_IMAGE_SIZE = rooms.DEFAULT_SIZE
    HAS_AMODAL_MASKS = True
    PARALLEL = True
    CHUNK = 50

    @property
    def variant(self):
        """The `rooms.Variant` of this config."""
        return rooms.get_variant(self.builder_config.variant)

    @property
    def factor_docs(self):
        if self.builder_config.public:
            return {"visibility": ((), "1 for the background and for objects that have a pixel.")}
        return _FACTORS

    @property
    def scene_docs(self):
        if self.builder_config.public:
            return {}
        return {
            "wall_color": ((3,), "RGB in [0, 1], before shading."),
            "floor_color": ((3,), "RGB in [0, 1], before shading."),
            "azimuth": ((), "Of the camera on its ring, radians."),
            "pitch": ((), "Of the camera, radians, upwards."),
        }

    @property
    def provenance(self):
        config = self.builder_config
        if config.public:
            return {
                "file": epath.Path(self.public_file().path).name,
                "background": config.background,
            }
        return {"variant": config.variant, "seed": config.seed}

    def split_ranges(self):
        config = self.builder_config
        if config.variant == "train":
            return super().split_ranges()
        return {"test": (0, config.num_test)}

    def item_features(self):
        height, width, _, _ = self.scene_shape()
        doc = (
            "0 sky, 1 floor, 2 and 3 the halves of the wall, 4 and up objects; of published "
            "pictures as they are stored."
        )
        return {
            **super().item_features(),
            "parts": item_builder.bytes_feature((height, width), np.uint8, doc),
        }

    def record(self, start, stop):
        return _Record(start, stop, super().record(start, stop))

    def generator(self):
        config = self.builder_config
        return functools.partial(
            rooms.scenes, seed=config.seed, variant=config.variant, size=self.image_size
        )

    def scene_shape(self):
        return self.image_size, self.image_size, 3, self.variant.num_entities

    def public_file(self):
        variant = self.variant
        name = variant.name
        if name != "train":
            name = f"test_{name}"

        # The file numbers the parts of the background like entities, and has no factors.
        return self.schema(
            f"objects_room/objects_room_{name}.tfrecords",
            num_entities=rooms.FIRST_OBJECT + variant.max_objects,
            factors={},
        )

    def read_public(self, source, split, start, stop):
        rule = self.builder_config.background
        num_parts = self.public_file().num_entities
        for scenes in super().read_public(source, split, start, stop):
            parts = scenes["mask"]
            mask = background.object_mask(parts, rule, num_parts)
            yield {
                "image": scenes["image"],
                "mask": mask,
                "parts": parts,
                "visibility": item_builder.visibility(mask, self.variant.num_entities),
            }


@dataclasses.dataclass(frozen=True)
class _Record(item_builder.Record):
    scene: item_builder.Record

    def example(self, item):
        return {**self.scene.example(item), "parts": item["parts"]}
