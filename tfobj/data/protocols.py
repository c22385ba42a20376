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
      num_train: scenes that the config builds as TFDS split `train`.
      num_test: the same of `test`.
      test_start: number of the first test scene in its source (the seed's sequence, the published file).
      num_frames: frames of a clip; None: a scene is a picture.
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
        parts = [
            f"{'scenes' if self.num_frames is None else 'clips'} {chosen.start}-{last} of {self.dataset}/{self.config} split {chosen.source}"
        ]
        if chosen.objects is not None:
            parts.append(f"of those with {chosen.objects[0]}-{chosen.objects[1]} objects")
        if self.crop is not None:
            (top, bottom), (left, right) = self.crop
            parts.append(f"cropped to rows {top}:{bottom}, columns {left}:{right}")
        frames = "" if self.num_frames is None else f"{self.num_frames} frames of "
        parts.append(frames + "x".join(map(str, self.image_size)))
        return f"{self.name}/{split}: {', '.join(parts)}; splits of {self.citation}"

    def with_sizes(self, num_train, num_test):
        """Returns the protocol on a smaller build of its dataset, under another name.

        Its scenes are the first ones of the full splits. For tests, demonstrations and quick looks:
        a few hundred scenes of the simpler datasets are built in a second. A split of scenes with certain
        numbers of objects becomes all of those that the smaller build has.

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
        sizes = {"num_train": num_train, "num_test": num_test}
        size = {"train": num_train, "test": num_test}

        def stop(split):
            if split.objects is not None:
                return None
            return size[split.source] if split.stop is None else min(split.stop, size[split.source])

        return self._with_options(
            suffix,
            sizes,
            splits={
                name: dataclasses.replace(split, stop=stop(split))
                for name, split in self.splits.items()
            },
            **sizes,
        )

    def with_image_size(self, size):
        """Returns the protocol on scenes made at `size` x `size`, under another name: the same stories in fewer pixels."""
        return self._with_options(
            f"_{size}", {"image_size": size}, image_size=(size, size, self.image_size[2])
        )

    def _with_options(self, suffix, options, **changes):
        """Returns the protocol, with `changes`, on a build of its dataset with other options; `suffix` tells both from the original."""
        return dataclasses.replace(
            self,
            name=self.name + suffix,
            config=self.config + suffix,
            base_config=self.base_config or self.config,
            options={**self.options, **options},
            **changes,
        )


def _splits(num_train, num_test):
    """Returns a paper's splits, and ours beside it.

    320 test scenes leave a standard error of about 0.005 on the ARI, hence the larger test. The best checkpoint is
    chosen on training scenes: training never sees a label, and the test scenes stay untouched.
    """
    return {
        "train": Split("train", 0, num_train),
        "validation": Split("train", 0, 320),
        "test": Split("test", 0, 320),
        "test_large": Split("test", 0, num_test),
    }


# Locatello 2020 and Emami 2021: the first 60,000 scenes to train, the next 320 to test.
_SPLITS = _splits(60_000, 10_000)
_USERS = "Greff et al. 2019, Locatello et al. 2020, Emami et al. 2021"
_CLEVR6_USERS = "Greff et al. 2019, Locatello et al. 2020"
_EMAMI = "Emami et al. 2021"
_ANCIUKEVICIUS = "Anciukevicius et al. 2020"
_ZABLOTSKAIA = "Zablotskaia et al. 2020"

# Rows and columns of the 240x320 images; the same window in all papers but Engelcke et al. 2020, who cut 24:216.
_CLEVR_CROP = ((29, 221), (64, 256))
_FEW, _MANY = (3, 6), (7, 10)


def _tetris(name, config):
    return Protocol(name, "tetris", config, _SPLITS, (35, 35, 3), num_slots=4, citation=_USERS)


def _multi_dsprites(name, config, channels, num_slots, citation):
    return Protocol(
        name, "multi_dsprites", config, _SPLITS, (64, 64, channels), num_slots, citation
    )


def _scenes_with_depth(name, dataset, config, size, num_slots):
    """Anciukevicius 2020: 100,000 scenes, the first 90,000 to train; all of the rest is the test there."""
    return Protocol(
        name,
        dataset,
        config,
        _splits(90_000, 10_000),
        (size, size, 3),
        num_slots,
        _ANCIUKEVICIUS,
        num_train=90_000,
        num_test=10_000,
        test_start=90_000,
    )


def _clevr_generated(name, size, channels=3, num_slots=7, citation=_CLEVR6_USERS):
    """Scenes that are generated with 3 to 6 objects: as many as the published file has among its first 70,000."""
    return Protocol(
        name,
        "clevr_with_masks",
        f"raycast_{name}",
        _splits(37_400, 2_000),
        (size, size, channels),
        num_slots,
        citation,
        num_train=37_400,
        num_test=2_000,
        test_start=70_000,
    )


def _clevr_filtered(name, config, size, tested, citation, num_slots, crop=None):
    """The first 70,000 of scenes with 3 to 10 objects to train, those after them to test; of both, some numbers of objects.

    `tested` is the number of objects of the scenes to test on. Training is always on 3 to 6, unless it is None: then all.
    """
    trained = tested and _FEW
    splits = {
        "train": Split("train", 0, None if trained else 70_000, trained),
        "validation": Split("train", 0, 320, trained),
        "test": Split("test", 0, 320, tested),
        "test_large": Split("test", 0, None, tested),
    }
    num_test = 30_000 if config == "public" else 4_000
    return Protocol(
        name,
        "clevr_with_masks",
        config,
        splits,
        (size, size, 3),
        num_slots,
        citation,
        crop,
        num_train=70_000,
        num_test=num_test,
        test_start=70_000,
    )


def _clevr():
    """Returns the protocols on CLEVR. The generated scenes show the crop of the published ones."""
    published = {"config": "public", "crop": _CLEVR_CROP}
    return [
        _clevr_generated("clevr6", 128),
        _clevr_generated("clevr6_96", 96, citation=_EMAMI),
        # Emami 2021 trains on few objects and tests on many.
        _clevr_filtered("clevr10", "raycast_clevr", 128, _MANY, _EMAMI, num_slots=11),
        _clevr_filtered("clevr10_96", "raycast_clevr_96", 96, _MANY, _EMAMI, num_slots=11),
        _clevr_filtered("clevr", "raycast_clevr", 128, None, SYNTHETIC_SETS, num_slots=11),
        _clevr_generated("clevr6_no_green_spheres", 128, citation="Greff et al. 2019"),
        _clevr_generated("clevr6_grayscale", 128, channels=1, citation="Greff et al. 2019"),
        _scenes_with_depth("clevr3", "clevr_with_masks", "raycast_clevr3", 96, num_slots=4),
        _scenes_with_depth("clevr5", "clevr_with_masks", "raycast_clevr5", 96, num_slots=6),
        _scenes_with_depth("clevr5_vbg", "clevr_with_masks", "raycast_clevr5_vbg", 96, num_slots=6),
        _clevr_filtered(
            "clevr6_public", size=128, tested=_FEW, citation=_CLEVR6_USERS, num_slots=7, **published
        ),
        _clevr_filtered(
            "clevr6_96_public", size=96, tested=_FEW, citation=_EMAMI, num_slots=7, **published
        ),
        _clevr_filtered(
            "clevr10_public", size=128, tested=_MANY, citation=_EMAMI, num_slots=11, **published
        ),
        _clevr_filtered(
            "clevr10_96_public", size=96, tested=_MANY, citation=_EMAMI, num_slots=11, **published
        ),
        _clevr_filtered(
            "clevr_public",
            size=128,
            tested=None,
            citation=SYNTHETIC_SETS,
            num_slots=11,
            **published,
        ),
    ]


def _rooms():
    """Returns the protocols on Objects Room: up to three objects."""
    table = []
    for source, suffix in (("generated", ""), ("public", "_public")):
        table.append(
            Protocol(
                f"objects_room{suffix}",
                "objects_room",
                source,
                _SPLITS,
                (64, 64, 3),
                num_slots=7,
                citation=SYNTHETIC_SETS,
            )
        )
    return table


def _balls(name, channels, num_slots):
    """Zablotskaia 2020 on the sets of van Steenkiste 2018: 50,000 clips to train, 10,000 to test. At 64 x 64 they are 21 GB when unpacked, in colour
    twice that: `data.num_train` takes fewer."""
    return Protocol(
        name,
        "bouncing_balls",
        name,
        _splits(50_000, 10_000),
        (64, 64, channels),
        num_slots,
        _ZABLOTSKAIA,
        num_train=50_000,
        num_frames=51,
    )


def _clevrer(name, config, num_slots):
    """Zablotskaia 2020: videos of the training split to train, trimmed ones of the validation split to test. The clips that stand in for them are rendered."""
    num_train, num_test = (10_000, 5_000) if config.startswith("public") else (2_000, 320)
    splits = _splits(None, None)
    return Protocol(
        name,
        "clevrer",
        config,
        splits,
        (64, 64, 3),
        num_slots,
        _ZABLOTSKAIA,
        num_train=num_train,
        num_test=num_test,
        test_start=10_000,
        num_frames=40,
    )


def _clips():
    """Returns the protocols on clips."""
    return [
        _balls("balls4_binary", 1, num_slots=5),
        _balls("balls4_color", 3, num_slots=5),
        # More objects than in training.
        _balls("balls678_binary", 1, num_slots=9),
        _balls("balls678_color4", 3, num_slots=9),
        _balls("balls678_color8", 3, num_slots=9),
        _balls("balls3_curtain", 1, num_slots=4),
        _balls("balls4_color", 3, num_slots=5).with_image_size(32),
        _balls("balls4_binary", 1, num_slots=5).with_image_size(32),
        _balls("balls678_color4", 3, num_slots=9).with_image_size(32),
        Protocol(
            "video_objects_room",
            "video_objects_room",
            "generated",
            _splits(2_000, 320),
            (64, 64, 3),
            7,
            "Greff et al. 2019",
            num_train=2_000,
            num_test=320,
            test_start=10_000,
            num_frames=16,
        ),
        _clevrer("clevrer", "raycast_clevrer", num_slots=7),
        _clevrer("clevrer345", "raycast_clevrer345", num_slots=6),
        _clevrer("clevrer6", "raycast_clevrer6", num_slots=7),
        _clevrer("clevrer345", "raycast_clevrer345", num_slots=6).with_image_size(32),
        _clevrer("clevrer345_public", "public_clevrer345", num_slots=6),
        _clevrer("clevrer6_public", "public_clevrer6", num_slots=7),
    ]


def _table():
    """Returns all protocols by name; each generated set that was published has a twin on the published files."""
    table = []
    for source, suffix in (("generated", ""), ("public", "_public")):
        table += [
            _tetris(f"tetris{suffix}", source),
            _multi_dsprites(
                f"multi_dsprites{suffix}", f"{source}_colored_on_grayscale", 3, 6, _USERS
            ),
            _multi_dsprites(
                f"multi_dsprites_binarized{suffix}", f"{source}_binarized", 1, 4, SYNTHETIC_SETS
            ),
            # Engelcke et al. 2020 cut their test and validation sets from the front of the file.
            _multi_dsprites(
                f"multi_dsprites_colored_on_colored{suffix}",
                f"{source}_colored_on_colored",
                3,
                5,
                SYNTHETIC_SETS,
            ),
        ]
    table += [
        _scenes_with_depth(
            "multi_dsprites_colored_on_black",
            "multi_dsprites",
            "generated_colored_on_black",
            64,
            num_slots=5,
        ),
        _scenes_with_depth(
            "overlapping_polygons", "overlapping_polygons", "generated", 64, num_slots=3
        ),
        Protocol(
            "shapes",
            "shapes",
            "generated",
            _SPLITS,
            (28, 28, 1),
            num_slots=4,
            citation="Greff et al. 2017",
        ),
        *_rooms(),
        *_clevr(),
        *_clips(),
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
    return protocol.with_sizes(num_train or protocol.num_train, num_test or protocol.num_test)


def default_protocol(dataset, size=None, channels=None):
    """Returns the protocol that the papers use on a dataset, generated offline.

    Args:
      dataset: folder below `datasets/`.
      size: (H, W); the first protocol of that size, if there is one, else the first of all.
      channels: C; of those of that size the first with so many channels, if there is one.

    Raises:
      UserError: if no protocol is written for the dataset; lists the datasets that have one.
    """
    found = [protocol for protocol in PROTOCOLS.values() if protocol.dataset == dataset]
    if not found:
        raise unknown_name(
            "dataset", dataset, {protocol.dataset for protocol in PROTOCOLS.values()}
        )
    found = [protocol for protocol in found if protocol.image_size[:2] == size] or found
    return next((protocol for protocol in found if protocol.image_size[2] == channels), found[0])
