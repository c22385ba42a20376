"""Signs of a run going wrong that need no labels: cheap scalars in the graph, plain words on the host.

`slot_health` runs inside the train step and costs about one pass over the masks. `diagnose` turns its
numbers into sentences that say what is seen and what has helped, for the console and the report.
"""

import math

import tensorflow as tf

DOMINANT_SHARE = 0.95
"""Share of the largest slot, mean over images, that counts as "one slot explains everything". The background
of the data sets here covers up to about 90 % of the pixels, so a good decomposition stays below."""

UNIFORM_ENTROPY = 0.9
"""Fraction of log K. It is 0.9 when, of 7 slots, the largest has only 40 % and the others share the
rest: no pixel is owned. A pixel divided between two slots out of 7 has 0.36."""

MIN_KL_PER_SLOT = 0.1
"""Nats of the most informative slot, or of all slots of a layer. One binary fact about an object costs log 2 = 0.69."""

ACTIVE_LATENT_KL = 0.01
"""Nats, mean over images and slots, above which a latent dimension counts as used: a shift of the posterior
mean by 0.14 prior standard deviations, which noise of the sample hides."""

MIN_IMAGE_DEPENDENCE = 0.005
"""Share of pixels whose slot changes from image to image: 20 pixels at 64 x 64, less than one object that moves."""

WARMUP_STEPS = 2_000
"""Masks of every model of the package are near uniform at the start; judged earlier, all runs look sick."""

STALL_STEPS = 20_000
STALL_FRACTION = 0.25
"""No better value for this many steps *and* this fraction of the run: plateaus of 10 000 steps before
objects are found are normal (EfficientMORL, Slot Attention)."""

MISSED_SHARE = 0.25
"""Share of the planned steps for which a GECO constraint may go unmet: good targets are reached after 10 to 20 % of
the steps (EfficientMORL's procedure), and afterwards the constraint is met again and again."""

MULTIPLIER_CEILING = 1e9
"""Of a GECO multiplier of the KL, whose upper bound is 1e10 (GENESIS)."""


def slot_health(masks, kl_per_slot=None, attention=None, layer_kl=None, *, min_share=0.01):
    """Summary of how the slots are used, without labels. Frames of a video count as images.

    Args:
      masks: [B, (T,) K, H, W, 1], shares that sum to one over K; any float precision.
      kl_per_slot: optional, in nats: [B, K] summed over latents, or [B, K, D] per latent.
      attention: optional [B, K, n], attention over n input positions, normalised over K.
      layer_kl: optional [B, L], nats per stochastic layer, summed over slots and latents.
      min_share: a slot is active in an image if it owns at least this share of the pixels by argmax.

    Returns:
      dict of float32 scalars:
        active_slots: mean number of active slots per image, in [0, K].
        largest_slot_share: mean share of pixels of the largest slot, in [1/K, 1].
        mask_entropy: mean entropy over slots of a pixel, nats, in [0, log K].
        mask_entropy_fraction: the same divided by log K, in [0, 1] (0 for K = 1).
        image_dependence: share of pixels whose owner differs between neighbours in the batch, in [0, 1];
          1 if the batch holds a single image.
        kl_slot_mean, kl_slot_max: KL per slot, mean over slots, or largest slot; mean over images.
        active_latents: number of dimensions D used by any slot ([B, K, D] only), see `ACTIVE_LATENT_KL`.
        attention_entropy_fraction: mean entropy over slots of an input position, over log K.
        layer_kl_1, ..., layer_kl_L: KL of every layer, mean over images.
    """
    masks = tf.cast(masks, tf.float32)
    num_slots, height, width = masks.shape[-4:-1]
    masks = tf.reshape(masks, [-1, num_slots, height * width])
    owner = tf.argmax(masks, axis=1, output_type=tf.int32)
    share = tf.reduce_mean(tf.one_hot(owner, num_slots, axis=1), axis=-1)  # [B, K]
    entropy = tf.reduce_mean(_entropy(masks))
    changed = tf.reduce_mean(tf.cast(owner != tf.roll(owner, 1, axis=0), tf.float32))
    health = {
        "active_slots": tf.reduce_mean(tf.reduce_sum(tf.cast(share >= min_share, tf.float32), -1)),
        "largest_slot_share": tf.reduce_mean(tf.reduce_max(share, -1)),
        "mask_entropy": entropy,
        "mask_entropy_fraction": entropy / math.log(max(num_slots, 2)),
        "image_dependence": tf.where(tf.shape(masks)[0] > 1, changed, 1.0),
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
    """Says in plain words what looks wrong and what has helped others.

    Args:
      health: name -> number, from `slot_health`, and of models with GECO "geco_multiplier" and "geco_constraint" (nats per
        image, positive where it is met); further scalars (loss, gradient norm) are checked for being finite only. Missing
        names are skipped.
      num_slots: K.
      step: training step of the numbers.
      steps_without_improvement: steps since the best value of the watched metric.
      constraint_missed: share of the planned steps since the GECO constraint was met last, in [0, 1].
      warmup_steps: nothing but non-finite numbers is reported before this step.

    Returns:
      warnings: list of sentences, most serious first; empty for a healthy run.
    """
    health = {name: float(value) for name, value in health.items()}
    warnings = []
    broken = sorted(name for name, value in health.items() if not math.isfinite(value))
    if broken:
        warnings.append(
            f"Not finite at step {step}: {', '.join(broken)}. Everything after this step is lost: go back to the last "
            "checkpoint, and try a lower learning rate, gradient clipping by norm, or float32 in place of bfloat16."
        )
    if step < warmup_steps:
        return warnings

    def beyond(name, bound, *, below=False):
        value = health.get(name, math.nan)
        return value <= bound if below else value >= bound

    uniform = num_slots > 1 and beyond("mask_entropy_fraction", UNIFORM_ENTROPY)
    if uniform:
        warnings.append(
            f"Masks are nearly uniform: every pixel is shared by all {num_slots} slots "
            f"({_percent(health['mask_entropy_fraction'])} of the largest entropy). The slots are still copies of each "
            "other: try a longer warm-up, a smaller noise scale of the likelihood, or another seed."
        )
    elif num_slots > 1 and beyond("largest_slot_share", DOMINANT_SHARE):
        warnings.append(
            f"One slot explains {_percent(health['largest_slot_share'])} of every image: its decoder is so strong, or the "
            "noise scale so large, that one is enough. Try a smaller noise scale, a smaller latent or component decoder, more "
            "refinement steps, or another seed (one seed in five fails in published runs)."
        )
    if (
        not uniform
        and num_slots > 1
        and beyond("image_dependence", MIN_IMAGE_DEPENDENCE, below=True)
    ):
        warnings.append(
            f"The segmentation is the same for every image (only {_percent(health['image_dependence'])} of the pixels "
            "change owner): slots divide the plane, not the scene. Check that images differ and reach the encoder, and "
            "that the masks depend on the latents."
        )
    collapsed = beyond("kl_slot_max", MIN_KL_PER_SLOT, below=True)
    if collapsed:
        warnings.append(
            f"Posterior collapse: the most informative slot carries {health['kl_slot_max']:.2g} nats, so latents hold "
            "nothing about the image. Try a lower weight of the KL or a slow warm-up of it, a smaller noise scale, or "
            "a harder GECO target."
        )
    warnings += _empty_layers(health, collapsed) + _constraint(health, constraint_missed)
    if num_slots > 1 and beyond("attention_entropy_fraction", UNIFORM_ENTROPY):
        warnings.append(
            f"Attention over slots stays uniform ({_percent(health['attention_entropy_fraction'])} of the largest "
            "entropy): try a lower temperature, distinct initial slots, and keep the gated update."
        )
    if steps_without_improvement >= max(STALL_STEPS, STALL_FRACTION * step):
        warnings.append(
            f"No improvement for {steps_without_improvement:,} of {step:,} steps. The run may be done, or stuck: look "
            "at the figures, and lower the learning rate or start another seed."
        )
    return warnings


def _empty_layers(health, collapsed):
    """Returns the sentence about stochastic layers that hold (almost) nothing, unless `collapsed`, which says it of all."""
    layers = sorted(
        int(name.removeprefix("layer_kl_")) for name in health if name.startswith("layer_kl_")
    )
    empty = [i for i in layers if health[f"layer_kl_{i}"] <= MIN_KL_PER_SLOT]
    if not empty or (collapsed and empty == layers):
        return []
    which = f"layer{'s' * (len(empty) > 1)} {' and '.join(map(str, empty))} of {len(layers)}"
    nats = ", ".join(f"{health[f'layer_kl_{i}']:.2g}" for i in empty)
    sentence = (
        f"Posterior collapse in {which}: KL {nats} nats. The reversed++ prior and GECO have helped (with a bottom-up or a "
        "reversed prior, the posteriors of the first layers stay near the initial one)."
    )
    return [sentence]


def _constraint(health, missed):
    """Returns the sentence about a GECO constraint that is out of reach, or met without any information."""
    multiplier, slack = (
        health.get("geco_multiplier", math.nan),
        health.get("geco_constraint", math.nan),
    )
    if slack > 0.0 and multiplier >= MULTIPLIER_CEILING:
        sentence = (
            f"GECO target too easy: it is met by {slack:.3g} nats although the KL weighs {multiplier:.2g}, so that latents cannot "
            "hold anything. Lower the target; launch/propose_target.py proposes one."
        )
        return [sentence]
    if not (slack < 0.0 and missed >= MISSED_SHARE):
        return []
    effect = (
        f"the weight of the likelihood has grown to {multiplier:.3g} and grows on"
        if multiplier >= 1.0
        else f"the weight of the KL has fallen to {multiplier:.2g}, so that nothing regularises the latents"
    )
    sentence = (
        f"GECO target not met for {_percent(missed)} of the run: {-slack:.3g} nats are missing, and {effect}. The target is "
        "below what the likelihood can reach (then it is never met; the published one on Tetrominoes is so), or too hard for "
        "the model: launch/propose_target.py proposes another."
    )
    return [sentence]


def _entropy(shares):
    """-sum_k p log p over axis 1, with 0 log 0 = 0; [B, K, n] -> [B, n] nats."""
    return -tf.reduce_sum(tf.math.xlogy(shares, shares), axis=1)


def _percent(fraction):
    return f"{100.0 * fraction:.3g} %"
