"""Every model through one battery: contract, laws, engines, precision, replicas, saving, export."""

import json

import conformance
import keras
import numpy as np
import pytest
import tensorflow as tf
from conformance import (
    BATCH,
    MODELS,
    assert_same_outputs,
    build,
    cosine,
    flat,
    gradients,
    image_like,
    model_of,
    outputs_of,
    scenes,
    seed,
    slow_if_named,
    training_pass,
)

from tfobj import random
from tfobj.errors import UserError
from tfobj.nn.batch_norm import BatchNorm
from tfobj.nn.gated_conv import GatedConv2D
from tfobj.structs import check_outputs

ENGINE_TOLERANCE = 1e-4
"""Outputs of order 1: noise differs by up to 3e-5 between engines, and sums by their order."""
GRADIENT_TOLERANCE = 2e-3
"""The same for gradients, relative to the largest entry of the whole gradient."""

each_model = pytest.mark.parametrize("case", MODELS, ids=lambda c: c.id)
each_model_compiled = pytest.mark.parametrize("case", slow_if_named(MODELS), ids=lambda c: c.id)
with_exchangeable_slots = pytest.mark.parametrize(
    "case",
    [c for c in MODELS if conformance.registry.model_class(c.model).slots_are_exchangeable],
    ids=lambda c: c.id,
)
with_free_slots = pytest.mark.parametrize(
    "case",
    slow_if_named(
        c for c in MODELS if not conformance.registry.model_class(c.model).slots_are_fixed
    ),
    ids=lambda c: c.id,
)


@each_model
def test_config_round_trip(case):
    config = case.config
    assert type(config).from_dict(json.loads(json.dumps(config.to_dict()))) == config


@each_model
def test_contract(case):
    model = model_of(case)
    image = scenes(case.config)
    outputs = outputs_of(case)
    check_outputs(outputs, image)
    assert (
        outputs.masks.shape[:2] == (BATCH, case.config.num_slots) == tuple(outputs.slots.shape[:2])
    )
    np.testing.assert_allclose(
        tf.reduce_sum(outputs.masks, 1), np.ones((BATCH, *case.config.image_size, 1)), atol=1e-5
    )
    np.testing.assert_allclose(
        tf.reduce_sum(outputs.masks * outputs.slot_recons, 1), outputs.recon, atol=1e-5
    )
    np.testing.assert_allclose(
        outputs.loss_terms["mse"], np.mean((image - outputs.recon) ** 2, (1, 2, 3)), rtol=1e-4
    )
    loss, terms = model.objective(outputs, tf.constant(0, tf.int64))
    assert loss.shape == () and all(t.shape == () for t in terms.values()) and np.isfinite(loss)
    assert model.count_trainable() == sum(int(np.prod(w.shape)) for w in model.trainable_weights)


@each_model
def test_every_weight_gets_a_gradient(case):
    model = model_of(case)
    alive = set()
    for start, stage in model.stages():
        _, terms, grads = gradients(model, scenes(case.config), step=start, stage=stage)
        assert (
            set(terms) >= {"loss", "mse"}
            and all(np.isfinite(t) for t in terms.values())
            and np.isfinite(flat(grads)).all()
        )
        alive |= {
            v.path
            for v, g in zip(model.trained_variables(stage), grads, strict=True)
            if np.abs(g).max() > 0
        }
    # The mean of the batch takes such biases away again.
    before_norms = {
        layer.convolution.bias.path
        for layer in model._flatten_layers()
        if isinstance(layer, GatedConv2D) and isinstance(layer.norm, BatchNorm)
    }
    assert {v.path for v in model.trainable_variables} - alive == before_norms


@each_model
def test_decoding_the_slots_again(case):
    """`decode` renders what `call` rendered: equal without sampled latents, in shape with them."""
    model = model_of(case)
    outputs = outputs_of(case)
    scene = model.decode(outputs.slots)
    assert [tuple(x.shape) for x in scene] == [
        tuple(x.shape) for x in (outputs.recon, outputs.masks, outputs.slot_recons)
    ]
    if not model.has_prior:
        np.testing.assert_allclose(scene.recon, outputs.recon, atol=1e-5)


@each_model
def test_prior_samples(case):
    model = model_of(case)
    if not model.has_prior:
        with pytest.raises(
            NotImplementedError, match=f"{type(model).__name__} has no prior to sample from."
        ):
            model.sample(2, seed())
        return
    num_slots = case.config.num_slots if model.slots_are_fixed else 5
    scene = model.sample(3, seed(), num_slots=num_slots)
    assert (
        scene.recon.shape == (3, *case.config.image_size, case.config.channels)
        and scene.masks.shape[1] == num_slots
    )
    np.testing.assert_allclose(
        tf.reduce_sum(scene.masks, 1), np.ones((3, *case.config.image_size, 1)), atol=1e-5
    )
    np.testing.assert_array_equal(model.sample(3, seed(), num_slots=num_slots).recon, scene.recon)
    assert not np.array_equal(model.sample(3, seed(step=6), num_slots=num_slots).recon, scene.recon)


@each_model
def test_wrong_calls_are_refused(case):
    model = model_of(case)
    config = case.config
    height, width = config.image_size
    with pytest.raises(
        ValueError,
        match=rf"`image` must have shape \[B, {height}, {width}, 3\]. "
        rf"Received: \(2, {width}, {height}, 3\).",
    ):
        model(tf.zeros([2, width, height, 3]))
    few_steps, few_slots = config.minimum_steps - 1, config.minimum_slots - 1
    with pytest.raises(
        UserError,
        match=f"`num_steps` must be at least {few_steps + 1}. Received: num_steps={few_steps}.",
    ):
        model(scenes(config), num_steps=few_steps)
    with pytest.raises(ValueError, match="`num_slots` "):
        model(scenes(config), num_slots=few_slots)
    for changes in (
        {"num_steps": few_steps},
        {"num_slots": few_slots},
        {"channels": 2},
        {"image_size": (0, 4)},
    ):
        with pytest.raises(UserError, match=f"`(model.)?{next(iter(changes))}` must be"):
            config.override(changes)


@each_model
def test_grey_pictures_and_another_size(case):
    model = build(case, channels=1, image_size=case.another_size)
    image = scenes(model.config)
    check_outputs(model(image), image)


QUICK_TO_COMPILE = ("slot_attention", "slot_mlp", "iodine", "vae")
"""XLA takes ten to twenty seconds for the gradients of each other model: slow tests."""


def engines():
    """Returns parameters: every case as graph, and by XLA."""
    for case in MODELS:
        yield pytest.param(case, False, marks=[pytest.mark.slow] if case.name else [])
        slow = case.name or case.model not in QUICK_TO_COMPILE
        yield pytest.param(case, True, marks=[pytest.mark.slow] if slow else [])


def id_of(value):
    """Returns the name of a case or an engine."""
    if isinstance(value, bool):
        return "xla" if value else "graph"
    return value.id


@pytest.mark.parametrize(("case", "xla"), list(engines()), ids=id_of)
def test_engines_agree(case, xla):
    outputs, terms, grads = training_pass(case)
    got_outputs, got_terms, got_grads = gradients(model_of(case), scenes(case.config), compiled=xla)
    assert_same_outputs(got_outputs, outputs, ENGINE_TOLERANCE)
    for name, value in terms.items():
        np.testing.assert_allclose(got_terms[name], value, rtol=1e-3, atol=1e-5, err_msg=name)
    assert (
        np.abs(flat(got_grads) - flat(grads)).max() < GRADIENT_TOLERANCE * np.abs(flat(grads)).max()
    )


@each_model
def test_bfloat16_is_close(case):
    """With equal weights: loss within 1 %, gradient cosine above 0.999, all results float32."""
    low = build(case, policy="mixed_bfloat16")
    low.set_weights(model_of(case).get_weights())
    _, terms, grads = training_pass(case)
    low_outputs, low_terms, low_grads = gradients(low, scenes(case.config))
    assert all(w.dtype == "float32" for w in low.weights) and all(
        g.dtype == tf.float32 for g in low_grads
    )
    assert all(x.dtype == tf.float32 for x in low_outputs[:4])
    np.testing.assert_allclose(low_terms["loss"], terms["loss"], rtol=0.01)
    assert cosine(low_grads, grads) > 0.999


@each_model
def test_scenes_of_a_batch_do_not_see_each_other(case):
    model = model_of(case)
    image = scenes(case.config)
    together = image_like(outputs_of(case))
    for b in (0, 2):
        alone = image_like(model(image[b : b + 1], seed=seed(first_scene=b)))
        for name, value in alone.items():
            np.testing.assert_allclose(
                together[name][b : b + 1],
                value,
                atol=2e-5 * (1 + np.abs(value).max()),
                err_msg=name,
            )


def permutation_error(case, monkeypatch):
    """Returns how far permuted outputs are from those of permuted noise; likewise the losses."""
    order = np.array([2, 0, 1])
    before, terms, _ = training_pass(case)
    draw = random.normal
    monkeypatch.setattr(
        random, "normal", lambda *args, **kwargs: tf.gather(draw(*args, **kwargs), order, axis=1)
    )
    after, permuted_terms, _ = gradients(model_of(case), scenes(case.config))
    fields = image_like(before)
    errors = [
        np.abs(image_like(after)[name] - value[:, order]).max() / (1 + np.abs(value).max())
        for name, value in fields.items()
        if name != "recon"
    ]
    errors.append(np.abs(fields["recon"] - image_like(after)["recon"]).max())
    return max(errors), abs(float(terms["loss"] / permuted_terms["loss"]) - 1)


@with_exchangeable_slots
def test_permuted_noise_permutes_the_slots(case, monkeypatch):
    error, loss_error = permutation_error(case, monkeypatch)
    assert error < 1e-4 and loss_error < 1e-5


def test_ordered_slots_fail_the_permutation_law(monkeypatch):
    """Slot MLP binds slots to places: the test above must be able to tell."""
    case = next(c for c in MODELS if c.model == "slot_mlp")
    error, _ = permutation_error(case, monkeypatch)
    assert error > 0.01


@with_exchangeable_slots
def test_slots_differ_by_their_noise_only(case, monkeypatch):
    draw = random.normal
    monkeypatch.setattr(
        random, "normal", lambda *args, **kwargs: tf.repeat(draw(*args, **kwargs)[:, :1], 3, axis=1)
    )
    masks = model_of(case)(scenes(case.config), seed=seed()).masks
    np.testing.assert_allclose(masks, np.full(masks.shape, 1 / 3), atol=1e-5)


@with_free_slots
def test_slots_and_steps_change_at_call_time(case):
    model = model_of(case)
    image = scenes(case.config)
    count = len(model.weights)
    changes = {
        "num_slots": 5,
        **({"num_steps": case.config.num_steps + 1} if model.has_steps else {}),
    }
    outputs = model(image, seed=seed(), **changes)
    check_outputs(outputs, image)
    assert outputs.masks.shape[1] == 5 and len(model.weights) == count
    another = build(case, **changes)
    assert_same_outputs(another(image, seed=seed()), outputs, 1e-6)


@with_free_slots
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_slots_and_steps_as_inputs_of_a_graph(case, policy):
    """What a served model does: one trace for any B, K and R."""
    model = build(case, policy=policy)
    config = case.config
    signature = [
        tf.TensorSpec([None, *config.image_size, config.channels]),
        tf.TensorSpec([], tf.int32),
        tf.TensorSpec([], tf.int32),
    ]

    @tf.function(input_signature=signature)
    def infer(image, num_slots, num_steps):
        outputs = model(image, num_slots=num_slots, num_steps=num_steps, seed=seed())
        return {name: getattr(outputs, name) for name in ("recon", "masks", "slot_recons", "slots")}

    for batch, num_slots, num_steps in ((2, 3, 1), (3, 4, 3)):
        num_steps = num_steps if model.has_steps else config.num_steps
        image = scenes(config, batch)
        got = infer(image, num_slots, num_steps)
        expected = model(image, num_slots=num_slots, num_steps=num_steps, seed=seed())
        for name, value in image_like(expected).items():
            tolerance = (1e-4 if policy == "float32" else 0.05) * (1 + np.abs(value).max())
            np.testing.assert_allclose(got[name], value, atol=tolerance, err_msg=name)


@each_model
def test_seed_decides(case):
    model = model_of(case)
    image = scenes(case.config)
    first = outputs_of(case).masks
    again = model(image, seed=seed()).masks
    np.testing.assert_array_equal(first, again)
    if model.slots_are_exchangeable:
        assert not np.allclose(model(image, seed=seed(run=1)).masks, first)
    elif model.has_prior:
        # The masks of MONet are not random, its latents are; factored scenes sample in training.
        assert not np.array_equal(
            model(image, seed=seed(run=1), training=True).slot_recons,
            model(image, seed=seed(), training=True).slot_recons,
        )


@each_model
def test_keras_config_round_trip(case):
    model = model_of(case)
    again = type(model).from_config(json.loads(json.dumps(model.get_config())))
    assert again.config == model.config and [w.shape for w in again.weights] == [
        w.shape for w in model.weights
    ]


@each_model_compiled
@pytest.mark.parametrize("suffix", ["keras", "weights.h5"])
def test_saved_model_is_the_same(case, suffix, tmp_path):
    model = model_of(case)
    image = scenes(case.config)
    path = tmp_path / f"model.{suffix}"
    if suffix == "keras":
        model.save(path)
        again = keras.models.load_model(path)
    else:
        model.save_weights(path)
        keras.utils.set_random_seed(99)
        again = type(model)(case.config)
        assert any(
            not np.array_equal(a, b)
            for a, b in zip(model.get_weights(), again.get_weights(), strict=True)
        )
        again.load_weights(path)
    for a, b, variable in zip(model.get_weights(), again.get_weights(), model.weights, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=variable.path)
    np.testing.assert_array_equal(again(image, seed=seed()).recon, outputs_of(case).recon)
