"""The VAE baselines: sizes, divergence, likelihood and its schedule, one slot, overfitting."""

import conformance
import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tfobj import registry
from tfobj.distributions.gaussian import isotropic_nll
from tfobj.errors import UserError
from tfobj.metrics.clustering import adjusted_rand_index
from tfobj.models.vae import VAE, VAEConfig
from tfobj.nn import residual
from tfobj.nn.image_encoder import ImageEncoder

CASES = {case.id: case for case in conformance.MODELS if case.model == "vae"}
each_architecture = pytest.mark.parametrize("name", CASES)


def make(name, **overrides):
    model = conformance.build(CASES[name], **overrides)
    return model, conformance.scenes(model.config)


def preset(name, dataset, **changes):
    settings = registry.model_presets("vae")[name, dataset].model
    return VAE(VAEConfig().override({**settings, **changes}))


def last_layer(encoder):
    """Returns the layer that yields loc and log variance, in either architecture."""
    if isinstance(encoder, ImageEncoder):
        return encoder.mlp.stages[-1]
    return encoder.stages[-1]


@pytest.mark.parametrize(
    "dataset, size, parameters",
    [
        ("tetris", (35, 35), 271_011),
        ("multi_dsprites", (64, 64), 464_611),
        ("clevr_with_masks", (128, 128), 1_344_899),
        ("clevr_with_masks", (96, 96), 886_147),
    ],
)
def test_parameters_of_the_broadcast_vae(dataset, size, parameters):
    assert preset("paper", dataset, image_size=size).count_trainable() == parameters


@pytest.mark.parametrize(
    "size, latents, parameters",
    [
        ((96, 96), 99, 3_959_081),
        ((96, 96), 163, 5_433_769),
        ((64, 64), 66, 2_351_335),
        ((64, 64), 26, 1_941_655),
    ],
    ids=["CLEVR-3", "CLEVR-5", "overlapping polygons", "multi-dSprites"],
)
def test_parameters_of_the_convolutional_vae(size, latents, parameters):
    """Anciukevicius 2020, Table 6, with as many output channels as the image has."""
    assert (
        VAE(VAEConfig(architecture="conv", image_size=size, latent_size=latents)).count_trainable()
        == parameters
    )


@pytest.mark.parametrize("size, grid", [((96, 96), (12, 12)), ((64, 64), (8, 8))])
def test_sizes_of_the_convolutional_vae(size, grid):
    """Dense layers of 12 * 12 * 32 = 4608 and 8 * 8 * 32 = 2048 units; last maps of a 16th."""
    model = preset("conv", "multi_dsprites", image_size=size)
    assert model.decoder.stages[0].units == {96: 4608, 64: 2048}[size[0]] == grid[0] * grid[1] * 32

    shape = (None, *size, 3)
    shapes = []
    for stage in model.encoder.stages[:-2]:
        shape = stage.compute_output_shape(shape)
        shapes.append(shape[1:])
    side = size[0]
    assert shapes[2] == (side // 2, side // 2, 64) and shapes[6] == (side // 4, side // 4, 128)
    assert shapes[10] == (side // 8, side // 8, 256) and shapes[-1] == (side // 16, side // 16, 256)
    assert model.encoder(tf.zeros([2, *size, 3])).shape == (2, 52)


def test_latents_of_a_multiplied_vae():
    model = preset("paper", "tetris", latent_multiplier=4)
    assert model(tf.zeros([1, 35, 35, 3])).slots.shape == (1, 1, 128)


@pytest.mark.parametrize("size", [(2, 3), (5, 4)])
def test_doubling_is_bilinear_with_half_pixel_centres(size):
    x = np.random.default_rng(0).normal(size=(2, *size, 3)).astype(np.float32)
    np.testing.assert_allclose(
        residual.Enlargement(2)(x), tf.image.resize(x, [2 * side for side in size]), atol=1e-6
    )


def test_residual_convolution():
    layer = residual.ResidualConv2D(3)
    layer.build((None, 4, 5, 3))
    x = np.random.default_rng(0).normal(size=(2, 4, 5, 3)).astype(np.float32)
    inner = tf.nn.elu(tf.nn.conv2d(x, layer.convolution.kernel.value, 1, "SAME"))
    np.testing.assert_allclose(layer(x), x + inner, atol=1e-5)


@each_architecture
def test_divergence(name):
    """Closed form with log-variances, equal to the library's; zero for a posterior N(0, I)."""
    model, image = make(name)
    outputs = model(image, seed=conformance.seed())
    parameters = model.encoder(image).numpy().astype(np.float64)
    loc, log_variance = np.split(parameters, 2, axis=-1)
    expected = 0.5 * (loc**2 + np.exp(log_variance) - 1 - log_variance)
    np.testing.assert_allclose(outputs.posterior["kl"][:, 0], expected, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(outputs.loss_terms["kl"], expected.sum(-1), rtol=1e-4)
    library = tfp.distributions.kl_divergence(
        tfp.distributions.MultivariateNormalDiag(loc, np.exp(0.5 * log_variance)),
        tfp.distributions.MultivariateNormalDiag(np.zeros_like(loc), np.ones_like(loc)),
    )
    np.testing.assert_allclose(outputs.loss_terms["kl"], library, rtol=1e-4)

    last = last_layer(model.encoder)
    for weight in last.weights:
        weight.assign(tf.zeros_like(weight))
    np.testing.assert_array_equal(
        model(image, seed=conformance.seed()).loss_terms["kl"], np.zeros(conformance.BATCH)
    )


@each_architecture
def test_log_variances_are_bounded(name):
    model, image = make(name)
    last = last_layer(model.encoder)
    last.bias.assign([0.0] * 4 + [1e3, -1e3, 0.0, 0.0])
    scale = model(image, seed=conformance.seed()).posterior["scale"].numpy()
    np.testing.assert_allclose(
        scale[:, 0, :2], np.tile([np.exp(5), np.exp(-5)], (conformance.BATCH, 1)), rtol=1e-5
    )


@each_architecture
def test_likelihood(name):
    """The Gaussian's, under the last sigma; N (ln 2 pi / 2 + ln sigma) if perfect, N = H W C."""
    model, image = make(name)
    height, width = model.config.image_size
    scale = model.config.later_scale or model.config.likelihood_scale
    perfect = isotropic_nll(tf.zeros([1]), model.num_values(), scale)
    np.testing.assert_allclose(
        perfect, [height * width * 3 * (0.5 * np.log(2 * np.pi) + np.log(scale))], rtol=1e-5
    )
    outputs = model(image, seed=conformance.seed())
    log_prob = tfp.distributions.Normal(outputs.recon, scale).log_prob(image)
    np.testing.assert_allclose(
        outputs.loss_terms["nll"], -tf.reduce_sum(log_prob, [1, 2, 3]), rtol=1e-4
    )


@pytest.mark.parametrize("step, scale", [(0, 0.5), (4, 0.5), (5, 0.4), (100, 0.4)])
def test_schedule_of_the_standard_deviation(step, scale):
    """Training's loss, nll and elbo are under the step's sigma; one trace serves all steps."""
    model, image = make("vae-conv", beta=2.0)
    outputs = model(image, seed=conformance.seed())
    loss, terms = tf.function(model.objective)(outputs, tf.constant(step, tf.int64))
    nll = np.mean(isotropic_nll(outputs.loss_terms["squared_error"], model.num_values(), scale))
    np.testing.assert_allclose(terms["nll"], nll, rtol=1e-5)
    np.testing.assert_allclose(loss, nll + 2 * terms["kl"], rtol=1e-5)
    np.testing.assert_allclose(terms["elbo"], -(nll + terms["kl"]), rtol=1e-5)
    assert "squared_error" not in terms


@each_architecture
def test_one_slot_owns_every_pixel(name):
    """ARI of one cluster: 0 for a scene of two objects, 1 for a scene of one."""
    model, image = make(name)
    outputs = model(image, seed=conformance.seed())
    assert outputs.masks.shape[1] == 1 and (outputs.masks.numpy() == 1).all()
    np.testing.assert_array_equal(outputs.slot_recons[:, 0], outputs.recon)
    segmentation = np.argmax(outputs.masks.numpy()[..., 0], axis=1)
    true = np.zeros_like(segmentation)
    true[:, 2:4, 2:4] = 1
    one_object = adjusted_rand_index(true, segmentation, foreground_only=True)
    true[:, 6:8, 6:8] = 2
    np.testing.assert_allclose(one_object, 1.0)
    np.testing.assert_allclose(
        adjusted_rand_index(true, segmentation, foreground_only=True), 0.0, atol=1e-6
    )


def test_several_latents_are_averaged():
    """Callers of a served `decode` may send any number of latents; masks still sum to one."""
    model, _ = make("vae")
    slots = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    scene = model.decode(slots)
    np.testing.assert_allclose(scene.masks, np.full((2, 3, 10, 12, 1), 1 / 3), rtol=1e-6)
    np.testing.assert_allclose(scene.recon, np.mean(scene.slot_recons, axis=1), atol=1e-6)


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            {"num_slots": 4},
            (
                "`model.num_slots` must be 1: a VAE has one latent vector for the scene. "
                "Received: model.num_slots=4."
            ),
        ),
        (
            {"num_steps": 4},
            "`model.num_steps` must be 1: a VAE has no refinement. Received: model.num_steps=4.",
        ),
        (
            {"architecture": "conv"},
            (
                "`model.image_size` must have sides that are multiples of 16 for "
                'model.architecture="conv"; 48x48 would do. '
                "Received: model.image_size=(35, 35)."
            ),
        ),
        (
            {"conv_filters": 6},
            "`model.conv_filters` must be a multiple of 4. Received: model.conv_filters=6.",
        ),
        (
            {"later_scale": 0.0},
            "`model.later_scale` must be positive, or none. Received: model.later_scale=0.0.",
        ),
    ],
)
def test_wrong_settings(changes, message):
    with pytest.raises(UserError) as error:
        VAEConfig().override(changes)
    assert str(error.value) == message


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, rate, steps, goal, changes",
    [
        (
            "vae",
            3e-3,
            2000,
            1e-3,
            {
                "latent_size": 16,
                "encoder_channels": (16, 16),
                "encoder_mlp": (64,),
                "decoder_channels": (32, 32),
                "kernel_size": 5,
                "likelihood_scale": 0.03,
                "beta": 0.1,
            },
        ),
        (
            "vae-conv",
            1e-3,
            800,
            5e-3,
            {"latent_size": 16, "likelihood_scale": 0.05, "later_scale": None},
        ),
    ],
    ids=["vae", "vae-conv"],
)
def test_sixteen_images_are_overfitted(name, rate, steps, goal, changes):
    """The mean image has an error of 0.06 and 0.02.

    At a rate of 3e-3, the convolutional VAE saturates and stays at 0.05.
    """
    model = conformance.build(CASES[name], **changes)
    image = conformance.scenes(model.config, 16)
    optimizer = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(rate, steps))
    optimizer.build(model.trainable_variables)

    @tf.function(autograph=False)
    def update(step):
        _, terms, gradients = model.loss_and_gradients(
            {"image": tf.constant(image)}, conformance.seed(step=step), step
        )
        optimizer.apply(gradients, model.trainable_variables)
        return terms["mse"]

    errors = [float(update(tf.constant(step, tf.int64))) for step in range(steps)]
    assert np.mean(errors[-10:]) < goal < 0.3 * errors[0], errors[:: steps // 10]
