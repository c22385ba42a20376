"""TFDS builder of overlapping polygons, generated from a seed."""

import functools

import tensorflow_datasets as tfds

from tfobj.datasets import scene_builder
from tfobj.datasets.generators import polygons


class Builder(scene_builder.SceneBuilder):
    """Overlapping polygons, generated from a seed. The original scenes were not published."""

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
    HOMEPAGE = "https://arxiv.org/abs/2004.00642"

    DEFAULT_IMAGE_SIZE = polygons.DEFAULT_SIZE
    HAS_PUBLISHED_FILES = False
    HAS_AMODAL_MASKS = True

    factor_docs = {
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
        "visibility": (
            (),
            "1 for every entity, the background included; a polygon may be covered.",
        ),
    }

    def generator(self):
        return functools.partial(
            polygons.scenes, seed=self.builder_config.seed, size=self.image_size
        )

    def scene_shape(self):
        return self.image_size, self.image_size, 3, polygons.NUM_ENTITIES
