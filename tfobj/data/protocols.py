"""The papers' splits, crops and sizes as data: what exactly was trained and tested on.

A dataset says which scenes exist; a protocol says which of them a paper used, in which form. Scores
are comparable between runs of one protocol and between nothing else, so every result prints
`protocol.describe(split)`.
"""

import dataclasses

from tfobj.errors import UserError, unknown_name

SYNTHETIC_SETS = "Kabra et al. 2019 (multi_object_datasets)"


@dataclasses.dataclass(frozen=True)
class Split:
    """Scenes start ... stop - 1 of a TFDS split, in its order, counted after the filter.

    Attributes:
      source: TFDS split.
      start: first scene.
      stop: after the last scene; None is the end of the split.
      objects: (least, greatest) number of objects of the scenes that count (CLEVR6: (3, 6)); None
        takes all scenes. Objects are entities with visibility 1, the background not counted.
    """

    source: str
    start: int = 0
    stop: int | None = None
    objects: tuple | None = None


@dataclasses.dataclass(frozen=True)
class Protocol:
    """One way of a paper, or of several papers, to use a dataset.

    Attributes:
      name: what a user types.
      dataset: folder below `datasets/`.
      config: TFDS builder config.
      splits: split name -> `Split`.
      image_size: (H, W, C) after crop and resize.
      num_slots: slots that the papers used, the background's included.
      citation: who used it so.
      crop: (rows, columns), each (first, end), cut before resizing; None keeps the whole image.
      base_config: the builder's own config that `config` is made from with `options`, if it is not one
        of them itself (see `with_sizes`).
      options: fields of that builder config to change.
    """

    name: str
    dataset: str
    config: str
    splits: dict
    image_size: tuple
    num_slots: int
    citation: str
    crop: tuple | None = None
    base_config: str | None = None
    options: dict = dataclasses.field(default_factory=dict)

    def split(self, name):
        """Returns the `Split` called `name`, or raises a `UserError` that lists the valid ones."""
        if name not in self.splits:
            raise unknown_name(f"split of protocol {self.name!r}", name, self.splits)
        return self.splits[name]

    def describe(self, split):
        """Returns one line that says which scenes a result of `split` was measured on.

        Example: "tetris/test: scenes 0-319 of tetris/generated split test, 35x35x3; splits of ...".
        """
        chosen = self.split(split)
        last = "end" if chosen.stop is None else chosen.stop - 1
        parts = [f"scenes {chosen.start}-{last} of {self.dataset}/{self.config} split {chosen.source}"]
        if chosen.objects is not None:
            parts.append(f"of those with {chosen.objects[0]}-{chosen.objects[1]} objects")
        if self.crop is not None:
            (top, bottom), (left, right) = self.crop
            parts.append(f"cropped to rows {top}:{bottom}, columns {left}:{right}")
        parts.append("x".join(map(str, self.image_size)))
        return f"{self.name}/{split}: {', '.join(parts)}; splits of {self.citation}"

    def with_sizes(self, num_train, num_test):
        """Returns the protocol on a smaller build of its dataset, under another name.

        Its scenes are the first ones of the full splits. For tests, demonstrations and quick looks:
        a few hundred scenes are built in a second.

        Args:
          num_train: scenes to build for training.
          num_test: scenes to build for testing.

        Raises:
          UserError: if a size is below 1.
        """
        if min(num_train, num_test) < 1:
            raise UserError(
                "`num_train` and `num_test` must be at least 1. Received: "
                f"num_train={num_train}, num_test={num_test}."
            )
        suffix = f"_{num_train}_{num_test}"
        size = {"train": num_train, "test": num_test}
        splits = {
            name: dataclasses.replace(
                split, stop=size[split.source] if split.stop is None else min(split.stop, size[split.source])
            )
            for name, split in self.splits.items()
        }
        return dataclasses.replace(
            self,
            name=self.name + suffix,
            config=self.config + suffix,
            base_config=self.base_config or self.config,
            splits=splits,
            options={"num_train": num_train, "num_test": num_test},
        )


# Locatello 2020 and Emami 2021: the first 60,000 scenes to train, the next 320 to test. A test of
# 10,000 scenes beside it, because 320 leave a standard error of about 0.005 on the ARI. The best checkpoint
# is chosen on training scenes: training never sees a label, and the test scenes stay untouched.
_SPLITS = {
    "train": Split("train", 0, 60_000),
    "validation": Split("train", 0, 320),
    "test": Split("test", 0, 320),
    "test_large": Split("test", 0, 10_000),
}
_USERS = "Greff et al. 2019, Locatello et al. 2020, Emami et al. 2021"


def _tetris(name, config):
    return Protocol(name, "tetris", config, _SPLITS, (35, 35, 3), num_slots=4, citation=_USERS)


def _multi_dsprites(name, config, channels, num_slots, citation):
    return Protocol(name, "multi_dsprites", config, _SPLITS, (64, 64, channels), num_slots, citation)


def _table():
    """Returns all protocols by name; each generated set has a twin on the published files."""
    table = []
    for source, suffix in (("generated", ""), ("public", "_public")):
        table += [
            _tetris(f"tetris{suffix}", source),
            _multi_dsprites(f"multi_dsprites{suffix}", f"{source}_colored_on_grayscale", 3, 6, _USERS),
            _multi_dsprites(f"multi_dsprites_binarized{suffix}", f"{source}_binarized", 1, 4, SYNTHETIC_SETS),
            # Engelcke et al. 2020 cut their test and validation sets from the front of the file.
            _multi_dsprites(
                f"multi_dsprites_colored_on_colored{suffix}", f"{source}_colored_on_colored", 3, 5, SYNTHETIC_SETS
            ),
        ]
    return {protocol.name: protocol for protocol in table}


PROTOCOLS = _table()
"""Name -> `Protocol`."""


def get(name):
    """Returns the `Protocol` called `name`.

    Raises:
      UserError: lists the nearest and all valid names.
    """
    if name not in PROTOCOLS:
        raise unknown_name("protocol", name, PROTOCOLS)
    return PROTOCOLS[name]


def sized(name, num_train=None, num_test=None):
    """Returns the protocol called `name`, cut to the first scenes where a number is given; raises as `get` does."""
    protocol = get(name)
    if num_train is None and num_test is None:
        return protocol
    return protocol.with_sizes(num_train or 60_000, num_test or 10_000)


def default_protocol(dataset):
    """Returns the protocol that the papers use on a dataset, generated offline.

    Args:
      dataset: folder below `datasets/`.

    Raises:
      UserError: if no protocol is written for the dataset; lists the datasets that have one.
    """
    for protocol in PROTOCOLS.values():
        if protocol.dataset == dataset:
            return protocol
    raise unknown_name("dataset", dataset, {protocol.dataset for protocol in PROTOCOLS.values()})
