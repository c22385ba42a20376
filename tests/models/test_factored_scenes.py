"""Factored scenes (Anciukevicius 2020): table entries, generative model, both phases, edits."""

import conformance
import keras
import numpy as np
import pytest
import tensorflow as tf

from tfobj import random
from tfobj.data.packed import SceneArrays
from tfobj.data.pipeline import BatchStream
from tfobj.datasets.generators import polygons, sprites
from tfobj.distributions.compositing import composite, hard_weights
from tfobj.errors import UserError
from tfobj.models.base import Stage
from tfobj.models.factored_scenes import FactoredScenes, FactoredScenesConfig, schedules
from tfobj.models.factored_scenes.position_penalty import PositionPenalty
from tfobj.models.factored_scenes.scene_prior import ScenePrior, blur_matrix
from tfobj.nn.placement import place_at
from tfobj.training.experiment import TrainConfig
from tfobj.training.optimizer import make_optimizer
from tfobj.training.step import TrainStep

OBJECTS, SCENE = Stage(1, "objects"), Stage(1, "scene")


def make(**changes):
    """Returns (model, image) of the battery's case."""
    case = next(c for c in conformance.MODELS if c.model == "factored_scenes")
    model = conformance.build(case, **changes)
    return model, tf.constant(conformance.scenes(model.config))


def count(layer):
    return sum(int(np.prod(weight.shape)) for weight in layer.trainable_weights)


@pytest.mark.parametrize(
    "changes, expected",
    [
        (
            {},
            {
                "position_network": 973_426,
                "background_encoder": 152_436,
                "decoder": 300_060,
                "background_decoder": 723,
            },
        ),
        (
            {
                "image_size": (96, 96),
                "num_slots": 4,
                "canvas_size": 40,
                "appearance_size": 10,
                "background_size": 3,
            },
            {
                "position_network": 973_475,
                "background_encoder": 214_134,
                "decoder": 548_252,
                "background_decoder": 1_107,
            },
        ),
        (
            {
                "image_size": (96, 96),
                "num_slots": 6,
                "canvas_size": 32,
                "appearance_size": 10,
                "background_size": 3,
            },
            {
                "position_network": 973_573,
                "background_encoder": 214_134,
                "decoder": 408_932,
                "background_decoder": 1_107,
            },
        ),
        (
            {"num_slots": 5, "canvas_size": 32, "features": "attentive", "decoder": "residual"},
            {
                "position_network": 973_524,
                "crop_encoder": 553_934,
                "background_encoder": 152_436,
                "decoder": 712_660,
                "background_decoder": 723,
            },
        ),
    ],
    ids=["polygons", "CLEVR-3", "CLEVR-5", "multi-dSprites"],
)
def test_parameters_of_the_table(changes, expected):
    """Anciukevicius 2020, Table 5; the first three enc_obj, 25 million weights, by their shapes."""
    small = {} if "features" in changes else {"encoder_channels": (4,)}
    model = FactoredScenes(FactoredScenesConfig().override({**changes, **small}))
    assert {name: count(getattr(model, name)) for name in expected} == expected


def test_sizes_of_the_global_object_encoder():
    model = FactoredScenes(
        FactoredScenesConfig().override(
            {"image_size": (96, 96), "num_slots": 4, "appearance_size": 10}
        )
    )
    encoder = model.object_encoder
    assert count(encoder) == 25_311_170 and encoder.cnn.num_features == 2048
    assert encoder.cnn.stages[5].norm is None and encoder.cnn.stages[6].norm is not None


def test_both_features_add_the_two_encoders():
    """And crops do not move the positions: only rendering does."""
    model, image = make(features="both", crop_encoder_filters=8)
    positions = model.locate(image, random.make_seed(3), tf.constant(0, tf.int64), sampled=True)
    both, _, _ = model.encode(image, positions, training=True)
    of_image, _ = model.object_encoder(image, training=True)
    of_crops = model.crop_encoder(tf.reshape(model.crops(image, positions), [-1, 8, 8, 3]))
    expected, _ = tf.split(of_image + tf.reshape(of_crops, of_image.shape), 2, axis=-1)
    np.testing.assert_allclose(both.loc, expected, rtol=1e-5, atol=1e-6)

    for features, moves in (("both", False), ("attentive", True)):
        model, image = make(features=features, crop_encoder_filters=8)
        maps = tf.Variable(
            tf.nn.softmax(tf.random.stateless_normal([*image.shape[:1], 2, 10 * 12], [1, 2]))
        )
        with tf.GradientTape() as tape:
            positions = model.locate(
                image, random.make_seed(3), tf.constant(0, tf.int64), sampled=True
            )
            crops = model.crops(image, positions._replace(maps=tf.reshape(maps, [-1, 2, 10, 12])))
        assert (tape.gradient(crops, maps) is not None) == moves


def test_a_true_scene_is_rendered_exactly():
    """Sprites on canvases at true places and depths: the composite is the image, bit for bit."""
    scenes = sprites.scenes(np.arange(12), variant="colored_on_black")
    image = scenes["image"].astype(np.float32) / 255
    masks = scenes["amodal_masks"][:, 1:].astype(np.float32).reshape(-1, 64, 64)
    colours = np.rint(scenes["color"][:, 1:] * 255).astype(np.float32).reshape(-1, 3) / 255
    size = 32

    # Canvases, and the pixels that their middles are placed at.
    canvases = []
    centres = []
    for mask, rgb in zip(masks, colours, strict=True):
        rows, columns = np.nonzero(mask) if mask.any() else ([32], [32])
        row = int(np.mean(rows))
        column = int(np.mean(columns))
        corner = np.pad(mask, size)[row + size // 2 :, column + size // 2 :]
        window = corner[:size, :size, None]
        canvases.append(np.concatenate([np.broadcast_to(rgb, (size, size, 3)), window], -1))
        centres.append((row, column))
    canvases = np.stack(canvases).reshape(12, -1, size, size, 4).astype(np.float32)
    centres = tf.constant(np.reshape(centres, (12, -1, 2)), tf.int32)

    placed = place_at(canvases, centres, (64, 64))
    colours = tf.concat([placed[..., :3], tf.zeros([12, 1, 64, 64, 3])], axis=1)
    weights = hard_weights(placed[..., 3:], tf.constant(scenes["depth"][:, 1:]))
    np.testing.assert_array_equal(composite(weights, colours), image)


def test_training_is_soft_and_evaluation_takes_modes():
    model, image = make()
    hard, again = (model(image, seed=conformance.seed(step=step)) for step in (1, 2))
    np.testing.assert_array_equal(hard.recon, again.recon)
    soft, other = (model(image, seed=conformance.seed(step=step), training=True) for step in (1, 2))
    assert np.abs(soft.recon - other.recon).max() > 1e-3

    # Slots are means and modes either way; there is no norm in this case.
    np.testing.assert_allclose(hard.slots, soft.slots, atol=1e-6)
    logits = model.locate(image, conformance.seed(), 0, sampled=False).logits.numpy()
    row, column = np.unravel_index(
        logits.reshape(*logits.shape[:2], -1).argmax(-1), logits.shape[2:]
    )

    # Canvases of even size begin half a pixel earlier.
    np.testing.assert_allclose(hard.positions[:, :-1], np.stack([row, column], -1) - 0.5)
    np.testing.assert_allclose(hard.amodal_masks[:, -1], 1.0)
    assert np.all(np.argmax(hard.depths, -1) == model.config.num_objects)


def test_slots_hold_everything_that_is_rendered():
    model, image = make()
    outputs = model(image, seed=conformance.seed())
    scene = model.decode(outputs.slots)
    for got, expected in zip(
        scene, (outputs.recon, outputs.masks, outputs.slot_recons), strict=True
    ):
        np.testing.assert_allclose(got, expected, atol=1e-6)

    size = model.config.appearance_size
    assert model.slot_parts() == {
        "appearance": (0, size),
        "depth": (size, size + 1),
        "position": (size + 1, size + 3),
    }

    kl = outputs.posterior["kl"]
    np.testing.assert_allclose(tf.reduce_sum(kl, [1, 2]), outputs.loss_terms["kl"], rtol=1e-5)
    background = outputs.posterior["loc"][:, -1, : model.config.background_size]
    np.testing.assert_array_equal(background, outputs.slots[:, -1, : model.config.background_size])


def test_edits_by_hand():
    """Moving, removing and reordering objects has the stated effect on pixels."""
    model, image = make()
    slots = model(image, seed=conformance.seed()).slots.numpy()[:1]
    height, width = model.config.image_size
    size = model.config.appearance_size
    slots[0, :2, size + 1 : size + 3] = [2 * 4 / (height - 1) - 1, 2 * 5 / (width - 1) - 1]
    before = model.decode(slots)

    moved = slots.copy()
    moved[0, 0, size + 1 : size + 3] += [2 * 2 / (height - 1), 2 * 3 / (width - 1)]
    after = model.decode(moved)
    np.testing.assert_allclose(
        after.slot_recons[0, 0, 2:, 3:], before.slot_recons[0, 0, :-2, :-3], atol=1e-6
    )

    gone = model.decode(slots[:, 1:])
    assert gone.masks.shape[1] == 2 and not np.any(np.isnan(gone.recon))
    np.testing.assert_allclose(
        model.decode(slots[:, -1:]).recon, before.slot_recons[:, -1], atol=1e-6
    )

    # Nothing hides the nearest object.
    for nearest in (0, 1):
        slots[0, :2, size] = 5.0
        slots[0, nearest, size] = -5.0
        alone = model.decode(slots[:, [nearest, 2]]).masks[0, 0]
        np.testing.assert_allclose(model.decode(slots).masks[0, nearest], alone, atol=1e-6)


def batches(scenes, batch=8, seed=0):
    return BatchStream(SceneArrays(scenes["image"], scenes["mask"]), batch, seed=seed).dataset()


SMALL = {
    "image_size": (32, 32),
    "canvas_size": 16,
    "position_channels": (8, 16),
    "encoder_channels": (8, 16, 16),
    "background_encoder_channels": (4, 4),
    "background_encoder_hidden": 8,
    "decoder_hidden": 16,
    "decoder_filters": (8, 16, 8, 8),
    "norm": "group",
    "likelihood_scale": 0.1,
    "later_scale": None,
    "beta_appearance": 1.0,
    "beta_depth": 1.0,
    "beta_background": 1.0,
    "position_penalty_weight": 1.0,
    "scene_units": 16,
    "scene_filters": (8, 8, 8, 8),
}


def trained(steps, **changes):
    """Returns (model, terms per call) after `steps` updates on 16 small scenes of polygons."""
    scenes = polygons.scenes(np.arange(16), size=32)
    strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = FactoredScenes(FactoredScenesConfig().override({**SMALL, **changes}))
        optimizer = make_optimizer(TrainConfig(learning_rate=2e-3))

    step = TrainStep(strategy, model, optimizer, 0)
    iterator = iter(batches(scenes))
    return model, [step.run(iterator, count)[0] for count in steps]


def test_the_scene_phase_leaves_the_objects_alone():
    model, (first, second) = trained(
        [3, 40], scene_from_step=3, norm="batch", position_target_blur=1.0
    )
    only_objects, _ = trained([3], scene_from_step=3, norm="batch", position_target_blur=1.0)
    of_prior = {id(v) for v in model.scene_prior.variables}
    for ours, theirs in zip(model.variables, only_objects.variables, strict=True):
        equal = np.array_equal(ours.numpy(), theirs.numpy())
        assert equal != (id(ours) in of_prior), ours.path

    assert "scene_positions_nll" not in first and second["scene_positions_nll"] > 0
    np.testing.assert_allclose(
        second["loss"],
        second["scene_positions_nll"] + second["scene_appearance_nll"] + 0.01 * second["scene_kl"],
        rtol=1e-4,
    )


def test_the_scene_level_learns_where_objects_are():
    """Positions lie in one corner: the cross-entropy falls below J log P, samples lie there too."""
    prior = ScenePrior((16, 16), 2, 3, 4, 16, (8, 8, 8, 8), name="prior")
    keras.utils.set_random_seed(0)
    prior.build()
    rng = np.random.default_rng(0)
    centres = tf.constant(rng.integers(2, 5, (64, 2, 2)), tf.int32)
    latents = tf.constant(rng.normal(1.0, 0.2, (64, 2, 3)), tf.float32)
    index = centres[..., 0] * 16 + centres[..., 1]
    positions = 2 * tf.cast(centres, tf.float32) / 15 - 1
    optimizer = keras.optimizers.Adam(5e-3)

    @tf.function
    def update(noise):
        with tf.GradientTape() as tape:
            terms = prior.terms(latents, positions, index, noise)
            loss = tf.reduce_mean(terms.positions_nll + terms.appearance_nll + 0.01 * terms.kl)
        optimizer.apply(
            tape.gradient(loss, [v.value for v in prior.trainable_variables]),
            prior.trainable_variables,
        )
        return terms

    first = update(tf.zeros([64, 4]))
    np.testing.assert_allclose(tf.reduce_mean(first.positions_nll), 2 * np.log(256), rtol=0.05)
    for step in range(80):
        terms = update(random.normal(random.make_seed(0, step), "test", [64, 4]))
    assert tf.reduce_mean(terms.positions_nll) < 2 * np.log(256) - 3.0

    # The corner is 9 of 256 pixels.
    code = random.normal(random.make_seed(1), "test", [200, 4])
    sampled = prior.sample_positions(code, random.make_seed(1)).numpy()
    inside = (np.abs(sampled // 16 - 3) <= 1) & (np.abs(sampled % 16 - 3) <= 1)
    assert inside.mean() > 0.5


def test_scene_terms_of_a_uniform_prior():
    prior = ScenePrior((8, 8), 2, 3, 4, 8, (4, 4, 4, 4), name="prior")
    prior.build()
    prior.position_maps.head.kernel.assign(tf.zeros_like(prior.position_maps.head.kernel))
    terms = prior.terms(
        tf.zeros([5, 2, 3]), tf.zeros([5, 2, 2]), tf.zeros([5, 2], tf.int32), tf.zeros([5, 4])
    )
    np.testing.assert_allclose(terms.positions_nll, np.full(5, 2 * np.log(64)), rtol=1e-5)


def test_the_halves_of_the_code_have_one_use_each():
    prior = ScenePrior((8, 8), 2, 3, 4, 8, (4, 4, 4, 4), name="prior")
    prior.build()
    code = tf.constant([[1.0, 2.0, 3.0, 4.0]])
    other_appearance = tf.constant([[1.0, 2.0, -3.0, -4.0]])
    other_position = tf.constant([[-1.0, -2.0, 3.0, 4.0]])

    maps = prior.maps(code)
    np.testing.assert_array_equal(prior.maps(other_appearance), maps)
    assert np.abs(prior.maps(other_position) - maps).max() > 1e-4

    appearance = lambda code: prior.appearance(code, tf.zeros([1, 2, 2])).loc
    np.testing.assert_array_equal(appearance(other_position), appearance(code))
    assert np.abs(appearance(other_appearance) - appearance(code)).max() > 1e-4


def test_blur_keeps_the_mass():
    np.testing.assert_allclose(blur_matrix(7, 1.5).sum(0), np.ones(7), rtol=1e-6)


def logits_of(probabilities):
    return tf.math.log(tf.constant(probabilities, tf.float32) + 1e-20)[None, None]


def test_position_penalty_of_uniform_and_sharp_posteriors():
    penalty = PositionPenalty((4, 4), 1, moving=False)
    penalty.build()
    uniform = np.full((4, 4), 1 / 16)
    sharp = np.zeros((4, 4))
    sharp[1, 2] = 1.0
    distance = lambda p: penalty.distance(penalty.probabilities(logits_of(p))).numpy()
    np.testing.assert_allclose(distance(uniform), [0.0], atol=1e-6)
    np.testing.assert_allclose(distance(sharp), [2 * (1 - 1 / 16)], rtol=1e-5)
    one_each = tf.reshape(200.0 * tf.eye(16), [8, 2, 4, 4])  # 16 sharp posteriors, together uniform
    np.testing.assert_allclose(
        penalty.distance(penalty.probabilities(one_each)), np.zeros(8), atol=1e-6
    )


def test_position_penalty_counts_in_cells():
    penalty = PositionPenalty((4, 5), 2, moving=False)
    penalty.build()
    np.testing.assert_allclose(penalty.uniform, np.array([[4, 4, 2], [4, 4, 2]]) / 20)
    p = np.arange(20, dtype=np.float32).reshape(4, 5) / 190
    expected = [
        [p[:2, :2].sum(), p[:2, 2:4].sum(), p[:2, 4].sum()],
        [p[2:, :2].sum(), p[2:, 2:4].sum(), p[2:, 4].sum()],
    ]
    np.testing.assert_allclose(penalty.probabilities(logits_of(p))[0], expected, rtol=1e-5)


def test_moving_penalty_has_the_gradient_of_the_norm():
    """With the average at the batch's mean, value and gradient are the norm's; parts add up."""
    logits = random.normal(random.make_seed(5), "test", [6, 2, 4, 4])
    batch, moving = (PositionPenalty((4, 4), 1, moving=kind) for kind in (False, True))
    for penalty in (batch, moving):
        penalty.build()
    moving.average.assign(tf.reduce_mean(moving.probabilities(logits), 0))

    def value_and_gradient(penalty, x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = tf.reduce_sum(penalty.distance(penalty.probabilities(x))) / 6
        return value, tape.gradient(value, x)

    expected, slope = value_and_gradient(batch, logits)
    value, got = value_and_gradient(moving, logits)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(got, slope, atol=1e-7)
    parts = tf.concat([value_and_gradient(moving, part)[1] for part in (logits[:2], logits[2:])], 0)
    np.testing.assert_allclose(parts, got, atol=1e-7)


def test_moving_average_of_positions():
    penalty = PositionPenalty((2, 2), 1, moving=True)
    penalty.build()
    penalty.update(tf.constant([[1.0, 0.0], [0.0, 0.0]]))
    np.testing.assert_allclose(
        penalty.average, [[0.99 * 0.25 + 0.01, 0.2475], [0.2475, 0.2475]], rtol=1e-6
    )
    penalty.update(tf.constant([[np.nan, 0.0], [0.0, 0.0]]))
    assert np.isfinite(penalty.average).all()


def test_schedules():
    config = FactoredScenesConfig(
        first_position_temperature=1.2,
        position_anneal_steps=100,
        final_depth_temperature=0.02,
        depth_anneal_steps=50,
        likelihood_scale=0.2,
        later_scale=0.1,
        later_scale_from_step=10,
    )
    np.testing.assert_allclose(
        [schedules.position_temperature(config, s) for s in (0, 50, 100, 9_000_000)],
        [1.2, 0.6, 0.3, 0.6],
        rtol=1e-4,
    )
    np.testing.assert_allclose(
        [schedules.depth_temperature(config, s) for s in (0, 25, 50, 500)],
        [0.1, (0.1 * 0.02) ** 0.5, 0.02, 0.02],
        rtol=1e-5,
    )
    np.testing.assert_allclose(
        [schedules.likelihood_scale(config, tf.constant(s)) for s in (9, 10)], [0.2, 0.1]
    )


def test_position_temperature_of_the_paper():
    """0.3 * 2 ** (0.0001 epoch), 900 steps an epoch."""
    config = FactoredScenesConfig()
    np.testing.assert_allclose(
        [schedules.position_temperature(config, 900 * epoch) for epoch in (0, 150, 500)],
        [0.3, 0.3031, 0.3106],
        atol=1e-4,
    )


def test_loss_of_the_object_phase():
    model, image = make(
        beta_appearance=2.0,
        beta_depth=3.0,
        beta_background=5.0,
        position_penalty_weight=7.0,
        alpha_entropy_weight=11.0,
        alpha_area_weight=0.5,
    )
    outputs = model(image, seed=conformance.seed(), training=True)
    loss, terms = model.objective(outputs, tf.constant(0, tf.int64))

    sigma = model.config.likelihood_scale
    constant = np.log(sigma) + 0.5 * np.log(2 * np.pi)
    per_value = (image - outputs.recon) ** 2 / (2 * sigma**2) + constant
    nll = np.mean(np.sum(per_value, (1, 2, 3)))
    np.testing.assert_allclose(terms["nll"], nll, rtol=1e-4)

    expected = (
        nll
        + 2 * terms["kl_appearance"]
        + 3 * terms["kl_depth"]
        + 5 * terms["kl_background"]
        + 7 * terms["position_distance"]
        + 11 * terms["alpha_entropy"]
    )
    expected += 0.5 * np.mean(np.sum(outputs.amodal_masks[:, :-1], (1, 2, 3, 4)))
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_premultiplied_placement_is_the_same_for_one_position():
    model, image = make()
    other, _ = make(premultiplied=True)
    np.testing.assert_allclose(other(image).recon, model(image).recon, atol=1e-5)
    soft, premultiplied = (
        m(image, seed=conformance.seed(), training=True).recon for m in (model, other)
    )
    assert np.abs(soft - premultiplied).max() > 1e-4


def test_samples_without_the_scene_level():
    """The ablation: appearance and depth from N(0, I), positions uniform over the pixels."""
    model, _ = make(scene_prior=False)
    slots = model.sample_slots(400, conformance.seed()).numpy()
    size = model.config.appearance_size
    assert model.scene_prior is None and model.stages() == ((0, OBJECTS),)
    np.testing.assert_allclose(
        [slots[:, :-1, : size + 1].mean(), slots[:, :-1, : size + 1].std()], [0, 1], atol=0.05
    )
    positions = slots[:, :-1, size + 1 : size + 3]
    np.testing.assert_allclose(
        [positions.min(), positions.max(), positions.mean()], [-1, 1, 0], atol=0.08
    )


def test_stages():
    model, _ = make(scene_from_step=7)
    assert model.stages() == ((0, OBJECTS), (7, SCENE))
    names = {v.path for v in model.trained_variables(SCENE)}
    assert names == {v.path for v in model.scene_prior.trainable_variables}
    assert {v.path for v in model.trained_variables(OBJECTS)} == {
        v.path for v in model.trainable_variables
    } - names


def test_initial_values():
    model, _ = make(initial_alpha=0.1, initial_background=0.02)
    appearances = tf.zeros([1, 2, model.config.appearance_size])
    canvas = model.decoder(tf.reshape(appearances, [2, -1]))
    np.testing.assert_allclose(canvas[..., -1], np.full(canvas.shape[:-1], 0.1), atol=1e-6)
    np.testing.assert_allclose(
        model.background_decoder(tf.zeros([1, model.config.background_size])),
        np.full((1, 10, 12, 3), 0.02),
        atol=1e-6,
    )


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"canvas_size": 10}, "`model.canvas_size` must be a multiple of 4"),
        ({"canvas_size": 12, "decoder": "residual"}, "`model.canvas_size` must be a multiple of 8"),
        (
            {"canvas_size": 128},
            "`model.canvas_size` must be at most the shorter side of the image, 64",
        ),
        ({"depth_temperature": 0.0}, "`model.depth_temperature` must be positive"),
        (
            {"ordering": "softras", "final_depth_temperature": 0.01},
            "`model.final_depth_temperature` must be at least 0.015 with model.ordering=softras",
        ),
        ({"initial_alpha": 0.0}, r"`model.initial_alpha` must be in \(0, 1\)"),
        ({"num_steps": 2}, "`model.num_steps` must be 1"),
        ({"ordering": "softrast"}, "model.ordering"),
        (
            {"position_penalty_weight": float("nan")},
            "`model.position_penalty_weight` must be at least 0",
        ),
        ({"decoder_filters": (8, 8)}, "`model.decoder_filters` must be four numbers"),
    ],
)
def test_settings_that_cannot_be(changes, message):
    with pytest.raises(UserError, match=message):
        FactoredScenesConfig().override(changes, prefix="model.")


@pytest.mark.slow
def test_polygons_are_overfitted():
    """Modes and true occlusion render 16 scenes with an error below 5e-3 (mean image: 0.05)."""
    model, _ = trained([2_000], scene_prior=False, beta_background=500.0)
    scenes = polygons.scenes(np.arange(16), size=32)
    outputs = model(scenes["image"].astype(np.float32) / 255)
    assert np.mean(outputs.loss_terms["mse"]) < 5e-3
