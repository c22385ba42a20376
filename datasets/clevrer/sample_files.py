"""Writes small files in CLEVRER's published layout, for tests of their readers.

These are annotations, proposed masks, videos and ZIP files.
"""

import functools
import json
import pathlib
import tempfile
import zipfile

import numpy as np

from tfobj.datasets import video_files

THREE = (("red", "metal", "cube"), ("blue", "rubber", "sphere"), ("yellow", "rubber", "cylinder"))
"""Colour, material and shape of three objects."""

SIX = (*THREE, ("gray", "metal", "sphere"), ("green", "metal", "cube"), ("cyan", "rubber", "cube"))


def annotation(objects=THREE, in_view=None, collisions=((20, 0, 2),), num_frames=128):
    """Returns an annotation as JSON content; object m has id 10 + m and lies at (m, frame, 0.2).

    Args:
      objects: tuple of (colour, material, shape).
      in_view: bool [T, M]; None keeps all objects in view.
      collisions: tuple of (frame, i, j).
      num_frames: T.
    """
    ids = [10 + number for number in range(len(objects))]
    if in_view is None:
        in_view = np.ones((num_frames, len(objects)), bool)

    def state(number, frame):
        return {
            "object_id": ids[number],
            "location": [float(number), float(frame), 0.2],
            "orientation": [0.0, 0.0, 0.1 * frame],
            "velocity": [0.0, 25.6, 0.0],
            "angular_velocity": [0.0, 0.0, 2.56],
            "inside_camera_view": bool(in_view[frame, number]),
        }

    frames = [
        {"frame_id": frame, "objects": [state(number, frame) for number in range(len(ids))]}
        for frame in range(num_frames)
    ]
    return {
        "scene_index": 0,
        "video_filename": "video_00000.mp4",
        "motion_trajectory": frames,
        "object_property": [
            {"object_id": key, "color": color, "material": material, "shape": shape}
            for key, (color, material, shape) in zip(ids, objects, strict=True)
        ],
        "collision": [
            {"object_ids": [ids[i], ids[j]], "frame_id": frame, "location": [0, 0, 0]}
            for frame, i, j in collisions
        ],
    }


def squares(objects=THREE, frame=0):
    """Returns masks [M, 320, 480] of squares of 60 pixels, side by side.

    They move by one column every eight frames.
    """
    masks = np.zeros((len(objects), 320, 480), bool)
    for number in range(len(objects)):
        left = 90 + 64 * number + frame // 8
        masks[number, 120:180, left : left + 60] = True
    return masks


def proposal(mask, kind, score=0.9):
    """Returns one proposed mask as JSON content."""
    color, material, shape = kind
    return {
        "mask": {"size": list(mask.shape), "counts": encode(mask)},
        "color": color,
        "material": material,
        "shape": shape,
        "score": score,
    }


@functools.cache
def proposals(objects=THREE, num_frames=128):
    """Returns the proposed masks of a video as JSON content, correct in every pixel."""
    frames = []
    for frame in range(num_frames):
        masks = squares(objects, frame)
        proposed = [proposal(mask, kind) for mask, kind in zip(masks, objects, strict=True)]
        frames.append({"frame_index": frame, "objects": proposed})
    return {"video_index": 0, "frames": frames}


def encode(mask):
    """Returns the compressed run lengths of a mask, the inverse of `rle.decode`."""
    flat = np.concatenate([[False], mask.T.ravel()])
    changes = np.flatnonzero(np.diff(flat.astype(int)))
    runs = np.diff(np.concatenate([[0], changes, [mask.size]])).tolist()

    text = ""
    for place, run in enumerate(runs):
        # From the fourth run on, the difference to the run two places before.
        before = runs[place - 2] if place > 2 else 0
        text += _characters(run - before)
    return text


def _characters(value):
    """Returns the characters of a number, five bits each, the lowest first."""
    text = ""
    more = True
    while more:
        bits = value & 31
        value >>= 5

        # Done when the rest only repeats the sign.
        rest = -1 if bits & 16 else 0
        more = value != rest
        text += chr(48 + bits + 32 * more)
    return text


@functools.cache
def video(num_frames=128, height=320, width=480):
    """Returns the bytes of a video whose frame t has gray level 50 + t, with a white square."""
    gray = 50 + np.arange(num_frames, dtype=np.uint8)
    shape = (num_frames, height, width, 3)
    frames = np.broadcast_to(gray[:, None, None, None], shape).copy()
    frames[:, 120:180, 200:260] = 250

    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "video.mp4"
        video_files.write_video(path, frames, 25.6)
        return path.read_bytes()


def write_zip(path, members):
    """Writes a ZIP file.

    Args:
      path: path of the file.
      members: dict from name to bytes, text, or JSON content.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            if not isinstance(content, bytes | str):
                content = json.dumps(content)
            archive.writestr(name, content)


def write_split(folder, split, clips):
    """Writes `video_<split>.zip` and `annotation_<split>.zip`.

    Args:
      folder: folder for both files.
      split: "train" or "validation".
      clips: dict from number to (annotation, bytes of the video).
    """
    texts = {}
    videos = {}
    for number, (text, content) in clips.items():
        first = 1000 * (number // 1000)
        group = f"{first:05d}-{first + 1000:05d}"
        texts[f"annotation_{group}/annotation_{number:05d}.json"] = text
        videos[f"video_{group}/video_{number:05d}.mp4"] = content

    write_zip(folder / f"annotation_{split}.zip", texts)
    write_zip(folder / f"video_{split}.zip", videos)


def write_proposals(folder, clips):
    """Writes `derender_proposals.zip` of a dict from number to proposals."""
    members = {f"proposal_{number:05d}.json": content for number, content in clips.items()}
    write_zip(folder / "derender_proposals.zip", members)
