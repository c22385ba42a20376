"""Edits of the objects of a scene: NumPy on slots, independent of what decodes them.

    layout = slot_layout.layout_of_model(model)    # or layout_of_metadata(decomposer.metadata)
    slots = editing.move(slots, layout, 0, rows=5, columns=-8)
    slots = editing.remove(slots, layout, 1)
    scene = model.decode(slots)                    # or decomposer.decode(slots)

| edit | needs | functions |
|---|---|---|
| move | a position | `move`, `place` |
| depth | a depth | `to_front`, `to_back`, `reorder` |
| swap | two parts in one scene; several slots between two scenes | `swap`, `swap_between` |
| remove, insert, duplicate | several slots | `remove`, `insert`, `duplicate` |
| set, traverse | | `set_latent`, `traverse` |
| interpolate | that part, or none for the whole slot | `interpolate`, `interpolate_objects` |

The model says what the numbers of a slot mean, see `slot_layout`. Slots are [K, D] or [B, K, D];
functions return copies. Slots and latents are counted from 0, positions are (row, column) of an
object's centre in pixels, and of two depths the smaller one is nearer. A model with positions and
depths (Anciukevicius 2020) allows edits of each part; in others an object is its whole slot.
"""

import numpy as np

from tfobj.errors import UserError
from tfobj.serving.slot_layout import check_slot, pushed_apart, words

DEPTH_STEP = 1.0
"""Distance to all other objects of an object that is brought to the front or back.

Raw depths have a unit normal prior."""
USUAL_PERCENTILES = (5, 95)
USUAL_NORMAL = 1.645
"""Bound of the central 90 % of a standard normal: the range of a latent without examples."""


def move(slots, layout, slot, rows=0.0, columns=0.0):
    """Shifts an object `rows` pixels down and `columns` pixels to the right; see `place`."""
    layout.part("move", "position")
    layout.check_objects("move", slots, slot)
    centre = layout.positions(slots)[..., slot, :]
    return place(slots, layout, slot, centre[..., 0] + rows, centre[..., 1] + columns)


def place(slots, layout, slot, row=None, column=None):
    """Moves the centre of an object to a place in pixels; None keeps the row or the column.

    Places up to one image size beyond the border are allowed.

    Raises:
      UserError: slots without position, the background, or a place too far away.
    """
    start, _ = layout.part("move", "position")
    layout.check_objects("move", slots, slot)
    slots = _copy(slots)
    for axis, (name, target) in enumerate((("row", row), ("column", column))):
        if target is None:
            continue

        side = layout.image_size[axis]
        target = np.asarray(target, np.float64)
        if not ((target >= -side) & (target < 2 * side)).all():
            received = words(f"{value:.4g}" for value in np.ravel(target)[:4])
            raise UserError(
                f"`move` must leave the centre of the object in {name}s {-side} ... "
                f"{2 * side - 1}: the image has 0 ... {side - 1}. Received: {name} {received}."
            )

        # Slots keep positions in [-1, 1], from the first pixel's centre to the last one's.
        slots[..., slot, start + axis] = 2.0 * target / max(side - 1, 1) - 1.0
    return slots


def to_front(slots, layout, slot):
    """Brings an object before all others."""
    return _beyond_others(slots, layout, slot, np.min, -DEPTH_STEP)


def to_back(slots, layout, slot):
    """Brings an object behind all others (and before the background)."""
    return _beyond_others(slots, layout, slot, np.max, DEPTH_STEP)


def reorder(slots, layout, order):
    """Sorts objects in depth.

    Args:
      slots: [K, D] or [B, K, D].
      layout: `SlotLayout`.
      order: list of slots, nearest first. They exchange their depths among themselves.
    """
    start, _ = layout.part("depth", "depth")
    layout.check_objects("depth", slots, *order)
    slots = _copy(slots)
    order = list(order)
    depths = np.sort(slots[..., order, start].astype(np.float64), axis=-1)
    slots[..., order, start] = pushed_apart(depths)
    return layout.with_distinct_depths(slots)


def swap(slots, layout, first, second, part="position"):
    """Exchanges one part of two objects: "position" swaps their places, "appearance" their looks.

    Whole slots cannot be swapped in one scene: that would be the same scene.
    """
    layout.check_several("swap")
    if len(layout.parts) == 1 and layout.is_told:
        raise UserError(
            "`swap` in one scene must have slots of several parts: swapped as a whole, they are "
            f"the same scene. Received: slots of {words(layout.parts)}. "
            f"This model allows: {words(layout.possible_edits())}."
        )

    view = slice(*layout.part("swap", part))
    layout.check_objects("swap", slots, first, second)
    slots = _copy(slots)
    slots[..., [first, second], view] = slots[..., [second, first], view]
    return slots


def swap_between(slots, other, layout, slot, other_slot, part=None):
    """Exchanges an object of one scene with an object of another, whole (None) or in one part.

    Returns:
      (slots, other): both scenes after the exchange.
    """
    view = _view(layout, "swap", part)
    layout.check_several("swap")
    layout.check_objects("swap", slots, slot)
    layout.check_objects("swap", other, other_slot)

    slots = _copy(slots)
    other = _copy(other)
    vector = slots[..., slot, view].copy()
    slots[..., slot, view] = other[..., other_slot, view]
    other[..., other_slot, view] = vector
    return layout.with_distinct_depths(slots), layout.with_distinct_depths(other)


def remove(slots, layout, *which):
    """Removes objects: [..., K, D] -> [..., K - len(which), D].

    In models that complete hidden parts, what the objects covered becomes visible.
    """
    layout.check_several("remove")
    layout.check_objects("remove", slots, *which)
    if len(which) == np.shape(slots)[-2]:
        raise UserError(f"`remove` must leave a slot. Received: all {len(which)} of them.")
    return np.delete(_copy(slots), which, axis=-2)


def insert(slots, layout, vector):
    """Adds an object: [..., K, D] -> [..., K + 1, D].

    The object `vector` is a slot [D] or [..., D], e.g. of another scene. It becomes the last slot,
    or the last one before a background that is last.
    """
    layout.check_several("insert")
    slots = _copy(slots)
    vector = np.asarray(vector, np.float32)
    if vector.shape[-1:] != slots.shape[-1:]:
        raise UserError(
            f"`vector` must have the {slots.shape[-1]} numbers of a slot. "
            f"Received: shape {vector.shape}."
        )
    inserted = np.insert(slots, _insertion_index(slots, layout), vector, axis=-2)
    return layout.with_distinct_depths(inserted)


def duplicate(slots, layout, slot, rows=0.0, columns=0.0):
    """Adds a copy of an object, shifted as by `move`; see `insert`.

    Where the model knows depths, the copy is directly in front of the object.
    """
    layout.check_several("duplicate")
    layout.check_objects("duplicate", slots, slot)
    vector = _copy(slots)[..., slot, :]
    if "depth" in layout.parts:
        # Halfway to the next nearer object, so that no other object comes between.
        depths = layout.depths(slots)
        depth = depths[..., slot]
        nearer = np.where(depths < depth[..., None], depths, -np.inf).max(axis=-1)
        start, _ = layout.parts["depth"]
        vector[..., start] = np.where(
            np.isfinite(nearer), (nearer + depth) / 2.0, depth - DEPTH_STEP
        )

    copy = _insertion_index(slots, layout)
    slots = insert(slots, layout, vector)
    if rows or columns:
        slots = move(slots, layout, copy, rows, columns)
    return slots


def set_latent(slots, layout, slot, latent, value, part=None):
    """Gives one latent of a slot a value.

    Args:
      slots: [K, D] or [B, K, D].
      layout: `SlotLayout`.
      slot: any, the background included.
      latent: number within `part`.
      value: a finite number.
      part: name; None is the appearance if the model has that part, else the whole slot.
    """
    start, stop = layout.latents("set", part)
    check_slot("set", slots, slot)
    if not (isinstance(latent, (int, np.integer)) and 0 <= latent < stop - start):
        raise UserError(
            f"`latent` must be in 0 ... {stop - start - 1}. Received: latent={latent!r}."
        )
    if not np.isfinite(value):
        raise UserError(f"`value` must be a finite number. Received: value={value!r}.")

    slots = _copy(slots)
    slots[..., slot, start + latent] = value
    return layout.with_distinct_depths(slots)


def traverse(slots, layout, slot, latent, values, part=None):
    """Sets one latent of one scene [K, D] to every value: [len(values), K, D]; see `set_latent`."""
    slots = _scene(slots, "traverse")
    return np.stack([set_latent(slots, layout, slot, latent, value, part) for value in values])


def usual_range(examples, layout, slot, latent, part=None):
    """Returns (low, high), the central 90 % of a latent in scenes [B, K, D].

    The percentiles are over all objects, or over the background's slot if `slot` is the background.
    Where the examples have no range (one scene of a VAE), it is that of a standard normal.
    """
    examples = np.asarray(examples)
    num_slots = examples.shape[-2]
    start, _ = layout.latents("traverse", part)
    alike = layout.objects(num_slots)
    if slot == layout.background_slot(num_slots):
        alike = [slot]

    found = examples[..., alike, start + latent].astype(np.float64)
    low, high = np.percentile(found, USUAL_PERCENTILES)
    if high > low:
        return float(low), float(high)
    return -USUAL_NORMAL, USUAL_NORMAL


def interpolate(slots, other, layout, part=None, num=7, pairs=None):
    """Interpolates from one scene to another (Anciukevicius 2020, figure 5).

    With "appearance" the layout stays and objects take the look of others; with "position" it is
    the reverse.

    Args:
      slots: scene [K, D].
      other: scene [K, D].
      layout: `SlotLayout`.
      part: name of the part that changes, in all objects; None changes whole slots, the background
        included.
      num: scenes, both ends included; at least 2.
      pairs: the slot of `other` for each of `slots`; None calls `pair_slots`.

    Returns:
      [num, K, D].
    """
    view = _view(layout, "interpolate", part)
    slots = _scene(slots, "interpolate")
    other = _scene(other, "interpolate")
    if slots.shape != other.shape:
        raise UserError(
            "`interpolate` must be given two scenes with equally many slots. "
            f"Received: {slots.shape[0]} and {other.shape[0]}."
        )

    if pairs is None:
        pairs = pair_slots(slots, other, layout)
    moving = layout.objects(len(slots))
    if part is None:
        moving = list(range(len(slots)))
    return _between(slots, other[pairs], moving, view, num, layout)


def interpolate_objects(slots, layout, first, second, part=None, num=7):
    """Changes an object of a scene [K, D] step by step into another: [num, K, D].

    It takes on the part `part` of the other object (None: the whole slot).
    """
    view = _view(layout, "interpolate", part)
    slots = _scene(slots, "interpolate")
    layout.check_several("interpolate")
    layout.check_objects("interpolate", slots, first, second)
    target = slots.copy()
    target[first] = slots[second]
    return _between(slots, target, [first], view, num, layout)


def pair_slots(slots, other, layout):
    """Matches the slots of two scenes [K, D]; returns int [K], each slot's partner in `other`.

    The matching has the least sum of squared distances between positions, or between whole slots in
    models without positions. The background is matched with the background.
    """
    from scipy.optimize import linear_sum_assignment

    slots = np.asarray(slots, np.float64)
    other = np.asarray(other, np.float64)
    objects = layout.objects(len(slots))
    view = slice(*layout.parts.get("position", (None, None)))
    distance = ((slots[objects, None, view] - other[None, objects, view]) ** 2).sum(-1)
    _, partners = linear_sum_assignment(distance)

    pairs = np.arange(len(slots))
    pairs[objects] = np.asarray(objects)[partners]
    return pairs


def complete_objects(slots, layout, decode):
    """Renders every object of a scene [K, D] without occluders, hidden parts included.

    For models with a slot for the background: an object that is alone in front of it has its placed
    alpha as mask.

    Args:
      slots: [K, D].
      layout: `SlotLayout`.
      decode: function of float32 [n, K, D] -> `DecodedScene` of n scenes.

    Returns:
      (amodal_masks [K, H, W, 1], slot_recons [K, H, W, C]); the background's mask is 1 everywhere.
    """
    slots = _scene(slots, "complete_objects")
    background = layout.background_slot(len(slots))
    objects = layout.objects(len(slots))
    if background is None:
        raise UserError(
            "`complete_objects` must be given a model with a slot for the background. "
            "Received: one without."
        )

    # One scene per object: the object and the background, in the order that the model expects.
    place_of_object = 0
    if layout.background == 0:
        place_of_object = 1
    members = [sorted((background, k)) for k in objects]
    if not objects:
        members = [[background]]
    scenes = np.stack([slots[which] for which in members])
    scene = decode(scenes)
    masks = np.asarray(scene.masks)
    recons = np.asarray(scene.slot_recons)

    amodal_masks = np.ones((len(slots), *masks.shape[2:]), np.float32)
    slot_recons = np.empty((len(slots), *recons.shape[2:]), np.float32)
    slot_recons[background] = recons[0, layout.background]
    if objects:
        amodal_masks[objects] = masks[:, place_of_object]
        slot_recons[objects] = recons[:, place_of_object]
    return amodal_masks, slot_recons


def _between(slots, target, moving, view, num, layout):
    """Returns `num` scenes [num, K, D] in which the slots `moving` go straight to `target`."""
    if not isinstance(num, (int, np.integer)) or num < 2:
        raise UserError(f"`num` must be at least 2: both ends are shown. Received: num={num!r}.")

    weight = np.linspace(0.0, 1.0, num)[:, None, None]
    scenes = np.repeat(slots[None], num, axis=0)
    scenes[:, moving, view] = (1.0 - weight) * slots[moving, view] + weight * target[moving, view]
    return layout.with_distinct_depths(scenes)


def _beyond_others(slots, layout, slot, extreme, step):
    start, _ = layout.part("depth", "depth")
    layout.check_objects("depth", slots, slot)
    slots = _copy(slots)
    others = [k for k in layout.objects(slots.shape[-2]) if k != slot]
    if others:
        slots[..., slot, start] = extreme(slots[..., others, start], axis=-1) + step
    return slots


def _insertion_index(slots, layout):
    """Returns where a slot is added: last, or before a background that is last."""
    num_slots = np.shape(slots)[-2]
    if layout.background == -1:
        return num_slots - 1
    return num_slots


def _view(layout, edit, part):
    """Returns the slice of a part in a slot vector; None is the whole slot."""
    return slice(None) if part is None else slice(*layout.part(edit, part))


def _scene(slots, edit):
    """Returns a copy of the slots of one scene."""
    slots = _copy(slots)
    if slots.ndim != 2:
        raise UserError(
            f"`{edit}` must be given the slots [K, D] of one scene. Received: shape {slots.shape}."
        )
    return slots


def _copy(slots):
    return np.array(slots, np.float32)
