"""R-NEM, RNN-EM, N-EM and the recurrent baselines: EM, losses, noise, streams, roll-outs (specification, section 13)."""

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
    """Returns a tiny model whose biases, gains and offsets are not what they begin with."""
    keras.utils.set_random_seed(3)
    model = RNem(RNemConfig().override({**TINY, **changes}))
    rng = np.random.default_rng(4)
    for weight in model.weights:
        weight.assign(weight + rng.normal(0, spread, weight.shape).astype(np.float32))
    return model


def clips(config, batch=2, num_frames=4):
    """Returns float32 [B, T, H, W, C] in {0, 1}: two white squares, at rest or moving by a pixel per frame."""
    rng = np.random.default_rng(0)
    height, width = config.image_size
    video = np.zeros((batch, num_frames, height, width, config.channels), np.float32)
    for clip in video:
        for _ in range(2):
            row, column, step = (
                rng.integers(0, height - 4),
                rng.integers(0, width - 3 - num_frames),
                rng.integers(0, 2),
            )
            for t, frame in enumerate(clip):
                frame[row : row + 3, column + t * step : column + t * step + 3] = 1.0
    return video


@pytest.mark.parametrize("decoder_channels", [(6, 4), ()])
def test_brightness_before_training(decoder_channels):
    model = make(spread=0.0, initial_mean=0.1, decoder_channels=decoder_channels)
    np.testing.assert_allclose(
        np.median(model.read(model.render(tf.zeros([1, 3, 6])))), 0.1, rtol=0.3
    )
    gaussian = make(spread=0.0, initial_mean=0.1, likelihood="gaussian")
    assert np.abs(gaussian.decoder.pixels.bias).max() == 0.0


def seed():
    return random.make_seed(11, 5, 0)


def arrays(outputs):
    return {name: getattr(outputs, name).numpy() for name in FIELDS}


def gradients(model, clip):
    """Returns (terms, gradients) of one training pass."""
    return model.loss_and_gradients({"image": tf.constant(clip)}, seed(), tf.constant(0, tf.int64))[
        1:
    ]


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"attention": False},
        {"variant": "rnn_em"},
        {"variant": "rnn", "num_slots": 1},
        {"variant": "lstm", "num_slots": 1},
        {"variant": "nem"},
        {"variant": "rnn_em", **STATIC},
        {"likelihood": "gaussian", "channels": 3, "layer_norm_epsilon": 1e-5},
        {"variant": "lstm", "num_slots": 1, "layer_norm_epsilon": None},
    ],
    ids=[
        "rnem",
        "no_attention",
        "rnn_em",
        "rnn",
        "lstm",
        "nem",
        "static",
        "gaussian",
        "lstm_without_norms",
    ],
)
def test_contract(changes):
    """Shapes, masks that sum to one, a first frame of which nothing is predicted, and a gradient for every weight."""
    model = make(**changes)
    clip, num_slots = clips(model.config), model.config.num_slots
    with tf.GradientTape() as tape:
        outputs = model(clip, seed=seed(), training=True)
        loss, terms = model.objective(outputs, 0)
    found = tape.gradient(loss, [w.value for w in model.trainable_variables])
    assert not [
        w.path
        for w, g in zip(model.trainable_variables, found, strict=True)
        if g is None or not np.abs(g).max() > 0
    ]
    check_outputs(outputs, clip)
    assert outputs.slots.shape == (2, 4, num_slots, 6) and set(terms) == {
        "intra",
        "inter",
        "upper_bound",
        "mse",
    }
    np.testing.assert_allclose(
        tf.reduce_sum(outputs.masks, axis=2), np.ones(clip.shape[:-1] + (1,)), atol=1e-6
    )
    np.testing.assert_allclose(
        tf.reduce_sum(outputs.masks * outputs.slot_recons, axis=2), outputs.recon, atol=1e-6
    )
    assert (
        np.asarray(outputs.masks).min()
        >= 1e-6 / (num_slots * (model.config.channels + 1e-6)) * 0.999
        or changes.get("likelihood") == "gaussian"
    )
    np.testing.assert_array_equal(
        outputs.slot_recons[:, 0], np.zeros_like(outputs.slot_recons[:, 0])
    )
    np.testing.assert_allclose(loss, terms["intra"] + terms["inter"], rtol=1e-5)
    scene = model.decode(outputs.slots[:, 2])
    np.testing.assert_allclose(scene.slot_recons, outputs.slot_recons[:, 2], atol=1e-6)
    assert model.initial_state(2).memory[-1].shape == (2, num_slots, 6) and len(
        model.memory_names()
    ) == len(model.initial_state(2).memory)


def test_sides_that_halve_to_fractions():
    model = make(image_size=(9, 7), decoder_channels=(6, 4, 3))
    assert model.decoder.sizes == ((2, 1), (3, 2), (5, 4), (9, 7))
    assert model(clips(model.config, num_frames=2)).recon.shape == (2, 2, 9, 7, 1)


def test_permuted_responsibilities_permute_the_slots(monkeypatch):
    model, order = make(), np.array([2, 0, 1])
    clip = clips(model.config)
    before = model(clip, seed=seed(), training=True)
    draw = random.normal
    monkeypatch.setattr(
        random, "normal", lambda *args, **kwargs: tf.gather(draw(*args, **kwargs), order, axis=1)
    )
    after = model(clip, seed=seed(), training=True)
    np.testing.assert_allclose(after.recon, before.recon, atol=1e-5)
    for name in FIELDS[1:]:
        np.testing.assert_allclose(
            getattr(after, name),
            tf.gather(getattr(before, name), order, axis=2),
            atol=1e-5,
            err_msg=name,
        )
    for name, term in before.loss_terms.items():
        np.testing.assert_allclose(after.loss_terms[name], term, rtol=1e-5, err_msg=name)
    assert np.abs(before.slots[:, 1:, 0] - before.slots[:, 1:, 1]).max() > 1e-3


def test_equal_responsibilities_keep_the_slots_equal(monkeypatch):
    model = make()
    draw = random.normal
    monkeypatch.setattr(
        random, "normal", lambda *args, **kwargs: tf.repeat(draw(*args, **kwargs)[:, :1], 3, axis=1)
    )
    outputs = model(clips(model.config), seed=seed())
    np.testing.assert_allclose(outputs.masks, np.full(outputs.masks.shape, 1 / 3), atol=1e-6)
    np.testing.assert_allclose(
        outputs.slot_recons, tf.repeat(outputs.slot_recons[:, :, :1], 3, axis=2), atol=1e-6
    )


def test_losses_equal_a_loop():
    """A frame in the middle of a clip of five: a quarter of its loss, sums over slots, pixels and channels."""
    model = make(inter_weight=0.5, channels=3)
    rng = np.random.default_rng(0)
    raw, target = (
        rng.normal(0, 2, (2, 3, 2, 2, 3)).astype(np.float32),
        rng.integers(0, 2, (2, 2, 2, 3)).astype(np.float32),
    )
    gamma = rng.dirichlet(np.ones(3), (2, 2, 2, 1)).transpose(0, 4, 1, 2, 3).astype(np.float32)
    loss, terms = model.score(
        tf.constant(target), tf.constant(raw), tf.constant(gamma), Cell(2, 0, 1, 5)
    )
    psi = sigmoid(raw.astype(np.float64))
    bce = lambda p, x: -np.log(p if x else 1 - p)
    expected = {"intra": np.zeros(2), "inter": np.zeros(2), "upper_bound": np.zeros(2)}
    for b, r, s, c in np.ndindex(2, 2, 2, 3):
        x = target[b, r, s, c]
        expected["upper_bound"][b] += bce(psi[b, :, r, s, c].max(), x)
        for k in range(3):
            expected["intra"][b] += gamma[b, k, r, s, 0] * bce(psi[b, k, r, s, c], x)
            expected["inter"][b] -= (1 - gamma[b, k, r, s, 0]) * np.log(1 - psi[b, k, r, s, c])
    for name, value in expected.items():
        np.testing.assert_allclose(terms[name], value, rtol=1e-5, err_msg=name)
    np.testing.assert_allclose(loss, (expected["intra"] + 0.5 * expected["inter"]) / 4, rtol=1e-5)
    first, terms = model.score(
        tf.constant(target),
        tf.constant(raw),
        tf.constant(gamma),
        Cell(tf.constant(0), 0, 1, tf.constant(5)),
    )
    np.testing.assert_array_equal([first, *terms.values()], np.zeros((4, 2)))
    sure = np.where(target, 30.0, -30.0)[:, None]
    perfect = np.concatenate([sure, np.full((2, 2, 2, 2, 3), -30.0)], axis=1).astype(np.float32)
    one_hot = np.zeros((2, 3, 2, 2, 1), np.float32)
    one_hot[:, 0] = 1
    _, terms = model.score(tf.constant(target), tf.constant(perfect), tf.constant(one_hot), LATER)
    np.testing.assert_allclose(list(terms.values()), np.zeros((3, 2)), atol=1e-9)


def test_reductions_and_the_gaussian():
    rng = np.random.default_rng(0)
    raw, target = (
        rng.normal(0, 1, (1, 2, 2, 2, 1)).astype(np.float32),
        rng.uniform(size=(1, 2, 2, 1)).astype(np.float32),
    )
    gamma = np.full((1, 2, 2, 2, 1), 0.5, np.float32)
    model = make(likelihood="gaussian", loss_reduction="last")
    losses = [
        float(
            model.score(
                tf.constant(target), tf.constant(raw), tf.constant(gamma), Cell(f, 0, 1, n)
            )[0][0]
        )
        for f, n in ((2, 5), (4, 5), (2, None))
    ]
    expected = 0.25 * (np.square(raw - target[:, None]).sum() + np.square(raw).sum())
    np.testing.assert_allclose(losses, [0.0, expected, expected], rtol=1e-5)
    density = (
        np.exp(-0.5 * ((raw - target[:, None]) / 0.25) ** 2) / (0.25 * np.sqrt(2 * np.pi)) + 1e-6
    )
    np.testing.assert_allclose(
        model.e_step(tf.constant(target), tf.constant(raw)),
        density / density.sum(1, keepdims=True),
        rtol=1e-4,
    )
    assert make(loss_reduction="sum").loss_weight(Cell(2, 0, 1, 5)) == 1.0


def test_e_step():
    """Hand-computed; where all slots are wrong, and sure, they share."""
    model = make(num_slots=2)
    target, means = (
        tf.constant([[[[1.0], [1.0]], [[0.0], [1.0]]]]),
        tf.constant([[[[[0.9], [0.2]], [[0.9], [0.0]]], [[[0.3], [0.2]], [[0.0], [0.0]]]]]),
    )
    np.testing.assert_allclose(
        model.e_step(target, means)[0, 0, :, :, 0], [[0.75, 0.5], [0.1 / 1.1, 0.5]], atol=1e-5
    )


@pytest.mark.parametrize("stop", [True, False])
def test_responsibilities_have_no_gradient(stop, monkeypatch):
    model = make(stop_responsibilities=stop)
    seen, e_step = [], model.e_step
    monkeypatch.setattr(model, "e_step", lambda *args: (seen.append(e_step(*args)), seen[-1])[1])
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(
            model(clips(model.config), seed=seed(), training=True).loss_terms["weighted_loss"]
        )
    assert len(seen) == 3 and all((g is None) == stop for g in tape.gradient(loss, seen))


def test_bit_flips():
    model, learning = make(noise=0.2), LATER._replace(training=True)
    image = np.random.default_rng(0).integers(0, 2, (1000, 10, 12, 1)).astype(np.float32)
    noisy = model.corrupt(image, seed(), learning).numpy()
    assert set(np.unique(noisy)) == {0.0, 1.0} and abs(np.mean(noisy != image) - 0.2) < 0.005
    assert (
        np.mean(noisy != model.corrupt(image, seed(), Cell(2, 0, 1, None, training=True)).numpy())
        > 0.3
    )
    for clean in (
        model.corrupt(image, seed(), LATER),
        make(noise=0.0).corrupt(image, seed(), learning),
    ):
        np.testing.assert_array_equal(clean, image)
    uniform = make(noise=0.2, likelihood="gaussian").corrupt(image, seed(), learning).numpy()
    replaced = uniform[uniform != image]
    assert (
        abs(len(replaced) / image.size - 0.2) < 0.005
        and abs(replaced.mean() - 0.5) < 0.01
        and replaced.std() > 0.28
    )


def test_noise_in_training_alone_unless_told_otherwise():
    clip = clips(make().config, num_frames=3)
    clean, quiet = make()(clip, seed=seed()), make(noise=0.0)
    everywhere = make(noise_everywhere=True)
    streamed, unrolled = quiet(clip, seed=seed()), quiet(clip, seed=seed(), training=True)
    for name, value in arrays(clean).items():
        np.testing.assert_array_equal(getattr(streamed, name), value)
        np.testing.assert_allclose(getattr(unrolled, name), value, atol=1e-6)
    for name, value in clean.loss_terms.items():
        np.testing.assert_allclose(unrolled.loss_terms[name], value, rtol=1e-5)
    noisy, trained = everywhere(clip, seed=seed()), everywhere(clip, seed=seed(), training=True)
    np.testing.assert_allclose(noisy.slots, trained.slots, atol=1e-6)
    assert np.abs(noisy.slots - clean.slots).max() > 1e-3
    assert not quiet.config.warnings() == make().config.warnings() == []


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
    state, frames = model.initial_state(2, seed=seed()), []
    for t in range(4):
        state, outputs = model.observe(state, tf.constant(clip[:, t]))
        frames.append(outputs)
    for _ in range(2):
        state, outputs = model.imagine(state)
        frames.append(outputs)
    for name in FIELDS:
        np.testing.assert_allclose(
            tf.stack([getattr(f, name) for f in frames], axis=1),
            getattr(expected, name),
            atol=1e-6,
            err_msg=name,
        )
        np.testing.assert_allclose(
            getattr(expected, name)[:, :4], getattr(whole, name), atol=1e-6, err_msg=name
        )
    for name in ("intra", "inter", "upper_bound"):
        np.testing.assert_allclose(
            np.mean([f.loss_terms[name] for f in frames[1:4]], axis=0),
            whole.loss_terms[name],
            rtol=1e-5,
            err_msg=name,
        )
    total = np.sum([f.loss_terms["weighted_loss"] for f in frames[:4]], axis=0)
    np.testing.assert_allclose(
        whole.loss_terms["weighted_loss"],
        total if changes.get("loss_reduction") else total / 3,
        rtol=1e-5,
    )


def test_roll_outs():
    """Without noise the seed tells nothing but the first responsibilities; one slot explains everything; unseen frames are made binary."""
    model = make(variant="rnn", num_slots=1)
    clip = clips(model.config, num_frames=2)
    first, again = (model.forecast(clip, 3, seed=random.make_seed(s)) for s in (1, 2))
    for name, value in arrays(first).items():
        np.testing.assert_array_equal(getattr(again, name), value)
    np.testing.assert_array_equal(first.masks, np.ones((2, 5, 1, 10, 12, 1)))
    assert np.abs(first.recon[:, -1] - first.recon[:, -2]).max() > 1e-4
    assert (
        np.abs(
            make(variant="rnn", num_slots=1, noise_everywhere=True)
            .forecast(clip, 3, seed=seed())
            .recon
            - first.recon
        ).max()
        > 1e-4
    )
    means = tf.constant([[[[[0.05], [0.11]]], [[[0.09], [0.0]]]]])
    np.testing.assert_array_equal(make().guess(means), [[[[0.0], [1.0]]]])


def test_rematerialised_gradients():
    """With noise, which the second pass must draw again."""
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
    """The update is eta times the gradient of the expected log-likelihood, so small ones never raise the BCE."""
    model = make(variant="nem", num_slots=2)
    image = clips(model.config)[:, 0]
    z = tf.constant(np.random.default_rng(0).normal(size=(2, 2, 6)).astype(np.float32))
    with tf.GradientTape() as tape:
        tape.watch(z)
        _, loss, _ = model.cell(image, (z,), seed(), LATER, 1, ())
        intra = loss - model.cell(image, (z,), seed(), LATER, 1, ())[2]["inter"]
    (after,), _, _ = model.cell(image, (z,), seed(), LATER, 1, ())
    np.testing.assert_allclose(
        after - z, -model.core.step_size * tape.gradient(intra, z), rtol=1e-3, atol=1e-5
    )

    model = make(variant="nem", num_slots=2)
    model.core.step_size.assign([[0.05]])
    memory, errors = (z[:, :1],), []
    for _ in range(6):
        memory, _, kept = model.cell(image, memory, seed(), LATER, 1, ())
        errors.append(kept["intra"].numpy())
    assert np.all(np.diff(errors, axis=0) < 0)


def test_bfloat16_is_close():
    model = make(spread=0.0)
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        low = make(spread=0.0)
    finally:
        keras.config.set_dtype_policy("float32")
    clip = clips(model.config)
    expected, got = model(clip, seed=seed(), training=True), low(clip, seed=seed(), training=True)
    assert all(w.dtype == "float32" for w in low.weights) and all(
        getattr(got, name).dtype == tf.float32 for name in FIELDS
    )
    np.testing.assert_allclose(
        got.loss_terms["weighted_loss"], expected.loss_terms["weighted_loss"], rtol=0.01
    )


@pytest.mark.slow
def test_learns_a_clip():
    """What is predicted is soon better than black frames."""
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
    assert np.mean(errors[-5:]) < 0.8 * 120 * -(
        rate * np.log(rate) + (1 - rate) * np.log(1 - rate)
    ), errors[::10]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"variant": "rnn"},
            "`model.num_slots` must be 1 where model.variant=rnn: one slot for the whole frame. Received: model.num_slots=5.",
        ),
        ({"num_slots": 1}, "`num_slots` must be at least 2. Received: num_slots=1."),
        (
            {"num_steps": 2},
            "`model.num_steps` must be 1: every frame is looked at once. Received: model.num_steps=2.",
        ),
        ({"num_frames": 1}, "`model.num_frames` must be"),
        ({"noise": 1.0}, r"`model.noise` must be in \[0, 1\). Received: model.noise=1.0."),
        ({"encoder_channels": (4, 0)}, "`model.encoder_channels` must be at least 1."),
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
            assert model_class.config_class().override(preset.model).warnings() == []
            for config, changes in (
                (TrainConfig, preset.train),
                (EvalConfig, preset.eval),
                (DataConfig, preset.data),
            ):
                config().override(changes)
    again = RnnEM.from_config(RnnEM(RnnEMConfig().override(TINY)).get_config())
    assert (
        again.config.variant == "rnn_em"
        and isinstance(again.core, RecurrentCore)
        and not isinstance(again.core, RelationalCore)
    )
