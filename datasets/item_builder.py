"""Shared by all builders: configs, splits by position, several processes, published files.

An item is a scene (an image) or a clip. A dataset is either *generated* (from a seed, offline) or
*public* (read from the published files). Both have the same splits, by position and in order:

    train   items 0 ... num_train - 1
    test    items test_start ... test_start + num_test - 1
"""

import abc
import contextlib
import dataclasses
import functools
import inspect

import numpy as np
import tensorflow_datasets as tfds
from etils import epath

from tfobj.datasets import workers
from tfobj.errors import UserError, unknown_name


@dataclasses.dataclass(eq=False)
class ItemConfig(tfds.core.BuilderConfig):
    """One way to make a dataset; the defaults give the papers' splits.

    Attributes:
      num_train: number of items in split `train`.
      num_test: number of items in split `test`.
      test_start: number of the first test item, at least `num_train` so that splits do not overlap.
      image_size: side of a generated image in pixels; None selects the published size.
      seed: seed of the generator, in [0, 2**64).
      variant: name of a variant, for datasets that have several.
      public: whether to read the published files instead of generating.
      path: path of the published file; None looks for it in TFDS's manual directory.
    """

    num_train: int = 60_000
    num_test: int = 10_000
    test_start: int = 60_000
    image_size: int | None = None
    seed: int = 0
    variant: str | None = None
    public: bool = False
    path: str | None = None

    ITEM = "item"
    """What an item is called in messages."""

    VARIANTS = ()
    """Valid names of `variant`; empty if the generator checks them."""

    MIN_IMAGE_SIZE = 1
    """Smallest `image_size` at which objects are still recognisable."""

    RESIZES_PUBLIC = False
    """Whether published items are resized to `image_size`; otherwise they have one size."""

    def __post_init__(self):
        self.check_bounds("num_train", 1)
        self.check_bounds("num_test", 1)
        if self.test_start < self.num_train:
            raise UserError(
                f"`test_start` must be at least `num_train`, so that no test {self.ITEM} is used "
                f"for training. Received: test_start={self.test_start}, "
                f"num_train={self.num_train}."
            )

        if self.VARIANTS and self.variant not in self.VARIANTS:
            raise unknown_name("variant", self.variant, self.VARIANTS)

        if self.public and self.image_size is not None and not self.RESIZES_PUBLIC:
            raise UserError(
                "`image_size` is an option of generated data; the published files have one size. "
                f"Received: image_size={self.image_size}."
            )
        self.check_bounds("image_size", self.MIN_IMAGE_SIZE)

    def check_bounds(self, name, least, most=None, condition=""):
        """Checks that a number lies in least ... most.

        Args:
          name: name of the attribute; its value None, which selects a default, passes.
          least: smallest valid value.
          most: greatest valid value; None sets no bound.
          condition: words that follow the bounds in the message, such as " for grayscale images".

        Raises:
          UserError: if the number is out of bounds.
        """
        value = getattr(self, name)
        if value is None or (value >= least and (most is None or value <= most)):
            return

        bounds = f"at least {least}" if most is None else f"in {least} ... {most}"
        raise UserError(f"`{name}` must be {bounds}{condition}. Received: {name}={value}.")

    def same_items(self, other):
        """Returns whether two configs make the same dataset, whatever their descriptions say."""
        if type(self) is not type(other):
            return False

        names = {field.name for field in dataclasses.fields(self)}
        names -= {"description", "release_notes"}
        return all(getattr(self, name) == getattr(other, name) for name in names)


class ItemBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Base of `SceneBuilder` and `VideoBuilder`, which define what an item looks like.

    A dataset is a subclass `Builder` in `<name>/<name>_dataset_builder.py`. Its folder and its
    default config, the first of `BUILDER_CONFIGS`, are derived here.
    """

    ON_REQUEST_CONFIGS = []
    """Configs that are built only when named.

    `tfds build datasets/<name>` without `--config` builds every entry of BUILDER_CONFIGS, and that
    must work offline.
    """

    HAS_PUBLISHED_FILES = True
    """Whether the dataset was published; otherwise all its configs are generated."""

    CHUNK = 500
    """Number of items generated at a time."""

    PARALLEL = False
    """Whether to generate in several processes.

    This pays if a chunk takes longer to generate than to send, and longer than Python takes to
    start (0.2 s).
    """

    DEFAULT_IMAGE_SIZE = None
    """Side of the published images in pixels, and of generated ones by default."""

    HOMEPAGE = ""
    """Page of the published dataset."""

    def __init_subclass__(cls, skip_registration=False, **kwargs):
        super().__init_subclass__(skip_registration=skip_registration, **kwargs)
        if not cls.HAS_PUBLISHED_FILES:
            cls.MANUAL_DOWNLOAD_INSTRUCTIONS = None

        # A subclass that is not registered, such as a variation for a test, keeps its base's files.
        if skip_registration:
            return

        if cls.BUILDER_CONFIGS:
            cls.DEFAULT_BUILDER_CONFIG_NAME = cls.BUILDER_CONFIGS[0].name

        # TFDS infers both paths from the name of the module, which does not lead to the files of a
        # source checkout. A class typed into a session has no file, and keeps its base's.
        with contextlib.suppress(OSError, TypeError):
            cls.code_path = epath.Path(inspect.getfile(cls))
            cls.pkg_dir_path = cls.code_path.parent

    def __init__(self, *, config=None, **kwargs):
        # TFDS refuses a config object with the name of one of the class's own configs, even if both
        # say the same.
        if isinstance(config, ItemConfig):
            own = self.builder_configs.get(config.name)
            if own is not None and own.same_items(config):
                config = own
        super().__init__(config=config, **kwargs)

        if self.builder_config.public and not self.HAS_PUBLISHED_FILES:
            raise UserError(
                f"`public` must be False for {self.name}: the dataset has no published files. "
                "Received: public=True."
            )

    @abc.abstractmethod
    def generator(self):
        """Returns the function from item numbers [n] to a dict of arrays [n, ...].

        It is pickled for other processes: a `functools.partial` of a generator module's function
        lets them import that module alone, without TensorFlow.
        """

    @abc.abstractmethod
    def public_source(self, dl_manager):
        """Returns where the published items are, in the form that `read_public` takes.

        Raises:
          UserError: if they are neither on disk nor can be downloaded.
        """

    @abc.abstractmethod
    def read_public(self, source, split, start, stop):
        """Yields the published items start ... stop - 1 of a split, in order.

        They come in chunks, which are dicts like the result of `generate`.
        """

    @abc.abstractmethod
    def item_features(self):
        """Returns a dict from name to TFDS feature of an item."""

    @abc.abstractmethod
    def record(self, start, stop):
        """Returns the `Record` of the items start ... stop - 1 of a split."""

    @property
    @abc.abstractmethod
    def factor_docs(self):
        """Dict from factor name to (trailing shape after the entity axis, documentation)."""

    @property
    def scene_docs(self):
        """Dict from name to (shape, documentation) of the numbers stored under `scene`."""
        return {}

    @property
    def provenance(self):
        """Names and numbers that say how the items were made, stored as TFDS metadata."""
        return {}

    @property
    def image_size(self):
        """Side of the images of this config in pixels."""
        return self.builder_config.image_size or self.DEFAULT_IMAGE_SIZE

    @tfds.core.utils.classproperty
    @classmethod
    @tfds.core.utils.memoize()
    def builder_configs(cls):
        return {config.name: config for config in [*cls.BUILDER_CONFIGS, *cls.ON_REQUEST_CONFIGS]}

    def split_ranges(self):
        """Returns a dict from split to (number of its first item, number after its last item)."""
        config = self.builder_config
        return {
            "train": (0, config.num_train),
            "test": (config.test_start, config.test_start + config.num_test),
        }

    def generate(self, indices):
        """Returns the items with numbers `indices` [n] as a dict of arrays [n, ...]."""
        return self.generator()(indices)

    def find_on_disk(self, dl_manager, name):
        """Finds a published file on disk.

        Args:
          dl_manager: TFDS's download manager.
          name: name of the file; folders in it are ignored.

        Returns:
          The config's `path`, or the path in the manual directory; None if it is not there.

        Raises:
          UserError: if the config's `path` does not exist.
        """
        path = self.builder_config.path
        if not path:
            return _in_manual_directory(dl_manager, name)

        candidate = existing(epath.Path(path).expanduser())
        if candidate is None:
            raise UserError(f"`path` must be an existing file. Received: path={path!r}.")
        return candidate

    def require_on_disk(self, dl_manager, name, link):
        """Returns the path of a published file that only the user can download, from `link`.

        Raises:
          UserError: if it is neither at the config's `path` nor in the manual directory.
        """
        path = self.find_on_disk(dl_manager, name)
        if path is None:
            raise UserError(
                f"Config {self.builder_config.name!r} reads {name}, which is not in the manual "
                f"directory. {self.how_to_get(link)}"
            )
        return path

    def how_to_get(self, link):
        """Returns the advice for a missing file that only the user can download."""
        return (
            f"Download it from {link} into the folder `downloads/manual` of the data directory "
            "(or give the config's `path`), or build the config "
            f"{self.DEFAULT_BUILDER_CONFIG_NAME!r}, which needs no file."
        )

    def download(self, dl_manager, urls):
        """Downloads published files.

        Args:
          dl_manager: TFDS's download manager.
          urls: dict from any key to URL.

        Returns:
          A dict from key to path.

        Raises:
          UserError: if a file cannot be downloaded.
        """
        try:
            return dl_manager.download(urls)
        except OSError as error:  # also the base of the errors of `requests`
            raise UserError(
                f"{', '.join(urls.values())} could not be downloaded ({error}). Put a copy into "
                "the folder `downloads/manual` of the data directory, or build the config "
                f"{self.DEFAULT_BUILDER_CONFIG_NAME!r}, which needs no network."
            ) from error

    def _info(self):
        index = tfds.features.Scalar(
            np.int64, doc=f"Number of the {self.builder_config.ITEM} in its source."
        )
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict({**self.item_features(), "index": index}),
            homepage=self.HOMEPAGE,
            # Splits are defined by position, so the order of the records is part of the data.
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(self.provenance) if self.provenance else None,
        )

    def _download_and_prepare(self, dl_manager, download_config):
        # TFDS does not tell builders whether it was given a Beam pipeline.
        self._with_beam = (
            download_config.beam_options is not None or download_config.beam_runner is not None
        )

        # Progress bars have a total only for splits that the dataset's info already knows.
        self.info.set_splits(self._expected_splits())
        try:
            super()._download_and_prepare(dl_manager, download_config)
        except BaseException:
            self.info.set_splits(tfds.core.splits.SplitDict([]))
            raise

    def _expected_splits(self):
        """Returns the TFDS splits with the numbers of items that `split_ranges` promises."""
        splits = [
            tfds.core.SplitInfo(
                name=split,
                shard_lengths=[stop - start],
                num_bytes=0,
                filename_template=self._get_filename_template(split),
            )
            for split, (start, stop) in self.split_ranges().items()
        ]
        return tfds.core.splits.SplitDict(splits)

    def _split_generators(self, dl_manager):
        ranges = self.split_ranges()
        if self.builder_config.public:
            source = self.public_source(dl_manager)
            return {
                split: self._generate_examples(source, split, *numbers)
                for split, numbers in ranges.items()
            }

        if self._with_beam:
            return {split: self._beam_examples(*numbers) for split, numbers in ranges.items()}
        return {
            split: self._generate_examples(None, split, *numbers)
            for split, numbers in ranges.items()
        }

    def _generate_examples(self, source, split, start, stop):
        """Yields (key, example) of the items start ... stop - 1; generated ones have no source."""
        if self.builder_config.public:
            chunks = self.read_public(source, split, start, stop)
        elif self.PARALLEL:
            chunks = workers.ordered_map(self.generator(), _chunks(start, stop, self.CHUNK))
        else:
            chunks = map(self.generator(), _chunks(start, stop, self.CHUNK))

        # Chunks of a published source with gaps are smaller, so positions are counted.
        record = self.record(start, stop)
        first = start
        for chunk in chunks:
            yield from record.examples(first, chunk)
            first += len(chunk["mask"])

    def _beam_examples(self, start, stop):
        """Returns a Beam transform that yields what `_generate_examples` does."""
        import apache_beam as beam

        make = functools.partial(_examples, self.generator(), self.record(start, stop))
        return beam.Create(_chunks(start, stop, self.CHUNK)) | beam.FlatMap(make)


@dataclasses.dataclass(frozen=True)
class Record(abc.ABC):
    """Turns the items start ... stop - 1 of a split into examples.

    It is separate from the builder because Beam sends it to other machines.
    """

    start: int
    stop: int

    @abc.abstractmethod
    def example(self, item):
        """Returns the example of one item, a dict of arrays, without its `index`."""

    def examples(self, first, chunk):
        """Yields (key, example) of a chunk of items.

        Args:
          first: position of the chunk's first item.
          chunk: dict of arrays [n, ...]; `index` [n] holds the items' numbers, if these are not
            first, first + 1, ...
        """
        # TFDS sorts by key. Beyond 1 GB it distributes the examples over files by the upper digits
        # of the key, and Beam's shards are equal ranges of keys: so the keys, which are positions,
        # are spread over the 128 bits that TFDS expects.
        spread = 2**128 // (self.stop - self.start)
        indices = chunk.get("index", range(first, first + len(chunk["mask"])))
        for i, index in enumerate(indices):
            item = {name: values[i] for name, values in chunk.items()}
            key = (first + i - self.start) * spread
            yield key, {**self.example(item), "index": index}


def bytes_feature(shape, dtype, doc):
    """Returns the TFDS feature of a compressed array."""
    return tfds.features.Tensor(shape=shape, dtype=dtype, encoding="zlib", doc=doc)


def float_features(docs, leading=()):
    """Returns a dict from name to TFDS feature.

    Args:
      docs: dict from name to (trailing shape, documentation).
      leading: axes before the trailing shape.
    """
    return {
        name: tfds.features.Tensor(shape=(*leading, *trailing), dtype=np.float32, doc=doc)
        for name, (trailing, doc) in docs.items()
    }


def float_arrays(item, names):
    """Returns the entries `names` of an item as float32 arrays."""
    return {name: np.asarray(item[name], np.float32) for name in names}


def visibility(masks, num_entities):
    """Returns which entities own a pixel; the background always counts as visible.

    Args:
      masks: uint8 [n, ..., H, W], numbers of the entities.
      num_entities: N, including the background.

    Returns:
      float32 [n, N], 1 for visible entities.
    """
    pixels = tuple(range(1, masks.ndim))

    # One entity at a time: all at once would take N times the memory of the masks.
    visible = np.stack([(masks == entity).any(axis=pixels) for entity in range(num_entities)], 1)
    visible[:, 0] = True
    return visible.astype(np.float32)


def existing(path):
    """Returns a path if something is there, or else None."""
    return path if path.exists() else None


def _in_manual_directory(dl_manager, name):
    """Returns the path of a file in TFDS's manual directory, or None if it is not there."""
    try:
        folder = dl_manager.manual_dir
    except AssertionError:  # how TFDS says that there is no manual directory
        return None
    return existing(folder / epath.Path(name).name)


def _chunks(start, stop, size):
    """Returns the numbers start ... stop - 1 as arrays of at most `size` numbers."""
    return [np.arange(i, min(i + size, stop)) for i in range(start, stop, size)]


def _examples(generate, record, numbers):
    return record.examples(int(numbers[0]), generate(numbers))
