"""The pixel mixture against TFP and a float64 sum; closed-form gradients; edge cases."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tfobj.distributions.spatial_mixture import SpatialMixture

tfd = tfp.distributions

SCALES = {"normal": 0.1, "logistic": 0.03}
COMPONENTS = list(SCALES)


def make(component="normal", batch=2, num_slots=3, size=(3, 3), channels=3, seed=0):
    rng = np.random.default_rng(seed)
    image = rng.random((batch, *size, channels)).astype(np.float32)
    means = (image[:, None] + 0.15 * rng.normal(size=(batch, num_slots, *size, channels))).astype(
        np.float32
    )
    logits = (2 * rng.normal(size=(batch, num_slots, *size, 1))).astype(np.float32)
    return image, means, logits, SCALES[component]


def log_density(x, mean, scale, component):
    e = (x - mean) / scale
    if component == "normal":
        return -0.5 * e**2 - np.log(scale) - 0.5 * np.log(2 * np.pi)
    return -e - 2 * np.log1p(np.exp(-e)) - np.log(scale)


def numpy_pixel_log_prob(image, means, logits, scale, component):
    """A plain float64 sum of products, [B, H, W]: exact where nothing underflows."""
    image, means, logits = (np.asarray(x, np.float64) for x in (image, means, logits))
    masks = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    densities = np.exp(log_density(image[:, None], means, scale, component).sum(-1, keepdims=True))
    return np.log((masks * densities).sum(1))[..., 0]


@pytest.mark.parametrize("component", COMPONENTS)
@pytest.mark.parametrize("channels", [1, 3])
def test_log_prob_equals_a_float64_sum(component, channels):
    image, means, logits, scale = make(component, channels=channels)
    expected = numpy_pixel_log_prob(image, means, logits, scale, component)
    mixture = SpatialMixture(means, logits, scale, component)
    np.testing.assert_allclose(
        mixture.pixel_terms(image).log_prob[:, 0, ..., 0], expected, rtol=1e-5, atol=1e-4
    )
    np.testing.assert_allclose(mixture.log_prob(image), expected.sum((1, 2)), rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("component", COMPONENTS)
def test_log_prob_equals_tfp(component):
    image, means, logits, scale = make(component)
    density = tfd.Normal if component == "normal" else tfd.Logistic
    twin = tfd.MixtureSameFamily(
        tfd.Categorical(logits=np.moveaxis(logits[..., 0], 1, -1)),
        tfd.Independent(density(np.moveaxis(means, 1, 3), scale), 1),
    )
    mixture = SpatialMixture(means, logits, scale, component)

    np.testing.assert_allclose(
        mixture.pixel_terms(image).log_prob[:, 0, ..., 0],
        twin.log_prob(image),
        rtol=1e-5,
        atol=1e-4,
    )
    np.testing.assert_allclose(mixture.mean(), twin.mean(), atol=1e-5)


@pytest.mark.parametrize("component", COMPONENTS)
def test_gradients_equal_autodiff(component):
    image, means, logits, scale = make(component)
    means = tf.constant(means)
    logits = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch([means, logits])
        mixture = SpatialMixture(means, logits, scale, component)
        nll = -tf.reduce_sum(mixture.log_prob(image))

    d_means, d_logits = tape.gradient(nll, [means, logits])
    terms = mixture.pixel_terms(image)
    np.testing.assert_allclose(terms.means_gradient, d_means, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(terms.logits_gradient, d_logits, atol=1e-4)
    assert np.abs(d_means).max() > 1 and np.abs(d_logits).max() > 0.1


@pytest.mark.parametrize("component", COMPONENTS)
def test_pixel_terms_are_consistent(component):
    image, means, logits, scale = make(component)
    mixture = SpatialMixture(means, logits, scale, component)
    terms = mixture.pixel_terms(image)
    np.testing.assert_allclose(
        tf.reduce_sum(terms.responsibilities, 1), np.ones((2, 3, 3, 1)), atol=1e-5
    )
    np.testing.assert_allclose(tf.reduce_sum(mixture.masks, 1), np.ones((2, 3, 3, 1)), atol=1e-6)
    np.testing.assert_allclose(tf.exp(mixture.log_masks), mixture.masks, atol=1e-6)

    expected = log_density(image[:, None].astype(np.float64), means, scale, component).sum(
        -1, keepdims=True
    )
    np.testing.assert_allclose(terms.component_log_prob, expected, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("num_slots", [2, 3, 5])
@pytest.mark.parametrize("component", COMPONENTS)
def test_leave_one_out_equals_removal(component, num_slots):
    image, means, logits, scale = make(component, num_slots=num_slots)
    mixture = SpatialMixture(means, logits, scale, component)
    got = mixture.leave_one_out_log_prob(mixture.component_log_prob(image))
    assert got.shape == (2, num_slots, 3, 3, 1)
    for k in range(num_slots):
        rest = [j for j in range(num_slots) if j != k]
        expected = numpy_pixel_log_prob(image, means[:, rest], logits[:, rest], scale, component)
        np.testing.assert_allclose(got[:, k, ..., 0], expected, rtol=1e-5, atol=1e-3)


def test_one_slot():
    image, means, logits, scale = make(num_slots=1)
    mixture = SpatialMixture(means, logits, scale)
    terms = mixture.pixel_terms(image)
    np.testing.assert_array_equal(
        mixture.leave_one_out_log_prob(terms.component_log_prob), np.zeros((2, 1, 3, 3, 1))
    )
    np.testing.assert_allclose(terms.responsibilities, np.ones((2, 1, 3, 3, 1)))
    np.testing.assert_allclose(terms.logits_gradient, np.zeros((2, 1, 3, 3, 1)), atol=1e-6)
    density = tfd.Independent(tfd.Normal(means[:, 0], scale), 3)
    np.testing.assert_allclose(mixture.log_prob(image), density.log_prob(image), rtol=1e-5)


@pytest.mark.parametrize("component", COMPONENTS)
@pytest.mark.parametrize("case", ["saturated logits", "far pixels", "both"])
def test_extremes_are_finite(component, case):
    """Far pixels: the exponentiated densities of all slots underflow to zero."""
    image, means, logits, scale = make(component)
    logits = logits * (1e4 if case != "far pixels" else 1)
    means = means + (100.0 if case != "saturated logits" else 0)
    means = tf.constant(means)
    logits = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch([means, logits])
        mixture = SpatialMixture(means, logits, scale, component)
        terms = mixture.pixel_terms(image)
        without = mixture.leave_one_out_log_prob(terms.component_log_prob)
        loss = mixture.log_prob(image) + tf.reduce_sum(without, [1, 2, 3, 4])

    for value in (*terms, without, loss, *tape.gradient(loss, [means, logits])):
        assert np.isfinite(value).all()
    # The digits of log p = -1e4.
    total = tf.reduce_sum(terms.responsibilities, 1)
    np.testing.assert_allclose(total, np.ones((2, 3, 3, 1)), atol=1e-3)


@pytest.mark.parametrize("component", COMPONENTS)
def test_samples_have_the_mixture_moments(component):
    _, means, logits, scale = make(component, batch=1, num_slots=2, size=(2, 2))
    mixture = SpatialMixture(means, logits, scale, component)
    n = 20_000
    x = mixture.sample(n, seed=(1, 2)).numpy().astype(np.float64)
    assert x.shape == (n, 1, 2, 2, 3)
    variance_within = scale**2 * (1 if component == "normal" else np.pi**2 / 3)
    masks = mixture.masks.numpy()
    mean = (masks * means).sum(1)
    variance = variance_within + (masks * (means - mean[:, None]) ** 2).sum(1)
    np.testing.assert_allclose(x.mean(0), mean, atol=5 * np.sqrt(variance.max() / n))
    np.testing.assert_allclose(x.var(0), variance, rtol=0.1)


def test_channels_of_a_sample_come_from_one_component():
    means = np.stack([np.zeros((1, 4, 4, 3)), np.ones((1, 4, 4, 3))], 1).astype(np.float32)
    x = (
        SpatialMixture(means, np.zeros((1, 2, 4, 4, 1), np.float32), 0.01)
        .sample(50, seed=(0, 0))
        .numpy()
    )
    near_one = x > 0.5
    assert (near_one.all(-1) | ~near_one.any(-1)).all() and near_one.any() and not near_one.all()


def test_log_prob_of_several_samples():
    """With a sample axis in front, batch and slots were mixed up once."""
    image, means, logits, scale = make(batch=2, num_slots=2)
    mixture = SpatialMixture(means, logits, scale)
    x = mixture.sample(4, seed=(3, 4))
    expected = np.stack([mixture.log_prob(x[i]) for i in range(4)])
    np.testing.assert_allclose(mixture.log_prob(x), expected, rtol=1e-5)


def test_distribution_shapes():
    _, means, logits, _ = make(size=(3, 5))
    mixture = SpatialMixture(means, logits)
    assert mixture.batch_shape == (2,) and mixture.event_shape == (3, 5, 3)
    np.testing.assert_array_equal(mixture.batch_shape_tensor(), [2])
    np.testing.assert_array_equal(mixture.event_shape_tensor(), [3, 5, 3])


def test_order_of_slots_does_not_matter():
    image, means, logits, scale = make()
    order = [2, 0, 1]
    expected = SpatialMixture(means, logits, scale)
    got = SpatialMixture(means[:, order], logits[:, order], scale)
    np.testing.assert_allclose(got.log_prob(image), expected.log_prob(image), rtol=1e-5)
    terms = expected.pixel_terms(image)
    permuted = got.pixel_terms(image)
    np.testing.assert_allclose(
        permuted.means_gradient, tf.gather(terms.means_gradient, order, axis=1), atol=1e-4
    )


def test_bfloat16_inputs_are_scored_in_float32():
    image, means, logits, scale = make()
    mixture = SpatialMixture(tf.cast(means, tf.bfloat16), tf.cast(logits, tf.bfloat16), scale)
    assert mixture.log_prob(image).dtype == tf.float32


def test_unknown_component():
    _, means, logits, _ = make()
    with pytest.raises(
        ValueError,
        match="`component` must be 'normal' or 'logistic'. Received: component='cauchy'.",
    ):
        SpatialMixture(means, logits, component="cauchy")


def make_by_channel(seed=0):
    """One scale per slot, a mixture per channel."""
    image, means, logits, _ = make(seed=seed)
    return image, means, logits, np.array([0.09, 0.11, 0.2], np.float32)[:, None, None, None]


def test_mixture_per_channel_equals_tfp():
    image, means, logits, scale = make_by_channel()
    mixture = SpatialMixture(means, logits, scale, reduce="channel")
    weights = tfd.Categorical(logits=np.moveaxis(np.broadcast_to(logits, means.shape), 1, -1))
    twin = tfd.MixtureSameFamily(weights, tfd.Normal(np.moveaxis(means, 1, -1), scale[:, 0, 0, 0]))
    np.testing.assert_allclose(
        mixture.pixel_terms(image).log_prob[:, 0], twin.log_prob(image), rtol=1e-5, atol=1e-4
    )
    np.testing.assert_allclose(
        mixture.log_prob(image), tf.reduce_sum(twin.log_prob(image), [1, 2, 3]), rtol=1e-5
    )
    np.testing.assert_allclose(mixture.mean(), twin.mean(), atol=1e-5)


def test_gradients_per_channel_equal_autodiff():
    image, means, logits, scale = make_by_channel()
    means = tf.constant(means)
    logits = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch([means, logits])
        nll = -tf.reduce_sum(SpatialMixture(means, logits, scale, reduce="channel").log_prob(image))

    d_means, d_logits = tape.gradient(nll, [means, logits])
    terms = SpatialMixture(means, logits, scale, reduce="channel").pixel_terms(image)
    np.testing.assert_allclose(terms.means_gradient, d_means, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(terms.logits_gradient, d_logits, atol=1e-4)
    np.testing.assert_allclose(
        tf.reduce_sum(terms.responsibilities, 1), np.ones((2, 3, 3, 3)), atol=1e-5
    )


def test_both_kinds_agree_where_all_slots_do():
    image, means, logits, scale = make()
    means = np.repeat(means[:, :1], 3, axis=1)
    values = [
        SpatialMixture(means, logits, scale, reduce=kind).log_prob(image)
        for kind in ("pixel", "channel")
    ]
    np.testing.assert_allclose(*values, rtol=1e-5)


def test_log_masks_serve_as_logits():
    image, means, logits, scale = make_by_channel()
    log_masks = tf.nn.log_softmax(logits, axis=1)
    values = [
        SpatialMixture(means, x, scale, reduce="channel").log_prob(image)
        for x in (logits, log_masks)
    ]
    np.testing.assert_allclose(*values, rtol=1e-6)


def test_channels_of_a_sample_may_come_from_several_components():
    means = np.stack([np.zeros((1, 4, 4, 3)), np.ones((1, 4, 4, 3))], 1).astype(np.float32)
    near_one = (
        SpatialMixture(means, np.zeros((1, 2, 4, 4, 1), np.float32), 0.01, reduce="channel")
        .sample(50, seed=(0, 0))
        .numpy()
        > 0.5
    )
    assert 0.7 < np.mean(near_one.any(-1) & ~near_one.all(-1)) < 0.8  # 1 - 2 / 8


def test_unknown_reduction():
    _, means, logits, _ = make()
    with pytest.raises(
        ValueError, match="`reduce` must be 'pixel' or 'channel'. Received: reduce='image'."
    ):
        SpatialMixture(means, logits, reduce="image")
