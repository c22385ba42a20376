"""The papers' splits, crops and sizes as data: the scenes of every training and test.

A dataset says which scenes exist; a protocol says which of them a paper used, and in which form.
Only runs of the same protocol have comparable scores, so every result prints
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
      stop: one past the last scene; None is the end of the split.
      objects: (least, greatest) number of objects in a scene (CLEVR6: (3, 6)); None takes all
        scenes. Objects are entities with visibility 1, without the background.
    """

    source: str
    start: int = 0
    stop: int | None = None
    objects: tuple | None = None


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How one or several papers use a dataset.

    Attributes:
      name: the name that a user types.
      dataset: folder below `datasets/`.
      config: TFDS builder config.
      splits: split name -> `Split`.
      image_size: (H, W, C) after crop and resize.
      num_slots: slots that the papers used, including that of the background.
      citation: the papers.
      crop: (rows, columns), each (first, end), cut before resizing; None keeps the whole image.
      base_config: if `config` is not one of the builder's own, the one that it is made from with
        `options` (see `with_sizes`).
      options: fields of that builder config to change.
      num_train: scenes that the config builds as TFDS split `train`.
      num_test: the same for `test`.
      test_start: number of the first test scene in its source (sequence of the seed, or published
        file).
      num_frames: frames of a clip; None if a scene is an image.
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
    num_train: int = 60_000
    num_test: int = 10_000
    test_start: int = 60_000
    num_frames: int | None = None

    def split(self, name):
        """Returns the `Split` called `name`; a `UserError` for other names lists the valid ones."""
        if name not in self.splits:
            raise unknown_name(f"split of protocol {self.name!r}", name, self.splits)
        return self.splits[name]

    def describe(self, split):
        """Returns one line that says on which scenes a result of `split` was measured.

        Example: "tetris/test: scenes 0-319 of tetris/generated split test, 35x35x3; splits of ...".
        """
        chosen = self.split(split)
        last = "end" if chosen.stop is None else chosen.stop - 1
        kind = "scenes"
        size = "x".join(map(str, self.image_size))
        if self.num_frames is not None:
            kind = "clips"
            size = f"{self.num_frames} frames of {size}"

        source = f"{self.dataset}/{self.config} split {chosen.source}"
        parts = [f"{kind} {chosen.start}-{last} of {source}"]
        if chosen.objects is not None:
            parts.append(f"of those with {chosen.objects[0]}-{chosen.objects[1]} objects")
        if self.crop is not None:
            (top, bottom), (left, right) = self.crop
            parts.append(f"cropped to rows {top}:{bottom}, columns {left}:{right}")
        parts.append(size)
        return f"{self.name}/{split}: {', '.join(parts)}; splits of {self.citation}"

    def with_sizes(self, num_train, num_test):
        """Returns the protocol on a smaller build of its dataset, under another name.

        Its scenes are the first ones of the full splits. For tests, demonstrations and quick
        looks: a few hundred scenes of the simpler datasets are built in a second. A split that is
        filtered by the number of objects becomes all such scenes of the smaller build.

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

        built = {"train": num_train, "test": num_test}

        def shortened(split):
            if split.objects is not None:
                return dataclasses.replace(split, stop=None)
            stop = built[split.source]
            if split.stop is not None:
                stop = min(split.stop, stop)
            return dataclasses.replace(split, stop=stop)

        splits = {name: shortened(split) for name, split in self.splits.items()}
        sizes = {"num_train": num_train, "num_test": num_test}
        return self._with_options(f"_{num_train}_{num_test}", sizes, splits=splits, **sizes)

    def with_image_size(self, size):
        """Returns the protocol on the same scenes at `size` x `size`, under another name."""
        return self._with_options(
            f"_{size}", {"image_size": size}, image_size=(size, size, self.image_size[2])
        )

    def _with_options(self, suffix, options, **changes):
        """Returns the protocol, with `changes`, on a build of its dataset with other `options`.

        `suffix` is added to the names of protocol and config.
        """
        return dataclasses.replace(
            self,
            name=self.name + suffix,
            config=self.config + suffix,
            base_config=self.base_config or self.config,
            options={**self.options, **options},
            **changes,
        )


def _splits(num_train, num_test):
    """Returns a paper's splits and ours beside them.

    320 test scenes leave a standard error of about 0.005 on the ARI, hence the larger test. The
    best checkpoint is chosen on training scenes: training never sees a label, and the test scenes
    stay untouched.
    """
    return {
        "train": Split("train", 0, num_train),
        "validation": Split("train", 0, 320),
        "test": Split("test", 0, 320),
        "test_large": Split("test", 0, num_test),
    }


def _filtered_splits(tested):
    """Returns splits of CLEVR with few objects to train, and with `tested` objects to test."""
    return {
        "train": Split("train", 0, None, _FEW),
        "validation": Split("train", 0, 320, _FEW),
        "test": Split("test", 0, 320, tested),
        "test_large": Split("test", 0, None, tested),
    }


def _scenes(num_train, num_test, test_start, splits=None, **more):
    """Returns the fields of a `Protocol` that say which scenes are built and used."""
    return {
        "splits": splits or _splits(num_train, num_test),
        "num_train": num_train,
        "num_test": num_test,
        "test_start": test_start,
        **more,
    }


# Names of the papers, as reports print them.
_GREFF_2017 = "Greff et al. 2017"
_GREFF = "Greff et al. 2019"
_CLEVR6_USERS = "Greff et al. 2019, Locatello et al. 2020"
_USERS = "Greff et al. 2019, Locatello et al. 2020, Emami et al. 2021"
_EMAMI = "Emami et al. 2021"
_KABRA = SYNTHETIC_SETS
_ANCIUKEVICIUS = "Anciukevicius et al. 2020"
_ZABLOTSKAIA = "Zablotskaia et al. 2020"

# Numbers of objects.
_FEW = (3, 6)
_MANY = (7, 10)

# Locatello 2020 and Emami 2021: the first 60,000 scenes to train, the next 320 to test.
_FIRST = _scenes(60_000, 10_000, test_start=60_000)

# Anciukevicius 2020: 100,000 scenes, the first 90,000 to train, all others to test.
_DEPTH = _scenes(90_000, 10_000, test_start=90_000)

# Generated with 3 to 6 objects: as many as the published file has among its first 70,000.
_CLEVR6 = _scenes(37_400, 2_000, test_start=70_000)

# Generated with 3 to 10 objects. Emami 2021 trains on few objects and tests on many.
_CLEVR = _scenes(70_000, 4_000, 70_000, _splits(70_000, None))
_CLEVR10 = _scenes(70_000, 4_000, 70_000, _filtered_splits(_MANY))

# Rows and columns of the published 240 x 320 images; generated images show this window alone. It is
# the same in all papers but Engelcke et al. 2020, who cut 24:216.
_CLEVR_CROP = ((29, 221), (64, 256))

# Zablotskaia 2020 on the sets of van Steenkiste 2018. At 64 x 64 they are 21 GB when unpacked,
# twice that in colour: `data.num_train` takes fewer.
_BALLS = _scenes(50_000, 10_000, test_start=60_000, num_frames=51)

_ROOM_CLIPS = _scenes(2_000, 320, test_start=10_000, num_frames=16)

# Zablotskaia 2020: videos of the training split to train, trimmed ones of the validation split to
# test. The rendered videos in their place are fewer.
_CLEVRER = _scenes(2_000, 320, 10_000, _splits(None, None), num_frames=40)
_CLEVRER_FULL = _scenes(10_000, 5_000, 10_000, _splits(None, None), num_frames=40)


# fmt: off
_SPRITES = {
    "tetris": [
        # name                                variant                 side  C  slots  users
        ("tetris",                            "",                      35,  3,  4,    _USERS),
    ],
    "multi_dsprites": [
        ("multi_dsprites",                    "_colored_on_grayscale", 64,  3,  6,    _USERS),
        ("multi_dsprites_binarized",          "_binarized",            64,  1,  4,    _KABRA),
        # Engelcke et al. 2020 cut their test and validation sets from the front of the file.
        ("multi_dsprites_colored_on_colored", "_colored_on_colored",   64,  3,  5,    _KABRA),
    ],
}
_ROOMS = {
    "objects_room": [
        ("objects_room",                      "",                      64,  3,  7,    _KABRA),
    ],
}
"""Dataset -> rows; each makes a protocol on generated and one on published files."""

_SPRITES_WITH_DEPTH = [
    # name                              dataset                 config                        slots
    ("multi_dsprites_colored_on_black", "multi_dsprites",       "generated_colored_on_black", 5),
    ("overlapping_polygons",            "overlapping_polygons", "generated",                  3),
]

_CLEVR_RENDERED = [
    # name                      config: raycast_...        side C  slots scenes    users
    ("clevr6",                  "clevr6",                  128, 3, 7,    _CLEVR6,  _CLEVR6_USERS),
    ("clevr6_96",               "clevr6_96",               96,  3, 7,    _CLEVR6,  _EMAMI),
    ("clevr10",                 "clevr",                   128, 3, 11,   _CLEVR10, _EMAMI),
    ("clevr10_96",              "clevr_96",                96,  3, 11,   _CLEVR10, _EMAMI),
    ("clevr",                   "clevr",                   128, 3, 11,   _CLEVR,   _KABRA),
    ("clevr6_no_green_spheres", "clevr6_no_green_spheres", 128, 3, 7,    _CLEVR6,  _GREFF),
    ("clevr6_grayscale",        "clevr6_grayscale",        128, 1, 7,    _CLEVR6,  _GREFF),
    ("clevr3",                  "clevr3",                  96,  3, 4,    _DEPTH,   _ANCIUKEVICIUS),
    ("clevr5",                  "clevr5",                  96,  3, 6,    _DEPTH,   _ANCIUKEVICIUS),
    ("clevr5_vbg",              "clevr5_vbg",              96,  3, 6,    _DEPTH,   _ANCIUKEVICIUS),
]

_CLEVR_PUBLISHED = [
    # name                side slots splits                   users
    ("clevr6_public",     128, 7,    _filtered_splits(_FEW),  _CLEVR6_USERS),
    ("clevr6_96_public",  96,  7,    _filtered_splits(_FEW),  _EMAMI),
    ("clevr10_public",    128, 11,   _filtered_splits(_MANY), _EMAMI),
    ("clevr10_96_public", 96,  11,   _filtered_splits(_MANY), _EMAMI),
    ("clevr_public",      128, 11,   _splits(70_000, None),   _KABRA),
]

_VIDEOS = [
    # name                 dataset               config                side C  slots scenes
    ("balls4_binary",      "bouncing_balls",     "balls4_binary",      64,  1, 5,    _BALLS),
    ("balls4_color",       "bouncing_balls",     "balls4_color",       64,  3, 5,    _BALLS),
    # More objects than in training.
    ("balls678_binary",    "bouncing_balls",     "balls678_binary",    64,  1, 9,    _BALLS),
    ("balls678_color4",    "bouncing_balls",     "balls678_color4",    64,  3, 9,    _BALLS),
    ("balls678_color8",    "bouncing_balls",     "balls678_color8",    64,  3, 9,    _BALLS),
    ("balls3_curtain",     "bouncing_balls",     "balls3_curtain",     64,  1, 4,    _BALLS),
    ("balls4_color_32",    "bouncing_balls",     "balls4_color",       32,  3, 5,    _BALLS),
    ("balls4_binary_32",   "bouncing_balls",     "balls4_binary",      32,  1, 5,    _BALLS),
    ("balls678_color4_32", "bouncing_balls",     "balls678_color4",    32,  3, 9,    _BALLS),
    ("video_objects_room", "video_objects_room", "generated",          64,  3, 7,    _ROOM_CLIPS),
    ("clevrer",            "clevrer",            "raycast_clevrer",    64,  3, 7,    _CLEVRER),
    ("clevrer345",         "clevrer",            "raycast_clevrer345", 64,  3, 6,    _CLEVRER),
    ("clevrer6",           "clevrer",            "raycast_clevrer6",   64,  3, 7,    _CLEVRER),
    ("clevrer345_32",      "clevrer",            "raycast_clevrer345", 32,  3, 6,    _CLEVRER),
    ("clevrer345_public",  "clevrer",            "public_clevrer345",  64,  3, 6,    _CLEVRER_FULL),
    ("clevrer6_public",    "clevrer",            "public_clevrer6",    64,  3, 7,    _CLEVRER_FULL),
]
# fmt: on


def _protocol(name, dataset, config, side, channels, num_slots, scenes, citation):
    """Makes the protocol of one row; `scenes` is a result of `_scenes`."""
    return Protocol(
        name,
        dataset,
        config,
        image_size=(side, side, channels),
        num_slots=num_slots,
        citation=citation,
        **scenes,
    )


def _generated_and_published(tables):
    """Yields the protocols of `tables` (dataset -> rows) on generated, then on published files."""
    for source, suffix in (("generated", ""), ("public", "_public")):
        for dataset, rows in tables.items():
            for name, variant, side, channels, num_slots, citation in rows:
                yield _protocol(
                    name + suffix,
                    dataset,
                    source + variant,
                    side,
                    channels,
                    num_slots,
                    _FIRST,
                    citation,
                )


def _clevr():
    """Yields the protocols on CLEVR."""
    for name, config, *row in _CLEVR_RENDERED:
        yield _protocol(name, "clevr_with_masks", f"raycast_{config}", *row)

    for name, side, num_slots, splits, citation in _CLEVR_PUBLISHED:
        # The first 70,000 records to train, those after them to test.
        scenes = _scenes(70_000, 30_000, 70_000, splits, crop=_CLEVR_CROP)
        yield _protocol(name, "clevr_with_masks", "public", side, 3, num_slots, scenes, citation)


def _videos():
    """Yields the protocols on video clips."""
    for name, dataset, config, side, channels, num_slots, scenes in _VIDEOS:
        citation = _ZABLOTSKAIA
        if dataset == "video_objects_room":
            citation = _GREFF

        # The builders' own configs render 64 x 64 pixels; other sizes are an option of theirs.
        full_name = name.removesuffix(f"_{side}")
        protocol = _protocol(full_name, dataset, config, 64, channels, num_slots, scenes, citation)
        if side != 64:
            protocol = protocol.with_image_size(side)
        yield protocol


def _table():
    """Returns all protocols by name."""
    table = [
        *_generated_and_published(_SPRITES),
        *(
            _protocol(name, dataset, config, 64, 3, num_slots, _DEPTH, _ANCIUKEVICIUS)
            for name, dataset, config, num_slots in _SPRITES_WITH_DEPTH
        ),
        _protocol("shapes", "shapes", "generated", 28, 1, 4, _FIRST, _GREFF_2017),
        *_generated_and_published(_ROOMS),
        *_clevr(),
        *_videos(),
    ]
    return {protocol.name: protocol for protocol in table}


PROTOCOLS = _table()
"""Name -> `Protocol`."""


def get(name):
    """Returns the `Protocol` called `name`.

    Raises:
      UserError: an unknown name; lists the nearest and all valid names.
    """
    if name not in PROTOCOLS:
        raise unknown_name("protocol", name, PROTOCOLS)
    return PROTOCOLS[name]


def sized(name, num_train=None, num_test=None):
    """Returns the protocol called `name`, cut to the first scenes where a number is given.

    Raises:
      UserError: as for `get`.
    """
    protocol = get(name)
    if num_train is None and num_test is None:
        return protocol
    return protocol.with_sizes(num_train or protocol.num_train, num_test or protocol.num_test)


def default_protocol(dataset, size=None, channels=None):
    """Returns the protocol that the papers use on a dataset, generated offline.

    Args:
      dataset: folder below `datasets/`.
      size: (H, W); protocols of this size are preferred.
      channels: C; among those, protocols with this number of channels are preferred.

    Returns:
      The first of the preferred protocols in the order of `PROTOCOLS`.

    Raises:
      UserError: the dataset has no protocol; lists the datasets that have one.
    """
    found = [protocol for protocol in PROTOCOLS.values() if protocol.dataset == dataset]
    if not found:
        datasets = {protocol.dataset for protocol in PROTOCOLS.values()}
        raise unknown_name("dataset", dataset, datasets)

    of_size = [protocol for protocol in found if protocol.image_size[:2] == size] or found
    for protocol in of_size:
        if protocol.image_size[2] == channels:
            return protocol
    return of_size[0]
