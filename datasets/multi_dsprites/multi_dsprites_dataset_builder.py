"""TFDS builder of Multi-dSprites in four colourings, generated or, three of them, read from the published files."""

import tensorflow_datasets as tfds
from etils import epath

from tfobj.datasets import public_records, scene_builder
from tfobj.datasets.generators import sprites
from tfobj.errors import UserError

_DEFAULT_VARIANT = "colored_on_grayscale"
_SIZES = {"colored_on_black": {"num_train": 90_000, "num_test": 10_000, "test_start": 90_000}}
"""Splits of variants whose papers cut them otherwise than the published sets."""


def _configs(source):
    """Returns one `SceneConfig` per variant that the source has, `<source>_<variant>`, the default variant first."""
    names = [
        name
        for name, variant in sprites.VARIANTS.items()
        if variant.published or source == "generated"
    ]
    names.sort(key=lambda name: name != _DEFAULT_VARIANT)
    return [
        scene_builder.SceneConfig(
            name=f"{source}_{name}",
            variant=name,
            public=source == "public",
            description=f"Variant {name} with {_counts(name)} sprites, {source}.",
            **_SIZES.get(name, {}),
        )
        for name in names
    ]


def _counts(name):
    variant = sprites.VARIANTS[name]
    return f"{variant.min_sprites}-{variant.max_sprites}"


class Builder(scene_builder.SceneBuilder):
    """Multi-dSprites. `generated_*` needs no network; `public_*` reads the published files."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "Generated scenes, and the published ones."}
    BUILDER_CONFIGS = _configs("generated")
    ON_REQUEST_CONFIGS = _configs("public")
    DEFAULT_BUILDER_CONFIG_NAME = f"generated_{_DEFAULT_VARIANT}"

    # TFDS infers both from the module's name, which does not lead to the files of a source checkout.
    code_path = epath.Path(__file__)
    pkg_dir_path = code_path.parent

    @property
    def variant(self):
        """The `sprites.Variant` of this config."""
        return sprites.get_variant(self.builder_config.variant or _DEFAULT_VARIANT)

    @property
    def factor_docs(self):
        docs = {
            "x": ((), "Column of the centre: 16 + 32 x of 64."),
            "y": ((), "Row of the centre: 16 + 32 y of 64."),
            "shape": ((), "1 square, 2 ellipse, 3 heart, 0 background or absent."),
            "orientation": ((), "Radians, counter-clockwise on the screen."),
            "scale": ((), "Size over the largest size, 0.5 to 1."),
            "color": ((self.variant.channels,), "Colour in [0, 1]."),
            "visibility": (
                (),
                "1 for every entity that exists, the background included; it may be covered.",
            ),
        }
        if self.variant.has_depth:
            docs["depth"] = (
                (),
                "1 for the nearest sprite, 2 for the next; 0 for the background and absent ones.",
            )
        return docs

    @property
    def has_amodal_masks(self):
        return self.variant.has_depth

    def generate(self, indices):
        config = self.builder_config
        return sprites.scenes(indices, config.seed, self.variant.name, self.scene_shape()[0])

    def scene_shape(self):
        size = self.builder_config.image_size or sprites.DEFAULT_SIZE
        return size, size, self.variant.channels, self.variant.num_entities

    def public_file(self):
        if not self.variant.published:
            names = ", ".join(
                name for name, variant in sprites.VARIANTS.items() if variant.published
            )
            raise UserError(
                f"`variant` must be one of {names} for published files. Received: {self.variant.name!r}."
            )
        return public_records.PublicFile(
            path=f"multi_dsprites/multi_dsprites_{self.variant.name}.tfrecords",
            image_shape=(sprites.DEFAULT_SIZE, sprites.DEFAULT_SIZE, self.variant.channels),
            num_entities=self.variant.num_entities,
            factors={name: trailing for name, (trailing, _) in self.factor_docs.items()},
            entity_axis=2,
        )
