"""Edits as a user writes them, `move:slot=1,rows=5,columns=-8`: read, and applied to a scene one after the other.

    scene, other = EditedScene.of(slots), EditedScene.of(other_slots)
    for text in ("move:slot=1,rows=5", "remove:slot=2", "interpolate:part=appearance"):
        frames, scene = apply(parse(text), scene, layout, other)     # frames [n, K, D]; n = 1 but for traverse and interpolate

Here slots and latents are counted from 1, as in all figures, and an object keeps its number when others are removed; what is added
takes the next free number. After an edit of several frames the scene is the last of them.
"""

import dataclasses
from typing import NamedTuple

import numpy as np

from tfobj.errors import UserError, unknown_name
from tfobj.serving import editing

FRAMES = 7
"""Pictures of a traversal or an interpolation."""
TOUR = "tour"
TOUR_SHIFT = 0.25
"""How far objects are moved in a tour, of the picture's height and width."""
TOUR_LATENTS = 2


def _whole(text):
    return int(text)


def _numbers(text):
    return [int(number) for number in text.split("+")]


_KINDS = {
    _whole: "a whole number",
    _numbers: "whole numbers joined by +",
    float: "a number",
    str: "a word",
}

_KEYS = {
    "move": {"slot": _whole, "rows": float, "columns": float, "row": float, "column": float},
    "depth": {"slot": _whole, "to": str, "order": _numbers},
    "swap": {"slots": _numbers, "slot": _whole, "other": _whole, "part": str},
    "remove": {"slot": _whole, "slots": _numbers},
    "insert": {"other": _whole, "row": float, "column": float},
    "duplicate": {"slot": _whole, "rows": float, "columns": float},
    "set": {"slot": _whole, "latent": _whole, "value": float, "part": str},
    "traverse": {
        "slot": _whole,
        "latent": _whole,
        "from": float,
        "to": float,
        "num": _whole,
        "part": str,
    },
    "interpolate": {"part": str, "slots": _numbers, "num": _whole},
}
"""Edit -> key -> what reads its value."""

EXAMPLES = {
    "move": "move:slot=1,rows=5,columns=-8",
    "depth": "depth:slot=1,to=front",
    "swap": "swap:slots=1+2,part=position",
    "remove": "remove:slot=1",
    "insert": "insert:other=2",
    "duplicate": "duplicate:slot=1,columns=10",
    "set": "set:slot=1,latent=3,value=1.5",
    "traverse": "traverse:slot=1,latent=3",
    "interpolate": "interpolate:part=appearance",
}


class Edit(NamedTuple):
    """One edit as it was written."""

    name: str
    options: dict
    text: str

    def needs_other(self):
        """Whether it takes objects from a second scene."""
        return "other" in self.options or (
            self.name == "interpolate" and "slots" not in self.options
        )


@dataclasses.dataclass(frozen=True)
class EditedScene:
    """The slots of a scene, and the numbers by which a user knows them."""

    slots: np.ndarray
    """[K, D]."""
    numbers: tuple
    """Of every slot; kept through all edits."""
    next_number: int
    """For a slot that is added."""

    @classmethod
    def of(cls, slots):
        """Numbers slots [K, D] from 1."""
        return cls(np.asarray(slots, np.float32), tuple(range(1, len(slots) + 1)), len(slots) + 1)

    def find(self, number, edit, key="slot"):
        """Returns the index of the slot with a number."""
        if number not in self.numbers:
            gone = " which an earlier edit removed" if 0 < number < self.next_number else ""
            raise _mistake(
                edit,
                key,
                f"one of {', '.join(map(str, self.numbers))}",
                f"{number}{',' if gone else ''}{gone}",
            )
        return self.numbers.index(number)


def parse(text):
    """Reads an edit; returns an `Edit`.

    Raises:
      UserError: names the edit and the key, and says which are valid.
    """
    name, _, rest = text.strip().partition(":")
    if name == TOUR and not rest:
        return Edit(TOUR, {}, TOUR)
    if name not in _KEYS:
        raise unknown_name("edit", name, [*_KEYS, TOUR])
    options = {}
    for item in filter(None, rest.split(",")):
        key, equals, value = (part.strip() for part in item.partition("="))
        if not equals:
            raise UserError(
                f"`--edit={name}` must have options key=value, joined by commas, as in {EXAMPLES[name]}. Received: {item!r}."
            )
        if key not in _KEYS[name]:
            raise unknown_name(f"key of --edit={name}", key, _KEYS[name])
        if key in options:
            raise UserError(f"`{key}` of --edit={name} must be given once. Received: {text!r}.")
        kind = _KEYS[name][key]
        try:
            options[key] = kind(value)
            valid = value and (kind is not float or np.isfinite(options[key]))
        except ValueError:
            valid = False
        if not valid:
            raise UserError(
                f"`{key}` of --edit={name} must be {_KINDS[kind]}. Received: {key}={value}."
            )
    return Edit(name, options, text.strip())


def apply(edit, scene, layout, other=None, examples=None):
    """Applies an edit.

    Args:
      edit: of `parse`, no tour.
      scene: `EditedScene`.
      layout: `slot_layout.SlotLayout` of the model.
      other: a second `EditedScene`, where `edit.needs_other()`.
      examples: slots [B, K, D] of scenes that tell the usual range of a latent; None takes the scene alone.

    Returns:
      (frames, scene): float32 [n, K, D], what is to be shown; the scene after the edit.

    Raises:
      UserError: an option that is missing or out of range, or an edit that the model does not allow.
    """
    if edit.name in ("swap", "remove", "insert", "duplicate"):
        layout.check_several(edit.name)
    if edit.name in ("move", "depth"):
        layout.part(edit.name, "position" if edit.name == "move" else "depth")
    if other is None:
        check_second_scene(edit)
    frames, numbers = _APPLY[edit.name](
        edit, scene, layout, other, scene.slots[None] if examples is None else examples
    )
    after = EditedScene(frames[-1], numbers, max(scene.next_number, 1 + max(numbers)))
    return frames, after


def check_second_scene(edit):
    """Raises a `UserError` for an edit that takes objects from a second scene, where there is none."""
    if edit.needs_other():
        raise UserError(
            f"`--edit={edit.text}` needs a second scene: give --other=NUMBER, or a second picture."
        )


def tour(scene, layout, areas, other=None, examples=None):
    """Returns one of each edit that the model allows, as a list of `Edit`; each is meant for the scene as it is.

    Args:
      scene: `EditedScene` of K slots.
      layout: `slot_layout.SlotLayout`.
      areas: [K] of this and of the other scene, visible pixels of every slot; the largest objects are edited. (Where no slot is known
        to be the background, the largest slot is taken for it.)
      other: a second `EditedScene`, or None.
      examples: as in `apply`; the latents that vary most in them are traversed.
    """
    order = _largest_first(areas[0], layout)
    first, *rest = (scene.numbers[k] for k in order)
    several, texts = layout.num_slots > 1, []
    if "position" in layout.parts:
        # Towards the middle, where there is room.
        height, width = layout.image_size
        row, column = layout.positions(scene.slots)[order[0]]
        shift = (
            round(TOUR_SHIFT * (height if row < height / 2 else -height)),
            round(TOUR_SHIFT * (width if column < width / 2 else -width)),
        )
        texts.append(f"move:slot={first},rows={shift[0]},columns={shift[1]}")
    if several:
        texts.append(f"remove:slot={first}")
        texts.append(
            f"duplicate:slot={first}"
            + (f",rows={shift[0]},columns={shift[1]}" if "position" in layout.parts else "")
        )
    if "depth" in layout.parts:
        texts += [f"depth:slot={first},to=front", f"depth:slot={first},to=back"]
    if len(layout.parts) > 1 and rest:
        texts += [f"swap:slots={first}+{rest[0]},part={part}" for part in layout.parts]
    if several and other is not None:
        partner = other.numbers[_largest_first(areas[1], layout)[0]]
        texts += [f"swap:slot={first},other={partner}", f"insert:other={partner}"]
    examples = scene.slots[None] if examples is None else np.asarray(examples)
    latents = examples[:, layout.objects(examples.shape[1]), slice(*layout.latents("traverse"))]
    texts += [
        f"traverse:slot={first},latent={latent + 1}"
        for latent in np.argsort(-latents.std((0, 1)), kind="stable")[:TOUR_LATENTS]
    ]
    if other is not None:
        parts = [part for part in layout.parts if part != "depth"] if len(layout.parts) > 1 else []
        texts += [*(f"interpolate:part={part}" for part in parts), "interpolate"]
    return [parse(text) for text in texts]


def _largest_first(area, layout):
    """Returns the objects by visible pixels [K]; last comes what is presumably the background, if no slot is known to be it."""
    objects = layout.objects(len(area))
    order = [int(k) for k in np.argsort(-np.asarray(area), kind="stable") if k in objects]
    return [*order[1:], order[0]] if layout.background is None and len(order) > 2 else order


def _move(edit, scene, layout, other, examples):
    options, slot = edit.options, scene.find(_option(edit, "slot"), edit)
    to, by = {"row", "column"} & set(options), {"rows", "columns"} & set(options)
    if bool(to) == bool(by):
        raise UserError(
            f"`--edit=move` must have rows= and columns= (a shift in pixels) or row= and column= (a place). Received: {edit.text}."
        )
    if to:
        slots = editing.place(scene.slots, layout, slot, options.get("row"), options.get("column"))
    else:
        slots = editing.move(
            scene.slots, layout, slot, options.get("rows", 0.0), options.get("columns", 0.0)
        )
    return slots[None], scene.numbers


def _depth(edit, scene, layout, other, examples):
    if "order" in edit.options:
        _alone(edit, "order", "slot", "to")
        return editing.reorder(scene.slots, layout, _find_all(edit, scene, "order"))[
            None
        ], scene.numbers
    slot, to = scene.find(_option(edit, "slot"), edit), _option(edit, "to")
    functions = {"front": editing.to_front, "back": editing.to_back}
    if to not in functions:
        raise unknown_name("place in depth (to=)", to, functions)
    return functions[to](scene.slots, layout, slot)[None], scene.numbers


def _swap(edit, scene, layout, other, examples):
    part = edit.options.get("part")
    if "slots" in edit.options:
        _alone(edit, "slots", "slot", "other")
        first, second = _pair(edit, scene)
        return editing.swap(scene.slots, layout, first, second, part or "position")[
            None
        ], scene.numbers
    slot, number = scene.find(_option(edit, "slot", "slots"), edit), _option(edit, "other")
    slots, _ = editing.swap_between(
        scene.slots, other.slots, layout, slot, other.find(number, edit, "other"), part
    )
    return slots[None], scene.numbers


def _remove(edit, scene, layout, other, examples):
    if "slots" in edit.options:
        _alone(edit, "slots", "slot")
        which = _find_all(edit, scene, "slots")
    else:
        which = [scene.find(_option(edit, "slot"), edit)]
    return editing.remove(scene.slots, layout, *which)[None], tuple(
        n for k, n in enumerate(scene.numbers) if k not in which
    )


def _insert(edit, scene, layout, other, examples):
    source = other.find(_option(edit, "other"), edit, "other")
    layout.check_objects("insert", other.slots, source)
    vector = other.slots[None, source]
    if {"row", "column"} & set(edit.options):
        alone = dataclasses.replace(layout, background=None)
        vector = editing.place(
            vector, alone, 0, edit.options.get("row"), edit.options.get("column")
        )
    return _added(scene, layout, editing.insert(scene.slots, layout, vector[0]))


def _duplicate(edit, scene, layout, other, examples):
    slot = scene.find(_option(edit, "slot"), edit)
    return _added(
        scene,
        layout,
        editing.duplicate(
            scene.slots,
            layout,
            slot,
            edit.options.get("rows", 0.0),
            edit.options.get("columns", 0.0),
        ),
    )


def _set(edit, scene, layout, other, examples):
    slot, part = scene.find(_option(edit, "slot"), edit), edit.options.get("part")
    return editing.set_latent(
        scene.slots, layout, slot, _latent(edit, layout, part), _option(edit, "value"), part
    )[None], scene.numbers


def _traverse(edit, scene, layout, other, examples):
    slot, part = scene.find(_option(edit, "slot"), edit), edit.options.get("part")
    latent, num = _latent(edit, layout, part), edit.options.get("num", FRAMES)
    if num < 1:
        raise _mistake(edit, "num", "at least 1", num)
    # Edits may have removed or added slots, the examples have all of the model's: only what kind of slot it is counts.
    is_background = slot == layout.background_slot(len(scene.slots))
    kind = (
        layout.background_slot(examples.shape[1])
        if is_background
        else layout.objects(examples.shape[1])[0]
    )
    low, high = editing.usual_range(examples, layout, kind, latent, part)
    values = np.linspace(edit.options.get("from", low), edit.options.get("to", high), num)
    return editing.traverse(scene.slots, layout, slot, latent, values, part), scene.numbers


def _interpolate(edit, scene, layout, other, examples):
    part, num = edit.options.get("part"), edit.options.get("num", FRAMES)
    if num < 2:
        raise _mistake(edit, "num", "at least 2", num)
    if "slots" in edit.options:
        first, second = _pair(edit, scene)
        return editing.interpolate_objects(
            scene.slots, layout, first, second, part, num
        ), scene.numbers
    return editing.interpolate(scene.slots, other.slots, layout, part, num), scene.numbers


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


def _option(edit, key, instead=None):
    if key not in edit.options:
        choice = f"`{key}` (or `{instead}`)" if instead else f"`{key}`"
        raise UserError(
            f"{choice} of --edit={edit.name} is missing, as in {EXAMPLES[edit.name]}. Received: {edit.text}."
        )
    return edit.options[key]


def _alone(edit, key, *others):
    both = [other for other in others if other in edit.options]
    if both:
        raise UserError(
            f"`--edit={edit.name}` must have {key}= or {both[0]}=, not both. Received: {edit.text}."
        )


def _find_all(edit, scene, key):
    """Returns the indices of the slots of an option like slots=1+3."""
    if len(set(edit.options[key])) != len(edit.options[key]):
        raise _mistake(edit, key, "different slots", _joined(edit, key))
    return [scene.find(number, edit, key) for number in edit.options[key]]


def _joined(edit, key):
    return "+".join(map(str, edit.options[key]))


def _pair(edit, scene):
    """Returns the indices of the two slots of `slots=1+2`."""
    found = _find_all(edit, scene, "slots")
    if len(found) != 2:
        raise _mistake(edit, "slots", "two slots, as in slots=1+2", _joined(edit, "slots"))
    return found


def _latent(edit, layout, part):
    """Returns the index of a latent, counted from 1 by users."""
    start, stop = layout.latents(edit.name, part)
    latent = _option(edit, "latent")
    if not 1 <= latent <= stop - start:
        raise _mistake(edit, "latent", f"in 1 ... {stop - start}", latent)
    return latent - 1


def _added(scene, layout, slots):
    """Returns the frames and numbers of a scene with one slot more, which stands before a background that is last."""
    at = len(scene.numbers) - (layout.background == -1)
    return slots[None], (*scene.numbers[:at], scene.next_number, *scene.numbers[at:])


def _mistake(edit, key, wanted, received):
    return UserError(f"`{key}` of --edit={edit.name} must be {wanted}. Received: {key}={received}.")
