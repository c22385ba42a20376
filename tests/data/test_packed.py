"""Packed splits: contents, filters, crops, atomicity, races, damage."""

import dataclasses
import multiprocessing
import os
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds

from tfobj.data import packed, pipeline, protocols, transforms
from tfobj.datasets.generators import polygons, sprites, tetris
from tfobj.datasets.tetris.tetris_dataset_builder import Builder
from tfobj.errors import UserError

SMALL = protocols.get("tetris").with_sizes(num_train=40, num_test=20)
POLYGONS = protocols.get("overlapping_polygons").with_sizes(num_train=30, num_test=10)


@pytest.fixture
def data_dir(tmp_path):
    return str(tmp_path / "data")


@pytest.fixture(scope="module")
def prepared_dir(tmp_path_factory):
    """A data folder with the small dataset built and `train` unpacked."""
    path = str(tmp_path_factory.mktemp("data"))
    packed.open_split(SMALL, "train", path)
    return path


def version_folder(data_dir):
    return os.path.join(data_dir, "tetris", SMALL.config, "1.0.0")


def test_open_split_builds_and_unpacks(prepared_dir):
    expected = tetris.scenes(np.arange(40))
    arrays = packed.open_split(SMALL, "train", prepared_dir)
    assert arrays.amodal_masks is None
    assert len(arrays) == 40 and arrays.num_objects == 3 and arrays.fields == ("image", "mask")
    np.testing.assert_array_equal(arrays.image, expected["image"])
    np.testing.assert_array_equal(arrays.mask, expected["mask"])
    assert set(arrays.factors) == {"x", "y", "shape", "color", "visibility"}
    for name, values in arrays.factors.items():
        np.testing.assert_array_equal(values, expected[name])


def test_test_split_holds_the_scenes_of_the_full_protocol(prepared_dir):
    arrays = packed.open_split(SMALL, "test", prepared_dir)
    np.testing.assert_array_equal(arrays.image, tetris.scenes(np.arange(60_000, 60_020))["image"])


def test_arrays_are_mapped_and_writing_does_not_reach_the_file(prepared_dir):
    arrays = packed.open_split(SMALL, "train", prepared_dir)
    assert isinstance(arrays.image, np.memmap)
    arrays.image[0] = 255
    assert packed.open_split(SMALL, "train", prepared_dir).image[0].min() == 0
    taken = arrays.take(7)
    assert len(taken) == 7 and len(taken.mask) == len(taken.factors["x"]) == 7
    assert np.shares_memory(taken.image, arrays.image)
    with pytest.raises(
        UserError, match=r"`num_scenes` must be in 1 ... 40. Received: num_scenes=41"
    ):
        arrays.take(41)


def test_second_opening_reads_no_records(prepared_dir, monkeypatch):
    monkeypatch.setattr(packed, "_pack", lambda *arguments: pytest.fail("unpacked again"))
    assert len(packed.open_split(SMALL, "train", prepared_dir)) == 40


def test_crop_and_resize(prepared_dir):
    cropped = dataclasses.replace(SMALL, crop=((1, 33), (2, 34)), image_size=(32, 32, 3))
    expected = tetris.scenes(np.arange(40))
    arrays = packed.open_split(cropped, "train", prepared_dir)
    np.testing.assert_array_equal(arrays.image, expected["image"][:, 1:33, 2:34])
    np.testing.assert_array_equal(arrays.mask, expected["mask"][:, 1:33, 2:34])
    halved = packed.open_split(
        dataclasses.replace(cropped, image_size=(16, 16, 3)), "train", prepared_dir
    )
    np.testing.assert_array_equal(halved.mask, arrays.mask[:, 1::2, 1::2])
    assert halved.image.shape == (40, 16, 16, 3)


def test_filter_by_object_count(tmp_path):
    protocol = protocols.get("multi_dsprites").with_sizes(60, 20)
    whole = packed.open_split(protocol, "train", tmp_path)
    count = whole.factors["visibility"][:, 1:].sum(axis=1)
    chosen = np.flatnonzero((count >= 2) & (count <= 3))[3:8]
    splits = {
        "few": protocols.Split("train", 3, 8, objects=(2, 3)),
        "none": protocols.Split("train", objects=(9, 10)),
    }
    filtered = dataclasses.replace(protocol, splits=splits)
    few = packed.open_split(filtered, "few", tmp_path)

    np.testing.assert_array_equal(few.image, whole.image[chosen])
    np.testing.assert_array_equal(few.factors["x"], whole.factors["x"][chosen])
    with pytest.raises(UserError, match="must lie within the 0 scenes"):
        packed.open_split(filtered, "none", tmp_path)


def test_split_beyond_the_data_is_an_error(prepared_dir):
    longer = dataclasses.replace(SMALL, splits={"train": protocols.Split("train", 0, 41)})
    with pytest.raises(
        UserError, match="must lie within the 40 scenes of tetris/.*Received: scenes 0 to 41"
    ):
        packed.open_split(longer, "train", prepared_dir)
    unknown = dataclasses.replace(SMALL, splits={"val": protocols.Split("validation")})
    with pytest.raises(UserError, match="must have a split 'validation'. Received: train, test"):
        packed.open_split(unknown, "val", prepared_dir)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "cut_between_records"])
def test_damaged_record_file_is_named_and_nothing_is_left(data_dir, damage):
    packed._prepared_builder(SMALL, data_dir)
    folder = version_folder(data_dir)
    (name,) = (name for name in os.listdir(folder) if "train" in name)
    path = pathlib.Path(folder, name)
    content = path.read_bytes()
    first_record = 8 + 4 + int.from_bytes(content[:8], "little") + 4
    damaged = {
        "truncated": content[: len(content) * 2 // 3],
        "flipped": content[:5000] + bytes([content[5000] ^ 0xFF]) + content[5001:],
        "cut_between_records": content[:first_record],
    }[damage]
    path.write_bytes(damaged)
    before = sorted(os.listdir(folder))

    with pytest.raises(UserError, match="is damaged") as error:
        packed.open_split(SMALL, "train", data_dir)
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    assert os.listdir(os.path.join(folder, "packed")) == []
    assert sorted(set(os.listdir(folder)) - {"packed"}) == before

    # The other split is whole and stays usable; with the file back, so is this one.
    assert len(packed.open_split(SMALL, "test", data_dir)) == 20
    path.write_bytes(content)
    assert len(packed.open_split(SMALL, "train", data_dir)) == 40


def test_killed_unpacking_leaves_nothing_that_is_opened(data_dir, monkeypatch):
    def killed(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(packed, "_write", killed)
        with pytest.raises(KeyboardInterrupt):
            packed.open_split(SMALL, "train", data_dir)
    assert os.listdir(os.path.join(version_folder(data_dir), "packed")) == []
    assert len(packed.open_split(SMALL, "train", data_dir)) == 40


def test_damaged_packed_folder_is_named(data_dir):
    packed.open_split(SMALL, "test", data_dir)
    folder = os.path.join(version_folder(data_dir), "packed", "test_35x35x3")
    with open(os.path.join(folder, "mask.npy"), "r+b") as file:
        file.truncate(1000)
    with pytest.raises(UserError, match="test_35x35x3` is damaged .*Delete this folder") as error:
        packed.open_split(SMALL, "test", data_dir)
    assert "\n" not in str(error.value)


def _open_in_process(data_dir):
    return len(packed.open_split(SMALL, "train", data_dir))


def test_two_processes_may_start_at_once(data_dir):
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        assert pool.map(_open_in_process, [data_dir] * 2, chunksize=1) == [40, 40]
    assert os.listdir(os.path.join(version_folder(data_dir), "packed")) == ["train_35x35x3"]


def test_remote_data_folder_is_refused(monkeypatch):
    class Remote:
        data_path = "gs://bucket/tetris/generated/1.0.0"

    monkeypatch.setattr(packed, "_prepared_builder", lambda *arguments: Remote)
    with pytest.raises(UserError, match="`data_dir` must be a local folder.*Received: gs://bucket"):
        packed.open_split(SMALL, "train")


def test_public_protocol_without_network_names_the_way_out(data_dir, monkeypatch):
    def offline(self, url):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(tfds.download.DownloadManager, "download", offline)
    with pytest.raises(
        UserError, match="could not be downloaded .*downloads/manual.*'generated'"
    ) as error:
        packed.open_split(protocols.get("tetris_public"), "train", data_dir)
    assert "\n" not in str(error.value)


def test_public_file_in_the_manual_folder(data_dir):
    manual = os.path.join(data_dir, "downloads", "manual")
    os.makedirs(manual)
    shutil.copy(Builder.pkg_dir_path / "dummy_data" / "tetrominoes_train.tfrecords", manual)
    protocol = protocols.get("tetris_public").with_sizes(5, 3)
    protocol = dataclasses.replace(protocol, options={**protocol.options, "test_start": 5})
    arrays = packed.open_split(protocol, "test", data_dir)
    np.testing.assert_array_equal(arrays.image, tetris.scenes([5, 6, 7])["image"])


@pytest.fixture(scope="module")
def polygons_dir(tmp_path_factory):
    """A data folder with overlapping polygons built."""
    path = str(tmp_path_factory.mktemp("polygons"))
    packed.open_split(POLYGONS, "test", path)
    return path


def test_amodal_masks_and_depth_from_generator_to_evaluation_batch(polygons_dir):
    expected = polygons.scenes(np.arange(90_000, 90_010))
    arrays = packed.open_split(POLYGONS, "test", polygons_dir)
    assert isinstance(arrays.amodal_masks, np.memmap) and arrays.amodal_masks.shape == (
        10,
        3,
        64,
        8,
    )

    batches = list(pipeline.evaluation_batches(arrays, 4))
    assert batches[0]["amodal_masks"].dtype == np.uint8 and batches[0]["depth"].dtype == np.float32

    for name in ("amodal_masks", "depth", "mask"):
        seen = np.concatenate([batch[name][batch["valid"]] for batch in batches])
        np.testing.assert_array_equal(seen, expected[name])

    assert set(pipeline.BatchStream(arrays, 4).batch(0)) == {"image", "mask"}


def test_slices_of_amodal_masks_stay_with_their_scenes(polygons_dir):
    arrays = packed.open_split(POLYGONS, "test", polygons_dir)
    part = arrays.slice(3, 9).take(4)
    np.testing.assert_array_equal(part.amodal_masks, arrays.amodal_masks[3:7])
    assert np.shares_memory(part.amodal_masks, arrays.amodal_masks)


@pytest.mark.parametrize(
    "crop, size",
    [
        (((10, 51), (7, 48)), (41, 41)),
        (None, (32, 32)),
        (((5, 61), (8, 64)), (28, 35)),
        (None, (64, 21)),
    ],
)
def test_amodal_masks_are_cropped_and_resized_as_the_labels_are(polygons_dir, crop, size):
    protocol = dataclasses.replace(POLYGONS, crop=crop, image_size=(*size, 3))
    arrays = packed.open_split(protocol, "test", polygons_dir)
    expected = polygons.scenes(np.arange(90_000, 90_010))
    masks = expected["amodal_masks"]
    (top, bottom), (left, right) = crop or ((0, 64), (0, 64))
    rows = top + ((np.arange(size[0]) + 0.5) * (bottom - top) / size[0]).astype(int)
    columns = left + ((np.arange(size[1]) + 0.5) * (right - left) / size[1]).astype(int)
    seen = transforms.unpack_masks(arrays.amodal_masks, size[1])

    np.testing.assert_array_equal(seen, masks[:, :, rows[:, None], columns])
    np.testing.assert_array_equal(arrays.mask, expected["mask"][:, rows[:, None], columns])
    # So the visible parts are still what remains of the full extents.
    np.testing.assert_array_equal(arrays.mask == 1, (seen[:, 1] == 1) & (seen[:, 2] == 0))


def test_amodal_masks_are_filtered_with_their_scenes(tmp_path):
    protocol = protocols.get("multi_dsprites_colored_on_black").with_sizes(60, 20)
    splits = {"few": protocols.Split("train", 2, 9, objects=(3, 3))}
    few = packed.open_split(dataclasses.replace(protocol, splits=splits), "few", tmp_path)
    expected = sprites.scenes(np.arange(60), variant="colored_on_black")
    chosen = np.flatnonzero(expected["visibility"].sum(axis=1) == 4)[2:9]
    np.testing.assert_array_equal(few.image, expected["image"][chosen])
    np.testing.assert_array_equal(
        transforms.unpack_masks(few.amodal_masks, 64), expected["amodal_masks"][chosen]
    )
    np.testing.assert_array_equal(few.factors["depth"], expected["depth"][chosen])


def test_folders_packed_before_there_were_amodal_masks_are_read(polygons_dir, tmp_path):
    data_dir = str(tmp_path / "data")
    shutil.copytree(polygons_dir, data_dir)
    (file,) = pathlib.Path(data_dir).rglob("packed/test_64x64x3/amodal_masks.npy")
    file.unlink()
    arrays = packed.open_split(POLYGONS, "test", data_dir)
    assert arrays.amodal_masks is None and len(arrays.take(3)) == 3
    assert "amodal_masks" not in next(pipeline.evaluation_batches(arrays, 4))


def test_amodal_masks_of_another_length_are_damage(polygons_dir, tmp_path):
    data_dir = str(tmp_path / "data")
    shutil.copytree(polygons_dir, data_dir)
    (file,) = pathlib.Path(data_dir).rglob("packed/test_64x64x3/amodal_masks.npy")
    np.save(file, np.load(file)[:9])
    with pytest.raises(UserError, match="test_64x64x3` is damaged .arrays of unequal length"):
        packed.open_split(POLYGONS, "test", data_dir)
