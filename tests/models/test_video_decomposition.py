"""Video decomposition (Zablotskaia 2020): grid, sizes, closed-form gradients, prior, prediction."""

import conformance
import keras
import numpy as np
import pytest
import tensorflow as tf

from tfobj.errors import UserError
from tfobj.models.base import Stage
from tfobj.models.video import Cell
from tfobj.models.video_decomposition import VideoDecomposition, VideoDecompositionConfig
from tfobj.nn.lstm2d import LSTM2DCell
from tfobj.nn.slots import join_decoded

CASE = next(case for case in conformance.CLIP_MODELS if case.id == "video_decomposition")
FIRST = Cell(0, 0, 3, 3)
LATER = Cell(0, 1, 3, 3)


def make(**changes):
    """Returns (model, first frames of the battery's clips)."""
    model = conformance.build(CASE, **changes)
    return model, tf.constant(conformance.scenes(model.config)[:, 0])


def count(layer):
    return sum(int(np.prod(weight.shape)) for weight in layer.trainable_weights)


def test_parameters_of_the_sheet():
    keras.utils.set_random_seed(0)
    model = VideoDecomposition(VideoDecompositionConfig())
    assert [
        count(layer)
        for layer in (model.refinement.lstm, model.decoder, model.prior, model.refinement)
    ] == [411_520, 167_684, 33_024, 2_645_376]
    assert model.count_trainable() == 2_846_212


@pytest.mark.parametrize("pixel_shuffle", [1, 2])
def test_brightness_before_training(pixel_shuffle):
    keras.utils.set_random_seed(0)
    model, image = make(initial_mean=0.02, decoder_pixel_shuffle=pixel_shuffle)
    raw = model.render(tf.zeros([4, 3, 4]), tf.zeros([4, 3, 8]), model.weight_terms())
    decoded = model.decoded_slots(raw)
    np.testing.assert_allclose(tf.reduce_mean(decoded.means), 0.02, rtol=0.2)
    np.testing.assert_allclose(decoded.masks, 1 / 3, atol=1e-6)

    spreads = []
    for gain in (1.0, 0.1):
        scaled, _ = make(decoder_pixel_shuffle=pixel_shuffle, output_gain=gain)
        spreads.append(np.std(scaled.decoder.broadcast.stack.stages[-1].kernel))
    np.testing.assert_allclose(spreads[1], 0.1 * spreads[0], rtol=0.2)


@pytest.mark.parametrize(
    "num_steps, decodes", [(6, [18, 30, 50, 70, 90]), (5, [14, 26, 46, 66, 86])]
)
def test_number_of_decodes(num_steps, decodes):
    """R (R + 1) / 2 - 3 + 2 (F - R + 2) for F = 4, 10, 20, 30, 40 frames."""
    model, _ = make()
    for num_frames, expected in zip((4, 10, 20, 30, 40), decodes, strict=True):
        assert sum(model.num_cells(t, num_steps) for t in range(num_frames)) == expected
    for t in range(5):
        assert int(model.num_cells(tf.constant(t), num_steps)) == model.num_cells(t, num_steps)


def test_cells_are_weighted_by_their_step():
    model, _ = make()
    assert [model.cell_weight(Cell(4, r, 2, 9), 6) for r in (0, 1)] == [1 / 6, 2 / 6]
    paper, _ = make(cell_weights="paper")
    assert [paper.cell_weight(Cell(0, r, 3, 9), 6) for r in (0, 1, 2)] == [0.0, 0.5, 1.0]


def test_gradient_of_decoder_outputs_equals_autodiff():
    model, image = make(entropy_weight=0.7)
    raw = tf.random.stateless_normal([4, 3, 10, 12, 4], [1, 2])
    with tf.GradientTape() as tape:
        tape.watch(raw)
        energy, _, gradient = model.likelihood_and_gradient(raw, image, 3.0)
    np.testing.assert_allclose(gradient, tape.gradient(energy, raw), atol=2e-5)


@pytest.mark.parametrize("cell", [FIRST, LATER], ids=["first", "later"])
def test_gradient_of_lambda_equals_autodiff(cell):
    """Through sample and KL; in the first cell, whose sample is that of lambda_0, the KL alone."""
    model, image = make(entropy_weight=0.7, likelihood_weight=3.0, kl_weight=2.0)
    posterior, time_h = (tf.random.stateless_normal([4, 3, 8], [seed, 4]) for seed in (3, 5))
    with tf.GradientTape() as tape:
        tape.watch(posterior)
        latents, _ = model.sample_latents(posterior, conformance.seed(), cell)
        raw = model.render(latents, time_h, model.weight_terms())
        energy, _, _ = model.likelihood_and_gradient(raw, image, 3.0)
        loss = energy + 2.0 * model.divergence(posterior, time_h)[0]
    expected = tape.gradient(loss, posterior)

    scored = model.score(image, posterior, time_h, conformance.seed(), cell, model.weight_terms())
    np.testing.assert_allclose(scored.loss, loss, rtol=1e-5)
    np.testing.assert_allclose(scored.posterior_gradient, expected, atol=2e-4)
    if cell is FIRST:
        of_kl = 2.0 * model.divergence(posterior, time_h)[1]
        np.testing.assert_allclose(scored.posterior_gradient, of_kl, atol=1e-6)


def test_likelihood_of_the_sheet():
    """A mixture of every channel with variance 0.3, without constants."""
    model, image = make()
    logits = tf.random.stateless_normal([4, 3, 10, 12, 1], [1, 2])
    means = tf.random.stateless_uniform([4, 3, 10, 12, 3], [3, 4], 0.05, 0.95)
    raw = join_decoded(tf.math.log(means / (1 - means)), logits)
    _, pixels, _ = model.likelihood_and_gradient(raw, image, 1.0)

    m = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = -np.log((m * np.exp(-((image[:, None] - means) ** 2) / 0.6)).sum(1)).sum((1, 2, 3))
    np.testing.assert_allclose(pixels.nll, expected, rtol=1e-4)


def test_a_perfect_reconstruction_has_no_loss():
    """Equal masks have the entropy ln K per pixel."""
    model, image = make()
    image = tf.clip_by_value(image, 0.02, 0.98)
    means = tf.repeat(image[:, None], 3, axis=1)
    raw = join_decoded(tf.math.log(means / (1 - means)), tf.zeros([4, 3, 10, 12, 1]))
    _, pixels, _ = model.likelihood_and_gradient(raw, image, 1.0)
    np.testing.assert_allclose(pixels.nll, 0.0, atol=1e-4)
    np.testing.assert_allclose(pixels.entropy, 120 * np.log(3), rtol=1e-5)


def test_prior_and_its_divergence():
    model, _ = make()
    time_h = tf.random.stateless_normal([4, 3, 8], [5, 4])
    mean, log_variance = model.predicted_prior(time_h)
    assert np.all(log_variance >= 0)  # softplus as log variance: never narrower than N(., I)
    kl, gradient = model.divergence(tf.concat([mean, log_variance], axis=-1), time_h)
    np.testing.assert_allclose(kl, 0.0, atol=1e-5)
    np.testing.assert_allclose(gradient, 0.0, atol=1e-5)
    standard, _ = make(conditional_prior=False)
    np.testing.assert_array_equal(standard.predicted_prior(time_h)[0], 0.0)


def test_predicted_frames_decode_the_first_sample():
    """A predicted frame is the first decode of an observed one, given the same history."""
    model, image = make()
    memory = model.initial_memory(4, 3, conformance.seed())
    memory = tuple(tf.random.stateless_normal(m.shape, [i, 7]) for i, m in enumerate(memory))

    _, imagined = model.imagine_cell(
        memory, conformance.seed(), Cell(2, 0, 1, None), 3, model.weight_terms()
    )
    _, _, seen = model.run_cell(
        image, memory, conformance.seed(), Cell(2, 0, 2, 3), 3, model.weight_terms()
    )
    np.testing.assert_allclose(imagined["recon"], seen["recon"], atol=1e-6)


def test_adaptive_weight():
    """Zablotskaia's released rule: 300 above 600 nats, 100 above 200, else as before."""
    model, _ = make(adapt_likelihood_weight=True, likelihood_weight=100.0)
    for nll, weight in ((700.0, 300.0), (150.0, 300.0), (300.0, 100.0), (150.0, 100.0)):
        model.update_state({"last_nll": tf.constant(nll)}, {}, tf.constant(0))
        assert float(model.likelihood_weight()) == weight


def test_stages_lengthen_clips():
    model, _ = make(curriculum="(10, 6), (20, 8)")
    assert model.stages() == (
        (0, Stage(3, num_frames=3)),
        (10, Stage(3, num_frames=6)),
        (20, Stage(3, num_frames=8)),
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"num_steps": 1},
        {"likelihood_variance": 0.0},
        {"kl_weight": -1.0},
        {"decoder_hidden": ()},
        {"refinement_pool": 99},
    ],
)
def test_wrong_settings(changes):
    with pytest.raises(UserError, match=f"`(model.)?{next(iter(changes))}` must be"):
        VideoDecompositionConfig().override(changes)


def lstm(form):
    keras.utils.set_random_seed(2)
    cell = LSTM2DCell(3, form)
    cell.build((None, 4))
    sizes = (4, 3, 3, 3, 3)
    return cell, [tf.random.stateless_normal([2, size], [i, 9]) for i, size in enumerate(sizes)]


@pytest.mark.parametrize("form", ["mixed", "graves"])
def test_lstm_against_numpy(form):
    cell, (x, time_h, time_c, h, c) = lstm(form)
    got_h, got_c = cell(x, (time_h, time_c), (h, c))

    total = x @ cell.kernel + time_h @ cell.time_kernel + h @ cell.refinement_kernel
    gates = np.split(total + np.sum(cell.bias, 0), 5, axis=-1)
    i, f, o, s = (1 / (1 + np.exp(-g)) for g in gates[:4])
    old = {"mixed": f * (s * time_c + (1 - s) * c), "graves": f * time_c + s * c}[form]
    expected = old + i * np.tanh(gates[4])
    np.testing.assert_allclose(got_c, expected, atol=1e-6)
    np.testing.assert_allclose(got_h, o * np.tanh(expected), atol=1e-6)


def test_mixed_lstm_is_bounded():
    cell, (x, time_h, _, h, _) = lstm("mixed")
    time_c = tf.fill([2, 3], 50.0)
    c = tf.fill([2, 3], -40.0)
    for _ in range(20):
        h, c = cell(x, (time_h, time_c), (h, c))
        assert np.abs(c).max() <= 51.0


def test_unknown_form():
    with pytest.raises(UserError, match="2-D LSTM.*graves"):
        LSTM2DCell(3, "grave")
