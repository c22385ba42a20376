"""The refinement network's shapes, memory and initial values; loss weights over the steps."""

import numpy as np
import pytest
import tensorflow as tf

from tfobj.errors import UserError
from tfobj.inference.graph_schedules import refinement_loss_weight
from tfobj.inference.refinement import GateBias, RefinementNetwork

BATCH = 2
SLOTS = 3
SIZE = (9, 11)
SHARED = 2
PER_SLOT = 3
FLAT = 8
ROWS = BATCH * SLOTS


def make(lstm_size, **kwargs):
    network = RefinementNetwork((4, 3), 3, (7,), lstm_size, 10, **kwargs)
    network.build(SHARED, PER_SLOT, FLAT)
    return network


def inputs(seed=0):
    """Returns (shared, per slot, flat)."""
    rng = np.random.default_rng(seed)
    shapes = (BATCH, 1, *SIZE, SHARED), (BATCH, SLOTS, *SIZE, PER_SLOT), (BATCH, SLOTS, FLAT)
    return [tf.constant(rng.normal(size=shape), tf.float32) for shape in shapes]


def rows_of(shared, per_slot, flat):
    """Returns (spatial [N, H, W, channels], flat [N, F]): every slot with all that it sees."""
    spatial = np.concatenate([np.repeat(shared, SLOTS, axis=1), per_slot], axis=-1)
    return tf.constant(spatial.reshape(ROWS, *SIZE, -1)), tf.reshape(flat, [ROWS, FLAT])


@pytest.mark.parametrize("lstm_size, count", [(0, 0), (12, 2)])
def test_shapes(lstm_size, count):
    network = make(lstm_size)
    memory = network.initial_memory(ROWS)
    update, new_memory = network(*inputs(), memory=memory)
    assert update.shape == (BATCH, SLOTS, 10) and update.dtype == tf.float32
    assert (
        [tuple(m.shape) for m in new_memory]
        == [(ROWS, lstm_size)] * count
        == [tuple(m.shape) for m in memory]
    )
    assert all((m.numpy() == 0).all() for m in memory)


def test_parts_without_memory():
    """Convolutions -> mean over the map -> MLP -> concatenation -> linear layer."""
    network = make(0)
    seen = inputs()
    x, flat = rows_of(*seen)
    for stage in network.cnn.stages:
        x = tf.nn.elu(tf.nn.conv2d(x, stage.kernel.value, 2, "SAME") + stage.bias.value)

    dense = network.mlp.stages[0]
    x = tf.nn.elu(tf.reduce_mean(x, [1, 2]) @ dense.kernel.value + dense.bias.value)
    x = (
        tf.concat([x, flat], -1) @ network.output_layer.kernel.value
        + network.output_layer.bias.value
    )
    np.testing.assert_allclose(network(*seen)[0], tf.reshape(x, [BATCH, SLOTS, 10]), atol=1e-5)


@pytest.mark.parametrize("shared, per_slot", [(0, PER_SLOT), (SHARED, 0)])
def test_inputs_of_one_kind(shared, per_slot):
    network = RefinementNetwork((4, 3), 3, (7,), 0, 10)
    network.build(shared, per_slot, FLAT)
    seen = inputs()
    update, _ = network(seen[0] if shared else None, seen[1] if per_slot else None, seen[2])
    assert (
        update.shape == (BATCH, SLOTS, 10)
        and network.cnn.stages[0].kernel.shape[2] == shared + per_slot
    )
    assert (np.abs(update - update[:, :1]).max() > 0) and np.isfinite(update).all()


@pytest.mark.parametrize("linear", [False, True])
def test_the_last_layer_of_the_mlp(linear):
    network = make(0, mlp_linear_output=linear)
    assert (network.mlp.stages[-1].activation.__name__ == "linear") == linear


def test_memory_equals_a_hand_written_lstm():
    network = make(12)
    seen = inputs()
    spatial, flat = rows_of(*seen)
    rng = np.random.default_rng(3)
    h, c = (tf.constant(rng.normal(size=(ROWS, 12)), tf.float32) for _ in range(2))
    features = network.mlp(tf.reduce_mean(network.cnn(spatial), [1, 2]))
    x = tf.concat([features, flat], -1)
    i, f, g, o = tf.split(
        x @ network.lstm.kernel.value
        + h @ network.lstm.recurrent_kernel.value
        + network.lstm.bias.value,
        4,
        axis=-1,
    )
    new_c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
    new_h = tf.sigmoid(o) * tf.tanh(new_c)
    update, memory = network(*seen, memory=(h, c))

    np.testing.assert_allclose(memory[0], new_h, atol=1e-5)
    np.testing.assert_allclose(memory[1], new_c, atol=1e-5)

    expected = new_h @ network.output_layer.kernel.value + network.output_layer.bias.value
    np.testing.assert_allclose(update, tf.reshape(expected, [BATCH, SLOTS, 10]), atol=1e-5)


def test_gate_bias_opens_the_forget_gate():
    """Sonnet 1 adds 1 to the forget gate at run time; the order is input, forget, cell, output."""
    i, f, c, o = np.split(np.asarray(GateBias(fan_in=100)((4 * 50,))), 4)
    for gate, centre in ((i, 0), (f, 1), (c, 0), (o, 0)):
        assert np.abs(gate - centre).max() <= 0.2 + 1e-6 and gate.std() > 0.05


def test_rows_do_not_see_each_other():
    network = make(12)
    shared, per_slot, flat = inputs()
    all_rows, _ = network(shared, per_slot, flat, memory=network.initial_memory(ROWS))
    one, _ = network(shared[1:], per_slot[1:, 2:], flat[1:, 2:], memory=network.initial_memory(1))
    np.testing.assert_allclose(all_rows[1:, 2:], one, atol=1e-5)


def test_linear_loss_weights():
    np.testing.assert_allclose(
        [refinement_loss_weight(r, 5) for r in range(6)], [0, 0.2, 0.4, 0.6, 0.8, 1]
    )
    got = [refinement_loss_weight(tf.constant(r), tf.constant(5)) for r in range(6)]
    np.testing.assert_allclose(got, [0, 0.2, 0.4, 0.6, 0.8, 1], rtol=1e-6)


def test_other_loss_weights():
    assert [refinement_loss_weight(r, 3, "constant") for r in range(4)] == [1.0] * 4
    values = (0.0, 0.5, 0.25)
    assert [refinement_loss_weight(r, 2, "list", values) for r in range(3)] == list(values)
    np.testing.assert_allclose(refinement_loss_weight(tf.constant(1), 2, "list", values), 0.5)


@pytest.mark.parametrize("num_steps", [1, 3])
def test_list_of_another_length_is_refused(num_steps):
    with pytest.raises(UserError) as error:
        refinement_loss_weight(0, num_steps, "list", (0.0, 0.5, 1.0))
    assert str(error.value) == (
        "`model.loss_weight_list` must have num_steps + 1 entries. "
        f"Received: 3 entries for num_steps={num_steps}."
    )
