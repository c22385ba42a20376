"""Small files in CLEVRER's published form, for tests of what reads it: annotations, proposed masks, videos, ZIP files."""

import functools
import json
import pathlib
import tempfile
import zipfile

import numpy as np

from tfobj.datasets import video_files

THREE = (("red", "metal", "cube"), ("blue", "rubber", "sphere"), ("yellow", "rubber", "cylinder"))
SIX = (*THREE, ("gray", "metal", "sphere"), ("green", "metal", "cube"), ("cyan", "rubber", "cube"))


def annotation(objects=THREE, in_view=None, collisions=((20, 0, 2),), num_frames=128):
    """An annotation of objects (colour, material, shape), whose ids are 10, 11 ...; object m is at (m, frame, 0.2)."""
    ids = [10 + number for number in range(len(objects))]
    in_view = np.ones((num_frames, len(objects)), bool) if in_view is None else in_view
    frames = [
        {
            "frame_id": frame,
            "objects": [
                {
                    "object_id": key,
                    "location": [float(number), float(frame), 0.2],
                    "orientation": [0.0, 0.0, 0.1 * frame],
                    "velocity": [0.0, 25.6, 0.0],
                    "angular_velocity": [0.0, 0.0, 2.56],
                    "inside_camera_view": bool(in_view[frame, number]),
                }
                for number, key in enumerate(ids)
            ],
        }
        for frame in range(num_frames)
    ]
    return {
        "scene_index": 0,
        "video_filename": "video_00000.mp4",
        "motion_trajectory": frames,
        "object_property": [
            dict(object_id=key, color=c, material=m, shape=s)
            for key, (c, m, s) in zip(ids, objects, strict=True)
        ],
        "collision": [
            {"object_ids": [ids[i], ids[j]], "frame_id": frame, "location": [0, 0, 0]}
            for frame, i, j in collisions
        ],
    }


def squares(objects=THREE, frame=0):
    """Masks [M, 320, 480] of squares of 60 pixels, one beside the other, that move by one column per frame."""
    masks = np.zeros((len(objects), 320, 480), bool)
    for number in range(len(objects)):
        masks[number, 120:180, 90 + 64 * number + frame // 8 : 150 + 64 * number + frame // 8] = (
            True
        )
    return masks


def proposal(mask, kind, score=0.9):
    """One proposed mask."""
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
    """Proposed masks of a video, right in every pixel."""
    frames = [
        {
            "frame_index": frame,
            "objects": [
                proposal(mask, kind)
                for mask, kind in zip(squares(objects, frame), objects, strict=True)
            ],
        }
        for frame in range(num_frames)
    ]
    return {"video_index": 0, "frames": frames}


def encode(mask):
    """Compressed run lengths of a mask."""
    flat = np.concatenate([[False], mask.T.ravel()])
    changes = np.flatnonzero(np.diff(flat.astype(int)))
    runs = np.diff(np.concatenate([[0], changes, [mask.size]])).tolist()
    text = ""
    for place, run in enumerate(runs):
        value = run - (runs[place - 2] if place > 2 else 0)
        while True:
            bits, value = value & 31, value >> 5
            more = value != (-1 if bits & 16 else 0)
            text += chr(48 + bits + 32 * more)
            if not more:
                break
    return text


@functools.cache
def video(num_frames=128, height=320, width=480):
    """Bytes of a video whose frame t has the gray level 50 + t, with a white square."""
    frames = np.broadcast_to(
        (50 + np.arange(num_frames, dtype=np.uint8))[:, None, None, None],
        (num_frames, height, width, 3),
    ).copy()
    frames[:, 120:180, 200:260] = 250
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "video.mp4"
        video_files.write_video(path, frames, 25.6)
        return path.read_bytes()


def write_zip(path, members):
    """Writes a ZIP file of name -> bytes, text, or what JSON takes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(
                name, content if isinstance(content, bytes | str) else json.dumps(content)
            )


def write_split(folder, split, clips):
    """Writes `video_<split>.zip` and `annotation_<split>.zip`.

    Args:
      folder: where.
      split: "train" or "validation".
      clips: number -> (annotation, bytes of the video).
    """
    group = {
        number: f"{1000 * (number // 1000):05d}-{1000 * (number // 1000) + 1000:05d}"
        for number in clips
    }
    write_zip(
        folder / f"annotation_{split}.zip",
        {f"annotation_{group[n]}/annotation_{n:05d}.json": a for n, (a, _) in clips.items()},
    )
    write_zip(
        folder / f"video_{split}.zip",
        {f"video_{group[n]}/video_{n:05d}.mp4": v for n, (_, v) in clips.items()},
    )


def write_proposals(folder, clips):
    """Writes `derender_proposals.zip` of number -> proposals."""
    write_zip(
        folder / "derender_proposals.zip",
        {f"proposal_{number:05d}.json": content for number, content in clips.items()},
    )
