"""The served functions: equal to the Python call, for any picture, number of slots and steps; clear about wrong input."""

import conformance
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfobj import random

TOLERANCE = 2e-5
"""A loop and a free number of slots sum in another order than the straight-line graph; outputs are of order 1."""


def pictures(batch, size, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (batch, *size, channels)).astype(np.uint8)


def unit(images):
    return images / np.float32(255.0)


def pillow_resize(images, size):
    """Bilinear with half-pixel centres, antialiased where it shrinks: [..., H, W, C] -> [..., *size, C]."""
    images = np.asarray(images, np.float32)
    planes = np.moveaxis(images, -1, -3).reshape(-1, *images.shape[-3:-1])
    resized = np.stack(
        [
            np.asarray(Image.fromarray(p).resize(size[::-1], Image.Resampling.BILINEAR))
            for p in planes
        ]
    )
    lead, channels = images.shape[:-3], images.shape[-1]
    return np.moveaxis(resized.reshape(*lead, channels, *size), -3, -1)


def assert_equal_results(served, outputs):
    for name in ("recon", "masks", "slot_recons", "slots"):
        expected = np.asarray(getattr(outputs, name))
        np.testing.assert_allclose(
            served[name], expected, atol=TOLERANCE * (1 + np.abs(expected).max()), err_msg=name
        )
    for name, expected in (outputs.posterior or {}).items():
        np.testing.assert_allclose(
            served[f"posterior_{name}"], expected, rtol=1e-4, atol=1e-4, err_msg=name
        )


def options(model, num_slots, num_steps):
    """Returns the options that the model leaves free."""
    free = {} if model.slots_are_fixed else {"num_slots": num_slots}
    return {**free, **({"num_steps": num_steps} if model.has_steps else {})}


@pytest.mark.parametrize("batch", [1, 3])
def test_equals_the_python_call(exported, batch):
    model = exported.model
    images = pictures(batch, model.config.image_size)
    outputs = model(unit(images), seed=random.make_seed(5))
    served = exported.loaded.decompose(images, seed=5)
    assert_equal_results(served, outputs)
    np.testing.assert_allclose(tf.reduce_sum(served["masks"], axis=1), 1.0, atol=1e-5)
    np.testing.assert_array_equal(
        served["segmentation"], np.argmax(served["masks"], axis=1)[..., 0]
    )
    assert served["segmentation"].dtype == tf.uint8


def test_free_slots_and_steps_equal_the_python_call(exported):
    """Tensors for Python integers: a loop for straight-line code, and other noise shapes."""
    chosen = options(exported.model, num_slots=5, num_steps=3)
    images = pictures(2, exported.model.config.image_size)
    served = exported.loaded.decompose(images, seed=-7, **chosen)
    assert_equal_results(served, exported.model(unit(images), seed=random.make_seed(-7), **chosen))
    assert served["masks"].shape[1] == chosen.get("num_slots", exported.model.config.num_slots)


def test_seed_matters_where_there_is_noise(exported):
    images = pictures(1, exported.model.config.image_size)
    results = [
        np.asarray(exported.loaded.decompose(images, seed=seed)["slot_recons"])
        for seed in (0, 0, 1)
    ]
    np.testing.assert_allclose(results[0], results[1], atol=1e-5)
    # Slot MLP has no random numbers, factored scenes take modes.
    has_noise = type(exported.model).__name__ not in ("SlotMLPAutoencoder", "FactoredScenes")
    assert has_noise == (np.abs(results[0] - results[2]).max() > 1e-4)


@pytest.mark.parametrize("size", [(7, 31), (40, 25), (1, 1)])
def test_any_size_against_pillow(exported_iodine, size):
    """Resized on the way in and on the way out as Pillow would."""
    model = exported_iodine.model
    images = pictures(2, size)
    served = exported_iodine.loaded.decompose(images, seed=1)
    outputs = model(pillow_resize(unit(images), model.config.image_size), seed=random.make_seed(1))
    for name in ("recon", "masks", "slot_recons"):
        expected = pillow_resize(getattr(outputs, name), size)
        assert served[name].shape == expected.shape
        np.testing.assert_allclose(served[name], expected, atol=1e-4, err_msg=name)
    np.testing.assert_allclose(tf.reduce_sum(served["masks"], axis=1), 1.0, atol=1e-5)
    assert served["segmentation"].shape == (2, *size)


def test_uint8_and_float_pictures_agree(exported):
    images = pictures(2, (9, 14))
    from_bytes, from_floats = (
        exported.loaded.decompose(images),
        exported.loaded.decompose(unit(images)),
    )
    assert set(from_bytes) == set(from_floats)
    for name, value in from_bytes.items():  # not bit for bit: threads sum in any order
        np.testing.assert_allclose(value, from_floats[name], rtol=1e-4, atol=1e-5, err_msg=name)


def test_signatures_agree_with_the_functions(exported):
    loaded, config = exported.loaded, exported.model.config
    images = tf.constant(pictures(2, (9, 14)))
    expected = loaded.decompose(images)
    numbers = {"num_slots": config.num_slots, "num_steps": config.num_steps, "seed": 0}
    answers = [
        loaded.signatures["serving_default"](image=images),
        loaded.signatures["serving_float"](image=unit(images.numpy())),
        loaded.signatures["decompose"](
            image=images, **{name: tf.constant(value) for name, value in numbers.items()}
        ),
    ]
    for answer in answers:
        assert set(answer) == set(expected)
        for name in expected:
            np.testing.assert_allclose(
                answer[name], expected[name], rtol=1e-4, atol=1e-5, err_msg=name
            )
    segmentation = loaded.signatures["segment"](image=images)["segmentation"]
    assert (
        segmentation.dtype == tf.uint8 and np.mean(segmentation == expected["segmentation"]) > 0.99
    )
    encoded = loaded.signatures["encode"](image=images)
    assert set(encoded) == {
        name for name in expected if name == "slots" or name.startswith("posterior_")
    }
    np.testing.assert_allclose(encoded["slots"], expected["slots"], atol=1e-5)


def test_serving_default_takes_the_picture_alone(exported):
    """TensorFlow Serving has no default values: a request must feed every input of its signature."""
    for name in ("serving_default", "serving_float", "segment", "encode"):
        assert list(exported.loaded.signatures[name].structured_input_signature[1]) == ["image"]


def test_decode_of_encode_is_the_reconstruction(exported_attention):
    images = pictures(3, exported_attention.model.config.image_size)
    scene = exported_attention.loaded.decode(exported_attention.loaded.encode(images)["slots"])
    np.testing.assert_allclose(
        scene["recon"], exported_attention.loaded.decompose(images)["recon"], atol=TOLERANCE
    )


@pytest.mark.parametrize("num_slots", [1, 4])
def test_decode_equals_the_python_call(exported, num_slots):
    slots = (
        np.random.default_rng(0)
        .normal(size=(2, num_slots, exported.decomposer.metadata["slot_size"]))
        .astype(np.float32)
    )
    scene, expected = exported.loaded.decode(slots), exported.model.decode(tf.constant(slots))
    for name, value in expected._asdict().items():
        np.testing.assert_allclose(
            scene[name], value, atol=TOLERANCE * (1 + np.abs(value).max()), err_msg=name
        )


def test_sample_equals_the_python_call(exported):
    assert ("sample" in exported.loaded.signatures) == exported.model.has_prior
    if not exported.model.has_prior:
        return
    num_slots = exported.model.config.num_slots if exported.model.slots_are_fixed else 4
    scene, expected = (
        exported.loaded.sample(2, num_slots, seed=9),
        exported.model.sample(2, random.make_seed(9), num_slots),
    )
    for name, value in expected._asdict().items():
        np.testing.assert_allclose(
            scene[name], value, atol=TOLERANCE * (1 + np.abs(value).max()), err_msg=name
        )
    assert exported.loaded.sample()["recon"].shape == (1, *exported.model.config.image_size, 3)


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
    exported = export_case(next(case for case in conformance.MODELS if case.model == "slot_mlp"))
    exported.loaded.decompose(ONE, num_slots=3, num_steps=1)
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=r"`num_slots` must be 3. Received:] \[4\]"
    ):
        exported.loaded.decompose(ONE, num_slots=4)
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=r"`num_steps` must be 1. Received:] \[2\]"
    ):
        exported.loaded.decompose(ONE, num_steps=2)
