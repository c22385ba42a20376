"""IODINE: inner gradient, paths of the outer gradient, loss weights, initial values."""

import conformance
import numpy as np
import pytest
import tensorflow as tf

from tfobj import random
from tfobj.distributions.gaussian import diagonal_gaussian, isotropic_prior
from tfobj.distributions.spatial_mixture import SpatialMixture
from tfobj.errors import UserError
from tfobj.inference.refinement_settings import FLAT, NORMALISED, SPATIAL
from tfobj.models.iodine import PRESETS, Iodine, IodineConfig

CASES = {case.id: case for case in conformance.MODELS if case.model == "iodine"}


def make(case="iodine", **overrides):
    model = conformance.build(CASES[case], **overrides)
    return model, tf.constant(conformance.scenes(model.config))


def score_first(model, image):
    """Returns (a disturbed first posterior, its `ScoredDecode`)."""
    posterior = model.first_posterior(image.shape[0], model.config.num_slots)
    posterior += tf.constant(np.random.default_rng(0).normal(0, 0.5, posterior.shape), tf.float32)
    scored = model.score(image, posterior, conformance.seed(), 0, model.decoder.weight_terms())
    return posterior, scored


def first_memory(model, posterior):
    return model.refinement.initial_memory(posterior.shape[0] * posterior.shape[1])


@pytest.mark.parametrize("case, weight", [*((case, 1.0) for case in CASES), ("iodine", 10.0)])
def test_inner_gradient_equals_autodiff_of_the_negative_elbo(case, weight):
    """Closed forms against a tape: lambda -> z -> decoder -> likelihood, and lambda -> KL."""
    model, image = make(case, likelihood_weight=weight)
    config = model.config
    posterior, scored = score_first(model, image)
    noise = random.normal(
        conformance.seed(), "iodine/posterior", [*posterior.shape[:2], config.latent_size], index=0
    )

    with tf.GradientTape() as tape:
        tape.watch(posterior)
        q = diagonal_gaussian(posterior)
        decoded = model.render(q.mean() + q.stddev() * noise)
        log_prob = SpatialMixture(
            decoded[..., :-1], decoded[..., -1:], config.likelihood_scale, config.likelihood
        ).log_prob(image)
        kl = q.kl_divergence(isotropic_prior(q.mean().shape, config.prior_variance))
        loss = -weight * log_prob + tf.reduce_sum(kl, axis=1)
    expected = tape.gradient(loss, posterior).numpy()

    np.testing.assert_allclose(scored.nll, -log_prob, rtol=1e-5)
    np.testing.assert_allclose(scored.kl, kl, rtol=1e-5)
    np.testing.assert_allclose(model.negative_elbo(scored), loss, rtol=1e-5)
    np.testing.assert_allclose(
        scored.posterior_gradient, expected, atol=2e-5 * np.abs(expected).max()
    )


def test_loss_is_the_weighted_sum_of_the_elbos():
    model, image = make(num_steps=5)
    outputs = model(image, seed=conformance.seed())
    history = outputs.history["loss"].numpy()
    assert history.shape == (conformance.BATCH, 6) and outputs.history["masks"].shape[1] == 6

    expected = history @ np.array([0, 0.2, 0.4, 0.6, 0.8, 1])
    np.testing.assert_allclose(outputs.loss_terms["weighted_loss"], expected, rtol=1e-5)
    np.testing.assert_allclose(outputs.loss_terms["elbo"], -history[:, -1], rtol=1e-6)
    np.testing.assert_allclose(
        outputs.loss_terms["nll"] + outputs.loss_terms["kl"], history[:, -1], rtol=1e-6
    )
    loss, _ = model.objective(outputs, 0)
    np.testing.assert_allclose(loss, expected.mean(), rtol=1e-5)


def test_other_loss_weights():
    model, image = make(loss_weights="list", loss_weight_list=(0.0, 0.0, 1.0))
    outputs = model(image, seed=conformance.seed())
    np.testing.assert_allclose(
        outputs.loss_terms["weighted_loss"], -outputs.loss_terms["elbo"], rtol=1e-6
    )

    constant, _ = make(loss_weights="constant")
    outputs = constant(image, seed=conformance.seed())
    np.testing.assert_allclose(
        outputs.loss_terms["weighted_loss"], tf.reduce_sum(outputs.history["loss"], 1), rtol=1e-6
    )

    with pytest.raises(UserError, match="`model.loss_weight_list` must have num_steps"):
        model(image, num_steps=3)


def test_no_steps_are_refused():
    """The linear weights would divide by zero."""
    with pytest.raises(UserError, match="`num_steps` must be at least 1. Received: num_steps=0."):
        IodineConfig(num_steps=0)


def test_initial_posterior_is_trained():
    model, image = make()
    _, _, grads = conformance.gradients(model, image)
    by_path = dict(zip([v.path for v in model.trainable_variables], grads, strict=True))
    (name,) = [p for p in by_path if p.endswith("initial_posterior")]
    assert np.abs(by_path[name]).min() > 0


def test_initial_posterior_of_the_prior():
    model, image = make("iodine", initial_posterior="prior")
    assert not any(v.path.endswith("initial_posterior") for v in model.weights)
    outputs = model(image, seed=conformance.seed(), num_steps=1)
    q = diagonal_gaussian(model.first_posterior(2, 3))
    np.testing.assert_allclose(q.mean(), np.zeros((2, 3, 4)))
    np.testing.assert_allclose(q.variance(), np.ones((2, 3, 4)), atol=2e-5)
    assert np.isfinite(outputs.loss_terms["elbo"]).all()


def test_initial_values_of_the_initial_posterior():
    """Uniform within sqrt(6 / (4 D)): 0.153 for D = 64."""
    config = IodineConfig(
        latent_size=64, decoder_channels=(2,), refinement_channels=(2,), refinement_mlp=(2,)
    )
    values = np.concatenate([Iodine(config).initial for _ in range(3)])
    limit = np.sqrt(6 / 256)
    assert 0.9 * limit < np.abs(values).max() <= limit and round(limit, 3) == 0.153


def test_stopped_inputs_carry_no_second_order_gradient():
    """With the five gradient-like inputs alone, inputs do not depend on the decoder's weights."""
    names = [*SPATIAL, *FLAT]
    switched = {f"inputs.{name}": name in NORMALISED for name in names}
    model, image = make("iodine", **switched)
    with tf.GradientTape() as tape:
        posterior, scored = score_first(model, image)
        spatial = model.spatial_inputs(image, scored.decoded, scored.terms)
        flat = model.refinement_inputs.flat(posterior, scored.posterior_gradient)
        loss = sum(tf.reduce_sum(x**3) for x in (*spatial, flat))

    decoder = [v.value for v in model.decoder.trainable_variables]
    norms = [v.value for v in model.refinement_inputs.trainable_variables]
    gradients = tape.gradient(loss, [*decoder, model.initial.value, *norms])
    of_norms = gradients[len(decoder) + 1 :]
    assert all(g is None for g in gradients[: len(decoder) + 1])
    assert len(norms) == 10 and all(np.abs(g).max() > 0 for g in of_norms)


def test_number_of_decoder_passes():
    """One backward pass of the decoder per refinement, not one per gradient input."""
    model, image = make()
    num_convolutions = len(model.decoder.stack.stages)

    def count(num_steps):
        function = tf.function(
            lambda x: model(x, num_steps=num_steps, seed=conformance.seed()).recon
        )
        graph = function.get_concrete_function(image).graph
        ops = [op.type for op in graph.get_operations()]
        return ops.count("Conv2DBackpropInput"), ops.count("Conv2DBackpropFilter")

    inputs, filters = np.subtract(count(3), count(2))
    assert inputs == num_convolutions
    # The tape traces gradients of filters too, which are pruned when the graph runs.
    assert filters <= num_convolutions


def test_gradients_flow_through_the_steps():
    """Decode 0, whose own loss has no weight, trains the decoder through the refinement inputs."""
    model, image = make(num_steps=1)
    with tf.GradientTape() as tape:
        posterior, scored = score_first(model, image)
        refined, _ = model.update(image, posterior, scored, first_memory(model, posterior))
        loss = tf.reduce_sum(refined**2)
    assert all(np.abs(g).max() > 0 for g in tape.gradient(loss, model.decoder.trainable_variables))


def test_update_is_additive():
    model, image = make()
    model.refinement.output_layer.kernel.assign(tf.zeros_like(model.refinement.output_layer.kernel))
    posterior, scored = score_first(model, image)
    refined, _ = model.update(image, posterior, scored, first_memory(model, posterior))
    np.testing.assert_array_equal(refined, posterior)


def test_decode_and_outputs_agree():
    model, image = make()
    outputs = model(image, seed=conformance.seed())
    np.testing.assert_array_equal(outputs.slots, outputs.posterior["loc"])
    scene = model.decode(outputs.posterior["loc"])
    assert scene.recon.shape == outputs.recon.shape
    np.testing.assert_allclose(
        outputs.loss_terms["kl"], tf.reduce_sum(outputs.posterior["kl"], 1), rtol=1e-6
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"likelihood_scale": 0.0},
            "`model.likelihood_scale` must be positive. Received: model.likelihood_scale=0.0.",
        ),
        (
            {"prior_variance": -1.0},
            "`model.prior_variance` must be positive. Received: model.prior_variance=-1.0.",
        ),
        (
            {"latent_size": 0},
            "`model.latent_size` must be at least 1. Received: model.latent_size=0.",
        ),
        (
            {"likelihood": "gauss"},
            "Unknown value for `likelihood`: 'gauss'. Valid: logistic, normal.",
        ),
        (
            {"inputs.posterior": False, "inputs.posterior_gradient": False},
            "`model.inputs` must be a set with posterior or posterior_gradient. "
            "Received: model.inputs=().",
        ),
    ],
)
def test_wrong_settings(changes, message):
    with pytest.raises(UserError) as error:
        IodineConfig().override(changes)
    assert str(error.value) == message


@pytest.mark.parametrize("size", [(8, 8), (10, 12), (35, 35)], ids=str)
def test_deconvolution_decoder_reaches_the_image(size):
    model = Iodine(
        IodineConfig(
            image_size=size, decoder="deconv", refinement_channels=(2,), refinement_mlp=(2,)
        )
    )
    assert model.decode(tf.zeros([1, 2, 32])).recon.shape == (1, *size, 3)


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_extreme_posteriors_are_finite(scale):
    model, image = make()
    posterior = scale * tf.constant(
        np.random.default_rng(0).normal(size=(conformance.BATCH, 3, 8)), tf.float32
    )
    scored = model.score(image, posterior, conformance.seed(), 0, model.decoder.weight_terms())
    assert all(
        np.isfinite(x).all()
        for x in (scored.nll, scored.kl, scored.posterior_gradient, *scored.terms)
    )


@pytest.mark.parametrize("dataset", ["tetris", "multi_dsprites", "clevr_with_masks"])
@pytest.mark.parametrize("preset, epsilon", [("paper", 0.0), ("release", 1e-6)])
def test_only_the_release_has_an_epsilon_in_the_mask_posterior(dataset, preset, epsilon):
    config = IodineConfig().override(PRESETS[preset, dataset].model)
    assert config.inputs.mask_posterior_epsilon == epsilon


def test_clips_know_the_mask_posterior_of_the_release():
    """Sequential IODINE on a white clip, which no slot explains."""
    case = next(case for case in conformance.CLIP_MODELS if case.model == "sequential_iodine")
    paper = conformance.build(case, likelihood_scale=0.03)
    release = conformance.build(
        case, likelihood_scale=0.03, **{"inputs.mask_posterior_epsilon": 1e-6}
    )
    release.set_weights(paper.get_weights())
    clip = tf.ones([1, 2, *paper.config.image_size, 3])  # initial decodes are near black

    of_paper, _, _ = conformance.gradients(paper, clip)
    of_release, _, gradients = conformance.gradients(release, clip)
    assert np.abs(of_paper.slots - of_release.slots)[:, 1:].max() > 1e-4
    assert all(np.isfinite(g).all() for g in gradients)
