"""Bouncing balls: stored clips, configs, and published files, intact and damaged."""

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
"""Split -> number of clips in the files that these tests write."""

build = functools.partial(built_datasets.build, Builder, Config)


def schema(variant="balls4_binary", num_frames=4):
    return PublishedFile(NAMES[variant], variant, num_frames)


@pytest.fixture(scope="module")
def clips():
    """Ten clips of four frames of each variant."""
    return {
        variant: balls.clips(np.arange(10), seed=6, variant=variant, num_frames=4)
        for variant in NAMES
    }


@pytest.fixture
def write(tmp_path, clips):
    """Returns a function that writes a published file and returns its path.

    The file holds the clips in the order of `SIZES`; `change` gets the open h5py.File.
    """

    def written(variant="balls4_binary", change=None):
        path = tmp_path / NAMES[variant]
        splits = {}
        start = 0
        for split, size in SIZES.items():
            chosen = slice(start, start + size)
            splits[split] = {name: values[chosen] for name, values in clips[variant].items()}
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
        indices = np.arange(first, first + size)
        expected = balls.clips(indices, seed=4, variant=variant, num_frames=6, size=24)
        numbers, found = built_datasets.flat_contents(builder, split)
        np.testing.assert_array_equal(numbers, indices)
        built_datasets.assert_arrays_equal(found, expected)
    assert dict(builder.info.metadata) == {"variant": variant, "seed": 4}


def test_every_variant_has_a_simulated_and_a_published_config():
    configs = Builder.builder_configs
    assert [config.name for config in Builder.BUILDER_CONFIGS] == ["balls4_binary"]
    assert Builder.DEFAULT_BUILDER_CONFIG_NAME == "balls4_binary"
    published = {f"published_{variant}" for variant in balls.VARIANTS}
    assert set(configs) == {*balls.VARIANTS, *published}

    for name, config in configs.items():
        assert (config.num_train, config.num_test, config.test_start) == (50_000, 10_000, 60_000)
        assert config.public == name.startswith("published_")
        assert name.endswith(config.variant)


def test_configs_state_the_shape_of_a_clip():
    assert Builder(config="balls678_color8").clip_shape() == (51, 64, 64, 3, 9)
    assert Builder(config="balls3_curtain").clip_shape() == (51, 64, 64, 1, 4)
    assert Builder(config="published_balls4_color").clip_shape() == (51, 64, 64, 3, 5)
    long = Builder(config=Config(name="long", num_frames=100, image_size=32))
    assert long.clip_shape() == (100, 32, 32, 1, 5)

    plain = {"video", "mask", "factors", "tracks", "index"}
    assert set(Builder(config="balls4_color").info.features) == plain
    assert {"scene", "full_mask"} < set(Builder(config="balls3_curtain").info.features)


def test_page_names_test_split_citation_configs_and_files():
    metadata = Builder.get_metadata()
    assert "papers test on" in metadata.description
    assert "vansteenkiste2018relational" in metadata.citation
    assert metadata.tags
    for name in (*Builder.builder_configs, *NAMES.values(), published_file.LINK):
        assert name in metadata.description or name.startswith("published_")


def test_command_line_json_makes_a_config():
    options = json.loads(
        '{"name": "mine", "variant": "balls4_color", "num_train": 4, "num_test": 2, '
        '"num_frames": 9}'
    )
    builder = Builder(config=Builder.builder_config_cls(**options))
    assert builder.info.features["video"].shape == (9, 64, 64, 3)


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
def test_wrong_configs_are_refused_in_one_line(options, message):
    with pytest.raises(UserError, match=message) as error:
        Config(name="wrong", **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("variant", balls.VARIANTS)
def test_published_clips_are_stored(tmp_path, write, clips, variant):
    """Each split is a group of the file, with frames first; colours are made from the groups."""
    source = variant
    if source not in NAMES:
        source = variant.split("_")[0] + "_binary"
    path = write(source)
    with h5py.File(path) as file:
        shapes = {name: file[f"{name}/groups"].shape[:2] for name in file}
    assert shapes == {"training": (4, 5), "validation": (4, 2), "test": (4, 3)}

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
    expected = clips[source]
    groups = expected.get("full_mask", expected["mask"])
    colored = balls.clips(np.arange(10), seed=6, variant=variant, num_frames=4)
    splits = {"train": (0, 5, 0), "validation": (5, 2, 50_000), "test": (7, 2, 60_000)}

    for split, (first, size, number) in splits.items():
        stored = built_datasets.contents(builder, split)
        chosen = slice(first, first + size)
        np.testing.assert_array_equal(stored["mask"], expected["mask"][chosen, :3])
        np.testing.assert_array_equal(stored["video"], colored["video"][chosen, :3])
        np.testing.assert_array_equal(stored["index"], np.arange(number, number + size))

        assert set(stored["factors"]) == {"color", "visibility"}
        assert not stored["tracks"]
        num_entities = expected["radius"].shape[1]
        seen = (groups[chosen, :3, ..., None] == np.arange(num_entities)).any((1, 2, 3))
        colors = colored["color"][chosen] * seen[..., None]
        np.testing.assert_array_equal(stored["factors"]["visibility"], seen)
        np.testing.assert_array_equal(stored["factors"]["color"], colors)

        if variant == "balls3_curtain":
            np.testing.assert_array_equal(stored["full_mask"], expected["full_mask"][chosen, :3])
            assert (stored["full_mask"] != stored["mask"]).any()
    assert dict(builder.info.metadata) == {"file": NAMES[source]}


def test_a_path_of_ones_own_is_read(tmp_path, write, clips):
    path = write().rename(tmp_path / "other.h5")
    builder = build(
        tmp_path / "data", public=True, path=str(path), num_train=2, num_test=1, num_frames=4
    )
    np.testing.assert_array_equal(
        built_datasets.contents(builder, "train")["video"], clips["balls4_binary"]["video"][:2]
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32])
@pytest.mark.parametrize("chunks", [None, (2, 4, 16, 64, 1)])
def test_blocks_are_whole_chunks_of_any_kind_of_numbers(write, clips, monkeypatch, dtype, chunks):
    def change(file):
        for name in ("features", "groups"):
            values = file[f"training/{name}"][()]
            replace(file, f"training/{name}", values.astype(dtype), chunks=chunks)

    asked = []
    original = PublishedFile._read_block

    def read_block(self, data, first, last):
        asked.append((first, last))
        return original(self, data, first, last)

    path = write(change=change)
    monkeypatch.setattr(PublishedFile, "_read_block", read_block)
    monkeypatch.setattr(published_file, "_BLOCK", 2)
    parts = list(schema().read(path, "train", 1, 5))

    # Features and groups: two clips at a time, or a chunk of four.
    if chunks is None:
        assert asked == [(1, 3), (1, 3), (3, 5), (3, 5)]
    else:
        assert asked == [(1, 5), (1, 5)]
    assert [len(part["mask"]) for part in parts] == [2, 2]
    for name in ("video", "mask"):
        np.testing.assert_array_equal(
            np.concatenate([part[name] for part in parts]), clips["balls4_binary"][name][1:5]
        )


def assert_refused(tmp_path, message, **options):
    options = {"public": True, "num_train": 5, "num_test": 3, "num_frames": 4, **options}
    with pytest.raises(UserError, match=message) as error:
        build(tmp_path / "data", tmp_path, **options)
    assert "\n" not in str(error.value)

    assert built_datasets.unfinished(tmp_path / "data") == []
    assert not Builder(data_dir=tmp_path / "data", config=Config(name="small")).is_prepared()
    return str(error.value)


def test_a_missing_file_is_named_with_its_link(tmp_path):
    message = assert_refused(
        tmp_path,
        "Config 'small' reads balls678mass64.h5, which is not in the manual directory",
        variant="balls678_color4",
    )
    assert published_file.LINK in message
    assert "'balls4_binary', which needs no file" in message

    assert_refused(
        tmp_path,
        "`path` must be an existing file. Received: path='/nowhere/file'",
        path="/nowhere/file",
    )

    # Without a manual directory, TFDS raises an error of its own.
    with pytest.raises(UserError, match="reads balls4mass64.h5"):
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
            "Group 'training' of .*balls4mass64.h5` must have the data set 'groups'. "
            "Received: features",
        ),
        (lambda f: replace(f, "training", np.zeros(3)), "must have the groups"),
        (
            lambda f: replace(f, "test/groups", np.zeros((3, 4, 64, 64, 1), np.uint8)),
            r"test/groups .* \(frames, clips, 64, 64, 1\) with at least 4 frames. "
            r"Received: uint8 of shape \(3, 4, 64, 64, 1\)",
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
            "test/groups .* must hold 0 ... 4, as balls4mass64.h5 does. "
            "Received: 5, first in clip 2",
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
def test_wrong_contents_are_refused(tmp_path, write, change, message):
    write(change=change)
    assert_refused(tmp_path, message)


def test_a_file_of_another_variant_is_refused(tmp_path, write):
    path = write("balls678_binary")
    assert_refused(
        tmp_path,
        "must hold 0 ... 4, as balls4mass64.h5 does. Received: [678]",
        path=str(path),
        variant="balls4_color",
    )


def test_damaged_files_are_refused(tmp_path, write):
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


def test_damage_that_shows_late_leaves_nothing(tmp_path, write):
    """A chunk of the last group is wrong: clips of the first group are written, then removed."""
    path = write()
    with h5py.File(path) as file:
        chunk = file["test/groups"].id.get_chunk_info(2)

    content = bytearray(path.read_bytes())
    for offset in range(chunk.byte_offset + 10, chunk.byte_offset + chunk.size - 4):
        content[offset] ^= 0x55
    path.write_bytes(content)
    assert_refused(tmp_path, "is damaged or was not downloaded completely")
