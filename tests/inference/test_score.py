"""One decoder backward per refinement step equals two, where nothing else reaches the decoder."""

import conformance
import numpy as np
import pytest
import tensorflow as tf

from tfobj.bench.flops import count_flops
from tfobj.inference.refinement_settings import DECODED, RefinementInputsConfig

CASES = [case for case in conformance.MODELS if case.model == "iodine"]


def stopped(case, **overrides):
    return conformance.build(case, **{"inputs.stop_gradient": DECODED}, **overrides)


def naive(monkeypatch):
    monkeypatch.setattr(RefinementInputsConfig, "decoder_is_stopped", lambda self: False)


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.id)
def plain(request):
    """Returns (model, image, loss terms and gradients of the plain unroll in eager mode)."""
    model = stopped(request.param, num_steps=3)
    image = conformance.scenes(request.param.config)
    with pytest.MonkeyPatch.context() as patch:
        naive(patch)
        _, terms, gradients = conformance.gradients(model, image, compiled=None)
    return model, image, terms, gradients


@pytest.mark.parametrize(
    "compiled",
    [None, False, pytest.param(True, marks=pytest.mark.slow)],
    ids=["eager", "graph", "xla"],
)
def test_equals_the_plain_unroll(plain, compiled):
    model, image, expected_terms, twice = plain
    _, terms, once = conformance.gradients(model, image, compiled=compiled)

    for name, value in expected_terms.items():
        np.testing.assert_allclose(terms[name], value, rtol=1e-5, err_msg=name)
    scale = np.abs(conformance.flat(twice)).max()
    for variable, a, b in zip(model.trainable_variables, once, twice, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5 * scale, err_msg=variable.path)


def test_saves_a_pass_of_the_decoder_per_refinement(monkeypatch):
    """Counted on the training graph: 3 (R + 1) decoder passes instead of 4 R + 3."""
    model = stopped(
        CASES[0],
        num_steps=3,
        decoder_channels=(16, 16, 16),
        image_size=(16, 16),
        refinement_channels=(1,),
    )
    image = tf.constant(conformance.scenes(model.config))

    def flops():
        step = tf.function(
            lambda image: model.loss_and_gradients(
                {"image": image}, conformance.seed(), tf.constant(0, tf.int64)
            )[1:]
        )
        return count_flops(step.get_concrete_function(image))

    once = flops()
    naive(monkeypatch)
    assert once / flops() == pytest.approx(12 / 15, rel=0.03)


def test_gradients_that_flow_back_are_kept():
    """IODINE's published inputs are not all stopped; the decoder reaches the loss through them."""
    case = CASES[0]
    image = conformance.scenes(case.config)
    flowing = conformance.build(case)
    cut = stopped(case)
    a, b = (conformance.flat(conformance.gradients(model, image)[2]) for model in (flowing, cut))
    assert np.abs(a - b).max() > 1e-3 * np.abs(a).max()
