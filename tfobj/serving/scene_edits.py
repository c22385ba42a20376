"""Edits of the command line, applied to a scene one after the other.

    scene = EditedScene.of(slots)
    other = EditedScene.of(other_slots)
    for text in ("move:slot=1,rows=5", "remove:slot=2", "interpolate:part=appearance"):
        frames, scene = apply(edit_syntax.parse(text), scene, layout, other)

Frames are [n, K, D]; n = 1 except for traverse and interpolate, whose last frame is the scene that
the next edit starts from. An object keeps its number when others are removed; an added object takes
the next free number.
"""

import dataclasses

import numpy as np

from tfobj.errors import UserError, unknown_name
from tfobj.serving import editing
from tfobj.serving.edit_syntax import check_second_scene

NUM_FRAMES = 7
"""Frames of a traversal or an interpolation where `num` is not given."""


@dataclasses.dataclass(frozen=True)
class EditedScene:
    """The slots of a scene, and the numbers by which a user knows them."""

    slots: np.ndarray
    """[K, D]."""
    numbers: tuple
    """One number per slot, kept through all edits."""
    next_number: int
    """The number of the next slot that is added."""

    @classmethod
    def of(cls, slots):
        """Numbers slots [K, D] from 1."""
        numbers = tuple(range(1, len(slots) + 1))
        return cls(np.asarray(slots, np.float32), numbers, len(slots) + 1)

    def find(self, number, edit, key="slot"):
        """Returns the index of the slot with a number, given as the option `key` of an edit."""
        if number in self.numbers:
            return self.numbers.index(number)

        received = str(number)
        if 0 < number < self.next_number:
            received += ", which an earlier edit removed"
        raise edit.mistake(key, f"one of {', '.join(map(str, self.numbers))}", received)


def apply(edit, scene, layout, other=None, examples=None):
    """Applies an edit.

    Args:
      edit: result of `edit_syntax.parse`, not the tour.
      scene: `EditedScene`.
      layout: `slot_layout.SlotLayout` of the model.
      other: a second `EditedScene`, required if `edit.needs_other()`.
      examples: slots [B, K, D] of scenes that show the usual range of a latent; None uses the scene
        alone.

    Returns:
      (frames, scene): float32 [n, K, D], the scenes to show; and the `EditedScene` after the edit.

    Raises:
      UserError: an option that is missing or out of range, or an edit that the model does not
        allow.
    """
    # What the model does not allow is refused first: no change of the options would help.
    if edit.name in ("swap", "remove", "insert", "duplicate"):
        layout.check_several(edit.name)
    if edit.name == "move":
        layout.part("move", "position")
    if edit.name == "depth":
        layout.part("depth", "depth")
    if other is None:
        check_second_scene(edit)
    if examples is None:
        examples = scene.slots[None]

    frames, numbers = _APPLY[edit.name](edit, scene, layout, other, examples)
    next_number = max(scene.next_number, 1 + max(numbers))
    return frames, EditedScene(frames[-1], numbers, next_number)


def _move(edit, scene, layout, other, examples):
    options = edit.options
    slot = scene.find(edit.require("slot"), edit)
    is_place = "row" in options or "column" in options
    is_shift = "rows" in options or "columns" in options
    if is_place == is_shift:
        raise UserError(
            "`--edit=move` must have rows= and columns= (a shift in pixels) or row= and column= "
            f"(a place). Received: {edit.text}."
        )

    if is_place:
        row = options.get("row")
        column = options.get("column")
        slots = editing.place(scene.slots, layout, slot, row, column)
    else:
        rows = options.get("rows", 0.0)
        columns = options.get("columns", 0.0)
        slots = editing.move(scene.slots, layout, slot, rows, columns)
    return slots[None], scene.numbers


def _depth(edit, scene, layout, other, examples):
    if "order" in edit.options:
        edit.check_exclusive("order", "slot", "to")
        order = _find_all(edit, scene, "order")
        slots = editing.reorder(scene.slots, layout, order)
        return slots[None], scene.numbers

    slot = scene.find(edit.require("slot"), edit)
    place = edit.require("to")
    functions = {"front": editing.to_front, "back": editing.to_back}
    if place not in functions:
        raise unknown_name("place in depth (to=)", place, functions)
    slots = functions[place](scene.slots, layout, slot)
    return slots[None], scene.numbers


def _swap(edit, scene, layout, other, examples):
    part = edit.options.get("part")
    if "slots" in edit.options:
        edit.check_exclusive("slots", "slot", "other")
        first, second = _find_pair(edit, scene)
        slots = editing.swap(scene.slots, layout, first, second, part or "position")
        return slots[None], scene.numbers

    # `other` is None without a second scene, which an edit without the option may lack.
    slot = scene.find(edit.require("slot", "slots"), edit)
    number = edit.require("other")
    other_slot = other.find(number, edit, "other")
    slots, _ = editing.swap_between(scene.slots, other.slots, layout, slot, other_slot, part)
    return slots[None], scene.numbers


def _remove(edit, scene, layout, other, examples):
    if "slots" in edit.options:
        edit.check_exclusive("slots", "slot")
        removed = _find_all(edit, scene, "slots")
    else:
        removed = [scene.find(edit.require("slot"), edit)]

    slots = editing.remove(scene.slots, layout, *removed)
    numbers = tuple(number for k, number in enumerate(scene.numbers) if k not in removed)
    return slots[None], numbers


def _insert(edit, scene, layout, other, examples):
    row = edit.options.get("row")
    column = edit.options.get("column")
    number = edit.require("other")
    source = other.find(number, edit, "other")
    layout.check_objects("insert", other.slots, source)
    inserted = other.slots[source]
    if row is not None or column is not None:
        # By itself the object is slot 0 of 1, which would be the background in some layouts.
        without_background = dataclasses.replace(layout, background=None)
        inserted = editing.place(inserted[None], without_background, 0, row, column)[0]

    slots = editing.insert(scene.slots, layout, inserted)
    return slots[None], _numbers_with_one_more(scene, layout)


def _duplicate(edit, scene, layout, other, examples):
    slot = scene.find(edit.require("slot"), edit)
    rows = edit.options.get("rows", 0.0)
    columns = edit.options.get("columns", 0.0)
    slots = editing.duplicate(scene.slots, layout, slot, rows, columns)
    return slots[None], _numbers_with_one_more(scene, layout)


def _set(edit, scene, layout, other, examples):
    part = edit.options.get("part")
    slot = scene.find(edit.require("slot"), edit)
    latent = _find_latent(edit, layout, part)
    value = edit.require("value")
    slots = editing.set_latent(scene.slots, layout, slot, latent, value, part)
    return slots[None], scene.numbers


def _traverse(edit, scene, layout, other, examples):
    part = edit.options.get("part")
    slot = scene.find(edit.require("slot"), edit)
    latent = _find_latent(edit, layout, part)
    num = edit.options.get("num", NUM_FRAMES)
    if num < 1:
        raise edit.mistake("num", "at least 1", num)

    # Edits may have removed or added slots, whereas examples have all slots of the model: only
    # whether the slot is the background counts.
    if slot == layout.background_slot(len(scene.slots)):
        example_slot = layout.background_slot(examples.shape[1])
    else:
        example_slot = layout.objects(examples.shape[1])[0]
    low, high = editing.usual_range(examples, layout, example_slot, latent, part)

    values = np.linspace(edit.options.get("from", low), edit.options.get("to", high), num)
    return editing.traverse(scene.slots, layout, slot, latent, values, part), scene.numbers


def _interpolate(edit, scene, layout, other, examples):
    part = edit.options.get("part")
    num = edit.options.get("num", NUM_FRAMES)
    if num < 2:
        raise edit.mistake("num", "at least 2", num)

    if "slots" in edit.options:
        first, second = _find_pair(edit, scene)
        frames = editing.interpolate_objects(scene.slots, layout, first, second, part, num)
    else:
        frames = editing.interpolate(scene.slots, other.slots, layout, part, num)
    return frames, scene.numbers


_APPLY = {
    "move": _move,
    "depth": _depth,
    "swap": _swap,
    "remove": _remove,
    "insert": _insert,
    "duplicate": _duplicate,
    "set": _set,
    "traverse": _traverse,
    "interpolate": _interpolate,
}


def _find_all(edit, scene, key):
    """Returns the indices of the slots in an option like slots=1+3."""
    numbers = edit.options[key]
    if len(set(numbers)) != len(numbers):
        raise edit.mistake(key, "different slots", "+".join(map(str, numbers)))
    return [scene.find(number, edit, key) for number in numbers]


def _find_pair(edit, scene):
    """Returns the indices of the two slots of an option like slots=1+2."""
    found = _find_all(edit, scene, "slots")
    if len(found) != 2:
        received = "+".join(map(str, edit.options["slots"]))
        raise edit.mistake("slots", "two slots, as in slots=1+2", received)
    return found


def _find_latent(edit, layout, part):
    """Returns the index of the option `latent`, which users count from 1 within a part."""
    start, stop = layout.latents(edit.name, part)
    latent = edit.require("latent")
    if not 1 <= latent <= stop - start:
        raise edit.mistake("latent", f"in 1 ... {stop - start}", latent)
    return latent - 1


def _numbers_with_one_more(scene, layout):
    """Returns the numbers after `editing.insert`, which keeps a background that is last there."""
    at = len(scene.numbers)
    if layout.background == -1:
        at -= 1
    return (*scene.numbers[:at], scene.next_number, *scene.numbers[at:])
