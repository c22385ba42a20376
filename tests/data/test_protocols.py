"""Protocols: the papers' numbers, descriptions, and errors."""

import dataclasses

import pytest

from tfobj.data import protocols
from tfobj.errors import UserError


@pytest.mark.parametrize("name", list(protocols.PROTOCOLS))
def test_every_protocol_has_the_papers_splits(name):
    protocol = protocols.get(name)
    assert protocol.name == name
    sizes = {split: chosen.stop - chosen.start for split, chosen in protocol.splits.items()}
    assert sizes == {"train": 60_000, "validation": 320, "test": 320, "test_large": 10_000}
    assert protocol.splits["train"].source == "train"
    assert protocol.splits["test"] == protocols.Split("test", 0, 320)


@pytest.mark.parametrize("name", list(protocols.PROTOCOLS))
def test_every_protocol_fits_its_builder(name):
    import importlib

    protocol = protocols.get(name)
    module = importlib.import_module(f"tfobj.datasets.{protocol.dataset}.{protocol.dataset}_dataset_builder")
    builder = module.Builder(config=protocol.config)
    assert builder.info.features["image"].shape == protocol.image_size
    assert builder.info.features["factors"]["visibility"].shape == (protocol.num_slots,)
    assert builder.builder_config.public == name.endswith("_public")


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
    assert (small.name, small.config, small.base_config) == ("tetris_200_50", "generated_200_50", "generated")
    assert {name: split.stop for name, split in small.splits.items()} == {"train": 200, "validation": 200, "test": 50, "test_large": 50}
    with pytest.raises(UserError, match="`num_train` and `num_test` must be at least 1"):
        protocols.get("tetris").with_sizes(0, 50)


def test_default_protocols():
    assert protocols.default_protocol("tetris").name == "tetris"
    default = protocols.default_protocol("multi_dsprites")
    assert (default.config, default.num_slots) == ("generated_colored_on_grayscale", 6)


def test_unknown_names_give_the_nearest():
    with pytest.raises(UserError, match="Unknown protocol 'tetriss'. Did you mean 'tetris'"):
        protocols.get("tetriss")
    with pytest.raises(UserError, match="Unknown dataset 'multi_sprites'. Did you mean 'multi_dsprites'"):
        protocols.default_protocol("multi_sprites")
    with pytest.raises(UserError, match="Unknown split of protocol 'tetris' 'tests'. Did you mean 'test'"):
        protocols.get("tetris").describe("tests")
