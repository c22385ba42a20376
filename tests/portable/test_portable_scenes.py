"""Scenes without TFDS: those of the builders, bit for bit, drawn anew or through files."""

import numpy as np
import pytest

from tfobj.data import packed, protocols
from tfobj.data.packed import SceneArrays
from tfobj.errors import UserError
from tfobj.portable import artifact, scenes


@pytest.mark.parametrize(
    "name",
    [
        "tetris",
        "multi_dsprites_binarized",
        "multi_dsprites_colored_on_black",
        "overlapping_polygons",
        "balls4_color_32",
        "balls3_curtain",
    ],
)
def test_drawn_scenes_are_those_of_the_builder(name, tmp_path):
    protocol = protocols.get(name).with_sizes(13, 6)
    for split, count in (("train", 13), ("validation", 13), ("test", 6)):
        built = packed.open_split(protocol, split, tmp_path)
        drawn = scenes.generate(protocol, split)
        assert len(drawn) == count
        np.testing.assert_array_equal(drawn.image, built.image)
        np.testing.assert_array_equal(drawn.mask, built.mask)


def test_fewer_scenes_are_the_first_ones():
    protocol = protocols.get("multi_dsprites").with_sizes(8, 8)
    few = scenes.generate(protocol, "train", 3, with_masks=False)
    assert few.mask is None
    np.testing.assert_array_equal(few.image, scenes.generate(protocol, "train").image[:3])


@pytest.mark.parametrize("protocol", [protocols.get("tetris_public"), None])
def test_what_cannot_be_drawn_must_travel(protocol):
    with pytest.raises(UserError, match="Export with --with_data=N"):
        scenes.generate(protocol, "train")


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return SceneArrays(
        rng.integers(0, 256, (9, 4, 5, 3), dtype=np.uint8),
        rng.integers(0, 3, (9, 4, 5), dtype=np.uint8),
    )


def test_files_give_back_the_scenes(tmp_path, arrays, monkeypatch):
    monkeypatch.setattr(artifact, "PART_BYTES", 200)
    assert scenes.write(tmp_path, "train", arrays) == [f"train_{i:03d}.npz" for i in range(5)]
    back = scenes.read(tmp_path)
    np.testing.assert_array_equal(back.image, arrays.image)
    np.testing.assert_array_equal(back.mask, arrays.mask)
    assert scenes.read(tmp_path, "evaluation") is None
    (tmp_path / "train_002.npz").unlink()
    with pytest.raises(
        UserError, match="must hold all parts of 9 scenes. Received: 7 scenes in 4 files"
    ):
        scenes.read(tmp_path)


def test_a_file_of_the_user_is_read(tmp_path, arrays):
    np.savez(tmp_path / "mine.npz", image=arrays.image)
    back = scenes.read(tmp_path / "mine.npz")
    assert back.mask is None
    assert len(back) == 9
    np.savez(tmp_path / "floats.npz", image=arrays.image / 255.0)
    with pytest.raises(
        UserError, match=r"must hold `image`, uint8 \[n, \(T,\) H, W, C\]. Received: float64"
    ):
        scenes.read(tmp_path / "floats.npz")
    with pytest.raises(UserError, match="is missing"):
        scenes.read(tmp_path / "none.npz")


@pytest.mark.parametrize(
    "num_frames, message",
    [
        (None, r"must be images of shape \[35, 35, 3\].*Received: \[4, 5, 3\]"),
        (9, r"must be clips of shape \[9, 35, 35, 3\].*Received: \[4, 5, 3\]"),
    ],
)
def test_scenes_of_another_size_are_refused(arrays, num_frames, message):
    manifest = {"image_shape": [35, 35, 3], "num_frames": num_frames}
    with pytest.raises(UserError, match=f"Training scenes {message}"):
        scenes.check(arrays, manifest, "Training scenes")
