"""EfficientMORL: initial values, decoders, priors, schedules and settings.

Its inference is tested in test_efficient_morl.py.
"""

import conformance
import numpy as np
import pytest
import tensorflow as tf
from test_efficient_morl import make, outputs_of

from tfobj import random
from tfobj.errors import UserError
from tfobj.inference.schedules import stage_at
from tfobj.models.base import Stage
from tfobj.models.efficient_morl import EfficientMORL, EfficientMORLConfig
from tfobj.models.efficient_morl.priors import gaussian, sample_gaussian
from tfobj.training.experiment import resolve
from tfobj.training.schedule import schedule_of


def test_initial_values():
    """At first tokens are positions alone, colours grey, masks uniform (released values)."""
    model = EfficientMORL(EfficientMORLConfig())
    image = tf.constant(np.random.default_rng(0).uniform(0, 1, (2, 35, 35, 3)), tf.float32)
    outputs = outputs_of(model, image, num_steps=1)
    np.testing.assert_allclose(
        outputs.slot_recons, np.full(outputs.slot_recons.shape, 0.5), atol=1e-3
    )
    np.testing.assert_allclose(
        outputs.history["attention"], np.full((2, 3, 1225, 4), 0.25), atol=0.01
    )

    std = {v.path.split("/", 1)[1]: float(np.std(v)) for v in model.trainable_variables}
    xavier = lambda fan_in, fan_out: 0.02 * (2 / (fan_in + fan_out)) ** 0.5
    for path, expected in {
        "tokens/cnn/conv_1/kernel": xavier(1600, 1600),
        "layer/mlp_raw/dense_0/kernel": xavier(32, 64),
        "decoder/stack/conv_0/kernel": xavier(800, 800),
        "priors/hidden/kernel": xavier(32, 128),
        "refinement/mlp/dense_0/kernel": xavier(128, 128),
        "refinement/loc/kernel": xavier(32, 32),
        "tokens/positions/projection/kernel": 0.5 / 3**0.5,
        "layer/gru/kernel": 1.0,
        "layer/gru/bias": 1.0,
        "refinement/gru/kernel": 32**-0.5 / 3**0.5,
    }.items():
        np.testing.assert_allclose(std[path], expected, rtol=0.15, err_msg=path)

    np.testing.assert_allclose(model.initial_loc, np.zeros(32))
    np.testing.assert_allclose(model.initial_raw, np.ones(32))
    initial = tf.concat([model.initial_loc.value, model.initial_raw.value], 0)
    first = sample_gaussian(tf.broadcast_to(initial, [50, 40, 64]), random.make_seed(), "x")
    np.testing.assert_allclose(np.std(first), 1.146, rtol=0.02)


@pytest.mark.parametrize(
    "decoder, sizes",
    [("iodine", [(35, 35), (9, 7)]), ("small", [(35, 35), (9, 7)]), ("big", [(16, 32), (96, 96)])],
)
def test_decoders_reach_the_image(decoder, sizes):
    for size in sizes:
        model = EfficientMORL(
            EfficientMORLConfig(
                image_size=size, decoder=decoder, latent_size=4, encoder_channels=(2,)
            )
        )
        assert model.decode(tf.zeros([1, 2, 4])).recon.shape == (1, *size, 3)


@pytest.mark.parametrize(
    "kwargs, count",
    [
        ({}, 467_236),
        ({"latent_size": 64, "decoder": "iodine", "image_size": (64, 64)}, 666_500),
        ({"latent_size": 64, "decoder": "big", "image_size": (96, 96)}, 1_031_108),
        (
            {"latent_size": 64, "decoder": "iodine", "image_size": (64, 64), "dual_gru": False},
            723_972,
        ),
    ],
    ids=str,
)
def test_parameters(kwargs, count):
    """Emami 2021, appendix E.3 (666 K) and the sums of the sheet."""
    assert EfficientMORL(EfficientMORLConfig(**kwargs)).count_trainable() == count


@pytest.mark.parametrize("kind", ["bottom_up", "reversed", "reversed++"])
def test_priors_of_the_layers(kind):
    """Every posterior is compared with its own prior: equal to it, it has no KL.

    Here, the transition gives N(5, softplus(1)) for any input.
    """
    model, _ = make(prior=kind)
    for head, value in zip(model.priors.heads, (5.0, 1.0), strict=True):
        head.kernel.assign(tf.zeros_like(head.kernel))
        head.bias.assign(tf.fill(head.bias.shape, value))

    raw_of_one = np.log(np.expm1(1.0 - 1e-5)).astype(np.float32)
    normal = tf.concat([tf.zeros([2, 3, 4]), tf.fill([2, 3, 4], raw_of_one)], axis=-1)
    moved = tf.concat([tf.fill([2, 3, 4], 5.0), tf.ones([2, 3, 4])], axis=-1)
    first_is_free = kind == "bottom_up"
    posteriors = [normal, moved, moved] if first_is_free else [moved, moved, normal]
    kl, prior = model.priors.divergences(posteriors, conformance.seed())
    np.testing.assert_allclose(kl, np.zeros((3, 2, 3, 4)), atol=1e-5)

    wrong, _ = model.priors.divergences(posteriors[::-1], conformance.seed())
    assert np.min(wrong[0]) > 1 and np.min(wrong[2]) > 1 and np.abs(wrong[1]).max() < 1e-5

    refined = model.priors.divergence(moved, *prior)
    if kind == "reversed":
        assert prior == () and np.min(refined) > 1
    else:
        np.testing.assert_allclose(refined, np.zeros((2, 3, 4)), atol=1e-5)

    latents = model.priors.sample(200, 3, conformance.seed())
    np.testing.assert_allclose(np.mean(latents), 5.0 if first_is_free else 0.0, atol=0.1)
    np.testing.assert_allclose(np.var(latents), np.log1p(np.e) if first_is_free else 1.0, rtol=0.1)


def test_refined_posteriors_have_one_prior(monkeypatch):
    """reversed++: p(z^1 | z^2) with the sample z^2 of stage 1, the same tensor in every step."""
    model, image = make(num_steps=3)
    stage_1 = []
    refinement_priors = []
    divergences = model.priors.divergences
    divergence = model.priors.divergence

    def watched_divergences(*args):
        stage_1.append(divergences(*args))
        refinement_priors.clear()  # those of the layers themselves
        return stage_1[0]

    def watched_divergence(posterior, *prior):
        refinement_priors.append(prior)
        return divergence(posterior, *prior)

    monkeypatch.setattr(model.priors, "divergences", watched_divergences)
    monkeypatch.setattr(model.priors, "divergence", watched_divergence)
    outputs_of(model, image)

    _, (expected,) = stage_1[0]
    assert len(refinement_priors) == 3
    assert all(prior[0] is expected for prior in refinement_priors)


def test_divergence_is_that_of_two_normals():
    """sum ln(p / q) + (q^2 + (a - b)^2) / (2 p^2) - 1/2, never negative, nothing for equal ones."""
    model, _ = make()
    rng = np.random.default_rng(0)
    q, p = (tf.constant(rng.normal(0, 2, (5, 3, 8)), tf.float32) for _ in range(2))
    (a, s), (b, t) = (np.split(x.numpy().astype(np.float64), 2, axis=-1) for x in (q, p))
    s, t = (np.sqrt(np.log1p(np.exp(x)) + 1e-5) for x in (s, t))
    expected = np.log(t / s) + (s**2 + (a - b) ** 2) / (2 * t**2) - 0.5
    np.testing.assert_allclose(model.priors.divergence(q, p), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(model.priors.divergence(q, q), np.zeros((5, 3, 4)), atol=1e-6)
    assert expected.min() >= 0 and np.min(model.priors.divergence(q)) >= 0


def test_variance_is_capped():
    q = gaussian(tf.constant([[0.0, 0.0, 200.0, -200.0]]))
    np.testing.assert_allclose(q.variance(), [[80.0, 1e-5]], rtol=1e-4)


def test_learning_rate_and_refinements_of_the_paper():
    experiment = resolve("efficient_morl", "multi_dsprites")
    model = experiment.model
    rate = schedule_of(experiment.train).at
    np.testing.assert_allclose(
        [rate(step) for step in (0, 5_000, 10_000, 110_000, 210_000)], [0, 2e-4, 4e-4, 2e-4, 1e-4]
    )
    schedule = ((0, model.num_steps), *model.curriculum)
    assert [stage_at(schedule, step)[0] for step in (0, 99_999, 100_000, 300_000)] == [3, 3, 1, 1]


def test_schedule_of_the_refinements():
    assert EfficientMORL(
        EfficientMORLConfig(encoder_channels=(2,), decoder_channels=(2, 2, 2))
    ).stages() == ((0, Stage(3)),)
    model, _ = make(curriculum=((100_000, 1),))
    assert model.stages() == ((0, Stage(2)), (100_000, Stage(1)))


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            {"decoder": "big", "image_size": (35, 35)},
            (
                "`model.image_size` must be sides of 16, 32, 48, 64, ... pixels for "
                'model.decoder="big", which doubles its grid four times. '
                "Received: model.image_size=(35, 35)."
            ),
        ),
        ({"num_steps": -1}, "`num_steps` must be at least 0. Received: num_steps=-1."),
        (
            {"num_layers": 0, "num_steps": 0},
            "`num_steps` must be at least 1. Received: num_steps=0.",
        ),
        (
            {"num_layers": 0, "curriculum": ((10, 0),)},
            (
                "`model.curriculum` must be pairs (step, number), the steps rising from above 0, "
                "the numbers at least 1. "
                "Received: model.curriculum=((10, 0),)."
            ),
        ),
        (
            {"num_layers": -1},
            "`model.num_layers` must be at least 0. Received: model.num_layers=-1.",
        ),
        (
            {"curriculum": ((5, 2), (5, 1))},
            (
                "`model.curriculum` must be pairs (step, number), the steps rising from above 0, "
                "the numbers at least 0. "
                "Received: model.curriculum=((5, 2), (5, 1))."
            ),
        ),
        (
            {"likelihood_scale": 0.0},
            "`model.likelihood_scale` must be positive. Received: model.likelihood_scale=0.0.",
        ),
        (
            {"prior": "reverse"},
            (
                "Unknown value for `prior`: 'reverse'. Did you mean 'reversed'? "
                "Valid: bottom_up, reversed, reversed++."
            ),
        ),
    ],
)
def test_wrong_settings(changes, message):
    with pytest.raises(UserError) as error:
        EfficientMORL(EfficientMORLConfig().override(changes))
    assert str(error.value) == message


def test_negative_number_of_refinements_is_refused():
    model, image = make()
    with pytest.raises(UserError, match="`num_steps` must be at least 0. Received: num_steps=-1."):
        outputs_of(model, image, num_steps=-1)


@pytest.mark.parametrize("target", [float("inf"), float("-inf"), float("nan"), -1.31])
def test_targets_out_of_reach(target):
    with pytest.raises(
        UserError, match="`model.geco_target` must be finite and within reach, at least -1.304"
    ):
        EfficientMORLConfig(geco_target=target)


def test_warning_about_a_target_that_any_image_meets():
    (text,) = EfficientMORLConfig(geco_target=0.0).warnings()
    assert "mean squared error of 0.22 only" in text


def test_warning_about_a_target_below_the_floor():
    (text,) = EfficientMORLConfig(geco_target=-1.224).warnings()
    assert "-1.224" in text and "-1.204" in text
    assert (
        not EfficientMORLConfig(geco_target=-2.206, likelihood_scale=0.1).warnings()
        and not EfficientMORLConfig().warnings()
    )
