"""Shared by builders: optional features, folders, several processes, Apache Beam."""

import functools
import logging
import pathlib
import subprocess
import sys

import built_datasets
import numpy as np
import pytest
import tensorflow_datasets as tfds

from tfobj.datasets import scene_builder
from tfobj.datasets.generators import polygons, tetris
from tfobj.datasets.scene_builder import SceneConfig
from tfobj.datasets.tetris import tetris_dataset_builder
from tfobj.errors import UserError


class PlainTetris(tetris_dataset_builder.Builder, skip_registration=True):
    CHUNK = 3


class ParallelTetris(PlainTetris, skip_registration=True):
    PARALLEL = True


class FailingTetris(ParallelTetris, skip_registration=True):
    def generator(self):
        return functools.partial(tetris.scenes, seed=-1)


class RichPolygons(scene_builder.SceneBuilder, skip_registration=True):
    """Scenes with every optional feature, whose numbers are those of the scene."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [SceneConfig(name="own", num_train=2, num_test=1, test_start=2)]
    HAS_AMODAL_MASKS = True
    has_depth_map = True
    factor_docs = {"depth": ((), "Order."), "visibility": ((), "1 for what exists.")}
    scene_docs = {"number": ((), "The scene's own number."), "place": ((2,), "Twice.")}
    provenance = {"made_by": "a test"}
    code_path = tetris_dataset_builder.Builder.code_path
    pkg_dir_path = code_path.parent

    def generator(self):
        return rich_polygons

    def scene_shape(self):
        return 20, 20, 3, 3


def rich_polygons(indices):
    scenes = polygons.scenes(indices, seed=0, size=20)
    depth_map = np.arange(400.0).reshape(20, 20) / 8 + np.asarray(indices)[:, None, None]
    return {
        **scenes,
        "depth_map": depth_map,
        "number": np.asarray(indices),
        "place": np.stack([indices, indices], -1),
    }


def build(cls, data_dir, download_config=None, **options):
    builder = cls(data_dir=data_dir, config=SceneConfig(name="small", **options))
    builder.download_and_prepare(download_config=download_config)
    return builder


def assert_same(actual, expected):
    assert actual.keys() == expected.keys()
    for name, values in expected.items():
        if isinstance(values, dict):
            assert_same(actual[name], values)
        else:
            np.testing.assert_array_equal(actual[name], values)


def test_scenes_without_options_have_four_features():
    assert set(PlainTetris(config="generated").info.features) == {
        "image",
        "mask",
        "factors",
        "index",
    }


def test_optional_features_are_stored(tmp_path):
    builder = RichPolygons(data_dir=tmp_path, config="own")
    assert builder.info.features["amodal_masks"].shape == (3, 20, 3)  # 20 columns take three bytes
    builder.download_and_prepare()
    expected = polygons.scenes(np.arange(2), seed=0, size=20)
    stored = built_datasets.contents(builder, "train")

    masks = np.unpackbits(stored["amodal_masks"], axis=-1, count=20)
    np.testing.assert_array_equal(masks, expected["amodal_masks"])
    assert masks[:, 0].all()
    assert 0 < masks[:, 1:].mean() < 0.5

    assert stored["depth_map"].dtype == np.float16
    np.testing.assert_array_equal(stored["depth_map"][1], np.arange(400.0).reshape(20, 20) / 8 + 1)

    np.testing.assert_array_equal(
        built_datasets.contents(builder, "test")["scene"]["place"], [[2, 2]]
    )
    np.testing.assert_array_equal(stored["scene"]["number"], [0.0, 1.0])
    assert RichPolygons(data_dir=tmp_path, config="own").info.metadata["made_by"] == "a test"


def test_public_files_have_no_amodal_masks():
    builder = RichPolygons(config=SceneConfig(name="file", public=True))
    assert not builder.has_amodal_masks
    assert "amodal_masks" not in builder.info.features


def test_a_dataset_knows_its_folder_and_its_variations_keep_it():
    folder = pathlib.Path(tetris_dataset_builder.__file__).parent
    for builder in (tetris_dataset_builder.Builder, PlainTetris):
        assert builder.code_path == folder / "tetris_dataset_builder.py"
        assert builder.pkg_dir_path == folder
        assert builder.DEFAULT_BUILDER_CONFIG_NAME == "generated"


def test_a_dataset_without_published_files_is_generated_only():
    class Unpublished(RichPolygons, skip_registration=True):
        HAS_PUBLISHED_FILES = False

    assert Unpublished.MANUAL_DOWNLOAD_INSTRUCTIONS is None
    with pytest.raises(UserError, match="`public` must be False for unpublished: .*public=True"):
        Unpublished(config=SceneConfig(name="file", public=True))


def test_a_config_that_repeats_the_classs_own_is_that_one():
    own = RichPolygons.BUILDER_CONFIGS[0]
    repeated = RichPolygons(
        config=SceneConfig(
            name="own", num_train=2, num_test=1, test_start=2, description="in other words"
        )
    )
    assert repeated.builder_config is own
    with pytest.raises(ValueError, match="Cannot name a custom BuilderConfig the same"):
        RichPolygons(config=SceneConfig(name="own", num_train=3, num_test=1, test_start=3))


@pytest.mark.parametrize("num_processes", [1, 2, 5])
def test_scenes_do_not_depend_on_the_number_of_processes(tmp_path, monkeypatch, num_processes):
    monkeypatch.setenv("TFOBJ_PROCESSES", str(num_processes))
    builder = build(ParallelTetris, tmp_path, num_train=11, num_test=4, seed=5)
    for split, first, size in (("train", 0, 11), ("test", 60_000, 4)):
        indices = np.arange(first, first + size)
        stored = built_datasets.contents(builder, split)
        expected = tetris.scenes(indices, seed=5)
        np.testing.assert_array_equal(stored["index"], indices)
        np.testing.assert_array_equal(stored["image"], expected["image"])
        np.testing.assert_array_equal(stored["factors"]["color"], expected["color"])


def test_an_error_of_a_generator_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("TFOBJ_PROCESSES", "2")
    with pytest.raises(ValueError, match="`seed` must be in") as error:
        build(FailingTetris, tmp_path, num_train=11, num_test=4)
    assert "counter_rng.py" in error.value.__notes__[0]
    assert built_datasets.unfinished(tmp_path) == []

    config = SceneConfig(name="small", num_train=11, num_test=4)
    builder = FailingTetris(data_dir=tmp_path, config=config)
    assert not builder.is_prepared()
    assert not builder.info.splits


def test_the_progress_bar_knows_its_total(tmp_path, monkeypatch):
    totals = []
    original = tfds.core.utils.tqdm

    def bar(*args, **kwargs):
        totals.append(kwargs.get("total"))
        return original(*args, **kwargs)

    monkeypatch.setattr(tfds.core.utils, "tqdm", bar)
    builder = build(PlainTetris, tmp_path, num_train=7, num_test=2)

    assert {7, 2} <= set(totals)
    assert {name: split.num_examples for name, split in builder.info.splits.items()} == {
        "train": 7,
        "test": 2,
    }


def test_records_are_spread_over_the_range_of_tfds_keys():
    """TFDS sorts beyond 1 GB in 1,000 files by key: scene numbers would all go into the first."""
    from tensorflow_datasets.core import shuffle

    record = scene_builder._Record(70_000, 72_000, (), (), False, False)
    chunk = {
        "image": np.zeros((2_000, 1, 1, 3), np.uint8),
        "mask": np.zeros((2_000, 1, 1), np.uint8),
    }
    keys, examples = zip(*record.examples(70_000, chunk), strict=True)

    assert list(keys) == sorted(set(keys))
    assert keys[-1] < 2**128
    buckets = [shuffle.get_bucket_number(key, 1_000) for key in keys]
    assert np.bincount(buckets).tolist() == [2] * 1_000
    assert [example["index"] for example in examples[-2:]] == [71_998, 71_999]


@pytest.fixture
def beam_options():
    """Apache Beam's own runner, in this process."""
    pytest.importorskip("apache_beam")
    from apache_beam.options.pipeline_options import PipelineOptions

    logging.getLogger("apache_beam").setLevel(logging.ERROR)
    return PipelineOptions(flags=["--runner=DirectRunner", "--direct_running_mode=in_memory"])


@pytest.mark.slow  # Beam takes ten seconds to start
@pytest.mark.filterwarnings("ignore")  # of Beam, about its own parts
@pytest.mark.parametrize("num_shards", [1, 3])
def test_beam_builds_the_same(tmp_path, beam_options, num_shards):
    options = {"num_train": 31, "num_test": 9, "seed": 2}
    plain = build(
        PlainTetris,
        tmp_path / "plain",
        tfds.download.DownloadConfig(num_shards=num_shards),
        **options,
    )
    with_beam = build(
        ParallelTetris,
        tmp_path / "beam",
        tfds.download.DownloadConfig(num_shards=num_shards, beam_options=beam_options),
        **options,
    )

    for split in ("train", "test"):
        assert with_beam.info.splits[split].num_shards == num_shards
        assert_same(
            built_datasets.contents(with_beam, split), built_datasets.contents(plain, split)
        )


@pytest.mark.slow  # a fresh interpreter with TensorFlow
def test_beam_is_not_imported_without_its_options(tmp_path):
    text = (
        "import sys\n"
        "from tfobj.datasets.tetris.tetris_dataset_builder import Builder\n"
        "from tfobj.datasets.scene_builder import SceneConfig\n"
        "config = SceneConfig(name='small', num_train=2, num_test=1)\n"
        f"Builder(data_dir={str(tmp_path)!r}, config=config).download_and_prepare()\n"
        "assert 'apache_beam' not in sys.modules\n"
    )
    result = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("text", ["0", "many"])
def test_a_wrong_number_of_processes_gives_one_line(tmp_path, monkeypatch, text):
    monkeypatch.setenv("TFOBJ_PROCESSES", text)
    with pytest.raises(UserError, match="`TFOBJ_PROCESSES` must be"):
        build(ParallelTetris, tmp_path, num_train=4, num_test=1)
