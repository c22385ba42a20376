"""Reconstruction error in image units: MSE over the image or its objects, and PSNR.

Images and reconstructions are in [0, 1]. The errors of a model that works in [-1, 1] are comparable
only after rescaling its images, which divides them by 4. Some authors sum over pixels and channels:
multiply by H*W*C to compare with them.

A reconstruction with a NaN or an infinity has failed: its squared error is infinite, and so is the
mean over scenes. Images are the truth and must be finite.
"""

import numpy as np

from tfobj.errors import UserError, unknown_name
from tfobj.structs import IGNORE_LABEL

MAX_PSNR = 100.0
"""dB, i.e. an error of 1e-5 or a 400th of a grey level; the bound keeps means finite."""

NORMALISATIONS = ("foreground", "all")


def mean_squared_error(image, recon):
    """Computes the mean squared error of every image or video over pixels, channels and frames.

    Args:
      image: [B, (T,) H, W, C] in [0, 1].
      recon: the same shape, composed reconstruction (not clipped).

    Returns:
      mse: float64 [B]; infinite where `recon` is not finite.

    Raises:
      UserError: if shapes or types do not fit, or `image` is not finite.
    """
    squared = _squared_error(image, recon)
    return squared.mean(axis=tuple(range(1, squared.ndim)))


def foreground_mean_squared_error(
    image, recon, true, *, normalise="foreground", ignore_label=IGNORE_LABEL
):
    """Computes the squared error on the pixels of true objects.

    Args:
      image: [B, (T,) H, W, C] in [0, 1].
      recon: the same shape.
      true: [B, (T,) H, W] integer ids; 0 = background, `ignore_label` = not scored.
      normalise: "foreground" divides by the pixels of objects; "all" divides by all pixels, so the
        value grows with the objects' area (addtt/object-centric-library).
      ignore_label: the id that marks pixels without label, or None.

    Returns:
      mse: float64 [B]; NaN without objects ("foreground"), or 0 ("all"); infinite where `recon` is
        not finite anywhere, on the background too.
    """
    if normalise not in NORMALISATIONS:
        raise unknown_name("normalise", normalise, NORMALISATIONS)
    per_pixel = _squared_error(image, recon).mean(-1)
    true = np.asarray(true)
    if true.shape != per_pixel.shape:
        raise UserError(
            f"`true` must have the shape of `image` without channels, {per_pixel.shape}. "
            f"Received: {true.shape}."
        )

    foreground = true > 0
    if ignore_label is not None:
        foreground &= true != ignore_label

    axes = tuple(range(1, true.ndim))
    failed = np.isinf(per_pixel).any(axes)
    total = np.where(failed, np.inf, np.where(foreground, per_pixel, 0.0).sum(axes))
    if normalise == "all":
        return total / np.prod(true.shape[1:])
    count = foreground.sum(axes)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def psnr(mse):
    """Computes the peak signal-to-noise ratio -10 log10(mse) of images in [0, 1].

    Args:
      mse: mean squared errors, any shape.

    Returns:
      psnr: float64 in dB, at most `MAX_PSNR`, the same shape; -infinity for an infinite error.
    """
    floor = 10.0 ** (-MAX_PSNR / 10.0)
    return -10.0 * np.log10(np.maximum(np.asarray(mse, np.float64), floor))


def mean_squared_error_on_device(image, recon):
    """Computes `mean_squared_error` in the graph, in float32 for any precision of the inputs.

    It is infinite where `recon` or `image` is not finite.
    """
    # Imported here because `mean_squared_error` also serves hosts without TensorFlow.
    import tensorflow as tf

    image = tf.convert_to_tensor(image)
    recon = tf.convert_to_tensor(recon)
    floats = image.dtype.is_floating and recon.dtype.is_floating
    _check_pair(image.shape, recon.shape, floats, image.dtype.name, recon.dtype.name)
    squared = tf.math.squared_difference(tf.cast(image, tf.float32), tf.cast(recon, tf.float32))
    mse = tf.reduce_mean(squared, axis=list(range(1, squared.shape.rank)))
    return tf.where(tf.math.is_finite(mse), mse, float("inf"))


def _squared_error(image, recon):
    """Returns squared differences in float64; infinite where `recon` is not finite."""
    image = np.asarray(image)
    recon = np.asarray(recon)
    # ml_dtypes' bfloat16 is of kind "V".
    floats = all(a.dtype.kind == "f" or a.dtype.name == "bfloat16" for a in (image, recon))
    _check_pair(image.shape, recon.shape, floats, image.dtype, recon.dtype)

    image = image.astype(np.float64)
    recon = recon.astype(np.float64)
    if not np.isfinite(image).all():
        raise UserError("`image` must be finite. Received: NaN or infinity.")
    finite = np.isfinite(recon)
    with np.errstate(over="ignore"):
        return np.where(finite, np.square(image - np.where(finite, recon, 0.0)), np.inf)


def _check_pair(image, recon, floats, image_type, recon_type):
    """Raises a `UserError` unless two shapes, None where unknown, and types fit each other."""
    unequal = len(image) != len(recon) or any(
        None not in sizes and sizes[0] != sizes[1] for sizes in zip(image, recon, strict=False)
    )
    if unequal or len(image) not in (4, 5) or 0 in image[1:]:
        raise UserError(
            "`image` and `recon` must have one shape [B, (T,) H, W, C], not empty. "
            f"Received: {tuple(image)} and {tuple(recon)}."
        )
    if not floats:
        raise UserError(
            f"`image` and `recon` must be floats in [0, 1]. Received: {image_type} and "
            f"{recon_type}."
        )
