"""The CLEVRER builder: stored clips, published files, videos left out, configs, errors."""

import functools
import json
import os
import pathlib
import subprocess
import sys

import built_datasets
import numpy as np
import pytest
import tensorflow_datasets as tfds

from tfobj.datasets.clevrer import clevrer_dataset_builder, sample_files
from tfobj.datasets.generators import clevrer_clips
from tfobj.errors import UserError

Builder = clevrer_dataset_builder.Builder
Config = clevrer_dataset_builder.ClevrerConfig
ROOT = pathlib.Path(__file__).resolve().parents[2]

build = functools.partial(built_datasets.build, Builder, Config)


def test_stored_clips_are_the_generators(tmp_path):
    builder = build(
        tmp_path, num_train=1, num_test=2, num_frames=3, stride=7, image_size=20, seed=4
    )
    stored = built_datasets.contents(builder, "test")
    rules = clevrer_clips.Variant(stride=7)
    expected = clevrer_clips.clips(
        np.array([10_000, 10_001]), seed=4, variant=rules, num_frames=3, size=20
    )

    for name in ("video", "mask"):
        np.testing.assert_array_equal(stored[name], expected[name])
    for name, values in {**stored["factors"], **stored["tracks"], **stored["scene"]}.items():
        np.testing.assert_array_equal(values, expected[name])

    assert set(stored["factors"]) == {"color", "shape", "material", "rgb", "visibility"}
    assert set(stored["tracks"]) == {
        "position",
        "velocity",
        "angle",
        "in_view",
        "collision",
        "partner",
    }
    assert stored["index"].tolist() == [10_000, 10_001]
    assert dict(builder.info.metadata) == {
        "renderer": "raycast",
        "variant": "clevrer",
        "stride": 7,
        "seed": 4,
    }


def test_validation_clips_begin_at_9_000(tmp_path):
    builder = build(
        tmp_path, num_train=1, num_test=1, num_validation=1, num_frames=1, image_size=16
    )
    assert built_datasets.contents(builder, "validation")["index"].tolist() == [9_000]


@pytest.mark.slow
def test_several_processes_build_the_same(tmp_path, monkeypatch):
    stored = []
    for number in (1, 2):
        monkeypatch.setenv("TFOBJ_PROCESSES", str(number))
        builder = build(
            tmp_path / str(number), num_train=9, num_test=1, num_frames=2, image_size=16
        )
        stored.append(built_datasets.contents(builder, "train"))

    for name in ("video", "mask", "index"):
        np.testing.assert_array_equal(stored[0][name], stored[1][name])


@pytest.mark.slow
def test_command_line_builds_a_config_of_ones_own(tmp_path):
    """The dataset's README shows this command."""
    options = json.dumps(
        {
            "name": "mine",
            "num_train": 3,
            "num_test": 1,
            "num_frames": 2,
            "stride": 2,
            "image_size": 16,
        }
    )
    command = [
        str(pathlib.Path(sys.executable).with_name("tfds")),
        "build",
        "datasets/clevrer",
        "--config",
        options,
        "--data_dir",
        str(tmp_path),
    ]
    environment = {**os.environ, "TFOBJ_PROCESSES": "2"}
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr

    folder = tmp_path / "clevrer" / "mine" / "1.0.0"
    stored = built_datasets.contents(tfds.builder_from_directory(folder), "train")
    expected = clevrer_clips.clips(
        np.arange(3), variant=clevrer_clips.Variant(stride=2), num_frames=2, size=16
    )
    np.testing.assert_array_equal(stored["video"], expected["video"])


@pytest.fixture
def folder(tmp_path):
    """Six published videos: 0-2 for training, 10,000-10,002 for the test.

    Video 1 has a broken annotation. Video 10,000 has three objects, all in view for 60 frames;
    10,001 has six, all in view from frame 20 on; 10,002 has three, never all in view for 40 frames.
    """
    pytest.importorskip("av")
    folder = tmp_path / "files"
    folder.mkdir()
    video = sample_files.video()
    plain = sample_files.annotation()
    train = {0: (plain, video), 1: ("{}", video), 2: (plain, video)}
    sample_files.write_split(folder, "train", train)

    hidden = np.ones((128, 3), bool)
    hidden[60] = False
    later = np.ones((128, 6), bool)
    later[:20] = False
    often_hidden = np.arange(128)[:, None] % 30 < 29 * np.ones(3)
    test = {
        10_000: (sample_files.annotation(in_view=hidden), video),
        10_001: (sample_files.annotation(sample_files.SIX, in_view=later), video),
        10_002: (sample_files.annotation(in_view=often_hidden), video),
    }
    sample_files.write_split(folder, "validation", test)

    proposals = dict.fromkeys((*train, *test), sample_files.proposals())
    proposals[10_001] = sample_files.proposals(sample_files.SIX)
    sample_files.write_proposals(folder, proposals)
    return folder


def test_published_videos_are_cut_for_training_and_trimmed_for_the_test(
    tmp_path, folder, capsys, monkeypatch
):
    monkeypatch.setenv("TFOBJ_PROCESSES", "1")
    options = {
        "public": True,
        "path": str(folder),
        "num_train": 3,
        "num_test": 3,
        "image_size": 16,
    }
    builder = build(tmp_path, variant="clevrer6", **options)
    printed = capsys.readouterr().out
    assert "clevrer, train: left out 1 of 3 videos: 1 broken annotation (1)." in printed

    train = built_datasets.contents(builder, "train")
    assert train["video"].shape == (6, 40, 16, 16, 3)
    assert train["index"].tolist() == [0, 0, 0, 2, 2, 2]
    assert train["scene"]["first_frame"].tolist() == [0, 40, 80] * 2

    test = built_datasets.contents(builder, "test")
    assert test["index"].tolist() == [10_001]
    assert test["scene"]["first_frame"].tolist() == [20]
    assert test["factors"]["visibility"].tolist() == [[1] * 7]
    assert set(np.unique(test["mask"])) <= set(range(7))
    assert set(test["tracks"]) == {
        "position",
        "velocity",
        "orientation",
        "angular_velocity",
        "in_view",
        "collision",
        "partner",
    }
    assert dict(builder.info.metadata) == {"variant": "clevrer6", "stride": 1}

    fewer = build(tmp_path / "345", variant="clevrer345", **options)
    assert built_datasets.contents(fewer, "test")["index"].tolist() == [10_000]


def test_published_videos_are_read_whole_and_without_masks(tmp_path, folder, monkeypatch):
    monkeypatch.setenv("TFOBJ_PROCESSES", "1")
    (folder / "derender_proposals.zip").unlink()
    builder = build(
        tmp_path,
        public=True,
        path=str(folder),
        num_train=1,
        num_test=2,
        image_size=16,
        num_frames=4,
        stride=2,
        segmentation=False,
    )

    stored = built_datasets.contents(builder, "test")
    assert stored["video"].shape == (2, 4, 16, 16, 3)
    assert (stored["mask"] == 255).all()
    np.testing.assert_array_equal(stored["tracks"]["position"][0, :, 1, 1], [0, 2, 4, 6])

    message = (
        r"`path` must be a folder with video_train.zip, .*derender_proposals.zip. "
        r".* without derender_proposals.zip\."
    )
    with pytest.raises(UserError, match=message):
        build(tmp_path / "masks", public=True, path=str(folder), num_train=1, num_test=1)


def test_nothing_is_left_of_a_build_that_fails(tmp_path, folder, monkeypatch):
    monkeypatch.setenv("TFOBJ_PROCESSES", "1")
    options = {
        "public": True,
        "path": str(folder),
        "num_frames": 2,
        "image_size": 16,
        "segmentation": False,
    }
    with pytest.raises(UserError, match="annotation_train.zip` must hold annotation_00003.json"):
        build(tmp_path, num_train=5, num_test=1, **options)

    message = r"must hold clips for split 'test'. Received: none of 1 videos fits\."
    with pytest.raises(UserError, match=message) as error:
        build(tmp_path, num_train=1, num_test=1, variant="clevrer6", **options)
    assert "\n" not in str(error.value)

    sample_files.write_split(folder, "train", {0: ("{}", b""), 1: ("{}", b"")})
    with pytest.raises(UserError, match=r"none of 2 videos fits; 2 broken annotation \(0, 1\)\."):
        build(tmp_path, num_train=2, num_test=1, **{**options, "image_size": 17})
    assert built_datasets.unfinished(tmp_path / "clevrer") == []


def test_every_variant_has_a_generated_and_a_public_config():
    assert [config.name for config in Builder.BUILDER_CONFIGS] == ["raycast_clevrer"]
    assert not Builder.BUILDER_CONFIGS[0].public
    assert set(Builder.builder_configs) == {
        "raycast_clevrer",
        "raycast_clevrer345",
        "raycast_clevrer6",
        "public",
        "public_clevrer345",
        "public_clevrer6",
    }


def test_configs_state_shapes_and_splits():
    assert Builder(config="raycast_clevrer").clip_shape() == (40, 64, 64, 3, 7)
    assert Builder(config="raycast_clevrer345").clip_shape() == (40, 64, 64, 3, 6)
    assert Builder(config="public").clip_shape() == (128, 64, 64, 3, 7)
    assert Builder(config="public_clevrer345").clip_shape() == (40, 64, 64, 3, 7)

    test = (10_000, 15_000)
    pieces = Builder(config="public_clevrer6")
    assert pieces.split_ranges() == {"train": (0, 30_000), "test": test}
    assert Builder(config="public").split_ranges() == {"train": (0, 10_000), "test": test}
    short = Builder(
        config=Config(name="short", public=True, variant="clevrer345", num_train=100, num_frames=4)
    )
    assert short.split_ranges()["train"] == (0, 3_200)


def test_page_names_test_split_and_citation():
    metadata = Builder.get_metadata()
    assert "papers test on" in metadata.description
    assert "yi2020clevrer" in metadata.citation
    assert metadata.tags


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(variant="clevrer35"), "Unknown variant 'clevrer35'. Did you mean 'clevrer345'"),
        (dict(image_size=8), "`image_size` must be at least 16. Received: image_size=8"),
        (dict(stride=0), "`stride` must be in 1 ... 127. Received: stride=0"),
        (
            dict(num_frames=44),
            "`num_frames` must be in 1 ... 43 for variant 'clevrer' and a stride of 3. "
            "Received: num_frames=44",
        ),
        (dict(num_frames=41, variant="clevrer6"), "`num_frames` must be in 1 ... 40"),
        (dict(num_frames=65, stride=2, public=True), "`num_frames` must be in 1 ... 64"),
        (
            dict(num_train=10_001, test_start=10_001, public=True),
            "`num_train` must be at most 10000 and test clips in 10000 ... 14999",
        ),
        (dict(num_test=5_001, public=True), "`num_train` must be at most 10000"),
        (
            dict(num_validation=10, public=True),
            "`num_validation` is an option of generated clips. Received: num_validation=10",
        ),
        (dict(num_train=20_000), "`test_start` must be at least `num_train`, so that no test clip"),
    ],
)
def test_wrong_configs_are_refused_in_one_line(options, message):
    with pytest.raises(UserError, match=message) as error:
        Config(name="wrong", **options)
    assert "\n" not in str(error.value)


def test_generated_splits_may_be_larger_than_the_published_ones():
    Config(name="right", num_train=10_001, test_start=20_000)
