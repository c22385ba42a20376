"""A checkpoint holds every weight of every model: once, layers in lists were left out silently."""

import json

import conformance
import numpy as np
import pytest
import tensorflow as tf

import tfobj
from tfobj import registry
from tfobj.training.checkpoint import RunState, load_run
from tfobj.training.experiment import build_model, resolve
from tfobj.training.optimizer import make_optimizer


@pytest.mark.parametrize("case", conformance.MODELS, ids=lambda case: case.id)
def test_every_weight_and_the_optimizer_come_back(case, tmp_path):
    dataset = next(
        dataset for preset, dataset in registry.model_presets(case.model) if preset == "paper"
    )
    experiment = resolve(
        case.model,
        dataset,
        overrides={f"model.{name}": value for name, value in case.overrides.items()},
    )
    (tmp_path / "config.json").write_text(json.dumps(experiment.to_dict()))
    model = build_model(experiment)
    optimizer = make_optimizer(experiment.train)
    optimizer.build(model.trainable_variables)
    rng = np.random.default_rng(0)
    expected = {}
    for variable in [*model.weights, *optimizer.variables]:
        if tf.as_dtype(variable.dtype).is_floating:
            variable.assign(rng.standard_normal(variable.shape))
        expected[variable.path] = variable.numpy()
    optimizer.iterations.assign(7)
    RunState(tmp_path, model, optimizer, keep=2).save()

    loaded = load_run(tmp_path)
    assert loaded.step == 7
    for variable in loaded.model.weights:
        np.testing.assert_array_equal(
            variable.numpy(), expected[variable.path], err_msg=variable.path
        )
    again = build_model(experiment)
    fresh = make_optimizer(experiment.train)
    fresh.build(again.trainable_variables)
    assert RunState(tmp_path, again, fresh, keep=2).restore() == 7
    for variable in [*again.weights, *fresh.variables]:
        if variable.path != optimizer.iterations.path:
            np.testing.assert_array_equal(
                variable.numpy(), expected[variable.path], err_msg=variable.path
            )


def test_a_run_answers_from_numpy_like_its_keras_model(finished_run, scenes):
    """`tfobj.load` takes its folder like that of an exported model."""
    loaded = tfobj.load(finished_run)
    model = tfobj.load_run(finished_run).model
    images = scenes.image[:3]

    result = loaded.decompose(images)
    expected = model.predict(images, verbose=0)
    np.testing.assert_allclose(result.masks, expected.masks, atol=1e-5)
    np.testing.assert_array_equal(result.segmentation, expected.masks[..., 0].argmax(1))
    np.testing.assert_allclose(loaded.decode(result.slots).recon, result.recon, atol=1e-5)
    assert repr(loaded).startswith("<run: SlotAttentionAutoencoder, images of 10x12x3, ")
