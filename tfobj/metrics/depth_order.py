"""Which of two objects is in front? Depth pair accuracy (DPA), and how far off positions are.

    pairs        (i, i') of one image whose true extents share at least `min_overlap` pixels; 0: all pairs
    true order   the object that owns more of the shared pixels in the true modal map; if neither does (third objects
                 hide the overlap, or there is none), the smaller true depth
    predicted    sign(d_slot(i) - d_slot(i')), slots by the modal matching
    score        1 right, 0 wrong or an object without a slot, 1/2 for exactly equal depths

Axes: B images, N true entities (0 = background), K object slots, P = (N - 1)(N - 2)/2 pairs. On the host, int64/float64.

Source: Anciukevicius 2020, section 4.
"""

from typing import NamedTuple

import numpy as np

from tfobj.errors import UserError, unknown_name
from tfobj.metrics import amodal, clustering

MIN_OVERLAPS = (0, 30, 90)
"""Pixels that the extents of a pair share at least; 30 is the paper's, the others are its comparison."""


class DepthPairs(NamedTuple):
    """All pairs of objects of every image, those without a true order included."""

    score: np.ndarray
    """float64 [B, P], 0, 1/2 or 1."""
    overlap: np.ndarray
    """int64 [B, P], pixels that the true extents share."""
    defined: np.ndarray
    """bool [B, P], whether both objects are in the frame and have a true order."""
    hidden: np.ndarray
    """bool [B, P], whether one object shows no pixel. It has no slot then, and its pairs score 0, whatever the model."""


def depth_pairs(true_mask, true_sets, true_depth, slots, depths):
    """Compares the depth order of all pairs of objects.

    Args:
      true_mask: [B, H, W] integer ids, 0 = background.
      true_sets: bool or {0, 1} [B, N - 1, H, W], extents of the objects, without the background.
      true_depth: [B, N - 1], smaller is nearer; None: pairs that the modal map does not order are left out.
      slots: int64 [B, N - 1], slot of every object by the modal matching, -1 without.
      depths: [B, K], predicted, smaller is nearer.

    Returns:
      `DepthPairs`.
    """
    true_sets = np.asarray(true_sets) > 0
    num_objects = true_sets.shape[1]
    visible = np.asarray(true_mask)[:, None] == np.arange(1, num_objects + 1)[:, None, None]
    extents = amodal.flat(true_sets)
    shared = np.rint(extents @ extents.swapaxes(1, 2)).astype(np.int64)
    owned = np.rint(amodal.flat(visible & true_sets) @ extents.swapaxes(1, 2)).astype(
        np.int64
    )  # [b, i, j]: of the overlap of i and j, i shows
    first, second = np.triu_indices(num_objects, 1)

    true_order = np.sign(
        owned[:, second, first] - owned[:, first, second]
    )  # -1: the first is nearer
    if true_depth is not None:
        true_depth = np.asarray(true_depth, np.float64)
        by_depth = np.sign(true_depth[:, first] - true_depth[:, second]).astype(np.int64)
        true_order = np.where(true_order == 0, by_depth, true_order)

    has_slot, shows = slots >= 0, visible.any((2, 3))
    depths = np.asarray(depths, np.float64)
    of_object = (
        np.take_along_axis(depths, np.maximum(slots, 0), axis=1)
        if depths.shape[1]
        else np.zeros(slots.shape)
    )
    order = np.sign(of_object[:, first] - of_object[:, second])
    score = np.where(order == 0, 0.5, order == true_order)
    score = np.where(has_slot[:, first] & has_slot[:, second], score, 0.0)
    in_frame = true_sets.any((2, 3))
    return DepthPairs(
        score,
        shared[:, first, second],
        in_frame[:, first] & in_frame[:, second] & (true_order != 0),
        ~(shows[:, first] & shows[:, second]),
    )


def counted(pairs, min_overlap):
    """Returns bool [B, P], the pairs that count at a threshold: those that share at least `min_overlap` pixels."""
    return pairs.defined & (pairs.overlap >= min_overlap)


def depth_pair_accuracy(pairs, min_overlap=30, *, average="image"):
    """DPA of `DepthPairs`.

    Args:
      pairs: of `depth_pairs`.
      min_overlap: pixels that the true extents of a pair share at least.
      average: "image" gives one score per image, "pair" the mean over all pairs (the paper's).

    Returns:
      float64 [B] for "image" (NaN without pairs), scalar for "pair".
    """
    if average not in ("image", "pair"):
        raise unknown_name("average", average, ("image", "pair"))
    scores = np.where(counted(pairs, min_overlap), pairs.score, np.nan)
    return clustering.mean_over_defined(scores, axis=-1 if average == "image" else None)


def box_centres(sets):
    """Centres of the bounding boxes of extents.

    Args:
      sets: bool or {0, 1} [B, N, H, W].

    Returns:
      centres: float64 [B, N, 2], row and column (0 is the middle of the first pixel); NaN for empty extents.
    """
    sets = np.asarray(sets) > 0
    centres = []
    for used in (sets.any(3), sets.any(2)):  # [B, N, H], [B, N, W]
        first, last = used.argmax(-1), used.shape[-1] - 1 - used[..., ::-1].argmax(-1)
        centres.append(np.where(used.any(-1), 0.5 * (first + last), np.nan))
    return np.stack(centres, -1)


def position_errors(true_sets, slots, positions):
    """Distance of every object's bounding box centre from the position of its slot.

    Args:
      true_sets: bool or {0, 1} [B, N - 1, H, W], extents of the objects inside of the frame.
      slots: int64 [B, N - 1] by the modal matching, -1 without.
      positions: [B, K, 2], row and column in pixels.

    Returns:
      errors: float64 [B, N - 1] in pixels; NaN for objects without slot or extent.
    """
    positions = np.asarray(positions, np.float64)
    if positions.ndim != 3 or positions.shape[-1] != 2:
        raise UserError(
            f"`positions` must have shape [B, K, 2], row and column. Received: {positions.shape}."
        )
    if not positions.shape[1]:
        return np.full(slots.shape, np.nan)
    predicted = np.take_along_axis(positions, np.maximum(slots, 0)[..., None], axis=1)
    errors = np.sqrt(np.square(predicted - box_centres(true_sets)).sum(-1))
    return np.where(slots >= 0, errors, np.nan)
