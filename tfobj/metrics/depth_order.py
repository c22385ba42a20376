"""Depth pair accuracy (DPA), i.e. which of two objects is in front, and position errors.

    pairs        (i, i') of one image whose true extents share at least `min_overlap` pixels;
                 `min_overlap=0` takes all pairs
    true order   the object that owns more of the shared pixels in the true modal map is in front;
                 if neither does (third objects hide the overlap, or there is none), the one with
                 the smaller true depth
    predicted    sign(d_slot(i) - d_slot(i')), slots by the modal matching
    score        1 if right, 0 if wrong or an object has no slot, 1/2 for exactly equal depths

Axes: B images, N true entities (0 = background), K object slots, P = (N - 1)(N - 2)/2 pairs.
On the host, int64/float64.

Source: Anciukevicius 2020, section 4.
"""

from typing import NamedTuple

import numpy as np

from tfobj.errors import UserError, unknown_name
from tfobj.metrics import amodal, clustering

MIN_OVERLAPS = (0, 30, 90)
"""Minimum overlaps of a pair in pixels: 30 is the paper's protocol, 0 and 90 its comparison."""


class DepthPairs(NamedTuple):
    """All pairs of objects of every image, those without a true order included."""

    score: np.ndarray
    """float64 [B, P], 0, 1/2 or 1."""
    overlap: np.ndarray
    """int64 [B, P], pixels that the true extents share."""
    defined: np.ndarray
    """bool [B, P], whether both objects are in the frame and have a true order."""
    hidden: np.ndarray
    """bool [B, P], whether an object shows no pixel; such pairs score 0 whatever the model does."""


def depth_pairs(true_mask, true_sets, true_depth, slots, depths):
    """Compares the depth order of all pairs of objects.

    Args:
      true_mask: [B, H, W] integer ids, 0 = background.
      true_sets: bool or {0, 1} [B, N - 1, H, W], extents of the objects, without the background.
      true_depth: [B, N - 1], smaller is nearer, NaN where it is not known; None leaves out pairs
        that the modal map does not order.
      slots: int64 [B, N - 1], slot of every object by the modal matching, -1 without.
      depths: finite [B, K], predicted, smaller is nearer.

    Returns:
      `DepthPairs`.
    """
    true_sets = np.asarray(true_sets) > 0
    num_objects = true_sets.shape[1]
    visible = np.asarray(true_mask)[:, None] == np.arange(1, num_objects + 1)[:, None, None]
    extents = amodal.flat(true_sets)
    shared = np.rint(extents @ extents.swapaxes(1, 2)).astype(np.int64)
    # owned[b, i, j]: pixels in the overlap of i and j where i is the visible one.
    owned = np.rint(amodal.flat(visible & true_sets) @ extents.swapaxes(1, 2)).astype(np.int64)
    first, second = np.triu_indices(num_objects, 1)

    # An order of -1 means that the first object of the pair is nearer.
    true_order = np.sign(owned[:, second, first] - owned[:, first, second])
    if true_depth is not None:
        true_depth = np.asarray(true_depth, np.float64)
        by_depth = np.where(true_depth[:, first] < true_depth[:, second], -1, 0)
        by_depth[true_depth[:, first] > true_depth[:, second]] = 1
        true_order = np.where(true_order == 0, by_depth, true_order)

    depths = np.asarray(depths, np.float64)
    amodal.check_finite("depths", depths)
    if depths.shape[1]:
        object_depths = np.take_along_axis(depths, np.maximum(slots, 0), axis=1)
    else:
        object_depths = np.zeros(slots.shape)

    has_slot = slots >= 0
    order = np.sign(object_depths[:, first] - object_depths[:, second])
    score = np.where(order == 0, 0.5, order == true_order)
    score = np.where(has_slot[:, first] & has_slot[:, second], score, 0.0)

    in_frame = true_sets.any((2, 3))
    shows = visible.any((2, 3))
    return DepthPairs(
        score,
        shared[:, first, second],
        in_frame[:, first] & in_frame[:, second] & (true_order != 0),
        ~(shows[:, first] & shows[:, second]),
    )


def counted(pairs, min_overlap):
    """Returns bool [B, P], the ordered pairs that share at least `min_overlap` pixels."""
    return pairs.defined & (pairs.overlap >= min_overlap)


def depth_pair_accuracy(pairs, min_overlap=30, *, average="image"):
    """Computes the depth pair accuracy (DPA) of `DepthPairs`.

    Args:
      pairs: from `depth_pairs`.
      min_overlap: minimum number of pixels that the true extents of a pair share.
      average: "image" gives one score per image, "pair" the mean over all pairs (the paper's).

    Returns:
      float64 [B] for "image" (NaN without pairs), scalar for "pair".
    """
    if average not in ("image", "pair"):
        raise unknown_name("average", average, ("image", "pair"))

    scores = np.where(counted(pairs, min_overlap), pairs.score, np.nan)
    if average == "pair":
        return clustering.mean_over_defined(scores, axis=None)
    return clustering.mean_over_defined(scores)


def box_centres(sets):
    """Returns the centres of the bounding boxes of extents.

    Args:
      sets: bool or {0, 1} [B, N, H, W].

    Returns:
      centres: float64 [B, N, 2], row and column (0 is the middle of the first pixel); NaN for empty
        extents.
    """
    sets = np.asarray(sets) > 0
    centres = []
    for used in (sets.any(3), sets.any(2)):  # [B, N, H], [B, N, W]
        first = used.argmax(-1)
        last = used.shape[-1] - 1 - used[..., ::-1].argmax(-1)
        centres.append(np.where(used.any(-1), 0.5 * (first + last), np.nan))
    return np.stack(centres, -1)


def position_errors(true_sets, slots, positions):
    """Computes the distance of every object's bounding box centre from the position of its slot.

    Args:
      true_sets: bool or {0, 1} [B, N - 1, H, W], extents of the objects within the frame.
      slots: int64 [B, N - 1] by the modal matching, -1 without.
      positions: [B, K, 2], row and column in pixels.

    Returns:
      errors: float64 [B, N - 1] in pixels; NaN for objects without slot or extent, infinite where
        the position of the slot is not finite.
    """
    positions = np.asarray(positions, np.float64)
    if positions.ndim != 3 or positions.shape[-1] != 2:
        raise UserError(
            f"`positions` must have shape [B, K, 2], row and column. Received: {positions.shape}."
        )

    if not positions.shape[1]:
        return np.full(slots.shape, np.nan)
    predicted = np.take_along_axis(positions, np.maximum(slots, 0)[..., None], axis=1)
    finite = np.isfinite(predicted).all(-1)
    centres = box_centres(true_sets)
    errors = np.sqrt(np.square(np.where(finite[..., None], predicted, 0.0) - centres).sum(-1))
    errors = np.where(finite | np.isnan(errors), errors, np.inf)
    return np.where(slots >= 0, errors, np.nan)
