"""Video Objects Room: stored flights, configs, and published files, intact and damaged."""

import functools
import json

import built_datasets
import h5py
import numpy as np
import pytest
import tensorflow_datasets as tfds

from tfobj.datasets.generators import rooms
from tfobj.datasets.video_objects_room import published_file, video_objects_room_dataset_builder
from tfobj.errors import UserError

Builder = video_objects_room_dataset_builder.Builder
Config = video_objects_room_dataset_builder.VideoRoomConfig
SIZES = {"train": 5, "val": 2, "test": 3}
"""Data set -> number of clips in the files that these tests write."""


@pytest.fixture(autouse=True)
def one_process(monkeypatch):
    monkeypatch.setenv("TFOBJ_PROCESSES", "1")


build = functools.partial(built_datasets.build, Builder, Config)


def runs(mask):
    """Returns the runs of a mask [64, 64] as in the published files, by a loop over its pixels."""
    text = []
    start = None
    for i, on in enumerate([*mask.ravel(), 0], start=1):
        if on and start is None:
            start = i
        elif not on and start is not None:
            text += [start, i - start]
            start = None
    return " ".join(map(str, text))


def annotation(parts, first_id):
    """Returns the annotated frames of a clip, with ids that no other clip has.

    Objects come first, then the parts of the background.
    """
    frames = []
    for frame in parts:
        seen = np.unique(frame)
        order = [*seen[seen >= 4], *seen[seen < 4]]

        frames.append(
            {
                "ids": [first_id + int(part) for part in order],
                "masks": [runs(frame == part) for part in order],
                "num_bg": int((seen < 4).sum()),
            }
        )
    return frames


@pytest.fixture(scope="module")
def clips():
    return rooms.clips(np.arange(10), seed=2, num_frames=4)


@pytest.fixture(scope="module")
def annotations(clips):
    return [annotation(parts, 100 * i) for i, parts in enumerate(clips["parts"])]


@pytest.fixture
def write(tmp_path, clips, annotations):
    """Returns a function that writes `vor.hdf5` and returns its path.

    It also writes the JSON files of `sets`, after `change` to their clips.
    """

    def written(sets=("test",), channels_last=False, change=None):
        path = tmp_path / "vor.hdf5"
        start = 0
        with h5py.File(path, "w") as file:
            for name, size in SIZES.items():
                chosen = slice(start, start + size)
                start += size
                video = clips["video"][chosen]
                file[name] = video if channels_last else np.moveaxis(video, -1, 2)
                if name not in sets:
                    continue

                # A copy, because `change` changes it in place.
                frames = json.loads(json.dumps(annotations[chosen]))
                if change is not None:
                    frames = change(frames)
                (tmp_path / f"vor_{name}.json").write_text(json.dumps(frames))
        return path

    return written


def expected_mask(clip):
    """Returns a clip [T, 64, 64] with objects numbered in the order in which they appear."""
    numbers = {}
    result = np.zeros_like(clip)
    for frame, own in zip(clip, result, strict=True):
        for k in np.unique(frame[frame > 0]):
            own[frame == k] = numbers.setdefault(k, len(numbers) + 1)
    return result


def test_stored_clips_are_the_generators(tmp_path):
    builder = build(
        tmp_path,
        num_train=3,
        num_test=2,
        num_validation=1,
        num_frames=3,
        image_size=20,
        seed=4,
        variant="identical_color",
    )

    for split, first, size in (("train", 0, 3), ("validation", 9_000, 1), ("test", 10_000, 2)):
        indices = np.arange(first, first + size)
        expected = rooms.clips(indices, seed=4, variant="identical_color", num_frames=3, size=20)
        del expected["parts"]
        numbers, found = built_datasets.flat_contents(builder, split)
        np.testing.assert_array_equal(numbers, indices)
        built_datasets.assert_arrays_equal(found, expected)
    assert dict(builder.info.metadata) == {"variant": "identical_color", "seed": 4}


def test_configs_state_shapes_and_splits():
    assert [config.name for config in Builder.BUILDER_CONFIGS] == ["generated"]
    assert Builder.DEFAULT_BUILDER_CONFIG_NAME == "generated"
    assert set(Builder.builder_configs) == {"generated", "generated_10000", "published"}
    assert Builder(config="generated").clip_shape() == (16, 64, 64, 3, 4)
    assert Builder(config="published").clip_shape() == (10, 64, 64, 3, 11)
    assert Builder(config="generated_10000").split_ranges() == {
        "train": (0, 10_000),
        "test": (11_000, 12_000),
    }


def test_command_line_json_makes_a_config():
    options = json.loads(
        '{"name": "mine", "variant": "six_objects", "num_train": 4, "num_test": 2, "num_frames": 9}'
    )
    features = Builder(config=Builder.builder_config_cls(**options)).info.features
    assert features["tracks"]["depth"].shape == (9, 7)
    assert features["scene"]["pitch"].shape == (9,)


def test_page_names_citation_configs_and_files():
    metadata = Builder.get_metadata()
    assert "weis2021benchmarking" in metadata.citation
    assert metadata.tags
    files = (published_file.NAME, published_file.LINK, "vor_test.json")
    for name in (*Builder.builder_configs, *files):
        assert name in metadata.description


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(variant="test"), "Unknown variant 'test'. .*Valid: empty_room"),
        (
            dict(num_frames=17),
            "`num_frames` must be in 1 ... 16 for flights. Received: num_frames=17",
        ),
        (dict(image_size=8), "`image_size` must be at least 16"),
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


@pytest.mark.parametrize("channels_last", [False, True])
def test_published_clips_are_stored(tmp_path, write, clips, channels_last):
    """Splits are the first clips of the file's data sets, as many as there are."""
    write(channels_last=channels_last)
    builder = build(
        tmp_path / "data",
        tmp_path,
        public=True,
        num_train=4,
        num_validation=5,
        num_test=9,
        num_frames=3,
        validation_start=10,
        test_start=20,
    )
    splits = {
        "train": (slice(0, 4), 0),
        "validation": (slice(5, 7), 10),
        "test": (slice(7, 10), 20),
    }

    for split, (chosen, number) in splits.items():
        stored = built_datasets.contents(builder, split)
        expected = clips["video"][chosen, :3]
        np.testing.assert_array_equal(stored["video"], expected)
        np.testing.assert_array_equal(stored["index"], np.arange(number, number + len(expected)))
        assert not stored["tracks"]
        assert set(stored["factors"]) == {"visibility"}
        assert "scene" not in stored

        # Only the test clips have a JSON file.
        num_visible = stored["factors"]["visibility"].sum(axis=1)
        if split == "test":
            masks = [expected_mask(clip) for clip in clips["mask"][chosen, :3]]
            np.testing.assert_array_equal(stored["mask"], masks)
            np.testing.assert_array_equal(num_visible, [1 + mask.max() for mask in masks])
        else:
            assert (stored["mask"] == 255).all()
            assert (num_visible == 1).all()
    assert dict(builder.info.metadata) == {"file": "vor.hdf5"}


def test_masks_are_read_where_there_is_a_file_and_never_without_segmentation(
    tmp_path, write, clips
):
    path = write(sets=("train", "test"))
    options = {"public": True, "path": str(path), "num_train": 5, "num_test": 3, "num_frames": 4}
    builder = build(tmp_path / "data", **options)
    stored = built_datasets.contents(builder, "train")
    np.testing.assert_array_equal(stored["mask"] > 0, clips["mask"][:5] > 0)

    (tmp_path / "vor_test.json").unlink()
    builder = build(tmp_path / "more", segmentation=False, **options)
    for split in ("train", "test"):
        assert (built_datasets.contents(builder, split)["mask"] == 255).all()


def test_runs_count_pixels_from_1_and_objects_keep_their_number(write):
    """Rows follow each other; another object's mask may come first in a later frame."""
    blank = [{"ids": [], "masks": [], "num_bg": 0}] * 4
    frames = [
        {"ids": [7, 1], "masks": ["1 2 65 1", "3 4094"], "num_bg": 1},
        {"ids": [3, 7, 1], "masks": ["64 1", "4096 1", ""], "num_bg": 1},
        *blank[2:],
    ]
    path = write(change=lambda clips: [frames, blank, blank])
    part = next(published_file.read(tfds.core.Path(path), "test", 3, 4))
    mask = part["mask"]
    assert np.argwhere(mask).tolist() == [
        [0, 0, 0, 0],
        [0, 0, 0, 1],
        [0, 0, 1, 0],
        [0, 1, 0, 63],
        [0, 1, 63, 63],
    ]
    assert mask[mask > 0].tolist() == [1, 1, 1, 2, 1]
    np.testing.assert_array_equal(part["visibility"][0], [1, 1, 1, *[0] * 8])


def assert_refused(tmp_path, message, **options):
    options = {"public": True, "num_train": 5, "num_test": 3, "num_frames": 4, **options}
    with pytest.raises(UserError, match=message) as error:
        build(tmp_path / "data", tmp_path, **options)
    assert "\n" not in str(error.value)
    assert built_datasets.unfinished(tmp_path / "data") == []
    return str(error.value)


def test_missing_files_are_named_with_their_link(tmp_path, write):
    message = assert_refused(
        tmp_path, "Config 'small' reads vor.hdf5, which is not in the manual directory"
    )
    assert published_file.LINK in message
    assert "'generated', which needs no file" in message

    assert_refused(
        tmp_path,
        "`path` must be an existing file. Received: path='/nowhere/file'",
        path="/nowhere/file",
    )

    write(sets=())
    assert_refused(
        tmp_path,
        "vor_test.json`, the masks of the test clips, must lie beside vor.hdf5, "
        "or `segmentation` be False",
    )


def replace(file, name, values):
    del file[name]
    file.create_dataset(name, data=values)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda f: f.pop("val"), "must have the data sets train, val, test. Received: test, train"),
        (
            lambda f: replace(f, "train", np.zeros((5, 3, 3, 64, 64), np.uint8)),
            r"train of .* with at least 4 frames. Received: uint8 of shape \(5, 3,",
        ),
        (
            lambda f: replace(f, "test", np.zeros((3, 4, 3, 32, 32), np.uint8)),
            r"Received: uint8 of shape \(3, 4, 3, 32, 32\)",
        ),
        (
            lambda f: replace(f, "test", np.zeros((3, 4, 3, 64, 64))),
            r"must be integers .* Received: float64",
        ),
        (
            lambda f: replace(f, "test", np.zeros(3, np.uint8)),
            r"Received: uint8 of shape \(3,\)",
        ),
    ],
    ids=["set", "frames", "size", "kind", "axes"],
)
def test_wrong_clips_are_refused(tmp_path, write, change, message):
    with h5py.File(write(), "r+") as file:
        change(file)
    assert_refused(tmp_path, message, num_validation=1, validation_start=10, test_start=20)


def set_first(name, value):
    def change(clips):
        clips[1][0][name] = value
        return clips

    return change


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda clips: clips[:2],
            "vor_test.json` must be a list of the 3 clips of vor.hdf5. Received: 2 of them",
        ),
        (lambda clips: {"clips": clips}, "Received: an object"),
        (
            lambda clips: [clips[0], clips[1][:2], clips[2]],
            "Clip 1 of .*vor_test.json` must have ids, masks and num_bg of 4 frames",
        ),
        (lambda clips: [clips[0], None, clips[2]], "Clip 1 of .*vor_test.json` must have"),
        (set_first("ids", None), "Clip 1 of"),
        (set_first("num_bg", 99), "Received: more background than masks"),
        (set_first("masks", ["1 2 3"] * 9), "Clip 1 of"),
        (set_first("masks", ["4096 2"] * 9), "Received: runs beyond the picture"),
        (set_first("masks", ["0 2"] * 9), "Received: runs beyond the picture"),
        (
            lambda clips: [
                [{"ids": list(range(11)), "masks": ["1 1"] * 11, "num_bg": 0}] * 4,
                *clips[1:],
            ],
            "Clip 0 .* Received: more than 10 objects",
        ),
    ],
)
def test_wrong_masks_are_refused(tmp_path, write, change, message):
    write(change=change)
    assert_refused(tmp_path, message)


def test_damaged_files_are_refused(tmp_path, write):
    path = write()
    (tmp_path / "vor_test.json").write_text("[[")
    assert_refused(tmp_path, "vor_test.json` is damaged .Expecting value")

    path.write_bytes(path.read_bytes()[:5000])
    assert_refused(
        tmp_path, "vor.hdf5` is damaged or was not downloaded completely: .*truncated file"
    )
    path.write_bytes(b"<!DOCTYPE html>")
    assert_refused(tmp_path, "vor.hdf5` must be an HDF5 file. Received: .*file signature not found")
