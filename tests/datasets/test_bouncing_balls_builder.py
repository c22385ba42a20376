"""Bouncing balls: the stored clips, configs, and the published files with all that can be wrong with them."""

import functools
import json

import built_datasets
import h5py
import numpy as np
import pytest

from tfobj.datasets.bouncing_balls import bouncing_balls_dataset_builder, published_file
from tfobj.datasets.bouncing_balls.published_file import PublishedFile
from tfobj.datasets.generators import balls
from tfobj.errors import UserError

Builder = bouncing_balls_dataset_builder.Builder
Config = bouncing_balls_dataset_builder.BallsConfig
NAMES = {
    "balls4_binary": "balls4mass64.h5",
    "balls678_binary": "balls678mass64.h5",
    "balls3_curtain": "balls3curtain64.h5",
}
SIZES = {"train": 5, "validation": 2, "test": 3}


build = functools.partial(built_datasets.build, Builder, Config)


def schema(variant="balls4_binary", num_frames=4):
    return PublishedFile(NAMES[variant], variant, num_frames)


@pytest.fixture(scope="module")
def clips():
    """Ten clips of each set, of four frames."""
    return {
        variant: balls.clips(np.arange(10), seed=6, variant=variant, num_frames=4)
        for variant in NAMES
    }


@pytest.fixture
def write(tmp_path, clips):
    """Writes a file with the clips of `SIZES`, in that order, after `change` to its open h5py.File; returns its path."""

    def written(variant="balls4_binary", change=None):
        path, splits, start = tmp_path / NAMES[variant], {}, 0
        for split, size in SIZES.items():
            splits[split] = {
                name: values[start : start + size] for name, values in clips[variant].items()
            }
            start += size
        schema(variant).write(path, splits)
        if change is not None:
            with h5py.File(path, "r+") as file:
                change(file)
        return path

    return written


def replace(file, name, values, **options):
    del file[name]
    file.create_dataset(name, data=values, **options)


@pytest.mark.parametrize("variant", balls.VARIANTS)
def test_stored_clips_are_the_generators(tmp_path, variant):
    builder = build(
        tmp_path,
        variant=variant,
        num_train=3,
        num_test=2,
        num_validation=1,
        num_frames=6,
        image_size=24,
        seed=4,
    )
    for split, first, size in (("train", 0, 3), ("validation", 50_000, 1), ("test", 60_000, 2)):
        stored = built_datasets.contents(builder, split)
        expected = balls.clips(
            np.arange(first, first + size), seed=4, variant=variant, num_frames=6, size=24
        )
        maps = {name: stored[name] for name in ("video", "mask", "full_mask") if name in stored}
        found = {**maps, **stored["factors"], **stored["tracks"], **stored.get("scene", {})}
        assert found.keys() == expected.keys()
        for name, values in expected.items():
            assert found[name].dtype == values.dtype
            np.testing.assert_array_equal(found[name], values)
        np.testing.assert_array_equal(stored["index"], np.arange(first, first + size))
    assert dict(builder.info.metadata) == {"variant": variant, "seed": 4}


def test_configs():
    configs = Builder.builder_configs
    assert (
        [config.name for config in Builder.BUILDER_CONFIGS]
        == ["balls4_binary"]
        == [Builder.DEFAULT_BUILDER_CONFIG_NAME]
    )
    assert set(configs) == {
        *balls.VARIANTS,
        *(f"published_{variant}" for variant in balls.VARIANTS),
    }
    for name, config in configs.items():
        assert (config.num_train, config.num_test, config.test_start) == (50_000, 10_000, 60_000)
        assert config.public == name.startswith("published_") and name.endswith(config.variant)
    assert Builder(config="balls678_color8").clip_shape() == (51, 64, 64, 3, 9)
    assert Builder(config="balls3_curtain").clip_shape() == (51, 64, 64, 1, 4)
    assert Builder(config="published_balls4_color").clip_shape() == (51, 64, 64, 3, 5)
    assert Builder(config=Config(name="long", num_frames=100, image_size=32)).clip_shape() == (
        100,
        32,
        32,
        1,
        5,
    )
    assert set(Builder(config="balls4_color").info.features) == {
        "video",
        "mask",
        "factors",
        "tracks",
        "index",
    }
    assert {"scene", "full_mask"} < set(Builder(config="balls3_curtain").info.features)


def test_documents():
    metadata = Builder.get_metadata()
    assert (
        "papers test on" in metadata.description
        and "vansteenkiste2018relational" in metadata.citation
        and metadata.tags
    )
    for name in (*Builder.builder_configs, *NAMES.values(), published_file.LINK):
        assert name in metadata.description or name.startswith("published_")


def test_command_line_json_makes_a_config():
    options = json.loads(
        '{"name": "mine", "variant": "balls4_color", "num_train": 4, "num_test": 2, "num_frames": 9}'
    )
    assert Builder(config=Builder.builder_config_cls(**options)).info.features["video"].shape == (
        9,
        64,
        64,
        3,
    )


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(variant="balls4"), "Unknown variant 'balls4'. Did you mean 'balls4_"),
        (dict(image_size=8), "`image_size` must be at least 16. Received: image_size=8"),
        (
            dict(public=True, image_size=32),
            "`image_size` is an option of generated data; the published files have one size",
        ),
    ],
)
def test_config_errors(options, message):
    with pytest.raises(UserError, match=message) as error:
        Config(name="wrong", **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("variant", balls.VARIANTS)
def test_published_clips(tmp_path, write, clips, variant):
    """Each split is a group of the file, in which time comes first; the colours are made from the groups."""
    source = variant if variant in NAMES else variant.split("_")[0] + "_binary"
    path = write(source)
    with h5py.File(path) as file:
        assert {name: file[f"{name}/groups"].shape[:2] for name in file} == {
            "training": (4, 5),
            "validation": (4, 2),
            "test": (4, 3),
        }
    builder = build(
        tmp_path / "data",
        tmp_path,
        public=True,
        variant=variant,
        num_train=5,
        num_validation=2,
        num_test=2,
        num_frames=3,
    )
    expected, coloured = (
        clips[source],
        balls.clips(np.arange(10), seed=6, variant=variant, num_frames=4),
    )
    for split, first, size, number in (
        ("train", 0, 5, 0),
        ("validation", 5, 2, 50_000),
        ("test", 7, 2, 60_000),
    ):
        stored, chosen = built_datasets.contents(builder, split), slice(first, first + size)
        np.testing.assert_array_equal(stored["mask"], expected["mask"][chosen, :3])
        np.testing.assert_array_equal(stored["video"], coloured["video"][chosen, :3])
        np.testing.assert_array_equal(stored["index"], np.arange(number, number + size))
        assert set(stored["factors"]) == {"color", "visibility"} and not stored["tracks"]
        seen = np.stack(
            [
                (expected.get("full_mask", expected["mask"])[chosen, :3] == k).any((1, 2, 3))
                for k in range(expected["radius"].shape[1])
            ],
            1,
        )
        np.testing.assert_array_equal(stored["factors"]["visibility"], seen)
        np.testing.assert_array_equal(
            stored["factors"]["color"], coloured["color"][chosen] * seen[..., None]
        )
        if variant == "balls3_curtain":
            np.testing.assert_array_equal(stored["full_mask"], expected["full_mask"][chosen, :3])
            assert (stored["full_mask"] != stored["mask"]).any()
    assert dict(builder.info.metadata) == {"file": NAMES[source]}


def test_a_path_of_ones_own(tmp_path, write, clips):
    path = write().rename(tmp_path / "other.h5")
    builder = build(
        tmp_path / "data", public=True, path=str(path), num_train=2, num_test=1, num_frames=4
    )
    np.testing.assert_array_equal(
        built_datasets.contents(builder, "train")["video"], clips["balls4_binary"]["video"][:2]
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32])
@pytest.mark.parametrize("chunks", [None, (2, 4, 16, 64, 1)])
def test_blocks(write, clips, monkeypatch, dtype, chunks):
    """Any kind of numbers, a few clips at a time, whole compressed pieces if there are any."""

    def change(file):
        for name in ("features", "groups"):
            values = file[f"training/{name}"][()]
            replace(file, f"training/{name}", values.astype(dtype), chunks=chunks)

    path, asked = write(change=change), []
    plain = PublishedFile._read_block
    monkeypatch.setattr(
        PublishedFile,
        "_read_block",
        lambda self, data, first, last: (
            asked.append((first, last)) or plain(self, data, first, last)
        ),
    )
    monkeypatch.setattr(published_file, "_BLOCK", 2)
    parts = list(schema().read(path, "train", 1, 5))
    assert asked == ([(1, 3)] * 2 + [(3, 5)] * 2 if chunks is None else [(1, 5)] * 2)
    assert [len(part["mask"]) for part in parts] == [2, 2]
    for name in ("video", "mask"):
        np.testing.assert_array_equal(
            np.concatenate([part[name] for part in parts]), clips["balls4_binary"][name][1:5]
        )


def assert_nothing_is_left(data_dir):
    """But TFDS's note that there is such a config."""
    files = [path for path in data_dir.rglob("*") if path.is_file() or "incomplete" in path.name]
    assert [path.name for path in files if path.parent.name != ".config"] == []
    assert not Builder(data_dir=data_dir, config=Config(name="small")).is_prepared()


def assert_refused(tmp_path, message, **options):
    options = {"public": True, "num_train": 5, "num_test": 3, "num_frames": 4, **options}
    with pytest.raises(UserError, match=message) as error:
        build(tmp_path / "data", tmp_path, **options)
    assert "\n" not in str(error.value)
    assert_nothing_is_left(tmp_path / "data")
    return str(error.value)


def test_a_missing_file(tmp_path):
    message = assert_refused(
        tmp_path,
        "Config 'small' reads balls678mass64.h5, which is not in the manual directory",
        variant="balls678_color4",
    )
    assert published_file.LINK in message and "'balls4_binary', which needs no file" in message
    assert_refused(
        tmp_path,
        "`path` must be an existing file. Received: path='/nowhere/file'",
        path="/nowhere/file",
    )
    with pytest.raises(UserError, match="reads balls4mass64.h5"):  # TFDS has no manual directory
        build(tmp_path / "data", public=True)


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda f: f.pop("test"),
            "must have the groups training, validation, test. Received: training, validation",
        ),
        (
            lambda f: f.pop("training/groups"),
            "Group 'training' of .*balls4mass64.h5` must have the data set 'groups'. Received: features",
        ),
        (lambda f: replace(f, "training", np.zeros(3)), "must have the groups"),
        (
            lambda f: replace(f, "test/groups", np.zeros((3, 4, 64, 64, 1), np.uint8)),
            r"test/groups .* \(frames, clips, 64, 64, 1\) with at least 4 frames. Received: uint8 of shape \(3, 4, 64, 64, 1\)",
        ),
        (
            lambda f: replace(f, "test/features", np.zeros((4, 3, 64, 64), bool)),
            r"Received: bool of shape \(4, 3, 64, 64\)",
        ),
        (
            lambda f: replace(f, "test/groups", np.zeros((4, 3, 32, 32, 1), np.uint8)),
            r"Received: uint8 of shape \(4, 3, 32, 32, 1\)",
        ),
        (
            lambda f: replace(f, "test/groups", np.full((4, 3, 64, 64, 1), b"a")),
            r"must be numbers of shape .* Received: \|S1",
        ),
        (
            lambda f: replace(f, "test/groups", np.zeros((4, 2, 64, 64, 1), np.uint8)),
            "must have at least 3 clips. Received: 2; ask for fewer by",
        ),
        (
            lambda f: f["test/groups"].__setitem__((1, 2, 9, 9, 0), 5),
            "test/groups .* must hold 0 ... 4, as balls4mass64.h5 does. Received: 5, first in clip 2",
        ),
        (
            lambda f: replace(
                f, "training/features", 255 * f["training/features"][()].astype(np.uint8)
            ),
            "features .* must hold 0 ... 1.* Received: 255",
        ),
    ],
    ids=[
        "group",
        "data set",
        "kind",
        "frames",
        "axes",
        "size",
        "type",
        "clips",
        "numbers",
        "features",
    ],
)
def test_wrong_contents(tmp_path, write, change, message):
    write(change=change)
    assert_refused(tmp_path, message)


def test_a_file_of_another_set(tmp_path, write):
    path = write("balls678_binary")
    assert_refused(
        tmp_path,
        "must hold 0 ... 4, as balls4mass64.h5 does. Received: [678]",
        path=str(path),
        variant="balls4_color",
    )


def test_damaged_files(tmp_path, write):
    path = write()
    content = path.read_bytes()
    path.write_bytes(b"<!DOCTYPE html>")
    assert_refused(
        tmp_path, "balls4mass64.h5` must be an HDF5 file. Received: .*file signature not found"
    )
    path.write_bytes(content[: len(content) // 2])
    message = assert_refused(
        tmp_path, "balls4mass64.h5` is damaged or was not downloaded completely: .*truncated file"
    )
    assert message.endswith(published_file.LINK)


def test_damage_that_shows_late(tmp_path, write):
    """A compressed piece of the last group is wrong: clips of the first one are written already, and taken away."""
    path = write()
    with h5py.File(path) as file:
        piece = file["test/groups"].id.get_chunk_info(2)
    content = bytearray(path.read_bytes())
    for offset in range(piece.byte_offset + 10, piece.byte_offset + piece.size - 4):
        content[offset] ^= 0x55
    path.write_bytes(content)
    assert_refused(tmp_path, "is damaged or was not downloaded completely")
