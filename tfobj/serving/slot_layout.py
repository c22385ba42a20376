"""What the numbers of a slot stand for, and the checks of edits that follow from it.

A model tells its parts in `SceneModel.slot_parts`, an export in its metadata. Positions are (row, column) of an object's centre;
a slot keeps them in [-1, 1], from the centre of the first pixel to that of the last. (`SceneOutputs.positions` may lie half a pixel
from them: the middle of a canvas of even side is between two pixels.) Of two raw depths the smaller one is nearer.
"""

import dataclasses

import numpy as np

from tfobj.errors import UserError, unknown_name

DEPTH_GAP = 1e-3
"""Least distance of two depths after an edit, so that it is plain which of two objects hides the other, whatever a decoder makes of equals."""

SEMANTIC_PARTS = ("appearance", "depth", "position")
"""Parts that edits know by name; all of them in Anciukevicius 2020."""


@dataclasses.dataclass(frozen=True)
class SlotLayout:
    """What the numbers of a model's slots stand for."""

    parts: dict
    """name -> (start, stop) in a slot vector; a model that tells none apart has {"latent": (0, D)}."""
    image_size: tuple
    """(H, W) of the decoded picture."""
    num_slots: int
    """K of the model; with 1 the slot is the scene, and there are no objects to edit."""
    background: int | None = None
    """0 or -1 (the first or the last slot), if that slot is always the background."""
    is_told: bool = True
    """False: an older export, that does not say what its parts are."""

    def __post_init__(self):
        if self.background not in (
            None,
            0,
            -1,
        ):  # another one would change its index when objects go
            raise ValueError(
                f"`background` must be 0, -1 or None. Received: background={self.background!r}."
            )

    def background_slot(self, num_slots):
        """Returns the index of the background among `num_slots` slots, or None."""
        return None if self.background is None else self.background % num_slots

    def objects(self, num_slots):
        """Returns the indices of all slots but the background, ascending."""
        return [k for k in range(num_slots) if k != self.background_slot(num_slots)]

    def possible_edits(self):
        """Returns the names of the edits that the model allows, swap with what can be swapped; see `editing`."""
        names = ["set", "traverse", "interpolate"]
        if self.num_slots > 1:
            names += [
                "remove",
                "insert",
                "duplicate",
                "swap" if len(self.parts) > 1 else "swap between scenes",
            ]
        return [
            *names,
            *(
                name
                for name, part in (("move", "position"), ("depth", "depth"))
                if part in self.parts
            ),
        ]

    def part(self, edit, name):
        """Returns (start, stop) of a part, or raises the `UserError` that says what the model allows instead."""
        if name in self.parts:
            return self.parts[name]
        if name not in SEMANTIC_PARTS:
            raise unknown_name("part of a slot", name, self.parts)
        if not self.is_told:
            raise UserError(
                f"`{edit}` must know where a slot keeps its {name}, which older exports do not say: export the run again. "
                f"This one allows: {words(self.possible_edits())}."
            )
        raise UserError(
            f"`{edit}` must be given a model whose slots have a part {name!r}. Received: slots of {words(self.parts)}. "
            f"This model allows: {words(self.possible_edits())}."
        )

    def latents(self, edit, part=None):
        """Returns (start, stop) that latents are counted in: `part`, by default the appearance, or the whole slot without one."""
        if part is None and "appearance" not in self.parts:
            return 0, max(stop for _, stop in self.parts.values())
        return self.part(edit, "appearance" if part is None else part)

    def check_several(self, edit):
        """Raises a `UserError` for a model with one slot."""
        if self.num_slots == 1:
            raise UserError(
                f"`{edit}` must be given a model with several slots: with one there are no objects to tell apart. "
                f"This model allows: {words(self.possible_edits())}."
            )

    def check_objects(self, edit, slots, *which):
        """Raises a `UserError` unless `which` are indices, all different, of slots [..., K, D] other than the background."""
        for slot in which:
            check_slot(edit, slots, slot)
            if slot == self.background_slot(np.shape(slots)[-2]):
                raise UserError(
                    f"`{edit}` must be given an object. Received: the slot of the background."
                )
        if not which or len(set(which)) != len(which):
            raise UserError(
                f"`{edit}` must be given different slots. Received: {', '.join(map(str, which)) or 'none'}."
            )

    def positions(self, slots):
        """Returns the centres of all slots in pixels, float64 [..., K, 2] (row, column); NaN for the background."""
        raw = np.asarray(slots, np.float64)[..., slice(*self.part("positions", "position"))]
        return self._with_background((raw + 1.0) / 2.0 * (np.array(self.image_size) - 1.0), np.nan)

    def depths(self, slots):
        """Returns the raw depths of all slots, float64 [..., K], smaller is nearer; infinity for the background."""
        raw = np.asarray(slots, np.float64)[..., slice(*self.part("depths", "depth"))]
        return self._with_background(raw, np.inf)[..., 0]

    def with_distinct_depths(self, slots):
        """Pushes objects of slots [..., K, D] at one depth apart, the later ones behind; changes nothing else. In place."""
        objects = self.objects(slots.shape[-2])
        if "depth" not in self.parts or len(objects) < 2:
            return slots
        start = self.parts["depth"][0]
        depth = slots[..., objects, start].astype(np.float64)
        order = np.argsort(depth, axis=-1, kind="stable")
        ranked = np.take_along_axis(depth, order, -1)
        if (np.diff(ranked, axis=-1) < DEPTH_GAP / 2).any():
            np.put_along_axis(depth, order, pushed_apart(ranked), -1)
            slots[..., objects, start] = depth
        return slots

    def _with_background(self, values, fill):
        if self.background is not None:
            values[..., self.background_slot(values.shape[-2]), :] = fill
        return values


def layout_of_model(model):
    """Returns the `SlotLayout` of a `SceneModel`."""
    config = model.config
    return SlotLayout(
        {name: tuple(part) for name, part in model.slot_parts().items()},
        tuple(config.image_size),
        config.num_slots,
        model.background_slot,
    )


def layout_of_metadata(metadata):
    """Returns the `SlotLayout` of an exported model from its `metadata.json`: keys `slot_parts` and `background_slot`.

    An export without them can be edited slot by slot; what asks for parts says that it must be exported again.
    """
    told = "slot_parts" in metadata
    parts = metadata["slot_parts"] if told else {"latent": (0, metadata["slot_size"])}
    return SlotLayout(
        {name: tuple(part) for name, part in parts.items()},
        tuple(metadata["image_size"]),
        metadata["num_slots"],
        metadata.get("background_slot"),
        told,
    )


def check_slot(edit, slots, slot):
    """Raises a `UserError` unless `slot` is the index of one of the slots [..., K, D]."""
    num_slots = np.shape(slots)[-2]
    if (
        isinstance(slot, bool)
        or not isinstance(slot, (int, np.integer))
        or not 0 <= slot < num_slots
    ):
        raise UserError(
            f"`slot` of `{edit}` must be in 0 ... {num_slots - 1}. Received: slot={slot!r}."
        )


def pushed_apart(ranked):
    """Raises values [..., n], ascending, as little as makes neighbours differ by `DEPTH_GAP`."""
    ramp = DEPTH_GAP * np.arange(ranked.shape[-1])
    return np.maximum.accumulate(ranked - ramp, axis=-1) + ramp


def words(names):
    """Returns names as they stand in a sentence."""
    return ", ".join(names)
