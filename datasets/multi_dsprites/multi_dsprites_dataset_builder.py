"""TFDS builder of Multi-dSprites in four variants: generated, or (three of them) published."""

import functools

import tensorflow_datasets as tfds

from tfobj.datasets import scene_builder
from tfobj.datasets.generators import sprites
from tfobj.errors import UserError

_DEFAULT_VARIANT = "colored_on_grayscale"

_SIZES = {"colored_on_black": {"num_train": 90_000, "num_test": 10_000, "test_start": 90_000}}
"""Splits of the variants whose papers split the scenes differently from the published datasets."""

_PUBLISHED = [name for name, variant in sprites.VARIANTS.items() if variant.published]


def _configs(source, names):
    """Returns the configs `<source>_<name>` of some variants, the default variant first."""
    names = sorted(names, key=lambda name: name != _DEFAULT_VARIANT)
    return [_config(source, name) for name in names]


def _config(source, name):
    variant = sprites.VARIANTS[name]
    number = f"{variant.min_sprites}-{variant.max_sprites}"
    return scene_builder.SceneConfig(
        name=f"{source}_{name}",
        variant=name,
        public=source == "public",
        description=f"Variant {name} with {number} sprites, {source}.",
        **_SIZES.get(name, {}),
    )


class Builder(scene_builder.SceneBuilder):
    """Multi-dSprites. `generated_*` needs no network; `public_*` reads the published files."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "Generated scenes, and the published ones."}
    BUILDER_CONFIGS = _configs("generated", sprites.VARIANTS)
    ON_REQUEST_CONFIGS = _configs("public", _PUBLISHED)

    DEFAULT_IMAGE_SIZE = sprites.DEFAULT_SIZE

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

    def generator(self):
        return functools.partial(
            sprites.scenes,
            seed=self.builder_config.seed,
            variant=self.variant.name,
            size=self.image_size,
        )

    def scene_shape(self):
        variant = self.variant
        return self.image_size, self.image_size, variant.channels, variant.num_entities

    def public_file(self):
        variant = self.variant
        if not variant.published:
            raise UserError(
                f"`variant` must be one of {', '.join(_PUBLISHED)} for published files. "
                f"Received: {variant.name!r}."
            )
        return self.schema(f"multi_dsprites/multi_dsprites_{variant.name}.tfrecords", entity_axis=2)
