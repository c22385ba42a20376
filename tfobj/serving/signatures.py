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

A scene's noise depends on `seed` alone, so its results do not depend on the rest of the batch.
Scenes of `sample` differ by their noise, so there it depends on the place in the batch, too.
"""

from typing import NamedTuple

import tensorflow as tf

from tfobj import random
from tfobj.errors import UserError
from tfobj.models.video import LAST_FRAME
from tfobj.serving import checks

MAX_SIDE = 2048
"""Longest side of an image in pixels: masks of larger ones would fill a server's memory."""
MAX_SLOTS = 64
MAX_STEPS = 100
MAX_SAMPLES = 256
MAX_SLOT_PIXELS = 2**27
"""Most scenes x slots x pixels of a request: 92 million are 32 images of 512 x 512 with 11 slots.

Inside, a pixel of the model's size counts `checks.MODEL_PIXEL` times. The results of the largest
request take 2.5 GB at the peak (19 bytes per slot and pixel, measured)."""
_MAX_IDS = 256
"""Slots that `segmentation` can tell apart; it is uint8."""


class Limits(NamedTuple):
    """Accepted values of a served model, (least, greatest), both included."""

    side: tuple
    """Height and width of an image in pixels."""
    num_slots: tuple
    num_steps: tuple
    num: tuple
    """Scenes that one request to `sample` returns."""
    slot_pixels: tuple
    """Scenes x slots x pixels of a request; see `checks.check_size`."""
    frame: tuple
    """State of a stream: frames before the next one."""


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
    """Returns the `Limits` of a `SceneModel`.

    Raises:
      UserError: a model of more slots than a segmentation can tell apart.
    """
    config = model.config
    if config.num_slots > _MAX_IDS:
        raise UserError(
            f"`model.num_slots` must be at most {_MAX_IDS} to be exported. "
            f"Received: {config.num_slots}."
        )
    num_slots = (config.minimum_slots, max(MAX_SLOTS, config.num_slots))
    if model.slots_are_fixed:
        num_slots = (config.num_slots, config.num_slots)
    num_steps = (config.num_steps, config.num_steps)
    if model.has_steps:
        num_steps = (config.minimum_steps, max(MAX_STEPS, config.num_steps))
    return Limits(
        side=(1, MAX_SIDE),
        num_slots=num_slots,
        num_steps=num_steps,
        num=(1, MAX_SAMPLES),
        slot_pixels=(1, MAX_SLOT_PIXELS),
        frame=(0, LAST_FRAME),
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
        image = checks.well_shaped({"image": image})["image"]
        options = checked_options(num_slots=num_slots, num_steps=num_steps, seed=seed)
        shape = tf.shape(image)
        image, options = checks.after(
            [
                *checks.check_image("image", image, bounds),
                *checked_ranges(options, bounds),
                checks.check_size(
                    "image",
                    shape[0],
                    options["num_slots"],
                    shape[1] * shape[2],
                    model,
                    bounds,
                    options["num_steps"],
                ),
            ],
            image,
            options,
        )
        results = infer(checks.fit(image, config.image_size), **options)
        return finite_results("image", results)

    def decompose(image, num_slots=config.num_slots, num_steps=default_steps, seed=0):
        results = inferred(image, num_slots, num_steps, seed)
        size = tf.shape(image)[1:3]
        resized = {
            name: checks.resize(results[name], size)
            for name in ("recon", "masks", "slot_recons", "amodal_masks")
            if name in results
        }
        if "positions" in results:
            # Pixel centres are whole numbers; the stretch keeps the borders, -0.5 and H - 0.5.
            scale = tf.cast(size, tf.float32) / [float(side) for side in config.image_size]
            resized["positions"] = (results["positions"] + 0.5) * scale - 0.5

        return {**results, **resized, "segmentation": checks.segment_ids(resized["masks"])}

    def segment(image, num_slots=config.num_slots, num_steps=default_steps, seed=0):
        masks = inferred(image, num_slots, num_steps, seed)["masks"]
        return {"segmentation": checks.segment_ids(checks.resize(masks, tf.shape(image)[1:3]))}

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
        slots = checks.well_shaped({"slots": slots})["slots"]
        batch, num_slots = tf.unstack(tf.shape(slots)[:2])
        slots = checks.after(
            [
                checks.check_batch("slots", slots),
                checks.check_range("slots.shape[1]", num_slots, decoded_slots),
                checks.check_size("slots", batch, num_slots, 0, model, bounds),
                checks.check_finite("slots", [slots]),
            ],
            slots,
        )
        return finite_results("slots", model.decode(slots)._asdict())

    def sample(num=1, num_slots=config.num_slots, seed=0):
        options = checked_options(num=num, num_slots=num_slots, seed=seed)
        options = checks.after(
            [
                *checked_ranges(options, bounds),
                checks.check_size("num", options["num"], options["num_slots"], 0, model, bounds),
            ],
            options,
        )
        num_slots = options["num_slots"]
        if model.slots_are_fixed:
            # The check allows one value only, and the model expects a Python integer.
            num_slots = None
        seed = random.make_seed(options["seed"])
        return model.sample(options["num"], seed, num_slots)._asdict()

    if model.has_prior:
        return decode, sample
    return (decode,)


def checked_options(**options):
    """Returns options, Python integers or tensors, as int32 scalars by name."""
    tensors = {name: tf.convert_to_tensor(value, tf.int32) for name, value in options.items()}
    return checks.well_shaped(tensors)


def checked_ranges(options, bounds):
    """Returns the checks of those options that the limits know."""
    return [
        checks.check_range(name, value, getattr(bounds, name))
        for name, value in options.items()
        if name in bounds._fields
    ]


def finite_results(name, results):
    """Returns results of the model, a dict, behind a check that all are finite.

    They are not if weights or, say, edited latents are far too large.

    Args:
      name: name of the input that they belong to.
      results: name -> tensor.
    """
    floats = [value for value in results.values() if value.dtype.is_floating]
    what = "such that the results are finite"
    return checks.after([checks.check_finite(name, floats, what)], results)


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
        with random.shared_by_scenes():
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
