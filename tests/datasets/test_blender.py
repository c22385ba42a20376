"""The driver of Blender with a stand-in for its worker.

Slow tests run the worker itself, if there is a Blender.
"""

import json
import os
import shutil
import stat
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

from tfobj.datasets.blender import driver
from tfobj.datasets.clevr_with_masks import clevr_with_masks_dataset_builder
from tfobj.datasets.generators import clevr_scenes
from tfobj.errors import UserError

STAND_IN = '''#!{python}
"""Answers like the worker: a picture of the job's numbers instead of the scene."""
import json, pathlib, sys
import numpy as np
from PIL import Image
job, folder = json.loads(pathlib.Path(sys.argv[2]).read_text()), pathlib.Path(sys.argv[3])
print("Saved: noise")
{extra}
(folder / "version.txt").write_text("4.5.0")
(pathlib.Path({record!r})).write_text(json.dumps(job))
for i, scene in enumerate(job["scenes"]):
    size, count = job["size"], len(scene["objects"])
    image = np.full((size, size, 3), (10, 20, scene["seed"] % 256), np.uint8)
    Image.fromarray(image).save(folder / f"{{i}}.png")
    masks = np.zeros((count, size, size), np.uint8)
    masks[np.arange(count), np.arange(count)] = 1
    label = (masks * np.arange(1, 1 + count)[:, None, None]).max(axis=0).astype(np.uint8)
    depth = np.full((size, size), i + 0.5, np.float32)
    np.savez_compressed(folder / f"{{i}}.npz", mask=label, amodal_masks=masks, depth_map=depth)
'''


@pytest.fixture
def blender(tmp_path, monkeypatch):
    """Makes a Python that stands in for Blender; returns a function that reads the last job."""

    def make(extra=""):
        path = tmp_path / "python"
        record = tmp_path / "job.json"
        path.write_text(STAND_IN.format(python=sys.executable, extra=extra, record=str(record)))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv(driver.VARIABLE, str(path))
        return lambda: json.loads(record.read_text())

    return make


def test_driver_brings_back_what_the_worker_wrote(blender):
    job = blender()
    scenes = driver.scenes(np.array([3, 7]), seed=1, variant="clevr5", size=20, samples=4)
    expected = clevr_scenes.factors(np.array([3, 7]), seed=1, variant="clevr5")
    for name, values in expected.items():
        np.testing.assert_array_equal(scenes[name], values)
    assert scenes["image"].shape == (2, 20, 20, 3)
    assert scenes["image"][1, 0, 0].tolist() == [10, 20, 7]
    assert scenes["amodal_masks"].shape == (2, 6, 20, 20)
    assert scenes["amodal_masks"][:, 0].all()

    for row, count in enumerate(expected["visibility"].sum(axis=1).astype(int)):
        assert scenes["mask"][row, count - 2, 0] == count - 1
        assert scenes["mask"][row].max() == count - 1
        assert not scenes["amodal_masks"][row, count:].any()

    np.testing.assert_array_equal(scenes["depth_map"][:, 0, 0], np.float16([0.5, 1.5]))
    assert (job()["samples"], job()["size"], job()["shift"], job()["sensor_width"]) == (
        4,
        20,
        [0.0, 0.0],
        32 * 96 / 160,
    )


def test_driver_describes_scenes_without_codes(blender):
    job = blender()
    driver.scenes(np.array([0]), variant="clevr6", size=16)
    factors = clevr_scenes.factors(np.array([0]), variant="clevr6")
    scene = job()["scenes"][0]

    np.testing.assert_allclose(scene["camera"], factors["camera"][0])
    np.testing.assert_allclose(scene["lights"], factors["lights"][0])
    assert scene["ground"] == pytest.approx(0.8)
    assert len(scene["objects"]) == factors["visibility"][0].sum() - 1

    for number, entity in enumerate(scene["objects"], start=1):
        shape = int(factors["shape"][0, number])
        assert entity["shape"] == ("sphere", "cylinder", "cube")[shape - 1]
        assert entity["material"] == ("rubber", "metal")[int(factors["material"][0, number]) - 1]
        assert entity["radius"] == (0.7, 0.35)[int(factors["size"][0, number]) - 1]
        np.testing.assert_allclose(entity["location"], [factors[axis][0, number] for axis in "xyz"])
        np.testing.assert_allclose(entity["color"], factors["rgb"][0, number])
        assert entity["azimuth"] == pytest.approx(factors["rotation"][0, number])

    # The papers' crop of 192 of 320 columns, five pixels below the middle, and the roughness of
    # today's Blender.
    assert job()["sensor_width"] == pytest.approx(19.2)
    assert job()["shift"] == pytest.approx([0, -5 / 192])
    assert sorted(np.round(job()["metal"], 3).tolist()) == [[0.4, 0.447], [0.6, 0.1]]


def test_view_of_the_whole_picture():
    assert driver._view(clevr_scenes.VARIANTS["clevr3"].frame) == {
        "sensor_width": 32.0,
        "shift": (0.0, 0.0),
    }


def test_grayscale_is_the_luma(blender):
    blender()
    image = driver.scenes(np.array([0]), variant="clevr6_grayscale", size=16)["image"]
    assert image.shape == (1, 16, 16, 1)
    assert image[0, 0, 0, 0] == round(0.299 * 10 + 0.587 * 20)


def test_builder_stores_what_blender_made(blender, tmp_path):
    blender()
    config = clevr_with_masks_dataset_builder.ClevrConfig(
        name="small", renderer="blender", num_train=2, num_test=1, image_size=16, samples=8
    )
    builder = clevr_with_masks_dataset_builder.Builder(data_dir=tmp_path, config=config)
    builder.download_and_prepare()
    stored = tfds.as_numpy(builder.as_dataset(split="train", batch_size=-1))

    assert stored["image"][1, 0, 0].tolist() == [10, 20, 1]
    assert dict(builder.info.metadata) == {
        "renderer": "blender",
        "variant": "clevr6",
        "seed": 0,
        "samples": 8,
        "blender": "4.5.0",
    }


def one_line(message):
    """Expects a `UserError` whose message matches."""
    return pytest.raises(UserError, match=message)


def test_missing_blender_says_what_to_install_and_what_needs_none(tmp_path):
    if (
        shutil.which("blender")
        or subprocess.run([sys.executable, "-c", "import bpy"], capture_output=True).returncode == 0
    ):
        pytest.skip("this Python has Blender")

    config = clevr_with_masks_dataset_builder.ClevrConfig(
        name="small", renderer="blender", num_train=1, num_test=1
    )
    message = (
        r"needs Blender as a Python module.*No module named 'bpy'.*pip install tfobj\[blender\]"
        r".*TFOBJ_BLENDER_PYTHON.*raycast_\.\.\. need no Blender"
    )

    with one_line(message) as error:
        clevr_with_masks_dataset_builder.Builder(
            data_dir=tmp_path, config=config
        ).download_and_prepare()

    assert "\n" not in str(error.value)


def test_python_that_is_none(monkeypatch, tmp_path):
    monkeypatch.setenv(driver.VARIABLE, str(tmp_path / "nowhere"))
    with one_line(
        r"`TFOBJ_BLENDER_PYTHON` must be the Python of an environment with `bpy`. "
        r"Received: .*nowhere"
    ):
        driver.version()


def test_packages_of_this_python_are_not_forced_on_the_other(blender, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "packages of this one")
    blender(extra="import os\nassert 'PYTHONPATH' not in os.environ")
    assert driver.version() == "4.5.0"


def test_blender_that_fails(blender):
    blender(extra="raise MemoryError('no memory for the scene')")
    with one_line(
        r"Blender \(.*python\) ended with status 1: MemoryError: no memory for the scene"
    ):
        driver.version()


@pytest.fixture
def real_blender(monkeypatch):
    """Returns Blender's version; skips the test if neither `driver.VARIABLE` nor `bpy` is there."""
    if not os.environ.get(driver.VARIABLE):
        pytest.importorskip("bpy")
    return driver.version()


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["clevr6", "clevr5_vbg", "clevr3"])
def test_both_renderers_show_the_same_scene(real_blender, variant):
    indices = np.array([0, 1])
    cast = clevr_scenes.scenes(indices, variant=variant, size=64)
    drawn = driver.scenes(indices, variant=variant, size=64, samples=8)
    assert (drawn["mask"] == cast["mask"]).mean() > 0.998
    assert (drawn["amodal_masks"] == cast["amodal_masks"]).mean() > 0.998
    same = drawn["mask"] == cast["mask"]
    assert np.abs(drawn["depth_map"].astype(np.float32) - cast["depth_map"])[same].mean() < 0.01
    assert np.abs(drawn["image"].astype(np.float32) - cast["image"]).mean() < 12


@pytest.mark.slow
def test_masks_of_blender_are_consistent(real_blender):
    scenes = driver.scenes(np.array([4]), variant="clevr", size=64, samples=1)
    visible = scenes["mask"][:, None] == np.arange(11)[:, None, None]
    amodal = scenes["amodal_masks"].astype(bool)
    assert not (visible & ~amodal).any()
    np.testing.assert_array_equal(visible[:, 1:].any(axis=1), amodal[:, 1:].any(axis=1))
    again = driver.scenes(np.array([4]), variant="clevr", size=64, samples=1)
    assert np.abs(scenes["image"].astype(int) - again["image"]).max() <= 2
    np.testing.assert_array_equal(scenes["mask"], again["mask"])
