"""TFDS builder of Objects Room: generated, or read from the published files."""

import dataclasses
import functools

import numpy as np
import tensorflow_datasets as tfds
from etils import epath

from tfobj.datasets import item_builder, public_records, scene_builder
from tfobj.datasets.generators import rooms
from tfobj.datasets.objects_room import background
from tfobj.errors import UserError, unknown_name

_PUBLISHED_TESTS, _GENERATED_TESTS = 922, 1_000

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
    """One way to make pictures of rooms.

    Attributes:
      variant: name of a set in `rooms.VARIANTS`; all but "train" have the split `test` alone, from the first scene on.
      background: of published pictures, which parts are no objects; one of `background.RULES`.
    """

    variant: str = "train"
    background: str = "first_four"

    def __post_init__(self):
        super().__post_init__()
        if self.variant not in rooms.VARIANTS:
            raise unknown_name("variant", self.variant, rooms.VARIANTS)
        if self.background not in background.RULES:
            raise unknown_name("background", self.background, background.RULES)
        if self.background != "first_four" and not self.public:
            raise UserError(
                f"`background` is an option of published data. Received: background={self.background!r}."
            )
        if self.image_size is not None and self.image_size < rooms.MIN_SIZE:
            raise UserError(
                f"`image_size` must be at least {rooms.MIN_SIZE}. Received: image_size={self.image_size}."
            )


def _config(source, variant):
    name = source if variant == "train" else f"{source}_{variant}"
    public = source == "public"
    options = (
        {} if variant == "train" else {"num_test": _PUBLISHED_TESTS if public else _GENERATED_TESTS}
    )
    description = (
        f"Variant {variant}, {'the published pictures' if public else 'drawn from a seed'}."
    )
    return ObjectsRoomConfig(
        name=name, variant=variant, public=public, description=description, **options
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
            description="Variant train, the published pictures; part 3 may be an object.",
        ),
    ]
    DEFAULT_BUILDER_CONFIG_NAME = "generated"
    HAS_AMODAL_MASKS = True
    PARALLEL = True
    CHUNK = 50

    # TFDS infers both from the module's name, which does not lead to the files of a source checkout.
    code_path = epath.Path(__file__)
    pkg_dir_path = code_path.parent

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
        return (
            super().split_ranges() if config.variant == "train" else {"test": (0, config.num_test)}
        )

    def item_features(self):
        height, width, _, _ = self.scene_shape()
        doc = "0 sky, 1 floor, 2 and 3 the halves of the wall, 4 and up objects; of published pictures as they are stored."
        return {
            **super().item_features(),
            "parts": item_builder.bytes_feature((height, width), np.uint8, doc),
        }

    def record(self, start, stop):
        return _Record(start, stop, super().record(start, stop))

    def generate(self, indices):
        return self.generator()(indices)

    def generator(self):
        config = self.builder_config
        return functools.partial(
            rooms.scenes, seed=config.seed, variant=config.variant, size=self.scene_shape()[0]
        )

    def scene_shape(self):
        size = self.builder_config.image_size or rooms.DEFAULT_SIZE
        return size, size, 3, self.variant.num_entities

    def public_file(self):
        variant = self.variant
        return public_records.PublicFile(
            path=f"objects_room/objects_room_{'' if variant.name == 'train' else 'test_'}{variant.name}.tfrecords",
            image_shape=(rooms.DEFAULT_SIZE, rooms.DEFAULT_SIZE, 3),
            num_entities=rooms.FIRST_OBJECT + variant.max_objects,
            factors={},
        )

    def read_public(self, source, split, start, stop):
        num_parts, num_entities = self.public_file().num_entities, self.variant.num_entities
        for pictures in super().read_public(source, split, start, stop):
            parts = pictures["mask"]
            mask = background.object_mask(parts, self.builder_config.background, num_parts)
            visibility = (mask[:, None] == np.arange(num_entities)[:, None, None]).any(axis=(2, 3))
            visibility[:, 0] = True
            yield {
                "image": pictures["image"],
                "mask": mask,
                "parts": parts,
                "visibility": visibility.astype(np.float32),
            }


@dataclasses.dataclass(frozen=True)
class _Record(item_builder.Record):
    scene: item_builder.Record

    def example(self, item):
        return {**self.scene.example(item), "parts": item["parts"]}
