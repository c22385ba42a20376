"""Reads the files that describe a CLEVRER video: its annotation and its proposed masks.

Axes: T = 128 frames, M objects, H x W pixels of the published picture.

Source: Yi et al. 2020, official description. Masks are matched to objects as in the programs that
use them: by attributes, then score, then overlap with the frame before.
"""

import dataclasses

import numpy as np

from tfobj import files
from tfobj.datasets.clevrer import rle
from tfobj.datasets.generators.clevr_variants import COLOR_NAMES
from tfobj.datasets.generators.raycast_shading import MATERIAL_NAMES
from tfobj.datasets.generators.raycast_shapes import SHAPE_NAMES

NUM_FRAMES = 128
PICTURE = (320, 480)
"""Height and width of the published picture."""

MAX_OBJECTS = 6
UNKNOWN = 255
"""Label of pixels whose proposed mask belongs to no annotated object; scores ignore them."""

_KINDS = (("color", COLOR_NAMES), ("material", MATERIAL_NAMES), ("shape", SHAPE_NAMES))
"""Attributes of an object and their values, in the order of their codes from 1 on."""

_VECTORS = {
    "position": "location",
    "velocity": "velocity",
    "orientation": "orientation",
    "angular_velocity": "angular_velocity",
}
"""Track -> name in the annotation."""

_SAME = 0.5
"""Overlap with an object's last mask that makes a mask of other attributes the object's."""

_WRONG_STRUCTURE = (
    KeyError,
    IndexError,
    TypeError,
    ValueError,
    AttributeError,
    OverflowError,
)
"""Errors of reading JSON content that has another structure."""


class Broken(ValueError):
    """A file of one video that does not hold what it should; the message says what, briefly."""


@dataclasses.dataclass(frozen=True)
class Annotation:
    """What happens in a video.

    Attributes:
      factors: dict from name to int [M], codes of `color`, `material` and `shape` as in CLEVR with
        masks.
      tracks: dict from name to float64 [T, M, 3], `position`, `velocity`, `orientation` and
        `angular_velocity` as published.
      in_view: bool [T, M], whether the object is in the camera's view.
      collisions: list of (frame, i, j) of objects i and j, 0 ... M - 1.
    """

    factors: dict
    tracks: dict
    in_view: np.ndarray
    collisions: list

    @property
    def num_objects(self):
        """M."""
        return self.in_view.shape[1]


def parse(text):
    """Reads an annotation.

    Args:
      text: content of `annotation_<number>.json`.

    Returns:
      An `Annotation`; its objects are in the order of their ids.

    Raises:
      Broken: if the annotation has another structure, another number of frames, or not 1 to 6
        objects.
    """
    try:
        annotation = _annotation(files.parse_json(text, "annotation"))
    except Broken:
        raise
    except _WRONG_STRUCTURE as error:
        raise Broken("broken annotation") from error

    if not 1 <= annotation.num_objects <= MAX_OBJECTS:
        raise Broken(f"annotation of {annotation.num_objects} objects")
    return annotation


def _annotation(content):
    """Returns the `Annotation` of an annotation's JSON content."""
    described = sorted(content["object_property"], key=lambda item: item["object_id"])
    number = {item["object_id"]: place for place, item in enumerate(described)}
    factors = {
        kind: np.array([1 + names.index(item[kind]) for item in described])
        for kind, names in _KINDS
    }

    frames = {
        frame["frame_id"]: {item["object_id"]: item for item in frame["objects"]}
        for frame in content["motion_trajectory"]
    }
    if len(frames) != NUM_FRAMES:
        raise Broken(f"annotation of {len(frames)} frames")

    # Frames may be counted from 1, and may be listed in any order, as may objects.
    first = min(frames)
    listed = [[frames[first + frame][key] for key in number] for frame in range(NUM_FRAMES)]

    # `reshape`: without any object, the arrays would lack axes.
    shape = (NUM_FRAMES, len(number))
    tracks = {
        name: np.array([[item[key] for item in row] for row in listed], np.float64).reshape(
            *shape, 3
        )
        for name, key in _VECTORS.items()
    }
    if not all(np.isfinite(values).all() for values in tracks.values()):
        raise Broken("annotation of numbers that are not finite")
    visible = [[item["inside_camera_view"] for item in row] for row in listed]
    in_view = np.array(visible, bool).reshape(shape)

    collisions = []
    for event in content["collision"]:
        one, other = (number[key] for key in event["object_ids"])
        collisions.append((int(event["frame_id"]) - first, one, other))
    return Annotation(factors, tracks, in_view, collisions)


def parse_proposals(text):
    """Reads the proposed masks of a video.

    Args:
      text: content of `proposal_<number>.json`.

    Returns:
      A list of T lists of the frame's proposals: dicts with `mask`, `color`, `material`, `shape`
      and `score`.

    Raises:
      Broken: if the file has another structure, another number of frames, or more than 6 masks in a
        frame.
    """
    try:
        frames = {
            int(frame["frame_index"]): list(frame["objects"])
            for frame in files.parse_json(text, "proposals")["frames"]
        }
    except _WRONG_STRUCTURE as error:
        raise Broken("broken proposals") from error

    if sorted(frames) != list(range(NUM_FRAMES)):
        raise Broken(f"proposals of {len(frames)} frames")
    most = max(map(len, frames.values()))
    if most > MAX_OBJECTS:
        raise Broken(f"proposals of {most} masks in a frame")
    return [frames[frame] for frame in range(NUM_FRAMES)]


def label_maps(proposals, factors):
    """Turns the proposed masks of a video into one label map per frame.

    A mask belongs to the object of its colour, material and shape. If an object has several such
    masks, the one with the highest score counts, and among equal scores the one that overlaps most
    with the object's last mask. A mask that is left over belongs to an object without a mask if it
    covers half of the union with that object's last mask; otherwise its pixels are `UNKNOWN`. Where
    masks overlap, the first one in the file counts.

    Args:
      proposals: list of T lists as `parse_proposals` returns it, or some of its frames in order.
      factors: dict from name to int [M], those of the `Annotation`.

    Returns:
      uint8 [T, H, W]: 0 for the background, 1 + number of the object, or `UNKNOWN`.

    Raises:
      Broken: if a mask does not fit the picture.
    """
    codes = list(zip(*(factors[kind].tolist() for kind, _ in _KINDS), strict=True))
    height, width = PICTURE
    last = {}

    # Column by column, as masks are stored.
    labels = np.zeros((len(proposals), width, height), np.uint8)
    for frame, objects in enumerate(proposals):
        masks, described, scores = _decode(objects)
        owner = _match(masks, described, scores, codes, last)

        # The first mask is painted last: it counts where masks overlap.
        values = {number: 1 + entity for number, entity in owner.items()}
        for number, mask in reversed(list(enumerate(masks))):
            labels[frame][mask.T] = values.get(number, UNKNOWN)
        last |= {entity: masks[number] for number, entity in owner.items()}
    return labels.swapaxes(1, 2)


def _decode(objects):
    """Returns masks, codes of the attributes (0 for unknown ones) and scores of a frame."""
    try:
        masks = [rle.decode(item["mask"]["size"], item["mask"]["counts"]) for item in objects]
        described = [tuple(_code(item[kind], names) for kind, names in _KINDS) for item in objects]
        scores = [float(item.get("score", 0)) for item in objects]
    except _WRONG_STRUCTURE as error:
        raise Broken("broken mask") from error

    if any(mask.shape != PICTURE for mask in masks):
        raise Broken("mask that does not fit the picture")
    return masks, described, scores


def _code(value, names):
    return 1 + names.index(value) if value in names else 0


def _match(masks, described, scores, codes, last):
    """Matches the masks of a frame to objects.

    Args:
      masks: list of bool [H, W].
      described: list of the masks' attributes, tuples of codes.
      scores: list of the masks' scores.
      codes: list of the objects' attributes, tuples of codes.
      last: dict from number of an object to its last mask.

    Returns:
      A dict from number of a mask to number of its object.
    """
    owner = {}
    for entity, code in enumerate(codes):
        candidates = [number for number, kind in enumerate(described) if kind == code]
        rank = {
            number: (scores[number], _overlap(masks[number], last.get(entity)))
            for number in candidates
        }
        if candidates:
            owner[max(candidates, key=rank.get)] = entity

    # The detector may have mistaken an attribute: masks and objects that are left over are matched
    # by place.
    free = [number for number in range(len(masks)) if number not in owner]
    open_entities = [entity for entity in last if entity not in owner.values()]
    overlaps = [
        (_overlap(masks[number], last[entity]), number, entity)
        for number in free
        for entity in open_entities
    ]
    for overlap, number, entity in sorted(overlaps, reverse=True):
        if overlap >= _SAME and number not in owner and entity not in owner.values():
            owner[number] = entity
    return owner


def _overlap(mask, other):
    """Returns the intersection over union of two masks; 0 if there is no other."""
    if other is None:
        return 0.0
    return np.count_nonzero(mask & other) / max(np.count_nonzero(mask | other), 1)
