"""Latent traversals: what one number of one slot stands for (after Greff et al. 2019, figure 6)."""

import numpy as np

from tfobj.errors import UserError
from tfobj.metrics import clustering, overlap
from tfobj.viz import canvas, palette


def traversal_figure(
    image, slots, kl, decode, *, scene=0, slot=0, num_dimensions=5, num_values=7, title=""
):
    """One slot of one scene, one latent dimension at a time: a row per dimension, a column per value.

    Everything else stays at the posterior mean. The dimensions are those with the largest KL in this slot, mean over all
    scenes given; each takes evenly spaced values over the central 90 % of its posterior means there. (This slot alone, because
    ordered slots differ. A range of the unit prior says little of models whose KL hardly weighs: their means go far beyond it.)

    Args:
      image: [B, H, W, C] in [0, 1].
      slots: [B, K, D], posterior means; give 16 scenes or more for the sake of the ranges.
      kl: [B, K, d], nats per latent; d <= D, and the first d numbers of a slot are these latents.
      decode: function of float32 [n, K, D] -> `DecodedScene` of n scenes.
      scene, slot: which one is changed.
      num_dimensions, num_values: rows and columns.
      title: line above the figure.

    Returns:
      matplotlib.figure.Figure.

    Raises:
      UserError: `kl` is not that of `slots`.
    """
    image, slots, kl = np.asarray(image), np.asarray(slots, np.float32), np.asarray(kl)
    if kl.ndim != 3 or kl.shape[:2] != slots.shape[:2] or kl.shape[2] > slots.shape[2]:
        raise UserError(
            f"`kl` must have shape [B, K, d], d <= D, of slots [B, K, D] = {slots.shape}. Received: {kl.shape}."
        )
    mean_kl = kl[:, slot].mean(axis=0)
    dimensions = np.argsort(-mean_kl, kind="stable")[:num_dimensions]
    values = usual_values(slots[:, slot, dimensions], num_values)
    here = slots[scene]  # [K, D]
    found = decode(here[None])
    grid = canvas.Grid(
        1 + len(dimensions), num_values, image.shape[1:3], title=title, left=180, row_breaks=(1,)
    )
    grid.row_label(0, "scene")
    heads = (
        ("input", None, image[scene]),
        ("reconstruction", None, np.asarray(found.recon)[0]),
        (
            f"slot {slot + 1}",
            palette.slot_colours(slot + 1)[slot],
            palette.over_checkerboard(
                np.asarray(found.slot_recons)[0, slot], np.asarray(found.masks)[0, slot]
            ),
        ),
    )
    for column, (name, colour, picture) in enumerate(heads):
        grid.column_label(column, name, colour=colour)
        grid.picture(0, column, picture)
    for row, (dimension, wanted) in enumerate(zip(dimensions, values, strict=True), start=1):
        grid.row_label(
            row,
            f"latent {dimension + 1}",
            f"KL {mean_kl[dimension]:.3g} nats\n{wanted[0]:.3g} to {wanted[-1]:.3g}\nhere {here[slot, dimension]:.3g}",
        )
        for column, picture in enumerate(
            np.asarray(decode(traversed(here, slot, dimension, wanted)).recon)
        ):
            grid.picture(row, column, picture)
    return grid.figure


def usual_values(latents, num=7):
    """Returns `num` evenly spaced values of every latent over the central 90 % of what occurs: [B, n] -> [n, num]."""
    low, high = np.percentile(np.asarray(latents, np.float64), [5, 95], axis=0)
    return np.linspace(low, high, num, axis=-1)


def traversed(slots, slot, dimension, values):
    """Returns copies of a scene's slots [K, D] in which one number of one slot takes every value: [len(values), K, D]."""
    copies = np.repeat(slots[None], len(values), axis=0)
    copies[:, slot, dimension] = values
    return copies


def slot_to_traverse(kl, masks, true_mask=None):
    """Returns the slot of a scene that is worth a traversal: the one that fits an object best (IoU), or the one with the largest KL.

    Args:
      kl: [K, d], nats per latent.
      masks: [K, H, W, 1].
      true_mask: optional [H, W] ids; 0 = background, 255 = not labelled.
    """
    if true_mask is not None:
        table = clustering.contingency_table(
            true_mask[None], clustering.segment_ids(masks[None]), num_predicted=len(kl)
        )
        iou = overlap.iou_from_table(table)[0, 1:]
        if iou.any():
            return int(iou.max(axis=0).argmax())
    return int(np.sum(kl, axis=-1).argmax())
