"""Crops, resizes against TensorFlow's, masks to labels and back."""

import numpy as np
import pytest

from tfobj.data import transforms
from tfobj.errors import UserError


def random_images(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_crop_of_clevr():
    image = random_images(2, 240, 320, 3)
    np.testing.assert_array_equal(
        transforms.crop(image, (29, 221), (64, 256)), image[:, 29:221, 64:256]
    )
    labels = transforms.crop(image[..., 0], (29, 221), (64, 256), axis=-2)
    np.testing.assert_array_equal(labels, image[:, 29:221, 64:256, 0])


def test_crop_outside_is_an_error():
    with pytest.raises(
        UserError, match=r"`columns` must lie in 0 ... 35. Received: columns=\(4, 36\)"
    ):
        transforms.crop(random_images(35, 35, 3), (0, 35), (4, 36))


@pytest.mark.parametrize("size", [(16, 16), (35, 35), (50, 20), (1, 1), (128, 96)])
def test_resize_equals_tensorflow(size):
    import tensorflow as tf

    image = random_images(2, 35, 35, 3)
    expected = tf.image.resize(image, size, method="bilinear", antialias=False).numpy()
    np.testing.assert_allclose(
        transforms.resize_images(image.astype(np.float32), size), expected, atol=1e-3
    )
    np.testing.assert_array_equal(
        np.abs(transforms.resize_images(image, size) - expected) <= 0.501, True
    )
    labels = image[..., 0]
    nearest = tf.image.resize(image[..., :1], size, method="nearest").numpy()[..., 0]
    np.testing.assert_array_equal(transforms.resize_labels(labels, size), nearest)


def test_resize_to_the_same_size_changes_nothing():
    image = random_images(4, 35, 35, 3)
    np.testing.assert_array_equal(transforms.resize_images(image, (35, 35)), image)
    np.testing.assert_array_equal(transforms.resize_labels(image[..., 0], (35, 35)), image[..., 0])


def test_labels_and_masks_are_inverse():
    labels = np.random.default_rng(1).integers(0, 4, (3, 5, 6), dtype=np.uint8)
    masks = transforms.entity_masks_from_labels(labels, 4)
    assert masks.shape == (3, 4, 5, 6) and set(np.unique(masks)) == {0, 255}
    assert (masks.astype(int).sum(axis=1) == 255).all()
    np.testing.assert_array_equal(transforms.labels_from_entity_masks(masks), labels)


def test_labels_by_hand():
    masks = np.array([[[255, 0, 255]], [[0, 255, 0]]], np.uint8)
    assert transforms.labels_from_entity_masks(masks).tolist() == [[0, 1, 0]]


@pytest.mark.parametrize(
    "masks, message",
    [
        ([[[255]], [[255]]], "exactly one owner. Received: pixels with 2 to 2 owners"),
        ([[[0]], [[0]]], "exactly one owner"),
        ([[[254]], [[0]]], "`masks` must hold 0 and 255 only"),
    ],
)
def test_masks_that_are_no_partition_are_errors(masks, message):
    with pytest.raises(ValueError, match=message):
        transforms.labels_from_entity_masks(np.array(masks, np.uint8))


@pytest.mark.parametrize("width", [1, 7, 8, 9, 35, 64])
def test_packed_masks_are_unpacked_as_they_were(width):
    masks = np.random.default_rng(0).integers(0, 2, (2, 3, 5, width), dtype=np.uint8)
    packed = transforms.pack_masks(masks)
    assert packed.shape == (2, 3, 5, -(-width // 8)) and packed.dtype == np.uint8
    np.testing.assert_array_equal(transforms.unpack_masks(packed, width), masks)
    np.testing.assert_array_equal(transforms.pack_masks(masks.astype(bool)), packed)


def test_packed_row_by_hand():
    assert transforms.pack_masks(
        np.array([[1, 0, 0, 0, 0, 0, 0, 0, 1], [0, 1, 0, 0, 0, 0, 0, 1, 0]])
    ).tolist() == [[128, 128], [65, 0]]


def test_packed_masks_of_another_width_are_an_error():
    with pytest.raises(
        ValueError, match="`packed` must hold rows of 2 bytes for 9 pixels. Received: 1 bytes."
    ):
        transforms.unpack_masks(np.zeros((4, 1), np.uint8), 9)
