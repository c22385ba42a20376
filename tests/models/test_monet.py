"""MONet: sizes, stick breaking, likelihood, divergences, where gradients flow."""

import conformance
import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tfobj.distributions.spatial_mixture import SpatialMixture
from tfobj.distributions.stick_breaking import stick_breaking
from tfobj.errors import UserError
from tfobj.models.monet import Monet, MonetConfig
from tfobj.models.monet.model import mask_divergence

CASE = next(case for case in conformance.MODELS if case.model == "monet")


def make(**overrides):
    model = conformance.build(CASE, **overrides)
    return model, conformance.scenes(model.config)


def log_softmax(shape, seed=0, spread=3.0):
    return tf.nn.log_softmax(
        np.random.default_rng(seed).normal(0, spread, shape).astype(np.float32), axis=1
    )


@pytest.mark.parametrize("side, parameters", [(32, 749_701), (64, 974_085), (128, 1_788_293)])
def test_parameters(side, parameters):
    """Counted by hand: appendix B of Burgess 2019, U-Net widths of Engelcke 2020's code."""
    assert Monet(MonetConfig(image_size=(side, side))).count_trainable() == parameters


def test_parts_of_the_64_pixel_model():
    model = Monet(MonetConfig())
    assert [
        sum(int(tf.size(w.value)) for w in part.trainable_weights)
        for part in (model.attention, model.encoder, model.decoder)
    ] == [604_513, 336_480, 33_092]
    assert model.decoder.first.size == (72, 72) and model.encoder.num_features == 4 * 4 * 64


@pytest.mark.parametrize("size", [(35, 35), (96, 96), (48, 64)])
def test_shapes(size):
    model = Monet(
        MonetConfig(
            image_size=size, unet_filters=4, encoder_channels=(4, 4), decoder_channels=(4, 4)
        )
    )
    outputs = model(tf.zeros([2, *size, 3]), num_slots=3, seed=conformance.seed())
    assert outputs.masks.shape == (2, 3, *size, 1) and outputs.slots.shape == (2, 3, 16)
    assert {name: tuple(x.shape) for name, x in outputs.history.items()} == dict.fromkeys(
        ("scopes", "stick_masks", "decoded_masks"), (2, 3, *size, 1)
    )


def test_masks_break_the_scope():
    """Scopes begin at 1, s_k = s_{k-1} - m_k, the last slot takes the rest, masks sum to one."""
    model, image = make(num_slots=5)
    log_masks, log_scopes = model.attend(image, 5)
    masks = np.exp(log_masks)
    scopes = np.exp(log_scopes)
    np.testing.assert_array_equal(scopes[:, 0], np.ones_like(scopes[:, 0]))
    np.testing.assert_allclose(scopes[:, 1:], scopes[:, :-1] - masks[:, :-1], atol=1e-6)
    np.testing.assert_array_equal(log_masks[:, -1], log_scopes[:, -1])
    np.testing.assert_allclose(masks.sum(1), np.ones_like(masks[:, 0]), atol=1e-6)
    assert masks.min() > 0 and masks[:, :-1].std() > 0.01

    outputs = model(image, seed=conformance.seed())
    np.testing.assert_array_equal(outputs.history["stick_masks"], outputs.masks)
    np.testing.assert_allclose(outputs.history["scopes"], scopes, atol=1e-6)


class Attention:
    """Replaces the U-Net: returns logits from a list and keeps its inputs."""

    def __init__(self, logits):
        self.logits = list(logits)
        self.inputs = []

    def __call__(self, x):
        self.inputs.append(x)
        return tf.fill([*x.shape[:3], 1], float(self.logits[len(self.inputs) - 1]))


def test_even_attention_halves_the_scope(monkeypatch):
    model, image = make()
    monkeypatch.setattr(model, "attention", Attention([0.0, 0.0, 0.0]))
    log_masks, _ = model.attend(image, 4)
    np.testing.assert_allclose(
        np.exp(log_masks)[0, :, 0, 0, 0], [1 / 2, 1 / 4, 1 / 8, 1 / 8], rtol=1e-6
    )
    assert len(model.attention.inputs) == 3  # the last slot needs no network


def test_recursion_is_the_stick_breaking_of_its_logits(monkeypatch):
    """Logarithms stay finite and exact where probabilities are zero or one in float32."""
    logits = [2.0, -1.5, 60.0, -40.0]
    model, image = make()
    monkeypatch.setattr(model, "attention", Attention(logits))
    log_masks, log_scopes = model.attend(image, 5)
    expected_masks, expected_scopes = stick_breaking(tf.constant([logits]), axis=1)
    np.testing.assert_allclose(log_masks[0, :, 0, 0, 0], expected_masks[0], rtol=1e-5)
    np.testing.assert_allclose(log_scopes[0, 1:, 0, 0, 0], expected_scopes[0][-4:], rtol=1e-5)
    assert log_masks[0, 4, 0, 0, 0] < -60


def test_networks_see_no_less_than_the_lowest_log_mask(monkeypatch):
    model, image = make()
    monkeypatch.setattr(model, "attention", Attention([60.0, 60.0]))
    encoded = []

    def encoder(x):
        encoded.append(x)
        return tf.zeros([x.shape[0], 8])

    monkeypatch.setattr(model, "encoder", encoder)
    outputs = model(image, seed=conformance.seed())
    attended = model.attention.inputs[1][..., 3]
    np.testing.assert_array_equal(attended, np.full(attended.shape, -14.0))

    (inputs,) = encoded
    assert inputs.shape == (conformance.BATCH * 3, 10, 12, 4)
    assert inputs.numpy()[..., 3].min() == -14.0
    np.testing.assert_array_equal(inputs.numpy().reshape(4, 3, 10, 12, 4)[:, 1, ..., :3], image)
    np.testing.assert_allclose(
        outputs.history["scopes"][0, :, 0, 0, 0], [1, np.exp(-60), 0], rtol=1e-5
    )


def test_the_likelihood_does_not_clamp(monkeypatch):
    """Only the second slot, of mask e^-60, explains the image: 60 nats above its Gaussian.

    That is the cost of every pixel and channel.
    """
    model, image = make()
    monkeypatch.setattr(model, "attention", Attention([60.0, 60.0]))
    means = np.stack([np.full_like(image, 100.0), image, np.full_like(image, 100.0)], axis=1)
    monkeypatch.setattr(
        model,
        "render",
        lambda latents: (tf.constant(means), tf.zeros([conformance.BATCH, 3, 10, 12, 1])),
    )
    nll = model(image, seed=conformance.seed()).loss_terms["nll"]
    np.testing.assert_allclose(
        nll, np.full(conformance.BATCH, 360 * (60 + np.log(0.25 * np.sqrt(2 * np.pi)))), rtol=1e-5
    )


def test_one_logit_equals_two():
    """sigmoid(a) is the first of softmax(a1, a2) where a = a1 - a2, as in re-implementations."""
    two = np.random.default_rng(0).normal(0, 5, (100, 2)).astype(np.float32)
    one = two[:, 0] - two[:, 1]
    np.testing.assert_allclose(
        tf.nn.log_softmax(two),
        np.stack([-tf.nn.softplus(-one), -tf.nn.softplus(one)], 1),
        rtol=1e-4,
        atol=1e-6,
    )


def test_likelihood_of_one_hot_masks_is_that_of_each_slot():
    """Pixels of slot 1 have the background's standard deviation, all others the foreground's."""
    model, image = make()
    owner = np.random.default_rng(0).integers(0, 3, (conformance.BATCH, 1, 10, 12, 1))
    is_owner = owner == np.arange(3)[None, :, None, None, None]
    log_masks = np.where(is_owner, 0.0, -1e4).astype(np.float32)
    means = np.random.default_rng(1).uniform(size=(conformance.BATCH, 3, 10, 12, 3))
    means = means.astype(np.float32)
    got = SpatialMixture(means, log_masks, model.pixel_scale(3), reduce="channel").log_prob(image)

    chosen = np.take_along_axis(means, owner, axis=1)[:, 0]
    scale = np.where(owner[:, 0] == 0, 0.2, 0.25)
    expected = (-0.5 * ((image - chosen) / scale) ** 2 - np.log(scale * np.sqrt(2 * np.pi))).sum(
        (1, 2, 3)
    )
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_nll_is_a_mixture_per_pixel_and_channel():
    model, image = make()
    outputs = model(image, seed=conformance.seed())
    density = tfp.distributions.Normal(
        outputs.slot_recons, tf.constant([0.2, 0.25, 0.25])[:, None, None, None]
    )
    joint = tf.math.log(outputs.masks) + density.log_prob(image[:, None])
    np.testing.assert_allclose(
        outputs.loss_terms["nll"],
        -tf.reduce_sum(tf.reduce_logsumexp(joint, 1), [1, 2, 3]),
        rtol=1e-4,
    )


def test_latent_divergence_is_the_closed_form():
    model, image = make()
    outputs = model(image, seed=conformance.seed())
    loc = np.asarray(outputs.posterior["loc"], np.float64)
    scale = np.asarray(outputs.posterior["scale"], np.float64)
    expected = 0.5 * (scale**2 + loc**2 - 1 - 2 * np.log(scale))
    np.testing.assert_allclose(outputs.posterior["kl"], expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(outputs.loss_terms["kl"], expected.sum((1, 2)), rtol=1e-4)
    np.testing.assert_array_equal(outputs.posterior["loc"], outputs.slots)


def test_loss_is_the_weighted_sum():
    model, image = make(beta=0.3, gamma=0.7)
    outputs = model(image, seed=conformance.seed())
    loss, terms = model.objective(outputs, 0)
    nll, kl, mask_kl = (np.mean(outputs.loss_terms[name]) for name in ("nll", "kl", "mask_kl"))
    np.testing.assert_allclose(loss, nll + 0.3 * kl + 0.7 * mask_kl, rtol=1e-5)
    np.testing.assert_allclose(terms["elbo"], -terms["nll"] - terms["kl"], rtol=1e-5)


def test_mask_divergence_of_equal_masks_is_zero_and_of_others_is_not():
    masks = log_softmax((2, 3, 5, 6, 1))
    others = log_softmax((2, 3, 5, 6, 1), seed=1)
    np.testing.assert_allclose(mask_divergence(masks, masks), [0, 0], atol=1e-5)

    def floored(log_probs):
        probs = np.maximum(np.exp(log_probs), 1e-5)
        return probs / probs.sum(1, keepdims=True)

    p = floored(masks)
    q = floored(others)
    divergence = mask_divergence(masks, others).numpy()
    np.testing.assert_allclose(divergence, (p * np.log(p / q)).sum((1, 2, 3, 4)), rtol=1e-4)
    assert (divergence > 1).all()

    # It is not symmetric: from the attention to the reconstruction.
    assert not np.allclose(divergence, mask_divergence(others, masks), rtol=0.01)


def test_mask_divergence_of_vanished_masks_is_finite():
    """0 log 0 and a reconstruction of zero: the floor bounds a pixel's KL by about ln 1e5."""
    masks = tf.constant([[0.0, -1e4]])[..., None, None, None]
    flipped = tf.reverse(masks, [1])
    with tf.GradientTape() as tape:
        tape.watch([masks, flipped])
        divergence = mask_divergence(masks, flipped)
    np.testing.assert_allclose(divergence, [np.log(1e5)], rtol=1e-3)
    assert all(np.isfinite(g).all() for g in tape.gradient(divergence, [masks, flipped]))


def test_orientation_of_the_mask_divergence(monkeypatch):
    """Decoded masks equal to the attention masks have divergence zero, transposed ones do not.

    A public implementation compared transposes.
    """
    model, image = make(image_size=(10, 10))
    log_masks, _ = model.attend(image, 3)
    for decoded, is_zero in ((log_masks, True), (tf.transpose(log_masks, [0, 1, 3, 2, 4]), False)):
        monkeypatch.setattr(
            model,
            "render",
            lambda latents, decoded=decoded: (tf.zeros([4, 3, 10, 10, 3]), decoded + 2.0),
        )
        divergence = model(image, seed=conformance.seed()).loss_terms["mask_kl"].numpy()
        if is_zero:
            assert (np.abs(divergence) < 1e-4).all(), divergence
        else:
            assert (divergence > 1e-3).all(), divergence


def test_gradients_of_the_reconstruction_term():
    """It reaches the posterior's standard deviations, and the U-Net through every step.

    A public implementation stops the former.
    """
    model, image = make(num_slots=4)
    cut = []
    attention = model.attention

    def watched(x):
        logits = tf.identity(attention(x))
        cut.append(logits)
        return logits

    # Keras tracks layers by assignment; the stand-in is none.
    model.__dict__["attention"] = watched
    with tf.GradientTape() as tape:
        outputs = model(image, seed=conformance.seed())
        nll = tf.reduce_mean(outputs.loss_terms["nll"])

    scale_kernel = model.encoder.mlp.stages[-1].kernel.value
    to_scale, *to_logits = tape.gradient(nll, [scale_kernel, *cut])
    assert np.abs(to_scale[:, 4:]).max() > 0
    assert len(cut) == 3 and all(np.abs(g).max() > 0 for g in to_logits)


def test_decoding_uses_the_reconstructed_masks():
    model, image = make()
    slots = model(image, seed=conformance.seed()).slots
    means, logits = model.render(slots)
    scene = model.decode(slots)
    np.testing.assert_allclose(scene.masks, tf.nn.softmax(logits, 1), rtol=1e-6)
    np.testing.assert_allclose(
        scene.recon, tf.reduce_sum(tf.nn.softmax(logits, 1) * means, 1), atol=1e-6
    )
    assert means.numpy().min() > 0 and means.numpy().max() < 1


def test_initial_kernels():
    """Uniform within 1 / sqrt(fan in)."""
    model = Monet(MonetConfig(image_size=(32, 32)))
    for kernel, fan_in in (
        (model.encoder.cnn.stages[3].kernel, 9 * 64),
        (model.encoder.mlp.stages[0].kernel, 256),
        (model.decoder.first.kernel, 9 * 18),
        (model.attention.down[1].convolution.kernel, 9 * 32),
    ):
        limit = np.abs(kernel).max() * fan_in**0.5
        assert 0.95 < limit <= 1.0


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            {"num_steps": 2},
            "`model.num_steps` must be 1: MONet has no refinement. Received: model.num_steps=2.",
        ),
        (
            {"latent_size": 0},
            "`model.latent_size` must be at least 1. Received: model.latent_size=0.",
        ),
        (
            {"background_scale": 0.0},
            "`model.background_scale` must be positive. Received: model.background_scale=0.0.",
        ),
        ({"gamma": -1.0}, "`model.gamma` must be at least 0. Received: model.gamma=-1.0."),
    ],
)
def test_wrong_settings(changes, message):
    with pytest.raises(UserError) as error:
        MonetConfig().override(changes)
    assert str(error.value) == message


def test_the_first_slot_takes_the_background():
    """After a short run on sprites, the slot with the smaller sigma holds the background."""
    keras.utils.set_random_seed(0)
    config = MonetConfig(
        image_size=(16, 16),
        num_slots=3,
        unet_filters=8,
        unet_mlp=(16,),
        encoder_channels=(8, 16),
        encoder_mlp=(32,),
        decoder_channels=(16, 16),
        background_scale=0.1,
        foreground_scale=0.15,
        initial_gain=1.7,
    )
    model = Monet(config)

    rng = np.random.default_rng(0)
    image = np.zeros((32, 16, 16, 3), np.float32)
    for scene in image:
        row, column = rng.integers(0, 11, 2)
        scene[row : row + 5, column : column + 5] = rng.uniform(0.6, 1.0, 3)
    background = (image.sum(-1) == 0)[..., None]

    optimizer = keras.optimizers.Adam(3e-3)
    optimizer.build(model.trainable_variables)

    @tf.function(autograph=False)
    def update(step):
        _, terms, gradients = model.loss_and_gradients(
            {"image": tf.constant(image)}, conformance.seed(step=step), step
        )
        optimizer.apply(gradients, model.trainable_variables)
        return terms["loss"]

    losses = [float(update(tf.constant(step, tf.int64))) for step in range(200)]
    masks = model(image, seed=conformance.seed()).masks.numpy()
    assert np.mean(losses[-10:]) < losses[0] - 1000, losses[::20]
    assert masks[:, 0][background].mean() > 0.7, [masks[:, k][background].mean() for k in range(3)]
