"""Checks and resizing inside of exported models, in TensorFlow ops alone.

A check is an op that fails unless a condition holds. `after` puts the rest of a graph behind its
checks: nothing runs on invalid inputs, so the error that is raised is that of a check.
"""

import tensorflow as tf

MODEL_PIXEL = 16
"""Cost of a pixel of the model's size, relative to one of another size.

Layers hold up to 64 channels per slot and pixel, results hold four."""


def unit_range(image):
    """Returns pixels as float32 in [0, 1]."""
    # Division, as in training: a product with 1 / 255 rounds differently.
    return tf.cast(image, tf.float32) / 255.0 if image.dtype == tf.uint8 else image


def resize(images, size):
    """Resizes images; those that have the size are returned as they are.

    The resize is linear in the pixels, so masks keep summing to one over K.

    Args:
      images: float32 [B, H, W, C] of any size, or [B, K, H, W, C] of a static one.
      size: a tuple of two integers, or an int32 tensor [2].
    """

    def resized():
        if images.shape.rank == 4:
            return tf.image.resize(images, size, antialias=True)

        lead = tf.shape(images)[:2]
        flat = tf.image.resize(tf.reshape(images, [-1, *images.shape[2:]]), size, antialias=True)
        return tf.reshape(flat, tf.concat([lead, size, images.shape[-1:]], axis=0))

    # A resize to the same size changes no bit, but takes as long as any other.
    if tuple(images.shape[-3:-1]) == tuple(size if isinstance(size, tuple) else ()):
        return images
    has_size = tf.reduce_all(tf.equal(tf.shape(images)[-3:-1], size))
    return tf.cond(has_size, lambda: images, resized)


def fit(image, size):
    """Returns images [B, H, W, C] as a model of image size `size` takes them."""
    return tf.ensure_shape(resize(unit_range(image), size), [None, *size, image.shape[-1]])


def segment_ids(masks):
    """Returns the slot with the largest mask at every pixel: [B, K, H, W, 1] -> uint8 [B, H, W]."""
    return tf.cast(tf.argmax(masks[..., 0], axis=1, output_type=tf.int32), tf.uint8)


def after(checks, *tensors):
    """Returns the tensors, to be computed only after the checks have passed.

    Args:
      checks: ops.
      *tensors: tensors, or dicts of tensors.
    """
    with tf.control_dependencies(checks):
        gated = [tf.nest.map_structure(tf.identity, tensor) for tensor in tensors]
    if len(gated) == 1:
        return gated[0]
    return gated


def check(condition, message, *values):
    """Returns an op that fails unless the boolean scalar `condition` holds.

    The error is the message, which ends in "Received:", followed by the values.
    """
    # For strings and int32, `Assert` is one op; for other types it is a conditional.
    values = [value if _is_plain(value) else _as_text(value) for value in values]
    return tf.debugging.Assert(condition, [message, *values], summarize=6)


def _is_plain(value):
    return isinstance(value, str) or value.dtype == tf.int32


def _as_text(value):
    return tf.strings.as_string(value, shortest=value.dtype.is_floating)


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


def well_shaped(inputs):
    """Returns inputs, name -> tensor, behind checks that they have their static shapes.

    Clients of a server may send any shape; nothing but TensorFlow's Python compares it to the
    static one.
    """
    # Behind this op, shapes are read at run time. In front of it TensorFlow believes the static
    # ones, or, in Python, refuses disagreeing shapes in words of its own.
    unknown = {
        name: tf.raw_ops.PlaceholderWithDefault(input=value, shape=tf.TensorShape(None))
        for name, value in inputs.items()
    }
    checks = [_check_shape(name, unknown[name], value.shape) for name, value in inputs.items()]
    passed = after(checks, unknown)
    return {name: _with_static_shape(passed[name], value.shape) for name, value in inputs.items()}


def _with_static_shape(value, shape):
    # A shape that is known in full would reach the check at once, unless a reshape hides it.
    if shape.is_fully_defined():
        return tf.reshape(value, shape)
    return tf.ensure_shape(value, shape)


def _check_shape(name, value, expected):
    """Returns an op that fails unless a tensor has the shape `expected`, partly unknown."""
    sizes = [-1 if size is None else size for size in expected]
    text = ", ".join("?" if size < 0 else str(size) for size in sizes)

    shape = tf.shape(value)
    found = tf.concat([shape, tf.fill([len(sizes)], -1)], axis=0)[: len(sizes)]
    fits = tf.reduce_all((found == sizes) | (tf.constant(sizes, tf.int32) < 0))
    message = f"`{name}` must have shape [{text}]. Received: shape"
    return check(tf.equal(tf.size(shape), len(sizes)) & fits, message, shape)


def check_finite(name, values, what="finite"):
    """Returns an op that fails unless all numbers are finite.

    Args:
      name: name of the input.
      values: list of float tensors: the input itself, or what was computed from it.
      what: what the input must be.
    """
    is_finite = [tf.reduce_all(tf.math.is_finite(value)) for value in values]
    message = f"`{name}` must be {what}. Received: NaN or infinity."
    return check(tf.reduce_all(is_finite), message)


def check_size(name, scenes, num_slots, pixels, model, bounds, num_steps=None):
    """Returns an op that fails if a request would take too much memory or time.

    Args:
      name: name of the input.
      scenes: number of scenes, of frames for clips.
      num_slots: K.
      pixels: number of pixels of a scene.
      model: the `SceneModel`.
      bounds: `signatures.Limits`.
      num_steps: refinement steps, if they are an input; steps beyond the model's own count, too.
    """
    config = model.config
    height, width = config.image_size
    inside = tf.constant(MODEL_PIXEL * height * width, tf.int64)
    if num_steps is not None:
        inside *= tf.cast(tf.maximum(num_steps, config.num_steps), tf.int64)
        inside = -(-inside // config.num_steps)

    # The product leaves int32.
    scenes = tf.cast(scenes, tf.int64)
    num_slots = tf.cast(num_slots, tf.int64)
    pixels = tf.maximum(tf.cast(pixels, tf.int64), inside)
    _, greatest = bounds.slot_pixels
    unit = "frames" if config.is_video else "scenes"
    message = (
        f"`{name}` must have {unit} x slots x pixels of at most {greatest} (see the limits in the "
        f"README of the model). Received:"
    )
    total = scenes * num_slots * pixels
    return check(total <= greatest, message, total, "=", scenes, "x", num_slots, "x", pixels)


def check_image(name, image, bounds):
    """Returns the checks of images, a list of ops.

    Args:
      name: name of the input.
      image: uint8 or float32 [B, H, W, C], or clips [B, T, H, W, C].
      bounds: `signatures.Limits`.
    """
    least, greatest = bounds.side
    sides = tf.shape(image)[-3:-1]
    lead = tf.shape(image)[:-3]
    content = "scene"
    if image.shape.rank == 5:
        content = "clip of one frame"
    checks = [
        check(
            tf.reduce_all(lead >= 1),
            f"`{name}` must hold at least one {content}. Received: none.",
        ),
        check(
            tf.reduce_all((least <= sides) & (sides <= greatest)),
            f"`{name}` must have sides of {least} ... {greatest} pixels. Received: height and "
            "width",
            sides,
        ),
    ]
    if image.dtype == tf.uint8:
        return checks

    # Comparisons with NaN are false, so NaN is outside, too.
    is_inside = tf.reduce_all((image >= 0.0) & (image <= 1.0))
    message = f"`{name}` must be finite and in [0, 1] (or uint8). Received: values in"
    return [*checks, check(is_inside, message, tf.reduce_min(image), tf.reduce_max(image))]
