"""Health on constructed masks with known answers, every diagnosis, and silence in a healthy run."""

import math

import numpy as np
import pytest
import tensorflow as tf

from tfobj.metrics import health


def one_hot_masks(ids, num_slots):
    """ids [B, H, W] -> masks [B, K, H, W, 1]."""
    return np.moveaxis(np.eye(num_slots, dtype=np.float32)[ids], -1, 1)[..., None]


def healthy_masks():
    rng = np.random.default_rng(0)
    ids = np.zeros((4, 10, 10), int)
    for b in range(4):
        row, column = rng.integers(0, 5, 2)
        ids[b, row : row + 4, column : column + 4] = 1 + b % 2
    return one_hot_masks(ids, 4)


def read(numbers):
    return {name: float(value) for name, value in numbers.items()}


def test_known_values():
    ids = np.zeros((2, 10, 10), int)
    ids[0, :2] = 1  # 20 % of the first image
    ids[1, 0, 0] = 2  # exactly 1 % of the second
    got = read(health.slot_health(one_hot_masks(ids, 4)))
    np.testing.assert_allclose(got["active_slots"], 2.0)
    np.testing.assert_allclose(got["largest_slot_share"], (0.8 + 0.99) / 2, rtol=1e-6)
    np.testing.assert_allclose(got["image_dependence"], 0.20, rtol=1e-6)
    assert got["mask_entropy"] == got["mask_entropy_fraction"] == 0.0
    stricter = health.slot_health(one_hot_masks(ids, 4), min_share=0.05)
    np.testing.assert_allclose(stricter["active_slots"], 1.5)


def test_uniform_masks_have_entropy_log_k():
    got = read(health.slot_health(np.full((2, 5, 4, 4, 1), 0.2, np.float32)))
    np.testing.assert_allclose(got["mask_entropy"], math.log(5), rtol=1e-6)
    np.testing.assert_allclose(got["mask_entropy_fraction"], 1.0, rtol=1e-6)


def test_frames_count_as_images_and_one_slot_or_one_image_is_finite():
    masks = healthy_masks()
    video = masks.reshape(2, 2, *masks.shape[1:])
    assert read(health.slot_health(video)) == read(health.slot_health(masks))
    single = read(health.slot_health(masks[:1, :1] * 0 + 1))
    assert single["image_dependence"] == 1.0 and all(map(math.isfinite, single.values()))


def test_kl_and_attention():
    kl = np.zeros((3, 2, 4), np.float32)
    kl[:, 0, 1] = 2.0
    kl[:, 1, 2] = 0.5
    got = read(
        health.slot_health(
            healthy_masks(), kl_per_slot=kl, attention=np.full((3, 4, 6), 0.25, np.float32)
        )
    )
    np.testing.assert_allclose(
        [got["kl_slot_mean"], got["kl_slot_max"], got["active_latents"]], [1.25, 2.0, 2.0]
    )
    np.testing.assert_allclose(got["attention_entropy_fraction"], 1.0, rtol=1e-6)
    summed = read(health.slot_health(healthy_masks(), kl_per_slot=kl.sum(-1)))
    assert summed["kl_slot_max"] == 2.0 and "active_latents" not in summed


def test_kl_of_every_layer():
    layer_kl = np.array([[1.0, 0.0, 6.0], [3.0, 0.2, 8.0]], np.float32)
    got = read(health.slot_health(healthy_masks(), layer_kl=layer_kl))
    np.testing.assert_allclose(
        [got[f"layer_kl_{i}"] for i in (1, 2, 3)], [2.0, 0.1, 7.0], rtol=1e-6
    )


@pytest.mark.parametrize("jit_compile", [False, True])
def test_graph_equals_eager_and_bfloat16_is_close(jit_compile):
    masks = tf.nn.softmax(
        tf.constant(np.random.default_rng(1).normal(size=(4, 5, 16, 16, 1)), tf.float32), axis=1
    )
    eager = read(health.slot_health(masks, kl_per_slot=tf.ones([4, 5])))
    compute = tf.function(health.slot_health, jit_compile=jit_compile)
    compiled = read(compute(masks, kl_per_slot=tf.ones([4, 5])))
    assert eager.keys() == compiled.keys()
    np.testing.assert_allclose(list(compiled.values()), list(eager.values()), rtol=1e-5)
    rounded = health.slot_health(tf.cast(masks, tf.bfloat16))
    assert rounded["mask_entropy"].dtype == tf.float32
    np.testing.assert_allclose(rounded["mask_entropy"], eager["mask_entropy"], rtol=1e-2)


def test_a_healthy_run_is_silent():
    numbers = health.slot_health(healthy_masks(), kl_per_slot=np.full((4, 4), 8.0, np.float32))
    assert health.diagnose(numbers, num_slots=4, step=50_000, steps_without_improvement=5_000) == []


def constant_ids(share):
    ids = np.zeros((3, 10, 10), int)
    ids.reshape(3, -1)[:, : round(100 * (1 - share))] = 1
    return one_hot_masks(ids, 4)


@pytest.mark.parametrize(
    ("sickness", "sentences"),  # masks, or numbers
    [
        (constant_ids(0.98), ["One slot explains 98 % of every image", "the same for every image"]),
        (constant_ids(0.6), ["the same for every image"]),
        (np.full((2, 4, 8, 8, 1), 0.25, np.float32), ["Masks are nearly uniform"]),
        (
            {"kl_slot_max": 0.003},
            ["Posterior collapse: the most informative slot carries 0.003 nats"],
        ),
        ({"attention_entropy_fraction": 0.97}, ["Attention over slots stays uniform"]),
        (
            {"layer_kl_1": 0.004, "layer_kl_2": 0.05, "layer_kl_3": 90.0, "kl_slot_max": 40.0},
            [
                "Posterior collapse in layers 1 and 2 of 3: KL 0.004, 0.05 nats. The reversed++ "
                "prior and GECO"
            ],
        ),
        ({"layer_kl_1": 9.0, "layer_kl_2": 0.01}, ["Posterior collapse in layer 2 of 2"]),
        (
            {"layer_kl_1": 0.01, "layer_kl_2": 0.01, "kl_slot_max": 0.02},
            ["Posterior collapse: the most informative slot"],
        ),
        (
            {"geco_multiplier": 2e9, "geco_constraint": 40.0},
            ["GECO target too easy: it is met by 40 nats"],
        ),
    ],
)
def test_each_sickness_is_named_after_the_warm_up_only(sickness, sentences):
    numbers = sickness if isinstance(sickness, dict) else health.slot_health(sickness)
    found = health.diagnose(numbers, num_slots=4, step=health.WARMUP_STEPS)
    assert len(found) == len(sentences)
    assert all(sentence in warning for sentence, warning in zip(sentences, found, strict=True))
    assert health.diagnose(numbers, num_slots=4, step=health.WARMUP_STEPS - 1) == []


@pytest.mark.parametrize(
    "multiplier, sentence",
    [
        (
            14.8,
            "73.6 nats are missing, and the weight of the likelihood has grown to 14.8 and keeps "
            "growing",
        ),
        (
            1e-10,
            "73.6 nats are missing, and the weight of the KL has fallen to 1e-10, "
            "so nothing regularises the latents",
        ),
    ],
)
def test_a_constraint_that_stays_unmet_is_named(multiplier, sentence):
    """EfficientMORL's multiplier (of the likelihood) grows, GENESIS' (of the KL) falls."""
    numbers = {"geco_multiplier": multiplier, "geco_constraint": -73.6}
    (found,) = health.diagnose(numbers, num_slots=4, step=50_000, constraint_missed=0.26)
    assert found.startswith("GECO target not met for 26 % of the run") and sentence in found
    # A long phase of almost pure reconstruction comes first, and the average swings about the
    # target later.
    assert health.diagnose(numbers, num_slots=4, step=50_000, constraint_missed=0.2) == []
    assert (
        health.diagnose(
            {**numbers, "geco_constraint": 3.0}, num_slots=4, step=50_000, constraint_missed=0.0
        )
        == []
    )


def test_non_finite_numbers_are_named_at_once():
    masks = healthy_masks()
    masks[0, 0, 0, 0] = np.nan
    found = health.diagnose({**health.slot_health(masks), "loss": math.inf}, num_slots=4, step=7)
    assert len(found) == 1
    assert found[0].startswith("Not finite at step 7: loss, mask_entropy, mask_entropy_fraction.")


def test_stalls_are_relative_to_the_length_of_the_run():
    stalled = {"num_slots": 4, "steps_without_improvement": 20_000}
    assert (
        "No improvement for 20,000 of 60,000 steps"
        in health.diagnose({}, step=60_000, **stalled)[0]
    )
    assert health.diagnose({}, step=100_000, **stalled) == []


def test_one_slot_models_are_not_accused_of_collapse():
    numbers = health.slot_health(np.ones((2, 1, 4, 4, 1), np.float32))
    assert health.diagnose(numbers, num_slots=1, step=10_000) == []
