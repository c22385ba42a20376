"""The convolutional encoder that MONet, GENESIS and the broadcast VAE share."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfobj.nn.image_encoder import ImageEncoder


def images(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    "padding, explicit", [("same", "SAME"), (1, [[0, 0], [1, 1], [1, 1], [0, 0]])]
)
def test_encoder_is_its_layers_in_order(padding, explicit):
    encoder = ImageEncoder((4, 3), (7,), 6, padding=padding, activation="elu")
    x = images(2, 9, 12, 4)
    got = encoder(x)

    for stage in encoder.cnn.stages:
        x = tf.nn.elu(tf.nn.conv2d(x, stage.kernel.value, 2, explicit) + stage.bias.value)
    hidden, output = encoder.mlp.stages
    x = tf.reshape(x, [2, 3 * 3 * 3])
    x = tf.nn.elu(x @ hidden.kernel.value + hidden.bias.value)
    np.testing.assert_allclose(got, x @ output.kernel.value + output.bias.value, atol=1e-5)


def test_sizes_of_monet():
    """Burgess 2019, appendix B.1, at 64 x 64: four convolutions to a map of 4 x 4 x 64."""
    encoder = ImageEncoder((32, 32, 64, 64), (256,), 32, padding=1)
    encoder.build((None, 64, 64, 4))
    assert encoder.num_features == 4 * 4 * 64
    assert sum(int(np.prod(w.shape)) for w in encoder.trainable_weights) == 336_480


def test_positions_are_kept():
    """The last map is flattened, not averaged: a mirrored image has another encoding."""
    keras.utils.set_random_seed(0)
    encoder = ImageEncoder((4, 4), (8,), 3)
    x = images(1, 8, 8, 3)
    assert np.abs(encoder(x) - encoder(x[:, :, ::-1])).max() > 1e-3


def test_output_is_float32_in_mixed_precision():
    """Convolutions compute in the policy's type; Gaussians are made from float32 parameters."""
    encoder = ImageEncoder((4,), (5,), 6, dtype="mixed_bfloat16")
    assert encoder.cnn.compute_dtype == encoder.mlp.compute_dtype == "bfloat16"
    assert encoder(images(2, 8, 8, 3)).dtype == tf.float32


def test_paths_of_weights():
    """Checkpoints find weights by these."""
    encoder = ImageEncoder((4,), (5,), 6, name="encoder")
    encoder.build((None, 8, 8, 3))
    layers = ("cnn/conv_0", "mlp/dense_0", "mlp/dense_1")
    assert [w.path for w in encoder.weights] == [
        f"encoder/{layer}/{name}" for layer in layers for name in ("kernel", "bias")
    ]
