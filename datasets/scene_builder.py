"""What the builders of still scenes share: sizes, splits, features, and the two ways to get scenes.

A scene dataset is either *generated* (from a seed, offline) or *public* (read from the published
file). Both give the same features and the same splits by position, in order:

    train   items 0 ... num_train - 1
    test    items test_start ... test_start + num_test - 1
"""

import abc
import dataclasses

from etils import epath
import numpy as np
import tensorflow_datasets as tfds

from tfobj.datasets import png, public_records
from tfobj.errors import UserError

_CHUNK = 500
"""Scenes generated at a time. Small chunks pay for Python, large ones fall out of the processor's cache: Multi-dSprites
is fastest at 250 (16,000 scenes per second on one core), Tetris at 1,000 and more (41,000)."""

_BUCKET = "https://storage.googleapis.com/multi-object-datasets/"

NUM_TRAIN = 60_000
NUM_TEST = 10_000


@dataclasses.dataclass(eq=False)
class SceneConfig(tfds.core.BuilderConfig):
    """One way to make a scene dataset. Defaults give the papers' splits; small values make test sets.

    Attributes:
      num_train: scenes in split `train`.
      num_test: scenes in split `test`.
      test_start: number of the first test scene; not below `num_train`, or the splits would overlap.
      image_size: side of a generated image in pixels; None is the published size.
      seed: seed of the generator, in [0, 2**64).
      variant: colouring, for datasets that have several.
      public: whether to read the published file instead of generating.
      path: the published file, if it is on disk already; else it is looked for in TFDS's manual
        directory and downloaded if it is not there.
    """

    num_train: int = NUM_TRAIN
    num_test: int = NUM_TEST
    test_start: int = NUM_TRAIN
    image_size: int | None = None
    seed: int = 0
    variant: str | None = None
    public: bool = False
    path: str | None = None

    def __post_init__(self):
        if self.num_train < 1 or self.num_test < 1:
            raise UserError(
                "`num_train` and `num_test` must be at least 1. Received: "
                f"num_train={self.num_train}, num_test={self.num_test}."
            )
        if self.test_start < self.num_train:
            raise UserError(
                "`test_start` must be at least `num_train`, so that no test scene is trained on. Received: "
                f"test_start={self.test_start}, num_train={self.num_train}."
            )
        if self.public and self.image_size is not None:
            raise UserError(
                "`image_size` is an option of generated data; the published files have one size. Received: "
                f"image_size={self.image_size}."
            )


class SceneBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Base of the builders; a subclass names its generator, its published file and its factors."""

    ON_REQUEST_CONFIGS = []
    """Configs that are built only when named. `tfds build datasets/<name>` without `--config` builds
    every entry of BUILDER_CONFIGS, and that must work offline."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Only for the configs that read published files: they are downloaded, unless the file is already in the "
        f"manual directory (same file name as under {_BUCKET})."
    )

    @abc.abstractmethod
    def generate(self, indices):
        """Returns the scenes `indices` [n]: dict with `image`, `mask` and the factors, each [n, ...]."""

    @abc.abstractmethod
    def public_file(self):
        """Returns the `public_records.PublicFile` of this config."""

    @abc.abstractmethod
    def scene_shape(self):
        """Returns (height, width, channels, entities) of this config."""

    @property
    @abc.abstractmethod
    def factor_docs(self):
        """Factor name -> (trailing shape after the entity axis, documentation)."""

    @tfds.core.utils.classproperty
    @classmethod
    @tfds.core.utils.memoize()
    def builder_configs(cls):
        return {config.name: config for config in [*cls.BUILDER_CONFIGS, *cls.ON_REQUEST_CONFIGS]}

    def _info(self):
        height, width, channels, entities = self.scene_shape()
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(height, width, channels), encoding_format="png"),
                    "mask": tfds.features.Tensor(
                        shape=(height, width),
                        dtype=np.uint8,
                        encoding="zlib",
                        doc="Number of the visible entity in each pixel; 0 is the background.",
                    ),
                    "factors": {
                        name: tfds.features.Tensor(shape=(entities, *trailing), dtype=np.float32, doc=doc)
                        for name, (trailing, doc) in self.factor_docs.items()
                    },
                    "index": tfds.features.Scalar(np.int64, doc="Number of the scene in its source."),
                }
            ),
            homepage="https://github.com/google-deepmind/multi_object_datasets",
            # Splits are defined by position, so the order of the records is part of the data.
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        config = self.builder_config
        path = self._public_path(dl_manager) if config.public else None
        return {
            "train": self._generate_examples(path, 0, config.num_train),
            "test": self._generate_examples(path, config.test_start, config.test_start + config.num_test),
        }

    def _generate_examples(self, path, start, stop):
        """Yields (item number, example) for items start ... stop - 1."""
        if path is None:
            chunks = (self.generate(np.arange(i, min(i + _CHUNK, stop))) for i in range(start, stop, _CHUNK))
        else:
            chunks = public_records.read(path, self.public_file(), start, stop)
        index = start
        for chunk in chunks:
            for i in range(len(chunk["image"])):
                yield index, {
                    "image": png.encode(chunk["image"][i]),
                    "mask": chunk["mask"][i],
                    "factors": {name: chunk[name][i] for name in self.factor_docs},
                    "index": index,
                }
                index += 1

    def _public_path(self, dl_manager):
        """Returns the published file: the config's path, the manual directory, or a download."""
        name = self.public_file().path
        if self.builder_config.path:
            candidate = epath.Path(self.builder_config.path).expanduser()
            if not candidate.exists():
                raise UserError(f"`path` must be an existing file. Received: path={self.builder_config.path!r}.")
            return candidate
        try:
            candidate = dl_manager.manual_dir / epath.Path(name).name
            if candidate.exists():
                return candidate
        except AssertionError:  # TFDS's way to say that there is no manual directory
            pass
        try:
            return dl_manager.download(_BUCKET + name)
        except OSError as error:  # also the base of the errors of `requests`
            raise UserError(
                f"{_BUCKET + name} could not be downloaded ({error}). Put the file into the folder `downloads/manual` "
                f"of the data directory, or build the config {self.DEFAULT_BUILDER_CONFIG_NAME!r}, which needs no "
                "network."
            ) from error
