"""Shared by builders of clips: features, tracks, splits, several processes."""

import functools

import built_datasets
import numpy as np
import pytest
import tensorflow_datasets as tfds

from tfobj.datasets import video_builder
from tfobj.datasets.bouncing_balls import bouncing_balls_dataset_builder
from tfobj.datasets.generators import balls
from tfobj.datasets.video_builder import VideoConfig
from tfobj.errors import UserError


class NumberedClips(video_builder.VideoBuilder, skip_registration=True):
    """Clips that show their own number; every third published clip is missing."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [VideoConfig(name="own", num_train=4, num_test=2)]
    CHUNK = 3
    code_path = bouncing_balls_dataset_builder.Builder.code_path
    pkg_dir_path = code_path.parent
    factor_docs = {"visibility": ((), "1 for what exists."), "color": ((3,), "RGB.")}
    track_docs = {"position": ((2,), "Place."), "speed": ((), "Length.")}
    scene_docs = {"place": ((2,), "Twice the number.")}
    has_full_mask = True

    def clip_shape(self):
        return self.builder_config.num_frames or 2, 3, 4, 3, 2

    def generator(self):
        return functools.partial(numbered_clips, frames=self.clip_shape()[0])

    def public_source(self, dl_manager):
        return "published"

    def read_public(self, source, split, start, stop):
        assert source == "published" and split in ("train", "validation", "test")
        for first in range(start, stop, 3):
            numbers = np.arange(first, min(first + 2, stop))
            yield {**self.generate(numbers), "index": numbers}


def numbered_clips(indices, frames):
    indices = np.asarray(indices)
    n = len(indices)
    number = (indices % 256).astype(np.uint8)
    return {
        "video": np.tile(number[:, None, None, None, None], (1, frames, 3, 4, 3)),
        "mask": np.tile(np.eye(3, 4, dtype=np.uint8), (n, frames, 1, 1)),
        "full_mask": np.ones((n, frames, 3, 4), np.uint8),
        "visibility": np.ones((n, 2)),
        "color": np.full((n, 2, 3), 0.5),
        "position": np.arange(n * frames * 4.0).reshape(n, frames, 2, 2),
        "speed": np.tile(np.arange(float(frames))[:, None], (n, 1, 2)),
        "place": np.stack([indices, indices], -1),
        "not asked for": indices,
    }


class ParallelBalls(bouncing_balls_dataset_builder.Builder, skip_registration=True):
    PARALLEL = True
    CHUNK = 3


def build(cls, data_dir, **options):
    builder = cls(data_dir=data_dir, config=cls.builder_config_cls(name="small", **options))
    builder.download_and_prepare()
    return builder


def test_examples_hold_maps_factors_tracks_and_numbers_of_the_clip(tmp_path):
    builder = build(
        NumberedClips, tmp_path, num_train=7, num_test=2, test_start=60_000, num_frames=5
    )
    assert {name: split.num_examples for name, split in builder.info.splits.items()} == {
        "train": 7,
        "test": 2,
    }
    stored = built_datasets.contents(builder, "train")
    assert set(stored) == {"video", "mask", "full_mask", "factors", "tracks", "scene", "index"}

    # The builder generates chunks of three.
    chunks = [builder.generate(np.arange(first, min(first + 3, 7))) for first in (0, 3, 6)]
    expected = {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}
    for name in ("video", "mask", "full_mask"):
        assert stored[name].dtype == np.uint8
        np.testing.assert_array_equal(stored[name], expected[name])

    groups = {
        "factors": {"visibility", "color"},
        "tracks": {"position", "speed"},
        "scene": {"place"},
    }
    for part, names in groups.items():
        assert set(stored[part]) == names
        for name in names:
            assert stored[part][name].dtype == np.float32
            np.testing.assert_array_equal(stored[part][name], expected[name])

    np.testing.assert_array_equal(
        built_datasets.contents(builder, "test")["index"], [60_000, 60_001]
    )


def test_a_validation_split_on_request(tmp_path):
    builder = build(
        NumberedClips,
        tmp_path,
        num_train=4,
        num_validation=3,
        validation_start=10,
        num_test=2,
        test_start=13,
    )

    numbers_of = {"train": [0, 1, 2, 3], "validation": [10, 11, 12], "test": [13, 14]}
    for split, numbers in numbers_of.items():
        stored = built_datasets.contents(builder, split)
        np.testing.assert_array_equal(stored["index"], numbers)
        np.testing.assert_array_equal(stored["video"][:, 0, 0, 0, 0], numbers)


def test_published_clips_may_have_numbers_of_their_own(tmp_path):
    """A source with gaps has fewer clips than positions: each keeps its number, in order."""
    builder = build(NumberedClips, tmp_path, public=True, num_train=7, num_test=2, test_start=20)
    stored = built_datasets.contents(builder, "train")
    np.testing.assert_array_equal(stored["index"], [0, 1, 3, 4, 6])
    np.testing.assert_array_equal(stored["video"][:, 0, 0, 0, 0], [0, 1, 3, 4, 6])


def test_clips_may_differ_in_length(tmp_path):
    class Lengths(NumberedClips, skip_registration=True):
        CHUNK = 1

        def clip_shape(self):
            return None, 3, 4, 3, 2

        def generator(self):
            return growing_clips

    def growing_clips(indices):
        frames = 2 + int(indices[0])
        clips = numbered_clips(indices, frames)
        own = {"video", "mask", "full_mask", "position", "speed"}
        assert all(clips[name].shape[1] == frames for name in own)
        return clips

    builder = build(Lengths, tmp_path, num_train=3, num_test=1)
    examples = tfds.as_numpy(builder.as_dataset(split="train"))
    lengths = [
        (len(clip["video"]), len(clip["mask"]), len(clip["tracks"]["speed"])) for clip in examples
    ]
    assert lengths == [(2, 2, 2), (3, 3, 3), (4, 4, 4)]


@pytest.mark.parametrize("num_processes", [1, 2])
def test_clips_do_not_depend_on_the_number_of_processes(tmp_path, monkeypatch, num_processes):
    monkeypatch.setenv("TFOBJ_PROCESSES", str(num_processes))
    builder = build(
        ParallelBalls, tmp_path, num_train=7, num_test=1, num_frames=3, image_size=20, seed=8
    )

    stored = built_datasets.contents(builder, "train")
    expected = balls.clips(np.arange(7), seed=8, num_frames=3, size=20)
    np.testing.assert_array_equal(stored["video"], expected["video"])
    np.testing.assert_array_equal(stored["tracks"]["position"], expected["position"])
    assert isinstance(builder.generator(), functools.partial)


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(num_test=0), "`num_test` must be at least 1. Received: num_test=0"),
        (
            dict(num_train=60_001),
            "`test_start` must be at least `num_train`, so that no test clip is used for training",
        ),
        (dict(num_frames=0), "`num_frames` must be at least 1. Received: num_frames=0"),
        (
            dict(num_validation=-1),
            "`num_validation` must be at least 0. Received: num_validation=-1",
        ),
        (
            dict(num_validation=10_001),
            "`validation_start` must be in num_train ... test_start - num_validation.*"
            "num_validation=10001",
        ),
        (
            dict(num_validation=1, validation_start=49_999),
            "`validation_start` must be .*validation_start=49999",
        ),
    ],
)
def test_wrong_configs_are_refused_in_one_line(options, message):
    with pytest.raises(UserError, match=message) as error:
        VideoConfig(name="wrong", **options)
    assert "\n" not in str(error.value)
