"""Edits of the objects of a scene: NumPy on slots, whoever decodes them afterwards.

    layout = slot_layout.layout_of_model(model)               # or layout_of_metadata(decomposer.metadata)
    slots = editing.move(slots, layout, 0, rows=5, columns=-8)
    slots = editing.remove(slots, layout, 1)
    scene = model.decode(slots)                               # or decomposer.decode(slots)

| edit | needs | functions |
|---|---|---|
| move | a position | `move`, `place` |
| depth | a depth | `to_front`, `to_back`, `reorder` |
| swap | two parts in one scene; several slots between two scenes | `swap`, `swap_between` |
| remove, insert, duplicate | several slots | `remove`, `insert`, `duplicate` |
| set, traverse | | `set_latent`, `traverse` |
| interpolate | that part, or none for everything | `interpolate`, `interpolate_objects` |

What the numbers of a slot stand for is told by the model, see `slot_layout`. Slots are [K, D] or [B, K, D]; functions return
copies. Slots and latents are counted from 0, positions are (row, column) of an object's centre in pixels, and of two depths the
smaller one is nearer. In a model that knows positions and depths (Anciukevicius 2020) each part is edited by itself; in others an
object is its whole slot.
"""

import numpy as np

from tfobj.errors import UserError
from tfobj.serving.slot_layout import check_slot, pushed_apart, words

DEPTH_STEP = 1.0
"""How far before (behind) all others an object goes that is brought to the front (back); raw depths have a unit normal prior."""
USUAL_PERCENTILES = (5, 95)
USUAL_NORMAL = 1.645
"""The central 90 % of a standard normal: the range of a latent where there is one example of it."""


def move(slots, layout, slot, rows=0.0, columns=0.0):
    """Shifts an object `rows` pixels down and `columns` pixels to the right; see `place`."""
    layout.part("move", "position")
    layout.check_objects("move", slots, slot)
    row, column = np.moveaxis(layout.positions(slots)[..., slot, :], -1, 0)
    return place(slots, layout, slot, row + rows, column + columns)


def place(slots, layout, slot, row=None, column=None):
    """Brings the centre of an object to a place in pixels, also beyond the border; None keeps the row or the column.

    Raises:
      UserError: slots without position, the background, or a place more than a picture away.
    """
    part = layout.part("move", "position")
    layout.check_objects("move", slots, slot)
    slots = _copy(slots)
    for axis, (name, wanted) in enumerate((("row", row), ("column", column))):
        if wanted is None:
            continue
        wanted, side = np.asarray(wanted, np.float64), layout.image_size[axis]
        if not ((wanted >= -side) & (wanted < 2 * side)).all():
            raise UserError(
                f"`move` must leave the centre of the object in {name}s {-side} ... {2 * side - 1}: the picture has 0 ... {side - 1}. "
                f"Received: {name} {words(f'{value:.4g}' for value in np.ravel(wanted)[:4])}."
            )
        slots[..., slot, part[0] + axis] = 2.0 * wanted / max(side - 1, 1) - 1.0
    return slots


def to_front(slots, layout, slot):
    """Brings an object before all others."""
    return _beyond_others(slots, layout, slot, np.min, -DEPTH_STEP)


def to_back(slots, layout, slot):
    """Brings an object behind all others (and before the background)."""
    return _beyond_others(slots, layout, slot, np.max, DEPTH_STEP)


def reorder(slots, layout, order):
    """Puts the objects `order`, a list of slots, one behind the other, nearest first; they share out their own depths."""
    start, _ = layout.part("depth", "depth")
    layout.check_objects("depth", slots, *order)
    slots = _copy(slots)
    slots[..., list(order), start] = pushed_apart(
        np.sort(slots[..., list(order), start].astype(np.float64), axis=-1)
    )
    return layout.with_distinct_depths(slots)


def swap(slots, layout, first, second, part="position"):
    """Exchanges one part of two objects of a scene: "position" changes places, "appearance" keeps them.

    Whole slots cannot be swapped in one scene: that would be the same scene.
    """
    layout.check_several("swap")
    if len(layout.parts) == 1 and layout.is_told:
        raise UserError(
            f"`swap` in one scene must have slots of several parts: swapped as a whole, they are the same scene. "
            f"Received: slots of {words(layout.parts)}. This model allows: {words(layout.possible_edits())}."
        )
    view = slice(*layout.part("swap", part))
    layout.check_objects("swap", slots, first, second)
    slots = _copy(slots)
    slots[..., [first, second], view] = slots[..., [second, first], view]
    return slots


def swap_between(slots, other, layout, slot, other_slot, part=None):
    """Exchanges two objects of two scenes, as a whole (`part` None) or in one part.

    Returns:
      (slots, other): both scenes after the exchange.
    """
    view = slice(None) if part is None else slice(*layout.part("swap", part))
    layout.check_several("swap")
    layout.check_objects("swap", slots, slot)
    layout.check_objects("swap", other, other_slot)
    slots, other = _copy(slots), _copy(other)
    slots[..., slot, view], other[..., other_slot, view] = (
        other[..., other_slot, view].copy(),
        slots[..., slot, view].copy(),
    )
    return layout.with_distinct_depths(slots), layout.with_distinct_depths(other)


def remove(slots, layout, *which):
    """Takes objects out: [..., K, D] -> [..., K - len(which), D]. What they hid is seen again where the model knows it."""
    layout.check_several("remove")
    layout.check_objects("remove", slots, *which)
    if len(which) == np.shape(slots)[-2]:
        raise UserError(f"`remove` must leave a slot. Received: all {len(which)} of them.")
    return np.delete(_copy(slots), which, axis=-2)


def insert(slots, layout, vector):
    """Adds an object, the slot `vector` [D] or [..., D] of another scene: [..., K, D] -> [..., K + 1, D].

    It becomes the last slot, or the last one before a background that is last.
    """
    layout.check_several("insert")
    slots, vector = _copy(slots), np.asarray(vector, np.float32)
    if vector.shape[-1:] != slots.shape[-1:]:
        raise UserError(
            f"`vector` must have the {slots.shape[-1]} numbers of a slot. Received: shape {vector.shape}."
        )
    at = slots.shape[-2] - (layout.background == -1)
    return layout.with_distinct_depths(np.insert(slots, at, vector, axis=-2))


def duplicate(slots, layout, slot, rows=0.0, columns=0.0):
    """Adds a copy of an object, shifted like `move` and directly before it where the model knows depths; see `insert`."""
    layout.check_several("duplicate")
    layout.check_objects("duplicate", slots, slot)
    vector = _copy(slots)[..., slot, :]
    if "depth" in layout.parts:
        depth = layout.depths(slots)
        here = depth[..., slot]
        nearer = np.where(depth < here[..., None], depth, -np.inf).max(axis=-1)
        vector[..., layout.parts["depth"][0]] = np.where(
            np.isfinite(nearer), (nearer + here) / 2.0, here - DEPTH_STEP
        )
    copies = insert(slots, layout, vector)
    return (
        move(copies, layout, copies.shape[-2] - 1 - (layout.background == -1), rows, columns)
        if rows or columns
        else copies
    )


def set_latent(slots, layout, slot, latent, value, part=None):
    """Gives one latent of a slot a value.

    Args:
      slots: [K, D] or [B, K, D].
      layout: `SlotLayout`.
      slot: any, the background included.
      latent: number within `part`.
      value: a finite number.
      part: name; None is the appearance where a model tells it apart, else the whole slot.
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
    """Returns one scene [K, D] with one latent at every value, [len(values), K, D]; arguments as in `set_latent`."""
    return np.stack(
        [
            set_latent(_scene(slots, "traverse"), layout, slot, latent, value, part)
            for value in values
        ]
    )


def usual_range(examples, layout, slot, latent, part=None):
    """Returns (low, high), the central 90 % of a latent in scenes [B, K, D]: over all objects, or over the background's slots.

    Where examples tell no range (one scene of a VAE), that of a standard normal.
    """
    examples = np.asarray(examples)
    start, _ = layout.latents("traverse", part)
    is_background = slot == layout.background_slot(examples.shape[-2])
    found = examples[
        ..., [slot] if is_background else layout.objects(examples.shape[-2]), start + latent
    ]
    low, high = np.percentile(found.astype(np.float64), USUAL_PERCENTILES)
    return (float(low), float(high)) if high > low else (-USUAL_NORMAL, USUAL_NORMAL)


def interpolate(slots, other, layout, part=None, num=7, pairs=None):
    """Goes from one scene to another in one part and stays in the others (Anciukevicius 2020, figure 5).

    With "appearance" the layout stays and objects take the look of others; with "position" it is the reverse.

    Args:
      slots, other: scenes [K, D].
      layout: `SlotLayout`.
      part: name; None goes over in everything, the background included. Parts are those of objects alone.
      num: scenes, both ends included; at least 2.
      pairs: slots of `other` in the order of those of `slots`; None takes those of `pair_slots`.

    Returns:
      [num, K, D].
    """
    view = slice(None) if part is None else slice(*layout.part("interpolate", part))
    slots, other = _scene(slots, "interpolate"), _scene(other, "interpolate")
    if slots.shape != other.shape:
        raise UserError(
            f"`interpolate` must be given two scenes with equally many slots. Received: {slots.shape[0]} and {other.shape[0]}."
        )
    target = other[pair_slots(slots, other, layout) if pairs is None else pairs]
    moving = range(len(slots)) if part is None else layout.objects(len(slots))
    return _between(slots, target, list(moving), view, num, layout)


def interpolate_objects(slots, layout, first, second, part=None, num=7):
    """An object of a scene [K, D] takes on a part of another (None: everything), step by step: [num, K, D]."""
    view = slice(None) if part is None else slice(*layout.part("interpolate", part))
    slots = _scene(slots, "interpolate")
    layout.check_several("interpolate")
    layout.check_objects("interpolate", slots, first, second)
    target = slots.copy()
    target[first] = slots[second]
    return _between(slots, target, [first], view, num, layout)


def pair_slots(slots, other, layout):
    """Returns for every slot of one scene [K, D] its partner in another, int [K]: least sum of squared distances between them.

    Distances are those of positions where a model knows them, else of whole slots. Background goes with background.
    """
    from scipy.optimize import linear_sum_assignment

    slots, other = np.asarray(slots, np.float64), np.asarray(other, np.float64)
    objects, pairs = layout.objects(len(slots)), np.arange(len(slots))
    view = slice(*layout.parts.get("position", (None, None)))
    distance = ((slots[objects, None, view] - other[None, objects, view]) ** 2).sum(-1)
    pairs[objects] = np.asarray(objects)[linear_sum_assignment(distance)[1]]
    return pairs


def complete_objects(slots, layout, decode):
    """Renders every object of a scene [K, D] with nothing before it, hidden parts included.

    An object that is alone before the background has its placed alpha as mask. Only for models with a background's slot.

    Args:
      decode: function of float32 [n, K, D] -> `DecodedScene` of n scenes.

    Returns:
      (amodal_masks [K, H, W, 1], slot_recons [K, H, W, C]); the background's mask is 1 everywhere.
    """
    slots = _scene(slots, "complete_objects")
    background, objects = layout.background_slot(len(slots)), layout.objects(len(slots))
    if background is None:
        raise UserError(
            "`complete_objects` must be given a model with a slot for the background. Received: one without."
        )
    first = int(layout.background == 0)  # place of an object beside the background
    alone = (
        np.stack([slots[[background, k] if first else [k, background]] for k in objects])
        if objects
        else slots[[background]][None]
    )
    scene = decode(alone)
    masks, recons = np.asarray(scene.masks), np.asarray(scene.slot_recons)
    amodal, appearance = (
        np.ones((len(slots), *masks.shape[2:]), np.float32),
        np.empty((len(slots), *recons.shape[2:]), np.float32),
    )
    appearance[background] = recons[0, layout.background]
    if objects:
        amodal[objects], appearance[objects] = masks[:, first], recons[:, first]
    return amodal, appearance


def _between(slots, target, moving, view, num, layout):
    """Returns `num` scenes on the straight line of the slots `moving`, [num, K, D]."""
    if not isinstance(num, (int, np.integer)) or num < 2:
        raise UserError(f"`num` must be at least 2: both ends are shown. Received: num={num!r}.")
    steps = np.linspace(0.0, 1.0, num)[:, None, None]
    scenes = np.repeat(slots[None], num, axis=0)
    scenes[:, moving, view] = (1.0 - steps) * slots[moving, view] + steps * target[moving, view]
    return layout.with_distinct_depths(scenes)


def _beyond_others(slots, layout, slot, extreme, step):
    start, _ = layout.part("depth", "depth")
    layout.check_objects("depth", slots, slot)
    slots = _copy(slots)
    others = [k for k in layout.objects(slots.shape[-2]) if k != slot]
    if others:
        slots[..., slot, start] = extreme(slots[..., others, start], axis=-1) + step
    return slots


def _scene(slots, edit):
    slots = _copy(slots)
    if slots.ndim != 2:
        raise UserError(
            f"`{edit}` must be given the slots [K, D] of one scene. Received: shape {slots.shape}."
        )
    return slots


def _copy(slots):
    return np.array(slots, np.float32)
