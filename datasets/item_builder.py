"""What the builders of scenes and of clips share: configs, sizes, splits by position, and several processes.

An item is a scene or a clip. A dataset is either *generated* (from a seed, offline) or *public* (read from the
published files). Both give the same splits by position, in order:

    train   items 0 ... num_train - 1
    test    items test_start ... test_start + num_test - 1
"""

import abc
import dataclasses
import functools

import numpy as np
import tensorflow_datasets as tfds
from etils import epath

from tfobj.datasets import workers
from tfobj.errors import UserError


@dataclasses.dataclass(eq=False)
class ItemConfig(tfds.core.BuilderConfig):
    """One way to make a dataset. Defaults give the papers' splits; small values make test sets.

    Attributes:
      num_train: items in split `train`.
      num_test: items in split `test`.
      test_start: number of the first test item; not below `num_train`, or the splits would overlap.
      image_size: side of a generated image in pixels; None is the published size.
      seed: seed of the generator, in [0, 2**64).
      variant: for datasets that have several.
      public: whether to read the published files instead of generating.
      path: the published file, if it is on disk already; else it is looked for in TFDS's manual directory.
    """

    num_train: int = 60_000
    num_test: int = 10_000
    test_start: int = 60_000
    image_size: int | None = None
    seed: int = 0
    variant: str | None = None
    public: bool = False
    path: str | None = None

    item = "item"

    def __post_init__(self):
        if self.num_train < 1 or self.num_test < 1:
            raise UserError(
                "`num_train` and `num_test` must be at least 1. Received: "
                f"num_train={self.num_train}, num_test={self.num_test}."
            )
        if self.test_start < self.num_train:
            raise UserError(
                f"`test_start` must be at least `num_train`, so that no test {self.item} is trained on. Received: "
                f"test_start={self.test_start}, num_train={self.num_train}."
            )

    def same_items(self, other):
        """Whether two configs make the same dataset, whatever their descriptions say."""
        names = {field.name for field in dataclasses.fields(self)} - {
            "description",
            "release_notes",
        }
        return type(self) is type(other) and all(
            getattr(self, name) == getattr(other, name) for name in names
        )


class ItemBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Base of `scene_builder.SceneBuilder` and `video_builder.VideoBuilder`, which say what an item looks like."""

    ON_REQUEST_CONFIGS = []
    """Configs that are built only when named. `tfds build datasets/<name>` without `--config` builds
    every entry of BUILDER_CONFIGS, and that must work offline."""

    CHUNK = 500
    """Items generated at a time."""

    PARALLEL = False
    """Whether to generate in several processes: pays if a chunk takes longer than to send it, and to start Python (0.2 s)."""

    HOMEPAGE = ""
    """Of the published set."""

    def __init__(self, *, config=None, **kwargs):
        # TFDS refuses a config object of a name that the class has, even if it says the same.
        if isinstance(config, ItemConfig):
            own = self.builder_configs.get(config.name)
            config = own if own is not None and own.same_items(config) else config
        super().__init__(config=config, **kwargs)

    @abc.abstractmethod
    def generate(self, indices):
        """Returns the items `indices` [n]: dict of arrays [n, ...]."""

    def generator(self):
        """Returns `generate` as a function that other processes can have.

        It is pickled: builders that are slow enough for several processes return a function of a generator's module
        (`functools.partial`), which is imported without TensorFlow.
        """
        return self.generate

    @abc.abstractmethod
    def public_source(self, dl_manager):
        """Returns where the published items are, as `read_public` takes it; raises a `UserError` if they are nowhere."""

    @abc.abstractmethod
    def read_public(self, source, split, start, stop):
        """Yields the published items start ... stop - 1 of a split, in order, in dicts of arrays as of `generate`."""

    @abc.abstractmethod
    def item_features(self):
        """Returns name -> TFDS feature of an item."""

    @abc.abstractmethod
    def record(self, start, stop):
        """Returns the `Record` of the items start ... stop - 1 of a split."""

    @property
    @abc.abstractmethod
    def factor_docs(self):
        """Factor name -> (trailing shape after the entity axis, documentation)."""

    @property
    def scene_docs(self):
        """Name -> (shape, documentation) of the numbers of a whole item, stored under `scene`."""
        return {}

    @property
    def provenance(self):
        """Names and numbers to keep as TFDS metadata of the dataset: how its items were made."""
        return {}

    @tfds.core.utils.classproperty
    @classmethod
    @tfds.core.utils.memoize()
    def builder_configs(cls):
        return {config.name: config for config in [*cls.BUILDER_CONFIGS, *cls.ON_REQUEST_CONFIGS]}

    def _info(self):
        index = tfds.features.Scalar(
            np.int64, doc=f"Number of the {self.builder_config.item} in its source."
        )
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict({**self.item_features(), "index": index}),
            homepage=self.HOMEPAGE,
            # Splits are defined by position, so the order of the records is part of the data.
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(self.provenance) if self.provenance else None,
        )

    def _download_and_prepare(self, dl_manager, download_config):
        # TFDS keeps to itself whether it was given a Beam pipeline.
        self._with_beam = (
            download_config.beam_options is not None or download_config.beam_runner is not None
        )
        # Its progress bars show how much is to come for splits that it knows.
        sizes = {split: [stop - start] for split, (start, stop) in self.split_ranges().items()}
        self.info.set_splits(
            tfds.core.splits.SplitDict(
                [
                    tfds.core.SplitInfo(
                        name=split,
                        shard_lengths=size,
                        num_bytes=0,
                        filename_template=self._get_filename_template(split),
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

    def split_ranges(self):
        """Returns split -> (number of its first item, number after its last item)."""
        config = self.builder_config
        return {
            "train": (0, config.num_train),
            "test": (config.test_start, config.test_start + config.num_test),
        }

    def _split_generators(self, dl_manager):
        ranges = self.split_ranges()
        if self.builder_config.public:
            source = self.public_source(dl_manager)
            return {
                split: self._generate_examples(source, split, *numbers)
                for split, numbers in ranges.items()
            }
        make = (
            self._beam_examples
            if self._with_beam
            else functools.partial(self._generate_examples, None, None)
        )
        return {split: make(*numbers) for split, numbers in ranges.items()}

    def _generate_examples(self, source, split, start, stop):
        """Yields (key, example) for items start ... stop - 1."""
        if self.builder_config.public:
            chunks = self.read_public(source, split, start, stop)
        else:
            numbers = _chunks(start, stop, self.CHUNK)
            chunks = workers.ordered_map(self.generator(), numbers, None if self.PARALLEL else 1)
        record = self.record(start, stop)
        first = start
        for chunk in chunks:
            yield from record.examples(first, chunk)
            first += len(chunk["mask"])

    def _beam_examples(self, start, stop):
        """Returns a Beam transform to the same (key, example)."""
        import apache_beam as beam

        make = functools.partial(_examples, self.generator(), self.record(start, stop))
        return beam.Create(_chunks(start, stop, self.CHUNK)) | beam.FlatMap(make)


@dataclasses.dataclass(frozen=True)
class Record(abc.ABC):
    """What an example of the items start ... stop - 1 holds; apart from the builder, because Beam sends it to other machines."""

    start: int
    stop: int

    @abc.abstractmethod
    def example(self, item):
        """Returns the example of one item, a dict of arrays, without its `index`."""

    def examples(self, first, chunk):
        """Yields (key, example) for a chunk of items that begins with item `first`.

        A chunk has their numbers under `index` [n] if these are not first, first + 1 ...
        """
        # TFDS sorts by key; beyond 1 GB it does so in files by the key's upper digits, and Beam's shards are of equal
        # ranges of keys. So keys are the item numbers, spread over the 128 bits that TFDS expects.
        spread = 2**128 // (self.stop - self.start)
        indices = chunk.get("index", range(first, first + len(chunk["mask"])))
        for i, index in enumerate(indices):
            item = {name: values[i] for name, values in chunk.items()}
            yield (first + i - self.start) * spread, {**self.example(item), "index": index}


def local_file(config, dl_manager, name):
    """Returns the published file `name` that is on disk: at the config's path, or in the manual directory; else None.

    Raises:
      UserError: there is nothing at the config's path.
    """
    if config.path:
        candidate = epath.Path(config.path).expanduser()
        if not candidate.exists():
            raise UserError(f"`path` must be an existing file. Received: path={config.path!r}.")
        return candidate
    try:
        candidate = dl_manager.manual_dir / epath.Path(name).name
    except AssertionError:  # TFDS's way to say that there is no manual directory
        return None
    return candidate if candidate.exists() else None


def bytes_feature(shape, dtype, doc):
    """Returns the TFDS feature of a compressed array."""
    return tfds.features.Tensor(shape=shape, dtype=dtype, encoding="zlib", doc=doc)


def float_features(docs, leading=()):
    """Returns a feature per name of name -> (trailing shape, documentation)."""
    return {
        name: tfds.features.Tensor(shape=(*leading, *trailing), dtype=np.float32, doc=doc)
        for name, (trailing, doc) in docs.items()
    }


def _chunks(start, stop, size):
    """Returns the numbers start ... stop - 1 as arrays of at most `size`."""
    return [np.arange(i, min(i + size, stop)) for i in range(start, stop, size)]


def _examples(generate, record, numbers):
    return record.examples(int(numbers[0]), generate(numbers))
