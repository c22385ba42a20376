"""Scenes to look at are those of the built data set, and nothing is built for them."""

import dataclasses

import numpy as np
import pytest

from tfobj.data import packed, preview, protocols
from tfobj.errors import UserError

SPRITES = protocols.sized("multi_dsprites", 12, 16)
FILTERED = dataclasses.replace(
    SPRITES,
    splits={
        "train": protocols.Split("train", 0, None, objects=(2, 3)),
        "test": protocols.Split("test", 1, None, objects=(4, 5)),
    },
)
CASES = {
    "with amodal masks": protocols.sized("overlapping_polygons", 12, 8),
    "of some numbers of objects": FILTERED,
    "clips": protocols.sized("balls4_binary_32", 3, 3),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("split", ["test", "train"])
def test_the_scenes_are_those_of_the_built_data_set(case, split, tmp_path_factory, data_dir):
    protocol = CASES[case]
    expected = packed.open_split(protocol, split, data_dir).slice(1, 3)
    for folder in (tmp_path_factory.mktemp("nothing"), data_dir):
        found = preview.open_scenes(protocol, split, 1, 2, folder)
        for name in ("image", "mask", "amodal_masks"):
            one = getattr(found, name)
            other = getattr(expected, name)
            assert (one is None) == (other is None)
            if one is not None:
                np.testing.assert_array_equal(one, other)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Folder in which data sets are built."""
    return tmp_path_factory.mktemp("built")


def test_nothing_is_built_of_a_data_set_of_70_000(tmp_path):
    protocol = protocols.get("tetris")
    scenes = preview.open_scenes(protocol, "train", 50_000, 24, tmp_path)
    assert len(scenes) == 24
    assert not list(tmp_path.iterdir())
    last = preview.open_scenes(protocol, "train", 59_998, 24, tmp_path)
    assert len(last) == 2


@pytest.mark.parametrize("first", [8, 1000])
def test_scenes_beyond_the_split_are_refused(tmp_path, first):
    with pytest.raises(UserError, match=f"`first` must be in 0 ... 7. Received: {first}"):
        preview.open_scenes(CASES["with amodal masks"], "test", first, 5, tmp_path)
