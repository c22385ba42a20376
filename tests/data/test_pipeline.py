"""Batch streams: every scene once per epoch, a function of (seed, step), equal through tf.data."""

import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

from tfobj.data import transforms
from tfobj.data.packed import SceneArrays
from tfobj.data.pipeline import BatchStream, evaluation_batches
from tfobj.errors import UserError


def numbered_scenes(num_scenes, labels=True):
    """Scenes of 2x2 pixels whose first pixel is their number."""
    image = np.zeros((num_scenes, 2, 2, 3), np.uint8)
    image[:, 0, 0, 0] = np.arange(num_scenes)
    return SceneArrays(image, image[..., 0].copy() if labels else None)


def numbers(batch):
    return batch["image"][:, 0, 0, 0].tolist()


@pytest.mark.parametrize("num_scenes, batch_size", [(10, 4), (12, 4), (7, 1), (5, 13), (1, 3)])
def test_every_scene_exactly_once_per_epoch(num_scenes, batch_size):
    stream = BatchStream(numbered_scenes(num_scenes), batch_size, seed=1)
    num_epochs = 6
    flat = np.concatenate(
        [stream.indices(step) for step in range(-(-num_epochs * num_scenes // batch_size))]
    )
    for epoch in range(num_epochs):
        assert sorted(flat[epoch * num_scenes : (epoch + 1) * num_scenes]) == list(
            range(num_scenes)
        )


def test_epochs_and_seeds_have_different_orders():
    scenes = numbered_scenes(50)
    orders = [
        BatchStream(scenes, 50, seed).indices(epoch).tolist()
        for seed in (0, 1, 2**40)
        for epoch in (0, 1)
    ]
    assert len({tuple(order) for order in orders}) == 6


def test_batch_is_a_function_of_the_step_alone():
    scenes = numbered_scenes(23)
    stream = BatchStream(scenes, 5, seed=3)
    forward = [numbers(stream.batch(step)) for step in range(40)]
    backward = [numbers(BatchStream(scenes, 5, seed=3).batch(step)) for step in reversed(range(40))]
    assert forward == backward[::-1]


def test_golden_order():
    """A changed order would silently change every resumed run."""
    stream = BatchStream(numbered_scenes(10), 10, seed=0)
    assert stream.indices(0).tolist() == [6, 1, 9, 2, 3, 7, 5, 4, 8, 0]
    assert stream.indices(10**9).tolist() == [4, 9, 0, 7, 6, 3, 5, 8, 2, 1]


def test_batch_straddles_epochs():
    scenes = numbered_scenes(5)
    whole = BatchStream(scenes, 5, seed=9)
    first = whole.indices(0)
    second = whole.indices(1)
    np.testing.assert_array_equal(
        BatchStream(scenes, 3, seed=9).indices(1), [*first[3:], second[0]]
    )


def test_without_shuffling_scenes_come_in_order():
    stream = BatchStream(numbered_scenes(5), 3, shuffle=False)
    assert [numbers(stream.batch(step)) for step in range(3)] == [[0, 1, 2], [3, 4, 0], [1, 2, 3]]


def test_batches_are_copies():
    scenes = numbered_scenes(4)
    BatchStream(scenes, 4).batch(0)["image"][:] = 255
    assert scenes.image.max() == 3


@pytest.mark.parametrize("start_step", [0, 7])
@pytest.mark.parametrize("num_parallel_calls", [1, 4])
@pytest.mark.parametrize("batch_size", [1, 5, 50])
@pytest.mark.parametrize("shuffle", [True, False])
def test_dataset_equals_batches_from_any_step(start_step, num_parallel_calls, batch_size, shuffle):
    stream = BatchStream(numbered_scenes(23), batch_size, seed=2**63 + 3, shuffle=shuffle)
    dataset = stream.dataset(start_step, num_parallel_calls=num_parallel_calls)
    for step, batch in zip(
        range(start_step, start_step + 12), dataset.as_numpy_iterator(), strict=False
    ):
        expected = stream.batch(step)
        np.testing.assert_array_equal(
            batch["image"], expected["image"].astype(np.float32) / np.float32(255)
        )
        np.testing.assert_array_equal(batch["mask"], expected["mask"])


def test_dataset_of_many_scenes_has_the_same_order():
    """Enough scenes for equal random words (70 pairs expected), kept in order by both sorts."""
    stream = BatchStream(SceneArrays(np.zeros((777_777, 1, 1, 1), np.uint8)), 10, seed=1)
    order = stream._draw_permutation(3)
    np.testing.assert_array_equal(stream._tensorflow_permutation(np.int64(3)), order)


def test_dataset_of_mapped_files_and_of_slices(tmp_path):
    """Mapped memory is shared; a slice at an odd address, where kernels would crash, is copied."""
    np.save(
        tmp_path / "image.npy",
        np.random.default_rng(0).integers(0, 256, (50, 5, 7, 3), dtype=np.uint8),
    )
    arrays = SceneArrays(np.load(tmp_path / "image.npy", mmap_mode="c"))
    for chosen in (arrays, arrays.slice(1, 30)):
        stream = BatchStream(chosen, 8)
        batch = next(stream.dataset().as_numpy_iterator())
        expected = stream.batch(0)["image"]
        np.testing.assert_array_equal(batch["image"], expected.astype(np.float32) / np.float32(255))


def private_megabytes():
    """Returns the memory that this process shares with no file, in MB."""
    status = pathlib.Path("/proc/self/status").read_text()
    return int(re.search(r"RssAnon:\s+(\d+)", status)[1]) / 1024


@pytest.mark.skipif(not pathlib.Path("/proc/self/status").exists(), reason="needs Linux")
def test_mapped_scenes_are_not_copied(tmp_path):
    """96 MB of them stay where they are; rewriting the pipeline once made a second 96 MB."""
    shape = (32, 1024, 1024, 3)
    np.lib.format.open_memmap(tmp_path / "image.npy", "w+", np.uint8, shape).flush()
    scenes = SceneArrays(np.load(tmp_path / "image.npy", mmap_mode="c"))
    next(iter(BatchStream(numbered_scenes(4), 1).dataset()))

    before = private_megabytes()
    iterator = iter(BatchStream(scenes, 1).dataset(prefetch=1))
    assert private_megabytes() - before < 48
    del iterator


def test_busy_iterators_can_be_dropped():
    """A Python function inside the pipeline once hung the program here.

    The dropped iterator's call waited for Python's lock, and Python for the call.
    """
    stream = BatchStream(numbered_scenes(200), 64)
    for _ in range(30):
        iterator = iter(stream.dataset())
        for _ in range(20):
            batch = next(iterator)
        np.testing.assert_array_equal(batch["mask"], stream.batch(19)["mask"])


def test_dataset_has_static_shapes_and_range():
    import tensorflow as tf

    scenes = numbered_scenes(256)
    dataset = BatchStream(scenes, 256, shuffle=False).dataset()
    assert dataset.element_spec == {
        "image": tf.TensorSpec((256, 2, 2, 3), tf.float32),
        "mask": tf.TensorSpec((256, 2, 2), tf.uint8),
    }
    image = next(dataset.as_numpy_iterator())["image"]
    assert image.min() == 0.0 and image.max() == 1.0
    assert set(BatchStream(numbered_scenes(4, labels=False), 2).dataset().element_spec) == {"image"}


def test_dataset_is_divided_between_replicas():
    """Two replicas together see the global batch, in order."""
    code = (
        "import numpy as np, tensorflow as tf\n"
        "from tfobj.data import packed, pipeline\n"
        "cpu = tf.config.list_physical_devices('CPU')[0]\n"
        "devices = [tf.config.LogicalDeviceConfiguration()] * 2\n"
        "tf.config.set_logical_device_configuration(cpu, devices)\n"
        "strategy = tf.distribute.MirroredStrategy(['CPU:0', 'CPU:1'])\n"
        "image = np.arange(10, dtype=np.uint8).reshape(10, 1, 1, 1)\n"
        "stream = pipeline.BatchStream(packed.SceneArrays(image), 4, seed=2)\n"
        "batches = iter(strategy.experimental_distribute_dataset(stream.dataset()))\n"
        "for step in range(5):\n"
        "    parts = strategy.experimental_local_results(next(batches)['image'])\n"
        "    parts = [part.numpy() for part in parts]\n"
        "    assert [len(part) for part in parts] == [2, 2]\n"
        "    seen = np.rint(np.concatenate(parts).ravel() * 255)\n"
        "    assert (seen == stream.indices(step)).all(), (step, seen)\n"
        "print('divided')\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )

    assert result.stdout.strip() == "divided", result.stderr


def test_numpy_part_needs_no_tensorflow():
    code = (
        "import sys; sys.modules['tensorflow'] = None\n"
        "import numpy as np\n"
        "from tfobj.data import folder, packed, pipeline, protocols, transforms\n"
        "from tfobj.datasets.generators import polygons, sprites, tetris\n"
        "scenes = tetris.scenes(np.arange(8))\n"
        "arrays = packed.SceneArrays(scenes['image'], scenes['mask'])\n"
        "print(pipeline.BatchStream(arrays, 4).batch(3)['image'].shape)\n"
        "scenes = polygons.scenes(np.arange(8))\n"
        "packed_masks = transforms.pack_masks(scenes['amodal_masks'])\n"
        "arrays = packed.SceneArrays(scenes['image'], scenes['mask'], amodal_masks=packed_masks)\n"
        "print(next(pipeline.evaluation_batches(arrays, 4))['amodal_masks'].shape)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )

    assert result.stdout.split("\n") == ["(4, 35, 35, 3)", "(4, 3, 64, 64)", ""], result.stderr


def test_evaluation_visits_all_scenes_once_in_order():
    batches = list(evaluation_batches(numbered_scenes(10), 4))
    assert [batch["image"].shape for batch in batches] == [(4, 2, 2, 3)] * 3
    assert [batch["valid"].sum() for batch in batches] == [4, 4, 2]
    seen = np.concatenate([batch["image"][batch["valid"], 0, 0, 0] for batch in batches])
    np.testing.assert_array_equal(seen, np.arange(10).astype(np.float32) / np.float32(255))
    assert batches[0]["image"].dtype == np.float32 and batches[0]["mask"].dtype == np.uint8
    # Filled up with a real scene, so that no metric of an invalid row can be NaN.
    np.testing.assert_array_equal(batches[-1]["mask"][2], batches[-1]["mask"][1])


def test_evaluation_batch_may_exceed_the_data():
    (batch,) = evaluation_batches(numbered_scenes(3, labels=False), 8)
    assert batch["valid"].tolist() == [True] * 3 + [False] * 5 and "mask" not in batch


def test_evaluation_unpacks_amodal_masks_and_adds_depth():
    rng = np.random.default_rng(0)
    amodal_masks = rng.integers(0, 2, (7, 4, 5, 13), dtype=np.uint8)
    depth = rng.uniform(size=(7, 4)).astype(np.float32)
    arrays = SceneArrays(
        np.zeros((7, 5, 13, 3), np.uint8),
        np.zeros((7, 5, 13), np.uint8),
        {"depth": depth, "x": depth},
        amodal_masks=transforms.pack_masks(amodal_masks),
    )
    batches = list(evaluation_batches(arrays, 3))

    assert all(
        set(batch) == {"image", "mask", "valid", "amodal_masks", "depth"} for batch in batches
    )

    for name, expected in (("amodal_masks", amodal_masks), ("depth", depth)):
        assert [batch[name].shape for batch in batches] == [(3, *expected.shape[1:])] * 3
        assert batches[0][name].dtype == expected.dtype
        seen = np.concatenate([batch[name][batch["valid"]] for batch in batches])
        np.testing.assert_array_equal(seen, expected)
        np.testing.assert_array_equal(batches[-1][name][1:], np.stack([expected[6]] * 2))

    # Training sees neither.
    stream = BatchStream(arrays, 3)
    assert set(stream.batch(0)) == set(stream.dataset().element_spec) == {"image", "mask"}


def test_evaluation_takes_depth_without_amodal_masks():
    arrays = SceneArrays(
        np.zeros((2, 3, 3, 3), np.uint8), factors={"depth": np.ones((2, 4), np.float32)}
    )
    (batch,) = evaluation_batches(arrays, 2)
    assert set(batch) == {"image", "valid", "depth"}


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(batch_size=0), "`batch_size` must be at least 1. Received: batch_size=0"),
        (dict(batch_size=1, seed=-1), "`seed` must be in"),
    ],
)
def test_errors_name_the_argument(arguments, message):
    with pytest.raises(UserError, match=message):
        BatchStream(numbered_scenes(3), **arguments)


def test_empty_data_is_an_error():
    with pytest.raises(UserError, match="`arrays` must hold at least one scene"):
        BatchStream(numbered_scenes(0), 1)
    with pytest.raises(UserError, match="`batch_size` must be at least 1"):
        list(evaluation_batches(numbered_scenes(3), 0))
