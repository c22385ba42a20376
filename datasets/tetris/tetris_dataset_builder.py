"""TFDS builder of Tetrominoes ("Tetris"), generated from a seed or read from the published file."""

import functools

import tensorflow_datasets as tfds

from tfobj.datasets import scene_builder
from tfobj.datasets.generators import tetris


class Builder(scene_builder.SceneBuilder):
    """Tetrominoes. `generated` needs no network; `public` reads the published file."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "Generated scenes, and the published ones."}
    BUILDER_CONFIGS = [
        scene_builder.SceneConfig(
            name="generated",
            description="Scenes drawn from a seed by the rules of the published dataset.",
        )
    ]
    ON_REQUEST_CONFIGS = [
        scene_builder.SceneConfig(
            name="public",
            public=True,
            description="The first 70,000 published scenes (300 MB download).",
        )
    ]

    DEFAULT_IMAGE_SIZE = tetris.DEFAULT_SIZE

    factor_docs = {
        "x": ((), "Row (!) of the top-left corner of the piece's bounding box, pixels."),
        "y": ((), "Column (!) of the top-left corner of the piece's bounding box, pixels."),
        "shape": ((), "Id 1-19 of the piece, 0 for the background."),
        "color": ((3,), "RGB in {0, 1}."),
        "visibility": ((), "1 for every entity that exists, the background included."),
    }

    def generator(self):
        return functools.partial(tetris.scenes, seed=self.builder_config.seed, size=self.image_size)

    def scene_shape(self):
        return self.image_size, self.image_size, 3, tetris.NUM_ENTITIES

    def public_file(self):
        return self.schema("tetrominoes/tetrominoes_train.tfrecords")
