"""TFDS builder of overlapping polygons, generated from a seed."""

import tensorflow_datasets as tfds
from etils import epath

from tfobj.datasets import scene_builder
from tfobj.datasets.generators import polygons
from tfobj.errors import UserError

_FACTORS = {
    "x": ((), "Column of the centre, pixels of an image of 64."),
    "y": ((), "Row of the centre, pixels of an image of 64."),
    "edges": ((), "Number of edges, 3 to 6; 0 for the background."),
    "radius": ((), "Circumradius, pixels of an image of 64."),
    "rotation": (
        (),
        "Radians, counter-clockwise on the screen; at 0 a corner points to the right.",
    ),
    "color": ((3,), "RGB in [0, 1]."),
    "depth": ((), "1 for the nearer polygon, 2 for the farther one, 0 for the background."),
    "visibility": ((), "1 for every entity, the background included; a polygon may be covered."),
}


class Builder(scene_builder.SceneBuilder):
    """Overlapping polygons, from a seed. The original scenes were not published."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "Generated scenes."}
    BUILDER_CONFIGS = [
        scene_builder.SceneConfig(
            name="generated",
            num_train=90_000,
            num_test=10_000,
            test_start=90_000,
            description="Two filled regular polygons on black, drawn from a seed.",
        )
    ]
    DEFAULT_BUILDER_CONFIG_NAME = "generated"
    HOMEPAGE = "https://arxiv.org/abs/2004.00642"
    HAS_AMODAL_MASKS = True

    # TFDS infers both from the module's name, which does not lead to the files of a source checkout.
    code_path = epath.Path(__file__)
    pkg_dir_path = code_path.parent

    factor_docs = _FACTORS

    def generate(self, indices):
        return polygons.scenes(indices, self.builder_config.seed, self.scene_shape()[0])

    def scene_shape(self):
        size = self.builder_config.image_size or polygons.DEFAULT_SIZE
        return size, size, 3, polygons.NUM_ENTITIES

    def public_file(self):
        raise UserError(
            "`public` must be False for overlapping_polygons: its scenes were not published. Received: public=True."
        )
