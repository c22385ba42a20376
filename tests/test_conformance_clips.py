"""Every video model through a battery like that of `test_conformance.py`, and the laws of frames.

Those are streams, forecasts, and causality.
"""

import json

import numpy as np
import pytest
import tensorflow as tf
from conformance import (
    BATCH,
    CLIP_MODELS,
    assert_same_outputs,
    build,
    cosine,
    flat,
    gradients,
    graph_of,
    image_like,
    model_of,
    outputs_of,
    scenes,
    seed,
    slow_if_named,
    training_pass,
    updates,
    whole_run,
)

from tfobj import execution, random
from tfobj.errors import UserError
from tfobj.execution import Execution
from tfobj.structs import check_outputs

each_model = pytest.mark.parametrize("case", slow_if_named(CLIP_MODELS), ids=lambda c: c.id)
FRAMES = 3


def run(model, clip, first_scene=0, **kwargs):
    """Returns the outputs of a graph: eager loops take minutes."""
    function = tf.function(
        lambda x: model(x, seed=seed(first_scene=first_scene), **kwargs), autograph=False
    )
    return function(tf.constant(clip))


@each_model
def test_contract(case):
    config = case.config
    model = model_of(case)
    clip = scenes(config)
    outputs = outputs_of(case)
    check_outputs(outputs, clip)
    assert outputs.masks.shape[:3] == (BATCH, FRAMES, config.num_slots)
    assert outputs.slots.shape[:3] == (BATCH, FRAMES, config.num_slots)
    assert outputs.slots.shape[-1] == model.slot_size
    assert max(stop for _, stop in model.slot_parts().values()) == model.slot_size

    ones = np.ones((BATCH, FRAMES, *config.image_size, 1))
    recon = tf.reduce_sum(outputs.masks * outputs.slot_recons, 2)
    mse = np.mean((clip - outputs.recon) ** 2, (1, 2, 3, 4))
    np.testing.assert_allclose(tf.reduce_sum(outputs.masks, 2), ones, atol=1e-5)
    np.testing.assert_allclose(recon, outputs.recon, atol=1e-5)
    np.testing.assert_allclose(outputs.loss_terms["mse"], mse, rtol=1e-4)


@each_model
def test_configuration_round_trip(case):
    config = case.config
    model = model_of(case)
    assert type(config).from_dict(json.loads(json.dumps(config.to_dict()))) == config
    again = type(model).from_config(json.loads(json.dumps(model.get_config())))
    assert again.config == model.config
    assert [w.shape for w in again.weights] == [w.shape for w in model.weights]


@each_model
def test_wrong_calls_are_refused(case):
    config = case.config
    message = r"`image` must have shape \[B, T, 10, 12, 3\]. Received: \(2, 10, 12, 3\)."
    with pytest.raises(ValueError, match=message):
        model_of(case)(tf.zeros([2, 10, 12, 3]))
    for changes in ({"num_frames": 0}, {"curriculum": ((5, 0),)}, {"curriculum": ((5, 4), (5, 6))}):
        with pytest.raises(UserError, match=f"`model.{next(iter(changes))}` must be"):
            config.override(changes)


@each_model
def test_training_pass(case):
    """Training unrolls the loop of evaluation, and every weight learns."""
    clip = scenes(case.config)
    if "nem" in case.model:
        # It adds noise to the frames that it trains on.
        model = build(case, noise=0.0)
        outputs, terms, grads = gradients(model, clip, compiled=False)
        evaluated = run(model, clip)
    else:
        model = model_of(case)
        outputs, terms, grads = training_pass(case)
        evaluated = outputs_of(case)
    assert_same_outputs(evaluated, outputs, 1e-5)
    loss = tf.reduce_mean(evaluated.loss_terms["weighted_loss"])
    np.testing.assert_allclose(loss, terms["loss"], rtol=1e-5)

    assert np.isfinite(flat(grads)).all()
    by_path = {v.path: g for v, g in zip(model.trainable_variables, grads, strict=True)}
    assert not [path for path, g in by_path.items() if not np.abs(g).max()]

    # A loop that recomputes activations has the same gradients.
    with execution.using(Execution(rematerialise=True)):
        _, again_terms, again = gradients(model, clip, compiled=False)
    np.testing.assert_allclose(again_terms["loss"], terms["loss"], rtol=1e-5)
    assert np.abs(flat(again) - flat(grads)).max() < 1e-4 * np.abs(flat(grads)).max()


@pytest.mark.slow
@each_model
def test_xla_agrees(case):
    model = build(case)
    clip = scenes(case.config)
    outputs, terms, grads = gradients(model, clip, compiled=False)
    got_outputs, got_terms, got = gradients(model, clip, compiled=True)
    assert_same_outputs(got_outputs, outputs, 1e-3)
    np.testing.assert_allclose(got_terms["loss"], terms["loss"], rtol=1e-3)
    assert np.abs(flat(got) - flat(grads)).max() < 5e-3 * np.abs(flat(grads)).max()


@each_model
def test_bfloat16_is_close(case):
    low = build(case, policy="mixed_bfloat16")
    low.set_weights(model_of(case).get_weights())
    _, terms, grads = training_pass(case)
    low_outputs, low_terms, low_grads = gradients(low, scenes(case.config), compiled=False)

    assert all(w.dtype == "float32" for w in low.weights)
    assert all(x.dtype == tf.float32 for x in (*low_outputs[:4], *low_grads))
    np.testing.assert_allclose(low_terms["loss"], terms["loss"], rtol=0.01)
    assert cosine(low_grads, grads) > 0.99


@each_model
def test_stream_equals_batch(case):
    model = model_of(case)
    clip = scenes(case.config)
    outputs = outputs_of(case)
    observe = tf.function(lambda state, frame: model.observe(state, frame), autograph=False)
    state = model.initial_state(BATCH, seed=seed())
    assert len(state.memory) == len(model.memory_names())

    for t in range(FRAMES):
        state, frame = observe(state, tf.constant(clip[:, t]))
        for name in ("recon", "masks", "slot_recons", "slots"):
            expected = getattr(outputs, name)[:, t]
            np.testing.assert_allclose(
                getattr(frame, name), expected, atol=1e-6, rtol=1e-6, err_msg=name
            )
    assert int(state.frame) == FRAMES


@each_model
def test_forecast(case):
    """Equal to the outputs for observed frames, and to a stream that imagines for later ones."""
    model = model_of(case)
    clip = scenes(case.config)
    forecast = tf.function(lambda x: model.forecast(x, 2, seed=seed()), autograph=False)
    outputs = forecast(tf.constant(clip[:, :2]))
    assert outputs.recon.shape[:2] == (BATCH, 4) and outputs.masks.shape[:3] == (BATCH, 4, 3)
    ones = np.ones(outputs.recon.shape[:-1] + (1,))
    np.testing.assert_allclose(tf.reduce_sum(outputs.masks, 2), ones, atol=1e-5)
    np.testing.assert_allclose(outputs.recon[:, :2], outputs_of(case).recon[:, :2], atol=1e-5)

    state = model.initial_state(BATCH, seed=seed())
    for t in range(2):
        state, _ = model.observe(state, tf.constant(clip[:, t]))
    for t in range(2, 4):
        state, frame = model.imagine(state)
        np.testing.assert_allclose(frame.recon, outputs.recon[:, t], atol=1e-5)


@each_model
def test_the_future_does_not_change_the_past(case):
    changed = scenes(case.config)
    changed[:, 1] = 1.0 - changed[:, 1]
    before = outputs_of(case)
    after = graph_of(case)(tf.constant(changed))
    np.testing.assert_array_equal(before.recon[:, 0], after.recon[:, 0])
    assert not np.allclose(before.masks[:, 2], after.masks[:, 2], atol=1e-7)


@each_model
def test_scenes_of_a_batch_do_not_see_each_other(case):
    together = image_like(outputs_of(case))
    alone = image_like(run(model_of(case), scenes(case.config)[2:3], first_scene=2))
    for name, value in alone.items():
        np.testing.assert_allclose(
            together[name][2:3], value, atol=2e-5 * (1 + np.abs(value).max()), err_msg=name
        )


@each_model
def test_permuted_noise_permutes_the_slots(case, monkeypatch):
    order = np.array([2, 0, 1])
    normal = random.normal

    def permuted(*args, **kwargs):
        return tf.gather(normal(*args, **kwargs), order, axis=1)

    before = outputs_of(case)
    monkeypatch.setattr(random, "normal", permuted)
    after = run(model_of(case), scenes(case.config))
    np.testing.assert_allclose(after.masks, tf.gather(before.masks, order, axis=2), atol=1e-4)
    np.testing.assert_allclose(after.recon, before.recon, atol=1e-4)


@each_model
def test_equal_noise_gives_equal_slots(case, monkeypatch):
    normal = random.normal

    def repeated(*args, **kwargs):
        return tf.repeat(normal(*args, **kwargs)[:, :1], 3, axis=1)

    monkeypatch.setattr(random, "normal", repeated)
    masks = run(model_of(case), scenes(case.config)).masks
    np.testing.assert_allclose(masks, np.full(masks.shape, 1 / 3), atol=1e-5)


@each_model
def test_one_graph_for_all_clips_and_slots(case):
    config = case.config
    model = model_of(case)
    clips = tf.TensorSpec([None, None, *config.image_size, config.channels])
    infer = tf.function(
        lambda x, k: model(x, num_slots=k, seed=seed()).masks,
        input_signature=[clips, tf.TensorSpec([], tf.int32)],
        autograph=False,
    )

    for batch, frames, num_slots in ((2, 3, 3), (1, 2, 5)):
        clip = scenes(config, batch)[:, :frames]
        expected = run(model, clip, num_slots=num_slots).masks
        np.testing.assert_allclose(infer(clip, num_slots), expected, atol=1e-4)


@pytest.mark.parametrize("case", [c for c in CLIP_MODELS if not c.name], ids=lambda c: c.id)
def test_two_replicas_with_every_dial_equal_one_without(case, two_replicas):
    whole = whole_run(case).weights_halfway
    parts, _ = updates(case, two_replicas, Execution(rematerialise=True), micro_batches=2)
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_allclose(b, a, atol=2e-5, rtol=1e-5)


@each_model
def test_saved_weights_are_the_same(case, tmp_path):
    model = model_of(case)
    model.save_weights(tmp_path / "model.weights.h5")
    again = type(model)(case.config)
    again.load_weights(tmp_path / "model.weights.h5")
    for a, b in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    recon = run(again, scenes(case.config)).recon
    np.testing.assert_array_equal(recon, outputs_of(case).recon)
