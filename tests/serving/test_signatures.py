"""The served functions: equal to the Python call for any image size, number of slots and steps."""

import contextlib

import conformance
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfobj import random
from tfobj.serving import checks

TOLERANCE = 2e-5
"""For outputs of order 1: with free numbers of slots and steps, a graph sums in another order."""


def random_images(batch, size):
    return np.random.default_rng(0).integers(0, 256, (batch, *size, 3)).astype(np.uint8)


def unit(images):
    return images / np.float32(255.0)


def pillow_resize(images, size):
    """Resizes [..., H, W, C] as TensorFlow does: half-pixel centres, antialiased."""
    images = np.asarray(images, np.float32)
    height, width = size
    planes = np.moveaxis(images, -1, -3).reshape(-1, *images.shape[-3:-1])
    resized = [
        np.asarray(Image.fromarray(plane).resize((width, height), Image.Resampling.BILINEAR))
        for plane in planes
    ]
    stacked = np.stack(resized).reshape(*images.shape[:-3], images.shape[-1], height, width)
    return np.moveaxis(stacked, -3, -1)


def assert_close(found, expected, name):
    """Compares relative to the largest value, as sums are in another order."""
    expected = np.asarray(expected)
    atol = TOLERANCE * (1 + np.abs(expected).max())
    np.testing.assert_allclose(found, expected, atol=atol, err_msg=name)


def assert_equal_results(served, outputs):
    for name in ("recon", "masks", "slot_recons", "slots"):
        assert_close(served[name], getattr(outputs, name), name)
    for name, expected in (outputs.posterior or {}).items():
        found = served[f"posterior_{name}"]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4, err_msg=name)


def called(model, images, seed, **options):
    """Returns the outputs of the Python call; a batch has the noise of its first scene."""
    if images.dtype == np.uint8:
        images = unit(images)
    # One image needs no context, or the tests would not see noise of a wrong scene axis.
    sharing = random.shared_by_scenes() if len(images) > 1 else contextlib.nullcontext()
    with sharing:
        return model(images, seed=random.make_seed(seed), **options)


def free_options(model, num_slots, num_steps):
    """Returns the options that the model leaves free."""
    options = {}
    if not model.slots_are_fixed:
        options["num_slots"] = num_slots
    if model.has_steps:
        options["num_steps"] = num_steps
    return options


@pytest.mark.parametrize("batch", [1, 3])
def test_decompose_equals_the_python_call(exported, batch):
    model = exported.model
    images = random_images(batch, model.config.image_size)
    outputs = called(model, images, seed=5)
    served = exported.loaded.decompose(images, seed=5)
    assert_equal_results(served, outputs)
    np.testing.assert_allclose(tf.reduce_sum(served["masks"], axis=1), 1.0, atol=1e-5)
    largest = np.argmax(served["masks"], axis=1)[..., 0]
    np.testing.assert_array_equal(served["segmentation"], largest)
    assert served["segmentation"].dtype == tf.uint8


def test_free_slots_and_steps_equal_the_python_call(exported):
    """In the graph they are tensors: steps become a loop, and noise has a free shape."""
    chosen = free_options(exported.model, num_slots=5, num_steps=3)
    images = random_images(2, exported.model.config.image_size)
    served = exported.loaded.decompose(images, seed=-7, **chosen)
    assert_equal_results(served, called(exported.model, images, seed=-7, **chosen))
    assert served["masks"].shape[1] == chosen.get("num_slots", exported.model.config.num_slots)


def test_seed_matters_where_there_is_noise(exported):
    images = random_images(1, exported.model.config.image_size)
    results = [
        np.asarray(exported.loaded.decompose(images, seed=seed)["slot_recons"])
        for seed in (0, 0, 1)
    ]
    np.testing.assert_allclose(results[0], results[1], atol=1e-5)

    # Slot MLP has no noise, and factored scenes use the modes of their posterior.
    has_noise = type(exported.model).__name__ not in ("SlotMLPAutoencoder", "FactoredScenes")
    assert has_noise == (np.abs(results[0] - results[2]).max() > 1e-4)


def test_results_of_a_scene_do_not_depend_on_its_neighbours(exported):
    """Alone, in a batch, and at another place of the batch, so servers may join requests."""
    images = random_images(6, exported.model.config.image_size)
    order = [4, 0, 5, 2, 1, 3]
    batch = exported.loaded.decompose(images, seed=3)
    permuted = exported.loaded.decompose(images[order], seed=3)
    for name, value in batch.items():
        if name == "segmentation":
            continue
        assert_close(permuted[name], np.asarray(value)[order], name)
    for i in (0, 5):
        alone = exported.loaded.decompose(images[i : i + 1], seed=3)
        assert_close(alone["masks"][0], batch["masks"][i], "masks")
        assert_close(alone["slots"][0], batch["slots"][i], "slots")


@pytest.mark.parametrize("size", [(7, 31), (40, 25), (1, 1)])
def test_images_of_any_size_are_resized_as_by_pillow(exported_iodine, size):
    """On the way in and on the way out."""
    model = exported_iodine.model
    images = random_images(2, size)
    served = exported_iodine.loaded.decompose(images, seed=1)
    small = pillow_resize(unit(images), model.config.image_size)
    outputs = called(model, small, seed=1)
    for name in ("recon", "masks", "slot_recons"):
        expected = pillow_resize(getattr(outputs, name), size)
        assert served[name].shape == expected.shape
        np.testing.assert_allclose(served[name], expected, atol=1e-4, err_msg=name)
    np.testing.assert_allclose(tf.reduce_sum(served["masks"], axis=1), 1.0, atol=1e-5)
    assert served["segmentation"].shape == (2, *size)


@pytest.mark.parametrize("shape", [(2, 35, 35, 3), (1, 3, 7, 64, 1), (2, 1, 1, 3)])
def test_a_resize_to_the_same_size_is_none(shape):
    """Bit for bit; known only when the graph runs."""
    images = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    *lead, height, width, channels = shape
    sides = [height, width] if len(shape) == 5 else [None, None]  # masks have the model's size
    free = tf.TensorSpec([*[None] * len(lead), *sides, channels])
    size = tf.TensorSpec([2], tf.int32)
    resize = tf.function(checks.resize, autograph=False).get_concrete_function(free, size)
    same = resize(tf.constant(images), tf.constant([height, width]))
    np.testing.assert_array_equal(same, images)

    # So is the resize that is skipped: TensorFlow's own, whose size is not known to be the same.
    flat = images.reshape(-1, height, width, channels)
    kernel = tf.raw_ops.ScaleAndTranslate(
        images=flat,
        size=[height, width],
        scale=[1.0, 1.0],
        translation=[0.0, 0.0],
        kernel_type="triangle",
        antialias=True,
    )
    np.testing.assert_array_equal(kernel, flat)

    other = resize(tf.constant(images), tf.constant([height + 2, 5]))
    expected = tf.image.resize(flat, [height + 2, 5], antialias=True)
    np.testing.assert_array_equal(other, tf.reshape(expected, [*lead, height + 2, 5, channels]))


def test_uint8_and_float_images_agree(exported):
    images = random_images(2, (9, 14))
    from_bytes = exported.loaded.decompose(images)
    from_floats = exported.loaded.decompose(unit(images))
    assert set(from_bytes) == set(from_floats)
    # Not bit for bit, as threads sum in any order.
    for name, value in from_bytes.items():
        np.testing.assert_allclose(value, from_floats[name], rtol=1e-4, atol=1e-5, err_msg=name)


def test_signatures_with_all_results_agree_with_decompose(exported):
    signatures = exported.loaded.signatures
    config = exported.model.config
    images = tf.constant(random_images(2, (9, 14)))
    expected = exported.loaded.decompose(images)
    options = {
        "num_slots": tf.constant(config.num_slots),
        "num_steps": tf.constant(config.num_steps),
        "seed": tf.constant(0),
    }

    answers = [
        signatures["serving_default"](image=images),
        signatures["serving_float"](image=unit(images.numpy())),
        signatures["decompose"](image=images, **options),
    ]
    for answer in answers:
        assert set(answer) == set(expected)
        for name, value in expected.items():
            np.testing.assert_allclose(answer[name], value, rtol=1e-4, atol=1e-5, err_msg=name)


def test_segment_and_encode_agree_with_decompose(exported):
    signatures = exported.loaded.signatures
    images = tf.constant(random_images(2, (9, 14)))
    expected = exported.loaded.decompose(images)
    segmentation = signatures["segment"](image=images)["segmentation"]
    assert segmentation.dtype == tf.uint8
    assert np.mean(segmentation == expected["segmentation"]) > 0.99

    encoded = signatures["encode"](image=images)
    posterior = {name for name in expected if name.startswith("posterior_")}
    assert set(encoded) == {"slots"} | posterior
    np.testing.assert_allclose(encoded["slots"], expected["slots"], atol=1e-5)


def test_signatures_with_defaults_take_the_image_alone(exported):
    """TensorFlow Serving has no default values: a request must feed every input."""
    for name in ("serving_default", "serving_float", "segment", "encode"):
        assert list(exported.loaded.signatures[name].structured_input_signature[1]) == ["image"]


def test_decode_of_encode_is_the_reconstruction(exported_attention):
    loaded = exported_attention.loaded
    images = random_images(3, exported_attention.model.config.image_size)
    scene = loaded.decode(loaded.encode(images)["slots"])
    np.testing.assert_allclose(scene["recon"], loaded.decompose(images)["recon"], atol=TOLERANCE)


@pytest.mark.parametrize("num_slots", [1, 4])
def test_decode_equals_the_python_call(exported, num_slots):
    shape = (2, num_slots, exported.decomposer.metadata["slot_size"])
    slots = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    scene = exported.loaded.decode(slots)
    expected = exported.model.decode(tf.constant(slots))
    for name, value in expected._asdict().items():
        assert_close(scene[name], value, name)


def test_sample_equals_the_python_call(exported):
    model = exported.model
    assert ("sample" in exported.loaded.signatures) == model.has_prior
    if not model.has_prior:
        return

    num_slots = model.config.num_slots if model.slots_are_fixed else 4
    scene = exported.loaded.sample(2, num_slots, seed=9)
    expected = model.sample(2, random.make_seed(9), num_slots)
    for name, value in expected._asdict().items():
        assert_close(scene[name], value, name)
    assert exported.loaded.sample()["recon"].shape == (1, *model.config.image_size, 3)


ONE = np.full((1, 4, 4, 3), 0.5, np.float32)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda m: m.decompose(ONE, num_slots=1),
            r"`num_slots` must be in 2 ... 64. Received:] \[1\]",
        ),
        (
            lambda m: m.decompose(ONE, num_slots=65),
            r"`num_slots` must be in 2 ... 64. Received:] \[65\]",
        ),
        (
            lambda m: m.encode(ONE, num_steps=0),
            r"`num_steps` must be in 1 ... 100. Received:] \[0\]",
        ),
        (lambda m: m.segment(ONE * np.nan), r"`image` must be finite and in \[0, 1\]"),
        (lambda m: m.decompose(ONE * 255), r"`image` must be finite and in \[0, 1\] .*\[127.5\]"),
        (lambda m: m.decompose(ONE[:0]), "`image` must hold at least one scene"),
        (lambda m: m.decompose(ONE[:, :0]), "`image` must have sides of 1 ... 2048 pixels"),
        (
            lambda m: m.decompose(np.zeros((1, 1, 2049, 3), np.uint8)),
            r"`image` must have sides of 1 ... 2048 pixels.*\[1 2049\]",
        ),
        (lambda m: m.decode(np.full((1, 2, 4), np.inf, np.float32)), "`slots` must be finite"),
        (
            lambda m: m.decode(np.zeros((1, 0, 4), np.float32)),
            r"`slots.shape\[1\]` must be in 1 ... 64",
        ),
        (
            lambda m: m.decode(np.zeros((0, 2, 4), np.float32)),
            "`slots` must hold at least one scene",
        ),
        (lambda m: m.sample(0), "`num` must be in 1 ... 256"),
        (lambda m: m.sample(1, 1), "`num_slots` must be in 2 ... 64"),
    ],
)
def test_wrong_input_is_named_inside_the_graph(exported_iodine, call, message):
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        call(exported_iodine.loaded)


def test_fixed_slots_and_steps_accept_their_own_value_only(export_case):
    case = next(case for case in conformance.MODELS if case.model == "slot_mlp")
    loaded = export_case(case).loaded
    loaded.decompose(ONE, num_slots=3, num_steps=1)
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=r"`num_slots` must be 3. Received:] \[4\]"
    ):
        loaded.decompose(ONE, num_slots=4)
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=r"`num_steps` must be 1. Received:] \[2\]"
    ):
        loaded.decompose(ONE, num_steps=2)
