"""Outputs that are not finite count with the worst value; graph and host agree or refuse alike."""

import math

import numpy as np
import pytest
import tensorflow as tf

from tfobj.errors import UserError
from tfobj.metrics import (
    amodal,
    clustering,
    clustering_graph,
    definitions,
    depth_order,
    generation,
    health,
    matching,
    reconstruction,
    scores,
    streaming,
    tracking,
    video,
)

BROKEN = (np.nan, np.inf, -np.inf)


def scenes(num=4, seed=0, frames=None):
    """Scenes of three ids; the first has no objects."""
    rng = np.random.default_rng(seed)
    lead = (num,) if frames is None else (num, frames)
    true = rng.integers(0, 3, (*lead, 6, 6)).astype(np.uint8)
    true[0] = 0
    ids = np.where(rng.random(true.shape) < 0.8, true, 3)
    masks = np.moveaxis(np.eye(4, dtype=np.float32)[ids], -1, -3)[..., None]
    image = rng.random((*lead, 6, 6, 3)).astype(np.float32)
    recon = np.clip(image + 0.1, 0.0, 1.0)
    return {"image": image, "recon": recon, "masks": masks, "true_mask": true}


def summary(data, **extra):
    scorer = scores.SceneScorer()
    scorer.update(**data, **extra)
    return scorer.summary()


@pytest.mark.parametrize("value", BROKEN)
def test_a_failed_scene_has_the_worst_of_every_score(value):
    data = scenes()
    finite = summary(data)
    data["masks"][2, 1, 3, 3] = value
    data["recon"][2, 0, 0, 0] = value
    scorer = scores.SceneScorer()
    scorer.update(**data)
    found = scorer.summary()
    assert found["failed_scenes"] == 1 and scorer.failures().tolist() == [False, False, True, False]
    expected = {"fg_ari": -0.5, "ari": -0.5, "mse": math.inf, "psnr": -math.inf}
    expected |= dict.fromkeys(("msc", "msc_all", "sc", "miou"), 0.0) | {"mse_foreground": math.inf}
    for name, worst in expected.items():
        assert scorer.table()[name][2] == worst == definitions.worst(name), name
        assert found[f"failed_{name}"] == 1
        better = definitions.define(name).better
        assert (found[name] < finite[name]) == (better == "higher"), name
    assert found["mse"] == found["mse_std"] == math.inf
    assert found["undefined_fg_ari"] == finite["undefined_fg_ari"] == 1
    assert found["num_objects"] == finite["num_objects"]
    assert found["miou_micro"] < finite["miou_micro"] and found["fg_ari_low"] < finite["fg_ari_low"]


def test_a_failure_touches_only_the_scores_that_read_it():
    data = scenes()
    data["recon"][1] = np.nan
    found = summary(data)
    assert found["fg_ari"] == summary(scenes())["fg_ari"] and "failed_fg_ari" not in found
    assert found["failed_mse"] == found["failed_scenes"] == 1
    data = scenes()
    data["masks"][1] = np.nan
    del data["true_mask"]
    found = summary(data)
    assert found["failed_scenes"] == 1 and math.isfinite(found["mse"])


def test_scenes_without_objects_stay_undefined_when_they_fail():
    data = scenes()
    data["masks"][0] = np.nan
    found = summary(data)
    assert found["undefined_fg_ari"] == 1 and "failed_fg_ari" not in found
    assert found["failed_scenes"] == found["failed_ari"] == 1
    scorer = scores.SceneScorer(empty_value=1.0)
    scorer.update(**data)
    assert scorer.table()["fg_ari"][0] == -0.5  # not the 1 that an empty scene would get


def test_numbers_of_the_model_fail_and_scores_may_be_undefined():
    data = scenes()
    terms = {"elbo": [1.0, np.nan, 2.0, np.inf], "own": [1.0, np.nan, 2.0, 3.0]}
    found = summary(data, extra=terms, scores={"mota": [0.5, np.nan, 0.5, 0.5]})
    assert found["failed_scenes"] == found["failed_elbo"] == 2
    assert found["elbo"] == -math.inf
    assert math.isnan(found["own"]) and found["failed_own"] == 1
    assert found["mota"] == 0.5 and found["undefined_mota"] == 1 and "failed_mota" not in found


def test_padding_does_not_fail():
    data = scenes()
    data["masks"][3] = data["recon"][3] = np.nan
    assert summary(data, valid=[1, 1, 1, 0])["failed_scenes"] == 0


def test_a_failed_frame_counts_where_its_frame_is_read():
    data = scenes(2, frames=12)
    finite = summary(data)
    data["masks"][1, 10] = data["recon"][1, 10] = np.nan
    found = summary(data)
    assert found["failed_scenes"] == 1
    for name in ("mse_10", "fg_ari_10", "fg_ari_frame_10", "ari_frame_10"):
        assert found[name] == finite[name] and f"failed_{name}" not in found
    assert found["mse"] == math.inf
    ari = clustering.adjusted_rand_index(
        data["true_mask"], clustering.segment_ids(scenes(2, frames=12)["masks"]), level="frame"
    )
    frames = video.frame_rand_index(data["true_mask"], data["masks"])
    assert frames[1, 10] == -0.5 and np.delete(frames[1], 10).mean() * 11 / 12 - 0.5 / 12 == (
        pytest.approx(found["ari_frame"] * 2 - ari[0])
    )
    assert video.frame_mean_squared_error(data["image"], data["recon"])[1, 10] == math.inf
    columns = video.prediction_scores(data["image"], data["recon"], num_observed=4, horizons=(7, 8))
    assert columns["mse_ahead_7"][1] == math.inf and columns["mse_ahead_8"][1] < 1


def test_no_tracking_is_worse_than_a_failed_one():
    data = scenes(3, frames=3)
    ids = clustering.segment_ids(data["masks"])
    failed = ids.copy()
    failed[1:, 1, 2, 2] = clustering.NO_SLOT
    settings = {"num_slots": 4, "background": None, "min_pixels": 0}
    good = tracking.tracking_scores(data["true_mask"], ids, **settings)
    bad = tracking.tracking_scores(data["true_mask"], failed, **settings)
    for name in ("mota", "motp", "idf1", "mostly_tracked"):
        assert bad[name][1] <= good[name][1] and bad[name][1] <= 0, name
    for name in ("id_switches", "false_positives", "misses", "mostly_lost"):
        assert bad[name][1] >= good[name][1], name
    np.testing.assert_array_equal(bad["num_appearances"], good["num_appearances"])
    assert np.isnan(bad["mota"][0])  # no objects: undefined, as before
    micro, worse = tracking.tracking_micro(good), tracking.tracking_micro(bad)
    assert worse["mota_micro"] < micro["mota_micro"] and worse["motp_micro"] < micro["motp_micro"]


def depth_scenes(**changes):
    sets = np.zeros((2, 3, 1, 8), np.uint8)
    sets[:, 0] = 1
    sets[:, 1, 0, :4] = 1
    sets[:, 2, 0, 3:] = 1
    image = np.zeros((2, 1, 8, 3), np.float32)
    data = {
        "image": image,
        "recon": image,
        "masks": np.ones((2, 2, 1, 8, 1), np.float32),
        "true_mask": np.array([[[1, 1, 1, 1, 2, 2, 2, 2]]] * 2, np.uint8),
        "amodal_masks": sets[:, 1:, ..., None].astype(np.float32),
        "depths": np.array([[0.0, 1.0]] * 2),
        "positions": depth_order.box_centres(sets[:, 1:]),
        "true_amodal_masks": sets,
        "true_depth": np.array([[9.0, 0.0, 1.0]] * 2),
    }
    for name, place in changes.items():
        data[name][place] = np.nan
    return data


@pytest.mark.parametrize(
    "changes, failing",
    [
        ({"amodal_masks": (1, 0, 0, 0)}, {"object_miou", "aiou", "dpa_0", "position_error"}),
        ({"depths": (1, 1)}, {"object_miou", "aiou", "dpa_0", "position_error"}),
        ({"positions": (1, 0)}, {"position_error"}),
    ],
)
def test_extents_depths_and_positions_fail(changes, failing):
    found = summary(depth_scenes(**changes))
    assert found["failed_scenes"] == 1
    for name in ("object_miou", "aiou", "dpa_0", "position_error"):
        perfect = 0.0 if name == "position_error" else 1.0
        failed = math.inf if name == "position_error" else 0.5
        assert found[name] == found[f"{name}_micro"] == (failed if name in failing else perfect)
        assert found.get(f"failed_{name}", 0) == (name in failing)


def test_functions_of_extents_refuse_what_is_not_finite():
    data = depth_scenes(amodal_masks=(1, 0), depths=(1, 0))
    with pytest.raises(UserError, match="`amodal_masks` must be finite.*in scene 1"):
        amodal.amodal_sets(data["amodal_masks"])
    with pytest.raises(UserError, match="`depths` must be finite.*in scene 1"):
        depth_order.depth_pairs(
            data["true_mask"],
            data["true_amodal_masks"][:, 1:],
            None,
            np.zeros((2, 2), int),
            data["depths"],
        )
    with pytest.raises(UserError, match="`iou` must .* be finite"):
        matching.match_objects([[0.5, np.nan]])


def test_failed_images_are_not_healthy():
    masks = np.full((2, 4, 2, 2, 1), 0.1, np.float32)
    masks[0, 0] = masks[1, 1] = 0.7
    good = health.slot_health(masks)
    masks[1, 2, 0, 0] = np.nan
    found = {name: float(value) for name, value in health.slot_health(masks).items()}
    assert (good["failed_images"], found["failed_images"]) == (0, 1)
    assert found["active_slots"] == good["active_slots"] / 2 == 0.5
    assert found["largest_slot_share"] == 1.0 and found["image_dependence"] <= 0.5
    assert "Not finite" in health.diagnose(found, num_slots=4, step=1)[0]


def test_failed_samples_make_distances_infinite():
    rng = np.random.default_rng(0)
    drawn, truth = rng.standard_normal((2, 20, 3))
    drawn[3, 1] = np.nan
    found = generation.compare(drawn, truth, "pixels", extrapolate=True)
    assert found.pop("failed_samples") == 1
    assert set(found.values()) == {math.inf}
    assert (
        found.keys() | {"failed_samples"}
        == generation.compare(truth, truth, "pixels", extrapolate=True).keys()
    )
    with pytest.raises(UserError, match="Means and covariances must be finite"):
        generation.frechet_distance_of_moments([np.nan], [[1.0]], [0.0], [[1.0]])


def test_an_interval_with_failures_reaches_infinity():
    low, high = scores.bootstrap_interval([0.1, 0.2, np.inf, np.nan])
    assert 0.1 <= low < high == math.inf
    assert scores.bootstrap_interval([-np.inf, -np.inf]) == (-math.inf, -math.inf)


METRICS = {
    "fg_ari": streaming.ForegroundARI,
    "ari": streaming.AdjustedRandIndex,
    "msc": streaming.MeanSegmentationCovering,
    "miou": streaming.MeanMatchedIoU,
}


@pytest.mark.parametrize(
    "value, compiled",
    [(0.5, None), (np.inf, None), (-np.inf, None), (np.nan, None), (np.nan, True)],
)
def test_streaming_metrics_are_those_of_the_scorer(value, compiled):
    data = scenes()
    data["masks"][2, 1, 3, 3] = value
    data["masks"][0] = value
    data["recon"][1, 0, 0] = value
    data["true_mask"][3, 0] = 255
    expected = summary(data)
    metrics = {name: metric(num_true=3) for name, metric in METRICS.items()}
    failed = streaming.FailedScenes()
    mse = streaming.ReconstructionError()

    @tf.function(jit_compile=compiled)
    def update(true, masks, image, recon):
        for metric in metrics.values():
            metric.update_state(true, masks)
        failed.update_state(true, masks)
        mse.update_state(image, recon)

    update(data["true_mask"], data["masks"], data["image"], data["recon"])
    for name, metric in metrics.items():
        np.testing.assert_allclose(metric.result(), expected[name], atol=1e-6, err_msg=name)
    np.testing.assert_allclose(mse.result(), expected["mse"], rtol=1e-5)
    assert failed.result() == (0 if value == 0.5 else 2)


def test_a_weight_of_zero_drops_a_failed_scene():
    data = scenes()
    data["recon"][3] = np.nan
    mse = streaming.ReconstructionError()
    mse.update_state(data["image"], data["recon"], sample_weight=[1, 1, 1, 0])
    expected = reconstruction.mean_squared_error(data["image"], data["recon"])[:3].mean()
    np.testing.assert_allclose(mse.result(), expected, rtol=1e-5)


@pytest.mark.parametrize("value", BROKEN)
def test_pixels_without_a_finite_share_have_no_slot(value):
    masks = np.zeros((1, 2, 1, 2, 1), np.float32)
    masks[0, 1, 0, 0] = value
    assert clustering.segment_ids(masks).tolist() == [[[clustering.NO_SLOT, 0]]]
    assert clustering_graph.segment_ids_on_device(masks).numpy().tolist() == [[[-1, 0]]]


def both_tables(true, predicted, num_true=4, num_predicted=3, **settings):
    """The table of the host, and that of the graph or the error that it ends with."""
    true, predicted = np.asarray(true), np.asarray(predicted)
    sizes = {"num_true": num_true, "num_predicted": num_predicted}
    host = lambda: clustering.contingency_table(true, predicted, **sizes, **settings)  # noqa: E731
    graph = lambda: clustering_graph.contingency_table_on_device(  # noqa: E731
        tf.constant(true), tf.constant(predicted), **sizes, **settings
    )
    return host, graph


@pytest.mark.parametrize(
    "true, predicted, settings",
    [
        ([[0, 1, 2, 3]], [[0, 0, 1, 2]], {}),
        ([[0, 1, 255, -1]], [[0, 0, 1, 2]], {}),
        ([[0, 1, 255, -7]], [[0, 0, 99, -1]], {}),
        ([[0, 1, 2, 3]], [[0, 0, 9, 1]], {"ignore_label": 2}),
        ([[255, 255]], [[0, 1]], {}),
        ([[0, 0]], [[0, 0]], {}),
        (np.array([[True, False]]), np.array([[False, True]]), {}),
        (np.zeros((2, 0, 3), int), np.zeros((2, 0, 3), int), {}),
        (np.zeros((0, 4), int), np.zeros((0, 4), int), {}),
        (np.array([[2**40 + 1, 1]]) % 2**40, [[0, 1]], {}),
    ],
)
def test_graph_and_host_count_alike(true, predicted, settings):
    host, graph = both_tables(true, predicted, **settings)
    np.testing.assert_array_equal(graph(), host())


@pytest.mark.parametrize(
    "true, predicted, settings",
    [
        ([[0, 4]], [[0, 0]], {}),
        ([[0, 255]], [[0, 0]], {"ignore_label": None}),
        ([[0, 1]], [[0, 3]], {}),
        ([[0, 1]], [[0, -1]], {}),
        (np.array([[0, 2**32 + 1]]), [[0, 0]], {}),
        ([[0.0, 1.0]], [[0, 0]], {}),
        ([[0, 1]], [[0.0, 1.0]], {}),
        ([[0, 1, 2]], [[0, 1]], {}),
        ([0, 1], [0, 1], {}),
    ],
)
def test_graph_and_host_refuse_alike(true, predicted, settings):
    for function in both_tables(true, predicted, **settings):
        with pytest.raises((UserError, tf.errors.InvalidArgumentError)):
            function()


def test_xla_which_drops_assertions_still_does_not_flatter():
    data = scenes()
    data["true_mask"][1, 0, 0] = 9
    for metric in (cls(num_true=3) for cls in METRICS.values()):
        tf.function(metric.update_state, jit_compile=True)(data["true_mask"], data["masks"])
        assert metric.result() == -math.inf
    with pytest.raises(tf.errors.InvalidArgumentError, match="`true` must hold ids less than"):
        tf.function(streaming.ForegroundARI(3).update_state)(data["true_mask"], data["masks"])


@pytest.mark.parametrize(
    "image, recon",
    [
        (np.zeros((2, 4, 4, 3), np.float32), np.zeros((2, 4, 4, 1), np.float32)),
        (np.zeros((2, 4, 4, 3), np.uint8), np.zeros((2, 4, 4, 3), np.float32)),
        (np.zeros((2, 4, 3), np.float32), np.zeros((2, 4, 3), np.float32)),
        (np.zeros((2, 0, 4, 3), np.float32), np.zeros((2, 0, 4, 3), np.float32)),
    ],
)
def test_graph_and_host_refuse_the_same_images(image, recon):
    functions = (
        reconstruction.mean_squared_error,
        reconstruction.mean_squared_error_on_device,
    )
    for function in functions:
        with pytest.raises(UserError, match="`image` and `recon` must"):
            function(image, recon)


@pytest.mark.parametrize("value", BROKEN)
def test_reconstructions_that_are_not_finite_have_an_infinite_error(value):
    data = scenes(2)
    data["recon"][1, 2, 2, 1] = value
    for function in (
        reconstruction.mean_squared_error,
        reconstruction.mean_squared_error_on_device,
    ):
        first, second = np.asarray(function(data["image"], data["recon"]))
        assert 0 < first < 1 and second == math.inf
    assert reconstruction.psnr(math.inf) == -math.inf
    with pytest.raises(UserError, match="`image` must be finite"):
        reconstruction.mean_squared_error(data["recon"], data["image"])


@pytest.mark.parametrize("largest", [255, 70_000, 2**40, 2**64 - 1])
def test_ids_are_names_and_cost_nothing(largest):
    """Tables have as many rows as there are objects, in every function that takes ids."""
    dtype = np.uint8 if largest == 255 else np.uint64
    true = np.zeros((1, 2, 4, 4), dtype)
    true[..., :2] = largest
    predicted = np.zeros((1, 2, 4, 4), np.int64)
    predicted[..., :2] = 1_000_000
    for level in ("sequence", "frame"):
        settings = {"ignore_label": None, "level": level}
        table = clustering.contingency_table(true, predicted, **settings)
        assert table.shape[-2:] == (2, 2)
        assert clustering.adjusted_rand_index(true, predicted, **settings).tolist() == [1.0]
    numbers, values = clustering.renumber(true)
    assert set(numbers.ravel()) == {0, 1} and values[0].tolist() == [0, largest]

    masks = np.moveaxis(np.eye(2, dtype=np.float32)[numbers], -1, 2)[..., None]
    tables = video.frame_tables(true, masks, ignore_label=None)
    assert tables.shape == (1, 2, 2, 2)
    columns = tracking.tracking_scores(true, predicted, min_pixels=0, ignore_label=None)
    assert columns["mota"].tolist() == [1.0]
    scorer = scores.SceneScorer(ignore_label=None)
    scorer.update(segments=predicted, true_mask=true)
    assert scorer.summary()["miou"] == 1.0


def test_every_entry_has_numbers_of_its_own():
    """Scenes whose ids differ share rows: a thousand scenes of two ids are tables of two rows."""
    true = np.arange(1_000)[:, None] * [0, 1] + 7
    table = clustering.contingency_table(true, true)
    assert table.shape == (1_000, 3, 3)
    with pytest.raises(UserError, match="must have fewer ids.*Are these label maps"):
        noise = np.arange(60_000)[None]
        clustering.contingency_table(noise, noise)


def test_frames_of_a_clip_share_their_numbers():
    true = np.array([[[[5, 5, 9, 9]], [[9, 9, 9, 9]]]])
    table = clustering.contingency_table(true, true, level="frame")
    assert table[0].sum(-1).tolist() == [[0, 2, 2], [0, 0, 4]]


def test_a_slot_without_number_may_be_the_background():
    true = np.zeros((1, 2, 4, 4), int)
    true[..., :2] = 1
    predicted = np.where(true == 1, 3, 900_000)
    for background in (900_000, -1, "largest"):
        found = tracking.tracking_scores(true, predicted, background=background, min_pixels=0)
        assert found["false_positives"].tolist() == [0 if background != "largest" else 2]


def test_every_score_of_the_scorer_is_defined():
    names = set(summary(scenes(2, frames=12))) | set(summary(depth_scenes()))
    for name in names:
        base = name.removesuffix("_std").removesuffix("_low").removesuffix("_high")
        base = base.removeprefix("undefined_")
        assert definitions.define(base) is not None, name
    assert definitions.define("unheard_of") is None and math.isnan(definitions.worst("unheard_of"))
    assert definitions.define("mse_10").title == "squared error, first 10 frames"
    assert definitions.define("fg_ari_frame_20").worst == -0.5


def test_conditions_are_said():
    data = scenes()
    assert definitions.conditions("ari", summary(data)) == []
    data["masks"][1] = np.nan
    assert definitions.conditions("fg_ari", summary(data)) == [
        "over 3 of 4 scenes (1 undefined: nothing to score)",
        "1 failed, counted as -0.5",
    ]


def test_label_maps_that_are_no_integers_are_named():
    data = scenes()
    data["true_mask"] = data["true_mask"].astype(np.float32)
    with pytest.raises(UserError, match="`true_mask` must be integer ids.*float32"):
        summary(data)
    with pytest.raises(UserError, match="One of `masks` and `segments`.*Received: both"):
        summary(scenes(), segments=scenes()["true_mask"])
