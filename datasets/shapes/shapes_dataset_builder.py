"""TFDS builder of Shapes, generated from a seed."""

import dataclasses

import tensorflow_datasets as tfds
from etils import epath

from tfobj.datasets import scene_builder
from tfobj.datasets.generators import shapes
from tfobj.errors import UserError

_FACTORS = {
    "x": ((), "Column of the top-left corner of the glyph's bounding box, pixels."),
    "y": ((), "Row of the top-left corner of the glyph's bounding box, pixels."),
    "shape": ((), "1 square, 2 up triangle, 3 down triangle, 0 for the background."),
    "visibility": (
        (),
        "1 for every entity, the background included; all of a glyph's pixels may be shared.",
    ),
}


@dataclasses.dataclass(eq=False)
class ShapesConfig(scene_builder.SceneConfig):
    """One way to make Shapes.

    Attributes:
      num_shapes: glyphs of a scene.
    """

    num_shapes: int = shapes.NUM_GLYPHS

    def __post_init__(self):
        super().__post_init__()
        if self.public:
            raise UserError(
                "`public` must be False for shapes: its scenes are drawn from a seed. Received: public=True."
            )
        if not 1 <= self.num_shapes <= shapes.MAX_GLYPHS:
            raise UserError(
                f"`num_shapes` must be in 1 ... {shapes.MAX_GLYPHS}. Received: num_shapes={self.num_shapes}."
            )
        if self.image_size is not None and self.image_size < shapes.MIN_SIZE:
            raise UserError(
                f"`image_size` must be at least {shapes.MIN_SIZE}. Received: image_size={self.image_size}."
            )


class Builder(scene_builder.SceneBuilder):
    """Shapes, from a seed. Everybody draws them anew: the rules are public."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "Generated scenes."}
    BUILDER_CONFIGS = [
        ShapesConfig(name="generated", description="Three glyphs, drawn from a seed.")
    ]
    ON_REQUEST_CONFIGS = [
        ShapesConfig(
            name="generated_single",
            num_shapes=1,
            description="The first glyph of `generated`, alone.",
        )
    ]
    DEFAULT_BUILDER_CONFIG_NAME = "generated"
    HOMEPAGE = "https://arxiv.org/abs/1312.6115"
    MANUAL_DOWNLOAD_INSTRUCTIONS = None
    HAS_AMODAL_MASKS = True

    # TFDS infers both from the module's name, which does not lead to the files of a source checkout.
    code_path = epath.Path(__file__)
    pkg_dir_path = code_path.parent

    factor_docs = _FACTORS

    def generate(self, indices):
        config = self.builder_config
        return shapes.scenes(indices, config.seed, config.num_shapes, self.scene_shape()[0])

    def scene_shape(self):
        size = self.builder_config.image_size or shapes.DEFAULT_SIZE
        return size, size, 1, 1 + self.builder_config.num_shapes

    def public_file(self):
        raise UserError(
            "`public` must be False for shapes: its scenes are drawn from a seed. Received: public=True."
        )
