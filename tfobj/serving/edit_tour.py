"""The tour: one edit of each kind that a model allows, shown on one scene."""

import numpy as np

from tfobj.serving import edit_syntax

SHIFT = 0.25
"""How far objects are moved, relative to the height and width of the image."""
NUM_LATENTS = 2
"""How many latents are traversed."""


def tour(scene, layout, areas, other=None, examples=None):
    """Returns one edit of each kind that the model allows; each is meant for the scene as it is.

    The largest object is edited. If no slot is known to be the background, the largest slot is
    taken for it.

    Args:
      scene: `scene_edits.EditedScene` of K slots.
      layout: `slot_layout.SlotLayout`.
      areas: [K] of this and of the other scene: the number of visible pixels of every slot.
      other: a second `EditedScene`, or None.
      examples: as in `scene_edits.apply`; the latents that vary most in them are traversed.

    Returns:
      A list of `edit_syntax.Edit`.
    """
    order = _largest_first(areas[0], layout)
    first = scene.numbers[order[0]]

    texts = _edits_of_one_object(scene, layout, order[0], first)
    if len(layout.parts) > 1 and len(order) > 1:
        second = scene.numbers[order[1]]
        texts += [f"swap:slots={first}+{second},part={part}" for part in layout.parts]
    if layout.num_slots > 1 and other is not None:
        partner = other.numbers[_largest_first(areas[1], layout)[0]]
        texts += [f"swap:slot={first},other={partner}", f"insert:other={partner}"]
    for latent in _varied_latents(scene, layout, examples):
        texts.append(f"traverse:slot={first},latent={latent + 1}")
    if other is not None:
        texts += _interpolations(layout)
    return [edit_syntax.parse(text) for text in texts]


def _edits_of_one_object(scene, layout, slot, number):
    texts = []
    shift = ""
    if "position" in layout.parts:
        rows, columns = _shift_inwards(layout, layout.positions(scene.slots)[slot])
        shift = f",rows={rows},columns={columns}"
        texts.append(f"move:slot={number}{shift}")
    if layout.num_slots > 1:
        texts += [f"remove:slot={number}", f"duplicate:slot={number}{shift}"]
    if "depth" in layout.parts:
        texts += [f"depth:slot={number},to=front", f"depth:slot={number},to=back"]
    return texts


def _shift_inwards(layout, position):
    """Returns whole (rows, columns) towards the middle of the image, where there is room."""
    shift = []
    for centre, side in zip(position, layout.image_size, strict=True):
        direction = -1
        if centre < side / 2:
            direction = 1
        shift.append(round(SHIFT * (direction * side)))
    return shift


def _varied_latents(scene, layout, examples):
    """Returns the latents that vary most over the objects of the examples, counted from 0."""
    if examples is None:
        examples = scene.slots[None]
    examples = np.asarray(examples)
    objects = layout.objects(examples.shape[1])
    latents = examples[:, objects, slice(*layout.latents("traverse"))]
    return np.argsort(-latents.std((0, 1)), kind="stable")[:NUM_LATENTS]


def _interpolations(layout):
    parts = []
    if len(layout.parts) > 1:
        parts = [part for part in layout.parts if part != "depth"]
    return [*(f"interpolate:part={part}" for part in parts), "interpolate"]


def _largest_first(areas, layout):
    """Returns the objects by visible pixels [K]; what is presumably the background comes last."""
    objects = layout.objects(len(areas))
    order = [int(k) for k in np.argsort(-np.asarray(areas), kind="stable") if k in objects]
    if layout.background is None and len(order) > 2:
        return [*order[1:], order[0]]
    return order
