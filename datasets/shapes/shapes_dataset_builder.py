"""TFDS builder of Shapes, generated from a seed."""

import dataclasses
import functools

import tensorflow_datasets as tfds

from tfobj.datasets import scene_builder
from tfobj.datasets.generators import shapes


@dataclasses.dataclass(eq=False)
class ShapesConfig(scene_builder.SceneConfig):
    """One way to make Shapes.

    Attributes:
      num_shapes: number of glyphs in a scene.
    """

    num_shapes: int = shapes.NUM_GLYPHS

    MIN_IMAGE_SIZE = shapes.MIN_SIZE

    def __post_init__(self):
        super().__post_init__()
        self.check_bounds("num_shapes", 1, shapes.MAX_GLYPHS)


class Builder(scene_builder.SceneBuilder):
    """Shapes, generated from a seed. The rules are public, and every paper draws its own scenes."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "Generated scenes."}
    BUILDER_CONFIGS = [
        ShapesConfig(name="generated", description="Three glyphs, drawn from a seed.")
    ]
    ON_REQUEST_CONFIGS = [
        ShapesConfig(
            name="generated_single",
            num_shapes=1,
            description="Only the first glyph of each scene of `generated`.",
        )
    ]
    HOMEPAGE = "https://arxiv.org/abs/1312.6115"

    DEFAULT_IMAGE_SIZE = shapes.DEFAULT_SIZE
    HAS_PUBLISHED_FILES = False
    HAS_AMODAL_MASKS = True

    factor_docs = {
        "x": ((), "Column of the top-left corner of the glyph's bounding box, pixels."),
        "y": ((), "Row of the top-left corner of the glyph's bounding box, pixels."),
        "shape": ((), "1 square, 2 up triangle, 3 down triangle, 0 for the background."),
        "visibility": (
            (),
            "1 for every entity, the background included; all of a glyph's pixels may be shared.",
        ),
    }

    def generator(self):
        config = self.builder_config
        return functools.partial(
            shapes.scenes, seed=config.seed, num_shapes=config.num_shapes, size=self.image_size
        )

    def scene_shape(self):
        return self.image_size, self.image_size, 1, 1 + self.builder_config.num_shapes
