"""Latent traversals: what one latent of one slot encodes (after Greff et al. 2019, figure 6)."""

import numpy as np

from tfobj.errors import UserError
from tfobj.metrics import clustering, overlap
from tfobj.viz import canvas, palette


def traversal_figure(
    image, slots, kl, decode, *, scene=0, slot=0, num_dimensions=5, num_values=7, title=""
):
    """Draws one slot of one scene while one latent changes: a row per latent, a column per value.

    Everything else stays at the posterior mean. The latents are those with the largest KL in this
    slot, averaged over the given scenes; each takes evenly spaced values over the central 90 % of
    its posterior means in this slot, because ordered slots differ. A range of the unit prior would
    say little about models whose KL hardly weighs: their means go far beyond it.

    Args:
      image: [B, H, W, C] in [0, 1].
      slots: [B, K, D], posterior means; the ranges need 16 scenes or more.
      kl: [B, K, d], nats per latent; d <= D, and the first d numbers of a slot are these latents.
      decode: function of float32 [n, K, D] -> `DecodedScene` of n scenes.
      scene, slot: the scene and the slot that change.
      num_dimensions, num_values: numbers of latents and values, i.e. rows and columns.
      title: line above the figure.

    Returns:
      matplotlib.figure.Figure.

    Raises:
      UserError: if `kl` does not fit `slots`.
    """
    image = np.asarray(image)
    slots = np.asarray(slots, np.float32)
    kl = np.asarray(kl)
    if kl.ndim != 3 or kl.shape[:2] != slots.shape[:2] or kl.shape[2] > slots.shape[2]:
        raise UserError(
            f"`kl` must have shape [B, K, d], d <= D, of slots [B, K, D] = {slots.shape}. "
            f"Received: {kl.shape}."
        )

    mean_kl = kl[:, slot].mean(axis=0)
    dimensions = np.argsort(-mean_kl, kind="stable")[:num_dimensions]
    ranges = usual_values(slots[:, slot, dimensions], num_values)
    here = slots[scene]  # [K, D]
    grid = canvas.Grid(
        1 + len(dimensions), num_values, image.shape[1:3], title=title, left=180, row_breaks=(1,)
    )

    found = decode(here[None])
    slot_recon = np.asarray(found.slot_recons)[0, slot]
    cutout = palette.over_checkerboard(slot_recon, np.asarray(found.masks)[0, slot])
    colour = palette.slot_colours(slot + 1)[slot]
    heads = (
        ("input", None, image[scene]),
        ("reconstruction", None, np.asarray(found.recon)[0]),
        (f"slot {slot + 1}", colour, cutout),
    )
    grid.row_label(0, "scene")
    for column, (name, colour, picture) in enumerate(heads):
        grid.column_label(column, name, colour=colour)
        grid.picture(0, column, picture)

    for row, (dimension, values) in enumerate(zip(dimensions, ranges, strict=True), start=1):
        note = (
            f"KL {mean_kl[dimension]:.3g} nats\n"
            f"{values[0]:.3g} to {values[-1]:.3g}\n"
            f"here {here[slot, dimension]:.3g}"
        )
        grid.row_label(row, f"latent {dimension + 1}", note)
        decoded = decode(traversed(here, slot, dimension, values))
        for column, picture in enumerate(np.asarray(decoded.recon)):
            grid.picture(row, column, picture)
    return grid.figure


def usual_values(latents, num=7):
    """Returns `num` even values over the central 90 % of every latent: [B, n] -> [n, num]."""
    low, high = np.percentile(np.asarray(latents, np.float64), [5, 95], axis=0)
    return np.linspace(low, high, num, axis=-1)


def traversed(slots, slot, dimension, values):
    """Returns copies of slots [K, D] in which one latent takes every value: [len(values), K, D]."""
    copies = np.repeat(slots[None], len(values), axis=0)
    copies[:, slot, dimension] = values
    return copies


def slot_to_traverse(kl, masks, true_mask=None):
    """Returns the most interesting slot of a scene.

    With a true mask, it is the slot that fits an object best (IoU), else the one with the largest
    KL.

    Args:
      kl: [K, d], nats per latent.
      masks: [K, H, W, 1].
      true_mask: optional [H, W] ids; 0 = background, 255 = not labelled.
    """
    if true_mask is not None and np.isfinite(masks).all():
        table = clustering.contingency_table(
            true_mask[None], clustering.segment_ids(masks[None]), num_predicted=len(kl)
        )
        iou = overlap.iou_from_table(table)[0, 1:]
        # Scenes without objects say nothing about slots.
        if iou.any():
            return int(iou.max(axis=0).argmax())

    return int(np.sum(kl, axis=-1).argmax())
