"""The functions of an exported model of clips: whole clips, and frame by frame with the state in the caller's hands.

    video uint8 or float32 [B, T, H, W, C]     -> decompose: masks, recon, slot_recons, segmentation of every frame, at the video's size
    init_state(batch, num_slots, seed)         -> state_*: what a stream keeps between two frames
    step(image uint8 [B, H, W, C], state_*)    -> state_*, and the same results for this frame
    imagine(state_*)                           -> state_*, and the results for a frame that nobody has seen, at the model's size

A server keeps nothing: a client sends back the `state_*` that it was given. A stream has the numbers of the whole clip.
"""

import tensorflow as tf

from tfobj import random
from tfobj.models.video import VideoState
from tfobj.serving import signatures
from tfobj.serving.checks import check_image, check_range, resize, segment_ids, unit_range

PREFIX = "state_"
FRAME, SEED = PREFIX + "frame", PREFIX + "seed"
FIELDS = ("recon", "masks", "slot_recons", "slots")


def serve(model, num_steps=None):
    """Returns the `signatures.Served` form of a `VideoModel`."""
    config, bounds = model.config, signatures.limits(model)
    num_steps = config.num_steps if num_steps is None else num_steps
    root = tf.Module()
    root.weights = [variable.value for variable in model.variables]
    results = tf.function(_clip_results(model, num_steps), autograph=False)

    def decompose(video, num_slots=config.num_slots, seed=0):
        checks = [
            *check_image(tf.reshape(video, tf.concat([[-1], tf.shape(video)[2:]], axis=0)), bounds),
            check_range("num_slots", num_slots, bounds.num_slots),
        ]
        with tf.control_dependencies(checks):
            small, num_slots = (
                _frames(lambda x: _fit(x, config.image_size), video),
                tf.identity(num_slots),
            )
        return _at_size(results(small, num_slots, seed), tf.shape(video)[2:4], clips=True)

    def init_state(batch=1, num_slots=config.num_slots, seed=0):
        checks = [
            check_range("batch", batch, (1, signatures.MAX_SAMPLES)),
            check_range("num_slots", num_slots, bounds.num_slots),
        ]
        with tf.control_dependencies(checks):
            batch, num_slots = tf.identity(batch), tf.identity(num_slots)
        return pack_state(model, model.initial_state(batch, num_slots, random.make_seed(seed)))

    def step(image, **state):
        with tf.control_dependencies(
            [*check_image(image, bounds), _check_state(model, state, tf.shape(image)[0])]
        ):
            small = _fit(image, config.image_size)
        state, outputs = model.observe(unpack_state(model, state), small, num_steps)
        return {
            **pack_state(model, state),
            **_at_size({name: getattr(outputs, name) for name in FIELDS}, tf.shape(image)[1:3]),
        }

    def imagine(**state):
        state, outputs = model.imagine(unpack_state(model, state), num_steps)
        return {
            **pack_state(model, state),
            **_at_size({name: getattr(outputs, name) for name in FIELDS}, config.image_size),
        }

    for function in (decompose, init_state, step, imagine, *signatures.latent_functions(model)):
        setattr(root, function.__name__, tf.function(function, autograph=False))
    state = state_specs(model)
    videos = {
        dtype: tf.TensorSpec([None, None, None, None, config.channels], dtype, "video")
        for dtype in (tf.uint8, tf.float32)
    }
    frames = {
        dtype: tf.TensorSpec([None, None, None, config.channels], dtype, "image")
        for dtype in (tf.uint8, tf.float32)
    }
    options = [tf.TensorSpec([], tf.int32, name) for name in ("num_slots", "seed")]
    for dtype in videos:
        root.decompose.get_concrete_function(videos[dtype], *options)
        root.step.get_concrete_function(frames[dtype], **state)
    whole = tf.function(
        lambda video: root.decompose(video, tf.constant(config.num_slots), tf.constant(0)),
        autograph=False,
    )
    served = {
        "serving_default": whole.get_concrete_function(videos[tf.uint8]),
        "serving_float": whole.get_concrete_function(videos[tf.float32]),
        "decompose": root.decompose.get_concrete_function(videos[tf.uint8], *options),
        "init_state": root.init_state.get_concrete_function(
            tf.TensorSpec([], tf.int32, "batch"), *options
        ),
        "step": root.step.get_concrete_function(frames[tf.uint8], **state),
        "imagine": root.imagine.get_concrete_function(**state),
        "decode": root.decode.get_concrete_function(
            tf.TensorSpec([None, None, model.slot_size], tf.float32, "slots")
        ),
    }
    return signatures.Served(root, served, num_steps, model.slot_size)


def pack_state(model, state):
    """Returns a `VideoState` as {name: tensor}."""
    names = [PREFIX + name for name in model.memory_names()]
    return {**dict(zip(names, state.memory, strict=True)), FRAME: state.frame, SEED: state.seed}


def unpack_state(model, state):
    """Returns the `VideoState` of {name: tensor}."""
    return VideoState(
        tuple(state[PREFIX + name] for name in model.memory_names()), state[FRAME], state[SEED]
    )


def state_specs(model):
    """Returns {name: spec} of the state of streams of any number of clips and slots."""
    like = pack_state(model, model.initial_state(1, model.config.num_slots, random.make_seed()))
    free = lambda name, x: [None, None, *x.shape[2:]] if name not in (FRAME, SEED) else x.shape
    return {name: tf.TensorSpec(free(name, x), x.dtype, name) for name, x in like.items()}


def _clip_results(model, num_steps):
    def infer(video, num_slots, seed):
        outputs = model(
            video, num_slots=num_slots, num_steps=num_steps, seed=random.make_seed(seed)
        )
        return {name: getattr(outputs, name) for name in FIELDS}

    return infer


def _fit(image, size):
    return tf.image.resize(unit_range(image), size, antialias=True)


def _frames(function, x):
    """Applies a function of [n, ...] to the frames of [B, T, ...]."""
    lead = tf.shape(x)[:2]
    y = function(tf.reshape(x, tf.concat([[-1], tf.shape(x)[2:]], axis=0)))
    return tf.reshape(y, tf.concat([lead, tf.shape(y)[1:]], axis=0))


def _at_size(results, size, clips=False):
    """Resizes what has pixels to `size`, and adds the segmentation."""
    apply = _frames if clips else lambda function, x: function(x)
    resized = {
        name: apply(lambda x: resize(x, size), results[name])
        for name in ("recon", "masks", "slot_recons")
    }
    return {**results, **resized, "segmentation": apply(segment_ids, resized["masks"])}


def _check_state(model, state, batch):
    memory = state[PREFIX + model.memory_names()[0]]
    return tf.debugging.Assert(
        tf.equal(tf.shape(memory)[0], batch),
        [f"`{PREFIX}*` must be of as many clips as `image`. Received:", tf.shape(memory)[0], batch],
    )
