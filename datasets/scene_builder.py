r"""What the builders of still scenes share: sizes, splits, features, and the two ways to get scenes.

A scene dataset is either *generated* (from a seed, offline) or *public* (read from the published
file). Both give the same splits by position, in order:

    train   items 0 ... num_train - 1
    test    items test_start ... test_start + num_test - 1

Both give image, mask, factors and number of a scene; generators may also give amodal masks, a depth map and
numbers of the whole scene, which no published file has.

Slow generators work in several processes (`workers`), or wherever Apache Beam puts them:

    tfds build datasets/<name> \
        --beam_pipeline_options=runner=DirectRunner,direct_running_mode=multi_processing,direct_num_workers=8

The scenes and their order do not depend on that. A published file is read from front to back, by one process.
"""

import abc
import dataclasses
import functools

from etils import epath
import numpy as np
import tensorflow_datasets as tfds

from tfobj.datasets import png, public_records, workers
from tfobj.errors import UserError

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

    def same_scenes(self, other):
        """Whether two configs make the same dataset, whatever their descriptions say."""
        names = {field.name for field in dataclasses.fields(self)} - {"description", "release_notes"}
        return type(self) is type(other) and all(getattr(self, name) == getattr(other, name) for name in names)


class SceneBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Base of the builders; a subclass names its generator, its published file and its factors."""

    ON_REQUEST_CONFIGS = []
    """Configs that are built only when named. `tfds build datasets/<name>` without `--config` builds
    every entry of BUILDER_CONFIGS, and that must work offline."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Only for the configs that read published files: they are downloaded, unless the file is already in the "
        f"manual directory (same file name as under {_BUCKET})."
    )

    CHUNK = 500
    """Scenes generated at a time. Small chunks pay for Python, large ones fall out of the processor's cache: Multi-dSprites
    is fastest at 250 (16,000 scenes per second on one core), Tetris at 1,000 and more (41,000)."""

    PARALLEL = False
    """Whether to generate in several processes: pays if a chunk takes longer than to send it, and to start Python (0.2 s)."""

    HOMEPAGE = "https://github.com/google-deepmind/multi_object_datasets"
    """Of the published set."""
    HAS_AMODAL_MASKS = False
    """Whether generated scenes have `amodal_masks`."""

    def __init__(self, *, config=None, **kwargs):
        # TFDS refuses a config object of a name that the class has, even if it says the same.
        if isinstance(config, SceneConfig):
            own = self.builder_configs.get(config.name)
            config = own if own is not None and own.same_scenes(config) else config
        super().__init__(config=config, **kwargs)

    @abc.abstractmethod
    def generate(self, indices):
        """Returns the scenes `indices` [n]: dict of arrays [n, ...].

        `image` uint8 [n, H, W, C], `mask` uint8 [n, H, W], the factors [n, N, ...], and what the config says besides:
        `amodal_masks` uint8 {0, 1} [n, N, H, W], `depth_map` [n, H, W], the numbers of `scene_docs` [n, ...].
        """

    def generator(self):
        """Returns `generate` as a function that other processes can have.

        It is pickled: builders that are slow enough for several processes return a function of a generator's module
        (`functools.partial`), which is imported without TensorFlow.
        """
        return self.generate

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

    @property
    def has_amodal_masks(self):
        """Whether the scenes of this config have `amodal_masks`."""
        return self.HAS_AMODAL_MASKS and not self.builder_config.public

    @property
    def has_depth_map(self):
        """Whether the scenes of this config have a `depth_map`."""
        return False

    @property
    def scene_docs(self):
        """Name -> (shape, documentation) of the numbers of a whole scene, stored under `scene`."""
        return {}

    @property
    def provenance(self):
        """Names and numbers to keep as TFDS metadata of the dataset: how its scenes were made."""
        return {}

    @tfds.core.utils.classproperty
    @classmethod
    @tfds.core.utils.memoize()
    def builder_configs(cls):
        return {config.name: config for config in [*cls.BUILDER_CONFIGS, *cls.ON_REQUEST_CONFIGS]}

    def _info(self):
        height, width, channels, entities = self.scene_shape()
        features = {
            "image": tfds.features.Image(shape=(height, width, channels), encoding_format="png"),
            "mask": _bytes(
                (height, width), np.uint8, "Number of the visible entity in each pixel; 0 is the background."
            ),
            "factors": _floats(self.factor_docs, (entities,)),
            "index": tfds.features.Scalar(np.int64, doc="Number of the scene in its source."),
        }
        if self.has_amodal_masks:
            features["amodal_masks"] = _bytes(
                (entities, height, -(-width // 8)), np.uint8,
                "Full extent of each entity within the image, hidden parts included; `numpy.packbits` along the width.",
            )
        if self.has_depth_map:
            features["depth_map"] = _bytes((height, width), np.float16, "Depth of the visible surface along the optical axis.")
        if self.scene_docs:
            features["scene"] = _floats(self.scene_docs)
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features),
            homepage=self.HOMEPAGE,
            # Splits are defined by position, so the order of the records is part of the data.
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(self.provenance) if self.provenance else None,
        )

    def _download_and_prepare(self, dl_manager, download_config):
        # TFDS keeps to itself whether it was given a Beam pipeline.
        self._with_beam = download_config.beam_options is not None or download_config.beam_runner is not None
        # Its progress bars show how much is to come for splits that it knows.
        sizes = {split: [stop - start] for split, (start, stop) in self._split_ranges().items()}
        self.info.set_splits(
            tfds.core.splits.SplitDict(
                [
                    tfds.core.SplitInfo(
                        name=split, shard_lengths=size, num_bytes=0, filename_template=self._get_filename_template(split)
                    )
                    for split, size in sizes.items()
                ]
            )
        )
        try:
            super()._download_and_prepare(dl_manager, download_config)
        except BaseException:
            self.info.set_splits(tfds.core.splits.SplitDict([]))
            raise

    def _split_ranges(self):
        config = self.builder_config
        return {"train": (0, config.num_train), "test": (config.test_start, config.test_start + config.num_test)}

    def _split_generators(self, dl_manager):
        config = self.builder_config
        path = self._public_path(dl_manager) if config.public else None
        if self._with_beam and not config.public:
            return {split: self._beam_examples(*numbers) for split, numbers in self._split_ranges().items()}
        return {split: self._generate_examples(path, *numbers) for split, numbers in self._split_ranges().items()}

    def _generate_examples(self, path, start, stop):
        """Yields (key, example) for items start ... stop - 1."""
        if path is not None:
            chunks = public_records.read(path, self.public_file(), start, stop)
        else:
            numbers = _chunks(start, stop, self.CHUNK)
            chunks = workers.ordered_map(self.generator(), numbers, None if self.PARALLEL else 1)
        record = self._record(start, stop)
        first = start
        for chunk in chunks:
            yield from record.examples(first, chunk)
            first += len(chunk["image"])

    def _beam_examples(self, start, stop):
        """Returns a Beam transform to the same (key, example)."""
        import apache_beam as beam

        make = functools.partial(_examples, self.generator(), self._record(start, stop))
        return beam.Create(_chunks(start, stop, self.CHUNK)) | beam.FlatMap(make)

    def _record(self, start, stop):
        return _Record(
            start, stop, tuple(self.factor_docs), tuple(self.scene_docs), self.has_amodal_masks, self.has_depth_map
        )

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


@dataclasses.dataclass(frozen=True)
class _Record:
    """What an example of a split start ... stop - 1 holds; apart from the builder, because Beam sends it to other machines."""

    start: int
    stop: int
    factors: tuple
    scene: tuple
    amodal_masks: bool
    depth_map: bool

    def examples(self, first, chunk):
        """Yields (key, example) for a chunk of scenes that begins with scene `first`."""
        # TFDS sorts by key; beyond 1 GB it does so in files by the key's upper digits, and Beam's shards are of equal
        # ranges of keys. So keys are the scene numbers, spread over the 128 bits that TFDS expects.
        spread = 2**128 // (self.stop - self.start)
        for i in range(len(chunk["image"])):
            example = {
                "image": png.encode(chunk["image"][i]),
                "mask": chunk["mask"][i],
                "factors": {name: chunk[name][i] for name in self.factors},
                "index": first + i,
            }
            if self.amodal_masks:
                example["amodal_masks"] = np.packbits(chunk["amodal_masks"][i], axis=-1)
            if self.depth_map:
                example["depth_map"] = chunk["depth_map"][i].astype(np.float16)
            if self.scene:
                example["scene"] = {name: np.asarray(chunk[name][i], np.float32) for name in self.scene}
            yield (first + i - self.start) * spread, example


def _chunks(start, stop, size):
    """Returns the numbers start ... stop - 1 as arrays of at most `size`."""
    return [np.arange(i, min(i + size, stop)) for i in range(start, stop, size)]


def _examples(generate, record, numbers):
    return record.examples(int(numbers[0]), generate(numbers))


def _bytes(shape, dtype, doc):
    return tfds.features.Tensor(shape=shape, dtype=dtype, encoding="zlib", doc=doc)


def _floats(docs, leading=()):
    """Returns a feature per name of name -> (trailing shape, documentation)."""
    return {
        name: tfds.features.Tensor(shape=(*leading, *trailing), dtype=np.float32, doc=doc)
        for name, (trailing, doc) in docs.items()
    }
