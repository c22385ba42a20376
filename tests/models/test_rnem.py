"""R-NEM, RNN-EM, N-EM, and the recurrent baselines: EM, losses, noise, streams, roll-outs."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfobj import execution, random
from tfobj.errors import UserError
from tfobj.execution import Execution
from tfobj.models.rnem import PRESETS, RNem, RNemConfig
from tfobj.models.rnem.cores import RecurrentCore, RelationalCore
from tfobj.models.rnn_nem import PRESETS as RNN_EM_PRESETS
from tfobj.models.rnn_nem import RnnEM, RnnEMConfig
from tfobj.models.video import Cell
from tfobj.structs import check_outputs
from tfobj.training.experiment import DataConfig, EvalConfig, TrainConfig

TINY = {
    "image_size": (10, 12),
    "num_slots": 3,
    "num_frames": 4,
    "state_size": 6,
    "relation_size": 5,
    "attention_size": 4,
    "encoder_channels": (4, 6),
    "encoder_hidden": (8,),
    "decoder_hidden": (8,),
    "decoder_channels": (6, 4),
}
STATIC = {
    "encoder_channels": (),
    "encoder_hidden": (),
    "decoder_hidden": (),
    "decoder_channels": (),
    "layer_norm_epsilon": None,
}
FIELDS = ("recon", "masks", "slot_recons", "slots")
LATER = Cell(1, 0, 1, None)


def make(spread=0.1, **changes):
    """Returns a tiny model whose biases, gains, and offsets differ from their initial values."""
    keras.utils.set_random_seed(3)
    model = RNem(RNemConfig().override({**TINY, **changes}))
    rng = np.random.default_rng(4)
    for weight in model.weights:
        weight.assign(weight + rng.normal(0, spread, weight.shape).astype(np.float32))
    return model


def clips(config, batch=2, num_frames=4):
    """Returns float32 [B, T, H, W, C] in {0, 1}: two white squares, each at rest or moving."""
    rng = np.random.default_rng(0)
    height, width = config.image_size
    video = np.zeros((batch, num_frames, height, width, config.channels), np.float32)
    for clip in video:
        for _ in range(2):
            row = rng.integers(0, height - 4)
            column = rng.integers(0, width - 3 - num_frames)
            speed = rng.integers(0, 2)  # pixels per frame
            for t, frame in enumerate(clip):
                left = column + t * speed
                frame[row : row + 3, left : left + 3] = 1.0
    return video


@pytest.mark.parametrize("decoder_channels", [(6, 4), ()])
def test_brightness_before_training(decoder_channels):
    model = make(spread=0.0, initial_mean=0.1, decoder_channels=decoder_channels)
    means = model.means(model.render(tf.zeros([1, 3, 6])))
    np.testing.assert_allclose(np.median(means), 0.1, rtol=0.3)
    gaussian = make(spread=0.0, initial_mean=0.1, likelihood="gaussian")
    assert np.abs(gaussian.decoder.pixels.bias).max() == 0.0


def seed():
    return random.make_seed(11, 5, 0)


def arrays(outputs):
    return {name: getattr(outputs, name).numpy() for name in FIELDS}


def gradients(model, clip):
    """Returns (terms, gradients) of one training pass."""
    batch = {"image": tf.constant(clip)}
    _, terms, found = model.loss_and_gradients(batch, seed(), tf.constant(0, tf.int64))
    return terms, found


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


VARIANTS = {
    "rnem": {},
    "no_attention": {"attention": False},
    "rnn_em": {"variant": "rnn_em"},
    "rnn": {"variant": "rnn", "num_slots": 1},
    "lstm": {"variant": "lstm", "num_slots": 1},
    "nem": {"variant": "nem"},
    "static": {"variant": "rnn_em", **STATIC},
    "gaussian": {"likelihood": "gaussian", "channels": 3, "layer_norm_epsilon": 1e-5},
    "lstm_without_norms": {"variant": "lstm", "num_slots": 1, "layer_norm_epsilon": None},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_contract(variant):
    """Shapes, sums of masks, no prediction of the first frame, a gradient for every weight."""
    model = make(**VARIANTS[variant])
    config = model.config
    clip = clips(config)
    with tf.GradientTape() as tape:
        outputs = model(clip, seed=seed(), training=True)
        loss, terms = model.objective(outputs, 0)
    found = tape.gradient(loss, [w.value for w in model.trainable_variables])
    by_path = {w.path: g for w, g in zip(model.trainable_variables, found, strict=True)}
    assert not [path for path, g in by_path.items() if g is None or not np.abs(g).max() > 0]

    check_outputs(outputs, clip)
    assert outputs.slots.shape == (2, 4, config.num_slots, 6)
    assert set(terms) == {"intra", "inter", "upper_bound", "mse"}
    np.testing.assert_allclose(loss, terms["intra"] + terms["inter"], rtol=1e-5)

    ones = np.ones(clip.shape[:-1] + (1,))
    recon = tf.reduce_sum(outputs.masks * outputs.slot_recons, axis=2)
    np.testing.assert_allclose(tf.reduce_sum(outputs.masks, axis=2), ones, atol=1e-6)
    np.testing.assert_allclose(recon, outputs.recon, atol=1e-6)
    np.testing.assert_array_equal(outputs.slot_recons[:, 0], 0.0)
    if config.likelihood == "bernoulli":
        least = 1e-6 / (config.num_slots * (config.channels + 1e-6))
        assert np.min(outputs.masks) >= 0.999 * least

    scene = model.decode(outputs.slots[:, 2])
    np.testing.assert_allclose(scene.slot_recons, outputs.slot_recons[:, 2], atol=1e-6)
    memory = model.initial_state(2).memory
    assert memory[-1].shape == (2, config.num_slots, 6)
    assert len(model.memory_names()) == len(memory)


def test_sides_that_halve_to_fractions():
    model = make(image_size=(9, 7), decoder_channels=(6, 4, 3))
    assert model.decoder.sizes == ((2, 1), (3, 2), (5, 4), (9, 7))
    assert model(clips(model.config, num_frames=2)).recon.shape == (2, 2, 9, 7, 1)


def test_permuted_responsibilities_permute_the_slots(monkeypatch):
    model = make()
    order = np.array([2, 0, 1])
    clip = clips(model.config)
    normal = random.normal

    def permuted(*args, **kwargs):
        return tf.gather(normal(*args, **kwargs), order, axis=1)

    before = model(clip, seed=seed(), training=True)
    monkeypatch.setattr(random, "normal", permuted)
    after = model(clip, seed=seed(), training=True)
    np.testing.assert_allclose(after.recon, before.recon, atol=1e-5)
    for name in FIELDS[1:]:
        expected = tf.gather(getattr(before, name), order, axis=2)
        np.testing.assert_allclose(getattr(after, name), expected, atol=1e-5, err_msg=name)
    for name, term in before.loss_terms.items():
        np.testing.assert_allclose(after.loss_terms[name], term, rtol=1e-5, err_msg=name)
    assert np.abs(before.slots[:, 1:, 0] - before.slots[:, 1:, 1]).max() > 1e-3


def test_equal_responsibilities_keep_the_slots_equal(monkeypatch):
    model = make()
    normal = random.normal

    def repeated(*args, **kwargs):
        return tf.repeat(normal(*args, **kwargs)[:, :1], 3, axis=1)

    monkeypatch.setattr(random, "normal", repeated)
    outputs = model(clips(model.config), seed=seed())
    np.testing.assert_allclose(outputs.masks, np.full(outputs.masks.shape, 1 / 3), atol=1e-6)
    first = tf.repeat(outputs.slot_recons[:, :, :1], 3, axis=2)
    np.testing.assert_allclose(outputs.slot_recons, first, atol=1e-6)


def pixels(channels=1, num_slots=3, spread=2.0, batch=2):
    """Returns (logits, binary target, gamma) of frames of 2 x 2 pixels."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, spread, (batch, num_slots, 2, 2, channels)).astype(np.float32)
    target = rng.integers(0, 2, (batch, 2, 2, channels)).astype(np.float32)
    gamma = rng.dirichlet(np.ones(num_slots), (batch, 2, 2, 1)).transpose(0, 4, 1, 2, 3)
    return tf.constant(logits), tf.constant(target), tf.constant(gamma, tf.float32)


def test_losses_equal_a_loop():
    """A middle frame of a clip of five has a quarter of its loss, summed over slots and pixels."""
    model = make(inter_weight=0.5, channels=3)
    logits, target, gamma = pixels(channels=3)
    loss, terms = model.frame_loss(target, logits, gamma, Cell(2, 0, 1, 5))

    psi = sigmoid(np.asarray(logits, np.float64))
    expected = {name: np.zeros(2) for name in ("intra", "inter", "upper_bound")}
    for b, y, x, c in np.ndindex(2, 2, 2, 3):
        is_white = target[b, y, x, c] == 1

        def bce(p, is_white=is_white):
            return -np.log(p if is_white else 1 - p)

        expected["upper_bound"][b] += bce(psi[b, :, y, x, c].max())
        for k in range(3):
            share = gamma[b, k, y, x, 0]
            expected["intra"][b] += share * bce(psi[b, k, y, x, c])
            expected["inter"][b] -= (1 - share) * np.log(1 - psi[b, k, y, x, c])
    for name, value in expected.items():
        np.testing.assert_allclose(terms[name], value, rtol=1e-5, err_msg=name)
    np.testing.assert_allclose(loss, (expected["intra"] + 0.5 * expected["inter"]) / 4, rtol=1e-5)


def test_the_first_frame_has_no_loss():
    first = Cell(tf.constant(0), 0, 1, tf.constant(5))
    logits, target, gamma = pixels(channels=3)
    loss, terms = make(channels=3).frame_loss(target, logits, gamma, first)
    np.testing.assert_array_equal([loss, *terms.values()], np.zeros((4, 2)))


def test_a_perfect_prediction_has_no_loss():
    """One slot predicts and explains the frame, all others predict black."""
    _, target, _ = pixels(channels=3)
    sure = np.where(target, 30.0, -30.0)[:, None]
    perfect = np.concatenate([sure, np.full((2, 2, 2, 2, 3), -30.0)], axis=1).astype(np.float32)
    one_hot = np.zeros((2, 3, 2, 2, 1), np.float32)
    one_hot[:, 0] = 1
    _, terms = make(channels=3).frame_loss(
        target, tf.constant(perfect), tf.constant(one_hot), LATER
    )
    np.testing.assert_allclose(list(terms.values()), np.zeros((3, 2)), atol=1e-9)


def test_reductions_and_the_gaussian():
    rng = np.random.default_rng(0)
    raw = rng.normal(0, 1, (1, 2, 2, 2, 1)).astype(np.float32)
    target = rng.uniform(size=(1, 2, 2, 1)).astype(np.float32)
    gamma = np.full((1, 2, 2, 2, 1), 0.5, np.float32)
    model = make(likelihood="gaussian", loss_reduction="last")
    losses = []
    for frame, num_frames in ((2, 5), (4, 5), (2, None)):
        cell = Cell(frame, 0, 1, num_frames)
        loss, _ = model.frame_loss(tf.constant(target), tf.constant(raw), tf.constant(gamma), cell)
        losses.append(float(loss[0]))
    expected = 0.25 * (np.square(raw - target[:, None]).sum() + np.square(raw).sum())
    np.testing.assert_allclose(losses, [0.0, expected, expected], rtol=1e-5)
    assert make(loss_reduction="sum").loss_weight(Cell(2, 0, 1, 5)) == 1.0

    density = np.exp(-0.5 * ((raw - target[:, None]) / 0.25) ** 2) / (0.25 * np.sqrt(2 * np.pi))
    density += 1e-6
    np.testing.assert_allclose(
        model.e_step(tf.constant(target), tf.constant(raw)),
        density / density.sum(1, keepdims=True),
        rtol=1e-4,
    )


def test_e_step():
    """By hand; slots share a pixel where all of them are certain, and wrong."""
    model = make(num_slots=2)
    target = tf.constant([[[[1.0], [1.0]], [[0.0], [1.0]]]])
    means = tf.constant([[[[[0.9], [0.2]], [[0.9], [0.0]]], [[[0.3], [0.2]], [[0.0], [0.0]]]]])
    gamma = model.e_step(target, means)[0, 0, :, :, 0]
    np.testing.assert_allclose(gamma, [[0.75, 0.5], [0.1 / 1.1, 0.5]], atol=1e-5)


@pytest.mark.parametrize("stop", [True, False])
def test_responsibilities_have_no_gradient(stop, monkeypatch):
    model = make(stop_responsibilities=stop)
    e_step = model.e_step
    seen = []

    def observed(*args):
        seen.append(e_step(*args))
        return seen[-1]

    monkeypatch.setattr(model, "e_step", observed)
    with tf.GradientTape() as tape:
        outputs = model(clips(model.config), seed=seed(), training=True)
        loss = tf.reduce_sum(outputs.loss_terms["weighted_loss"])
    assert len(seen) == 3 and all((g is None) == stop for g in tape.gradient(loss, seen))


def test_bit_flips():
    model = make(noise=0.2)
    learning = LATER._replace(training=True)
    image = np.random.default_rng(0).integers(0, 2, (1000, 10, 12, 1)).astype(np.float32)
    noisy = model.corrupt(image, seed(), learning).numpy()
    assert set(np.unique(noisy)) == {0.0, 1.0}
    assert abs(np.mean(noisy != image) - 0.2) < 0.005
    # Every frame has noise of its own.
    again = model.corrupt(image, seed(), learning._replace(frame=2)).numpy()
    assert np.mean(noisy != again) > 0.3

    outside_training = model.corrupt(image, seed(), LATER)
    without_noise = make(noise=0.0).corrupt(image, seed(), learning)
    np.testing.assert_array_equal(outside_training, image)
    np.testing.assert_array_equal(without_noise, image)


def test_uniform_noise_of_the_gaussian():
    image = np.random.default_rng(0).integers(0, 2, (1000, 10, 12, 1)).astype(np.float32)
    model = make(noise=0.2, likelihood="gaussian")
    noisy = model.corrupt(image, seed(), LATER._replace(training=True)).numpy()
    replaced = noisy[noisy != image]
    assert abs(len(replaced) / image.size - 0.2) < 0.005
    assert abs(replaced.mean() - 0.5) < 0.01 and replaced.std() > 0.28


def test_noise_in_training_alone_unless_told_otherwise():
    clip = clips(make().config, num_frames=3)
    clean = make()(clip, seed=seed())
    quiet = make(noise=0.0)
    streamed = quiet(clip, seed=seed())
    unrolled = quiet(clip, seed=seed(), training=True)
    for name, value in arrays(clean).items():
        np.testing.assert_array_equal(getattr(streamed, name), value)
        np.testing.assert_allclose(getattr(unrolled, name), value, atol=1e-6)
    for name, value in clean.loss_terms.items():
        np.testing.assert_allclose(unrolled.loss_terms[name], value, rtol=1e-5)

    everywhere = make(noise_everywhere=True)
    noisy = everywhere(clip, seed=seed())
    trained = everywhere(clip, seed=seed(), training=True)
    np.testing.assert_allclose(noisy.slots, trained.slots, atol=1e-6)
    assert np.abs(noisy.slots - clean.slots).max() > 1e-3


def test_models_without_noise_warn():
    assert RNemConfig().warnings() == []
    (warning,) = RNemConfig(noise=0.0).warnings()
    assert "`model.noise` is 0" in warning


@pytest.mark.parametrize(
    "changes",
    [{}, {"variant": "lstm", "num_slots": 1, "loss_reduction": "sum"}],
    ids=["rnem", "lstm"],
)
def test_streams_have_the_numbers_of_the_batch(changes):
    model = make(**changes)
    clip = clips(model.config)
    expected = model.forecast(clip, 2, seed=seed())
    whole = model(clip, seed=seed())

    state = model.initial_state(2, seed=seed())
    frames = []
    for t in range(4):
        state, outputs = model.observe(state, tf.constant(clip[:, t]))
        frames.append(outputs)
    for _ in range(2):
        state, outputs = model.imagine(state)
        frames.append(outputs)

    for name in FIELDS:
        stream = tf.stack([getattr(f, name) for f in frames], axis=1)
        forecast = getattr(expected, name)
        np.testing.assert_allclose(stream, forecast, atol=1e-6, err_msg=name)
        np.testing.assert_allclose(forecast[:, :4], getattr(whole, name), atol=1e-6, err_msg=name)
    for name in ("intra", "inter", "upper_bound"):
        mean = np.mean([f.loss_terms[name] for f in frames[1:4]], axis=0)
        np.testing.assert_allclose(mean, whole.loss_terms[name], rtol=1e-5, err_msg=name)

    # A stream does not know the length of its clip, over whose predicted frames the mean is taken.
    total = np.sum([f.loss_terms["weighted_loss"] for f in frames[:4]], axis=0)
    if model.config.loss_reduction == "mean":
        total = total / 3
    np.testing.assert_allclose(whole.loss_terms["weighted_loss"], total, rtol=1e-5)


def test_roll_outs():
    """One slot explains everything, so without noise the seed has no effect."""
    model = make(variant="rnn", num_slots=1)
    clip = clips(model.config, num_frames=2)
    first, again = (model.forecast(clip, 3, seed=random.make_seed(s)) for s in (1, 2))
    for name, value in arrays(first).items():
        np.testing.assert_array_equal(getattr(again, name), value)
    np.testing.assert_array_equal(first.masks, np.ones((2, 5, 1, 10, 12, 1)))
    assert np.abs(first.recon[:, -1] - first.recon[:, -2]).max() > 1e-4

    noisy = make(variant="rnn", num_slots=1, noise_everywhere=True).forecast(clip, 3, seed=seed())
    assert np.abs(noisy.recon - first.recon).max() > 1e-4


def test_predicted_frames_are_made_binary():
    means = tf.constant([[[[[0.05], [0.11]]], [[[0.09], [0.0]]]]])
    np.testing.assert_array_equal(make().likely_frame(means), [[[[0.0], [1.0]]]])


def test_rematerialised_gradients():
    """With noise, which the second pass must repeat."""
    model = make()
    clip = clips(model.config, num_frames=3)
    terms, plain = gradients(model, clip)
    with execution.using(Execution(rematerialise=True)):
        again_terms, again = tf.function(lambda: gradients(model, clip), autograph=False)()
    for name, value in terms.items():
        np.testing.assert_allclose(again_terms[name], value, rtol=1e-5, err_msg=name)
    largest = max(np.abs(g).max() for g in plain)
    for g, h in zip(plain, again, strict=True):
        np.testing.assert_allclose(h, g, atol=1e-5 * largest)


def test_nem_steps_up_the_gradient():
    """The update is eta times the gradient of the expected log-likelihood."""
    model = make(variant="nem", num_slots=2)
    image = clips(model.config)[:, 0]
    z = tf.constant(np.random.default_rng(0).normal(size=(2, 2, 6)).astype(np.float32))
    with tf.GradientTape() as tape:
        tape.watch(z)
        (after,), _, frame_outputs = model.run_cell(image, (z,), seed(), LATER, 1, ())
    gradient = tape.gradient(frame_outputs["intra"], z)
    expected = -model.core.step_size * gradient
    np.testing.assert_allclose(after - z, expected, rtol=1e-3, atol=1e-5)


def test_small_nem_steps_lower_the_bce():
    model = make(variant="nem", num_slots=2)
    image = clips(model.config)[:, 0]
    model.core.step_size.assign([[0.05]])
    memory = (tf.constant(np.random.default_rng(0).normal(size=(2, 1, 6)), tf.float32),)
    errors = []
    for _ in range(6):
        memory, _, frame_outputs = model.run_cell(image, memory, seed(), LATER, 1, ())
        errors.append(frame_outputs["intra"].numpy())
    assert np.all(np.diff(errors, axis=0) < 0)


def test_bfloat16_is_close():
    model = make(spread=0.0)
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        low = make(spread=0.0)
    finally:
        keras.config.set_dtype_policy("float32")

    clip = clips(model.config)
    expected = model(clip, seed=seed(), training=True)
    got = low(clip, seed=seed(), training=True)
    assert all(w.dtype == "float32" for w in low.weights)
    assert all(getattr(got, name).dtype == tf.float32 for name in FIELDS)
    np.testing.assert_allclose(
        got.loss_terms["weighted_loss"], expected.loss_terms["weighted_loss"], rtol=0.01
    )


@pytest.mark.slow
def test_learns_a_clip():
    """Predictions soon beat a constant prediction of the mean brightness."""
    model = make(
        spread=0.0,
        state_size=16,
        encoder_channels=(8, 8),
        encoder_hidden=(32,),
        decoder_hidden=(32,),
        decoder_channels=(8, 8),
        noise=0.1,
    )
    clip = tf.constant(clips(model.config, num_frames=3))
    optimizer = keras.optimizers.Adam(1e-2)
    optimizer.build(model.trainable_variables)

    @tf.function(autograph=False)
    def update(step):
        _, terms, found = model.loss_and_gradients({"image": clip}, random.make_seed(0, step), step)
        optimizer.apply(found, model.trainable_variables)
        return terms["upper_bound"]

    errors = [float(update(tf.constant(step, tf.int64))) for step in range(60)]
    rate = float(tf.reduce_mean(clip))
    constant = -120 * (rate * np.log(rate) + (1 - rate) * np.log(1 - rate))
    assert np.mean(errors[-5:]) < 0.8 * constant, errors[::10]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"variant": "rnn"},
            "`model.num_slots` must be 1 where model.variant=rnn: one slot for the whole frame. "
            "Received: model.num_slots=5.",
        ),
        ({"num_slots": 1}, "`num_slots` must be at least 2. Received: num_slots=1."),
        (
            {"num_steps": 2},
            "`model.num_steps` must be 1: every frame is processed once. "
            "Received: model.num_steps=2.",
        ),
        ({"num_frames": 1}, "`model.num_frames` must be"),
        ({"noise": 1.0}, r"`model.noise` must be in \[0, 1\). Received: model.noise=1.0."),
        (
            {"encoder_channels": (4, 0)},
            "`model.encoder_channels` must be numbers, each at least 1.",
        ),
        ({"layer_norm_epsilon": 0.0}, "`model.layer_norm_epsilon` must be positive, or none."),
        ({"variant": "rnem2"}, "nknown value for `variant`.*'rnem'"),
    ],
)
def test_settings_that_make_no_sense(changes, message):
    with pytest.raises(UserError, match=message):
        RNemConfig().override(changes)


def test_presets():
    for model_class, presets in ((RNem, PRESETS), (RnnEM, RNN_EM_PRESETS)):
        for preset in presets.values():
            config = model_class.config_class().override(preset.model)
            assert config.warnings() == []
            TrainConfig().override(preset.train)
            EvalConfig().override(preset.eval)
            DataConfig().override(preset.data)


def test_configuration_round_trip_of_rnn_em():
    again = RnnEM.from_config(RnnEM(RnnEMConfig().override(TINY)).get_config())
    assert again.config.variant == "rnn_em"
    assert isinstance(again.core, RecurrentCore) and not isinstance(again.core, RelationalCore)
