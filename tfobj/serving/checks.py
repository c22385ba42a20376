"""Checks and resizing inside of exported models, in TensorFlow ops alone."""

import tensorflow as tf


def unit_range(image):
    """Pixels as float32 in [0, 1]; division and not multiplication by 1 / 255, as in training."""
    return tf.cast(image, tf.float32) / 255.0 if image.dtype == tf.uint8 else image


def resize(images, size):
    """Resizes [B, H, W, C] or [B, K, H, W, C]; linear in the pixels, so masks keep summing to one."""
    if images.shape.rank == 4:
        return tf.image.resize(images, size, antialias=True)
    lead = tf.shape(images)[:2]
    flat = tf.image.resize(tf.reshape(images, [-1, *images.shape[2:]]), size, antialias=True)
    return tf.reshape(flat, tf.concat([lead, size, images.shape[-1:]], axis=0))


def segment_ids(masks):
    """[B, K, H, W, 1] -> uint8 [B, H, W], the slot with the largest share of every pixel."""
    return tf.cast(tf.argmax(masks[..., 0], axis=1, output_type=tf.int32), tf.uint8)


def check(condition, message, *values):
    """An op that fails with "`name` must be X. Received: value" unless the boolean scalar `condition` holds."""
    return tf.debugging.Assert(condition, [message, *values])


def check_range(name, value, bounds):
    least, greatest = bounds
    wanted = f"{least}" if least == greatest else f"in {least} ... {greatest}"
    return check(
        (least <= value) & (value <= greatest), f"`{name}` must be {wanted}. Received:", value
    )


def check_batch(name, value):
    return check(tf.shape(value)[0] >= 1, f"`{name}` must hold at least one scene. Received: none.")


def check_image(image, bounds):
    """The checks of a batch of pictures, a list of ops."""
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
    if image.dtype != tf.uint8:
        inside = tf.reduce_all((image >= 0.0) & (image <= 1.0))  # false for NaN, too
        checks.append(
            check(
                inside,
                "`image` must be finite and in [0, 1] (or uint8). Received: values in",
                tf.reduce_min(image),
                tf.reduce_max(image),
            )
        )
    return checks
