"""What people hand to a model, as the float32 pixels in [0, 1] that models compute with."""

import numpy as np
import tensorflow as tf

from tfobj.errors import UserError, first_line

_MARGIN = 1e-5
"""Resizing and averaging leave values that exceed [0, 1] by their rounding."""

_FLOATS = ("float16", "bfloat16", "float32", "float64")
_EXPECTED = "`image` must be uint8, or finite floats in [0, 1]."


def unit_range(image):
    """Returns images as float32 in [0, 1].

    Args:
      image: array or tensor of any shape; uint8 in 0 ... 255, or floats of any precision in [0, 1].
        The values of arrays and eager tensors are checked; those in a graph are for `check_range`.

    Raises:
      UserError: another type, NaN or infinity, or values outside [0, 1].
    """
    if not tf.is_tensor(image):
        try:
            image = np.asarray(image)
        except ValueError as e:  # lists of unequal lengths
            raise UserError(f"{_EXPECTED} Received: {first_line(e)}") from e
    check_values(image)
    if image.dtype == tf.uint8:
        # Division, as in training: a product with 1 / 255 rounds differently.
        return tf.cast(image, tf.float32) / 255.0
    return tf.cast(image, tf.float32)


def check_range(image):
    """Returns `image`, float32 in a graph, with an assertion that it is finite and in [0, 1].

    XLA drops assertions.
    """
    inside = tf.reduce_all((image >= -_MARGIN) & (image <= 1.0 + _MARGIN))
    message = f"{_EXPECTED} Received: values in"
    received = [message, tf.reduce_min(image), "...", tf.reduce_max(image)]
    with tf.control_dependencies([tf.debugging.Assert(inside, received)]):
        return tf.identity(image)


def check_values(image):
    """Checks the type of images, and the values of arrays and eager tensors of floats.

    Raises:
      UserError: as in `unit_range`.
    """
    name = getattr(image.dtype, "name", str(image.dtype))
    if name == "uint8":
        return
    if name not in _FLOATS:
        raise UserError(f"{_EXPECTED} Received: dtype {name}.")

    if tf.is_tensor(image) and not isinstance(image, tf.__internal__.EagerTensor):
        return
    # With NumPy: while a graph is traced, TensorFlow would make nodes of it.
    values = np.asarray(image)
    if not values.size:
        return
    least = float(values.min())
    greatest = float(values.max())

    # Comparisons with NaN are false, so NaN is outside, too.
    if least >= -_MARGIN and greatest <= 1.0 + _MARGIN:
        return
    hint = ""
    if least >= 0.0 and 1.0 < greatest <= 255.0:
        hint = " Divide by 255, or hand the bytes over as uint8."
    raise UserError(f"{_EXPECTED} Received: values in {least:.6g} ... {greatest:.6g}.{hint}")


def check_shape(image, config):
    """Checks the shape of a batch, as far as it is known.

    Args:
      image: array or tensor.
      config: `SceneConfig` of the model.

    Raises:
      UserError: it is no batch of images, or of clips, of the model's size, or an empty one.
    """
    size = (*config.image_size, config.channels)
    shape = tuple(image.shape)
    known = [found in (None, wanted) for found, wanted in zip(shape[-3:], size, strict=False)]
    if len(shape) == 4 + config.is_video and all(known) and 0 not in shape:
        return

    leading = "B, T, " if config.is_video else "B, "
    hint = ""
    if shape == size:
        hint = " One image is a batch of one: image[None]."
    raise UserError(
        f"`image` must have shape [{leading}{', '.join(map(str, size))}]. Received: {shape}.{hint}"
    )
