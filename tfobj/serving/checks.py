"""Checks and resizing inside of exported models, in TensorFlow ops alone."""

import tensorflow as tf


def unit_range(image):
    """Returns pixels as float32 in [0, 1]."""
    # Division, as in training: a product with 1 / 255 rounds differently.
    return tf.cast(image, tf.float32) / 255.0 if image.dtype == tf.uint8 else image


def resize(images, size):
    """Resizes [B, H, W, C] or [B, K, H, W, C].

    The resize is linear in the pixels, so masks keep summing to one over K.
    """
    if images.shape.rank == 4:
        return tf.image.resize(images, size, antialias=True)

    lead = tf.shape(images)[:2]
    flat = tf.image.resize(tf.reshape(images, [-1, *images.shape[2:]]), size, antialias=True)
    return tf.reshape(flat, tf.concat([lead, size, images.shape[-1:]], axis=0))


def segment_ids(masks):
    """Returns the slot with the largest mask at every pixel: [B, K, H, W, 1] -> uint8 [B, H, W]."""
    return tf.cast(tf.argmax(masks[..., 0], axis=1, output_type=tf.int32), tf.uint8)


def check(condition, message, *values):
    """Returns an op that fails unless the boolean scalar `condition` holds.

    The error is the message, which ends in "Received:", followed by the values.
    """
    return tf.debugging.Assert(condition, [message, *values])


def check_range(name, value, bounds):
    """Returns an op that fails unless an integer is within (least, greatest), both included."""
    least, greatest = bounds
    expected = f"in {least} ... {greatest}"
    if least == greatest:
        expected = f"{least}"
    is_inside = (least <= value) & (value <= greatest)
    return check(is_inside, f"`{name}` must be {expected}. Received:", value)


def check_batch(name, value):
    """Returns an op that fails for a batch without scenes."""
    return check(tf.shape(value)[0] >= 1, f"`{name}` must hold at least one scene. Received: none.")


def check_image(image, bounds):
    """Returns the checks of a batch of images, a list of ops.

    Args:
      image: uint8 or float32 [B, H, W, C].
      bounds: `signatures.Limits`.
    """
    least, greatest = bounds.side
    sides = tf.shape(image)[1:3]
    checks = [
        check_batch("image", image),
        check(
            tf.reduce_all((least <= sides) & (sides <= greatest)),
            f"`image` must have sides of {least} ... {greatest} pixels. Received: height and width",
            sides,
        ),
    ]
    if image.dtype == tf.uint8:
        return checks

    # Comparisons with NaN are false, so NaN is outside, too.
    is_inside = tf.reduce_all((image >= 0.0) & (image <= 1.0))
    message = "`image` must be finite and in [0, 1] (or uint8). Received: values in"
    return [*checks, check(is_inside, message, tf.reduce_min(image), tf.reduce_max(image))]
