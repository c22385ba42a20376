"""Slot Attention and Slot MLP: initial slots, initial loss, units of the loss, pooled sizes."""

import conformance
import keras
import numpy as np
import pytest
import tensorflow as tf

from tfobj.errors import UserError
from tfobj.models.slot_attention import SlotAttentionAutoencoder, SlotAttentionConfig
from tfobj.models.slot_mlp import SlotMLPAutoencoder, SlotMLPConfig

CASES = {case.id: case for case in conformance.MODELS}


def make(name="slot_attention", **overrides):
    model = conformance.build(CASES[name], **overrides)
    return model, conformance.scenes(model.config)


def test_initial_slots_have_the_learned_moments():
    model, _ = make()
    model.slot_mean.assign(tf.fill([1, 1, 6], 0.7))
    model.slot_log_sigma.assign(tf.fill([1, 1, 6], -1.0))
    slots = model.initial_slots(200, 50, conformance.seed()).numpy()
    np.testing.assert_allclose(slots.mean((0, 1)), 0.7, atol=0.02)
    np.testing.assert_allclose(slots.std((0, 1)), np.exp(-1.0), atol=0.02)


def test_initial_values_of_mean_and_log_sigma():
    """Glorot uniform on [1, 1, D]: within sqrt(6 / (1 + D)), 0.304 for D = 64."""
    models = [
        SlotAttentionAutoencoder(
            SlotAttentionConfig(encoder_channels=(2,), decoder_channels=(2,), decoder_kernels=(3,))
        )
        for _ in range(3)
    ]
    for weight in ("slot_mean", "slot_log_sigma"):
        values = np.concatenate([getattr(m, weight).numpy().ravel() for m in models])
        limit = np.sqrt(6 / 65)
        assert 0.85 * limit < np.abs(values).max() <= limit and round(limit, 3) == 0.304


@pytest.mark.parametrize("name", ["slot_attention", "slot_mlp"])
def test_loss_is_the_mean_square_in_units_of_minus_one_to_one(name):
    model, image = make(name)
    outputs = model(image, seed=conformance.seed())
    loss, terms = model.objective(outputs, 0)
    expected = np.mean((2 * image - 1 - (2 * outputs.recon.numpy() - 1)) ** 2)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_allclose(terms["mse"], expected / 4, rtol=1e-5)


def test_loss_at_initialisation_is_that_of_a_grey_image():
    """Outputs are near zero for most seeds, so the loss is near the mean of x**2, x in [-1, 1]."""
    losses = []
    for weights_seed in range(3):
        keras.utils.set_random_seed(weights_seed)
        model = SlotAttentionAutoencoder(SlotAttentionConfig())
        image = conformance.scenes(model.config, 1)
        losses.append(float(model.objective(model(image, seed=conformance.seed()), 0)[0]))
    np.testing.assert_allclose(np.median(losses), np.mean((2 * image - 1) ** 2), rtol=0.3)


def test_attention_is_returned_and_sums_to_one_over_slots():
    model, image = make()
    attention = model(image, seed=conformance.seed()).history["attention"]
    assert attention.shape == (conformance.BATCH, 1, 10 * 12, 3)
    np.testing.assert_allclose(
        tf.reduce_sum(attention, -1), np.ones((conformance.BATCH, 1, 120)), atol=1e-5
    )


def test_strided_encoder_and_enlarging_decoder():
    config = SlotAttentionConfig(
        image_size=(16, 32),
        encoder_channels=(4, 4),
        encoder_kernels=(3,),
        encoder_strides=(1, 2),
        decoder_channels=(4, 4),
        decoder_kernels=(3,),
        decoder_strides=(2, 2, 1),
        decoder_grid=(4, 8),
        slot_size=5,
    )
    model = SlotAttentionAutoencoder(config)
    assert model.tokens.map_shape[1:3] == (8, 16)
    assert model(conformance.scenes(config, 2)).recon.shape == (2, 16, 32, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"decoder_grid": (4,)},
            "`model.decoder_grid` must be empty or two numbers. Received: model.decoder_grid=(4,).",
        ),
        ({"slot_size": 0}, "`model.slot_size` must be at least 1. Received: model.slot_size=0."),
    ],
)
def test_wrong_settings(changes, message):
    with pytest.raises(UserError) as error:
        SlotAttentionConfig().override(changes)
    assert str(error.value) == message


def test_slot_mlp_has_no_noise_and_fixed_slots():
    model, image = make("slot_mlp")
    np.testing.assert_array_equal(
        model(image, seed=conformance.seed(1)).slots, model(image, seed=conformance.seed(2)).slots
    )
    with pytest.raises(
        ValueError,
        match="`num_slots` of SlotMLPAutoencoder is fixed at construction to 3. "
        "Received: num_slots=5.",
    ):
        model(image, num_slots=5)
    with pytest.raises(UserError, match="`model.num_steps` must be 1: slot_mlp has no iterations"):
        SlotMLPConfig(num_steps=3)


@pytest.mark.parametrize("side, window, pooled", [(35, 5, 7), (64, 8, 8), (128, 16, 8), (6, 1, 6)])
def test_slot_mlp_pooling(side, window, pooled):
    config = SlotMLPConfig(
        image_size=(side, side),
        encoder_channels=(2,),
        encoder_kernels=(1,),
        decoder_channels=(2,),
        decoder_kernels=(1,),
        hidden=(4,),
    )
    model = SlotMLPAutoencoder(config)
    assert model.window == (window, window)
    assert model.mlp.stages[0].kernel.shape[0] == pooled**2 * 2
