"""EfficientMORL: one backward pass per decode against a plain unroll, losses, refinement."""

import conformance
import keras
import numpy as np
import pytest
import tensorflow as tf

from tfobj import execution, random
from tfobj.errors import UserError
from tfobj.inference import score
from tfobj.models.efficient_morl import model as morl
from tfobj.models.efficient_morl.objective import (
    decoded_scene,
    likelihood_and_gradient,
    negative_log_likelihood,
    refinement_loss_weight,
)
from tfobj.models.efficient_morl.priors import sample_gaussian

TINY = {
    "image_size": (10, 12),
    "num_slots": 3,
    "num_steps": 2,
    "latent_size": 4,
    "encoder_channels": (6, 6),
    "encoder_kernels": (3,),
    "decoder": "iodine",
    "decoder_channels": (6, 6, 6, 6),
    "initial_gain": 1.0,
}


def make(**overrides):
    model = conformance.build(conformance.Case("efficient_morl", TINY), **overrides)
    return model, tf.constant(conformance.scenes(model.config))


def outputs_of(model, image, **kwargs):
    return model(image, seed=conformance.seed(), **kwargs)


def naive_gradients(model, image):
    """Returns (loss, gradients) by nested tapes.

    The decoder is differentiated once for the refinement and once more for the loss.
    """
    with tf.GradientTape() as tape:
        outputs = outputs_of(model, image, training=False)
        loss, _ = model.objective(outputs, tf.constant(0, tf.int64))
    variables = [v.value for v in model.trainable_variables]
    return loss, tape.gradient(loss, variables, unconnected_gradients="zero")


@pytest.mark.parametrize(
    "changes",
    [
        {"num_layers": 3, "num_steps": 3},
        {
            "num_layers": 2,
            "num_steps": 1,
            "likelihood": "mixture",
            "prior": "bottom_up",
            "decoder": "small",
            "decoder_channels": (6, 6, 6),
        },
        {
            "num_layers": 1,
            "num_steps": 2,
            "prior": "reversed",
            "likelihood": "mixture",
            "mixture_reduce": "pixel",
        },
        {"num_layers": 0, "num_steps": 2, "dual_gru": False},
        {"num_layers": 2, "num_steps": 0, "geco_target": -0.5, "geco_warm_steps": 0},
        {
            "num_layers": 3,
            "num_steps": 1,
            "geco_target": -0.5,
            "geco_warm_steps": 0,
            "kl_weight": 2.0,
        },
    ],
    ids=str,
)
def test_one_decoder_backward_equals_the_plain_unroll(changes):
    model, image = make(**changes)
    if model.geco is not None:
        model.update_state({"nll": tf.constant(500.0)}, {}, tf.constant(0, tf.int64))
        model.geco.beta.assign(3.0)
    _, terms, got = conformance.gradients(model, image, compiled=False)
    loss, expected = naive_gradients(model, image)
    np.testing.assert_allclose(terms["loss"], loss, rtol=1e-5)
    largest = max(np.abs(g).max() for g in expected)
    for variable, a, b in zip(model.trainable_variables, got, expected, strict=True):
        # The softmax over slots is invariant to this offset; its gradient is rounding noise.
        if variable.path.endswith("norm_query/beta"):
            assert max(np.abs(a).max(), np.abs(b).max()) < 1e-5 * largest
        else:
            np.testing.assert_allclose(
                a, b, atol=1e-4 * np.abs(b).max() + 1e-7 * largest, err_msg=variable.path
            )


def test_first_gradient_has_all_paths():
    """Paths: z^L, KL(q^L || N(0, 1)), and the sample of q^L that the prior of layer L - 1 reads."""
    model, image = make(num_steps=0, geco_target=-0.5, geco_warm_steps=0)
    model.geco.beta.assign(2.0)
    posteriors, _ = model.bottom_up(image, 3, conformance.seed())
    kept = []
    score_latents = model.score_latents

    def keep(*args):
        kept.append(score_latents(*args))
        return kept[-1]

    model.score_latents = keep
    outputs_of(model, image)
    posterior = posteriors[-1]

    def gradient_of(divergence):
        with tf.GradientTape() as tape:
            tape.watch(posterior)
            latents = sample_gaussian(posterior, conformance.seed(), "efficient_morl/posterior")
            nll = negative_log_likelihood(model.render(latents), image, model.config)
            loss = tf.reduce_sum(model.multiplier() * nll) + tf.reduce_sum(divergence(posterior))
        return tape.gradient(loss, posterior)

    expected = gradient_of(
        lambda posterior: tf.add_n(
            model.priors.divergences([*posteriors[:-1], posterior], conformance.seed())[0]
        )
    )
    largest = np.abs(expected).max()
    np.testing.assert_allclose(kept[0].gradient, expected, atol=1e-5 * largest)

    # The path through the prior is not negligible.
    without_prior = gradient_of(model.priors.divergence)
    assert np.abs(without_prior - expected).max() > 1e-3 * largest


@pytest.mark.parametrize(
    "likelihood, reduce", [("gaussian", "channel"), ("mixture", "channel"), ("mixture", "pixel")]
)
def test_likelihood_and_gradient_equal_the_closed_form(likelihood, reduce):
    model, image = make(likelihood=likelihood, mixture_reduce=reduce, likelihood_scale=0.2)
    decoded = tf.constant(np.random.default_rng(0).normal(size=(4, 3, 10, 12, 4)), tf.float32)
    nll, _, gradient = likelihood_and_gradient(decoded, image, model.config)

    x = image.numpy()[:, None].astype(np.float64)
    y = np.asarray(tf.sigmoid(decoded[..., :3]), np.float64)
    logits = decoded.numpy()[..., 3:].astype(np.float64)
    masks = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    if likelihood == "gaussian":
        error = x - (masks * y).sum(1, keepdims=True)
        expected = (np.log(0.2) + error**2 / (2 * 0.04)).sum((1, 2, 3, 4))
        to_colours = -masks * error / 0.04
        pull = (to_colours / masks * y).sum(-1, keepdims=True)
        to_logits = masks * (pull - (masks * pull).sum(1, keepdims=True))
    else:
        component = -np.log(0.2) - (x - y) ** 2 / (2 * 0.04)
        if reduce == "pixel":
            component = component.sum(-1, keepdims=True)
        joint = np.log(masks) + component
        log_prob = np.log(np.exp(joint).sum(1, keepdims=True))
        share = np.exp(joint - log_prob)
        expected = -log_prob.sum((1, 2, 3, 4))
        to_colours = -share * (x - y) / 0.04
        to_logits = (masks - share).sum(-1, keepdims=True)

    np.testing.assert_allclose(nll, expected, rtol=1e-5)
    np.testing.assert_allclose(
        gradient, np.concatenate([to_colours * y * (1 - y), to_logits], axis=-1), atol=1e-4
    )


def perfect(image, num_slots=3):
    """Decoder outputs whose colours and mixed mean are the image, masks one-hot."""
    inside = np.clip(image.numpy(), 1e-6, 1 - 1e-6)
    colours = np.repeat(np.log(inside / (1 - inside))[:, None], num_slots, axis=1)
    logits = np.full((*colours.shape[:-1], 1), -40.0)
    logits[:, 0] = 40.0
    return tf.constant(np.concatenate([colours, logits], axis=-1), tf.float32)


@pytest.mark.parametrize(
    "size, scale, floor",
    [((96, 96), 0.1, -63661.9), ((35, 35), 0.3, -4424.6), ((64, 64), 0.1, -28294.2)],
)
@pytest.mark.parametrize("likelihood", ["gaussian", "mixture"])
def test_floors_of_the_likelihood(size, scale, floor, likelihood):
    model, _ = make(image_size=size, likelihood=likelihood, likelihood_scale=scale)
    image = tf.constant(np.random.default_rng(0).uniform(0.2, 0.8, (1, *size, 3)), tf.float32)
    np.testing.assert_allclose(
        negative_log_likelihood(perfect(image), image, model.config), [floor], rtol=1e-5
    )


def test_likelihoods_of_equal_components_agree():
    """A mixture of equal slots is the normal around them, under either reduction."""
    decoded = tf.repeat(
        tf.constant(np.random.default_rng(0).normal(size=(4, 1, 10, 12, 4)), tf.float32), 3, axis=1
    )
    values = []
    for changes in (
        {"likelihood": "gaussian"},
        {"likelihood": "mixture"},
        {"likelihood": "mixture", "mixture_reduce": "pixel"},
    ):
        model, image = make(**changes)
        values.append(negative_log_likelihood(decoded, image, model.config))
    np.testing.assert_allclose(values[1], values[0], rtol=1e-5)
    np.testing.assert_allclose(values[2], values[0], rtol=1e-5)


def test_slots_may_be_permuted_in_the_image():
    for likelihood in ("gaussian", "mixture"):
        model, image = make(likelihood=likelihood)
        decoded = tf.constant(np.random.default_rng(0).normal(size=(4, 3, 10, 12, 4)), tf.float32)
        permuted = tf.gather(decoded, [2, 0, 1], axis=1)
        np.testing.assert_allclose(
            decoded_scene(permuted).recon, decoded_scene(decoded).recon, atol=1e-6
        )
        np.testing.assert_allclose(
            negative_log_likelihood(permuted, image, model.config),
            negative_log_likelihood(decoded, image, model.config),
            rtol=1e-5,
        )


@pytest.mark.parametrize(
    "num_steps, eq8, released",
    [
        (0, [1], [3]),
        (1, [1, 1 / 2], [2, 1.5]),
        (2, [1, 2 / 3, 1 / 3], [5 / 3, 4 / 3, 1]),
        (3, [1, 0.75, 0.5, 0.25], [1.5, 1.25, 1, 0.75]),
    ],
)
def test_weights_of_the_losses(num_steps, eq8, released):
    for weighting, expected in (("eq8", eq8), ("released", released)):
        numbers = [refinement_loss_weight(r, num_steps, weighting) for r in range(num_steps + 1)]
        np.testing.assert_allclose(numbers, expected)

        tensors = [
            refinement_loss_weight(tf.constant(r), tf.constant(num_steps), weighting)
            for r in range(num_steps + 1)
        ]
        np.testing.assert_allclose(tensors, expected, rtol=1e-6)

        model, _ = make(refinement_weighting=weighting)
        np.testing.assert_allclose(model.loss_weight(0, num_steps), expected[0])


def test_loss_is_the_weighted_sum_over_the_iterations():
    model, image = make(num_steps=3)
    outputs = outputs_of(model, image)
    history = outputs.history["loss"].numpy()
    np.testing.assert_allclose(
        outputs.loss_terms["weighted_loss"], history @ [1, 0.75, 0.5, 0.25], rtol=1e-5
    )
    np.testing.assert_allclose(outputs.loss_terms["elbo"], -history[:, -1], rtol=1e-5)

    none = outputs_of(model, image, num_steps=0)
    np.testing.assert_allclose(none.loss_terms["weighted_loss"], history[:, 0], rtol=1e-5)
    np.testing.assert_allclose(
        none.loss_terms["kl"], tf.reduce_sum(none.posterior["layer_kl"], 1), rtol=1e-5
    )
    np.testing.assert_allclose(
        outputs.loss_terms["kl"], tf.reduce_sum(outputs.posterior["kl"], [1, 2]), rtol=1e-5
    )
    np.testing.assert_array_equal(outputs.posterior["layer_kl"], none.posterior["layer_kl"])


def test_objective_under_geco():
    """Value: KL - multiplier * average slack; gradient: that of KL + multiplier * NLL.

    See Emami 2021, appendix F.2.
    """
    model, image = make(num_steps=1, geco_target=-0.5, geco_warm_steps=2)
    loss = lambda: float(model.objective(outputs_of(model, image), tf.constant(0, tf.int64))[0])
    outputs = outputs_of(model, image)
    history = np.mean(outputs.history["loss"], axis=0)
    np.testing.assert_allclose(loss(), history @ [1, 0.5], rtol=1e-5)  # warm start: NLL + KL

    for step in range(3):
        model.update_state({"nll": tf.constant(100.0)}, {}, tf.constant(step, tf.int64))
    model.geco.beta.assign(2.0)
    multiplier = np.log1p(np.exp(2.0))
    slack = -0.5 * 360 - 100.0
    kl = [
        np.mean(tf.reduce_sum(outputs.posterior["layer_kl"], 1)),
        np.mean(outputs.loss_terms["kl"]),
    ]
    np.testing.assert_allclose(
        loss(), np.dot([1, 0.5], np.array(kl) - multiplier * slack), rtol=1e-4
    )

    _, terms, got = conformance.gradients(model, image)
    np.testing.assert_allclose(terms["geco_multiplier"], multiplier, rtol=1e-5)
    np.testing.assert_allclose(terms["geco_constraint"], slack, rtol=1e-5)

    with tf.GradientTape() as tape:
        outputs = outputs_of(model, image, num_steps=0)
        plain = tf.reduce_mean(multiplier * outputs.loss_terms["nll"] + outputs.loss_terms["kl"])
    expected = tape.gradient(plain, model.tokens.trainable_variables)
    model_zero, _ = make(num_steps=0, geco_target=-0.5, geco_warm_steps=2)
    model_zero.set_weights(model.get_weights())
    _, _, got = conformance.gradients(model_zero, image)
    by_path = {v.path: g for v, g in zip(model_zero.trainable_variables, got, strict=True)}
    for variable, g in zip(model.tokens.trainable_variables, expected, strict=True):
        np.testing.assert_allclose(
            by_path[variable.path], g, atol=2e-4 * np.abs(g).max(), err_msg=variable.path
        )


def test_the_refinement_gradient_is_a_constant():
    """A constant copy of it changes no gradient; those of L_1 reach the encoder by lambda_0."""
    model, image = make(num_steps=1)
    _, _, expected = conformance.gradients(model, image)
    kept = []
    score_latents = model.score_latents

    def keep(*args):
        scored = score_latents(*args)
        kept.append(tf.constant(scored.gradient.numpy()))
        return scored

    def replace(*args):
        return score_latents(*args)._replace(gradient=kept.pop(0))

    model.score_latents = keep
    conformance.gradients(model, image)
    model.score_latents = replace
    _, _, got = conformance.gradients(model, image)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6 * np.abs(b).max() + 1e-9)

    model.score_latents = score_latents
    with tf.GradientTape() as tape:
        last = tf.reduce_sum(outputs_of(model, image, training=True).loss_terms["nll"])
    assert all(np.abs(g).max() > 0 for g in tape.gradient(last, model.tokens.trainable_variables))


def test_number_of_decoder_passes():
    """Training differentiates the decoder once per decode, for inputs and weights together."""
    model, image = make()
    num_convolutions = len(model.decoder.stack.stages)

    def count(num_steps):
        changed, _ = make(num_steps=num_steps)
        update = tf.function(
            lambda x: changed.loss_and_gradients(
                {"image": x}, conformance.seed(), tf.constant(0, tf.int64)
            )[2],
            autograph=False,
        )
        graph = update.get_concrete_function(image).graph
        ops = [op.type for op in graph.get_operations()]
        return ops.count("Conv2DBackpropInput"), ops.count("Conv2DBackpropFilter")

    assert tuple(np.subtract(count(2), count(1))) == (num_convolutions,) * 2


@pytest.mark.parametrize("num_layers", [0, 1, 3])
@pytest.mark.parametrize("num_steps", [0, 1, 3])
def test_layers_and_refinements(num_layers, num_steps):
    if num_layers == num_steps == 0:
        with pytest.raises(
            UserError, match="`num_steps` must be at least 1. Received: num_steps=0."
        ):
            make(num_layers=0, num_steps=0)
        model, image = make(num_layers=0)
        with pytest.raises(
            UserError, match="`num_steps` must be at least 1. Received: num_steps=0."
        ):
            outputs_of(model, image, num_steps=0)
        return

    model, image = make(num_layers=num_layers, num_steps=num_steps)
    outputs = outputs_of(model, image)
    assert outputs.history["masks"].shape == (4, num_steps + 1, 3, 10, 12, 1)
    assert outputs.history["recon"].shape[1] == num_steps + 1
    assert outputs.posterior["layer_kl"].shape == (4, num_layers)
    assert outputs.posterior["kl"].shape == (4, 3, 4)
    assert outputs.history["posterior_loc"].shape == (4, max(num_layers, 1) + num_steps, 3, 4)
    np.testing.assert_array_equal(outputs.history["posterior_loc"][:, -1], outputs.slots)

    if num_layers:
        assert outputs.history["attention"].shape == (4, num_layers, 120, 3)
        np.testing.assert_allclose(
            tf.reduce_sum(outputs.history["attention"], -1),
            np.ones((4, num_layers, 120)),
            atol=1e-5,
        )
    else:
        assert "attention" not in outputs.history
    assert all(np.isfinite(term).all() for term in outputs.loss_terms.values())


@pytest.mark.parametrize(
    "chosen",
    [execution.Execution(), execution.Execution(rematerialise=True)],
    ids=["plain", "rematerialised"],
)
def test_training_without_refinement(chosen):
    model, image = make(num_steps=0)
    with execution.using(chosen):
        _, terms, grads = conformance.gradients(model, image, compiled=False)
    _, expected = naive_gradients(model, image)
    assert np.isfinite(terms["loss"]) and conformance.cosine(grads, expected) > 1 - 1e-6


def test_step_count_of_zero_as_a_tensor():
    model, image = make()
    infer = tf.function(lambda n: outputs_of(model, image, num_steps=n).recon, autograph=False)
    for num_steps in (0, 2):
        np.testing.assert_allclose(
            infer(tf.constant(num_steps)),
            outputs_of(model, image, num_steps=num_steps).recon,
            atol=1e-4,
        )


def test_permuted_tokens_change_nothing(monkeypatch):
    """Emami 2021, appendix A.2."""
    model, image = make()
    before = outputs_of(model, image)
    encode = model.tokens.call
    order = np.random.default_rng(0).permutation(120)
    monkeypatch.setattr(
        model.tokens,
        "call",
        lambda image: tuple(tf.gather(x, order, axis=1) for x in encode(image)),
    )
    after = outputs_of(model, image)
    np.testing.assert_allclose(after.posterior["loc"], before.posterior["loc"], atol=1e-4)
    np.testing.assert_allclose(after.posterior["layer_kl"], before.posterior["layer_kl"], rtol=1e-3)
    np.testing.assert_allclose(after.history["loss"][:, 0], before.history["loss"][:, 0], rtol=1e-4)


def test_decode_and_score_may_be_exchanged(monkeypatch):
    """Training takes the one-backward form, inference the plain one."""
    calls = []
    plain = score.decode_and_score
    monkeypatch.setattr(
        morl,
        "decode_and_score",
        lambda *args, stopped: calls.append(stopped) or plain(*args, stopped=stopped),
    )
    model, image = make()
    outputs_of(model, image)
    conformance.gradients(model, image)
    assert calls == [False] * 3 + [True] * 3


@pytest.mark.slow
def test_overfits_a_batch_under_geco():
    """120 updates get below 0.98 nats per value, the cost of the best constant colour.

    The multiplier rises as long as the target is missed.
    """
    model, image = make(
        num_steps=1, latent_size=8, likelihood_scale=0.1, geco_target=-1.5, geco_warm_steps=20
    )
    optimizer = keras.optimizers.Adam(3e-3, epsilon=1e-8, global_clipnorm=5.0)
    optimizer.build(model.trainable_variables)

    @tf.function(autograph=False)
    def update(step):
        _, terms, gradients = model.loss_and_gradients(
            {"image": image}, random.make_seed(0, step), step
        )
        optimizer.apply(gradients, model.trainable_variables)
        model.update_state(terms, {}, step)
        return terms

    terms = []
    for step in range(120):
        updated = update(tf.constant(step, tf.int64))
        terms.append({name: float(value) for name, value in updated.items()})

    nll = np.array([t["nll"] for t in terms]) / image[0].numpy().size
    multiplier = np.array([t["geco_multiplier"] for t in terms])
    assert np.isfinite(nll).all() and nll[0] > 2 and nll[-10:].mean() < 0.8, nll[::10]
    assert (multiplier[:20] == 1.0).all() and multiplier[20] > 1.005
    assert (np.diff(multiplier[21:]) > 0).all()


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_extreme_posteriors_are_finite(scale):
    model, image = make()
    posterior = scale * tf.constant(np.random.default_rng(0).normal(size=(4, 3, 8)), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(posterior)
        latents = sample_gaussian(posterior, conformance.seed(), "x")
        kl = model.priors.divergence(posterior)
    scored = model.score_latents(
        image, tape, posterior, latents, kl, model.decoder.weight_terms(), False
    )
    assert all(np.isfinite(x).all() for x in scored)
    refined, _ = model.refinement(posterior, scored.gradient, tf.zeros([12, 4]))
    assert np.isfinite(refined).all()
