"""MSE and PSNR by hand, foreground normalisations, device against host."""

import numpy as np
import pytest
import tensorflow as tf

from tfobj.errors import UserError
from tfobj.metrics import reconstruction

IMAGE = np.zeros((2, 2, 2, 3), np.float32)
RECON = np.zeros((2, 2, 2, 3), np.float32)
RECON[0, 0, 0] = [0.5, 0.0, 0.5]  # one pixel wrong by a squared error of 0.5 over three channels
RECON[1] = 0.1


def test_mean_over_pixels_and_channels():
    np.testing.assert_allclose(
        reconstruction.mean_squared_error(IMAGE, RECON), [0.5 / 12, 0.01], rtol=1e-6
    )


def test_a_model_in_minus_one_to_one_is_four_times_worse_before_conversion():
    rng = np.random.default_rng(0)
    image, recon = rng.random((2, 3, 4, 4, 3)).astype(np.float32)
    scaled = reconstruction.mean_squared_error(2 * image - 1, 2 * recon - 1)
    np.testing.assert_allclose(
        scaled, 4 * reconstruction.mean_squared_error(image, recon), rtol=1e-5
    )


def test_foreground_normalisations():
    true = np.zeros((2, 2, 2), np.uint8)
    true[0, 0] = [1, 255]
    got = reconstruction.foreground_mean_squared_error(IMAGE, RECON, true)
    np.testing.assert_allclose(got, [0.5 / 3, np.nan], rtol=1e-6)
    got = reconstruction.foreground_mean_squared_error(IMAGE, RECON, true, normalise="all")
    np.testing.assert_allclose(got, [0.5 / 12, 0.0], rtol=1e-6)


def test_psnr():
    np.testing.assert_allclose(
        reconstruction.psnr([1.0, 0.01, 1e-3, 0.0]), [0.0, 20.0, 30.0, reconstruction.MAX_PSNR]
    )


@pytest.mark.parametrize("jit_compile", [False, True])
def test_device_equals_host_for_videos_and_bfloat16(jit_compile):
    rng = np.random.default_rng(1)
    image, recon = rng.random((2, 2, 3, 8, 8, 3)).astype(np.float32)
    compute = tf.function(reconstruction.mean_squared_error_on_device, jit_compile=jit_compile)
    np.testing.assert_allclose(
        compute(image, recon), reconstruction.mean_squared_error(image, recon), rtol=1e-6
    )
    assert compute(tf.cast(image, tf.bfloat16), tf.cast(recon, tf.bfloat16)).dtype == tf.float32


@pytest.mark.parametrize(
    ("image", "recon", "message"),
    [
        (IMAGE, RECON[:1], "must have one shape"),
        (IMAGE[..., 0], RECON[..., 0], r"\[B, \(T,\) H, W, C\]"),
        (IMAGE.astype(np.uint8), RECON, r"must be floats in \[0, 1\]. Received: uint8"),
    ],
)
def test_errors(image, recon, message):
    with pytest.raises(UserError, match=message):
        reconstruction.mean_squared_error(image, recon)


def test_foreground_errors():
    with pytest.raises(UserError, match="Unknown normalise 'fg'"):
        reconstruction.foreground_mean_squared_error(
            IMAGE, RECON, np.zeros((2, 2, 2)), normalise="fg"
        )
    with pytest.raises(
        UserError, match=r"`true` must have the shape of `image` without channels, \(2, 2, 2\)"
    ):
        reconstruction.foreground_mean_squared_error(IMAGE, RECON, np.zeros((2, 2)))
