"""The meaning of the numbers of a slot, and the checks of edits that follow from it.

A model names its parts in `SceneModel.slot_parts`, an export in its metadata. Positions are (row,
column) of an object's centre; a slot keeps them in [-1, 1], from the centre of the first pixel to
that of the last. (`SceneOutputs.positions` may differ by half a pixel: the middle of a canvas with
even sides is between two pixels.) Of two raw depths the smaller one is nearer.
"""

import dataclasses

import numpy as np

from tfobj.errors import UserError, unknown_name

DEPTH_GAP = 1e-3
"""Least distance between two depths after an edit.

It decides which of two objects covers the other; decoders differ in what they do with equal depths.
"""

SEMANTIC_PARTS = ("appearance", "depth", "position")
"""Parts that edits know by name; all of them in Anciukevicius 2020."""


@dataclasses.dataclass(frozen=True)
class SlotLayout:
    """The meaning of the numbers of a model's slots."""

    parts: dict
    """name -> (start, stop) in a slot vector; {"latent": (0, D)} for a model without parts."""
    image_size: tuple
    """(H, W) of the decoded image."""
    num_slots: int
    """K of the model; if it is 1, the slot is the scene, and there are no objects to edit."""
    background: int | None = None
    """0 or -1 (the first or the last slot), if that slot is always the background."""
    is_told: bool = True
    """False for an older export, whose metadata do not name its parts."""

    def __post_init__(self):
        # Anywhere else, its index would change when objects are removed.
        if self.background not in (None, 0, -1):
            raise ValueError(
                f"`background` must be 0, -1 or None. Received: background={self.background!r}."
            )

    def background_slot(self, num_slots):
        """Returns the index of the background among `num_slots` slots, or None."""
        if self.background is None:
            return None
        return self.background % num_slots

    def objects(self, num_slots):
        """Returns the indices of all slots but the background, ascending."""
        return [k for k in range(num_slots) if k != self.background_slot(num_slots)]

    def possible_edits(self):
        """Returns the names of the edits that the model allows; see `editing`."""
        names = ["set", "traverse", "interpolate"]
        if self.num_slots > 1:
            names += ["remove", "insert", "duplicate"]
            # Whole slots swapped within one scene are the same scene.
            names.append("swap" if len(self.parts) > 1 else "swap between scenes")
        if "position" in self.parts:
            names.append("move")
        if "depth" in self.parts:
            names.append("depth")
        return names

    def part(self, edit, name):
        """Returns (start, stop) of a part.

        Raises:
          UserError: the model has no such part; says which edits it allows instead.
        """
        if name in self.parts:
            return self.parts[name]
        if name not in SEMANTIC_PARTS:
            raise unknown_name("part of a slot", name, self.parts)

        allowed = words(self.possible_edits())
        if not self.is_told:
            raise UserError(
                f"`{edit}` must know where a slot keeps its {name}, which older exports do not "
                f"say: export the run again. This one allows: {allowed}."
            )
        raise UserError(
            f"`{edit}` must be given a model whose slots have a part {name!r}. "
            f"Received: slots of {words(self.parts)}. This model allows: {allowed}."
        )

    def latents(self, edit, part=None):
        """Returns (start, stop) of the latents that an edit counts from 0.

        They are those of `part`; None is the appearance, or the whole slot in a model without it.
        """
        if part is not None:
            return self.part(edit, part)
        if "appearance" in self.parts:
            return self.part(edit, "appearance")
        return 0, max(stop for _, stop in self.parts.values())

    def check_several(self, edit):
        """Raises a `UserError` for a model with one slot."""
        if self.num_slots == 1:
            raise UserError(
                f"`{edit}` must be given a model with several slots: with one there are no "
                "objects to tell apart. "
                f"This model allows: {words(self.possible_edits())}."
            )

    def check_objects(self, edit, slots, *which):
        """Raises a `UserError` unless `which` are the indices of different objects.

        Args:
          edit: name of the edit, for the message.
          slots: [..., K, D].
          *which: indices; at least one, without the background.
        """
        background = self.background_slot(np.shape(slots)[-2])
        for slot in which:
            check_slot(edit, slots, slot)
            if slot == background:
                raise UserError(
                    f"`{edit}` must be given an object. Received: the slot of the background."
                )

        if not which or len(set(which)) != len(which):
            received = words(map(str, which)) or "none"
            raise UserError(f"`{edit}` must be given different slots. Received: {received}.")

    def positions(self, slots):
        """Returns the centres of all slots in pixels, float64 [..., K, 2] as (row, column).

        Those of the background are NaN.
        """
        raw = np.asarray(slots, np.float64)[..., slice(*self.part("positions", "position"))]
        pixels = (raw + 1.0) / 2.0 * (np.array(self.image_size) - 1.0)
        return self._with_background(pixels, np.nan)

    def depths(self, slots):
        """Returns the raw depths of all slots, float64 [..., K]; smaller is nearer.

        That of the background is infinite.
        """
        raw = np.asarray(slots, np.float64)[..., slice(*self.part("depths", "depth"))]
        return self._with_background(raw, np.inf)[..., 0]

    def with_distinct_depths(self, slots):
        """Pushes objects with equal depths apart, later slots behind earlier ones.

        Args:
          slots: [..., K, D]; changed in place, and nowhere else than in these depths.

        Returns:
          `slots`.
        """
        objects = self.objects(slots.shape[-2])
        if "depth" not in self.parts or len(objects) < 2:
            return slots

        start, _ = self.parts["depth"]
        depth = slots[..., objects, start].astype(np.float64)
        order = np.argsort(depth, axis=-1, kind="stable")
        ranked = np.take_along_axis(depth, order, -1)

        # Half the gap, since float32 may have rounded a gap of an earlier edit down.
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
    """Returns the `SlotLayout` of an exported model from its `metadata.json`.

    An export without the keys `slot_parts` and `background_slot` allows edits of whole slots; edits
    of parts raise an error that asks for a new export.
    """
    is_told = "slot_parts" in metadata
    parts = {"latent": (0, metadata["slot_size"])}
    if is_told:
        parts = metadata["slot_parts"]
    return SlotLayout(
        {name: tuple(part) for name, part in parts.items()},
        tuple(metadata["image_size"]),
        metadata["num_slots"],
        metadata.get("background_slot"),
        is_told,
    )


def check_slot(edit, slots, slot):
    """Raises a `UserError` unless `slot` is the index of one of the slots [..., K, D]."""
    num_slots = np.shape(slots)[-2]
    is_integer = isinstance(slot, (int, np.integer)) and not isinstance(slot, bool)
    if not is_integer or not 0 <= slot < num_slots:
        raise UserError(
            f"`slot` of `{edit}` must be in 0 ... {num_slots - 1}. Received: slot={slot!r}."
        )


def pushed_apart(ranked):
    """Raises ascending values [..., n] by the least amount that separates them by `DEPTH_GAP`."""
    # Minus the ramp, values that are far enough apart still ascend; the maximum lifts the others.
    ramp = DEPTH_GAP * np.arange(ranked.shape[-1])
    return np.maximum.accumulate(ranked - ramp, axis=-1) + ramp


def words(names):
    """Returns names joined by commas, for a sentence."""
    return ", ".join(names)
