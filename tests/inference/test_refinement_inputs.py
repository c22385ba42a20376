"""Inputs of refinement (Greff 2019, Table 2): channels, norms, stopped gradients, values."""

import numpy as np
import pytest
import tensorflow as tf

from tfobj.distributions.spatial_mixture import SpatialMixture
from tfobj.errors import UserError
from tfobj.inference.refinement_inputs import RefinementInputs
from tfobj.inference.refinement_settings import (
    DECODED,
    FLAT,
    NORMALISED,
    SPATIAL,
    RefinementInputsConfig,
)

BATCH = 2
SLOTS = 3
SIZE = (4, 5)
CHANNELS = 3
LATENT = 6
WIDTHS = {"image": 3, "means": 3, "means_gradient": 3, "coordinates": 2}


def only(*names, **settings):
    """A config with nothing but `names` switched on."""
    return RefinementInputsConfig(**{n: n in names for n in SPATIAL + FLAT}, **settings)


def make(config, channels=CHANNELS):
    layer = RefinementInputs(config, (*SIZE, channels), LATENT)
    layer.build()
    rng = np.random.default_rng(5)
    for weight in layer.trainable_weights:  # gain and bias that an error would show through
        weight.assign(rng.normal(1, 0.5, weight.shape))
    return layer


def scene(channels=CHANNELS, seed=0):
    rng = np.random.default_rng(seed)
    image = rng.random((BATCH, *SIZE, channels)).astype(np.float32)
    means = tf.constant(
        image[:, None] + 0.1 * rng.normal(size=(BATCH, SLOTS, *SIZE, channels)), tf.float32
    )
    logits = tf.constant(rng.normal(size=(BATCH, SLOTS, *SIZE, 1)), tf.float32)
    posterior, gradient = (
        tf.constant(rng.normal(size=(BATCH, SLOTS, 2 * LATENT)), tf.float32) for _ in range(2)
    )
    return image, means, logits, posterior, gradient


def assemble(layer, image, means, logits, posterior, gradient):
    """Returns (image-shaped inputs [B, K, H, W, channels], the shared ones first; flat inputs)."""
    mixture = SpatialMixture(means, logits)
    shared, per_slot = layer.spatial(image, mixture, mixture.pixel_terms(image))
    assert [0 if s is None else s.shape[-1] for s in (shared, per_slot)] == list(
        layer.num_channels()[:2]
    )
    stacks = [
        tf.broadcast_to(s, [BATCH, SLOTS, *SIZE, s.shape[-1]])
        for s in (shared, per_slot)
        if s is not None
    ]
    return tf.concat(stacks, axis=-1), layer.flat(posterior, gradient)


@pytest.mark.parametrize(
    ("settings", "channels", "expected"),
    [
        ({}, 3, (17, 4 * LATENT)),  # paper
        ({"legacy_constants": True}, 3, (18, 4 * LATENT + 1)),  # release, CLEVR6
        (
            {"legacy_constants": True, "coordinate_type": "cosine"},
            3,
            (24, 4 * LATENT + 1),
        ),  # release, sprites
        ({}, 1, (11, 4 * LATENT)),
        *[({name: False}, 3, (17 - WIDTHS.get(name, 1), 4 * LATENT)) for name in SPATIAL],
        *[({name: False}, 3, (17, 2 * LATENT)) for name in FLAT],
    ],
    ids=str,
)
def test_channel_counts(settings, channels, expected):
    layer = make(RefinementInputsConfig(**settings), channels)
    num_shared, num_per_slot, num_flat = layer.num_channels()
    assert (num_shared + num_per_slot, num_flat) == expected
    spatial, flat = assemble(layer, *scene(channels))
    assert spatial.shape == (BATCH, SLOTS, *SIZE, expected[0]) and flat.shape == (
        BATCH,
        SLOTS,
        expected[1],
    )


@pytest.mark.parametrize("name", SPATIAL + FLAT)
def test_every_input_can_be_normalised(name):
    """The coordinates' norm had one channel for two once."""
    layer = make(only("mask", "posterior", name, layer_norm=(name,)))
    count = WIDTHS.get(name, 2 * LATENT if name in FLAT else 1)
    assert [tuple(w.shape) for w in layer.trainable_weights] == [(count,)] * 2
    assemble(layer, *scene())


def raw_and_normalised(name):
    """Returns the input as it is and as the network sees it, and the norm."""
    other = "posterior" if name in SPATIAL else "mask"
    layers = [make(only(name, other, layer_norm=names)) for names in ((), (name,))]
    got = [
        np.asarray(assemble(layer, *scene())[0 if name in SPATIAL else 1], np.float64)
        for layer in layers
    ]
    if name == "posterior_gradient":
        got = [x[..., -2 * LATENT :] for x in got]
    return (*got, layers[1].norms[name])


@pytest.mark.parametrize("name", NORMALISED)
def test_norm_equals_numpy(name):
    """Moments over rows, columns and channels of a slot; gain, bias per channel; epsilon 1e-5."""
    raw, normalised, norm = raw_and_normalised(name)
    if name in FLAT:
        raw, normalised = (x[:, :, -2 * LATENT :] for x in (raw, normalised))
    axes = (2, 3, 4) if name in SPATIAL else 2
    centred = raw - raw.mean(axes, keepdims=True)
    expected = (
        centred / np.sqrt(raw.var(axes, keepdims=True) + 1e-5) * norm.gamma.numpy()
        + norm.beta.numpy()
    )
    np.testing.assert_allclose(normalised, expected, rtol=1e-3, atol=2e-4)


def test_values():
    config = RefinementInputsConfig(layer_norm=(), legacy_constants=True)
    image, means, logits, posterior, gradient = scene()
    spatial, flat = (
        np.asarray(x) for x in assemble(make(config), image, means, logits, posterior, gradient)
    )
    mixture = SpatialMixture(means, logits)
    terms = mixture.pixel_terms(image)
    tiled = np.broadcast_to
    shape = (BATCH, SLOTS, *SIZE)
    log_prob = tiled(terms.log_prob, (*shape, 1))
    rows, columns = np.meshgrid(
        np.linspace(-1, 1, SIZE[0]), np.linspace(-1, 1, SIZE[1]), indexing="ij"
    )
    expected = [
        tiled(image[:, None], (*shape, 3)),
        log_prob,
        tiled(np.stack([rows, columns], -1), (*shape, 2)),
        np.full((*shape, 1), 0.5),
        means,
        mixture.masks,
        logits,
        tf.nn.softmax(terms.component_log_prob, axis=1),
        terms.means_gradient,
        mixture.masks - terms.responsibilities,
        log_prob - mixture.leave_one_out_log_prob(terms.component_log_prob),
    ]

    np.testing.assert_allclose(spatial, np.concatenate(expected, -1), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        flat, np.concatenate([posterior, gradient, np.full((BATCH, SLOTS, 1), 0.5)], -1), rtol=1e-6
    )


def test_the_papers_literal_text():
    """Gradient with respect to the masks, and likelihoods instead of their logarithms."""
    names = ("mask_gradient", "pixel_likelihood", "leave_one_out")
    config = only(
        *names,
        "posterior",
        layer_norm=(),
        mask_gradient_of="masks",
        likelihoods="probability",
        gradient_scale=0.25,
    )
    image, means, logits, posterior, gradient = scene()
    got = np.asarray(assemble(make(config), image, means, logits, posterior, gradient)[0])
    density = SpatialMixture(means, logits)
    masks = tf.constant(density.masks)
    with tf.GradientTape() as tape:
        tape.watch(masks)
        nll = -tf.reduce_sum(
            tf.math.log(tf.reduce_sum(masks * tf.exp(density.component_log_prob(image)), axis=1))
        )

    np.testing.assert_allclose(
        got[..., 1:2], 0.25 * tape.gradient(nll, masks), rtol=1e-3, atol=1e-4
    )

    log_prob = density.pixel_terms(image).log_prob
    np.testing.assert_allclose(
        got[..., :1], np.broadcast_to(np.exp(log_prob), got[..., :1].shape), rtol=1e-4
    )

    without = density.leave_one_out_log_prob(density.component_log_prob(image))
    np.testing.assert_allclose(got[..., 2:], np.exp(without), rtol=1e-4)


def badly_explained(component, error):
    """Returns (image, `SpatialMixture`); all slots miss the first row of pixels by `error`."""
    image, means, logits, *_ = scene()
    image[:, 0] += error
    scale = {"normal": 0.1, "logistic": 0.03}[component]
    return image, SpatialMixture(means, logits, scale, component)


def mask_posterior(config, image, mixture):
    layer = make(config)
    return layer.spatial(image, mixture, mixture.pixel_terms(image))[1]


@pytest.mark.parametrize("component", ["normal", "logistic"])
@pytest.mark.parametrize("error", [0.0, 0.4, 1.0, 30.0])
def test_released_mask_posterior_vanishes_where_all_slots_are_bad(component, error):
    """p / (sum p + 1e-6) in NumPy, in double precision; it is no softmax at small densities."""
    image, mixture = badly_explained(component, error)
    config = only("mask_posterior", "posterior", mask_posterior_epsilon=1e-6)
    found = mask_posterior(config, image, mixture).numpy()

    x = np.float64(image[:, None]) - np.float64(mixture.means)
    if component == "normal":
        density = np.exp(-0.5 * (x / 0.1) ** 2) / (0.1 * np.sqrt(2 * np.pi))
    else:
        density = 1 / (4 * 0.03 * np.cosh(np.minimum(np.abs(x) / 0.06, 300)) ** 2)
    density = density.prod(-1, keepdims=True)
    expected = density / (density.sum(1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=1e-9)

    # The paper's is a distribution everywhere.
    softmax = mask_posterior(only("mask_posterior", "posterior"), image, mixture)
    np.testing.assert_allclose(tf.reduce_sum(softmax, axis=1), np.ones((BATCH, *SIZE, 1)), 1e-6)
    share = found.sum(axis=1)[:, 0]
    if error >= 1.0:
        assert share.max() < 1e-3
    elif not error:
        np.testing.assert_allclose(found[:, :, 1:], softmax[:, :, 1:], atol=2e-3)


@pytest.mark.parametrize("component", ["normal", "logistic"])
@pytest.mark.parametrize("error", [0.0, 0.4, 30.0, 1e6])
def test_released_mask_posterior_has_finite_gradients(component, error):
    image, mixture = badly_explained(component, error)
    config = only("mask_posterior", "posterior", mask_posterior_epsilon=1e-6)
    means = tf.constant(mixture.means)
    with tf.GradientTape() as tape:
        tape.watch(means)
        moved = SpatialMixture(means, mixture.mask_logits, mixture.density.scale, component)
        total = tf.reduce_sum(mask_posterior(config, image, moved)[:, 0])
    assert np.isfinite(total) and np.isfinite(tape.gradient(total, means)).all()


def test_gradient_scale_multiplies_gradients_only():
    plain, scaled = (
        np.asarray(
            assemble(make(RefinementInputsConfig(layer_norm=(), gradient_scale=scale)), *scene())[0]
        )
        for scale in (1.0, 0.125)
    )
    names = [n for n in SPATIAL for _ in range(WIDTHS.get(n, 1))]
    factor = np.array([0.125 if n in ("means_gradient", "mask_gradient") else 1.0 for n in names])
    np.testing.assert_allclose(scaled, plain * factor, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", NORMALISED)
def test_stopped_inputs_pass_no_gradient_but_their_norms_train(name):
    companion = "coordinates" if name in FLAT else "posterior"
    config = only(name, companion, stop_gradient=NORMALISED)
    layer = make(config)
    image, *tensors = scene()
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        spatial, flat = assemble(layer, image, *tensors)
        value = spatial if name in SPATIAL else flat[..., -2 * LATENT :]
        loss = tf.reduce_sum(
            tf.square(value) * np.random.default_rng(1).normal(size=value.shape).astype(np.float32)
        )

    *inputs, gain, bias = tape.gradient(
        loss, [*tensors, *[w.value for w in layer.trainable_weights]]
    )
    assert all(g is None for g in inputs)
    assert np.abs(gain).min() > 0 and np.abs(bias).min() > 0


@pytest.mark.parametrize(
    "name", ["means", "mask", "mask_logits", "mask_posterior", "posterior", *NORMALISED]
)
def test_other_inputs_pass_gradients(name):
    """Only listed inputs are stopped; with an empty list, not even the five of the default."""
    companion = "coordinates" if name in FLAT else "posterior"
    layer = make(only(name, companion, stop_gradient=()))
    image, *tensors = scene()
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        spatial, flat = assemble(layer, image, *tensors)
        value = spatial if name in SPATIAL else flat[..., -2 * LATENT :]
        loss = tf.reduce_sum(
            tf.square(value) * np.random.default_rng(1).normal(size=value.shape).astype(np.float32)
        )

    gradients = [g for g in tape.gradient(loss, tensors) if g is not None]
    assert gradients and max(np.abs(g).max() for g in gradients) > 0


def test_gradient_scale_is_positive():
    with pytest.raises(UserError, match="`model.inputs.gradient_scale` must be positive"):
        RefinementInputsConfig(gradient_scale=0.0)


@pytest.mark.parametrize("field", ["layer_norm", "stop_gradient"])
def test_unknown_names_are_refused(field):
    with pytest.raises(
        UserError, match=f"Unknown refinement input in `{field}`: 'mean'. Did you mean 'means'"
    ):
        RefinementInputsConfig(**{field: ("mean",)})


@pytest.mark.parametrize("name", DECODED)
def test_whether_the_decoder_is_stopped(name):
    config = RefinementInputsConfig(stop_gradient=DECODED)
    assert config.decoder_is_stopped() and not RefinementInputsConfig().decoder_is_stopped()
    others = tuple(n for n in DECODED if n != name)
    assert not config.override({"stop_gradient": others}).decoder_is_stopped()
    assert config.override({"stop_gradient": others, name: False}).decoder_is_stopped()
