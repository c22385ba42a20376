"""GENESIS: sizes, slots and their order, the prior, the likelihood, GECO, batch norms."""

import conformance
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tfobj import random
from tfobj.errors import UserError
from tfobj.models.genesis import Genesis, GenesisConfig
from tfobj.models.genesis.components import posterior_gaussian
from tfobj.models.genesis.config import default_strides
from tfobj.training.experiment import TrainConfig
from tfobj.training.optimizer import make_optimizer
from tfobj.training.step import TrainStep

tfd = tfp.distributions
FLOOR = 0.5 * np.log(2 * np.pi) + np.log(0.7)


def tiny(**changes):
    case = next(c for c in conformance.MODELS if c.id == "genesis")
    return conformance.build(case, **changes), conformance.scenes(case.config.override(changes))


@pytest.mark.parametrize(("side", "count"), [(32, 4_558_084), (64, 12_619_012), (128, 13_405_444)])
def test_parameters_of_the_released_sizes(side, count):
    assert Genesis(GenesisConfig(image_size=(side, side))).count_trainable() == count


def test_parameters_of_the_parts():
    network = Genesis(GenesisConfig()).network
    counts = {
        name: sum(int(np.prod(w.shape)) for w in getattr(network, name).trainable_weights)
        for name in (
            "mask_encoder",
            "mask_posterior",
            "mask_decoder",
            "mask_prior",
            "component_prior",
            "component_encoder",
            "component_decoder",
        )
    }
    assert counts == {
        "mask_encoder": 8_958_656,
        "mask_posterior": 32_896 + 229_888 + 16_512,
        "mask_decoder": 2_559_265,
        "mask_prior": 328_704 + 32_896,
        "component_prior": 90_656,
        "component_encoder": 336_480,
        "component_decoder": 33_059,
    }


def test_strides_by_size():
    assert [default_strides((s, s)) for s in (32, 64, 96, 128, 256)] == [
        (1, 2, 1, 2, 1),
        (1, 2, 1, 2, 1),
        (2, 2, 2, 1, 1),
        (2, 2, 2, 1, 1),
        (2, 2, 2, 2, 1),
    ]
    assert default_strides((35, 35)) == default_strides((64, 128)) == (1, 2, 1, 2, 1)


def test_maps_by_size():
    """The mask decoder starts from a map of the size with which the encoder ends."""
    for size, last in (((35, 35), (9, 9)), ((96, 96), (12, 12)), ((20, 37), (5, 10))):
        model = Genesis(
            GenesisConfig(
                image_size=size,
                mask_encoder_channels=(4,) * 5,
                mask_decoder_channels=(4,) * 6,
                mask_features=4,
            )
        )
        network = model.network
        assert network.mask_decoder.first.size == last
        assert network.mask_encoder.output_layer.kernel.shape[:2] == last
        assert model(tf.zeros([1, *size, 3]), num_slots=2).masks.shape == (1, 2, *size, 1)


def test_initial_values():
    """U(-f, f) with f = 1 / sqrt(fan_in) for kernels and biases; 1 / sqrt(units) in LSTMs.

    The bias of the forget gate is no exception.
    """
    network = Genesis(GenesisConfig(image_size=(32, 32))).network
    transposed = network.mask_decoder.stack.stages[1].convolution
    assert transposed.strides == (2, 2) and transposed.kernel.shape == (5, 5, 64, 64)

    for layer, limit in (
        (network.mask_encoder.stack.stages[1].convolution, (25 * 32) ** -0.5),
        (transposed, (25 * 64) ** -0.5),
        (network.mask_encoder.output_layer, (8 * 8 * 64) ** -0.5),
        (network.mask_decoder.first, (8 * 8 * 128) ** -0.5),
        (network.component_encoder.mlp.stages[0], (2 * 2 * 64) ** -0.5),
        (network.component_decoder.first, (9 * 18) ** -0.5),
        (network.mask_prior.cell, 256**-0.5),
    ):
        for weight in (layer.kernel, layer.bias):
            values = weight.numpy().ravel()
            assert np.abs(values).max() <= limit
            if values.size >= 32:
                assert np.abs(values).max() > 0.85 * limit and abs(values.mean()) < 0.5 * limit


def test_posterior_scales_start_below_one():
    np.testing.assert_allclose(
        posterior_gaussian(tf.zeros([1, 4])).scale, np.full((1, 2), 0.974), atol=1e-3
    )
    model, image = tiny()
    scale = model.network.infer(tf.zeros_like(image), 3, random.make_seed()).posterior.scale
    assert 0.6 < float(tf.reduce_min(scale)) < float(tf.reduce_max(scale)) < 1.4


def test_masks_are_broken_off_one_after_the_other():
    model, image = tiny(num_slots=4)
    history = model(image, seed=conformance.seed()).history
    assert set(history) == {"scopes", "stick_masks"}

    scopes = history["scopes"].numpy()
    masks = history["stick_masks"].numpy()
    assert scopes.shape == masks.shape == (4, 4, 10, 12, 1)
    np.testing.assert_allclose(scopes[:, 0], 1.0)
    np.testing.assert_allclose(scopes[:, 1:], 1.0 - np.cumsum(masks, 1)[:, :-1], atol=1e-5)
    np.testing.assert_allclose(masks[:, -1], scopes[:, -1])
    assert (np.diff(scopes, axis=1) <= 0).all()


@pytest.mark.parametrize("training", [False, True])
def test_last_mask_latent_renders_nothing(training):
    """The last slot takes what is left: another latent changes KL and component prior, no mask."""
    model, image = tiny(norm="batch")
    network = model.network
    latents = network.infer(image, 3, random.make_seed()).samples
    size = model.config.mask_latent_size
    only_mask = tf.concat([tf.ones([size]), tf.zeros([latents.shape[-1] - size])], 0)
    other = latents + tf.reshape(tf.one_hot(2, 3), [3, 1]) * only_mask

    # In training it has a part in the moments of batch norms.
    masks, _, _ = network.masks(latents[..., :size], training=training)
    other_masks, _, _ = network.masks(other[..., :size], training=training)
    np.testing.assert_allclose(other_masks, masks, atol=1.0 if training else 0.0)
    np.testing.assert_array_equal(network.means(other), network.means(latents))

    p = network.prior(latents)
    q = network.prior(other)
    np.testing.assert_array_equal(p.loc[..., :size], q.loc[..., :size])
    np.testing.assert_array_equal(p.loc[:, :2], q.loc[:, :2])
    assert np.abs(p.loc[:, 2, size:] - q.loc[:, 2, size:]).max() > 1e-4


def test_posterior_of_a_slot_reads_the_samples_before_it():
    model, _ = tiny()
    posterior = model.network.mask_posterior
    features = tf.constant(conformance.scenes(model.config)[:, 0, :8, 0])
    noise = random.normal(random.make_seed(), "test", [4, 3, 5])
    changed = noise + tf.reshape(tf.one_hot(1, 3), [1, 3, 1])

    q, z = posterior(features, noise, num_slots=3)
    r, y = posterior(features, changed, num_slots=3)
    np.testing.assert_allclose(q.loc + q.scale * noise, z, atol=1e-6)
    np.testing.assert_allclose(q.loc[:, :2], r.loc[:, :2], atol=1e-6)
    assert np.abs(z - y)[:, 1].min() > 0 and np.abs(q.loc - r.loc)[:, 2].max() > 1e-4


def test_prior_samples_have_the_density_that_is_trained():
    """Standardised by the conditionals of the KL, ancestral samples are their own noise."""
    model, _ = tiny()
    z = model.network.sample_prior(3, 4, conformance.seed())
    p = model.network.prior(z)

    seed = conformance.seed()
    of_masks = random.normal(seed, "genesis/prior_mask_latents", [3, 4, 5])
    of_components = random.normal(seed, "genesis/prior_component_latents", [3, 4, 4])
    noise = tf.concat([of_masks, of_components], axis=-1)
    np.testing.assert_allclose((z - p.loc) / p.scale, noise, atol=1e-4)
    assert float(tf.reduce_max(p.scale)) <= 1.0001 and np.abs(p.loc[:, 1:]).max() > 0.01


def test_without_priors_latents_are_standard_normal():
    model, image = tiny(autoregressive_prior=False, component_prior=False)
    p = model.network.prior(model.network.infer(image, 3, random.make_seed()).samples)
    assert not np.any(p.loc) and np.all(p.scale == 1.0)
    assert len(model.trainable_weights) < len(tiny()[0].trainable_weights)


def test_monte_carlo_kl_averages_to_the_closed_form():
    model, image = tiny()
    closed, _ = tiny(kl="analytic")
    closed.set_weights(model.get_weights())

    @tf.function(autograph=False)
    def estimates(step):
        seed = random.make_seed(0, step)
        return [m(image, seed=seed).loss_terms["kl"] for m in (model, closed)]

    sampled, exact = np.stack([estimates(tf.constant(s)) for s in range(200)], axis=1)
    error = ((sampled.std(0) + exact.std(0)) / 200**0.5).max()
    assert np.abs(sampled.mean(0) - exact.mean(0)).max() < 4 * error and exact.mean() > 5 * error
    assert sampled.std() > 2 * exact.std()

    outputs = closed(image, seed=conformance.seed())
    np.testing.assert_allclose(
        tf.reduce_sum(outputs.posterior["kl"], [1, 2]), outputs.loss_terms["kl"], rtol=1e-5
    )


def test_likelihood_of_equal_components_is_one_gaussian():
    model, image = tiny(likelihood_scale=0.7)
    means = tf.repeat(tf.constant(conformance.scenes(model.config, seed=9))[:, None], 3, axis=1)
    log_masks = tf.nn.log_softmax(
        random.normal(random.make_seed(), "test", [4, 3, 10, 12, 1]), axis=1
    )
    expected = -np.sum(tfd.Normal(means[:, 0], 0.7).log_prob(image), (1, 2, 3))
    np.testing.assert_allclose(
        model.negative_log_likelihood(image, log_masks, means), expected, rtol=1e-5
    )
    perfect = tf.repeat(tf.constant(image)[:, None], 3, axis=1)
    np.testing.assert_allclose(
        model.negative_log_likelihood(image, log_masks, perfect),
        np.full(4, FLOOR * image[0].size),
        rtol=1e-5,
    )


def test_likelihoods_of_every_kind_against_tfp():
    """Per pixel and channel a mixture over slots; or one normal around the composed image."""
    model, image = tiny()
    gaussian, _ = tiny(likelihood="gaussian", likelihood_scale=0.1, geco_goal=None)
    outputs = model(image, seed=conformance.seed())
    masks = np.broadcast_to(outputs.masks, outputs.slot_recons.shape)
    mixture = tfd.MixtureSameFamily(
        tfd.Categorical(probs=np.moveaxis(masks, 1, -1)),
        tfd.Normal(np.moveaxis(outputs.slot_recons, 1, -1), 0.7),
    )
    np.testing.assert_allclose(
        outputs.loss_terms["nll"], -tf.reduce_sum(mixture.log_prob(image), [1, 2, 3]), rtol=1e-5
    )
    log_masks = tf.math.log(outputs.masks)
    expected = -tf.reduce_sum(tfd.Normal(outputs.recon, 0.1).log_prob(image), [1, 2, 3])
    np.testing.assert_allclose(
        gaussian.negative_log_likelihood(image, log_masks, outputs.slot_recons), expected, rtol=1e-4
    )


def test_saturated_masks_give_finite_gradients():
    model, image = tiny()
    output = model.network.mask_decoder.output_layer
    for bias in (-120.0, 120.0):
        output.bias.assign([bias])
        outputs, terms, grads = conformance.gradients(model, image)
        assert np.isfinite(conformance.flat(grads)).all() and np.isfinite(terms["loss"])
        np.testing.assert_allclose(
            tf.reduce_sum(outputs.masks, 1), np.ones((4, 10, 12, 1)), atol=1e-5
        )


def test_goal_below_the_floor_is_refused():
    with pytest.raises(
        UserError,
        match=r"`model.geco_goal` must be above 0.56226.*"
        r"asks for that mean squared error; this one for -0.061\)\. Received: ",
    ):
        GenesisConfig(geco_goal=0.5)
    for goal in (FLOOR, float("nan"), float("inf"), float("-inf")):
        with pytest.raises(UserError, match="`model.geco_goal` must be above 0.56226"):
            GenesisConfig(geco_goal=goal)
    with pytest.raises(UserError, match="`model.geco_goal` must be above -1.38365"):
        GenesisConfig(geco_goal=-1.4, likelihood_scale=0.1)
    assert GenesisConfig(geco_goal=-1.38, likelihood_scale=0.1).geco_goal == -1.38
    assert not GenesisConfig().warnings()
    assert "0.15 only" in GenesisConfig(likelihood_scale=0.3).warnings()[0]


@pytest.mark.parametrize(
    "changes",
    [
        {"num_steps": 2},
        {"mask_strides": (1, 2)},
        {"mask_decoder_channels": (4, 4)},
        {"likelihood_scale": 0.0},
        {"kl_weight": float("nan")},
        {"component_latent_size": 0},
        {"num_slots": 1},
    ],
)
def test_settings_out_of_range_are_refused(changes):
    with pytest.raises(UserError, match=f"`(model.)?{next(iter(changes))}` must be"):
        GenesisConfig(**changes)


def test_geco_weighs_the_kl():
    model, image = tiny(image_size=(16, 16))
    image = conformance.scenes(model.config)
    target = 0.5655 * 3 * 256
    step = tf.constant(0, tf.int64)
    for nll, expected in ((target, 0.0), (target + 100.0, None)):
        model.update_state({"nll": tf.constant(nll, tf.float32)}, {}, step)
        if expected is not None:
            assert abs(np.log(model.kl_weight(step))) < 1e-6
        step += 1

    # 1 % of -100 in the average, a rate of 1e-5 at 64 x 64: sixteen times that here.
    np.testing.assert_allclose(np.log(model.kl_weight(step)), -1.0 * 1.6e-4, rtol=1e-2)

    model.multiplier.log_multiplier.assign(2.0)
    outputs = model(image, seed=conformance.seed(), training=True)
    loss, terms = model.objective(outputs, step)
    np.testing.assert_allclose(loss, terms["nll"] + np.exp(2.0) * terms["kl"], rtol=1e-5)
    np.testing.assert_allclose(terms["geco_multiplier"], np.exp(2.0), rtol=1e-5)


def test_weight_without_geco_is_warmed_up():
    model, _ = tiny(geco_goal=None, kl_weight=0.5, kl_warmup_steps=100)
    assert [float(model.kl_weight(tf.constant(s, tf.int64))) for s in (0, 50, 100, 1000)] == [
        0.0,
        0.25,
        0.5,
        0.5,
    ]
    assert model.multiplier is None


def test_batch_norms_follow_training_and_serve_evaluation():
    model, image = tiny(norm="batch")
    batch = tf.constant(image)
    norms = model.network.batch_norms()
    outputs = model(batch, seed=conformance.seed(), training=True)
    assert len(norms) == 4 and set(outputs.statistics) == {norm.key for norm in norms}
    assert model(batch, seed=conformance.seed()).statistics == {}
    assert all(not np.any(norm.moving_mean) for norm in norms)

    for _ in range(150):
        model.update_state({"nll": tf.constant(0.0)}, outputs.statistics, tf.constant(5, tf.int64))
    same = model(batch, seed=conformance.seed())
    # Nearly: the last mask latent renders nothing and has no part in the moments of evaluation.
    np.testing.assert_allclose(same.masks, outputs.masks, atol=2e-3)
    assert all(
        norm.moving_mean.aggregation == "only_first_replica" and not norm.moving_mean.trainable
        for norm in norms
    )


def test_replicas_and_micro_batches_follow_the_moments_of_all_scenes(two_replicas):
    """Each part is normed by itself; the averages are over all, exactly so at the first norm."""

    def averages(strategy, micro_batches):
        with strategy.scope():
            model, image = tiny(norm="batch")
            optimizer = make_optimizer(TrainConfig())
        step = TrainStep(strategy, model, optimizer, run_seed=3, micro_batches=micro_batches)
        data = tf.data.Dataset.from_tensors({"image": image})
        step.run(iter(strategy.experimental_distribute_dataset(data)), 1)
        return [
            np.stack([norm.moving_mean.numpy(), norm.moving_variance.numpy()])
            for norm in model.network.batch_norms()
        ]

    one_device = tf.distribute.OneDeviceStrategy("/cpu:0")
    whole = averages(one_device, 1)
    parts = averages(one_device, 2)
    replicas = averages(two_replicas, 1)
    for part, replica in zip(parts, replicas, strict=True):
        np.testing.assert_allclose(replica, part, atol=1e-5)
        assert np.abs(part - [[0.0], [1.0]]).max() > 1e-3
    np.testing.assert_allclose(parts[0], whole[0], atol=1e-5)


def test_another_number_of_slots_and_one_stage():
    for changes in ({}, {"variant": "genesis_s", "norm": "instance"}):
        model, image = tiny(**changes)
        outputs = model(image, num_slots=6, seed=conformance.seed())
        assert outputs.masks.shape[1] == 6
        assert outputs.slots.shape == (4, 6, 5 if changes else 9)
        assert model.sample(2, conformance.seed(), num_slots=2).masks.shape == (2, 2, 10, 12, 1)


def test_clamp_of_log_masks():
    """The component encoder sees log masks down to -14 alone; the likelihood has no bound."""
    model, image = tiny()
    low = tf.fill([4, 3, 10, 12, 1], -14.0)
    lower = tf.fill([4, 3, 10, 12, 1], -300.0)
    posterior = model.network.component_posterior
    np.testing.assert_array_equal(posterior(low, image, 3).loc, posterior(lower, image, 3).loc)

    # The pixel costs less in a slot of mask exp(-300) than where the mask is.
    far = tf.concat([lower[:, :2], tf.zeros([4, 1, 10, 12, 1])], axis=1)
    means = tf.concat([tf.zeros([4, 2, 10, 12, 3]), tf.fill([4, 1, 10, 12, 3], 100.0)], axis=1)
    nll = model.negative_log_likelihood(tf.zeros_like(image), far, means)
    expected = 300.0 - np.log(2) + FLOOR
    np.testing.assert_allclose(nll, np.full(4, expected * image[0].size), rtol=1e-4)


def test_training_lowers_the_loss_and_the_multiplier():
    strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
    with strategy.scope():
        model, image = tiny(norm="batch")
        optimizer = make_optimizer(TrainConfig(learning_rate=3e-3, clip_norm=1e4))
    step = TrainStep(strategy, model, optimizer, run_seed=0)
    data = iter(tf.data.Dataset.from_tensors({"image": image}).repeat())
    terms = [step.run(data, 40)[0] for _ in range(5)]
    assert np.isfinite([t["loss"] for t in terms]).all()
    assert terms[-1]["nll"] < terms[0]["nll"] - 2
    assert terms[-1]["geco_multiplier"] < terms[0]["geco_multiplier"] < 1.0
    assert any(np.any(norm.moving_mean) for norm in model.network.batch_norms())
