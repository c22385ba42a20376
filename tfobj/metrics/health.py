"""Signs of a run going wrong that need no labels: cheap scalars in the graph, advice on the host.

`slot_health` runs inside the train step and costs about one pass over the masks. `diagnose` turns
its numbers into sentences for the console and the report that say what is wrong and what has
helped.
"""

import math

DOMINANT_SHARE = 0.95
"""Mean share of the largest slot at which one slot explains everything.

The background of the data sets here covers up to about 90 % of the pixels, so a good decomposition
stays below.
"""

UNIFORM_ENTROPY = 0.9
"""Fraction of log K at or above which masks count as uniform.

With 7 slots it is 0.9 when the largest has only 40 % and the others share the rest, so that no
pixel is owned. A pixel divided between two of 7 slots has 0.36.
"""

MIN_KL_PER_SLOT = 0.1
"""Nats of the most informative slot, or of a layer, at or below which the posterior has collapsed.

One binary fact about an object costs log 2 = 0.69 nats.
"""

ACTIVE_LATENT_KL = 0.01
"""Nats, mean over images and slots, above which a latent dimension counts as used.

It corresponds to a shift of the posterior mean by 0.14 prior standard deviations, which sampling
noise hides.
"""

MIN_IMAGE_DEPENDENCE = 0.005
"""Share of pixels whose slot changes between images at or below which masks ignore the image.

It is 20 pixels at 64 x 64, less than one moving object.
"""

WARMUP_STEPS = 2_000
"""Earliest step of a diagnosis: at the start, the masks of every model here are nearly uniform."""

STALL_STEPS = 20_000
STALL_FRACTION = 0.25
"""A run stalls without a better value for this many steps *and* this fraction of the run.

Plateaus of 10,000 steps before objects are found are normal (EfficientMORL, Slot Attention).
"""

MISSED_SHARE = 0.25
"""Share of the planned steps for which a GECO constraint may go unmet.

Good targets are reached after 10 to 20 % of the steps (EfficientMORL's procedure), and afterwards
the constraint is met again and again.
"""

MULTIPLIER_CEILING = 1e9
"""A GECO multiplier of the KL this large has run away; its upper bound is 1e10 (GENESIS)."""


def slot_health(masks, kl_per_slot=None, attention=None, layer_kl=None, *, min_share=0.01):
    """Summarises how the slots are used, without labels. Frames of a video count as images.

    Pixels of images whose masks are not finite have no owner. Such images have failed: they count
    with the worst value (no active slot, one slot with everything, no dependence on the image),
    their entropy is NaN, which `diagnose` reports, and `failed_images` is their number.

    Args:
      masks: [B, (T,) K, H, W, 1], shares that sum to one over K; any float precision.
      kl_per_slot: optional, in nats: [B, K] summed over latents, or [B, K, D] per latent.
      attention: optional [B, K, n], attention over n input positions, normalised over K.
      layer_kl: optional [B, L], nats per stochastic layer, summed over slots and latents.
      min_share: a slot is active in an image if it owns at least this share of the pixels by
        argmax.

    Returns:
      dict of float32 scalars:
        active_slots: mean number of active slots per image, in [0, K].
        largest_slot_share: mean pixel share of the largest slot, in [1/K, 1].
        mask_entropy: mean entropy over slots of a pixel in nats, in [0, log K].
        mask_entropy_fraction: the same divided by log K, in [0, 1] (0 for K = 1).
        image_dependence: share of pixels whose owner differs between neighbours in the batch, in
          [0, 1]; 1 if the batch holds a single image.
        failed_images: number of images with masks that are not finite.
        kl_slot_mean, kl_slot_max: mean and largest KL over slots; mean over images.
        active_latents: number of dimensions D that any slot uses, see `ACTIVE_LATENT_KL`; only for
          `kl_per_slot` [B, K, D].
        attention_entropy_fraction: mean entropy over slots of an input position, divided by log K.
        layer_kl_1, ..., layer_kl_L: KL of every layer, mean over images.
    """
    # Imported here because `diagnose` also serves hosts without TensorFlow.
    import tensorflow as tf

    masks = tf.cast(masks, tf.float32)
    num_slots, height, width = masks.shape[-4:-1]
    masks = tf.reshape(masks, [-1, num_slots, height * width])

    # The argmax of NaN is a slot like any other, and would look healthy.
    finite = tf.cast(tf.reduce_all(tf.math.is_finite(masks), axis=[1, 2]), tf.float32)  # [B]
    owner = tf.argmax(masks, axis=1, output_type=tf.int32)
    share = tf.reduce_mean(tf.one_hot(owner, num_slots, axis=1), axis=-1)  # [B, K]
    active = finite * tf.reduce_sum(tf.cast(share >= min_share, tf.float32), -1)
    largest = tf.where(finite > 0.0, tf.reduce_max(share, -1), 1.0)
    entropy = tf.reduce_mean(_entropy(masks))
    # Rolling by one compares every image with its neighbour in the batch.
    changes = finite[:, None] * tf.cast(owner != tf.roll(owner, 1, axis=0), tf.float32)
    changed = tf.reduce_mean(changes)
    health = {
        "active_slots": tf.reduce_mean(active),
        "largest_slot_share": tf.reduce_mean(largest),
        "mask_entropy": entropy,
        "mask_entropy_fraction": entropy / math.log(max(num_slots, 2)),
        "image_dependence": tf.where(tf.shape(masks)[0] > 1, changed, 1.0),
        "failed_images": tf.reduce_sum(1.0 - finite),
    }

    if kl_per_slot is not None:
        kl = tf.cast(kl_per_slot, tf.float32)
        if kl.shape.rank == 3:
            per_latent = tf.reduce_mean(kl, axis=[0, 1])
            health["active_latents"] = tf.reduce_sum(
                tf.cast(per_latent > ACTIVE_LATENT_KL, tf.float32)
            )
            kl = tf.reduce_sum(kl, -1)
        health["kl_slot_mean"] = tf.reduce_mean(kl)
        health["kl_slot_max"] = tf.reduce_mean(tf.reduce_max(kl, -1))

    if attention is not None:
        attention = tf.cast(attention, tf.float32)
        fraction = tf.reduce_mean(_entropy(attention)) / math.log(max(attention.shape[1], 2))
        health["attention_entropy_fraction"] = fraction

    if layer_kl is not None:
        per_layer = tf.reduce_mean(tf.cast(layer_kl, tf.float32), axis=0)
        health.update({f"layer_kl_{i + 1}": value for i, value in enumerate(tf.unstack(per_layer))})
    return health


def diagnose(
    health,
    *,
    num_slots,
    step,
    steps_without_improvement=0,
    constraint_missed=0.0,
    warmup_steps=WARMUP_STEPS,
):
    """Says in plain words what looks wrong and what has helped in such cases.

    Args:
      health: name -> number: scalars from `slot_health` and, for models with GECO,
        "geco_multiplier" and "geco_constraint" (nats per image, positive where it is met). Other
        scalars (loss, gradient norm) are only checked for being finite. Missing names are skipped.
      num_slots: K.
      step: training step of the numbers.
      steps_without_improvement: steps since the best value of the watched metric.
      constraint_missed: share of the planned steps since the GECO constraint was last met, in
        [0, 1].
      warmup_steps: before this step, only non-finite numbers are reported.

    Returns:
      warnings: list of sentences, most serious first; empty for a healthy run.
    """
    health = {name: float(value) for name, value in health.items()}
    warnings = _not_finite(health, step)
    # Early in training the masks of every model are nearly uniform, and all runs would look sick.
    if step < warmup_steps:
        return warnings

    if num_slots > 1:
        warnings += _masks(health, num_slots)
    warnings += _posterior(health)
    warnings += _constraint(health, constraint_missed)
    if num_slots > 1 and _at_least(health, "attention_entropy_fraction", UNIFORM_ENTROPY):
        warnings.append(
            "Attention over slots stays uniform "
            f"({_percent(health['attention_entropy_fraction'])} of the largest possible entropy). "
            "Try a lower temperature and distinct initial slots, and keep the gated update."
        )
    if steps_without_improvement >= max(STALL_STEPS, STALL_FRACTION * step):
        warnings.append(
            f"No improvement for {steps_without_improvement:,} of {step:,} steps. The run may be "
            "finished, or stuck: look at the figures, then lower the learning rate or start "
            "another seed."
        )
    return warnings


def _not_finite(health, step):
    """Returns the warning about numbers that are NaN or infinite, in a list."""
    broken = sorted(name for name, value in health.items() if not math.isfinite(value))
    if not broken:
        return []
    return [
        f"Not finite at step {step}: {', '.join(broken)}. The weights are unusable from this step "
        "on: go back to the last checkpoint, and try a lower learning rate, gradient clipping by "
        "norm, or float32 instead of bfloat16."
    ]


def _masks(health, num_slots):
    """Returns the warnings about masks that are uniform, dominated by one slot, or constant."""
    warnings = []
    # Where masks are uniform, the owner of a pixel means nothing, so its changes are not judged.
    uniform = _at_least(health, "mask_entropy_fraction", UNIFORM_ENTROPY)
    if uniform:
        warnings.append(
            f"Masks are nearly uniform: every pixel is shared by all {num_slots} slots "
            f"({_percent(health['mask_entropy_fraction'])} of the largest possible entropy). The "
            "slots are still copies of each other. Try a longer warm-up, a smaller noise scale of "
            "the likelihood, or another seed."
        )
    elif _at_least(health, "largest_slot_share", DOMINANT_SHARE):
        warnings.append(
            f"One slot explains {_percent(health['largest_slot_share'])} of every image: its "
            "decoder is so strong, or the noise scale so large, that one slot is enough. Try a "
            "smaller noise scale, a smaller latent or component decoder, more refinement steps, "
            "or another seed (one seed in five fails in published runs)."
        )
    if not uniform and _at_most(health, "image_dependence", MIN_IMAGE_DEPENDENCE):
        warnings.append(
            "The segmentation is the same for every image (only "
            f"{_percent(health['image_dependence'])} of the pixels change owner): the slots divide "
            "the image plane instead of the scene. Check that the images differ and reach the "
            "encoder, and that the masks depend on the latents."
        )
    return warnings


def _posterior(health):
    """Returns the warnings about slots and stochastic layers whose posterior has collapsed."""
    collapsed = _at_most(health, "kl_slot_max", MIN_KL_PER_SLOT)
    warnings = []
    if collapsed:
        warnings.append(
            f"Posterior collapse: the most informative slot carries {health['kl_slot_max']:.2g} "
            "nats, so the latents hold nothing about the image. Try a lower or slowly increasing "
            "weight of the KL, a smaller noise scale, or a harder GECO target."
        )

    layers = sorted(
        int(name.removeprefix("layer_kl_")) for name in health if name.startswith("layer_kl_")
    )
    empty = [i for i in layers if health[f"layer_kl_{i}"] <= MIN_KL_PER_SLOT]
    # If all layers are empty, the sentence about the slots has already said so.
    if empty and not (collapsed and empty == layers):
        noun = "layer" if len(empty) == 1 else "layers"
        nats = ", ".join(f"{health[f'layer_kl_{i}']:.2g}" for i in empty)
        warnings.append(
            f"Posterior collapse in {noun} {' and '.join(map(str, empty))} of {len(layers)}: KL "
            f"{nats} nats. The reversed++ prior and GECO have helped; with a bottom-up or a "
            "reversed prior, the posteriors of the first layers stay close to the initial one."
        )
    return warnings


def _constraint(health, missed):
    """Returns the warning about a GECO constraint that is out of reach or met too easily."""
    multiplier = health.get("geco_multiplier", math.nan)
    slack = health.get("geco_constraint", math.nan)
    if slack > 0.0 and multiplier >= MULTIPLIER_CEILING:
        return [
            f"GECO target too easy: it is met by {slack:.3g} nats although the weight of the KL is "
            f"{multiplier:.2g}, so the latents cannot hold anything. Lower the target; "
            "launch/propose_target.py proposes one."
        ]
    if not (slack < 0.0 and missed >= MISSED_SHARE):
        return []

    # A multiplier of the likelihood is at least 1 and grows; one of the KL falls below 1.
    if multiplier >= 1.0:
        effect = f"the weight of the likelihood has grown to {multiplier:.3g} and keeps growing"
    else:
        weight = f"{multiplier:.2g}"
        effect = f"the weight of the KL has fallen to {weight}, so nothing regularises the latents"
    return [
        f"GECO target not met for {_percent(missed)} of the run: {-slack:.3g} nats are missing, "
        f"and {effect}. Either the target is below what the likelihood can reach, and is never met "
        "(as the published one on Tetrominoes), or it is too hard for the model. "
        "launch/propose_target.py proposes another."
    ]


def _at_least(health, name, bound):
    """Returns whether a number is known and at least `bound`; comparisons with NaN are false."""
    return health.get(name, math.nan) >= bound


def _at_most(health, name, bound):
    """Returns whether a number is known and at most `bound`; comparisons with NaN are false."""
    return health.get(name, math.nan) <= bound


def _entropy(shares):
    """Returns -sum_k p log p over axis 1 with 0 log 0 = 0: [B, K, n] -> [B, n] nats."""
    import tensorflow as tf

    return -tf.reduce_sum(tf.math.xlogy(shares, shares), axis=1)


def _percent(fraction):
    return f"{100.0 * fraction:.3g} %"
