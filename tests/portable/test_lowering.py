"""Steps as programs: every model lowers, arrays are parameters, and only Philox draws numbers."""

import conformance
import numpy as np
import pytest
import tensorflow as tf

from tfobj.errors import UserError
from tfobj.portable import lowering
from tfobj.training.experiment import ExperimentConfig, TrainConfig, build_model
from tfobj.training.optimizer import WarmupDecay
from tfobj.training.schedule import WarmupDecaySchedule


def resting(model, stage):
    """Returns the predicate of names that a stage leaves alone.

    They are names of weights, and of the optimizer's state for them.
    """
    paths = {v.path for v in model.trainable_variables} - {
        v.path for v in model.trained_variables(stage)
    }
    return lambda name: any(name == path or path.replace("/", "_") in name for path in paths)


CASES = [
    pytest.param(case, id=case.id, marks=[pytest.mark.slow] if case.name else [])
    for case in conformance.MODELS
]


@pytest.mark.parametrize("case", CASES)
def test_every_model_is_lowered(case):
    experiment = ExperimentConfig(
        model_name=case.model, model=case.config, train=TrainConfig(batch_size=4, clip_norm=1.0)
    )
    step = lowering.lower_step(experiment)  # raises where an operation does not run everywhere
    model = build_model(experiment)
    params = step.manifest["params"]
    outputs = step.manifest["outputs"]

    assert [(p["name"], p["dtype"]) for p in params if p["kind"] == "input"] == [
        ("image", "uint8"),
        ("seed", "int32"),
        ("step", "int64"),
        ("learning_rate", "float32"),
    ]
    assert params[0]["shape"] == [4, *case.config.image_size, case.config.channels]
    assert not [p for p in params if p["kind"] == "const"]
    names = {p["name"] for p in params if p["kind"] == "state"}
    rests = resting(model, model.stages()[0][1])
    assert names == {name for name in step.state if not rests(name)}
    assert {v.path for v in model.weights if not rests(v.path)} <= names
    assert all(
        list(step.state[p["key"]].shape) == p["shape"]
        and str(step.state[p["key"]].dtype) == p["dtype"]
        for p in params
        if p["kind"] == "state"
    )

    written = {params[o["param"]]["name"] for o in outputs if o["kind"] == "state"}
    grids = {
        v.path for v in model.weights if v.path.endswith("/grid")
    }  # everything else changes, state that no gradient trains as well
    # Two decoders broadcast nothing.
    assert bool(grids) == (case.model != "factored_scenes" and case.id != "vae-conv")
    assert written == names - grids
    assert step.manifest["counter"] in written
    assert (
        {"loss", "grad_norm"}
        <= set(step.manifest["metrics"])
        == {o["name"] for o in outputs if o["kind"] == "metric"}
    )


def test_a_curriculum_has_a_program_for_each_number_of_refinements():
    case = next(case for case in conformance.MODELS if case.model == "efficient_morl")
    config = case.config.override({"num_steps": 1, "curriculum": ((10, 0),)})
    experiment = ExperimentConfig(
        model_name=case.model, model=config, train=TrainConfig(batch_size=2, steps=20)
    )
    first = lowering.lower_step(experiment)
    later = lowering.lower_step(experiment, from_step=10)
    assert (first.manifest["until_step"], later.manifest["until_step"]) == (10, None)
    assert first.state.keys() == later.state.keys()
    assert len(later.hlo) < len(first.hlo)


@pytest.mark.slow
def test_the_scene_phase_is_a_program_of_its_own():
    case = next(case for case in conformance.MODELS if case.model == "factored_scenes")
    experiment = ExperimentConfig(
        model_name=case.model,
        model=case.config.override({"scene_from_step": 10}),
        train=TrainConfig(batch_size=2, steps=20),
    )
    first = lowering.lower_step(experiment)
    later = lowering.lower_step(experiment, from_step=10)
    assert (first.manifest["until_step"], later.manifest["until_step"]) == (
        10,
        None,
    )
    assert first.state.keys() == later.state.keys()
    written = {
        later.manifest["params"][o["param"]]["name"]
        for o in later.manifest["outputs"]
        if o["kind"] == "state"
    }
    assert written - {later.manifest["counter"]}
    assert all("scene_prior" in name for name in written - {later.manifest["counter"]})


def lowered_text(function):
    return tf.function(function, jit_compile=True, autograph=False).experimental_get_compiler_ir(
        tf.TensorSpec([8], tf.float32)
    )(stage="hlo")


@pytest.mark.parametrize(
    "function, operation",
    [
        (lambda x: x + tf.random.normal([8]), "rng"),
        (
            lambda x: x + tf.random.stateless_uniform([8], [1, 2], alg="threefry"),
            "rng-bit-generator",
        ),
    ],
    ids=["stateful", "threefry"],
)
def test_other_random_numbers_are_refused(function, operation):
    with pytest.raises(
        UserError, match=f"Received: `{operation}`, random numbers of another algorithm than Philox"
    ):
        lowering.check_runs_everywhere(lowered_text(function))


def test_philox_is_accepted():
    lowering.check_runs_everywhere(
        lowered_text(lambda x: x + tf.random.stateless_uniform([8], [1, 2], alg="philox"))
    )


def test_custom_calls_are_refused():
    line = (
        "  %custom-call.3 = f32[4,4]{1,0} custom-call(f32[4,4]{1,0} %p), "
        'custom_call_target="lapack"'
    )
    with pytest.raises(
        UserError,
        match="Received: `custom-call`, an operation of one device or host, in: %custom-call.3",
    ):
        lowering.check_runs_everywhere(f"HloModule m\n{line}\n")


@pytest.mark.parametrize(
    "settings",
    [
        (4e-4, 10_000, 0.5, 100_000),
        (5e-4, 1_000, 1.0, 1, 24_000, 24_000),
        (3e-4,),
        (1e-3, 8, 0.9, 7, 5, 20),
        (1e-3, 8, 0.5, 100, 0, 0, 10),
    ],
)
def test_the_host_computes_the_rate_of_the_graph(settings):
    host = WarmupDecaySchedule(*settings)
    graph = WarmupDecay(*settings)
    for step in (0, 1, 7, 19, 20, 999, 12_345, 24_000, 500_000):
        np.testing.assert_allclose(
            host.at(step), graph(tf.constant(step, tf.int64)), rtol=1e-5, atol=1e-12
        )


def test_step_starts_from_a_checkpoint_and_refuses_an_empty_run(tmp_path):
    case = conformance.MODELS[0]
    experiment = ExperimentConfig(
        model_name=case.model, model=case.config, train=TrainConfig(batch_size=4)
    )
    with pytest.raises(UserError, match="has no checkpoint to start from"):
        lowering.lower_step(experiment, tmp_path)
