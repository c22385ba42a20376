"""The functions of an exported video model: whole clips, and frame by frame.

    decompose(video, num_slots, seed)   -> masks, recon, slot_recons, segmentation of every frame
    init_state(batch, num_slots, seed)  -> state_*: the state before the first frame
    step(image, state_*)                -> state_*, and the same results for this frame
    imagine(state_*)                    -> state_*, and the results for a predicted frame

Videos are uint8 or float32 [B, T, H, W, C], frames [B, H, W, C]. Results have the size of the
input; those of `imagine`, which has no input image, have the model's size.

A server keeps no state: a client sends back the `state_*` that it received. Frame by frame, the
results are those of the whole clip. A clip's noise depends on `seed` alone, not on the rest of the
batch.
"""

import tensorflow as tf

from tfobj import random
from tfobj.models.video import VideoState
from tfobj.serving import checks, signatures

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
        video = checks.well_shaped({"video": video})["video"]
        options = signatures.checked_options(num_slots=num_slots, seed=seed)
        batch, num_frames, height, width = tf.unstack(tf.shape(video)[:4])
        # Two factors of int32 each: their product alone may leave it.
        num_scenes = tf.cast(batch, tf.int64) * tf.cast(num_frames, tf.int64)
        video, options = checks.after(
            [
                *checks.check_image("video", video, bounds),
                *signatures.checked_ranges(options, bounds),
                checks.check_size(
                    "video", num_scenes, options["num_slots"], height * width, model, bounds
                ),
            ],
            video,
            options,
        )

        small = _map_frames(lambda x: checks.fit(x, config.image_size), video)
        found = signatures.finite_results("video", results(small, **options))
        return _at_size(found, tf.shape(video)[2:4], are_clips=True)

    return decompose


def _stream_functions(model, num_steps):
    """Returns `init_state`, `step` and `imagine`, for clips that come frame by frame."""
    config = model.config
    bounds = signatures.limits(model)
    observe = tf.function(_frame_results(model, num_steps), autograph=False)

    def init_state(batch=1, num_slots=config.num_slots, seed=0):
        options = signatures.checked_options(batch=batch, num_slots=num_slots, seed=seed)
        batch = options["batch"]
        num_slots = options["num_slots"]
        options = checks.after(
            [
                checks.check_range("batch", batch, bounds.num),
                checks.check_range("num_slots", num_slots, bounds.num_slots),
                checks.check_size("batch", batch, num_slots, 0, model, bounds),
            ],
            options,
        )
        with random.shared_by_scenes():
            state = model.initial_state(
                options["batch"], options["num_slots"], random.make_seed(options["seed"])
            )
        return pack_state(model, state)

    def step(image, **state):
        inputs = checks.well_shaped({"image": image, **state})
        image = inputs["image"]
        state = {name: inputs[name] for name in state}
        shape = tf.shape(image)
        image, state = checks.after(
            [
                *checks.check_image("image", image, bounds),
                *_check_state(model, state, bounds, shape[1] * shape[2], shape[0]),
            ],
            image,
            state,
        )
        found = observe(checks.fit(image, config.image_size), state)
        found = signatures.finite_results(f"{PREFIX}*", found)
        return _at_size(found, shape[1:3])

    def imagine(**state):
        state = checks.well_shaped(state)
        state = checks.after(_check_state(model, state, bounds), state)
        with random.shared_by_scenes():
            state, outputs = model.imagine(unpack_state(model, state), num_steps)
        found = signatures.finite_results(f"{PREFIX}*", _fields(outputs))
        return {**pack_state(model, state), **_at_size(found, config.image_size)}

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
    """Returns a function of clips at the model's size: their results, name -> tensor."""

    def infer(video, num_slots, seed):
        with random.shared_by_scenes():
            outputs = model(
                video, num_slots=num_slots, num_steps=num_steps, seed=random.make_seed(seed)
            )
        return _fields(outputs)

    return infer


def _frame_results(model, num_steps):
    """Returns a function of frames at the model's size: the next state and their results."""

    def infer(image, state):
        with random.shared_by_scenes():
            state, outputs = model.observe(unpack_state(model, state), image, num_steps)
        return {**pack_state(model, state), **_fields(outputs)}

    return infer


def _fields(outputs):
    return {name: getattr(outputs, name) for name in FIELDS}


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
        name: apply(lambda x: checks.resize(x, size), results[name])
        for name in ("recon", "masks", "slot_recons")
    }
    return {**results, **resized, "segmentation": apply(checks.segment_ids, resized["masks"])}


def _check_state(model, state, bounds, pixels=0, batch=None):
    """Returns the checks of a state, a list of ops.

    Args:
      model: the `VideoModel`.
      state: name -> tensor.
      bounds: `signatures.Limits`.
      pixels: number of pixels of the next frames; 0 if there are none.
      batch: number of the next frames; None if there are none.
    """
    memory = {PREFIX + name: state[PREFIX + name] for name in model.memory_names()}
    first, *others = memory
    shape = tf.shape(memory[first])
    ops = [
        checks.check_batch(first, memory[first]),
        checks.check_range(f"{first}.shape[1]", shape[1], bounds.num_slots),
        checks.check_size(first, shape[0], shape[1], pixels, model, bounds),
        checks.check_range(FRAME, state[FRAME], bounds.frame),
    ]
    for name, value in memory.items():
        ops.append(checks.check_finite(name, [value]))
    for name in others:
        found = tf.shape(memory[name])[:2]
        message = f"`{name}` must be of as many clips and slots as `{first}`. Received:"
        ops.append(
            checks.check(tf.reduce_all(found == shape[:2]), message, found, "and", shape[:2])
        )

    if batch is not None:
        message = f"`{PREFIX}*` must be of as many clips as `image`. Received:"
        ops.append(checks.check(shape[0] == batch, message, shape[0], "and", batch))
    return ops
