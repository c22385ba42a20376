"""TFDS builder of Tetrominoes ("Tetris"), generated from a seed or read from the published file."""

import tensorflow_datasets as tfds
from etils import epath

from tfobj.datasets import public_records, scene_builder
from tfobj.datasets.generators import tetris

_FACTORS = {
    "x": ((), "Row (!) of the top-left corner of the piece's bounding box, pixels."),
    "y": ((), "Column (!) of the top-left corner of the piece's bounding box, pixels."),
    "shape": ((), "Id 1-19 of the piece, 0 for the background."),
    "color": ((3,), "RGB in {0, 1}."),
    "visibility": ((), "1 for every entity that exists, the background included."),
}


class Builder(scene_builder.SceneBuilder):
    """Tetrominoes. `generated` needs no network; `public` reads the published file."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "Generated scenes, and the published ones."}
    BUILDER_CONFIGS = [
        scene_builder.SceneConfig(
            name="generated",
            description="Scenes drawn from a seed by the rules of the published set.",
        )
    ]
    ON_REQUEST_CONFIGS = [
        scene_builder.SceneConfig(
            name="public",
            public=True,
            description="The published scenes (300 MB download), the first 70,000 of them.",
        )
    ]
    DEFAULT_BUILDER_CONFIG_NAME = "generated"

    # TFDS infers both from the module's name, which does not lead to the files of a source checkout.
    code_path = epath.Path(__file__)
    pkg_dir_path = code_path.parent

    factor_docs = _FACTORS

    def generate(self, indices):
        return tetris.scenes(indices, self.builder_config.seed, self.scene_shape()[0])

    def scene_shape(self):
        size = self.builder_config.image_size or tetris.DEFAULT_SIZE
        return size, size, 3, tetris.NUM_ENTITIES

    def public_file(self):
        return public_records.PublicFile(
            path="tetrominoes/tetrominoes_train.tfrecords",
            image_shape=(tetris.DEFAULT_SIZE, tetris.DEFAULT_SIZE, 3),
            num_entities=tetris.NUM_ENTITIES,
            factors={name: trailing for name, (trailing, _) in _FACTORS.items()},
        )
