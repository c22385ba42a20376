"""Which figures an evaluation draws for which model; they reach the folder and the report."""

import types

import numpy as np
import pytest
import tensorflow as tf

from tfobj.data.packed import SceneArrays
from tfobj.metrics.scores import SceneScorer
from tfobj.structs import SceneOutputs
from tfobj.training.evaluation import Evaluator
from tfobj.viz import evaluation_figures

IODINE = {
    "model.image_size": (10, 12),
    "model.num_slots": 3,
    "model.num_steps": 2,
    "model.latent_size": 4,
    "model.decoder_channels": (6,),
    "model.decoder_kernel": 3,
    "model.refinement_channels": (6,),
    "model.refinement_kernel": 3,
    "model.refinement_mlp": (8,),
}


@pytest.fixture
def scenes():
    rng = np.random.default_rng(0)
    return SceneArrays(
        rng.integers(0, 256, (5, 10, 12, 3), dtype=np.uint8),
        rng.integers(0, 3, (5, 10, 12), dtype=np.uint8),
        num_objects=2,
    )


class StickBreaker:
    """A model that takes the upper half in the first step and leaves the rest.

    It has neither prior nor refinement steps.
    """

    has_prior = has_steps = False
    config = None

    def __call__(self, image, **kwargs):
        image = tf.convert_to_tensor(image)
        upper = tf.cast(tf.range(10) < 5, tf.float32)[None, :, None, None]
        masks = tf.stack([upper, 1 - upper], 1) * tf.ones_like(image)[:, None, ..., :1]
        slot_recons = tf.stack([image, image * 0], 1)
        history = {
            "scopes": tf.stack([tf.ones_like(masks[:, 0]), masks[:, 1]], 1),
            "stick_masks": masks,
        }
        return SceneOutputs(
            image, masks, slot_recons, tf.zeros([image.shape[0], 2, 4]), history=history
        )


def draw(tmp_path, model, scenes):
    """Draws; returns (names of the figures, text of the report)."""
    from tfobj.training.experiment import resolve

    scorer = SceneScorer()
    evaluator = Evaluator(model, 3)
    for row in range(len(scenes)):
        image = scenes.image[row : row + 1].astype(np.float32) / 255
        outputs = evaluator.forward(image, row)
        scorer.update(
            image=image,
            recon=outputs.recon.numpy(),
            masks=outputs.masks.numpy(),
            true_mask=scenes.mask[row : row + 1],
        )
    facts = {"model": "tiny", "step": 7, "protocol": "noise", "num_slots": 3}
    evaluation_figures.draw(
        tmp_path,
        "test",
        "",
        evaluator,
        scenes,
        scorer.table(),
        scorer.summary(),
        facts,
        resolve("iodine", "tetris"),
        2,
    )
    return {path.name for path in (tmp_path / "figures").iterdir()}, (
        tmp_path / "report.html"
    ).read_text()


def test_a_model_with_refinement_and_a_prior(tmp_path, scenes):
    from tfobj.training.experiment import build_model, resolve

    model = build_model(resolve("iodine", "tetris", overrides=IODINE))
    names, page = draw(tmp_path, model, scenes)
    assert names == {
        "decomposition_test.png",
        "refinement_test.png",
        "traversal_test.png",
        "samples_test.png",
    }
    assert "Refinement of the first scene." in page
    assert "The most informative latents of one slot of the first scene." in page
    assert "16 scenes drawn from the prior." in page and "complete objects" not in page


def test_a_model_that_breaks_sticks(tmp_path, scenes):
    names, page = draw(tmp_path, StickBreaker(), scenes)
    assert names == {"decomposition_test.png", "stick_breaking_test.png"}
    assert "How the first scenes are decomposed slot by slot." in page
    assert "Refinement" not in page


class Painter:
    """Knows a square that lies behind another one; the last slot is the background."""

    has_prior = has_steps = False
    config = None
    background_slot = -1

    def __call__(self, image, **kwargs):
        import painted_scenes as painted

        slots = np.stack([np.array(painted.two_scenes()[0])] * image.shape[0])
        height, width = image.shape[1:3]
        found = painted.decode(slots)

        def framed(x):
            return tf.pad(
                tf.constant(x[..., :height, :width, :]),
                [[0, 0]] * (len(x.shape) - 3) + [[0, height - 9], [0, 0], [0, 0]],
            )

        masks = tf.concat(
            [
                framed(found.masks)[:, :-1],
                1 - tf.reduce_sum(framed(found.masks)[:, :-1], 1, keepdims=True),
            ],
            1,
        )
        depths = tf.constant(painted.LAYOUT.depths(slots), tf.float32)
        return SceneOutputs(
            tf.convert_to_tensor(image),
            masks,
            framed(found.slot_recons),
            tf.constant(slots),
            amodal_masks=framed(painted.place(slots)),
            depths=depths,
            positions=tf.constant(np.nan_to_num(painted.LAYOUT.positions(slots)), tf.float32),
        )


def test_a_model_with_depths(tmp_path, scenes, monkeypatch):
    drawn = {}
    layers_figure = evaluation_figures.layers_figure

    def drawing(**arguments):
        drawn.update(arguments)
        return layers_figure(**arguments)

    monkeypatch.setattr(evaluation_figures, "layers_figure", drawing)
    names, page = draw(tmp_path, Painter(), scenes)
    assert names == {"decomposition_test.png", "layers_test.png"}
    assert (
        "The complete objects of the first scenes, hidden parts included, from near to far." in page
    )
    assert drawn["amodal_masks"].shape == (2, 4, 10, 12, 1)
    assert drawn["depths"].shape == (2, 4)
    assert drawn["positions"].shape == (2, 4, 2)
    assert drawn["background"] == -1
    assert drawn["amodal_masks"][0, 1].sum() > drawn["masks"][0, 1].sum()
    np.testing.assert_array_equal(drawn["true_mask"], scenes.mask[:2])


def test_steps_of_stick_breaking_are_those_of_the_scored_scenes(scenes):
    image = scenes.image[:2].astype(np.float32) / 255
    steps = evaluation_figures.stick_breaking_steps(Evaluator(StickBreaker(), 3), image)
    np.testing.assert_array_equal(steps["image"], image)
    assert steps["scopes"].shape == steps["masks"].shape == (2, 2, 10, 12, 1)
    assert steps["slot_recons"].shape == (2, 2, 10, 12, 3)
    np.testing.assert_array_equal(steps["scopes"][:, 1], 1 - steps["masks"][:, 0])
    np.testing.assert_array_equal(steps["slot_recons"][:, 0], image)


def test_kl_of_latents_where_only_that_of_slots_is_told(scenes):
    """KL(N(1, 0.5^2) || N(0, 1)) = (1 + 0.25 - 1) / 2 - ln 0.5 = 0.818.

    The padding of the last batch does not count.
    """

    def forward(image):
        b = len(image)
        posterior = {
            "loc": tf.ones([b, 2, 3]),
            "scale": tf.fill([b, 2, 3], 0.5),
            "kl": tf.ones([b, 2]),
        }
        return SceneOutputs(image, None, None, posterior["loc"], posterior)

    evaluator = types.SimpleNamespace(model=types.SimpleNamespace(has_prior=True), forward=forward)
    image = scenes.image.astype(np.float32) / 255
    found = evaluation_figures.posterior_means(
        evaluator, {"image": image, "valid": np.array([True, True, True, False, False])}
    )
    np.testing.assert_allclose(found["kl"], np.full([3, 2, 3], 0.125 + np.log(2)), rtol=1e-6)
    assert len(found["image"]) == len(found["slots"]) == 3
    assert (
        evaluation_figures.posterior_means(
            types.SimpleNamespace(model=types.SimpleNamespace(has_prior=False)), {}
        )
        is None
    )
