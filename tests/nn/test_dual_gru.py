"""DualGRU is two ordinary GRUs side by side."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfobj.nn.dual_gru import DualGRU, JointGRU


def make(size=5, inputs=3, rows=7):
    keras.utils.set_random_seed(0)
    layer = DualGRU(size, initializer=keras.initializers.RandomNormal(stddev=1.0))
    layer.build((None, inputs))
    rng = np.random.default_rng(0)
    return (
        layer,
        tf.constant(rng.normal(size=(rows, inputs)), tf.float32),
        tf.constant(rng.normal(size=(2, rows, size)), tf.float32),
    )


def test_equals_two_keras_cells_with_copied_weights():
    """Keras orders the gates update, reset, candidate and keeps both biases in one weight."""
    layer, inputs, states = make()
    got = layer(inputs, states)
    for half in range(2):
        cell = keras.layers.GRUCell(5, reset_after=True)
        cell.build((None, 3))

        def keras_order(weight):
            reset, update, candidate = np.split(np.asarray(weight)[half], 3, axis=-1)  # noqa: B023
            return np.concatenate([update, reset, candidate], axis=-1)

        biases = np.concatenate([keras_order(layer.bias), keras_order(layer.recurrent_bias)])
        cell.set_weights([keras_order(layer.kernel), keras_order(layer.recurrent_kernel), biases])
        expected, _ = cell(inputs, [states[half]])
        np.testing.assert_allclose(got[half], expected, atol=1e-6)


def test_halves_do_not_mix():
    layer, inputs, states = make()
    changed = layer(inputs, states + tf.constant([0.0, 1.0])[:, None, None])
    np.testing.assert_array_equal(changed[0], layer(inputs, states)[0])
    assert np.abs(changed[1] - layer(inputs, states)[1]).min() > 0


def test_joint_gru_mixes_them():
    keras.utils.set_random_seed(0)
    layer = JointGRU(5)
    layer.build((None, 3))
    _, inputs, states = make()
    changed = layer(inputs, states + tf.constant([0.0, 1.0])[:, None, None])
    assert changed.shape == (2, 7, 5) and np.abs(changed[0] - layer(inputs, states)[0]).max() > 1e-3


@pytest.mark.parametrize("layer_class, count", [(DualGRU, 49_920), (JointGRU, 107_392)])
def test_parameters(layer_class, count):
    """D = 64 (Emami 2021: 666,500 and 723,972 in all)."""
    layer = layer_class(64)
    layer.build((None, 64))
    assert layer.count_params() == count


def test_weights_and_biases_are_drawn_apart():
    keras.utils.set_random_seed(0)
    layer = DualGRU(64, initializer=keras.initializers.RandomNormal(stddev=1.0))
    layer.build((None, 64))
    for weight in (layer.kernel, layer.recurrent_kernel):
        assert abs(np.std(weight) - 1) < 0.02
    assert not np.array_equal(layer.kernel, layer.recurrent_kernel) and not np.array_equal(
        layer.bias, layer.recurrent_bias
    )
    assert 0.7 < np.std(layer.bias) < 1.3
