"""The functions of an exported video model: whole clips, and frame by frame.

    decompose(video, num_slots, seed)   -> masks, recon, slot_recons, segmentation of every frame
    init_state(batch, num_slots, seed)  -> state_*: the state before the first frame
    step(image, state_*)                -> state_*, and the same results for this frame
    imagine(state_*)                    -> state_*, and the results for a predicted frame

Videos are uint8 or float32 [B, T, H, W, C], frames [B, H, W, C]. Results have the size of the
input; those of `imagine`, which has no input image, have the model's size.

A server keeps no state: a client sends back the `state_*` that it received. Frame by frame, the
results are those of the whole clip.
"""

import tensorflow as tf

from tfobj import random
from tfobj.models.video import VideoState
from tfobj.serving import signatures
from tfobj.serving.checks import check_image, check_range, resize, segment_ids, unit_range

PREFIX = "state_"
FRAME = PREFIX + "frame"
SEED = PREFIX + "seed"
FIELDS = ("recon", "masks", "slot_recons", "slots")
"""Fields of `SceneOutputs` that are served."""


def serve(model, num_steps=None):
    """Returns the `signatures.Served` form of a `VideoModel`.

    Args:
      model: the model with its weights.
      num_steps: refinement steps per frame; None uses the number of training.
    """
    if num_steps is None:
        num_steps = model.config.num_steps

    root = tf.Module()
    root.weights = [variable.value for variable in model.variables]
    functions = (
        _clip_function(model, num_steps),
        *_stream_functions(model, num_steps),
        *signatures.latent_functions(model),
    )
    for function in functions:
        setattr(root, function.__name__, tf.function(function, autograph=False))
    return signatures.Served(root, _trace(model, root), num_steps, model.slot_size)


def _clip_function(model, num_steps):
    """Returns `decompose`, for whole clips."""
    config = model.config
    bounds = signatures.limits(model)
    results = tf.function(_clip_results(model, num_steps), autograph=False)

    def decompose(video, num_slots=config.num_slots, seed=0):
        frames = tf.reshape(video, tf.concat([[-1], tf.shape(video)[2:]], axis=0))
        checks = [
            *check_image(frames, bounds),
            check_range("num_slots", num_slots, bounds.num_slots),
        ]
        # Nothing runs on invalid numbers, so the error that is raised is that of the check.
        with tf.control_dependencies(checks):
            small = _map_frames(lambda x: _fit(x, config.image_size), video)
            num_slots = tf.identity(num_slots)

        size = tf.shape(video)[2:4]
        return _at_size(results(small, num_slots, seed), size, are_clips=True)

    return decompose


def _stream_functions(model, num_steps):
    """Returns `init_state`, `step` and `imagine`, for clips that come frame by frame."""
    config = model.config
    bounds = signatures.limits(model)

    def init_state(batch=1, num_slots=config.num_slots, seed=0):
        checks = [
            check_range("batch", batch, (1, signatures.MAX_SAMPLES)),
            check_range("num_slots", num_slots, bounds.num_slots),
        ]
        with tf.control_dependencies(checks):
            batch = tf.identity(batch)
            num_slots = tf.identity(num_slots)
        return pack_state(model, model.initial_state(batch, num_slots, random.make_seed(seed)))

    def step(image, **state):
        checks = [
            *check_image(image, bounds),
            _check_state(model, state, tf.shape(image)[0]),
        ]
        with tf.control_dependencies(checks):
            small = _fit(image, config.image_size)
        state, outputs = model.observe(unpack_state(model, state), small, num_steps)
        size = tf.shape(image)[1:3]
        return {**pack_state(model, state), **_at_size(_fields(outputs), size)}

    def imagine(**state):
        state, outputs = model.imagine(unpack_state(model, state), num_steps)
        return {**pack_state(model, state), **_at_size(_fields(outputs), config.image_size)}

    return init_state, step, imagine


def _trace(model, root):
    """Traces the functions of the root for both dtypes; returns the signatures of the export."""
    config = model.config
    state = state_specs(model)
    videos = {
        dtype: tf.TensorSpec([None, None, None, None, config.channels], dtype, "video")
        for dtype in (tf.uint8, tf.float32)
    }
    frames = {
        dtype: tf.TensorSpec([None, None, None, config.channels], dtype, "image")
        for dtype in (tf.uint8, tf.float32)
    }
    slots = tf.TensorSpec([None, None, model.slot_size], tf.float32, "slots")
    batch = tf.TensorSpec([], tf.int32, "batch")
    options = [tf.TensorSpec([], tf.int32, name) for name in ("num_slots", "seed")]

    # An export keeps all traces of a function; the signatures below cover one dtype only.
    for dtype in videos:
        root.decompose.get_concrete_function(videos[dtype], *options)
        root.step.get_concrete_function(frames[dtype], **state)

    # TensorFlow Serving requires a value for every input, so these have no options.
    with_defaults = tf.function(
        lambda video: root.decompose(video, tf.constant(config.num_slots), tf.constant(0)),
        autograph=False,
    )
    return {
        "serving_default": with_defaults.get_concrete_function(videos[tf.uint8]),
        "serving_float": with_defaults.get_concrete_function(videos[tf.float32]),
        "decompose": root.decompose.get_concrete_function(videos[tf.uint8], *options),
        "init_state": root.init_state.get_concrete_function(batch, *options),
        "step": root.step.get_concrete_function(frames[tf.uint8], **state),
        "imagine": root.imagine.get_concrete_function(**state),
        "decode": root.decode.get_concrete_function(slots),
    }


def pack_state(model, state):
    """Returns a `VideoState` as {name: tensor}."""
    names = [PREFIX + name for name in model.memory_names()]
    memory = dict(zip(names, state.memory, strict=True))
    return {**memory, FRAME: state.frame, SEED: state.seed}


def unpack_state(model, state):
    """Returns the `VideoState` of {name: tensor}."""
    memory = tuple(state[PREFIX + name] for name in model.memory_names())
    return VideoState(memory, state[FRAME], state[SEED])


def state_specs(model):
    """Returns {name: spec} of the state for any number of clips and slots."""
    example = pack_state(model, model.initial_state(1, model.config.num_slots, random.make_seed()))
    specs = {}
    for name, value in example.items():
        shape = value.shape
        if name not in (FRAME, SEED):
            shape = [None, None, *shape[2:]]
        specs[name] = tf.TensorSpec(shape, value.dtype, name)
    return specs


def _clip_results(model, num_steps):
    def infer(video, num_slots, seed):
        outputs = model(
            video, num_slots=num_slots, num_steps=num_steps, seed=random.make_seed(seed)
        )
        return _fields(outputs)

    return infer


def _fields(outputs):
    return {name: getattr(outputs, name) for name in FIELDS}


def _fit(image, size):
    return tf.image.resize(unit_range(image), size, antialias=True)


def _map_frames(function, x):
    """Applies a function of [n, ...] to the frames [B, T, ...]."""
    lead = tf.shape(x)[:2]
    y = function(tf.reshape(x, tf.concat([[-1], tf.shape(x)[2:]], axis=0)))
    return tf.reshape(y, tf.concat([lead, tf.shape(y)[1:]], axis=0))


def _at_size(results, size, are_clips=False):
    """Resizes the image-shaped results to `size` and adds the segmentation."""

    def apply(function, x):
        if are_clips:
            return _map_frames(function, x)
        return function(x)

    resized = {
        name: apply(lambda x: resize(x, size), results[name])
        for name in ("recon", "masks", "slot_recons")
    }
    return {**results, **resized, "segmentation": apply(segment_ids, resized["masks"])}


def _check_state(model, state, batch):
    memory = state[PREFIX + model.memory_names()[0]]
    found = tf.shape(memory)[0]
    message = f"`{PREFIX}*` must be of as many clips as `image`. Received:"
    return tf.debugging.Assert(tf.equal(found, batch), [message, found, batch])
