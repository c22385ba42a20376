"""Starts Blender on the scenes of `clevr_scenes` and brings pictures, masks and depth back.

What is in a scene, and whether all of it is to be seen, is decided by `clevr_scenes` (and its ray caster), so a scene
number means the same scene for both renderers. Masks and depth are those of the meshes that Blender draws.
"""

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

from tfobj.datasets.generators import clevr_scenes, raycast_shading, raycast_shapes
from tfobj.errors import UserError, first_line

VARIABLE = "TFOBJ_BLENDER_PYTHON"
"""Environment variable: the Python that has `bpy`; default is the one that runs."""

DEFAULT_SAMPLES = 32
"""Per pixel, and denoised: clean at 128 pixels, where the published pictures took 512 without denoising."""

_WORKER = pathlib.Path(__file__).with_name("worker.py")
_NO_BLENDER = 3
_SENSOR_WIDTH = 32.0


def scenes(indices, seed=0, variant="clevr6", size=None, samples=DEFAULT_SAMPLES):
    """Draws scenes with Blender; arguments and result of `clevr_scenes.scenes`, and `samples` per pixel.

    Denoised pictures may differ by one gray level from run to run.

    Raises:
      UserError: one line, if there is no Blender or it fails.
    """
    variant = clevr_scenes.get_variant(variant)
    size = variant.default_size if size is None else size
    factors = clevr_scenes.factors(indices, seed, variant)
    job = {"samples": samples, "size": size, **_view(variant.frame), "metal": _lobes(variant)}
    with _rendered({**job, "scenes": list(_scenes(variant, factors, indices))}) as folder:
        return {**_read(folder, variant, len(indices), size), **factors}


def version():
    """Returns the version of Blender that `scenes` uses; raises the same errors, and rightly before hours of work."""
    with _rendered({"scenes": []}) as folder:
        return (folder / "version.txt").read_text()


@contextlib.contextmanager
def _rendered(job):
    """Gives a job to the worker; the context is the folder of what it made."""
    with tempfile.TemporaryDirectory(prefix="blender_scenes_") as folder:
        scenes_path = pathlib.Path(folder) / "scenes.json"
        scenes_path.write_text(json.dumps(job))
        _run(
            [
                os.environ.get(VARIABLE) or sys.executable,
                os.fspath(_WORKER),
                os.fspath(scenes_path),
                folder,
            ]
        )
        yield pathlib.Path(folder)


def _view(frame):
    """Returns the camera's sensor for the window that is kept of its picture."""
    (top, bottom), (left, right) = frame.rows, frame.columns
    width = right - left
    if bottom - top != width:
        raise ValueError(
            f"`frame` must keep a square. Received: rows={frame.rows}, columns={frame.columns}."
        )
    shift = (
        ((left + right) - frame.width) / 2 / width,
        (frame.height - (top + bottom)) / 2 / width,
    )
    return {"sensor_width": _SENSOR_WIDTH * width / max(frame.width, frame.height), "shift": shift}


def _lobes(variant):
    """Weights and roughness of metal; roughness is the root of the width in today's Blender."""
    return [(weight, width**0.5) for weight, width in variant.metal_lobes]


def _scenes(variant, factors, indices):
    """Yields the worker's description of each scene."""
    for row, index in enumerate(indices):
        of = {name: values[row].tolist() for name, values in factors.items()}
        yield {
            "seed": int(index) % 2**31,
            "camera": of["camera"],
            "lights": of["lights"],
            "ground": of["ground_reflectivity"],
            "objects": [
                {
                    "shape": raycast_shapes.SHAPE_NAMES[int(of["shape"][i]) - 1],
                    "material": raycast_shading.MATERIAL_NAMES[int(of["material"][i]) - 1],
                    "radius": variant.sizes[int(of["size"][i]) - 1],
                    "color": of["rgb"][i],
                    "location": [of["x"][i], of["y"][i], of["z"][i]],
                    "azimuth": of["rotation"][i],
                }
                for i in range(1, len(of["shape"]))
                if of["shape"][i]
            ],
        }


def _run(command):
    """Runs the worker; its complaints become a `UserError`."""
    # The program's own path would hide the packages of another environment.
    environment = {
        name: value
        for name, value in os.environ.items()
        if name != "PYTHONPATH" or not os.environ.get(VARIABLE)
    }
    try:
        result = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment
        )
    except OSError as error:
        raise UserError(
            f"`{VARIABLE}` must be the Python of an environment with `bpy`. Received: {command[0]} ({first_line(error)})."
        ) from error
    if result.returncode == _NO_BLENDER:
        raise UserError(
            f"This config needs Blender as a Python module, and {command[0]} has none ({first_line(result.stderr)}). With Python "
            f"3.11: pip install tfobj[blender]; or pip install bpy==4.5.* elsewhere, and name that Python in `{VARIABLE}`. "
            "The configs raycast_... need no Blender."
        )
    if result.returncode != 0:
        last = (result.stderr.strip() or "no message").splitlines()[-1]
        raise UserError(f"Blender ({command[0]}) ended with status {result.returncode}: {last}")


def _read(folder, variant, count, size):
    """Returns what the worker wrote."""
    from PIL import Image

    image = np.zeros((count, size, size, 3), np.uint8)
    mask = np.zeros((count, size, size), np.uint8)
    amodal_masks = np.zeros((count, variant.num_entities, size, size), np.uint8)
    depth_map = np.zeros((count, size, size), np.float16)
    amodal_masks[:, 0] = 1
    for i in range(count):
        with Image.open(folder / f"{i}.png") as picture:
            image[i] = np.asarray(picture)
        with np.load(folder / f"{i}.npz") as arrays:
            mask[i] = arrays["mask"]
            amodal_masks[i, 1 : 1 + len(arrays["amodal_masks"])] = arrays["amodal_masks"]
            depth_map[i] = arrays["depth_map"]
    image = image if variant.channels == 3 else clevr_scenes.luma(image)
    return {"image": image, "mask": mask, "amodal_masks": amodal_masks, "depth_map": depth_map}
