"""The functions of an exported model, in TensorFlow ops alone: checks, resizing, inference, rendering.

Pictures of any size come in; image-shaped results go out at the size of the picture.

    image uint8 or float32 [B, H, W, C]
      -> stretched to the model's size (bilinear, half-pixel centres, antialiased where it shrinks)
      -> model
      -> masks, recon, slot_recons resized back to H x W; segmentation = argmax of the resized masks

Models with depth also give `amodal_masks` (complete objects), `depths` (smaller is nearer) and, where they place objects,
`positions` (row and column in pixels of the picture).

Every function has one form for all models: where a model fixes the number of slots or has no steps, the
only accepted value is that of the model. All of inference is traced once, with a free batch size, number
of slots and number of steps; the signatures are thin wrappers around that trace.

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
"""Longest side of a picture in pixels; with more, the masks of one request would fill a server's memory."""
MAX_SLOTS = 64
MAX_STEPS = 100
MAX_SAMPLES = 256


class Limits(NamedTuple):
    """Accepted values of a served model, (least, greatest), both included."""

    side: tuple
    """Height and width of a picture in pixels."""
    num_slots: tuple
    num_steps: tuple
    num: tuple
    """Scenes drawn by one request to `sample`."""


class Served(NamedTuple):
    """What `tf.saved_model.save` takes."""

    root: tf.Module
    """Holds the weights and, as attributes, the functions that Python users call: `decompose`, `encode`, ..."""
    signatures: dict
    """name -> concrete function; the names that TensorFlow Serving knows."""
    num_steps: int
    """Default of the functions."""
    slot_size: int
    """D."""


def limits(model):
    """Returns the `Limits` of a `SceneModel`."""
    config = model.config
    return Limits(
        side=(1, MAX_SIDE),
        num_slots=(config.num_slots,) * 2
        if model.slots_are_fixed
        else (config.minimum_slots, max(MAX_SLOTS, config.num_slots)),
        num_steps=(config.minimum_steps, max(MAX_STEPS, config.num_steps))
        if model.has_steps
        else (config.num_steps,) * 2,
        num=(1, MAX_SAMPLES),
    )


def serve(model, num_steps=None):
    """Returns the `Served` form of a `SceneModel`; `num_steps` is the default of its functions (None: as trained).

    Signatures: `serving_default`, `serving_float`, `decompose`, `segment`, `encode`, `decode` and, where the
    model has a prior, `sample`; models of clips have `clip_signatures`. The root has functions `decompose`, `segment`, `encode`, `decode`, `sample`
    with defaults, the first three for uint8 and float32 pictures alike.
    """
    config = model.config
    num_steps = config.num_steps if num_steps is None else num_steps
    options = _integers(("num_slots", "num_steps", "seed"))
    infer = tf.function(_inference(model), autograph=False)
    traced = infer.get_concrete_function(
        tf.TensorSpec([None, *config.image_size, config.channels], tf.float32), *options
    )
    slot_size = traced.structured_outputs["slots"].shape[-1]

    root = tf.Module()
    root.weights = [variable.value for variable in model.variables]
    for function in (*_picture_functions(model, infer, num_steps), *latent_functions(model)):
        setattr(root, function.__name__, tf.function(function, autograph=False))

    pictures = {
        dtype: tf.TensorSpec([None, None, None, config.channels], dtype, "image")
        for dtype in (tf.uint8, tf.float32)
    }
    for function in (root.decompose, root.segment, root.encode):
        for picture in pictures.values():
            function.get_concrete_function(picture, *options)
    defaults = [tf.constant(value) for value in (config.num_slots, num_steps, 0)]

    def pictures_only(function, dtype=tf.uint8):
        """A signature without options: TensorFlow Serving wants a value for every input that a signature has."""
        return tf.function(
            lambda image: function(image, *defaults), autograph=False
        ).get_concrete_function(pictures[dtype])

    signatures = {
        "serving_default": pictures_only(root.decompose),
        "serving_float": pictures_only(root.decompose, tf.float32),
        "decompose": root.decompose.get_concrete_function(pictures[tf.uint8], *options),
        "segment": pictures_only(root.segment),
        "encode": pictures_only(root.encode),
        "decode": root.decode.get_concrete_function(
            tf.TensorSpec([None, None, slot_size], tf.float32, "slots")
        ),
    }
    if model.has_prior:
        signatures["sample"] = root.sample.get_concrete_function(
            *_integers(("num", "num_slots", "seed"))
        )
    return Served(root, signatures, num_steps, slot_size)


def _picture_functions(model, infer, default_steps):
    """Returns the functions of pictures; their defaults are saved with them, so `loaded.decompose(image)` works."""
    config, bounds = model.config, limits(model)

    def inferred(image, num_slots, num_steps, seed):
        """Checks the inputs and returns the results at the model's size."""
        checks = [
            *check_image(image, bounds),
            check_range("num_slots", num_slots, bounds.num_slots),
            check_range("num_steps", num_steps, bounds.num_steps),
        ]
        with tf.control_dependencies(
            checks
        ):  # nothing runs on wrong numbers, so that it is the check that complains
            small = tf.image.resize(unit_range(image), config.image_size, antialias=True)
            num_slots, num_steps = tf.identity(num_slots), tf.identity(num_steps)
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
    """Returns `decode` and, where the model has a prior, `sample`; pictures have the model's size."""
    config, bounds = model.config, limits(model)

    def decode(slots):
        checks = [
            check_batch("slots", slots),
            check_range(
                "slots.shape[1]", tf.shape(slots)[1], (1, max(MAX_SLOTS, config.num_slots))
            ),
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
            num, num_slots = tf.identity(num), tf.identity(num_slots)
        return model.sample(
            num, random.make_seed(seed), None if model.slots_are_fixed else num_slots
        )._asdict()

    return (decode, sample) if model.has_prior else (decode,)


def _integers(names):
    """Returns the specs of int32 scalars called `names`."""
    return [tf.TensorSpec([], tf.int32, name) for name in names]


def _inference(model):
    """Returns the function (image at the model's size, num_slots, num_steps, seed) -> dict of results."""

    def infer(image, num_slots, num_steps, seed):
        outputs = model(
            image,
            num_slots=None if model.slots_are_fixed else num_slots,
            num_steps=num_steps if model.has_steps else None,
            seed=random.make_seed(seed),
            training=False,
        )
        posterior = {
            f"posterior_{name}": value for name, value in (outputs.posterior or {}).items()
        }
        return {
            "recon": outputs.recon,
            "masks": outputs.masks,
            "slot_recons": outputs.slot_recons,
            "slots": outputs.slots,
            **outputs.extents(),
            **posterior,
        }

    return infer
