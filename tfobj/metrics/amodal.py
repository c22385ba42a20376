"""Objects with hidden parts: predicted extents, their visible parts, and their IoU with the truth.

A model with depth gives every object slot j a placed alpha a*_j in [0, 1] that includes hidden
parts, and a depth d_j:

    predicted amodal set    A_j = {p : a*_j(p) > 0.3}
    predicted modal map     m(p) = the slot of least d_j among those with p in A_j, else background

A modal mask is the visible part of an object; an amodal mask is its full extent within the frame.
The model's background slot takes no part, because its extent is the whole frame: drop it with
`without_slot`.

Axes: B images, N true entities (0 = background), K object slots. On the host, int64/float64.

Source: Anciukevicius 2020, section 4.
"""

import numpy as np

from tfobj.errors import UserError
from tfobj.metrics import clustering, matching, overlap

ALPHA_THRESHOLD = 0.3
"""Share above which a pixel belongs to a slot's extent."""


def without_slot(values, slot):
    """Drops one slot of [B, K, ...]; `slot` is its index (-1 is the last), None drops none."""
    if slot is None:
        return values
    return np.delete(np.asarray(values), slot, axis=1)


def amodal_sets(amodal_masks, threshold=ALPHA_THRESHOLD):
    """Thresholds predicted extents.

    Args:
      amodal_masks: [B, K, H, W, 1] in [0, 1].
      threshold: share above which a pixel belongs to the extent.

    Returns:
      sets: bool [B, K, H, W].

    Raises:
      UserError: if the shape differs (videos have no amodal scores), or an extent is not finite.
    """
    amodal_masks = np.asarray(amodal_masks)
    if amodal_masks.ndim != 5 or amodal_masks.shape[-1] != 1:
        raise UserError(
            f"`amodal_masks` must have shape [B, K, H, W, 1]. Received: {amodal_masks.shape}."
        )
    check_finite("amodal_masks", amodal_masks)
    return amodal_masks[..., 0] > threshold


def modal_ids(sets, depths):
    """Returns the predicted modal map: every pixel gets the nearest slot that covers it.

    Args:
      sets: bool [B, K, H, W], see `amodal_sets`.
      depths: finite [B, K], smaller is nearer; among equally near slots, the first is visible.

    Returns:
      ids: int64 [B, H, W]; 0 = background, j + 1 = slot j.
    """
    sets = np.asarray(sets, bool)
    depths = np.asarray(depths, np.float64)
    if depths.shape != sets.shape[:2]:
        raise UserError(
            f"`depths` must have shape [B, K], {sets.shape[:2]}. Received: {depths.shape}."
        )
    check_finite("depths", depths, "nothing is nearer than NaN")

    # `argmin` below refuses an axis without slots.
    if not sets.shape[1]:
        return np.zeros((len(sets), *sets.shape[2:]), np.int64)

    distance = np.where(sets, depths[..., None, None], np.inf)
    return np.where(sets.any(1), 1 + distance.argmin(1), 0)


def modal_iou(true, predicted, num_objects, num_slots, ignore_label=None):
    """Computes the IoU of the visible parts of objects and slots.

    Args:
      true: [B, H, W] integer ids, 0 = background.
      predicted: [B, H, W] from `modal_ids`.
      num_objects: N - 1, at least the largest id in `true`.
      num_slots: K.
      ignore_label: id in `true` that marks pixels without label, or None.

    Returns:
      iou: float64 [B, N - 1, K] in [0, 1].
      present: bool [B, N - 1], objects with a visible pixel.
    """
    table = clustering.contingency_table(
        true,
        predicted,
        num_true=num_objects + 1,
        num_predicted=num_slots + 1,
        ignore_label=ignore_label,
    )
    return overlap.iou_from_table(table)[:, 1:, 1:], table[:, 1:].sum(-1) > 0


def amodal_iou(true_sets, sets):
    """Computes the IoU of the full extents of objects and slots, which may overlap one another.

    Args:
      true_sets: bool or {0, 1} [B, N - 1, H, W], objects without the background.
      sets: bool [B, K, H, W].

    Returns:
      iou: float64 [B, N - 1, K] in [0, 1]; 0 where both are empty.
      present: bool [B, N - 1], objects with a pixel in the frame.
    """
    true_sets = flat(true_sets)
    sets = flat(sets)
    joint = true_sets @ sets.swapaxes(1, 2)
    union = true_sets.sum(-1)[:, :, None] + sets.sum(-1)[:, None] - joint
    return joint / np.maximum(union, 1.0), true_sets.sum(-1) > 0


def match_present(iou, present):
    """Matches the objects that are present to slots, one to one, so that the sum of IoU is largest.

    Args:
      iou: [B, N - 1, K].
      present: bool [B, N - 1].

    Returns:
      slots: int64 [B, N - 1]; -1 for objects that are absent, left over, or paired with a slot that
        they do not overlap: such a pair adds nothing to the sum, and the slot in it depends only on
        the order of the slots.
    """
    iou = np.where(np.asarray(present)[..., None], iou, 0.0)
    slots = matching.match_objects(iou)
    return np.where(iou_of_matching(iou, present, slots) > 0.0, slots, -1)


def iou_of_matching(iou, present, slots):
    """Returns the IoU of every object with its slot.

    Args:
      iou: [B, N - 1, K].
      present: bool [B, N - 1].
      slots: int64 [B, N - 1], -1 for objects without a slot.

    Returns:
      matched: float64 [B, N - 1]; 0 for objects without a slot, NaN for absent objects.
    """
    if not iou.shape[-1]:
        return np.where(present, 0.0, np.nan)

    matched = np.take_along_axis(iou, np.maximum(slots, 0)[..., None], axis=-1)[..., 0]
    return np.where(present, np.where(slots >= 0, matched, 0.0), np.nan)


def matched_amodal_iou(true_sets, sets, slots=None):
    """Computes the IoU of every object's full extent with that of its slot (aIOU before averaging).

    Args:
      true_sets, sets: as in `amodal_iou`.
      slots: int64 [B, N - 1], a matching to reuse, such as the modal one; None matches on amodal
        IoU, which is the protocol.

    Returns:
      matched: float64 [B, N - 1]; 0 for objects without a slot, NaN for objects outside the frame.
    """
    iou, present = amodal_iou(true_sets, sets)
    if slots is None:
        slots = match_present(iou, present)
    return iou_of_matching(iou, present, slots)


def check_finite(name, values, reason="NaN is no prediction"):
    """Raises a `UserError` unless [B, ...] predicted values are finite.

    NaN is neither part of an extent nor nearer than anything, so it would pass for a prediction.
    `SceneScorer` counts such scenes as failed.
    """
    values = np.asarray(values)
    broken = ~np.isfinite(values).reshape(len(values), -1).all(axis=1)
    if not broken.any():
        return
    scene = int(broken.argmax())
    received = values[scene] if values.ndim == 2 else "NaN or infinity"
    raise UserError(f"`{name}` must be finite: {reason}. Received: {received} in scene {scene}.")


def flat(sets):
    """Flattens [B, N, H, W] to 0 and 1 in float64 [B, N, H * W], so that products count pixels."""
    sets = np.asarray(sets)
    # The pixel count is spelled out because -1 is ambiguous for an empty batch.
    num_pixels = int(np.prod(sets.shape[2:]))
    return (sets > 0).reshape(*sets.shape[:2], num_pixels).astype(np.float64)
