"""Reads what CLEVRER's files say of a video: its annotation, and its proposed masks.

Axes: T = 128 frames, M objects, H x W pixels of the published picture.

Source: Yi et al. 2020, official description; the matching of masks to objects is that of the programs that use them
(attributes, then score, then overlap with the frame before).
"""

import dataclasses
import json

import numpy as np

from tfobj.datasets.clevrer import rle
from tfobj.datasets.generators.clevr_variants import COLOR_NAMES
from tfobj.datasets.generators.raycast_shading import MATERIAL_NAMES
from tfobj.datasets.generators.raycast_shapes import SHAPE_NAMES

NUM_FRAMES = 128
PICTURE = (320, 480)
"""Height and width of the published picture."""
MAX_OBJECTS = 6
UNKNOWN = 255
"""Label of pixels where a mask was proposed that belongs to no annotated object: ignored by scores."""

_KINDS = (("color", COLOR_NAMES), ("material", MATERIAL_NAMES), ("shape", SHAPE_NAMES))
_VECTORS = {
    "position": "location",
    "velocity": "velocity",
    "orientation": "orientation",
    "angular_velocity": "angular_velocity",
}
# A mask of other attributes is an object's if it overlaps that much with the object's mask in the frame before.
_SAME = 0.5


class Broken(ValueError):
    """A file of one video that does not hold what it should; says what, in a few words."""


@dataclasses.dataclass(frozen=True)
class Annotation:
    """What happens in a video.

    Attributes:
      factors: name -> int [M], codes of `color`, `material` and `shape`; those of CLEVR with masks.
      tracks: name -> float64 [T, M, 3] `position`, `velocity`, `orientation`, `angular_velocity`, as published.
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
      an `Annotation`; objects in the order of their ids.

    Raises:
      Broken: the annotation has another structure, another number of frames, or more than 6 objects.
    """
    try:
        content = json.loads(text)
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
        first = min(frames)
        listed = [[frames[first + frame][key] for key in number] for frame in range(NUM_FRAMES)]
        shape = (NUM_FRAMES, len(number), 3)
        tracks = {
            name: np.array([[item[key] for item in row] for row in listed], np.float64).reshape(
                shape
            )
            for name, key in _VECTORS.items()
        }
        in_view = np.array(
            [[item["inside_camera_view"] for item in row] for row in listed], bool
        ).reshape(shape[:2])
        collisions = [
            (int(event["frame_id"]) - first, *(number[key] for key in event["object_ids"]))
            for event in content["collision"]
        ]
        collisions = [(frame, one, other) for frame, one, other in collisions]
    except Broken:
        raise
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise Broken("broken annotation") from error
    if not 1 <= len(number) <= MAX_OBJECTS:
        raise Broken(f"annotation of {len(number)} objects")
    return Annotation(factors, tracks, in_view, collisions)


def parse_proposals(text):
    """Reads the proposed masks of a video.

    Args:
      text: content of `proposal_<number>.json`.

    Returns:
      list of T lists of the proposals of a frame: dicts with `mask`, `color`, `material`, `shape`, `score`.

    Raises:
      Broken: the file has another structure, another number of frames, or more than 6 masks in a frame.
    """
    try:
        frames = {
            int(frame["frame_index"]): list(frame["objects"])
            for frame in json.loads(text)["frames"]
        }
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise Broken("broken proposals") from error
    if sorted(frames) != list(range(NUM_FRAMES)):
        raise Broken(f"proposals of {len(frames)} frames")
    most = max(map(len, frames.values()))
    if most > MAX_OBJECTS:
        raise Broken(f"proposals of {most} masks in a frame")
    return [frames[frame] for frame in range(NUM_FRAMES)]


def label_maps(proposals, factors):
    """Turns the proposed masks of a video into one label map per frame.

    A mask belongs to the object of its colour, material and shape; of several masks to such an object, that of the
    highest score, and then that which overlaps more with the object's mask in the frame before. A mask that is left
    over belongs to an object without one if it covers half of the union with the object's last mask; else its pixels
    are `UNKNOWN`. Where masks overlap, the first one in the file counts.

    Args:
      proposals: list of T lists as `parse_proposals` gives it, or some frames of it in order.
      factors: name -> int [M] as of `Annotation`.

    Returns:
      uint8 [T, H, W], 0 for the background, 1 + number of the object, or `UNKNOWN`.

    Raises:
      Broken: a mask does not fit the picture.
    """
    codes = list(zip(*(factors[kind].tolist() for kind, _ in _KINDS), strict=True))
    labels = np.zeros(
        (len(proposals), *PICTURE[::-1]), np.uint8
    )  # columns first, as masks are stored
    last = {}
    for frame, objects in enumerate(proposals):
        try:
            masks = [rle.decode(item["mask"]["size"], item["mask"]["counts"]) for item in objects]
            described = [
                tuple(
                    1 + names.index(item[kind]) if item[kind] in names else 0
                    for kind, names in _KINDS
                )
                for item in objects
            ]
            scores = [float(item.get("score", 0)) for item in objects]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Broken("broken mask") from error
        if any(mask.shape != PICTURE for mask in masks):
            raise Broken("mask that does not fit the picture")
        owner = _match(masks, described, scores, codes, last)
        for number, mask in reversed(list(enumerate(masks))):
            labels[frame][mask.T] = 1 + owner[number] if number in owner else UNKNOWN
        last |= {entity: masks[number] for number, entity in owner.items()}
    return labels.swapaxes(1, 2)


def _match(masks, described, scores, codes, last):
    """Returns number of the mask -> number of its object."""
    owner = {}
    for entity, code in enumerate(codes):
        candidates = [number for number, kind in enumerate(described) if kind == code]
        if candidates:
            owner[
                max(
                    candidates,
                    key=lambda number: (scores[number], _overlap(masks[number], last.get(entity))),
                )
            ] = entity
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
    """Intersection over union, 0 with nothing."""
    if other is None:
        return 0.0
    return np.count_nonzero(mask & other) / max(np.count_nonzero(mask | other), 1)
