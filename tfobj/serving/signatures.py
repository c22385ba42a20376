"""The functions of an exported model, in TensorFlow ops alone.

They check, resize, infer and render. Images may have any size; image-shaped results have the size
of the input.

    image uint8 or float32 [B, H, W, C]
      -> stretched to the model's size (bilinear, half-pixel centres, antialiased where it shrinks)
      -> model
      -> masks, recon, slot_recons resized back to H x W; segmentation = argmax of the resized masks

Models with depth also return `amodal_masks` (complete objects), `depths` (smaller is nearer) and,
if they place their objects, `positions` (row and column in pixels of the input).

Every function has one form for all models: where a model fixes the number of slots or has no
refinement steps, it accepts that one value only. Inference is traced once, with free batch size,
number of slots and number of steps; the signatures are thin wrappers around that trace.

A scene's noise depends on `seed` and on its place in the batch, as in training.
"""

from typing import NamedTuple

import tensorflow as tf

from tfobj import random
from tfobj.serving.checks import (
    check,
    check_batch,
    check_image,
    check_range,
    resize,
    segment_ids,
    unit_range,
)

MAX_SIDE = 2048
"""Longest side of an image in pixels: masks of larger ones would fill a server's memory."""
MAX_SLOTS = 64
MAX_STEPS = 100
MAX_SAMPLES = 256


class Limits(NamedTuple):
    """Accepted values of a served model, (least, greatest), both included."""

    side: tuple
    """Height and width of an image in pixels."""
    num_slots: tuple
    num_steps: tuple
    num: tuple
    """Scenes that one request to `sample` returns."""


class Served(NamedTuple):
    """What `tf.saved_model.save` takes."""

    root: tf.Module
    """Holds the weights, and the functions that Python users call: `decompose`, `encode`, ..."""
    signatures: dict
    """name -> concrete function; the names that TensorFlow Serving knows."""
    num_steps: int
    """Default of the functions."""
    slot_size: int
    """D."""


def limits(model):
    """Returns the `Limits` of a `SceneModel`."""
    config = model.config
    num_slots = (config.minimum_slots, max(MAX_SLOTS, config.num_slots))
    if model.slots_are_fixed:
        num_slots = (config.num_slots, config.num_slots)
    num_steps = (config.num_steps, config.num_steps)
    if model.has_steps:
        num_steps = (config.minimum_steps, max(MAX_STEPS, config.num_steps))
    return Limits(
        side=(1, MAX_SIDE), num_slots=num_slots, num_steps=num_steps, num=(1, MAX_SAMPLES)
    )


def serve(model, num_steps=None):
    """Returns the `Served` form of a `SceneModel`; for video models see `clip_signatures`.

    Signatures: `serving_default`, `serving_float`, `decompose`, `segment`, `encode`, `decode` and,
    if the model has a prior, `sample`. The root has functions `decompose`, `segment`, `encode`,
    `decode`, `sample` with defaults, the first three for uint8 and float32 images alike.

    Args:
      model: the model with its weights.
      num_steps: default of the functions; None uses the number of training.
    """
    config = model.config
    if num_steps is None:
        num_steps = config.num_steps
    infer = tf.function(_inference(model), autograph=False)
    traced = infer.get_concrete_function(
        tf.TensorSpec([None, *config.image_size, config.channels], tf.float32),
        *_integers(("num_slots", "num_steps", "seed")),
    )
    slot_size = traced.structured_outputs["slots"].shape[-1]

    root = tf.Module()
    root.weights = [variable.value for variable in model.variables]
    for function in (*_image_functions(model, infer, num_steps), *latent_functions(model)):
        setattr(root, function.__name__, tf.function(function, autograph=False))
    return Served(root, _trace(model, root, num_steps, slot_size), num_steps, slot_size)


def _trace(model, root, num_steps, slot_size):
    """Traces the functions of the root for both dtypes; returns the signatures of the export."""
    config = model.config
    options = _integers(("num_slots", "num_steps", "seed"))
    images = {
        dtype: tf.TensorSpec([None, None, None, config.channels], dtype, "image")
        for dtype in (tf.uint8, tf.float32)
    }

    # An export keeps all traces of a function; the signatures below cover one dtype only.
    for function in (root.decompose, root.segment, root.encode):
        for image in images.values():
            function.get_concrete_function(image, *options)

    defaults = [tf.constant(value) for value in (config.num_slots, num_steps, 0)]

    def with_defaults(function, dtype=tf.uint8):
        # TensorFlow Serving requires a value for every input, so these signatures have no options.
        wrapped = tf.function(lambda image: function(image, *defaults), autograph=False)
        return wrapped.get_concrete_function(images[dtype])

    signatures = {
        "serving_default": with_defaults(root.decompose),
        "serving_float": with_defaults(root.decompose, tf.float32),
        "decompose": root.decompose.get_concrete_function(images[tf.uint8], *options),
        "segment": with_defaults(root.segment),
        "encode": with_defaults(root.encode),
        "decode": root.decode.get_concrete_function(
            tf.TensorSpec([None, None, slot_size], tf.float32, "slots")
        ),
    }
    if model.has_prior:
        inputs = _integers(("num", "num_slots", "seed"))
        signatures["sample"] = root.sample.get_concrete_function(*inputs)
    return signatures


def _image_functions(model, infer, default_steps):
    """Returns `decompose`, `segment` and `encode`.

    Their defaults are saved with them, so `loaded.decompose(image)` works.
    """
    config = model.config
    bounds = limits(model)

    def inferred(image, num_slots, num_steps, seed):
        """Checks the inputs and returns the results at the model's size."""
        checks = [
            *check_image(image, bounds),
            check_range("num_slots", num_slots, bounds.num_slots),
            check_range("num_steps", num_steps, bounds.num_steps),
        ]
        # Nothing runs on invalid numbers, so the error that is raised is that of the check.
        with tf.control_dependencies(checks):
            small = tf.image.resize(unit_range(image), config.image_size, antialias=True)
            num_slots = tf.identity(num_slots)
            num_steps = tf.identity(num_steps)
        return infer(small, num_slots, num_steps, seed)

    def decompose(image, num_slots=config.num_slots, num_steps=default_steps, seed=0):
        results = inferred(image, num_slots, num_steps, seed)
        size = tf.shape(image)[1:3]
        resized = {
            name: resize(results[name], size)
            for name in ("recon", "masks", "slot_recons", "amodal_masks")
            if name in results
        }
        if "positions" in results:
            # Pixel centres are whole numbers; the stretch keeps the borders, -0.5 and H - 0.5.
            scale = tf.cast(size, tf.float32) / [float(side) for side in config.image_size]
            resized["positions"] = (results["positions"] + 0.5) * scale - 0.5

        return {**results, **resized, "segmentation": segment_ids(resized["masks"])}

    def segment(image, num_slots=config.num_slots, num_steps=default_steps, seed=0):
        masks = inferred(image, num_slots, num_steps, seed)["masks"]
        return {"segmentation": segment_ids(resize(masks, tf.shape(image)[1:3]))}

    def encode(image, num_slots=config.num_slots, num_steps=default_steps, seed=0):
        results = inferred(image, num_slots, num_steps, seed)
        return {
            name: value
            for name, value in results.items()
            if name == "slots" or name.startswith("posterior_")
        }

    return decompose, segment, encode


def latent_functions(model):
    """Returns `decode` and, if the model has a prior, `sample`; images have the model's size."""
    config = model.config
    bounds = limits(model)
    decoded_slots = (1, max(MAX_SLOTS, config.num_slots))

    def decode(slots):
        checks = [
            check_batch("slots", slots),
            check_range("slots.shape[1]", tf.shape(slots)[1], decoded_slots),
            check(
                tf.reduce_all(tf.math.is_finite(slots)),
                "`slots` must be finite. Received: NaN or infinity.",
            ),
        ]
        with tf.control_dependencies(checks):
            slots = tf.identity(slots)
        return model.decode(slots)._asdict()

    def sample(num=1, num_slots=config.num_slots, seed=0):
        checks = [
            check_range("num", num, bounds.num),
            check_range("num_slots", num_slots, bounds.num_slots),
        ]
        with tf.control_dependencies(checks):
            num = tf.identity(num)
            num_slots = tf.identity(num_slots)
        if model.slots_are_fixed:
            # The check allows one value only, and the model expects a Python integer.
            num_slots = None
        return model.sample(num, random.make_seed(seed), num_slots)._asdict()

    if model.has_prior:
        return decode, sample
    return (decode,)


def _integers(names):
    """Returns the specs of int32 scalars called `names`."""
    return [tf.TensorSpec([], tf.int32, name) for name in names]


def _inference(model):
    """Returns a function of (image, num_slots, num_steps, seed) -> dict of results.

    Images and results have the model's size.
    """

    def infer(image, num_slots, num_steps, seed):
        # A model accepts a tensor only for numbers that it leaves free.
        if model.slots_are_fixed:
            num_slots = None
        if not model.has_steps:
            num_steps = None
        outputs = model(
            image,
            num_slots=num_slots,
            num_steps=num_steps,
            seed=random.make_seed(seed),
            training=False,
        )

        posterior = outputs.posterior or {}
        return {
            "recon": outputs.recon,
            "masks": outputs.masks,
            "slot_recons": outputs.slot_recons,
            "slots": outputs.slots,
            **outputs.extents(),
            **{f"posterior_{name}": value for name, value in posterior.items()},
        }

    return infer
