"""Protocols: the papers' numbers, descriptions, and errors."""

import dataclasses
import importlib

import pytest

from tfobj.data import protocols
from tfobj.errors import UserError

DATASETS_WITH_DEPTH = (
    "multi_dsprites_colored_on_black",
    "overlapping_polygons",
    "clevr3",
    "clevr5",
    "clevr5_vbg",
)
SYNTHETIC = [
    name
    for name, p in protocols.PROTOCOLS.items()
    if p.dataset in ("tetris", "multi_dsprites") and name not in DATASETS_WITH_DEPTH
]


def make_builder(protocol):
    """Returns the TFDS builder that `packed.open_split` would build."""
    module = importlib.import_module(
        f"tfobj.datasets.{protocol.dataset}.{protocol.dataset}_dataset_builder"
    )
    config = protocol.config
    if protocol.base_config is not None:
        config = dataclasses.replace(
            module.Builder.builder_configs[protocol.base_config], name=config, **protocol.options
        )
    return module.Builder(config=config)


@pytest.mark.parametrize("name", SYNTHETIC)
def test_synthetic_sets_have_the_papers_splits(name):
    protocol = protocols.get(name)
    sizes = {split: chosen.stop - chosen.start for split, chosen in protocol.splits.items()}
    assert sizes == {"train": 60_000, "validation": 320, "test": 320, "test_large": 10_000}


@pytest.mark.parametrize("name", DATASETS_WITH_DEPTH)
def test_sets_with_depth_have_the_papers_splits(name):
    protocol = protocols.get(name)
    assert protocol.citation == "Anciukevicius et al. 2020"
    assert protocol.splits["train"] == protocols.Split("train", 0, 90_000)
    assert protocol.splits["test_large"] == protocols.Split("test", 0, 10_000)


@pytest.mark.parametrize("name", list(protocols.PROTOCOLS))
def test_every_protocol_can_be_trained_and_tested(name):
    protocol = protocols.get(name)
    assert protocol.name == name
    assert list(protocol.splits) == ["train", "validation", "test", "test_large"]
    assert [split.source for split in protocol.splits.values()] == [
        "train",
        "train",
        "test",
        "test",
    ]
    for split, size in (("validation", 320), ("test", 320)):
        assert (protocol.splits[split].start, protocol.splits[split].stop) == (0, size)
    # Validation scenes are training scenes, and the large test holds the small one.
    assert protocol.splits["validation"].objects == protocol.splits["train"].objects
    assert protocol.splits["test_large"].objects == protocol.splits["test"].objects


@pytest.mark.parametrize("name", list(protocols.PROTOCOLS))
def test_every_protocol_fits_its_builder(name):
    protocol = protocols.get(name)
    builder = make_builder(protocol)
    config = builder.builder_config
    features = builder.info.features
    height, width, channels = features["image" if protocol.num_frames is None else "video"].shape[
        -3:
    ]

    assert protocol.num_frames is None or features["video"].shape[0] == protocol.num_frames

    if protocol.crop is None:
        assert (height, width, channels) == protocol.image_size
    else:
        (top, bottom), (left, right) = protocol.crop
        assert (
            bottom <= height
            and right <= width
            and bottom - top == right - left
            and channels == protocol.image_size[2]
        )

    most = max(
        (split.objects[1] for split in protocol.splits.values() if split.objects), default=None
    )
    entities = features["factors"]["visibility"].shape[0] if most is None else 1 + most
    # Published videos of 3 to 5 objects come with room for 6; the background of rooms is sky,
    # floor and two halves of the walls.
    background = 4 if protocol.dataset in ("objects_room", "video_objects_room") else 1

    assert protocol.num_slots == entities - 1 + background - (name == "clevrer345_public")
    assert config.public == name.endswith("_public")
    assert (config.num_train, config.num_test, config.test_start) == (
        protocol.num_train,
        protocol.num_test,
        protocol.test_start,
    )
    for split in protocol.splits.values():
        assert (
            split.objects is not None
            or split.stop is None
            or split.stop <= getattr(protocol, f"num_{split.source}")
        )


def test_description_says_which_scenes():
    assert protocols.get("tetris").describe("test") == (
        "tetris/test: scenes 0-319 of tetris/generated split test, 35x35x3; splits of "
        "Greff et al. 2019, Locatello et al. 2020, Emami et al. 2021"
    )


def test_description_names_filter_and_crop():
    protocol = dataclasses.replace(
        protocols.get("tetris"),
        crop=((29, 221), (64, 256)),
        splits={"train": protocols.Split("train", objects=(3, 6))},
    )
    text = protocol.describe("train")
    assert "scenes 0-end" in text
    assert "of those with 3-6 objects, cropped to rows 29:221, columns 64:256" in text


def test_smaller_sizes_make_another_config():
    small = protocols.get("tetris").with_sizes(num_train=200, num_test=50)
    assert (small.name, small.config, small.base_config) == (
        "tetris_200_50",
        "generated_200_50",
        "generated",
    )
    assert {name: split.stop for name, split in small.splits.items()} == {
        "train": 200,
        "validation": 200,
        "test": 50,
        "test_large": 50,
    }
    with pytest.raises(UserError, match="`num_train` and `num_test` must be at least 1"):
        protocols.get("tetris").with_sizes(0, 50)


def test_smaller_sizes_keep_other_options():
    protocol = dataclasses.replace(
        protocols.get("clevr6"),
        config="raycast_clevr6_64",
        base_config="raycast_clevr6",
        options={"image_size": 64, "seed": 3},
    )
    small = protocol.with_sizes(40, 10)

    assert (small.config, small.base_config) == ("raycast_clevr6_64_40_10", "raycast_clevr6")
    assert small.options == {"image_size": 64, "seed": 3, "num_train": 40, "num_test": 10}

    smaller = small.with_sizes(4, 1)
    assert (smaller.options["num_train"], smaller.num_train, smaller.splits["test"].stop) == (
        4,
        4,
        1,
    )

    config = make_builder(dataclasses.replace(small, image_size=(64, 64, 3))).builder_config
    assert (config.image_size, config.seed, config.num_train, config.test_start) == (
        64,
        3,
        40,
        70_000,
    )


def test_smaller_sizes_of_filtered_splits_take_what_there_is():
    small = protocols.get("clevr10").with_sizes(100, 50)
    assert (
        small.splits["train"]
        == small.splits["validation"]
        == protocols.Split("train", 0, None, (3, 6))
    )
    assert small.splits["test"] == protocols.Split("test", 0, None, (7, 10))


@pytest.mark.parametrize(
    "name, sizes",
    [("tetris", (60_000, 10_000)), ("clevr6", (37_400, 2_000)), ("clevr5", (90_000, 10_000))],
)
def test_one_size_leaves_the_other(name, sizes):
    assert protocols.sized(name) is protocols.get(name)
    fewer = protocols.sized(name, num_train=100)
    assert fewer.options == {"num_train": 100, "num_test": sizes[1]}
    assert fewer.splits["test"].stop == 320 and fewer.splits["test_large"].stop == sizes[1]
    assert protocols.sized(name, num_test=10).splits["train"].stop == sizes[0]


def test_the_quick_build_of_clevr_is_the_default_config():
    """`tfds build datasets/clevr_with_masks` builds data.num_train=1680, data.num_test=320."""
    builder = make_builder(protocols.sized("clevr6", 1_680, 320))
    assert builder.builder_config is type(builder).BUILDER_CONFIGS[0]


def test_clevr_protocols():
    public = protocols.get("clevr6_public")
    assert public.crop == ((29, 221), (64, 256)) and public.image_size == (128, 128, 3)
    assert public.splits["train"] == protocols.Split("train", 0, None, (3, 6))

    config = make_builder(public).builder_config
    # Records 0-69,999 to train, those from 70,000 on to test.
    assert (config.num_train, config.test_start, config.num_test) == (70_000, 70_000, 30_000)
    assert protocols.get("clevr10_96_public").splits["test"] == protocols.Split(
        "test", 0, 320, (7, 10)
    )
    assert (
        protocols.get("clevr6_96").image_size
        == protocols.get("clevr10_96").image_size
        == (96, 96, 3)
    )
    assert protocols.get("clevr6_grayscale").image_size == (128, 128, 1)

    slots = {
        name: protocols.get(name).num_slots
        for name in ("clevr6", "clevr10", "clevr3", "clevr5", "clevr5_vbg")
    }

    assert slots == {"clevr6": 7, "clevr10": 11, "clevr3": 4, "clevr5": 6, "clevr5_vbg": 6}
    assert protocols.get("clevr6_public").describe("test") == (
        "clevr6_public/test: scenes 0-319 of clevr_with_masks/public split test, "
        "of those with 3-6 objects, cropped to rows 29:221, columns 64:256, 128x128x3; "
        "splits of Greff et al. 2019, Locatello et al. 2020"
    )


def test_default_protocols():
    assert protocols.default_protocol("tetris").name == "tetris"
    default = protocols.default_protocol("multi_dsprites")
    assert (default.config, default.num_slots) == ("generated_colored_on_grayscale", 6)
    assert protocols.default_protocol("clevr_with_masks").name == "clevr6"
    assert protocols.default_protocol("overlapping_polygons").num_slots == 3


def test_unknown_names_give_the_nearest():
    with pytest.raises(UserError, match="Unknown protocol 'tetriss'. Did you mean 'tetris'"):
        protocols.get("tetriss")
    with pytest.raises(
        UserError, match="Unknown dataset 'multi_sprites'. Did you mean 'multi_dsprites'"
    ):
        protocols.default_protocol("multi_sprites")
    with pytest.raises(
        UserError, match="Unknown split of protocol 'tetris' 'tests'. Did you mean 'test'"
    ):
        protocols.get("tetris").describe("tests")
