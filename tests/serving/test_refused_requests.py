"""Requests that a server must refuse: the graph names the input, before anything is computed."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2

from tfobj.models.video_decomposition.model import VideoDecomposition
from tfobj.serving import signatures

LIMIT = signatures.MAX_SLOT_PIXELS


def black(*shape):
    return np.zeros(shape, np.uint8)


def assert_refused(message, function, *inputs, **named):
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        function(*inputs, **named)


@pytest.fixture(scope="module")
def state(exported_clips):
    """The state of two streams with three slots each, as arrays."""
    state = exported_clips.loaded.init_state(batch=2, num_slots=3, seed=1)
    return {name: value.numpy() for name, value in state.items()}


@pytest.fixture(scope="module")
def stream(exported_clips):
    """Returns functions of a state: `step` with two black frames, and `imagine`."""
    loaded = exported_clips.loaded
    frames = black(2, 10, 12, 3)
    return {"step": lambda **state: loaded.step(frames, **state), "imagine": loaded.imagine}


each_stream = pytest.mark.parametrize("function", ["step", "imagine"])


@each_stream
@pytest.mark.parametrize("frame", [-1, -4000, -(2**31), 2**21, 2**31 - 1])
def test_frame_numbers_out_of_range(stream, state, function, frame):
    message = rf"`state_frame` must be in 0 ... 2097151. Received:. .{frame}."
    assert_refused(message, stream[function], **{**state, "state_frame": np.int32(frame)})


@each_stream
def test_the_last_frame_is_answered(stream, state, function):
    results = stream[function](**{**state, "state_frame": np.int32(2**21 - 1)})
    assert results["state_frame"] == 2**21
    assert np.isfinite(results["masks"]).all()


def test_no_frame_takes_more_cells_than_the_first():
    for frame in (0, -1, -4000, -(2**31) + 10):
        cells = VideoDecomposition.num_cells(None, tf.constant(frame), 5)
        assert cells == VideoDecomposition.num_cells(None, frame, 5) == 5
    assert VideoDecomposition.num_cells(None, 4, 5) == 2


@each_stream
@pytest.mark.parametrize("name", ["state_hidden", "state_output"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_states_that_are_not_finite(stream, state, function, name, value):
    broken = state[name].copy()
    broken[1, 2, 0] = value
    message = f"`{name}` must be finite. Received: NaN or infinity."
    assert_refused(message, stream[function], **{**state, name: broken})


def with_slots(state, num_slots, batch=2):
    """Returns a state of zeros for another number of slots."""
    return {
        name: np.zeros((batch, num_slots, value.shape[2]), np.float32) if value.ndim == 3 else value
        for name, value in state.items()
    }


@each_stream
@pytest.mark.parametrize("num_slots", [0, 1, 65, 200, 300])
def test_states_with_a_number_of_slots_out_of_range(stream, state, function, num_slots):
    message = rf"`state_\w+.shape.1.` must be in 2 ... 64. Received:. .{num_slots}."
    assert_refused(message, stream[function], **with_slots(state, num_slots))


@each_stream
@pytest.mark.parametrize("part", [np.s_[:1], np.s_[:, :2]], ids=["fewer clips", "fewer slots"])
def test_states_whose_tensors_disagree(stream, state, function, part):
    name = "state_output"
    message = f"`{name}` must be of as many clips and slots as `state_hidden`."
    assert_refused(message, stream[function], **{**state, name: state[name][part]})


def test_states_of_other_clips_than_the_frames(exported_clips, state):
    message = "`state_.` must be of as many clips as `image`. Received:. .2. .and. .3."
    assert_refused(message, exported_clips.loaded.step, black(3, 10, 12, 3), **state)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((0, 2, 10, 12, 3), "`video` must hold at least one clip of one frame"),
        ((1, 0, 10, 12, 3), "`video` must hold at least one clip of one frame"),
        ((1, 2, 0, 12, 3), "`video` must have sides of 1 ... 2048 pixels.*0 12"),
        ((1, 2, 10, 2049, 3), "`video` must have sides of 1 ... 2048 pixels.*10 2049"),
        ((30, 900, 8, 8, 3), "`video` must have frames x slots x pixels of at most 134217728"),
    ],
)
def test_clips_are_called_by_their_name(exported_clips, shape, message):
    assert_refused(message, exported_clips.loaded.decompose, black(*shape))


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.001, 1.001, 255.0])
def test_values_out_of_range(exported_attention, exported_clips, state, value):
    """In every function that takes floats, one wrong value among many."""
    image = np.full((2, 10, 12, 3), 0.5, np.float32)
    image[1, 3, 4, 2] = value
    message = "` must be finite and in .0, 1. .or uint8.. Received: values in"
    for function in ("decompose", "segment", "encode"):
        assert_refused("`image" + message, getattr(exported_attention.loaded, function), image)
    assert_refused("`image" + message, exported_clips.loaded.step, image, **state)
    assert_refused("`video" + message, exported_clips.loaded.decompose, image[:, None])


def test_requests_that_would_fill_the_memory(exported_attention, exported_iodine):
    """Two gigabytes of results and more are refused, and nothing is computed before."""
    loaded = exported_attention.loaded
    message = r"`image` must have scenes x slots x pixels of at most 134217728 .*Received:. "
    many = black(20_000, 8, 8, 3)
    size = r".2457600000. .=. .20000. .x. .64. .x. .1920."  # 16 x 10 x 12 pixels
    for function in (loaded.decompose, loaded.segment, loaded.encode):
        assert_refused(message + size, function, many, num_slots=64)
    assert_refused(message, loaded.decompose, black(2, 2048, 2048, 3), num_slots=64)
    assert_refused("`slots` must have scenes", loaded.decode, np.zeros((2000, 64, 6), np.float32))

    # Steps beyond the default of 2 count in proportion.
    refused = black(40, 8, 8, 3)
    assert_refused(message, exported_iodine.loaded.encode, refused, num_slots=64, num_steps=100)


def test_a_batch_of_large_images_is_within_the_limit():
    """32 images of 512 x 512 with 11 slots, and a model of up to 128 x 128 inside."""
    assert 32 * 11 * max(512 * 512, 16 * 128 * 128) <= LIMIT


def test_slots_that_render_to_infinity(exported_clips):
    """Finite input, but the results overflow."""
    slots = np.full((1, 2, exported_clips.decomposer.metadata["slot_size"]), 3e38, np.float32)
    message = "`slots` must be such that the results are finite. Received: NaN or infinity."
    assert_refused(message, exported_clips.loaded.decode, slots)


@pytest.fixture(scope="module")
def raw_call(exported_attention, exported_clips):
    """Returns a function that sends arrays to a signature without any check by Python.

    So do TensorFlow Serving and its clients.
    """
    sessions = []

    def call(is_video, name, inputs):
        exported = exported_clips if is_video else exported_attention
        session = tf.compat.v1.Session(graph=tf.Graph())
        sessions.append(session)
        with session.graph.as_default():
            meta_graph = tf.compat.v1.saved_model.load(session, ["serve"], str(exported.folder))
        signature = meta_graph.signature_def[name]
        options = config_pb2.CallableOptions(
            feed=[signature.inputs[key].name for key in inputs],
            fetch=[info.name for info in signature.outputs.values()],
        )
        return session._make_callable_from_options(options)(*inputs.values())

    yield call
    for session in sessions:
        session.close()


@pytest.mark.parametrize(
    "wrong",
    [
        {"image": black(1, 4, 4, 1)},
        {"image": black(4, 4, 3)},
        {"image": black(1, 1, 4, 4, 3)},
        {"num_slots": np.int32([3])},
        {"num_steps": np.int32([])},
        {"seed": np.int32([1, 2])},
    ],
    ids=lambda wrong: "-".join(f"{k}{v.shape}" for k, v in wrong.items()),
)
def test_shapes_that_only_a_server_lets_through(raw_call, wrong):
    good = {
        "image": black(1, 4, 4, 3),
        "num_slots": np.int32(3),
        "num_steps": np.int32(2),
        "seed": np.int32(0),
    }
    ((name, value),) = wrong.items()
    found = " ".join(map(str, value.shape))
    message = rf"`{name}` must have shape .*Received: shape. .{found}."
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        raw_call(False, "decompose", {**good, **wrong})


@pytest.mark.parametrize("name", ["state_hidden", "state_frame", "state_seed"])
def test_states_of_shapes_that_only_a_server_lets_through(raw_call, state, name):
    wrong = np.concatenate([np.atleast_1d(state[name])] * 2, axis=-1)
    inputs = {"image": black(2, 10, 12, 3), **state, name: wrong}
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"`{name}` must have shape"):
        raw_call(True, "step", inputs)
